/* SPDX-License-Identifier: BSD-3-Clause */
#include "bench_connection.h"

#include <rte_common.h>
#include <stdlib.h>

#include "bench.h"
#include "bench_traffic.h"
#include "bench_world.h"

#define FLOWS 1048576
#define BATCHES 24

/*
 * The two ways in which a closed connection goes.
 *
 * "expired": connections arrive at a steady rate of which the table holds what closed in the last
 * seconds, about half of it full; the sweep of pipeline_tick() ends them.
 * "evicted": the worker is saturated, its clock is the cycles it spends; the table fills with
 * closed connections in the first second, and each new one takes the place of the oldest.
 */
struct mode {
	const char *name;
	uint64_t step_ns; // the clock's step a burst; 0 = the cycles measured
	uint16_t time_wait_s;
	unsigned warm_up; // batches
};

static const struct mode modes[] = {
	{"expired", 32 * 400, 1, 400}, // 250,000 connections/s
	{"evicted", 0, 60, 280},
};

struct state {
	const struct mode *mode;
	struct world *world;
	uint64_t now_ns;
	uint32_t next_client;
	bool warm;
	bool tick_again;
};

struct bench_connection {
	struct state states[RTE_DIM(modes)];
};

struct cost {
	uint64_t run[TRAFFIC_STEPS];
	uint64_t tick;
};

static void run_burst(
	struct state *state, struct rte_mbuf **mbufs, enum traffic_step step, struct cost *cost)
{
	struct world *world = state->world;
	struct pipeline *pipeline = &world->workers[0]->pipeline;
	uint64_t start = rte_rdtsc();

	pipeline_run(pipeline, mbufs, PIPELINE_BURST, world->now_ms);
	uint64_t cycles = rte_rdtsc() - start;
	cost->run[step] += cycles;
	if (pipeline->forward.count != PIPELINE_BURST)
		bench_fail("%s: step %u: a packet wasn't forwarded", state->mode->name, step);
	pipeline->forward.count = 0;
	world_quiescent(world, 0);

	state->now_ns += state->mode->step_ns != 0 ? state->mode->step_ns
						   : cycles * 1000000000 / rte_get_tsc_hz();
	if (state->now_ns / 1000000 == world->now_ms && !state->tick_again)
		return;
	world->now_ms = state->now_ns / 1000000;
	start = rte_rdtsc();
	state->tick_again = pipeline_tick(pipeline, world->now_ms, WORLD_TICK_BUDGET);
	cost->tick += rte_rdtsc() - start;
}

static void run_batch(struct state *state, struct cost *cost)
{
	struct world *world = state->world;
	struct rte_mbuf **mbufs = world->workers[0]->mbufs;

	*cost = (struct cost){0};
	for (unsigned step = 0; step < TRAFFIC_STEPS; step++) {
		for (unsigned i = 0; i < BENCH_BATCH; i++)
			traffic_write(world, mbufs[i], state->next_client + i, step);
		for (unsigned at = 0; at < BENCH_BATCH; at += PIPELINE_BURST)
			run_burst(state, mbufs + at, step, cost);
		for (unsigned i = 0; step == TRAFFIC_SYN && i < BENCH_BATCH; i++)
			traffic_learn(world, mbufs[i], state->next_client + i);
	}
	state->next_client += BENCH_BATCH;
}

static void measure(struct state *state, unsigned round)
{
	static struct bench_samples syn, closing, tick, whole;
	const struct stats_flows *counters =
		&state->world->workers[0]->stats.live.flows[stats_family(AF_INET)];
	uint64_t expired = counters->expired, evicted = counters->evicted;
	struct cost cost;

	for (unsigned batch = 0; batch < BATCHES; batch++) {
		uint64_t sum = 0;
		run_batch(state, &cost);
		for (unsigned step = 0; step < TRAFFIC_STEPS; step++)
			sum += cost.run[step];
		bench_samples_add(&syn, (double)cost.run[TRAFFIC_SYN] / BENCH_BATCH);
		bench_samples_add(&closing,
			(double)(cost.run[TRAFFIC_FIN] + cost.run[TRAFFIC_FINACK] +
				cost.run[TRAFFIC_LAST_ACK]) /
				BENCH_BATCH);
		bench_samples_add(&tick, (double)cost.tick / BENCH_BATCH);
		bench_samples_add(&whole, (double)(sum + cost.tick) / BENCH_BATCH);
	}
	double cycles = bench_samples_take(&whole);
	bench_print("connection",
		"\"family\": 4, \"end\": \"%s\", \"round\": %u, \"cycles\": %.1f, "
		"\"syn_cycles\": %.1f, \"closing_cycles\": %.1f, \"tick_cycles\": %.1f, "
		"\"per_second\": %.0f, "
		"\"used\": %u, \"size\": %u, \"expired\": %lu, \"evicted\": %lu",
		state->mode->name, round, cycles, bench_samples_take(&syn),
		bench_samples_take(&closing), bench_samples_take(&tick), rte_get_tsc_hz() / cycles,
		flow_table_used(state->world->table), FLOWS,
		(unsigned long)(counters->expired - expired),
		(unsigned long)(counters->evicted - evicted));
}

struct bench_connection *bench_connection_create(void)
{
	struct bench_connection *connection = calloc(1, sizeof(*connection));
	struct world_options options = {.family = AF_INET,
		.capacity = FLOWS,
		.nb_snat = world_snat_needed(FLOWS),
		.nb_replies = BENCH_BATCH,
		.nb_workers = 1};

	if (connection == NULL)
		bench_fail("no memory");
	for (unsigned m = 0; m < RTE_DIM(modes); m++) {
		struct state *state = &connection->states[m];
		state->mode = &modes[m];
		state->world = world_create(&options);
		state->now_ns = state->world->now_ms * 1000000;
		struct pipeline *pipeline = &state->world->workers[0]->pipeline;
		pipeline->timeout_s[TCP_TIME_WAIT] = modes[m].time_wait_s;
		pipeline->least_timeout_s[TCP_TIME_WAIT] = modes[m].time_wait_s;
	}
	return connection;
}

void bench_connection_measure(struct bench_connection *connection, unsigned round)
{
	struct cost cost;

	for (unsigned m = 0; m < RTE_DIM(modes); m++) {
		struct state *state = &connection->states[m];
		for (unsigned i = 0; !state->warm && i < state->mode->warm_up; i++)
			run_batch(state, &cost);
		state->warm = true;
		measure(state, round);
	}
}

void bench_connection_destroy(struct bench_connection *connection)
{
	for (unsigned m = 0; m < RTE_DIM(modes); m++)
		world_destroy(connection->states[m].world);
	free(connection);
}
