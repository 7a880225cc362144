/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>

#include "addr.h"

static void endpoint_parses_and_formats_both_families(void **state)
{
	struct net_endpoint endpoint;
	char text[NET_ENDPOINT_TEXT];

	assert_int_equal(net_endpoint_parse(&endpoint, "192.0.2.1:80"), 0);
	assert_int_equal(endpoint.addr.v4, htonl(0xc0000201));
	assert_int_equal(endpoint.port, htons(80));
	assert_string_equal(net_endpoint_format(&endpoint, text), "192.0.2.1:80");
	assert_int_equal(net_endpoint_parse(&endpoint, "[2001:db8::1]:65535"), 0);
	assert_string_equal(net_endpoint_format(&endpoint, text), "[2001:db8::1]:65535");
}

static void endpoint_refuses_bad_forms(void **state)
{
	static const char *bad[] = {"", ":80", "192.0.2.1", "192.0.2.1:", "192.0.2.1:80 ",
		"192.0.2:80", "2001:db8::1:80", "[192.0.2.1]:80", "[2001:db8::1:80", "a:80",
		"192.0.2.1:-1", "192.0.2.1:+80", "192.0.2.256:80"};
	struct net_endpoint endpoint;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(net_endpoint_parse(&endpoint, bad[i]), -EINVAL);
	assert_int_equal(net_endpoint_parse(&endpoint, "192.0.2.1:0"), -ERANGE);
	assert_int_equal(net_endpoint_parse(&endpoint, "192.0.2.1:65536"), -ERANGE);
	assert_int_equal(net_endpoint_parse(&endpoint, "192.0.2.1:4294967376"), -ERANGE);
}

static void prefix_contains_its_addresses_only(void **state)
{
	struct net_prefix prefix;
	struct net_addr addr;

	assert_int_equal(net_prefix_parse(&prefix, "192.0.2.128/25"), 0);
	net_addr_parse(&addr, "192.0.2.200");
	assert_true(net_prefix_contains(&prefix, &addr));
	net_addr_parse(&addr, "192.0.2.127");
	assert_false(net_prefix_contains(&prefix, &addr));
	assert_int_equal(net_prefix_parse(&prefix, "0.0.0.0/0"), 0);
	assert_true(net_prefix_contains(&prefix, &addr));
	assert_int_equal(net_prefix_parse(&prefix, "2001:db8::/33"), 0);
	net_addr_parse(&addr, "2001:db8:7fff::1");
	assert_true(net_prefix_contains(&prefix, &addr));
	net_addr_parse(&addr, "2001:db8:8000::1");
	assert_false(net_prefix_contains(&prefix, &addr));
	assert_int_equal(net_prefix_parse(&prefix, "192.0.2.0/33"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(endpoint_parses_and_formats_both_families),
		cmocka_unit_test(endpoint_refuses_bad_forms),
		cmocka_unit_test(prefix_contains_its_addresses_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
