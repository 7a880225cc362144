/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two workers against one on the same million flows: one pipeline gets the packets of all of them,
 * or each of two those of its half, as RSS and the SNAT ports' classes arrange it in steady state.
 * Both measure at the same time, batch by batch.
 */
#include <rte_common.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_pause.h>
#include <string.h>

#include "bench.h"
#include "bench_traffic.h"
#include "bench_world.h"

#define FLOWS 1048576
#define BATCHES 128

struct task {
	struct world *world;
	unsigned worker;
	unsigned nb_workers; // that work at the same time
	uint32_t *arrived;   // shared: batches made ready, by all of them
	struct traffic_order order;
	struct bench_samples samples;
	double cycles; // a packet
};

/* Flows are owned by batches: one batch of numbers to each worker in turn. */
static uint32_t own_flow(const struct task *task, uint32_t at)
{
	if (task->nb_workers == 1)
		return at;
	return at / BENCH_BATCH * 2 * BENCH_BATCH + task->worker * BENCH_BATCH + at % BENCH_BATCH;
}

/* Wait for the other worker to have its batch ready as well. */
static void meet(struct task *task, unsigned batch)
{
	__atomic_fetch_add(task->arrived, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(task->arrived, __ATOMIC_ACQUIRE) < (batch + 1) * task->nb_workers)
		rte_pause();
}

static int measure(void *argument)
{
	struct task *task = argument;
	struct rte_mbuf **mbufs = task->world->workers[task->worker]->mbufs;

	for (unsigned batch = 0; batch <= BATCHES; batch++) {
		for (unsigned i = 0; i < BENCH_BATCH; i++) {
			uint32_t at = traffic_order_next(&task->order);
			traffic_write(task->world, mbufs[i], own_flow(task, at >> 1),
				at & 1 ? TRAFFIC_BACKEND_ACK : TRAFFIC_ACK);
		}
		meet(task, batch);
		uint64_t cycles = traffic_run(task->world, task->worker, BENCH_BATCH);
		if (batch != 0)
			bench_samples_add(&task->samples, (double)cycles / BENCH_BATCH);
	}
	task->cycles = bench_samples_take(&task->samples);
	return 0;
}

static void run(struct task *tasks, struct world *world, unsigned nb_workers, unsigned other_lcore)
{
	uint32_t arrived = 0;

	for (unsigned w = 0; w < nb_workers; w++) {
		tasks[w].world = world;
		tasks[w].worker = w;
		tasks[w].nb_workers = nb_workers;
		tasks[w].arrived = &arrived;
		tasks[w].order.bits = __builtin_ctz(FLOWS / nb_workers) + 1;
	}
	if (nb_workers == 2)
		rte_eal_remote_launch(measure, &tasks[1], other_lcore);
	measure(&tasks[0]);
	if (nb_workers == 2)
		rte_eal_wait_lcore(other_lcore);
}

void bench_workers(struct bench_rounds *rounds)
{
	static struct task one[1], two[2];
	struct world_options options = {.family = AF_INET,
		.capacity = world_capacity(FLOWS),
		.nb_snat = world_snat_needed(FLOWS),
		.nb_replies = FLOWS,
		.nb_workers = 2};
	unsigned other_lcore = rte_get_next_lcore(-1, 1, 0);

	if (other_lcore == RTE_MAX_LCORE)
		bench_fail("two workers need two CPUs");
	struct world *world = world_create(&options);
	for (uint32_t first = 0; first < FLOWS; first += BENCH_BATCH)
		traffic_establish(world, first / BENCH_BATCH % 2, first, BENCH_BATCH);
	while (bench_rounds_next(rounds)) {
		run(one, world, 1, other_lcore);
		run(two, world, 2, other_lcore);
		double hz = rte_get_tsc_hz(), single = hz / one[0].cycles;
		double both = hz / two[0].cycles + hz / two[1].cycles;
		bench_print("workers",
			"\"round\": %u, \"flows\": %u, \"one_pps\": %.0f, "
			"\"two_pps\": %.0f, \"ratio\": %.3f",
			rounds->done - 1, FLOWS, single, both, both / single);
	}
	world_destroy(world);
}
