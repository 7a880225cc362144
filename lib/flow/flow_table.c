/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_table.h"

#include <errno.h>
#include <rte_pause.h>
#include <rte_rcu_qsbr.h>
#include <stdlib.h>

#include "log.h"

// Mean number of entries in a bucket when every record is in use: two choices out of ten slots.
#define BUCKET_LOAD 6.5
// The second bucket is looked at for room when the first has as many entries.
#define BUCKET_NEARLY_FULL 8
#define REFILL 32
// Timeouts end before this much of the 16-bit clock's turn.
#define CLOCK_SLACK_S 64

#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *);
void __tsan_release(void *);
#define tsan_acquire(address) __tsan_acquire(address)
#else
#define tsan_acquire(address) ((void)(address))
#endif

static void lock_take(uint32_t *lock)
{
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0)
		while (__atomic_load_n(lock, __ATOMIC_RELAXED) != 0)
			rte_pause();
}

static void lock_release(uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

static uint32_t power_of_two_at_least(uint32_t n)
{
	uint32_t power = 1;

	while (power < n)
		power *= 2;
	return power;
}

static uint32_t fifo_entries(const struct flow_table *table)
{
	return power_of_two_at_least(table->capacity / 4 / table->nb_workers + 1);
}

/* The parts of the one mapping, in this order: records, buckets, queues. */
static size_t layout(const struct flow_table *table, size_t *buckets_at, size_t *fifos_at)
{
	*buckets_at = (size_t)table->capacity * table->record_size;
	*fifos_at = *buckets_at + (size_t)table->nb_buckets * sizeof(struct flow_bucket);
	return *fifos_at + (size_t)table->nb_workers * 2 * fifo_entries(table) * sizeof(uint32_t);
}

struct flow_table *flow_table_create(sa_family_t family, uint32_t flows, uint32_t nb_workers,
	const struct hash_key *key, struct rte_rcu_qsbr *rcu, int numa_node, bool hugepages)
{
	struct flow_table *table;
	size_t buckets_at, fifos_at;
	int err;

	if (posix_memalign((void **)&table, 64, sizeof(*table)) != 0) {
		errno = ENOMEM;
		return NULL;
	}
	memset(table, 0, sizeof(*table));
	table->family = family;
	table->capacity = flows;
	table->limit = flows - flows / 10;
	table->nb_workers = nb_workers;
	table->rcu = rcu;
	table->nb_buckets = flows * 2 / BUCKET_LOAD + 2;
	table->record_size = family == AF_INET6 ? sizeof(struct flow6) : sizeof(struct flow4);
	table->flow_offset = family == AF_INET6 ? offsetof(struct flow6, flow)
						: offsetof(struct flow4, flow);
	flow_hasher_init(&table->hasher, key, false);

	err = flow_memory_map(&table->memory, layout(table, &buckets_at, &fifos_at), numa_node,
		hugepages);
	if (err < 0)
		goto fail_table;
	err = -posix_memalign((void **)&table->workers, 64, nb_workers * sizeof(*table->workers));
	if (err < 0)
		goto fail_memory;
	memset(table->workers, 0, nb_workers * sizeof(*table->workers));

	uint8_t *start = table->memory.start;
	table->records = start;
	table->buckets = (struct flow_bucket *)(start + buckets_at);
	uint32_t *ring = (uint32_t *)(start + fifos_at);
	for (unsigned w = 0; w < nb_workers; w++) {
		struct flow_fifo *fifos[] = {&table->workers[w].closed, &table->workers[w].half_open};
		for (unsigned i = 0; i < 2; i++, ring += fifo_entries(table)) {
			fifos[i]->ring = ring;
			fifos[i]->mask = fifo_entries(table) - 1;
		}
	}
	return table;

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
	flow_memory_unmap(&table->memory);
	free(table->workers);
	free(table);
}

size_t flow_table_size(const struct flow_table *table)
{
	size_t buckets_at, fifos_at;

	return layout(table, &buckets_at, &fifos_at) + sizeof(*table) +
		table->nb_workers * sizeof(*table->workers);
}

/* The live flow of that tuple in the bucket; any direction. */
static uint32_t bucket_find(const struct flow_table *table, const struct flow_bucket *bucket,
	uint16_t signature, const void *addrs, uint32_t ports)
{
	for (uint32_t bits = flow_bucket_match(bucket, signature); bits != 0; bits &= bits - 1) {
		uint32_t entry = __atomic_load_n(&bucket->entry[__builtin_ctz(bits)], __ATOMIC_ACQUIRE);
		if (entry == FLOW_NOT_FOUND)
			continue;
		struct flow *flow = flow_entry_flow(table, entry);
		if (flow_matches(flow, flow_entry_direction(entry), table->family, addrs, ports) &&
			flow_state(flow) != TCP_NONE)
			return entry;
	}
	return FLOW_NOT_FOUND;
}

uint32_t flow_table_find(const struct flow_table *table, uint64_t hash, const void *addrs,
	uint32_t ports)
{
	uint16_t signature = flow_hash_signature(hash);
	uint32_t entry = bucket_find(table, &table->buckets[flow_hash_primary(table, hash)],
		signature, addrs, ports);

	if (entry == FLOW_NOT_FOUND)
		entry = bucket_find(table, &table->buckets[flow_hash_secondary(table, hash)],
			signature, addrs, ports);
	return entry;
}

/* --- free records --- */

static void cache_refill(struct flow_table *table, struct flow_table_worker *worker)
{
	lock_take(&table->lock);
	while (worker->nb_cache < REFILL) {
		uint32_t record;
		if (table->free_head != 0) {
			record = table->free_head - 1;
			table->free_head = flow_table_record(table, record)->side;
		} else if (table->fresh < table->capacity) {
			record = table->fresh;
			// Read by the sweep of any worker.
			__atomic_store_n(&table->fresh, record + 1, __ATOMIC_RELEASE);
		} else {
			break;
		}
		worker->cache[worker->nb_cache++] = record;
	}
	lock_release(&table->lock);
}

static void cache_spill(struct flow_table *table, struct flow_table_worker *worker)
{
	lock_take(&table->lock);
	while (worker->nb_cache > REFILL) {
		uint32_t record = worker->cache[--worker->nb_cache];
		flow_table_record(table, record)->side = table->free_head;
		table->free_head = record + 1;
	}
	lock_release(&table->lock);
}

static void cache_put(struct flow_table *table, struct flow_table_worker *worker, uint32_t record)
{
	if (worker->nb_cache == FLOW_CACHE_MAX)
		cache_spill(table, worker);
	worker->cache[worker->nb_cache++] = record;
}

struct flow *flow_table_alloc(struct flow_table *table, unsigned worker)
{
	struct flow_table_worker *own = &table->workers[worker];

	// A look first: a full table must not bounce the line between workers.
	if (flow_table_used(table) >= table->limit)
		return NULL;
	if (__atomic_fetch_add(&table->used, 1, __ATOMIC_RELAXED) >= table->limit)
		goto full;
	if (own->nb_cache == 0)
		cache_refill(table, own);
	if (own->nb_cache == 0)
		goto full;
	return flow_table_record(table, own->cache[--own->nb_cache]);
full:
	__atomic_fetch_sub(&table->used, 1, __ATOMIC_RELAXED);
	return NULL;
}

void flow_table_give_back(struct flow_table *table, unsigned worker, struct flow *flow)
{
	cache_put(table, &table->workers[worker], flow_table_number(table, flow));
	__atomic_fetch_sub(&table->used, 1, __ATOMIC_RELAXED);
}

/* --- insert and delete --- */

static void fifo_push(struct flow_fifo *fifo, uint32_t record)
{
	if (fifo->tail - fifo->head > fifo->mask)
		fifo->head++;
	fifo->ring[fifo->tail++ & fifo->mask] = record;
}

static void queue_for_giving_way(struct flow_table *table, unsigned worker, struct flow *flow,
	enum tcp_state state)
{
	if (tcp_state_closed(state))
		fifo_push(&table->workers[worker].closed, flow_table_number(table, flow));
	else if (state == TCP_SYN_SENT)
		fifo_push(&table->workers[worker].half_open, flow_table_number(table, flow));
}

struct bucket_pair {
	struct flow_bucket *primary;
	struct flow_bucket *secondary; // may be the same
};

static struct bucket_pair pair_lock(struct flow_table *table, uint64_t hash)
{
	struct bucket_pair pair = {&table->buckets[flow_hash_primary(table, hash)],
		&table->buckets[flow_hash_secondary(table, hash)]};
	bool ascending = pair.primary < pair.secondary;

	// Always the lower one first, or two workers could wait for each other.
	lock_take(ascending ? &pair.primary->lock : &pair.secondary->lock);
	if (pair.primary != pair.secondary)
		lock_take(ascending ? &pair.secondary->lock : &pair.primary->lock);
	return pair;
}

static void pair_unlock(struct bucket_pair pair)
{
	lock_release(&pair.primary->lock);
	if (pair.primary != pair.secondary)
		lock_release(&pair.secondary->lock);
}

static unsigned bucket_count(const struct flow_bucket *bucket)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++)
		count += bucket->entry[i] != FLOW_NOT_FOUND;
	return count;
}

