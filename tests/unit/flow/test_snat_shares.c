/* SPDX-License-Identifier: BSD-3-Clause */
/* The model is a device: DPDK's hash over the whole tuple of the backend's
 * answer, and its table. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_ip.h>
#include <rte_thash.h>
#include <string.h>

#include "packets.h"
#include "rss.h"
#include "snat_shares.h"

static const uint64_t order[2] = {0x243f6a8885a308d3, 0x13198a2e03707344};
static const struct snat_range all = {1, 65535};

struct device {
	uint8_t key[RSS_KEY_MAX] __attribute__((aligned(4)));
	uint16_t reta_size;
	unsigned nb_queues;
	uint8_t queue[512];
};

static void device_random(struct device *device, uint64_t *seed)
{
	for (unsigned i = 0; i < sizeof(device->key); i++)
		device->key[i] = packets_random(seed) >> 24;
	device->reta_size = 1 << (1 + packets_random(seed) % 9); // 2 to 512
	device->nb_queues = 1 + packets_random(seed) % 16;
	for (unsigned i = 0; i < device->reta_size; i++)
		device->queue[i] = packets_random(seed) % device->nb_queues;
}

static struct net_addr addr_random(sa_family_t family, uint64_t *seed)
{
	struct net_addr addr = {.family = family};
	for (unsigned i = 0; i < net_addr_size(family); i++)
		addr.v6[i] = packets_random(seed) >> 24;
	return addr;
}

static unsigned device_queue(const struct device *device, const struct net_endpoint *from,
	const struct net_addr *to, uint16_t port)
{
	union rte_thash_tuple tuple;
	uint32_t length = RTE_THASH_V4_L4_LEN;

	memset(&tuple, 0, sizeof(tuple));
	if (to->family == AF_INET6) {
		struct rte_ipv6_hdr header;
		memcpy(&header.src_addr, from->addr.v6, 16);
		memcpy(&header.dst_addr, to->v6, 16);
		rte_thash_load_v6_addrs(&header, &tuple);
		tuple.v6.sport = ntohs(from->port);
		tuple.v6.dport = port;
		length = RTE_THASH_V6_L4_LEN;
	} else {
		tuple.v4.src_addr = ntohl(from->addr.v4);
		tuple.v4.dst_addr = ntohl(to->v4);
		tuple.v4.sport = ntohs(from->port);
		tuple.v4.dport = port;
	}
	uint32_t hash = rte_softrss((uint32_t *)&tuple, length, device->key);
	return device->queue[hash & (device->reta_size - 1)];
}

/* A device, and a backend's answers to one of its SNAT addresses. */
struct way {
	struct device device;
	struct net_endpoint backend;
	struct net_addr snat_addr;
	struct snat_shares *shares;
	uint16_t constant;
};

static struct way way_random(sa_family_t family, uint64_t *seed)
{
	struct way way;

	device_random(&way.device, seed);
	way.backend.addr = addr_random(family, seed);
	way.backend.port = packets_random(seed) >> 24;
	way.snat_addr = addr_random(family, seed);
	way.shares = snat_shares_create(family, way.device.key, way.device.queue,
		way.device.reta_size, way.device.nb_queues);
	way.constant = snat_shares_constant(way.shares, &way.backend, &way.snat_addr);
	return way;
}

static unsigned way_queue(const struct way *way, uint16_t port)
{
	return device_queue(&way->device, &way->backend, &way->snat_addr, port);
}

static void class_is_the_queue_of_the_answer(void **state)
{
	uint64_t seed = 8;

	for (unsigned round = 0; round < 40; round++) {
		struct way way = way_random(round % 2 ? AF_INET6 : AF_INET, &seed);
		const struct snat_rss *rss = snat_shares_rss(way.shares);
		for (unsigned i = 0; i < 10000; i++) {
			uint16_t port = packets_random(&seed) >> 24;
			unsigned class =
				rss->queue[(rss->port_share[port] ^ way.constant) & rss->mask];
			assert_int_equal(class, way_queue(&way, port));
		}
		snat_shares_destroy(way.shares);
	}
}

/* While its class has ports, a worker's answers come to itself; the others' serve after that. */
static void pool_lends_ports_whose_answers_come_back(void **state)
{
	uint64_t seed = 9;

	for (unsigned round = 0; round < 6; round++) {
		struct way way = way_random(round % 2 ? AF_INET6 : AF_INET, &seed);
		uint32_t left[16] = {0};
		for (unsigned port = all.first; port <= all.last; port++)
			left[way_queue(&way, port)]++;

		struct snat *snat = snat_create(&all, 1, order, snat_shares_rss(way.shares));
		struct snat_pool *pool = snat_pool_create(snat, way.constant);
		assert_int_equal(snat_classes(snat), way.device.nb_queues);
		for (uint32_t i = 0; i < snat_size(snat); i++) {
			unsigned worker = packets_random(&seed) % way.device.nb_queues;
			uint16_t port = snat_pool_get(pool, worker);
			assert_int_not_equal(port, SNAT_NO_PORT);
			unsigned queue = way_queue(&way, port);
			if (left[worker] != 0)
				assert_int_equal(queue, worker);
			assert_int_not_equal(left[queue]--, 0);
		}
		assert_int_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
		snat_pool_destroy(pool);
		snat_destroy(snat);
		snat_shares_destroy(way.shares);
	}
}

static void unknown_rss_is_one_class(void **state)
{
	struct net_endpoint backend = {.addr = packets_addr("10.0.0.1"), .port = htons(80)};
	struct net_addr snat_addr = packets_addr("192.0.2.10");

	assert_null(snat_shares_rss(NULL));
	assert_int_equal(snat_shares_constant(NULL, &backend, &snat_addr), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(class_is_the_queue_of_the_answer),
		cmocka_unit_test(pool_lends_ports_whose_answers_come_back),
		cmocka_unit_test(unknown_rss_is_one_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
