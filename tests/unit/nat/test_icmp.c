/* SPDX-License-Identifier: BSD-3-Clause */
/* ICMP errors about segments whose numbers were moved; the rest is in datapath/test_icmp_error.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "nat_icmp.h"
#include "packets.h"

static const struct net_mac own = {{2, 0, 0, 0, 0, 1}}, peer = {{2, 0, 0, 0, 0, 2}};

enum { IP = PACKETS_IP_OFFSET, SEQ = 0xfffffff0u, ACK = 77777, OFFSET = 0x12345678 };

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
	return flow;
}

/* A segment between two of the flow's ends, as an IP packet. */
static unsigned build(sa_family_t family, enum flow_address src, enum flow_address dst, uint32_t seq,
	uint32_t ack, uint8_t *ip)
{
	uint8_t frame[PACKETS_SIZE_MAX];
	struct segment segment = {
		.src = addr_of(family, src), .dst = addr_of(family, dst), .sport = 1000 + src,
		.dport = 1000 + dst, .seq = seq, .ack = ack, .flags = TCP_ACK, .ttl = 60,
		.payload = "payload", .payload_size = 7,
	};
	unsigned size = packets_build(&segment, frame);

	memcpy(ip, frame + IP, size - IP);
	return size - IP;
}

/* The quote shows the receiver its own numbers: the client's were moved up on the way to the
 * backend, and so were the backend's acknowledgements moved down on the way to the client. */
static void moved_numbers_are_moved_back(void **state) // B16
{
	for (unsigned i = 0; i < 4; i++) {
		sa_family_t family = i & 1 ? AF_INET6 : AF_INET;
		enum flow_direction direction = i >> 1;
		bool to_client = direction == FLOW_FROM_BACKEND;
		unsigned tcp = family == AF_INET6 ? 40 : 20, icmp = IP + tcp;
		uint8_t sent[PACKETS_SIZE_MAX], seen[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];
		union record record;
		struct flow *flow = make_flow(family, &record);
		unsigned size = to_client
			? build(family, FLOW_CLIENT, FLOW_VIP, SEQ, ACK, sent)
			: build(family, FLOW_BACKEND, FLOW_SNAT, SEQ, ACK + OFFSET, sent);
		if (to_client)
			build(family, FLOW_SNAT, FLOW_BACKEND, SEQ + OFFSET, ACK, seen);
		else
			build(family, FLOW_VIP, FLOW_CLIENT, SEQ, ACK, seen);
		for (unsigned cut = tcp + 8; cut <= size; cut++) {
			struct icmp_error error = {
				.from = peer, .to = own, .type = family == AF_INET6 ? 1 : 3, .ttl = 64,
				.src = addr_of(family, to_client ? FLOW_BACKEND : FLOW_CLIENT),
				.dst = addr_of(family, to_client ? FLOW_SNAT : FLOW_VIP),
				.quote = seen, .quote_size = cut,
			};
			struct rte_mbuf *mbuf = packets_mbuf(frame, packets_build_error(&error, frame));
			struct packet packet;
			packet_parse(&packet, &packet, mbuf, packet_own(&own));
			assert_int_equal(packet.kind, PACKET_ICMP_ERROR);
			nat_icmp_error(&packet, flow, direction);
			uint8_t *out = rte_pktmbuf_mtod(mbuf, uint8_t *);
			assert_true(packets_checksums_right(out, mbuf->data_len, 0));
			// The acknowledgement, and the checksum, only when they are there as a whole.
			unsigned whole = cut < tcp + 12 && !to_client ? tcp + 8
				: cut == tcp + 17 ? tcp + 16 : cut;
			assert_memory_equal(out + icmp + 8, sent, whole);
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
