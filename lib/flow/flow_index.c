/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How the index grows, while all workers use it:
 *
 * 1. A greater number of buckets is announced. Whoever sees it puts new entries where they belong
 *    among these, takes both locks of a tuple, and looks for an entry first where it belongs among
 *    the settled number, then among each greater one up to that which is wanted. When too many
 *    flows come before all have seen it, a still greater number is announced.
 * 2. A grace period passes. From here on no worker is in the middle of something that it began
 *    before.
 * 3. The workers claim slices of the old buckets and move what doesn't belong there any more: an
 *    entry is copied to its new bucket, then taken from the old one. It only ever goes that way, so
 *    that a look in the old places and then in the new ones never misses it. If somebody else takes
 *    it from the old place first, its flow is over, and the copy goes, too.
 * 4. The greater number is settled. When an entry found no room, all goes on from 1 instead.
 *
 * Entries of a flow without a state stay where they are: it is being inserted, and they were put in
 * the right place, or removed, and whoever does it knows all places, since he looked at the span
 * while the flow had its state.
 *
 * Locks of a tuple: a worker takes that of its first bucket among the settled number, and among the
 * wanted one while they differ. Until a number is settled, all have the lock of the old one in
 * common; and when it is, all have seen that it is wanted, for a grace period lies between.
 *
 * From the top down: a bucket's entries go to one of the two at about twice its number, which are
 * empty or have been emptied.
 */
#include "flow_index.h"

#include <rte_atomic.h>
#include <rte_rcu_qsbr.h>

#include "checksum.h"
#include "flow_table.h"
#include "tsan.h"

// Mean number of entries in a bucket when every record is in use. With flows coming and going at
// the limit, one insert in 10^8 finds both buckets full, and one entry in eight stands in its
// second; at 6.5 it was one in 10^7 and one in six. The fifth more is what a link costs.
#define BUCKET_LOAD 6.2
// Mean number of entries at which the index grows: there is room for as many again, and more, until
// a worker that is held up has seen it.
#define GROW_LOAD 5
// Used at first: 1 MiB, for 40,960 flows. Small enough for any L2 cache that matters.
#define FIRST_BUCKETS 16384
// The second bucket is looked at for room when the first has as many entries.
#define BUCKET_NEARLY_FULL 7
// Buckets emptied a tick: as many entries as a burst of SYNs makes, and twice that.
#define MOVE_BUCKETS 32

// Where a test ends the process, to adopt what is left (tests/unit/flow/test_torn.c).
#ifndef FLOW_KILL_POINT
#define FLOW_KILL_POINT() ((void)0)
#endif

/* --- look-up --- */

/* The live flow of that tuple in the bucket; any direction. */
static uint32_t bucket_find(const struct flow_table *table, const struct flow_bucket *bucket,
	uint16_t signature, const void *addrs, uint32_t ports)
{
	for (uint32_t bits = flow_bucket_match(bucket, signature); bits != 0; bits &= bits - 1) {
		uint32_t entry =
			__atomic_load_n(&bucket->entry[__builtin_ctz(bits)], __ATOMIC_ACQUIRE);
		if (!flow_is_entry(entry))
			continue;
		struct flow *flow = flow_entry_flow(table, entry);
		if (flow_matches(flow, flow_entry_direction(entry), table->family, addrs, ports) &&
			flow_state(flow) != TCP_NONE)
			return entry;
	}
	return FLOW_NOT_FOUND;
}

static uint32_t find_among(const struct flow_table *table, uint32_t nb_buckets, uint64_t hash,
	const void *addrs, uint32_t ports)
{
	const struct flow_bucket *buckets = table->index.buckets;
	uint16_t signature = flow_hash_signature(hash);
	uint32_t entry = bucket_find(
		table, &buckets[flow_hash_primary(nb_buckets, hash)], signature, addrs, ports);

	if (entry == FLOW_NOT_FOUND)
		entry = bucket_find(table, &buckets[flow_hash_secondary(nb_buckets, hash)],
			signature, addrs, ports);
	return entry;
}

/* The next number of buckets after this one. */
static uint32_t grown(const struct flow_index *index, uint32_t nb_buckets)
{
	return nb_buckets > index->nb_buckets / 2 ? index->nb_buckets : nb_buckets * 2;
}

uint32_t flow_table_find(
	const struct flow_table *table, uint64_t hash, const void *addrs, uint32_t ports)
{
	union flow_span span = flow_index_span(&table->index);
	uint32_t nb_buckets = span.settled;
	uint32_t entry = find_among(table, nb_buckets, hash, addrs, ports);

	while (entry == FLOW_NOT_FOUND && unlikely(nb_buckets != span.wanted)) {
		rte_smp_rmb(); // the old place first: an entry leaves it when it is in the new one
		nb_buckets = grown(&table->index, nb_buckets);
		entry = find_among(table, nb_buckets, hash, addrs, ports);
	}
	return entry;
}

