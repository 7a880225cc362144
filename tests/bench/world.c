/* SPDX-License-Identifier: BSD-3-Clause */
#include "bench_world.h"

#include <rte_lcore.h>
#include <rte_malloc.h>
#include <rte_mempool.h>
#include <rte_rcu_qsbr.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "snat.h"

static const struct snat_range port_ranges[] = {{1024, 32767}, {61000, 65535}}; // the defaults

static struct rte_mempool *mempool;
// Each worker rotates through its own, whichever world it is in.
static struct rte_mbuf *mbufs[WORLD_WORKERS_MAX][BENCH_BATCH];

void world_mempool_create(void)
{
	mempool = rte_pktmbuf_pool_create(
		"bench", 4 * BENCH_BATCH - 1, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (mempool == NULL)
		bench_fail("no mempool");
	for (unsigned w = 0; w < WORLD_WORKERS_MAX; w++)
		if (rte_pktmbuf_alloc_bulk(mempool, mbufs[w], BENCH_BATCH) != 0)
			bench_fail("no mbufs");
}

static struct rte_mbuf *new_mbuf(void *context)
{
	return rte_pktmbuf_alloc(mempool);
}

/* Address `last` of the network that all of one role are in. */
static struct net_addr numbered(sa_family_t family, const char *v4, const char *v6, unsigned last)
{
	struct net_addr addr;

	net_addr_parse(&addr, family == AF_INET6 ? v6 : v4);
	((uint8_t *)addr.v6)[family == AF_INET6 ? 15 : 3] = last;
	return addr;
}

uint32_t world_capacity(uint32_t flows)
{
	uint32_t capacity = (uint64_t)flows * 10 / 9;

	while (capacity - capacity / 10 < flows)
		capacity++;
	return capacity;
}

uint32_t world_snat_needed(uint32_t flows)
{
	uint32_t ports = 0;

	for (unsigned i = 0; i < RTE_DIM(port_ranges); i++)
		ports += port_ranges[i].last - port_ranges[i].first + 1;
	// cppcheck-suppress zerodiv // there are ranges
	// Maglev's shares differ by a few per cent.
	return (uint64_t)flows * 105 / 100 / WORLD_BACKENDS / ports + 1;
}

static void make_pools(struct world *world)
{
	uint64_t key[2] = {0x243f6a8885a308d3, 0x13198a2e03707344};

	world->snat = snat_create(port_ranges, RTE_DIM(port_ranges), key, NULL);
	if (world->snat == NULL)
		bench_fail("no SNAT ports");
	for (unsigned b = 0; b < WORLD_BACKENDS; b++) {
		for (unsigned s = 0; s < world->nb_snat; s++) {
			world->pools[b][s] = snat_pool_create(world->snat, 0);
			if (world->pools[b][s] == NULL)
				bench_fail("no SNAT pool");
		}
	}
}

static void make_backends(struct world *world, struct service_backend *backends)
{
	for (unsigned b = 0; b < WORLD_BACKENDS; b++) {
		world->backends[b] = numbered(world->family, "10.0.0.0", "fd00::", b + 1);
		backends[b] = (struct service_backend){
			.generation = 1,
			.service = b % WORLD_SERVICES,
			.next_hop = {{0x02, 0, 0, 0, 1, b}},
			.port = RTE_BE16(8080),
			.family = world->family,
			.resolved = true,
			.pools = world->pools[b],
		};
		memcpy(backends[b].addr, world->backends[b].v6, sizeof(backends[b].addr));
	}
}

static struct service *make_service(struct world *world, unsigned s)
{
	struct scheduler_backend weights[WORLD_BACKENDS / WORLD_SERVICES];
	uint32_t candidates[WORLD_BACKENDS / WORLD_SERVICES];
	struct service_source source = {.name = "bench",
		.family = world->family,
		.connect = {.timeout_ms = 250, .retry_percent = 20, .tries = 3}, // the defaults
		.scheduler = &scheduler_maglev,
		.candidates = {.ids = candidates, .weights = weights}};

	for (unsigned b = s; b < WORLD_BACKENDS; b += WORLD_SERVICES) {
		candidates[source.candidates.count] = b;
		weights[source.candidates.count++] =
			(struct scheduler_backend){.identity = b * 0x9e3779b97f4a7c15, .weight = 1};
	}
	struct service *service = service_create(&source);
	if (service == NULL)
		bench_fail("no service");
	return service;
}

static void make_services(struct world *world)
{
	struct service_backend backends[WORLD_BACKENDS] __attribute__((aligned(64)));
	struct service_key keys[WORLD_SERVICES + 2 * WORLD_BACKENDS + WORLD_SNAT_MAX];
	struct service *services[WORLD_SERVICES];
	struct service_table_source source = {.services = services,
		.nb_services = WORLD_SERVICES,
		.backends = backends,
		.nb_backends = WORLD_BACKENDS,
		.snat = world->snat,
		.keys = keys};
	struct service_snat snat = {world->snats, world->nb_snat};

	make_backends(world, backends);
	for (unsigned b = 0; b < WORLD_BACKENDS; b++) {
		service_key_set(&keys[source.nb_keys++], SERVICE_KEY_ENDPOINT, &world->backends[b],
			RTE_BE16(8080), b);
		service_key_set(
			&keys[source.nb_keys++], SERVICE_KEY_HOST, &world->backends[b], 0, b);
	}
	for (unsigned s = 0; s < WORLD_SERVICES; s++) {
		world->vips[s] = numbered(world->family, "192.0.2.0", "2001:db8::", s + 1);
		service_key_set(
			&keys[source.nb_keys++], SERVICE_KEY_VIP, &world->vips[s], RTE_BE16(80), s);
		services[s] = make_service(world, s);
	}
	for (unsigned s = 0; s < world->nb_snat; s++) {
		world->snats[s] = numbered(world->family, "192.0.2.0", "2001:db8::", 100 + s);
		service_key_set(&keys[source.nb_keys++], SERVICE_KEY_SNAT, &world->snats[s], 0, s);
	}
	*(world->family == AF_INET6 ? &source.snat6 : &source.snat4) = snat;
	world->services = service_table_create(&source);
	if (world->services == NULL)
		bench_fail("no service table");
	for (unsigned s = 0; s < WORLD_SERVICES; s++)
		service_put(services[s]);
}

static void make_rcu(struct world *world)
{
	world->rcu = rte_zmalloc("rcu", rte_rcu_qsbr_get_memsize(world->nb_workers), 64);
	if (world->rcu == NULL || rte_rcu_qsbr_init(world->rcu, world->nb_workers) != 0)
		bench_fail("no RCU variable");
	for (unsigned w = 0; w < world->nb_workers; w++) {
		rte_rcu_qsbr_thread_register(world->rcu, w);
		rte_rcu_qsbr_thread_online(world->rcu, w);
	}
}

static void make_worker(struct world *world, unsigned w)
{
	struct world_worker *worker = rte_zmalloc("worker", sizeof(*worker), 64);

	if (worker == NULL)
		bench_fail("no memory for a worker");
	world->workers[w] = worker;
	worker->mbufs = mbufs[w];
	struct pipeline *pipeline = &worker->pipeline;
	pipeline_init(pipeline);
	pipeline->worker = w;
	pipeline->mac = (struct net_mac){{0x02, 0, 0, 0, 0, 1}};
	*(world->family == AF_INET6 ? &pipeline->flows6 : &pipeline->flows4) = world->table;
	pipeline->hasher = &world->table->hasher;
	pipeline->services = (const struct service_table *const *)&world->services;
	pipeline->stats = &worker->stats;
	pipeline->backends = worker->backends;
	pipeline->active = worker->active;
	pipeline->connects = worker->connects;
	pipeline->retries = worker->retries;
	pipeline->handshakes = worker->handshakes;
	pipeline->cursors = worker->cursors;
	pipeline->service_stats = worker->service_stats;
	pipeline->new_mbuf = new_mbuf;
	pipeline->swept_ms = world->now_ms;
}

struct world *world_create(const struct world_options *options)
{
	struct world *world = calloc(1, sizeof(*world));
	struct hash_key key;

	if (world == NULL || hash_key_random(&key) < 0 || options->nb_snat > WORLD_SNAT_MAX)
		bench_fail("no world");
	world->family = options->family;
	world->nb_snat = options->nb_snat;
	world->nb_workers = options->nb_workers;
	world->nb_replies = options->nb_replies;
	world->replies = calloc(options->nb_replies, sizeof(*world->replies));
	if (world->replies == NULL)
		bench_fail("no memory");
	world->now_ms = clock_ms();
	make_rcu(world);
	make_pools(world);
	make_services(world);
	world->table = flow_table_create(options->family, options->capacity, options->nb_workers,
		&key, world->rcu, -1, true);
	if (world->table == NULL)
		bench_fail("no flow table of %u", options->capacity);
	if (!world->table->memory.hugepages)
		bench_fail("too few hugepages for a flow table of %u", options->capacity);
	for (unsigned w = 0; w < options->nb_workers; w++)
		make_worker(world, w);
	return world;
}

void world_destroy(struct world *world)
{
	for (unsigned w = 0; w < world->nb_workers; w++)
		rte_free(world->workers[w]);
	flow_table_destroy(world->table);
	service_table_destroy(world->services);
	for (unsigned b = 0; b < WORLD_BACKENDS; b++)
		for (unsigned s = 0; s < world->nb_snat; s++)
			snat_pool_destroy(world->pools[b][s]);
	snat_destroy(world->snat);
	rte_free(world->rcu);
	free(world->replies);
	free(world);
}

void world_quiescent(struct world *world, unsigned worker)
{
	rte_rcu_qsbr_quiescent(world->rcu, worker);
}

void world_settle(struct world *world)
{
	bool more;

	do {
		more = false;
		for (unsigned w = 0; w < world->nb_workers; w++) {
			more |= pipeline_tick(
				&world->workers[w]->pipeline, world->now_ms, WORLD_TICK_BUDGET);
			world_quiescent(world, w);
		}
	} while (more);
}

size_t world_size(const struct world *world)
{
	size_t ring = (snat_size(world->snat) + 1) * sizeof(uint16_t);

	return flow_table_size(world->table) +
		ring * snat_classes(world->snat) * WORLD_BACKENDS * world->nb_snat;
}