/* Under the locks of the pair. */
static bool place(struct bucket_pair pair, uint16_t signature, uint32_t entry)
{
	struct flow_bucket *bucket = pair.primary;
	unsigned count = bucket_count(bucket);

	if (count >= BUCKET_NEARLY_FULL && bucket_count(pair.secondary) < count)
		bucket = pair.secondary;
	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++) {
		if (bucket->entry[i] != FLOW_NOT_FOUND)
			continue;
		__atomic_store_n(&bucket->signature[i], signature, __ATOMIC_RELAXED);
		// The record and the signature must be seen by whoever sees the entry.
		__atomic_store_n(&bucket->entry[i], entry, __ATOMIC_RELEASE);
		return true;
	}
	return false;
}

static bool bucket_erase(struct flow_bucket *bucket, uint32_t entry)
{
	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++) {
		if (bucket->entry[i] == entry) {
			__atomic_store_n(&bucket->entry[i], FLOW_NOT_FOUND, __ATOMIC_RELAXED);
			return true;
		}
	}
	return false;
}

static uint64_t tuple_hash(const struct flow_table *table, struct flow *flow,
	enum flow_direction direction, const void **addrs, uint32_t *ports)
{
	*addrs = flow_addr(flow, table->family, direction * 2);
	memcpy(ports, &flow->port[direction * 2], sizeof(*ports));
	return flow_hash(&table->hasher, table->family, *addrs, *ports);
}

