/* SPDX-License-Identifier: BSD-3-Clause */
#include "nat_icmp.h"

#include "icmp.h"
#include "nat.h"
#include "nat_shift.h"

#define TCP_HEADER_MAX 60

/* Whether the quote holds the TCP header up to this field, with it. */
#define QUOTES(packet, field)                                                                      \
	((packet)->payload >=                                                                      \
		offsetof(struct rte_tcp_hdr, field) + sizeof(((struct rte_tcp_hdr *)0)->field))

/* Add to a number in network byte order; returns the delta. */
static uint32_t add32(void *field, uint32_t by)
{
	uint32_t from, to;

	memcpy(&from, field, sizeof(from));
	to = rte_cpu_to_be_32(rte_be_to_cpu_32(from) + by);
	memcpy(field, &to, sizeof(to));
	return checksum_delta32(from, to);
}

/*
 * Undo nat_shift() in a quote: the receiver looks for its own sequence number there (RFC
 * 5927, 4.1), and mustn't find the moved one. Of a header that is cut the options stay as they are,
 * and what they add to its checksum.
 */
static void move_back(
	const struct packet *packet, const struct flow *flow, enum flow_direction sender)
{
	struct rte_tcp_hdr *tcp = packet->tcp;
	struct flow_offsets offsets = flow_offsets(flow), back;

	for (unsigned side = 0; side < FLOW_DIRECTIONS; side++) {
		back.seq[side] = -offsets.seq[side];
		back.ts[side] = -offsets.ts[side];
	}
	if (packet->payload >= sizeof(*tcp) && tcp->data_off >> 4 >= 5 &&
		packet->payload >= (tcp->data_off >> 4) * 4) {
		struct packet quoted = {.tcp = tcp, .flags = tcp->tcp_flags};
		nat_shift(&quoted, sender, &back);
		return;
	}
	uint32_t delta = add32(&tcp->sent_seq, back.seq[sender]);
	if (QUOTES(packet, tcp_flags) && (tcp->tcp_flags & RTE_TCP_ACK_FLAG))
		delta += add32(&tcp->recv_ack, -back.seq[1 - sender]);
	if (QUOTES(packet, cksum))
		tcp->cksum = checksum_apply(tcp->cksum, delta);
}

/*
 * The quoted TCP header, as much of it as there is. Its checksum is moved by what changed beneath
 * it, and is as right or wrong as it was: whether the quote holds all that it covers can't be
 * known. `addr_delta`: of the quoted addresses. Returns the delta of the bytes changed here.
 */
static uint32_t rewrite_quoted_tcp(const struct packet *packet, struct flow *flow,
	enum flow_direction direction, uint32_t addr_delta)
{
	struct rte_tcp_hdr *tcp = packet->tcp;
	unsigned size = RTE_MIN(packet->payload, TCP_HEADER_MAX) & ~1u; // no half of a word changes
	uint16_t before = checksum_fold(checksum_sum(tcp, size, 0));
	uint32_t ports;

	memcpy(&ports, &flow->port[(1 - direction) * 2], sizeof(ports));
	memcpy(tcp, &ports, sizeof(ports));
	if (QUOTES(packet, cksum))
		tcp->cksum = checksum_apply(
			tcp->cksum, addr_delta + checksum_delta32(packet->ports, ports));
	if (flow_has(flow, FLOW_TRANSLATED))
		move_back(packet, flow, 1 - direction);
	return checksum_delta16(before, checksum_fold(checksum_sum(tcp, size, 0)));
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
		// The pseudo header of ICMPv6 has them, too; the sender may be any router.
		outside = checksum_delta128(&packet->ip6->src_addr, other[1]) +
			checksum_delta128(&packet->ip6->dst_addr, other[0]);
		nat_rewrite6(packet->ip6, flow6_of(flow), direction);
		inside = checksum_delta128(addrs, other[0]) +
			checksum_delta128(addrs + 16, other[1]);
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
