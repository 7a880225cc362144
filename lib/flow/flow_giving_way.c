/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which flows give way to new ones: those that are closed, and those that are half open, oldest
 * first. Each worker has queues of the flows that it made: one of the closed ones, and one of the
 * half-open ones of each backend, since it is a backend that has too few ports or places.
 *
 * A record stands in one queue at most, by its link, so that all are held, none twice, and none
 * that has left its state: a change of state, not a packet, takes it out, wherever it stands. Who
 * changed a state settles the flow afterwards, by the state that it has then. So whoever comes last
 * leaves it where it belongs, in whatever order the workers changed it.
 *
 * The oldest half-open flow of all backends is at the top of a heap of these. What it goes by is
 * looked at only when somebody asks: until then a queue may have lost its first flows, and have an
 * oldest that is younger than its rank says, never an older one.
 */
#include <errno.h>
#include <rte_prefetch.h>
#include <sys/mman.h>

#include "flow_lock.h"
#include "flow_table.h"

// Ranks mended at a time: those that are left are mended by who asks next.
#define MENDED_MAX 64

enum place { NOWHERE, AMONG_CLOSED, AMONG_HALF_OPEN };

#define NB_BACKENDS ((size_t)1 << FLOW_BACKEND_ID_BITS)
#define QUEUES_SIZE (NB_BACKENDS * (sizeof(struct flow_queue) + sizeof(struct flow_rank)))

int flow_table_map_queues(struct flow_table *table)
{
	// Few backends of those that an id can name: the others' memory is never touched.
	void *start = mmap(NULL, table->nb_workers * QUEUES_SIZE, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED)
		return -errno;
	for (unsigned w = 0; w < table->nb_workers; w++) {
		table->workers[w].half_open =
			(struct flow_queue *)((uint8_t *)start + w * QUEUES_SIZE);
		table->workers[w].ranks =
			(struct flow_rank *)(table->workers[w].half_open + NB_BACKENDS);
	}
	return 0;
}

void flow_table_unmap_queues(struct flow_table *table)
{
	munmap(table->workers[0].half_open, table->nb_workers * QUEUES_SIZE);
}

/* --- the heap of backends, by when the SYN of their oldest half-open flow came --- */

static bool is_before(const struct flow_rank *a, const struct flow_rank *b)
{
	return (int32_t)(a->since_ms - b->since_ms) < 0;
}

static void rank_up(struct flow_rank *ranks, uint32_t at, struct flow_rank rank)
{
	for (; at != 0 && is_before(&rank, &ranks[(at - 1) / 2]); at = (at - 1) / 2)
		ranks[at] = ranks[(at - 1) / 2];
	ranks[at] = rank;
}

/* From the top. */
static void rank_down(struct flow_rank *ranks, uint32_t count, struct flow_rank rank)
{
	uint32_t at = 0, child;

	for (; (child = 2 * at + 1) < count; at = child) {
		child += child + 1 < count && is_before(&ranks[child + 1], &ranks[child]);
		if (!is_before(&ranks[child], &rank))
			break;
		ranks[at] = ranks[child];
	}
	ranks[at] = rank;
}

/* --- queues, each under the lock of its worker --- */

static enum place place_of(enum tcp_state state)
{
	if (tcp_state_closed(state))
		return AMONG_CLOSED;
	return tcp_state_half_open(state) ? AMONG_HALF_OPEN : NOWHERE;
}

/* Read without the lock. */
static void queue_begin_with(struct flow_queue *queue, uint32_t oldest)
{
	__atomic_store_n(&queue->oldest, oldest, __ATOMIC_RELAXED);
}

static struct flow *queue_oldest(const struct flow_table *table, const struct flow_queue *queue)
{
	uint32_t oldest = __atomic_load_n(&queue->oldest, __ATOMIC_RELAXED);

	return oldest == 0 ? NULL : flow_table_record(table, oldest - 1);
}

static struct flow_queue *queue_at(
	struct flow_table_worker *maker, enum place place, const struct flow *flow)
{
	return place == AMONG_CLOSED ? &maker->closed
				     : &maker->half_open[FLOW_BACKEND_ID(flow->backend)];
}

static void count_half_open(struct flow_table_worker *maker, int count)
{
	__atomic_store_n(&maker->nb_half_open, maker->nb_half_open + count, __ATOMIC_RELAXED);
}

static void put_last(struct flow_table *table, struct flow_table_worker *maker,
	const struct flow *flow, struct flow_link *link, enum place place)
{
	struct flow_queue *queue = queue_at(maker, place, flow);
	uint32_t number = flow_table_number(table, flow) + 1;

	link->place = place;
	link->next = 0;
	link->previous = queue->newest;
	if (queue->newest != 0)
		table->links[queue->newest - 1].next = number;
	else
		queue_begin_with(queue, number);
	queue->newest = number;
	if (place != AMONG_HALF_OPEN)
		return;
	count_half_open(maker, 1);
	if (!queue->is_ranked)
		rank_up(maker->ranks, maker->nb_ranks++,
			(struct flow_rank){flow_since_ms(flow), FLOW_BACKEND_ID(flow->backend)});
	queue->is_ranked = true;
}