static void erase(struct flow_table *table, struct flow *flow, enum flow_direction direction)
{
	uint32_t entry = (flow_table_number(table, flow) + 1) << 1 | direction;
	const void *addrs;
	uint32_t ports;
	struct bucket_pair pair =
		pair_lock(table, tuple_hash(table, flow, direction, &addrs, &ports));

	if (!bucket_erase(pair.primary, entry))
		bucket_erase(pair.secondary, entry);
	pair_unlock(pair);
}

struct flow *flow_table_insert(struct flow_table *table, unsigned worker, struct flow *flow,
	enum tcp_state state)
{
	uint32_t number = flow_table_number(table, flow), entry = (number + 1) << 1;
	uint32_t ports, other = FLOW_NOT_FOUND;
	struct bucket_pair pair;
	const void *addrs;
	uint64_t hash;
	bool placed;

	// State last: whoever sees it sees a whole record.
	__atomic_store_n(&flow->state, state, __ATOMIC_RELEASE);

	// The backend's tuple first: nobody else can have it, and who finds the client's tuple may
	// count on both.
	hash = tuple_hash(table, flow, FLOW_FROM_BACKEND, &addrs, &ports);
	pair = pair_lock(table, hash);
	placed = place(pair, flow_hash_signature(hash), entry | FLOW_FROM_BACKEND);
	pair_unlock(pair);
	if (!placed)
		goto fail;

