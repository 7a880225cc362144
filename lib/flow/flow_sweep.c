/* SPDX-License-Identifier: BSD-3-Clause */
/* Walks over the records, a share of them each worker: who is idle, and whoever
 * else is looked for. */
#include "flow_table.h"

#include <rte_common.h>

/* The records of worker w: [w, w + 1) of nb_workers equal parts. */
static uint32_t share_start(const struct flow_table *table, unsigned worker)
{
	return (uint64_t)table->capacity * worker / table->nb_workers;
}

uint32_t flow_table_share(const struct flow_table *table, unsigned worker)
{
	uint32_t start = share_start(table, worker), end = share_start(table, worker + 1);
	uint32_t fresh = __atomic_load_n(&table->fresh, __ATOMIC_ACQUIRE);

	return fresh <= start ? 0 : RTE_MIN(fresh, end) - start;
}

uint32_t flow_table_sweep(struct flow_table *table, unsigned worker, uint32_t count, uint32_t now_s,
	const uint16_t timeout_s[TCP_STATES], flow_idle_fn idle, void *context)
{
	struct flow_table_worker *own = &table->workers[worker];
	uint32_t start = share_start(table, worker), size = flow_table_share(table, worker);
	uint32_t nb_ended = 0;

	for (uint32_t i = 0; i < RTE_MIN(count, size) && flow_table_may_remove(table, worker);
		i++) {
		if (own->sweep >= size)
			own->sweep = 0;
		struct flow *flow = flow_table_record(table, start + own->sweep++);
		rte_prefetch0((uint8_t *)flow + 8 * table->record_size);
		enum tcp_state state = flow_state(flow);
		uint16_t idle_s = now_s - __atomic_load_n(&flow->last_seen, __ATOMIC_RELAXED);
		// Another worker's clock may have been read a little later than ours.
		if (likely(state == TCP_NONE || idle_s < timeout_s[state] ||
			    idle_s > UINT16_MAX - FLOW_CLOCK_SLACK_S))
			continue;
		enum flow_idle verdict = idle(context, flow, idle_s);
		nb_ended += verdict == FLOW_IDLE_ENDS;
		if (verdict == FLOW_IDLE_LATER) {
			own->sweep--;
			break;
		}
	}
	return nb_ended;
}

uint32_t flow_table_walk(struct flow_table *table, unsigned worker, uint32_t *at, uint32_t count,
	flow_seen_fn seen, void *context)
{
	uint32_t start = share_start(table, worker), size = flow_table_share(table, worker), i;

	for (i = 0; i < RTE_MIN(count, size); i++) {
		if (*at >= size)
			*at = 0;
		struct flow *flow = flow_table_record(table, start + *at);
		rte_prefetch0((uint8_t *)flow + 8 * table->record_size);
		if (flow_state(flow) != TCP_NONE && !seen(context, flow))
			break;
		(*at)++;
	}
	return i;
}
