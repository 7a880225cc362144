/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_table.h"

#include <errno.h>
#include <rte_rcu_qsbr.h>
#include <stdlib.h>

#include "flow_lock.h"
#include "tsan.h"

// Where a test ends the process, to adopt what is left (tests/unit/flow/test_torn.c).
#ifndef FLOW_KILL_POINT
#define FLOW_KILL_POINT() ((void)0)
#endif

/* The parts of the one mapping, in this order: records if they aren't elsewhere, buckets, links. */
static size_t layout(const struct flow_table *table, size_t *buckets_at, size_t *links_at)
{
	*buckets_at = table->own_records ? (size_t)table->capacity * table->record_size : 0;
	*links_at = *buckets_at + (size_t)table->index.nb_buckets * sizeof(struct flow_bucket);
	return *links_at + (size_t)table->capacity * sizeof(struct flow_link);
}

struct flow_table *flow_table_create(sa_family_t family, uint32_t flows, uint32_t nb_workers,
	const struct hash_key *key, struct rte_rcu_qsbr *rcu, int numa_node, bool hugepages)
{
	return flow_table_create_over(
		NULL, family, flows, nb_workers, key, rcu, numa_node, hugepages);
}

struct flow_table *flow_table_create_over(void *records, sa_family_t family, uint32_t flows,
	uint32_t nb_workers, const struct hash_key *key, struct rte_rcu_qsbr *rcu, int numa_node,
	bool hugepages)
{
	struct flow_table *table;
	size_t buckets_at, links_at;
	int err;

	if (posix_memalign((void **)&table, 64, sizeof(*table)) != 0) {
		errno = ENOMEM;
		return NULL;
	}
	memset(table, 0, sizeof(*table));
	table->family = family;
	table->records = records;
	table->own_records = records == NULL;
	table->capacity = flows;
	table->limit = flows - flows / 10;
	table->nb_workers = nb_workers;
	// All caches together hold no more than the records beyond the limit.
	table->cache_size = RTE_MIN(RTE_MAX(flows / 10 / nb_workers, 1u), (uint32_t)FLOW_CACHE_MAX);
	table->rcu = rcu;
	table->index.nb_buckets = flow_index_size(flows);
	table->record_size = family == AF_INET6 ? sizeof(struct flow6) : sizeof(struct flow4);
	table->flow_offset =
		family == AF_INET6 ? offsetof(struct flow6, flow) : offsetof(struct flow4, flow);
	flow_hasher_init(&table->hasher, key, false);

	err = flow_memory_map(
		&table->memory, layout(table, &buckets_at, &links_at), numa_node, hugepages);
	if (err < 0)
		goto fail_table;
	err = -posix_memalign((void **)&table->workers, 64, nb_workers * sizeof(*table->workers));
	if (err < 0)
		goto fail_memory;
	memset(table->workers, 0, nb_workers * sizeof(*table->workers));
	err = flow_table_map_queues(table);
	if (err < 0)
		goto fail_workers;
	table->sides = flow_sides_create(flow_sides_count(flows), nb_workers, numa_node, hugepages);
	if (table->sides == NULL) {
		err = -errno;
		goto fail_queues;
	}

	uint8_t *start = table->memory.start;
	if (table->own_records)
		table->records = start;
	table->index.buckets = (struct flow_bucket *)(start + buckets_at);
	flow_index_fit(&table->index, 0);
	table->links = (struct flow_link *)(start + links_at);
	return table;

fail_queues:
	flow_table_unmap_queues(table);
fail_workers:
	free(table->workers);
fail_memory:
	flow_memory_unmap(&table->memory);
fail_table:
	free(table);
	errno = -err;
	return NULL;
}

void flow_table_destroy(struct flow_table *table)
{
	if (table == NULL)
		return;
	flow_sides_destroy(table->sides);
	flow_memory_unmap(&table->memory);
	flow_table_unmap_queues(table);
	free(table->workers);
	free(table);
}

size_t flow_table_size(const struct flow_table *table)
{
	size_t buckets_at, links_at;

	size_t elsewhere = table->own_records ? 0 : (size_t)table->capacity * table->record_size;

	return layout(table, &buckets_at, &links_at) + elsewhere + sizeof(*table) +
		table->nb_workers * sizeof(*table->workers) + flow_sides_size(table->sides);
}

/* --- free records --- */

static void cache_refill(struct flow_table *table, struct flow_table_worker *worker)
{
	flow_lock_take(&table->lock);
	while (worker->nb_cache < (table->cache_size + 1) / 2) {
		uint32_t record;
		if (table->free != 0) {
			record = table->free - 1;
			table->free = table->links[record].next;
		} else if (table->fresh < table->capacity) {
			record = table->fresh;
			// Read by the sweep of any worker.
			__atomic_store_n(&table->fresh, record + 1, __ATOMIC_RELEASE);
		} else {
			break;
		}
		worker->cache[worker->nb_cache++] = record;
	}
	flow_lock_release(&table->lock);
}