	hash = tuple_hash(table, flow, FLOW_FROM_CLIENT, &addrs, &ports);
	pair = pair_lock(table, hash);
	other = bucket_find(table, pair.primary, flow_hash_signature(hash), addrs, ports);
	if (other == FLOW_NOT_FOUND)
		other = bucket_find(table, pair.secondary, flow_hash_signature(hash), addrs, ports);
	placed = other == FLOW_NOT_FOUND &&
		place(pair, flow_hash_signature(hash), entry | FLOW_FROM_CLIENT);
	pair_unlock(pair);
	if (placed) {
		queue_for_giving_way(table, worker, flow, state);
		return flow;
	}
	erase(table, flow, FLOW_FROM_BACKEND);
fail:
	__atomic_store_n(&flow->state, TCP_NONE, __ATOMIC_RELEASE);
	return other != FLOW_NOT_FOUND ? flow_entry_flow(table, other) : NULL;
}

bool flow_table_remove(struct flow_table *table, unsigned worker, struct flow *flow)
{
	struct flow_table_worker *own = &table->workers[worker];
	uint8_t state = flow_state(flow);

	// State first: from here on the record is nobody's, whatever happens to this process.
	do {
		if (state == TCP_NONE)
			return false;
	} while (!__atomic_compare_exchange_n(&flow->state, &state, TCP_NONE, false,
		__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	erase(table, flow, FLOW_FROM_CLIENT);
	erase(table, flow, FLOW_FROM_BACKEND);
	own->collected[own->nb_collected++] = flow_table_number(table, flow);
	__atomic_fetch_sub(&table->used, 1, __ATOMIC_RELAXED);
	return true;
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

/* --- giving way, expiry --- */

bool flow_table_set_state(struct flow_table *table, unsigned worker, struct flow *flow,
	enum tcp_state from, enum tcp_state to)
{
	uint8_t expected = from;

	if (!__atomic_compare_exchange_n(&flow->state, &expected, to, false, __ATOMIC_ACQ_REL,
		__ATOMIC_ACQUIRE))
		return false;
	if (!tcp_state_closed(from))
		queue_for_giving_way(table, worker, flow, to);
	return true;
}

/* The queues aren't mended when a flow leaves its state: what they say is checked here. */
struct flow *flow_table_oldest(struct flow_table *table, unsigned worker)
{
	struct flow_table_worker *own = &table->workers[worker];

	while (own->closed.head != own->closed.tail) {
		struct flow *flow = flow_table_record(table,
			own->closed.ring[own->closed.head++ & own->closed.mask]);
		if (tcp_state_closed(flow_state(flow)))
			return flow;
	}
	while (own->half_open.head != own->half_open.tail) {
		struct flow *flow = flow_table_record(table,
			own->half_open.ring[own->half_open.head++ & own->half_open.mask]);
		if (tcp_state_half_open(flow_state(flow)))
			return flow;
	}
	return NULL;
}

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

uint32_t flow_table_sweep(struct flow_table *table, unsigned worker, uint32_t count,
	uint32_t now_s, const uint16_t timeout_s[TCP_STATES], flow_expired_fn expired, void *context)
{
	struct flow_table_worker *own = &table->workers[worker];
	uint32_t start = share_start(table, worker), size = flow_table_share(table, worker);
	uint32_t nb_expired = 0;

	for (uint32_t i = 0; i < RTE_MIN(count, size) && flow_table_may_remove(table, worker); i++) {
		if (own->sweep >= size)
			own->sweep = 0;
		struct flow *flow = flow_table_record(table, start + own->sweep++);
		rte_prefetch0((uint8_t *)flow + 8 * table->record_size);
		enum tcp_state state = flow_state(flow);
		uint16_t idle = now_s - __atomic_load_n(&flow->last_seen, __ATOMIC_RELAXED);
		// Another worker's clock may have been read a little later than ours.
		if (likely(state == TCP_NONE || idle < timeout_s[state] || idle > UINT16_MAX - CLOCK_SLACK_S))
			continue;
		expired(context, flow);
		nb_expired++;
	}
	return nb_expired;
}
