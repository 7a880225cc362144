/* SPDX-License-Identifier: BSD-3-Clause */
#include "pipeline.h"

#include <rte_common.h>

#define WALK_FACTOR 8 // records a tick, by the sweep's budget: most need a look only

static struct flow_table *flows_of(const struct pipeline *pipeline, unsigned table)
{
	return table == 0 ? pipeline->flows4 : pipeline->flows6;
}

void pipeline_walk_begin(
	struct pipeline *pipeline, struct pipeline_walk *walk, unsigned table, uint64_t round)
{
	if (likely(walk->round[table] == round))
		return;
	walk->round[table] = round;
	// From the first one on: those that come meanwhile stand behind the last, and each of the
	// others is met once.
	walk->at[table] = 0;
	walk->left[table] = flow_table_share(flows_of(pipeline, table), pipeline->worker);
}

bool pipeline_walk_on(struct pipeline *pipeline, struct pipeline_walk *walk, unsigned table,
	uint32_t budget, uint32_t pace, flow_seen_fn seen, void *context)
{
	uint32_t left = walk->left[table];
	uint32_t count = left != 0 ? RTE_MIN(left, budget * WALK_FACTOR) : pace;
	uint32_t walked = flow_table_walk(flows_of(pipeline, table), pipeline->worker,
		&walk->at[table], count, seen, context);

	walk->left[table] = left - RTE_MIN(walked, left);
	return walk->left[table] != 0;
}