void flow_table_free(struct flow_table *table, uint32_t record)
{
	table->links[record].next = table->free;
	table->free = record + 1;
}

static void cache_spill(struct flow_table *table, struct flow_table_worker *worker)
{
	flow_lock_take(&table->lock);
	while (worker->nb_cache > table->cache_size / 2)
		flow_table_free(table, worker->cache[--worker->nb_cache]);
	flow_lock_release(&table->lock);
}

static void cache_put(struct flow_table *table, struct flow_table_worker *worker, uint32_t record)
{
	if (worker->nb_cache == table->cache_size)
		cache_spill(table, worker);
	worker->cache[worker->nb_cache++] = record;
}

struct flow *flow_table_alloc_spare(struct flow_table *table, unsigned worker)
{
	struct flow_table_worker *own = &table->workers[worker];

	if (own->nb_cache == 0)
		cache_refill(table, own);
	return own->nb_cache == 0 ? NULL : flow_table_record(table, own->cache[--own->nb_cache]);
}

void flow_table_give_back_spare(struct flow_table *table, unsigned worker, struct flow *flow)
{
	cache_put(table, &table->workers[worker], flow_table_number(table, flow));
}

struct flow *flow_table_alloc(struct flow_table *table, unsigned worker)
{
	struct flow *flow;
	uint32_t used;

	// A look first: a full table must not bounce the line between workers.
	if (flow_table_used(table) >= table->limit)
		return NULL;
	used = __atomic_fetch_add(&table->used, 1, __ATOMIC_RELAXED);
	if (used >= table->limit)
		goto full;
	if (unlikely(used >= __atomic_load_n(&table->index.grow_at, __ATOMIC_RELAXED)))
		flow_index_begin_growth(table);
	flow = flow_table_alloc_spare(table, worker);
	if (flow != NULL)
		return flow;
full:
	__atomic_fetch_sub(&table->used, 1, __ATOMIC_RELAXED);
	return NULL;
}

void flow_table_give_back(struct flow_table *table, unsigned worker, struct flow *flow)
{
	flow_table_give_back_spare(table, worker, flow);
	__atomic_fetch_sub(&table->used, 1, __ATOMIC_RELAXED);
}

/* --- insert and delete --- */

/* Whoever makes a flow of the same client's tuple takes the same lock, or one of the same two: see
 * the top of flow_index.c. */
struct tuple_locks {
	uint32_t *lock[2];
};

static struct tuple_locks tuple_lock(struct flow_table *table, const struct flow_hashes *hashes)
{
	const struct flow_index *index = &table->index;
	union flow_span span = flow_index_span(index);
	uint64_t hash = hashes->of[FLOW_FROM_CLIENT];
	uint32_t settled = flow_hash_primary(span.settled, hash);
	uint32_t wanted = flow_hash_primary(span.wanted, hash);
	struct tuple_locks locks = {{&index->buckets[settled].lock}};

	flow_lock_take(locks.lock[0]);
	if (wanted !=
		settled) { // then it is behind the other one, so that nobody waits in a circle
		locks.lock[1] = &index->buckets[wanted].lock;
		flow_lock_take(locks.lock[1]);
	}
	return locks;
}

static void tuple_unlock(const struct tuple_locks *locks)
{
	if (locks->lock[1] != NULL)
		flow_lock_release(locks->lock[1]);
	flow_lock_release(locks->lock[0]);
}

struct flow *flow_table_insert(struct flow_table *table, unsigned worker, struct flow *flow,
	const struct flow_hashes *hashes, enum tcp_state state)
{
	struct tuple_locks locks;
	uint32_t ports, other;

	memcpy(&ports, &flow->port[FLOW_CLIENT], sizeof(ports));
	// Nobody else can have the backend's tuple: the SNAT port was lent to this flow.
	locks = tuple_lock(table, hashes);
	other = flow_table_find(table, hashes->of[FLOW_FROM_CLIENT],
		flow_addr(flow, table->family, FLOW_CLIENT), ports);
	if (other != FLOW_NOT_FOUND) {
		tuple_unlock(&locks);
		return flow_entry_flow(table, other);
	}
	if (!flow_table_place(table, flow, hashes)) {
		tuple_unlock(&locks);
		return NULL;
	}
	FLOW_KILL_POINT();
	// Last: a record with a state is whole, whatever happens to this process.
	__atomic_store_n(&flow->status, state, __ATOMIC_RELEASE);
	FLOW_KILL_POINT();
	tuple_unlock(&locks);
	flow_table_settle(table, flow, TCP_NONE, state);
	return flow;
}

