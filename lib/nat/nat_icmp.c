/* SPDX-License-Identifier: BSD-3-Clause */
#include "nat_icmp.h"

#include "icmp.h"
#include "nat.h"

/* What to add to the numbers of a quoted segment to make them those that its sender wrote. */
struct quote_offsets {
	uint32_t seq;
	uint32_t ack;
};

/*
 * The offset is what the backend sees the client's numbers moved by: it was added to the sequence
 * number of the client's segment, and taken from the acknowledgement of the backend's. The receiver
 * looks for its own number in the quote (RFC 5927, 4.1), and mustn't find the moved one.
 */
static struct quote_offsets quote_offsets(const struct flow *flow, enum flow_direction direction)
{
	if (!(__atomic_load_n(&flow->flags, __ATOMIC_RELAXED) & FLOW_TRANSLATED))
		return (struct quote_offsets){0, 0};
	if (direction == FLOW_FROM_BACKEND) // about a segment of the client's
		return (struct quote_offsets){.seq = -flow->seq_offset};
	return (struct quote_offsets){.ack = flow->seq_offset};
}

/* Add to a number in network byte order; returns the delta. */
static uint32_t add32(void *field, uint32_t offset)
{
	uint32_t from, to;

	memcpy(&from, field, sizeof(from));
	to = rte_cpu_to_be_32(rte_be_to_cpu_32(from) + offset);
	memcpy(field, &to, sizeof(to));
	return checksum_delta32(from, to);
}

/*
 * The quoted TCP header, as much of it as there is. Its checksum is moved by what changed beneath
 * it, and is as right or wrong as it was: whether the quote holds all that it covers can't be known.
 * `addr_delta`: of the quoted addresses. Returns the delta of the bytes changed here.
 */
static uint32_t rewrite_quoted_tcp(const struct packet *packet, struct flow *flow,
	enum flow_direction direction, uint32_t addr_delta)
{
	struct rte_tcp_hdr *tcp = packet->tcp;
	struct quote_offsets offsets = quote_offsets(flow, direction);
	uint32_t ports, delta;

	memcpy(&ports, &flow->port[(1 - direction) * 2], sizeof(ports));
	delta = checksum_delta32(packet->ports, ports);
	memcpy(tcp, &ports, sizeof(ports));
	delta += add32(&tcp->sent_seq, offsets.seq);
	if (packet->payload >= offsetof(struct rte_tcp_hdr, recv_ack) + sizeof(tcp->recv_ack))
		delta += add32(&tcp->recv_ack, offsets.ack);
	if (packet->payload >= offsetof(struct rte_tcp_hdr, cksum) + sizeof(tcp->cksum)) {
		uint16_t from = tcp->cksum;
		tcp->cksum = checksum_apply(from, addr_delta + delta);
		delta += checksum_delta16(from, tcp->cksum);
	}
	return delta;
}

static void apply(const struct packet *packet, size_t checksum_at, uint32_t delta)
{
	uint16_t checksum;

	memcpy(&checksum, packet->icmp + checksum_at, sizeof(checksum));
	checksum = checksum_apply(checksum, delta);
	memcpy(packet->icmp + checksum_at, &checksum, sizeof(checksum));
}

void nat_icmp_error(const struct packet *packet, struct flow *flow, enum flow_direction direction)
{
	const size_t checksum_at = 2; // behind type and code, in both families
	uint8_t *addrs = icmp_quote_addrs(packet);
	uint32_t outside, inside, delta;

	if (packet->family == AF_INET6) {
		const uint8_t(*other)[16] = &flow6_of(flow)->addr[(1 - direction) * 2];
		uint64_t sum = nat_rewrite6(packet->ip6, flow6_of(flow), direction);
		outside = checksum_fold(checksum_fold64(sum)); // in ICMPv6's pseudo header
		inside = checksum_delta128(addrs, other[0]) + checksum_delta128(addrs + 16, other[1]);
		memcpy(addrs, other, 32);
		delta = outside + inside;
	} else {
		struct rte_ipv4_hdr *quote = (struct rte_ipv4_hdr *)icmp_quote(packet);
		uint64_t from, to;
		nat_rewrite4(packet->ip4, flow4_of(flow), direction);
		memcpy(&from, addrs, sizeof(from));
		memcpy(&to, &flow4_of(flow)->addr[(1 - direction) * 2], sizeof(to));
		inside = checksum_delta64(from, to);
		memcpy(addrs, &to, sizeof(to));
		uint16_t old = quote->hdr_checksum;
		quote->hdr_checksum = checksum_apply(old, inside);
		delta = inside + checksum_delta16(old, quote->hdr_checksum);
	}
	delta += rewrite_quoted_tcp(packet, flow, direction, inside);
	apply(packet, checksum_at, delta);
}