/* --- entries in and out --- */

static unsigned bucket_count(const struct flow_bucket *bucket)
{
	unsigned count = 0;

	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++)
		count += __atomic_load_n(&bucket->entry[i], __ATOMIC_RELAXED) != FLOW_NOT_FOUND;
	return count;
}

/* A slot changes hands by compare-and-swap: false when it holds something else by now. */
static bool slot_change(uint32_t *slot, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(
		slot, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* The slot that the entry is in now, or NULL: the bucket is full. */
static uint32_t *bucket_place(struct flow_bucket *bucket, uint16_t signature, uint32_t entry)
{
	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++) {
		if (__atomic_load_n(&bucket->entry[i], __ATOMIC_RELAXED) != FLOW_NOT_FOUND ||
			!slot_change(&bucket->entry[i], FLOW_NOT_FOUND, FLOW_SLOT_TAKEN))
			continue;
		FLOW_KILL_POINT();
		// Release: whoever sees that another key has the slot sees where its entry went.
		__atomic_store_n(&bucket->signature[i], signature, __ATOMIC_RELEASE);
		FLOW_KILL_POINT();
		// Last, for from here on anybody may take it out and give the slot away. Release:
		// whoever sees the entry sees the record behind it.
		__atomic_store_n(&bucket->entry[i], entry, __ATOMIC_RELEASE);
		FLOW_KILL_POINT();
		return &bucket->entry[i];
	}
	return NULL;
}

static uint32_t *place_among(
	struct flow_index *index, uint32_t nb_buckets, uint64_t hash, uint32_t entry)
{
	struct flow_bucket *first = &index->buckets[flow_hash_primary(nb_buckets, hash)];
	struct flow_bucket *second = &index->buckets[flow_hash_secondary(nb_buckets, hash)];
	unsigned count = bucket_count(first);

	if (count >= BUCKET_NEARLY_FULL && bucket_count(second) < count) {
		struct flow_bucket *other = first;
		first = second;
		second = other;
	}
	uint32_t *slot = bucket_place(first, flow_hash_signature(hash), entry);
	return slot != NULL ? slot : bucket_place(second, flow_hash_signature(hash), entry);
}

static bool bucket_erase(struct flow_bucket *bucket, uint32_t entry)
{
	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++) {
		if (__atomic_load_n(&bucket->entry[i], __ATOMIC_RELAXED) == entry) {
			bool is_erased = slot_change(&bucket->entry[i], entry, FLOW_NOT_FOUND);
			FLOW_KILL_POINT();
			return is_erased;
		}
	}
	return false;
}

static bool erase_among(
	struct flow_index *index, uint32_t nb_buckets, uint64_t hash, uint32_t entry)
{
	return bucket_erase(&index->buckets[flow_hash_primary(nb_buckets, hash)], entry) ||
		bucket_erase(&index->buckets[flow_hash_secondary(nb_buckets, hash)], entry);
}

/* In the old place first: it isn't in the new one for good before it has left that. */
static void erase(struct flow_index *index, union flow_span span, uint64_t hash, uint32_t entry)
{
	uint32_t nb_buckets = span.settled;

	while (!erase_among(index, nb_buckets, hash, entry) && nb_buckets != span.wanted)
		nb_buckets = grown(index, nb_buckets);
}

static uint32_t entry_of(
	const struct flow_table *table, const struct flow *flow, enum flow_direction direction)
{
	return (flow_table_number(table, flow) + 1) << 1 | direction;
}

uint64_t flow_table_hash(
	const struct flow_table *table, struct flow *flow, enum flow_direction direction)
{
	uint32_t ports;

	memcpy(&ports, &flow->port[direction * 2], sizeof(ports));
	return flow_hash(&table->hasher, table->family,
		flow_addr(flow, table->family, direction * 2), ports);
}

void flow_table_hashes(
	const struct flow_table *table, struct flow *flow, struct flow_hashes *hashes)
{
	for (unsigned d = 0; d < FLOW_DIRECTIONS; d++)
		hashes->of[d] = flow_table_hash(table, flow, d);
}

void flow_index_remove(struct flow_table *table, union flow_span span, const struct flow *flow,
	const struct flow_hashes *hashes)
{
	for (unsigned d = 0; d < FLOW_DIRECTIONS; d++)
		erase(&table->index, span, hashes->of[d], entry_of(table, flow, d));
}

void flow_table_unplace(
	struct flow_table *table, const struct flow *flow, const struct flow_hashes *hashes)
{
	flow_index_remove(table, flow_index_span(&table->index), flow, hashes);
}

/* The sum of one's complements is the same in any order: which of the addresses is replaced by
 * which doesn't matter. */
