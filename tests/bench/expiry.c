/* SPDX-License-Identifier: BSD-3-Clause */
/* A million flows that time out in the same second, swept by the ticks of one worker. */
#include <rte_common.h>

#include "bench.h"
#include "bench_traffic.h"
#include "bench_world.h"
#include "clock.h"

#define FLOWS 1048576

static void expire_all(struct world *world, unsigned round)
{
	struct pipeline *pipeline = &world->workers[0]->pipeline;
	const struct stats_flows *counters =
		&world->workers[0]->stats.live.flows[stats_family(world->family)];
	uint64_t expired = counters->expired, max_ns = 0, sum_ns = 0;
	unsigned ticks = 0;

	world->now_ms += (pipeline->timeout_s[TCP_ESTABLISHED] + 1) * 1000ull;
	while (counters->expired - expired < FLOWS) {
		world->now_ms++;
		uint64_t start_ns = clock_thread_ns();
		pipeline_tick(pipeline, world->now_ms, WORLD_TICK_BUDGET);
		world_quiescent(world, 0);
		uint64_t ns = clock_thread_ns() - start_ns;
		max_ns = RTE_MAX(max_ns, ns);
		sum_ns += ns;
		if (++ticks > 100 * FLOWS / WORLD_TICK_BUDGET)
			bench_fail("flows don't expire");
	}
	bench_print("expiry",
		"\"family\": %u, \"round\": %u, \"flows\": %u, \"max_loop_us\": %.1f, "
		"\"loops\": %u, \"flows_per_second\": %.0f",
		world->family == AF_INET6 ? 6 : 4, round, FLOWS, max_ns / 1e3, ticks,
		FLOWS * 1e9 / sum_ns);
}

void bench_expiry(struct bench_rounds *rounds)
{
	static const sa_family_t families[] = {AF_INET, AF_INET6};
	struct world *worlds[RTE_DIM(families)];

	for (unsigned f = 0; f < RTE_DIM(families); f++) {
		struct world_options options = {.family = families[f],
			.capacity = world_capacity(FLOWS),
			.nb_snat = world_snat_needed(FLOWS),
			.nb_replies = FLOWS,
			.nb_workers = 1};
		worlds[f] = world_create(&options);
	}
	while (bench_rounds_next(rounds)) {
		for (unsigned f = 0; f < RTE_DIM(families); f++) {
			traffic_establish(worlds[f], 0, 0, FLOWS);
			expire_all(worlds[f], rounds->done - 1);
		}
	}
	for (unsigned f = 0; f < RTE_DIM(families); f++)
		world_destroy(worlds[f]);
}
