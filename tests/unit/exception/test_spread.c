/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <netinet/in.h>
#include <rte_ether.h>
#include <rte_ip.h>

#include "exception_spread.h"

#define FRAME_SIZE 74

static void make_ipv4(uint8_t frame[FRAME_SIZE], uint16_t port, uint16_t fragment, uint8_t protocol)
{
	struct rte_ether_hdr *ether = (void *)frame;
	struct rte_ipv4_hdr *ip = (void *)(ether + 1);

	memset(frame, 0, FRAME_SIZE);
	ether->ether_type = htons(RTE_ETHER_TYPE_IPV4);
	ip->version_ihl = 0x45;
	ip->next_proto_id = protocol;
	ip->fragment_offset = htons(fragment);
	ip->src_addr = htonl(0xc000020a);
	ip->dst_addr = htonl(0x0a00000b);
	memcpy(ip + 1, &port, sizeof(port));
}

static void make_ipv6(uint8_t frame[FRAME_SIZE], uint16_t port)
{
	struct rte_ether_hdr *ether = (void *)frame;
	struct rte_ipv6_hdr *ip = (void *)(ether + 1);

	memset(frame, 0, FRAME_SIZE);
	ether->ether_type = htons(RTE_ETHER_TYPE_IPV6);
	ip->proto = IPPROTO_TCP;
	((uint8_t *)&ip->src_addr)[15] = 1;
	memcpy(ip + 1, &port, sizeof(port));
}

static void test_flow_keeps_its_hash(void **state)
{
	uint8_t a[FRAME_SIZE], b[FRAME_SIZE];

	make_ipv4(a, 1000, 0, IPPROTO_TCP);
	make_ipv4(b, 1000, 0, IPPROTO_TCP);
	b[FRAME_SIZE - 1] = 99; // payload
	assert_int_equal(exception_spread_hash(a, sizeof(a)), exception_spread_hash(b, sizeof(b)));
}

static void test_ports_spread_over_workers(void **state)
{
	unsigned first_worker4 = 0, first_worker6 = 0;
	uint8_t frame[FRAME_SIZE];

	for (unsigned port = 0; port < 1000; port++) {
		make_ipv4(frame, port, 0, IPPROTO_TCP);
		first_worker4 += exception_spread_hash(frame, sizeof(frame)) % 2 == 0;
		make_ipv6(frame, port);
		first_worker6 += exception_spread_hash(frame, sizeof(frame)) % 2 == 0;
	}
	assert_in_range(first_worker4, 400, 600);
	assert_in_range(first_worker6, 400, 600);
}

static void test_fragments_go_with_one_another(void **state)
{
	uint8_t first[FRAME_SIZE], last[FRAME_SIZE];

	make_ipv4(first, 1000, RTE_IPV4_HDR_MF_FLAG, IPPROTO_UDP);
	make_ipv4(last, 7, 185, IPPROTO_UDP);
	assert_int_equal(
		exception_spread_hash(first, FRAME_SIZE), exception_spread_hash(last, FRAME_SIZE));
}

static void test_cut_frame_is_not_read_beyond_its_end(void **state)
{
	uint8_t frame[FRAME_SIZE];

	for (unsigned length = 0; length <= FRAME_SIZE; length++) {
		make_ipv4(frame, 1000, 0, IPPROTO_TCP);
		frame[14] = 0x4f; // options beyond the end, too
		uint8_t *exact = malloc(length);
		memcpy(exact, frame, length);
		exception_spread_hash(exact, length);
		make_ipv6(frame, 1000);
		memcpy(exact, frame, length);
		exception_spread_hash(exact, length);
		free(exact);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flow_keeps_its_hash),
		cmocka_unit_test(test_ports_spread_over_workers),
		cmocka_unit_test(test_fragments_go_with_one_another),
		cmocka_unit_test(test_cut_frame_is_not_read_beyond_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