static uint16_t delta_of(const struct flow6 *record)
{
	const struct flow *flow = &record->flow;
	uint32_t delta = 0;

	for (unsigned of_client = 0; of_client < 2; of_client++) {
		unsigned other = of_client + 2;
		delta += checksum_delta128(record->addr[of_client], record->addr[other]);
		delta += checksum_delta16(flow->port[of_client], flow->port[other]);
	}
	return checksum_fold(delta);
}

/* As long as the state is TCP_NONE whoever finds one takes it for a free record. */
bool flow_table_place(struct flow_table *table, struct flow *flow, const struct flow_hashes *hashes)
{
	struct flow_index *index = &table->index;
	union flow_span span = flow_index_span(index);
	uint32_t from_backend = entry_of(table, flow, FLOW_FROM_BACKEND);

	if (table->family == AF_INET6)
		flow6_of(flow)->delta = delta_of(flow6_of(flow));
	if (place_among(index, span.wanted, hashes->of[FLOW_FROM_BACKEND], from_backend) == NULL)
		return false;
	if (place_among(index, span.wanted, hashes->of[FLOW_FROM_CLIENT],
		    entry_of(table, flow, FLOW_FROM_CLIENT)) != NULL)
		return true;
	erase(index, span, hashes->of[FLOW_FROM_BACKEND], from_backend);
	return false;
}

void flow_table_detach(struct flow_table *table, struct flow *flow)
{
	erase(&table->index, flow_index_span(&table->index),
		flow_table_hash(table, flow, FLOW_FROM_CLIENT),
		entry_of(table, flow, FLOW_FROM_CLIENT));
}

/* --- growth --- */

uint32_t flow_index_size(uint32_t flows)
{
	return flows * 2 / BUCKET_LOAD + 2;
}

static uint32_t flows_before_growth(uint32_t nb_buckets)
{
	return (uint64_t)nb_buckets * GROW_LOAD / FLOW_DIRECTIONS;
}

static void set_span(struct flow_index *index, uint32_t settled, uint32_t wanted)
{
	union flow_span span = {{settled, wanted}};

	// Release: entries are seen where they were moved to.
	__atomic_store_n(&index->span.word, span.word, __ATOMIC_RELEASE);
	__atomic_store_n(&index->grow_at,
		wanted == index->nb_buckets ? UINT32_MAX : flows_before_growth(wanted),
		__ATOMIC_RELAXED);
}

void flow_index_use(struct flow_index *index, uint32_t nb_buckets)
{
	nb_buckets = RTE_MIN(nb_buckets, index->nb_buckets);
	set_span(index, nb_buckets, nb_buckets);
}

void flow_index_fit(struct flow_index *index, uint32_t flows)
{
	uint32_t nb_buckets = RTE_MIN((uint32_t)FIRST_BUCKETS, index->nb_buckets);

	while (nb_buckets < index->nb_buckets && flows >= flows_before_growth(nb_buckets))
		nb_buckets = grown(index, nb_buckets);
	set_span(index, nb_buckets, nb_buckets);
}

static bool growth_step(struct flow_index *index, uint32_t from, uint32_t to)
{
	return slot_change(&index->growth, from, to);
}

/* More buckets are wanted: known to all when the token has passed. By whoever made the step to
 * FLOW_GROWTH_BEGINS. */
static void announce(struct flow_table *table)
{
	struct flow_index *index = &table->index;
	union flow_span span = flow_index_span(index);

	set_span(index, span.settled, grown(index, span.wanted));
	index->token = rte_rcu_qsbr_start(table->rcu);
	// Release: with its token.
	__atomic_store_n(&index->growth, FLOW_GROWTH_ANNOUNCED, __ATOMIC_RELEASE);
}

void flow_index_begin_growth(struct flow_table *table)
{
	uint32_t growth = __atomic_load_n(&table->index.growth, __ATOMIC_RELAXED);

	if ((growth == FLOW_GROWTH_NONE || growth == FLOW_GROWTH_ANNOUNCED) &&
		growth_step(&table->index, growth, FLOW_GROWTH_BEGINS))
		announce(table);
}

/* One worker at a time looks whether all have seen the announcement, so that it
 * looks at its token. */
static void check_announcement(struct flow_table *table)
{
	struct flow_index *index = &table->index;
	uint32_t next = FLOW_GROWTH_ANNOUNCED;

	if (!growth_step(index, FLOW_GROWTH_ANNOUNCED, FLOW_GROWTH_CHECKED))
		return;
	if (rte_rcu_qsbr_check(table->rcu, index->token, false) == 1) {
		tsan_acquire(table->rcu);
		union flow_span span = flow_index_span(index);
		uint32_t nb_old = span.settled;
		while (grown(index, nb_old) != span.wanted)
			nb_old = grown(index, nb_old);
		index->nb_left = nb_old;
		index->is_stuck = false;
		// Release: only now is there anything to claim.
		__atomic_store_n(&index->nb_unclaimed, nb_old, __ATOMIC_RELEASE);
		next = FLOW_GROWTH_MOVES;
	}
	__atomic_store_n(&index->growth, next, __ATOMIC_RELEASE);
}

