/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <time.h>

#include "packets.h"
#include "service_access.h"

enum { MAX = 10000 };

/* Two lists of prefixes, and what was made of them. */
struct lists {
	struct net_prefix allow[MAX], deny[MAX];
	uint32_t nb_allow, nb_deny;
	struct service_access *access;
};

static void add(struct lists *lists, bool allow, const char *text)
{
	struct net_prefix *prefix =
		allow ? &lists->allow[lists->nb_allow++] : &lists->deny[lists->nb_deny++];

	assert_int_equal(net_prefix_parse(prefix, text), 0);
}

static void build(struct lists *lists)
{
	lists->access =
		service_access_create(lists->allow, lists->nb_allow, lists->deny, lists->nb_deny);
	assert_non_null(lists->access);
}

static bool allows(const struct lists *lists, const char *text)
{
	struct net_addr addr = packets_addr(text);

	return service_access_allows(lists->access, addr.v6);
}

/* The plain definition: the longest that matches; the default; a tie denies. */
static bool should_allow(const struct lists *lists, const struct net_addr *addr)
{
	int allow = -1, deny = -1;

	for (uint32_t i = 0; i < lists->nb_allow; i++)
		if (net_prefix_contains(&lists->allow[i], addr) && lists->allow[i].length > allow)
			allow = lists->allow[i].length;
	for (uint32_t i = 0; i < lists->nb_deny; i++)
		if (net_prefix_contains(&lists->deny[i], addr) && lists->deny[i].length > deny)
			deny = lists->deny[i].length;
	return allow < 0 && deny < 0 ? lists->nb_allow == 0 : allow > deny;
}

static int make(void **state)
{
	*state = calloc(1, sizeof(struct lists));
	return *state == NULL;
}

static int drop(void **state)
{
	service_access_put(((struct lists *)*state)->access);
	free(*state);
	return 0;
}

static void denied_network_and_nobody_else(void **state)
{
	struct lists *lists = *state;

	add(lists, false, "198.51.100.0/24");
	build(lists);
	assert_true(allows(lists, "198.51.99.255"));
	assert_false(allows(lists, "198.51.100.0"));
	assert_false(allows(lists, "198.51.100.255"));
	assert_true(allows(lists, "198.51.101.0"));
	assert_true(allows(lists, "0.0.0.0"));
	assert_true(allows(lists, "255.255.255.255"));
}

static void allowed_network_and_nobody_else(void **state)
{
	struct lists *lists = *state;

	add(lists, true, "10.0.0.0/8");
	add(lists, true, "192.0.2.7");
	build(lists);
	assert_false(allows(lists, "9.255.255.255"));
	assert_true(allows(lists, "10.0.0.0"));
	assert_true(allows(lists, "10.255.255.255"));
	assert_false(allows(lists, "11.0.0.0"));
	assert_false(allows(lists, "192.0.2.6"));
	assert_true(allows(lists, "192.0.2.7"));
	assert_false(allows(lists, "192.0.2.8"));
}

static void longest_prefix_decides(void **state)
{
	struct lists *lists = *state;

	add(lists, true, "0.0.0.0/0");
	add(lists, false, "10.0.0.0/8");
	add(lists, true, "10.1.0.0/16");
	add(lists, false, "10.1.0.0/24"); // begins where the one around it does
	add(lists, true, "10.1.0.5/32");
	add(lists, false, "10.1.255.0/24"); // ends where the one around it does
	add(lists, false, "255.255.255.255/32");
	build(lists);
	assert_true(allows(lists, "9.255.255.255"));
	assert_false(allows(lists, "10.0.0.1"));
	assert_false(allows(lists, "10.1.0.0"));
	assert_false(allows(lists, "10.1.0.4"));
	assert_true(allows(lists, "10.1.0.5"));
	assert_false(allows(lists, "10.1.0.6"));
	assert_true(allows(lists, "10.1.1.0"));
	assert_true(allows(lists, "10.1.254.255"));
	assert_false(allows(lists, "10.1.255.0"));
	assert_false(allows(lists, "10.2.0.0"));
	assert_true(allows(lists, "11.0.0.0"));
	assert_true(allows(lists, "255.255.255.254"));
	assert_false(allows(lists, "255.255.255.255"));
}

