/* SPDX-License-Identifier: BSD-3-Clause */
#include "pipeline.h"

#include <rte_common.h>

#include "log.h"

// Every record is looked at once in so many ms: how late a flow may expire.
#define SWEEP_PERIOD_MS 2000
#define GRACE_REPORT_MS 1000

_Static_assert(SERVICE_STATES == TCP_STATES, "times by state");

/* Flows that a sweep found idle, ended a burst at a time. */
struct sweep {
	struct pipeline *pipeline;
	const struct service_table *table;
	struct flow_table *flows;
	struct flow *idle[FLOW_REMOVE_MAX];
	uint32_t nb_idle;
	bool is_stopped; // the out burst is full
};

static void end_idle(struct sweep *sweep)
{
	sweep->pipeline->stats->live.flows[stats_family(sweep->flows->family)].expired +=
		pipeline_end_flows(
			sweep->pipeline, sweep->table, sweep->flows, sweep->idle, sweep->nb_idle);
	sweep->nb_idle = 0;
}

/* What the flow's service says; the pipeline's times are for those that say nothing. */
static const struct service *service_of(const struct service_table *table, const struct flow *flow)
{
	uint32_t id = FLOW_BACKEND_ID(flow->backend);

	if (table == NULL || id >= table->nb_backends ||
		table->backends[id].generation != FLOW_BACKEND_GENERATION(flow->backend) ||
		table->backends[id].service >= table->nb_services)
		return NULL;
	return table->services[table->backends[id].service];
}

/* Idle for longer than the shortest time of any service. */
static enum flow_idle look(void *context, struct flow *flow, uint16_t idle_s)
{
	struct sweep *sweep = context;
	const struct service *service = service_of(sweep->table, flow);
	enum tcp_state state = flow_state(flow);
	uint16_t limit_s = __atomic_load_n(&sweep->pipeline->timeout_s[state], __ATOMIC_RELAXED);

	if (service != NULL && service->timeout_s[state] != 0)
		limit_s = service->timeout_s[state];
	if (state == TCP_NONE || idle_s < limit_s)
		return FLOW_IDLE_STAYS;
	if (state == TCP_ESTABLISHED && service != NULL && service->reset_when_idle) {
		if (!pipeline_reset_ends(sweep->pipeline, sweep->table, sweep->flows, flow)) {
			sweep->is_stopped = true;
			return FLOW_IDLE_LATER;
		}
		sweep->pipeline->stats->live.flows[stats_family(sweep->flows->family)]
			.expired_reset++;
	}
	sweep->idle[sweep->nb_idle++] = flow;
	if (sweep->nb_idle == FLOW_REMOVE_MAX)
		end_idle(sweep);
	return FLOW_IDLE_ENDS;
}

/* False: not all was looked at, for want of room for packets. */
static bool sweep(
	struct pipeline *pipeline, struct flow_table *flows, uint32_t count, uint64_t now_ms)
{
	struct sweep context = {
		.pipeline = pipeline,
		.table = __atomic_load_n(pipeline->services, __ATOMIC_ACQUIRE),
		.flows = flows,
	};

	flow_table_sweep(flows, pipeline->worker, count, now_ms / 1000, pipeline->least_timeout_s,
		look, &context);
	end_idle(&context);
	return !context.is_stopped;
}

bool pipeline_tick(struct pipeline *pipeline, uint64_t now_ms, uint32_t budget)
{
	struct flow_table *tables[] = {pipeline->flows4, pipeline->flows6};
	uint64_t elapsed_ms = RTE_MIN(now_ms - pipeline->swept_ms, (uint64_t)SWEEP_PERIOD_MS);
	bool more = false;

	pipeline->now_s = pipeline_second(now_ms);
	pipeline->now_us = now_ms * 1000 + pipeline->now_part_us;
	pipeline->swept_ms = now_ms;
	// First of all: whoever is told something below is told it where he is now.
	bool moves = pipeline_move_clients(pipeline, budget);
	for (unsigned i = 0; i < RTE_DIM(tables); i++) {
		if (tables[i] == NULL)
			continue;
		flow_table_reclaim(tables[i], pipeline->worker, now_ms);
		more |= flow_index_grow(tables[i]);
		if (flow_table_grace_age(tables[i], pipeline->worker, now_ms) > GRACE_REPORT_MS)
			log_limited(LOG_LEVEL_WARNING,
				"worker %u: a grace period has been waiting for over a second: "
				"some worker is stuck",
				pipeline->worker);
		// What the budget doesn't allow stays due, at the most every record once.
		uint64_t share = flow_table_share(tables[i], pipeline->worker);
		uint64_t due = pipeline->sweep_due[i];
		if (elapsed_ms != 0)
			due = RTE_MIN(due + share * elapsed_ms / SWEEP_PERIOD_MS + 1, share + 1);
		uint32_t count = RTE_MIN(due, (uint64_t)budget);
		if (count != 0 && sweep(pipeline, tables[i], count, now_ms))
			due -= count;
		pipeline->sweep_due[i] = due;
		more |= due != 0;
	}
	more |= pipeline_connect_tick(pipeline, now_ms);
	more |= moves || pipeline_reset_flows(pipeline, now_ms, budget);
	return more;
}
