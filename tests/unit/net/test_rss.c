/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "packets.h"
#include "rss.h"

/* Microsoft's "Verifying the RSS Hash Calculation". */
static void hashes_are_those_of_the_verification_suite(void **state)
{
	static const uint8_t key[RSS_KEY_MIN] __attribute__((aligned(4))) = {
		0x6d,
		0x5a,
		0x56,
		0xda,
		0x25,
		0x5b,
		0x0e,
		0xc2,
		0x41,
		0x67,
		0x25,
		0x3d,
		0x43,
		0xa3,
		0x8f,
		0xb0,
		0xd0,
		0xca,
		0x2b,
		0xcb,
		0xae,
		0x7b,
		0x30,
		0xb4,
		0x77,
		0xcb,
		0x2d,
		0xa3,
		0x80,
		0x30,
		0xf2,
		0x0c,
		0x6a,
		0x42,
		0xb7,
		0x3b,
		0xbe,
		0xac,
		0x01,
		0xfa,
	};
	static const struct {
		const char *to;
		uint16_t dport;
		const char *from;
		uint16_t sport;
		uint32_t hash;
	} rows[] = {
		{"161.142.100.80", 1766, "66.9.149.187", 2794, 0x51ccc178},
		{"65.69.140.83", 4739, "199.92.111.2", 14230, 0xc626b0ea},
		{"12.22.207.184", 38024, "24.19.198.95", 12898, 0x5c2b394a},
		{"209.142.163.6", 2217, "38.27.205.30", 48228, 0xafc7327f},
		{"202.188.127.2", 1303, "153.39.163.191", 44251, 0x10e828a2},
		{"3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x40207d3d},
		{"ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0xdde51bbf},
		{"fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251,
			0x02d1feef},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct net_addr from = packets_addr(rows[i].from), to = packets_addr(rows[i].to);
		unsigned size = net_addr_size(from.family);
		uint8_t addrs[32];
		uint16_t header[2] = {htons(rows[i].sport), htons(rows[i].dport)};
		uint32_t ports;
		memcpy(addrs, from.v6, size);
		memcpy(addrs + size, to.v6, size);
		memcpy(&ports, header, sizeof(ports));
		assert_int_equal(rss_hash(key, from.family, addrs, ports), rows[i].hash);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_are_those_of_the_verification_suite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
