/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Answers to a client go to the MAC that its latest packet came from, so the packet path needs no
 * routes. When that MAC is another one by now the kernel is told, by gratuitous ARP for instance,
 * and the flows are walked (case E7): what the server says next arrives though the client is
 * silent.
 */
#include "flow_moves.h"
#include "pipeline.h"

struct walk {
	struct flow_moves *moves;
	sa_family_t family;
};

static bool move(void *context, struct flow *flow)
{
	struct walk *walk = context;

	flow_moves_apply(walk->moves, flow, walk->family);
	return true;
}

bool pipeline_move_clients(struct pipeline *pipeline, uint32_t budget)
{
	struct flow_table *tables[] = {pipeline->flows4, pipeline->flows6};
	uint64_t round = pipeline->moves ? flow_moves_due(pipeline->moves, pipeline->worker) : 0;
	bool more = false;

	if (likely(round == 0))
		return false;
	// One table after the other: a tick is as long with two of them.
	for (unsigned i = 0; i < RTE_DIM(tables) && !more; i++) {
		if (tables[i] == NULL)
			continue;
		struct walk walk = {pipeline->moves, tables[i]->family};
		pipeline_walk_begin(pipeline, &pipeline->moving, i, round);
		more = pipeline_walk_on(pipeline, &pipeline->moving, i, budget, 0, move, &walk);
	}
	if (!more)
		flow_moves_walked(pipeline->moves, pipeline->worker, round);
	return more;
}
