/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_common.h>
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "bench_connection.h"
#include "bench_traffic.h"
#include "bench_world.h"
#include "snat.h"

#define DEFAULT_FLOWS 1048576 // of the file
#define BATCHES 128           // of 4,096 packets, a row and round
#define SPARE_FLOWS 64        // between the rows' flows and the table's limit, at most

static const uint32_t flow_counts[] = {16, 1024, 65536, 1048576, 8388608};
static const sa_family_t families[] = {AF_INET, AF_INET6};

#define NB_ROWS (RTE_DIM(flow_counts) * RTE_DIM(families))

static unsigned family_number(sa_family_t family)
{
	return family == AF_INET6 ? 6 : 4;
}

static unsigned log2_of(uint32_t power)
{
	return __builtin_ctz(power);
}

/* --- established flows --- */

static struct world *established_create(sa_family_t family, uint32_t flows)
{
	struct world_options options = {
		.family = family,
		.capacity = RTE_MAX(world_capacity(flows), (uint32_t)DEFAULT_FLOWS),
		.nb_snat = world_snat_needed(flows),
		.nb_replies = flows + SPARE_FLOWS,
		.nb_workers = 1,
	};
	struct world *world = world_create(&options);

	traffic_establish(world, 0, 0, flows);
	world->nb_flows = flows;
	return world;
}

static void established_measure(struct world *world, struct traffic_order *order, unsigned round)
{
	static struct bench_samples samples;
	struct rte_mbuf **mbufs = world->workers[0]->mbufs;

	// The first batches don't count: they warm up the code and what of the flows fits a cache.
	unsigned warm_up = 1 + RTE_MIN(2 * world->nb_flows / BENCH_BATCH, 32u);

	for (unsigned batch = 0; batch < warm_up + BATCHES; batch++) {
		for (unsigned i = 0; i < BENCH_BATCH; i++) {
			uint32_t at = traffic_order_next(order);
			traffic_write(world, mbufs[i], at >> 1,
				at & 1 ? TRAFFIC_BACKEND_ACK : TRAFFIC_ACK);
		}
		uint64_t cycles = traffic_run(world, 0, BENCH_BATCH);
		if (batch >= warm_up)
			bench_samples_add(&samples, (double)cycles / BENCH_BATCH);
	}
	bench_print("established", "\"family\": %u, \"flows\": %u, \"round\": %u, \"cycles\": %.2f",
		family_number(world->family), world->nb_flows, round, bench_samples_take(&samples));
}

/* --- the SYN that is refused --- */

/* SYNs of clients that nobody knows, against a table without room, all of it established. */
static void refused_measure(struct world *world, uint32_t *next_client, unsigned round)
{
	static struct bench_samples samples;
	struct world_worker *worker = world->workers[0];
	struct pipeline *pipeline = &worker->pipeline;

	for (unsigned batch = 0; batch <= BATCHES / 4; batch++) {
		uint64_t cycles = 0;
		for (unsigned i = 0; i < BENCH_BATCH; i++)
			traffic_write(world, worker->mbufs[i], (*next_client)++, TRAFFIC_SYN);
		for (uint32_t at = 0; at < BENCH_BATCH; at += PIPELINE_BURST) {
			uint64_t start = rte_rdtsc();
			pipeline_run(pipeline, worker->mbufs + at, PIPELINE_BURST, world->now_ms);
			cycles += rte_rdtsc() - start;
			if (pipeline->reply.count != PIPELINE_BURST)
				bench_fail("a SYN wasn't refused");
			pipeline->reply.count = 0;
		}
		world_quiescent(world, 0);
		if (batch != 0)
			bench_samples_add(&samples, (double)cycles / BENCH_BATCH);
	}
	bench_print("refused_syn", "\"family\": %u, \"round\": %u, \"cycles\": %.2f",
		family_number(world->family), round, bench_samples_take(&samples));
}

