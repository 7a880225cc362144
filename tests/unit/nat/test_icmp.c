/* SPDX-License-Identifier: BSD-3-Clause */
/* ICMP errors about segments whose numbers were moved; the rest is in
 * datapath/test_icmp_error.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "nat_icmp.h"
#include "packets.h"

static const struct net_mac own = {{2, 0, 0, 0, 0, 1}}, peer = {{2, 0, 0, 0, 0, 2}};

enum { IP = PACKETS_IP_OFFSET, TCP_HEADER = 20 + 20 };

#define SEQ 0xfffffff0u // of the client
#define OFFSET 0x12345678u
#define TS 0xffffff00u
#define TS_OFFSET 0xabcdef01u
#define ACK 77777
#define ECHO_TS 4711

union record {
	struct flow4 ip4;
	struct flow6 ip6;
};

static struct net_addr addr_of(sa_family_t family, enum flow_address which)
{
	struct net_addr addr = packets_addr(family == AF_INET6 ? "2001:db8::10" : "192.0.2.10");

	addr.v6[family == AF_INET6 ? 15 : 3] += which;
	return addr;
}

static struct flow *make_flow(sa_family_t family, union record *record)
{
	struct flow *flow = family == AF_INET6 ? &record->ip6.flow : &record->ip4.flow;

	memset(record, 0, sizeof(*record));
	for (unsigned which = 0; which < FLOW_ADDRESSES; which++) {
		struct net_addr addr = addr_of(family, which);
		memcpy(flow_addr(flow, family, which), addr.v6, net_addr_size(family));
		flow->port[which] = htons(1000 + which);
	}
	flow->flags = FLOW_TRANSLATED;
	flow->seq_offset = OFFSET;
	flow->ts_offset = TS_OFFSET;
	return flow;
}

static void put32(uint8_t *at, uint32_t value)
{
	value = htonl(value);
	memcpy(at, &value, sizeof(value));
}

/* The client's numbers in a segment, and its timestamp. */
struct numbers {
	uint32_t seq, ts;
};

/* A segment between two of the flow's ends, as an IP packet: the client's own if it comes from it,
 * else one that acknowledges it, by a SACK block, too. */
static unsigned build(sa_family_t family, enum flow_address src, enum flow_address dst,
	struct numbers of_client, uint8_t *ip)
{
	bool from_client = src == FLOW_CLIENT || src == FLOW_SNAT;
	uint8_t frame[PACKETS_SIZE_MAX], options[20] = {8, 10, [10] = 5, [11] = 10};
	struct segment segment = {
		.src = addr_of(family, src),
		.dst = addr_of(family, dst),
		.sport = 1000 + src,
		.dport = 1000 + dst,
		.seq = from_client ? of_client.seq : ACK,
		.ack = from_client ? ACK : of_client.seq,
		.flags = TCP_ACK,
		.ttl = 60,
		.options = options,
		.options_size = sizeof(options),
		.payload = "payload",
		.payload_size = 7,
	};

	put32(options + 2, from_client ? of_client.ts : ECHO_TS);
	put32(options + 6, from_client ? ECHO_TS : of_client.ts);
	put32(options + 12, from_client ? ACK + 100 : of_client.seq + 100);
	put32(options + 16, from_client ? ACK + 200 : of_client.seq + 200);
	unsigned size = packets_build(&segment, frame);
	memcpy(ip, frame + IP, size - IP);
	return size - IP;
}

/* How much of a quote that is cut there is as it was sent. What a cut header can't show is let be:
 * whether it acknowledges, the options, and the checksum that covers them. */
static unsigned whole_up_to(unsigned cut, unsigned tcp, bool acknowledges)
{
	if (cut >= tcp + TCP_HEADER)
		return cut;
	if (acknowledges && cut < tcp + 14)
		return tcp + 8;
	return cut < tcp + 16 ? cut : tcp + 16;
}

/* The quote shows the receiver its own numbers: the client's were moved up on the way to the
 * backend, and what the backend repeats of them was moved down on the way to the client. */
static void moved_numbers_are_moved_back(void **state) // B16
{
	static const struct numbers of_client = {SEQ, TS}, moved = {SEQ + OFFSET, TS + TS_OFFSET};

	for (unsigned i = 0; i < 4; i++) {
		sa_family_t family = i & 1 ? AF_INET6 : AF_INET;
		enum flow_direction direction = i >> 1;
		bool to_client = direction == FLOW_FROM_BACKEND;
		unsigned tcp = family == AF_INET6 ? 40 : 20, icmp = IP + tcp, size;
		uint8_t sent[PACKETS_SIZE_MAX], seen[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];
		union record record;
		struct flow *flow = make_flow(family, &record);
		if (to_client) {
			size = build(family, FLOW_CLIENT, FLOW_VIP, of_client, sent);
			build(family, FLOW_SNAT, FLOW_BACKEND, moved, seen);
		} else {
			size = build(family, FLOW_BACKEND, FLOW_SNAT, moved, sent);
			build(family, FLOW_VIP, FLOW_CLIENT, of_client, seen);
		}
		for (unsigned cut = tcp + 8; cut <= size; cut++) {
			struct icmp_error error = {
				.from = peer,
				.to = own,
				.type = family == AF_INET6 ? 1 : 3,
				.ttl = 64,
				.src = addr_of(family, to_client ? FLOW_BACKEND : FLOW_CLIENT),
				.dst = addr_of(family, to_client ? FLOW_SNAT : FLOW_VIP),
				.quote = seen,
				.quote_size = cut,
			};
			struct rte_mbuf *mbuf =
				packets_mbuf(frame, packets_build_error(&error, frame));
			struct packet packet;
			packet_parse(&packet, &packet, mbuf, packet_own(&own));
			assert_int_equal(packet.kind, PACKET_ICMP_ERROR);
			nat_icmp_error(&packet, flow, direction);
			uint8_t *out = rte_pktmbuf_mtod(mbuf, uint8_t *);
			assert_true(packets_checksums_right(out, mbuf->data_len, 0));
			assert_memory_equal(
				out + icmp + 8, sent, whole_up_to(cut, tcp, !to_client));
			packets_free(mbuf);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(moved_numbers_are_moved_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
