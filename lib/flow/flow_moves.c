/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_moves.h"

#include <errno.h>
#include <stdlib.h>

struct flow_moves *flow_moves_create(unsigned nb_workers)
{
	struct flow_moves *moves = calloc(1, sizeof(*moves) + nb_workers * sizeof(moves->done[0]));

	if (moves == NULL)
		return NULL;
	moves->nb_workers = nb_workers;
	moves->rows = calloc(FLOW_MOVES_MAX, sizeof(*moves->rows));
	if (moves->rows == NULL) {
		free(moves);
		errno = ENOMEM;
		return NULL;
	}
	return moves;
}

void flow_moves_destroy(struct flow_moves *moves)
{
	if (moves == NULL)
		return;
	free(moves->rows);
	free(moves);
}

bool flow_moves_are_done(const struct flow_moves *moves)
{
	uint64_t round = __atomic_load_n(&moves->round, __ATOMIC_RELAXED);

	// Acquire: the worker's last look at the rows lies before.
	for (uint32_t w = 0; w < moves->nb_workers; w++)
		if (__atomic_load_n(&moves->done[w], __ATOMIC_ACQUIRE) != round)
			return false;
	return true;
}

static int compare(const void *a, const void *b)
{
	const struct flow_move *first = a, *second = b;

	if (first->from != second->from)
		return first->from < second->from ? -1 : 1;
	return net_addr_compare(&first->client, &second->client);
}

void flow_moves_begin(struct flow_moves *moves, uint32_t count)
{
	qsort(moves->rows, count, sizeof(*moves->rows), compare);
	moves->nb_rows = count;
	// Release: whoever sees the round sees its rows.
	__atomic_fetch_add(&moves->round, 1, __ATOMIC_RELEASE);
}

/* Whether any row is for that MAC: of most flows, none is. */
static bool has_rows(const struct flow_moves *moves, uint64_t from)
{
	uint32_t low = 0, high = moves->nb_rows;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (moves->rows[middle].from < from)
			low = middle + 1;
		else
			high = middle;
	}
	return low < moves->nb_rows && moves->rows[low].from == from;
}

/* The row that the flow's client goes by. */
static struct flow_move *find(
	const struct flow_moves *moves, uint64_t from, struct flow *flow, sa_family_t family)
{
	struct flow_move all = {.from = from, .client.family = family}, own = all;
	struct flow_move *found;

	if (!has_rows(moves, from))
		return NULL;
	memcpy(own.client.v6, flow_addr(flow, family, FLOW_CLIENT), net_addr_size(family));
	found = bsearch(&own, moves->rows, moves->nb_rows, sizeof(own), compare);
	if (found != NULL)
		return found;
	return bsearch(&all, moves->rows, moves->nb_rows, sizeof(all), compare);
}

void flow_moves_apply(struct flow_moves *moves, struct flow *flow, sa_family_t family)
{
	uint64_t word = __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);
	struct flow_move *row = find(moves, word & FLOW_MAC_OF_WORD, flow, family);

	if (row == NULL || row->to == row->from)
		return;
	// A packet of the client's own, which another worker has now, knows better.
	if (__atomic_compare_exchange_n(&flow->client_word, &word,
		    row->to | (word & ~FLOW_MAC_OF_WORD), false, __ATOMIC_RELAXED,
		    __ATOMIC_RELAXED))
		__atomic_fetch_add(&row->nb_flows, 1, __ATOMIC_RELAXED);
}

void flow_moves_walked(struct flow_moves *moves, unsigned worker, uint64_t round)
{
	// Release: the rows aren't looked at any more.
	__atomic_store_n(&moves->done[worker], round, __ATOMIC_RELEASE);
}
