/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a worker of the daemon has around its pipeline, filled in by hand: flow table, four services
 * with four backends each (maglev, resolved neighbours), SNAT pools of the default port ranges,
 * counters, the RCU variable. One address family a world.
 */
#ifndef WEIR_BENCH_WORLD_H
#define WEIR_BENCH_WORLD_H

#include <rte_mbuf.h>
#include <stdbool.h>
#include <stdint.h>

#include "bench.h"
#include "pipeline.h"

#define WORLD_SERVICES 4
#define WORLD_BACKENDS 16 // four a service
#define WORLD_WORKERS_MAX 2
#define WORLD_SNAT_MAX 16
#define WORLD_TICK_BUDGET 512 // what the worker gives a tick

struct snat;
struct snat_pool;
struct rte_rcu_qsbr;

/* What the answer to a client must carry: learnt from the first translated packet. */
struct world_reply {
	uint16_t snat_port; // network byte order
	uint8_t snat;       // index of the SNAT address
	uint8_t backend;
};

struct world_worker {
	struct pipeline pipeline;
	struct stats_worker stats;
	struct stats_backend backends[WORLD_BACKENDS];
	uint32_t active[WORLD_BACKENDS];
	struct stats_connect connects[WORLD_BACKENDS];
	struct retry retries[WORLD_SERVICES];
	struct handshakes handshakes[WORLD_SERVICES];
	struct service_cursors cursors[WORLD_SERVICES];
	struct stats_service service_stats[WORLD_SERVICES];
	struct rte_mbuf **mbufs; // BENCH_BATCH of them
} __attribute__((aligned(64)));

struct world {
	sa_family_t family;
	uint32_t nb_flows; // established ones, by number from 0
	uint32_t nb_snat;
	unsigned nb_workers;
	struct world_worker *workers[WORLD_WORKERS_MAX];
	struct flow_table *table;
	struct rte_rcu_qsbr *rcu;
	struct snat *snat;
	struct snat_pool *pools[WORLD_BACKENDS][WORLD_SNAT_MAX];
	struct service_table *services;
	struct net_addr vips[WORLD_SERVICES];
	struct net_addr backends[WORLD_BACKENDS];
	struct net_addr snats[WORLD_SNAT_MAX];
	struct world_reply *replies; // by flow
	uint32_t nb_replies;
	uint64_t now_ms; // of the next run
};

struct world_options {
	sa_family_t family;
	uint32_t capacity;   // as `flows` in the file
	uint32_t nb_snat;    // SNAT addresses
	uint32_t nb_replies; // numbers of flows that may be alive at a time
	unsigned nb_workers;
};

struct world *world_create(const struct world_options *options);
void world_destroy(struct world *world);

/* The smallest table that takes so many flows. */
uint32_t world_capacity(uint32_t flows);
/* SNAT addresses that so many flows need. */
uint32_t world_snat_needed(uint32_t flows);

/* The mempool, and the mbufs that the workers of all worlds rotate through. Before any world. */
void world_mempool_create(void);

/* What the worker does between bursts: nothing here holds on to the tables any more. */
void world_quiescent(struct world *world, unsigned worker);

/* Ticks of all workers until nothing is due: none of them is running. */
void world_settle(struct world *world);

/* Bytes that the flows need: table, and SNAT pools fully used. */
size_t world_size(const struct world *world);

#endif
