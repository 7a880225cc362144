/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which flows give way when the table is full: two queues a worker, of closed and of half-open
 * flows, filled as they enter those states. The queues aren't mended when a flow leaves its state:
 * what they say is checked when it is looked at.
 */
#include "flow_lock.h"
#include "flow_table.h"

#define AHEAD 16 // places in a queue: as many as are popped in a row

/* Written under the lock, looked at without it. */
static void fifo_advance(uint32_t *end, uint32_t by)
{
	__atomic_store_n(end, *end + by, __ATOMIC_RELAXED);
}

static bool fifo_is_empty(const struct flow_fifo *fifo)
{
	return __atomic_load_n(&fifo->head, __ATOMIC_RELAXED) ==
		__atomic_load_n(&fifo->tail, __ATOMIC_RELAXED);
}

static void fifo_push(struct flow_fifo *fifo, uint32_t record)
{
	if (fifo->tail - fifo->head > fifo->mask)
		fifo_advance(&fifo->head, 1);
	fifo->ring[fifo->tail & fifo->mask] = record;
	fifo_advance(&fifo->tail, 1);
}

static void push(struct flow_table *table, struct flow_table_worker *own, struct flow_fifo *fifo,
	struct flow *flow)
{
	flow_lock_take(&own->fifo_lock);
	fifo_push(fifo, flow_table_number(table, flow));
	flow_lock_release(&own->fifo_lock);
}

void flow_table_queue(
	struct flow_table *table, unsigned worker, struct flow *flow, enum tcp_state state)
{
	struct flow_table_worker *own = &table->workers[worker];

	if (tcp_state_closed(state))
		push(table, own, &own->closed, flow);
	else if (state == TCP_SYN_SENT)
		push(table, own, &own->half_open, flow);
}

/*
 * The first flow that is closed or half open, as `wanted` says, popped or left where it is; passes
 * over `budget` others at most.
 */
static struct flow *fifo_first(struct flow_table *table, struct flow_fifo *fifo,
	bool (*wanted)(enum tcp_state), bool pop, uint32_t *budget)
{
	while (fifo->head != fifo->tail && *budget != 0) {
		struct flow *flow = flow_table_record(table, fifo->ring[fifo->head & fifo->mask]);
		// Several are popped at a time: the next ones' records are asked for.
		rte_prefetch0(
			flow_table_record(table, fifo->ring[(fifo->head + AHEAD) & fifo->mask]));
		if (wanted(flow_state(flow))) {
			fifo_advance(&fifo->head, pop);
			return flow;
		}
		fifo_advance(&fifo->head, 1);
		(*budget)--;
	}
	return NULL;
}

static bool nothing_gives_way(const struct flow_table_worker *owner)
{
	return fifo_is_empty(&owner->closed) && fifo_is_empty(&owner->half_open);
}

static struct flow *pop_oldest(
	struct flow_table *table, struct flow_table_worker *owner, uint32_t *budget)
{
	struct flow *flow;

	// Not worth a lock: a table full of established flows refuses SYNs by the million.
	if (nothing_gives_way(owner))
		return NULL;
	flow_lock_take(&owner->fifo_lock);
	flow = fifo_first(table, &owner->closed, tcp_state_closed, true, budget);
	if (flow == NULL)
		flow = fifo_first(table, &owner->half_open, tcp_state_half_open, true, budget);
	flow_lock_release(&owner->fifo_lock);
	return flow;
}

bool flow_table_is_exhausted(const struct flow_table *table)
{
	if (likely(flow_table_used(table) < table->limit))
		return false;
	for (unsigned w = 0; w < table->nb_workers; w++)
		if (!nothing_gives_way(&table->workers[w]))
			return false;
	return true;
}

struct flow *flow_table_oldest(struct flow_table *table, unsigned worker)
{
	uint32_t budget = FLOW_STALE_MAX;
	struct flow *flow = NULL;

	// A worker that gets all SYNs of a flood mustn't leave nothing to the others.
	for (unsigned i = 0; i < table->nb_workers && flow == NULL && budget != 0; i++)
		flow = pop_oldest(
			table, &table->workers[(worker + i) % table->nb_workers], &budget);
	return flow;
}

static bool mend_queue(struct flow_table *table, struct flow_table_worker *own,
	struct flow_fifo *fifo, bool (*wanted)(enum tcp_state), uint32_t budget)
{
	bool empty;

	flow_lock_take(&own->fifo_lock);
	empty = fifo_first(table, fifo, wanted, false, &budget) == NULL && budget != 0;
	flow_lock_release(&own->fifo_lock);
	return empty && flow_table_used(table) >= table->limit;
}

struct flow_wanted flow_table_mend_queues(
	struct flow_table *table, unsigned worker, uint32_t budget)
{
	struct flow_table_worker *own = &table->workers[worker];

	return (struct flow_wanted){
		.closed = mend_queue(table, own, &own->closed, tcp_state_closed, budget),
		.half_open = mend_queue(table, own, &own->half_open, tcp_state_half_open, budget),
	};
}

void flow_table_queue_wanted(struct flow_table *table, unsigned worker, struct flow *flow,
	enum tcp_state state, struct flow_wanted wanted)
{
	struct flow_table_worker *own = &table->workers[worker];

	if (wanted.closed && tcp_state_closed(state))
		push(table, own, &own->closed, flow);
	else if (wanted.half_open && tcp_state_half_open(state))
		push(table, own, &own->half_open, flow);
}