static void take_out(struct flow_table *table, struct flow_table_worker *maker,
	const struct flow *flow, struct flow_link *link)
{
	struct flow_queue *queue = queue_at(maker, link->place, flow);

	if (link->next != 0)
		table->links[link->next - 1].previous = link->previous;
	else
		queue->newest = link->previous;
	if (link->previous != 0)
		table->links[link->previous - 1].next = link->next;
	else
		queue_begin_with(queue, link->next);
	if (link->place == AMONG_HALF_OPEN)
		count_half_open(maker, -1);
	link->place = NOWHERE;
}

/* Under the lock: into the queue of the state that it has now, and out of any other. */
static void settle(struct flow_table *table, struct flow_table_worker *maker, struct flow *flow)
{
	struct flow_link *link = &table->links[flow_table_number(table, flow)];
	enum place place = place_of(flow_state(flow));

	if (link->place == place)
		return;
	if (link->place != NOWHERE)
		take_out(table, maker, flow, link);
	if (place != NOWHERE)
		put_last(table, maker, flow, link, place);
}

static void settle_locked(struct flow_table *table, struct flow *flow)
{
	struct flow_table_worker *maker = &table->workers[flow_worker(flow)];

	flow_lock_take(&maker->queue_lock);
	settle(table, maker, flow);
	flow_lock_release(&maker->queue_lock);
}

void flow_table_settle(
	struct flow_table *table, struct flow *flow, enum tcp_state from, enum tcp_state to)
{
	if (place_of(from) != place_of(to))
		settle_locked(table, flow);
}

/* --- who is next --- */

static bool nothing_gives_way(const struct flow_table_worker *maker)
{
	return __atomic_load_n(&maker->closed.oldest, __ATOMIC_RELAXED) == 0 &&
		__atomic_load_n(&maker->nb_half_open, __ATOMIC_RELAXED) == 0;
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

static uint32_t closed_of(struct flow_table *table, struct flow_table_worker *maker,
	struct flow **flows, uint32_t count)
{
	uint32_t found = 0;

	// Not worth a lock: a table full of established flows refuses SYNs by the million.
	if (queue_oldest(table, &maker->closed) == NULL)
		return 0;
	flow_lock_take(&maker->queue_lock);
	for (uint32_t at = maker->closed.oldest; at != 0 && found < count;
		at = table->links[at - 1].next)
		flows[found++] = flow_table_record(table, at - 1);
	flow_lock_release(&maker->queue_lock);
	return found;
}

uint32_t flow_table_closed(
	struct flow_table *table, unsigned worker, struct flow **flows, uint32_t count)
{
	uint32_t found = 0;

	// A worker that gets all connections mustn't leave nothing to the others.
	for (unsigned i = 0; i < table->nb_workers && found == 0; i++)
		found = closed_of(
			table, &table->workers[(worker + i) % table->nb_workers], flows, count);
	return found;
}

/* A flow that has just changed its state, and isn't settled yet, is out of the question. */
static bool is_half_open(const struct flow *flow)
{
	return tcp_state_half_open(flow_state(flow));
}

struct flow *flow_table_half_open(struct flow_table *table, unsigned maker)
{
	struct flow_table_worker *own = &table->workers[maker];
	struct flow *oldest = NULL;

	if (__atomic_load_n(&own->nb_half_open, __ATOMIC_RELAXED) == 0)
		return NULL;
	flow_lock_take(&own->queue_lock);
	for (unsigned i = 0; own->nb_ranks != 0 && i < MENDED_MAX; i++) {
		struct flow_rank top = own->ranks[0];
		struct flow_queue *queue = &own->half_open[top.backend];
		if ((oldest = queue_oldest(table, queue)) == NULL) {
			queue->is_ranked = false;
			top = own->ranks[--own->nb_ranks];
		} else {
			uint32_t since_ms = flow_since_ms(oldest);
			// Behind its state another number may stand there.
			__atomic_thread_fence(__ATOMIC_ACQUIRE);
			if (!is_half_open(oldest))
				settle(table, own, oldest);
			else if (since_ms == top.since_ms)
				break;
			else
				top.since_ms = since_ms;
			oldest = NULL;
		}
		rank_down(own->ranks, own->nb_ranks, top);
	}
	flow_lock_release(&own->queue_lock);
	return oldest;
}

struct flow *flow_table_half_open_of(struct flow_table *table, uint32_t backend)
{
	struct flow *oldest = NULL;

	for (unsigned w = 0; w < table->nb_workers; w++) {
		const struct flow_queue *queue = &table->workers[w].half_open[backend];
		struct flow *flow;
		while ((flow = queue_oldest(table, queue)) != NULL && !is_half_open(flow))
			settle_locked(table, flow);
		if (flow != NULL &&
			(oldest == NULL ||
				(int32_t)(flow_since_ms(flow) - flow_since_ms(oldest)) < 0))
			oldest = flow;
	}
	return oldest;
}