static void ipv6_to_the_last_bit(void **state)
{
	struct lists *lists = *state;

	add(lists, false, "::/0");
	add(lists, true, "2001:db8::/32");
	add(lists, false, "2001:db8:0:1::/64");
	add(lists, true, "2001:db8:0:1::ffff:ffff/128");
	add(lists, true, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128");
	build(lists);
	assert_false(allows(lists, "::"));
	assert_false(allows(lists, "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"));
	assert_true(allows(lists, "2001:db8::"));
	assert_true(allows(lists, "2001:db8:0:0:ffff:ffff:ffff:ffff"));
	assert_false(allows(lists, "2001:db8:0:1::"));
	assert_false(allows(lists, "2001:db8:0:1::ffff:fffe"));
	assert_true(allows(lists, "2001:db8:0:1::ffff:ffff"));
	assert_false(allows(lists, "2001:db8:0:1::1:0:0"));
	assert_true(allows(lists, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
	assert_false(allows(lists, "2001:db9::"));
	assert_false(allows(lists, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"));
	assert_true(allows(lists, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
}

static void prefix_in_both_lists_is_denied(void **state)
{
	struct lists *lists = *state;

	add(lists, true, "10.0.0.0/8");
	add(lists, false, "10.0.0.0/8");
	add(lists, false, "10.0.0.0/8"); // twice is once
	add(lists, true, "10.0.0.0/9");
	build(lists);
	assert_true(allows(lists, "10.127.0.1"));
	assert_false(allows(lists, "10.128.0.1"));
	assert_false(allows(lists, "11.0.0.0"));
}

static void no_prefix_allows_all(void **state)
{
	struct lists *lists = *state;

	build(lists);
	assert_true(allows(lists, "192.0.2.1"));
}

/* Against the plain definition: few bits, so that prefixes lie in one another;
 * asked at all edges. */
static void random_lists_match_the_definition(void **state)
{
	struct lists *lists = *state;
	uint64_t seed = 1;

	for (unsigned round = 0; round < 400; round++) {
		sa_family_t family = round % 2 ? AF_INET6 : AF_INET;
		unsigned bits = net_addr_size(family) * 8;
		struct net_addr probes[200];
		unsigned nb_probes = 0;

		lists->nb_allow = lists->nb_deny = 0;
		for (unsigned i = 0; i < 40; i++) {
			struct net_prefix prefix = {.addr.family = family};
			prefix.length = packets_random(&seed) % 8 + (i % 3 == 0 ? bits - 7 : 0);
			for (unsigned byte = 0; byte < bits / 8; byte += bits / 8 - 1)
				prefix.addr.v6[byte] = packets_random(&seed) & 7
					? 0x41 * (byte + 1)
					: packets_random(&seed);
			if (packets_random(&seed) % 2 && round % 5 != 0)
				lists->allow[lists->nb_allow++] = prefix;
			else
				lists->deny[lists->nb_deny++] = prefix;
			for (unsigned edge = 0; edge < 4; edge++) {
				struct net_addr probe = prefix.addr;
				for (unsigned bit = prefix.length; bit < bits; bit++) {
					uint8_t mask = 0x80 >> bit % 8;
					if (edge % 2)
						probe.v6[bit / 8] |= mask;
					else
						probe.v6[bit / 8] &= ~mask;
				}
				if (edge >= 2) // just outside, or nearly so
					probe.v6[bits / 8 - 1] += edge % 2 ? 1 : -1;
				probes[nb_probes++] = probe;
			}
		}
		build(lists);
		for (unsigned i = 0; i < nb_probes; i++)
			assert_int_equal(service_access_allows(lists->access, probes[i].v6),
				should_allow(lists, &probes[i]));
		service_access_put(lists->access);
		lists->access = NULL;
	}
}

static void ten_thousand_prefixes_load_in_a_second(void **state)
{
	struct lists *lists = *state;
	uint64_t seed = 2;

	for (unsigned family = 0; family < 2; family++) {
		for (uint32_t i = 0; i < MAX; i++) {
			struct net_prefix *prefix =
				i % 2 ? &lists->allow[i / 2] : &lists->deny[i / 2];
			*prefix = (struct net_prefix){.length = 8 + packets_random(&seed) % 25,
				.addr.family = family ? AF_INET6 : AF_INET};
			for (unsigned byte = 0; byte < net_addr_size(prefix->addr.family); byte++)
				prefix->addr.v6[byte] = packets_random(&seed);
		}
		lists->nb_allow = lists->nb_deny = MAX / 2;
		clock_t before = clock();
		build(lists);
		assert_true(clock() - before < CLOCKS_PER_SEC);
		assert_in_range(service_access_size(lists->access), 0, 16 * 2 * MAX + 64);
		for (uint32_t i = 0; i < 2000; i++) {
			struct net_addr addr = {.family = family ? AF_INET6 : AF_INET};
			for (unsigned byte = 0; byte < net_addr_size(addr.family); byte++)
				addr.v6[byte] = packets_random(&seed);
			if (i % 2) // within some prefix, for IPv6
				memcpy(addr.v6, lists->allow[i].addr.v6, 4);
			assert_int_equal(service_access_allows(lists->access, addr.v6),
				should_allow(lists, &addr));
		}
		service_access_put(lists->access);
		lists->access = NULL;
	}
}

static void last_reference_frees(void **state)
{
	struct lists *lists = *state;

	add(lists, false, "10.0.0.0/8");
	build(lists);
	struct service_access *other = service_access_get(lists->access);
	assert_ptr_equal(other, lists->access);
	service_access_put(other);
	assert_false(allows(lists, "10.0.0.1"));
	assert_null(service_access_get(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(denied_network_and_nobody_else, make, drop),
		cmocka_unit_test_setup_teardown(allowed_network_and_nobody_else, make, drop),
		cmocka_unit_test_setup_teardown(longest_prefix_decides, make, drop),
		cmocka_unit_test_setup_teardown(ipv6_to_the_last_bit, make, drop),
		cmocka_unit_test_setup_teardown(prefix_in_both_lists_is_denied, make, drop),
		cmocka_unit_test_setup_teardown(no_prefix_allows_all, make, drop),
		cmocka_unit_test_setup_teardown(random_lists_match_the_definition, make, drop),
		cmocka_unit_test_setup_teardown(ten_thousand_prefixes_load_in_a_second, make, drop),
		cmocka_unit_test_setup_teardown(last_reference_frees, make, drop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
