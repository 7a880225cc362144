/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making room for a new connection when there is no record, no SNAT port towards a backend or no
 * place under its max_conns left. What is closed gives its record; a half-open flow gives all that
 * it holds, and the place in its backend's backlog too, by a RST; its client, if there is one, is
 * told when it asks. But for those that are younger than nearly all clients of their service take:
 * else real clients would put each other out.
 */
#include "pipeline.h"

#define RECORD_TRIES 4
#define EVICT_BURST 16

_Static_assert(EVICT_BURST <= FLOW_REMOVE_MAX, "room for them was asked for");

/* How long a half-open flow is left alone. */
static uint32_t usual_ms(
	const struct pipeline *pipeline, const struct service_table *table, const struct flow *flow)
{
	static const struct handshakes unknown;
	uint32_t id = FLOW_BACKEND_ID(flow->backend);

	if (id >= table->nb_backends || table->backends[id].service >= table->nb_services)
		return handshake_usual_ms(&unknown);
	return handshake_usual_ms(&pipeline->handshakes[table->backends[id].service]);
}

bool pipeline_may_give_way(const struct pipeline *pipeline, const struct service_table *table,
	const struct flow *flow, uint64_t now_ms)
{
	return flow_half_open_ms(flow, now_ms) > usual_ms(pipeline, table, flow);
}

bool pipeline_give_way(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, enum stats_gave_way why)
{
	struct stats_flows *counters = &pipeline->stats->live.flows[stats_family(flows->family)];
	enum tcp_state state = pipeline_end_half_open(pipeline, table, flows, flow);

	if (state == TCP_NONE)
		return false;
	counters->evicted++;
	counters->gave_way[why]++;
	// Without a buffer its backend waits for a while in vain, and asks by itself then.
	if (!pipeline_reset_backend(pipeline, table, flows, flow, state))
		counters->gave_way_silent++;
	return true;
}

/* The oldest half-open flow of all, if it may give way; this worker's before the others'. */
static bool half_open_gives_way(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, uint64_t now_ms)
{
	for (unsigned i = 0; i < flows->nb_workers; i++) {
		struct flow *flow =
			flow_table_half_open(flows, (pipeline->worker + i) % flows->nb_workers);
		if (flow == NULL || !pipeline_may_give_way(pipeline, table, flow, now_ms))
			continue;
		// If another worker was faster, there is room, too.
		pipeline_give_way(pipeline, table, flows, flow, STATS_GAVE_WAY_RECORD);
		return true;
	}
	return false;
}

/* Closed flows several at a time, so that their misses overlap, a half-open one alone. */
static bool make_room(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, uint64_t now_ms)
{
	struct flow *closed[EVICT_BURST];
	uint32_t count = flow_table_closed(flows, pipeline->worker, closed, EVICT_BURST);

	if (count == 0)
		return half_open_gives_way(pipeline, table, flows, now_ms);
	pipeline->stats->live.flows[stats_family(flows->family)].evicted +=
		pipeline_end_flows(pipeline, table, flows, closed, count);
	return true;
}

/*
 * Other workers may take the room that is made, or make some, between two steps of ours. Below the
 * limit it is a grace period that is waited for, and nothing is won by more room.
 */
struct flow *pipeline_record_get(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, uint64_t now_ms)
{
	struct flow *flow = flow_table_alloc(flows, pipeline->worker);

	for (unsigned i = 0; unlikely(flow == NULL) && i < RECORD_TRIES; i++) {
		if (!flow_table_may_remove(flows, pipeline->worker) ||
			(flow_table_used(flows) >= flows->limit &&
				!make_room(pipeline, table, flows, now_ms)))
			return NULL;
		flow = flow_table_alloc(flows, pipeline->worker);
	}
	return flow;
}