bool flow_table_replace(struct flow_table *table, unsigned worker, struct flow *old,
	struct flow *flow, const struct flow_hashes *hashes, enum tcp_state from)
{
	struct flow_table_worker *own = &table->workers[worker];
	// Where the old one's entries may be when it has no state any more.
	union flow_span span = flow_index_span(&table->index);
	uint8_t expected = from;
	struct flow_hashes old_hashes;
	struct tuple_locks locks;

	if (!flow_table_place(table, flow, hashes))
		return false;
	FLOW_KILL_POINT();
	// Nobody makes another flow of the client's tuple while it has none that is alive.
	locks = tuple_lock(table, hashes);
	// Whoever takes the state away takes the flow's entries away, too; that is us, or somebody
	// else.
	if (!__atomic_compare_exchange_n(
		    &old->status, &expected, TCP_NONE, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		tuple_unlock(&locks);
		flow_table_unplace(table, flow, hashes);
		return false;
	}
	FLOW_KILL_POINT();
	__atomic_store_n(&flow->status, from, __ATOMIC_RELEASE);
	FLOW_KILL_POINT();
	tuple_unlock(&locks);
	flow_table_hashes(table, old, &old_hashes);
	flow_index_remove(table, span, old, &old_hashes);
	own->collected[own->nb_collected++] = flow_table_number(table, old);
	flow_table_settle(table, old, from, TCP_NONE);
	flow_table_settle(table, flow, TCP_NONE, from);
	return true;
}

bool flow_table_remove_from(struct flow_table *table, unsigned worker, struct flow *flow,
	const struct flow_hashes *hashes, enum tcp_state from)
{
	struct flow_table_worker *own = &table->workers[worker];
	// Where its entries may be when it has no state any more, and nobody moves them.
	union flow_span span = flow_index_span(&table->index);
	uint8_t status = __atomic_load_n(&flow->status, __ATOMIC_ACQUIRE);

	FLOW_KILL_POINT();
	// State first: from here on the record is nobody's, whatever happens to this process.
	do {
		if (tcp_status_state(status) != from)
			return false;
	} while (!__atomic_compare_exchange_n(
		&flow->status, &status, TCP_NONE, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	FLOW_KILL_POINT();
	flow_index_remove(table, span, flow, hashes);
	FLOW_KILL_POINT();
	own->collected[own->nb_collected++] = flow_table_number(table, flow);
	__atomic_fetch_sub(&table->used, 1, __ATOMIC_RELAXED);
	flow_table_settle(table, flow, from, TCP_NONE);
	return true;
}

enum tcp_state flow_table_remove(struct flow_table *table, unsigned worker, struct flow *flow,
	const struct flow_hashes *hashes)
{
	enum tcp_state state;

	do {
		state = flow_state(flow);
	} while (state != TCP_NONE && !flow_table_remove_from(table, worker, flow, hashes, state));
	return state;
}

bool flow_table_reclaim(struct flow_table *table, unsigned worker, uint64_t now_ms)
{
	struct flow_table_worker *own = &table->workers[worker];
	bool freed = false;

	if (own->nb_waiting != 0 && rte_rcu_qsbr_check(table->rcu, own->token, false) == 1) {
		tsan_acquire(table->rcu);
		for (uint32_t i = 0; i < own->nb_waiting; i++)
			cache_put(table, own, own->waiting[i]);
		own->nb_waiting = 0;
		freed = true;
	}
	if (own->nb_waiting == 0 && own->nb_collected != 0) {
		memcpy(own->waiting, own->collected, own->nb_collected * sizeof(own->waiting[0]));
		own->nb_waiting = own->nb_collected;
		own->nb_collected = 0;
		own->token = rte_rcu_qsbr_start(table->rcu);
		own->token_ms = now_ms;
	}
	return freed;
}

uint64_t flow_table_grace_age(const struct flow_table *table, unsigned worker, uint64_t now_ms)
{
	const struct flow_table_worker *own = &table->workers[worker];

	return own->nb_waiting != 0 && now_ms > own->token_ms ? now_ms - own->token_ms : 0;
}

bool flow_table_set_status(
	struct flow_table *table, unsigned worker, struct flow *flow, uint8_t from, uint8_t to)
{
	FLOW_KILL_POINT();
	if (!__atomic_compare_exchange_n(
		    &flow->status, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return false;
	FLOW_KILL_POINT();
	flow_table_settle(table, flow, tcp_status_state(from), tcp_status_state(to));
	return true;
}