/* The next slice of the old buckets, [*first, *end). */
static bool claim(struct flow_index *index, uint32_t *first, uint32_t *end)
{
	*end = __atomic_load_n(&index->nb_unclaimed, __ATOMIC_ACQUIRE);
	do {
		if (*end == 0)
			return false;
		*first = *end - RTE_MIN(*end, (uint32_t)MOVE_BUCKETS);
	} while (!__atomic_compare_exchange_n(
		&index->nb_unclaimed, end, *first, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	return true;
}

static void prefetch_records(const struct flow_table *table, const struct flow_bucket *bucket)
{
	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++) {
		uint32_t entry = __atomic_load_n(&bucket->entry[i], __ATOMIC_RELAXED);
		if (flow_is_entry(entry))
			flow_entry_prefetch(table, entry, table->family);
	}
}

/* Entries of one bucket that belong elsewhere. */
struct moving {
	uint32_t *slot[FLOW_BUCKET_SLOTS];
	uint32_t entry[FLOW_BUCKET_SLOTS];
	uint64_t hash[FLOW_BUCKET_SLOTS];
	unsigned count;
};

static void moving_find(
	struct flow_table *table, uint32_t number, uint32_t wanted, struct moving *moving)
{
	struct flow_bucket *bucket = &table->index.buckets[number];

	moving->count = 0;
	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++) {
		uint32_t entry = __atomic_load_n(&bucket->entry[i], __ATOMIC_ACQUIRE);
		if (!flow_is_entry(entry))
			continue;
		struct flow *flow = flow_entry_flow(table, entry);
		if (flow_state(flow) == TCP_NONE)
			continue;
		uint64_t hash = flow_table_hash(table, flow, flow_entry_direction(entry));
		uint32_t primary = flow_hash_primary(wanted, hash);
		if (primary == number || flow_hash_secondary(wanted, hash) == number)
			continue;
		rte_prefetch0(&table->index.buckets[primary]);
		moving->slot[moving->count] = &bucket->entry[i];
		moving->entry[moving->count] = entry;
		moving->hash[moving->count++] = hash;
	}
}

/* False: some entries found no room. */
static bool bucket_move(struct flow_table *table, uint32_t number, uint32_t wanted)
{
	struct moving moving;
	bool all = true;

	moving_find(table, number, wanted, &moving);
	for (unsigned i = 0; i < moving.count; i++) {
		uint32_t *copy =
			place_among(&table->index, wanted, moving.hash[i], moving.entry[i]);
		if (copy == NULL)
			all = false;
		else if (!slot_change(moving.slot[i], moving.entry[i], FLOW_NOT_FOUND))
			slot_change(
				copy, moving.entry[i], FLOW_NOT_FOUND); // or that was taken, too
	}
	return all;
}

static void move_slice(struct flow_table *table, uint32_t first, uint32_t end)
{
	struct flow_index *index = &table->index;
	union flow_span span = flow_index_span(index);

	for (uint32_t b = first; b < end; b++)
		prefetch_records(table, &index->buckets[b]);
	for (uint32_t b = end; b-- > first;)
		if (!bucket_move(table, b, span.wanted))
			__atomic_store_n(&index->is_stuck, true, __ATOMIC_RELAXED);
	// Acquire and release: who counts the last one passes on what all have moved.
	if (__atomic_sub_fetch(&index->nb_left, end - first, __ATOMIC_ACQ_REL) != 0)
		return;
	if (__atomic_load_n(&index->is_stuck, __ATOMIC_RELAXED)) {
		__atomic_store_n(&index->growth, FLOW_GROWTH_BEGINS, __ATOMIC_RELAXED);
		announce(table);
	} else {
		set_span(index, span.wanted, span.wanted);
		__atomic_store_n(&index->growth, FLOW_GROWTH_NONE, __ATOMIC_RELEASE);
	}
}

bool flow_index_grow(struct flow_table *table)
{
	struct flow_index *index = &table->index;
	uint32_t growth = __atomic_load_n(&index->growth, __ATOMIC_ACQUIRE), first, end;

	if (likely(growth == FLOW_GROWTH_NONE))
		return false;
	if (growth == FLOW_GROWTH_ANNOUNCED)
		check_announcement(table);
	if (claim(index, &first, &end))
		move_slice(table, first, end);
	return __atomic_load_n(&index->growth, __ATOMIC_RELAXED) != FLOW_GROWTH_NONE;
}
