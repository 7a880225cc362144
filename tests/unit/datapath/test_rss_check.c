/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_mbuf.h>
#include <string.h>

#include "dev.h"
#include "packets.h"
#include "rss_check.h"

static uint64_t seed;

/* Four queues, a table of 128, a random key. */
static struct dev_port port_known(void)
{
	struct dev_port port = {
		.nb_workers = 4,
		.rss = true,
		.rss_table =
			{.known = true, .ip4 = true, .ip6 = true, .key_size = 40, .reta_size = 128},
		.driver = "net_test",
		.mac = {{2, 0, 0, 0, 0, 1}},
	};

	seed = 11;
	for (unsigned i = 0; i < sizeof(port.rss_table.key); i++)
		port.rss_table.key[i] = packets_random(&seed) >> 24;
	for (unsigned i = 0; i < port.rss_table.reta_size; i++)
		port.rss_table.queue[i] = i % port.nb_workers;
	return port;
}

static struct rte_mbuf *tcp(const struct dev_port *port, sa_family_t family)
{
	struct segment segment = {
		.from = {{2, 0, 0, 0, 0, 2}},
		.to = port->mac,
		.src = packets_addr(family == AF_INET6 ? "2001:db8::7" : "198.51.100.7"),
		.dst = packets_addr(family == AF_INET6 ? "2001:db8::1" : "192.0.2.10"),
		.sport = 1024 + packets_random(&seed) % 60000,
		.dport = 80,
		.flags = TCP_SYN,
		.ttl = 64,
	};
	uint8_t frame[PACKETS_SIZE_MAX];
	return packets_mbuf(frame, packets_build(&segment, frame));
}

/* As the device does it. */
static uint32_t hash_of(const struct dev_port *port, struct rte_mbuf *mbuf)
{
	const uint8_t *ip = rte_pktmbuf_mtod(mbuf, const uint8_t *) + PACKETS_IP_OFFSET;
	bool v6 = ip[0] >> 4 == 6;
	uint32_t ports;

	memcpy(&ports, ip + (v6 ? 40 : 20), sizeof(ports));
	return rss_hash(port->rss_table.key, v6 ? AF_INET6 : AF_INET, ip + (v6 ? 8 : 12), ports);
}

static unsigned queue_of(const struct dev_port *port, struct rte_mbuf *mbuf)
{
	return port->rss_table.queue[hash_of(port, mbuf) % port->rss_table.reta_size];
}

static void receive(struct rss_check *check, unsigned queue, struct rte_mbuf *mbuf)
{
	rss_check_burst(check, queue, &mbuf, 1);
	packets_free(mbuf);
}

static void receive_right(struct rss_check *check, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = tcp(check->port, i % 2 == 0 ? AF_INET : AF_INET6);
		receive(check, queue_of(check->port, mbuf), mbuf);
	}
}

static void starts_by_what_the_port_knows(void **state)
{
	struct dev_port port = port_known();
	struct rss_check check;

	rss_check_init(&check, &port);
	assert_string_equal(rss_check_text(&check), "checking");
	port.rss_table.known = false;
	rss_check_init(&check, &port);
	assert_string_equal(rss_check_text(&check), "unknown");
	port.rss = false;
	rss_check_init(&check, &port);
	assert_string_equal(rss_check_text(&check), "off");
}

static void verified_by_64_right_packets_over_all_queues(void **state)
{
	struct dev_port port = port_known();
	struct rss_check check;

	rss_check_init(&check, &port);
	receive_right(&check, RSS_CHECK_PACKETS - 1);
	assert_string_equal(rss_check_text(&check), "checking");
	receive_right(&check, 1);
	assert_string_equal(rss_check_text(&check), "verified");
	// It stays: nothing is looked at any more.
	struct rte_mbuf *mbuf = tcp(&port, AF_INET);
	receive(&check, (queue_of(&port, mbuf) + 1) % 4, mbuf);
	assert_string_equal(rss_check_text(&check), "verified");
}

static void one_packet_by_another_queue_is_a_mismatch(void **state)
{
	struct dev_port port = port_known();
	struct rss_check check;

	rss_check_init(&check, &port);
	receive_right(&check, RSS_CHECK_PACKETS - 1);
	struct rte_mbuf *mbuf = tcp(&port, AF_INET6);
	receive(&check, (queue_of(&port, mbuf) + 1) % 4, mbuf);
	assert_string_equal(rss_check_text(&check), "mismatch");
	receive_right(&check, 2 * RSS_CHECK_PACKETS);
	assert_string_equal(rss_check_text(&check), "mismatch");
}

static void a_reported_hash_must_agree_too(void **state)
{
	struct dev_port port = port_known();
	struct rss_check check;

	for (unsigned wrong = 0; wrong < 2; wrong++) {
		rss_check_init(&check, &port);
		for (unsigned i = 0; i < RSS_CHECK_PACKETS; i++) {
			struct rte_mbuf *mbuf = tcp(&port, AF_INET);
			mbuf->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
			mbuf->hash.rss = hash_of(&port, mbuf) ^ wrong << 6; // the queue is the same
			receive(&check, queue_of(&port, mbuf), mbuf);
		}
		assert_string_equal(rss_check_text(&check), wrong ? "mismatch" : "verified");
	}
}

/* By any queue, whatever the hash of their bytes would be. */
static void what_devices_hash_otherwise_does_not_count(void **state)
{
	struct dev_port port = port_known();
	struct rss_check check;

	rss_check_init(&check, &port);
	for (unsigned i = 0; i < 2 * RSS_CHECK_PACKETS; i++) {
		struct rte_mbuf *mbuf = tcp(&port, AF_INET);
		uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
		switch (i % 4) {
		case 0: // a first fragment
			frame[PACKETS_IP_OFFSET + 6] = 0x20;
			break;
		case 1: // UDP
			frame[PACKETS_IP_OFFSET + 9] = IPPROTO_UDP;
			break;
		case 2: // another station's
			frame[5] ^= 1;
			break;
		case 3: // ARP
			frame[13] = 0x06;
			break;
		}
		receive(&check, i % 4, mbuf);
	}
	// A family that the device doesn't hash with ports.
	port.rss_table.ip6 = false;
	for (unsigned i = 0; i < 2 * RSS_CHECK_PACKETS; i++)
		receive(&check, i % 4, tcp(&port, AF_INET6));
	assert_string_equal(rss_check_text(&check), "checking");
	assert_int_equal(check.right, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_by_what_the_port_knows),
		cmocka_unit_test(verified_by_64_right_packets_over_all_queues),
		cmocka_unit_test(one_packet_by_another_queue_is_a_mismatch),
		cmocka_unit_test(a_reported_hash_must_agree_too),
		cmocka_unit_test(what_devices_hash_otherwise_does_not_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