/* What still fits, one by one: the table holds as many as it has room for. */
static void refused_fill(struct world *world)
{
	struct flow_table *table = world->table;

	for (unsigned i = 0; i < SPARE_FLOWS && flow_table_used(table) < table->limit; i++)
		traffic_establish(world, 0, world->nb_flows + i, 1);
}

/* --- bytes --- */

static void bytes_print(sa_family_t family)
{
	struct world_options options = {.family = family,
		.capacity = DEFAULT_FLOWS,
		.nb_snat = 1,
		.nb_replies = 1,
		.nb_workers = 1};
	struct world *world = world_create(&options);

	bench_print("bytes",
		"\"family\": %u, \"flows\": %u, \"bytes_per_flow\": %.2f, "
		"\"table\": %zu, \"pools\": %zu",
		family_number(family), DEFAULT_FLOWS, (double)world_size(world) / DEFAULT_FLOWS,
		flow_table_size(world->table), world_size(world) - flow_table_size(world->table));
	world_destroy(world);
}

/* --- the parts --- */

struct rows {
	struct world *worlds[NB_ROWS];
	struct traffic_order orders[NB_ROWS];
};

static void rows_create(struct rows *rows, const struct bench_rounds *rounds)
{
	unsigned n = 0;

	memset(rows, 0, sizeof(*rows));
	for (unsigned f = 0; f < RTE_DIM(families); f++) {
		for (unsigned i = 0; i < RTE_DIM(flow_counts); i++, n++) {
			if ((rounds->flows != 0 && rounds->flows != flow_counts[i]) ||
				(rounds->family != 0 &&
					rounds->family != family_number(families[f])))
				continue;
			rows->worlds[n] = established_create(families[f], flow_counts[i]);
			rows->orders[n].bits = log2_of(flow_counts[i]) + 1;
		}
	}
}

static void rows_destroy(struct rows *rows)
{
	for (unsigned n = 0; n < NB_ROWS; n++)
		if (rows->worlds[n] != NULL)
			world_destroy(rows->worlds[n]);
}

static void rows_measure(struct rows *rows, unsigned round)
{
	for (unsigned n = 0; n < NB_ROWS; n++)
		if (rows->worlds[n] != NULL)
			established_measure(rows->worlds[n], &rows->orders[n], round);
}

void bench_established(struct bench_rounds *rounds)
{
	struct rows rows;

	rows_create(&rows, rounds);
	while (bench_rounds_next(rounds))
		rows_measure(&rows, rounds->done - 1);
	rows_destroy(&rows);
}

void bench_refused(struct bench_rounds *rounds)
{
	struct world *world = established_create(AF_INET, DEFAULT_FLOWS);
	uint32_t next_client = 1u << 28;

	refused_fill(world);
	while (bench_rounds_next(rounds))
		refused_measure(world, &next_client, rounds->done - 1);
	world_destroy(world);
}

void bench_connections(struct bench_rounds *rounds)
{
	struct bench_connection *connection = bench_connection_create();

	while (bench_rounds_next(rounds))
		bench_connection_measure(connection, rounds->done - 1);
	bench_connection_destroy(connection);
}

void bench_packet_path(struct bench_rounds *rounds)
{
	rounds->flows = rounds->family = 0; // the rest needs all rows
	struct world *million = NULL;
	uint32_t next_client = 1u << 28;
	struct rows rows;

	for (unsigned f = 0; f < RTE_DIM(families); f++)
		bytes_print(families[f]);
	rows_create(&rows, rounds);
	for (unsigned n = 0; n < RTE_DIM(flow_counts); n++)
		if (flow_counts[n] == DEFAULT_FLOWS)
			million = rows.worlds[n];
	struct bench_connection *connection = bench_connection_create();
	while (bench_rounds_next(rounds)) {
		rows_measure(&rows, rounds->done - 1);
		refused_fill(million);
		refused_measure(million, &next_client, rounds->done - 1);
		bench_connection_measure(connection, rounds->done - 1);
	}
	bench_connection_destroy(connection);
	rows_destroy(&rows);
}
