/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The index of a flow table: buckets of one cache line, ten slots of a 16-bit signature and a
 * 32-bit entry (record and direction). A key may stand in two buckets: the second is used when the
 * first is nearly full, so that most look-ups end in the first. Both tuples of a flow are keys.
 * With two choices, ten slots and 56 % load at the table's limit (90 % of the records), hardly a
 * key finds both buckets full.
 *
 * A slot is taken by compare-and-swap, then gets its signature, and its entry last: from then on
 * another worker may take that out and give the slot to another key. It is freed by
 * compare-and-swap, too. A reader may see a slot change under it: a signature or entry of another
 * key only sends it to a record whose tuple then differs.
 *
 * Of the buckets only the first so many are used, few at first, so that the index of a table made
 * for more flows than it has fits the cache as well as a small table's. When they fill, twice as
 * many are used from then on, and the entries move (flow_index.c).
 *
 * Thread rule: as the table's.
 */
#ifndef WEIR_FLOW_INDEX_H
#define WEIR_FLOW_INDEX_H

#include <rte_branch_prediction.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
#include <emmintrin.h>
#endif

struct flow;
struct flow_table;

#define FLOW_BUCKET_SLOTS 10
#define FLOW_NOT_FOUND 0  // no entry
#define FLOW_SLOT_TAKEN 1 // none yet

struct flow_bucket {
	uint16_t signature[FLOW_BUCKET_SLOTS];
	uint32_t entry[FLOW_BUCKET_SLOTS]; // (record + 1) << 1 | direction; or FLOW_SLOT_TAKEN;
					   // 0 = empty
	uint32_t lock;
} __attribute__((aligned(64)));

/* Tell whether `entry` names a record: what stands in a slot may be none, or none yet. */
static inline bool flow_is_entry(uint32_t entry)
{
	return entry > FLOW_SLOT_TAKEN;
}

/*
 * How many buckets are in use: an entry stands in one of its two buckets among the first `settled`,
 * or, while the index grows, among the first `wanted`, where all new ones go; or in between, for
 * those numbers may be several doublings apart. Read and written as a whole. A worker that reads
 * them equal finds all of its burst's flows there: nothing moves before every reader has seen
 * otherwise.
 */
union flow_span {
	struct {
		uint32_t settled, wanted;
	};
	uint64_t word;
};

static inline bool flow_span_is_growing(union flow_span span)
{
	return span.settled != span.wanted;
}

enum flow_growth {
	FLOW_GROWTH_NONE,
	FLOW_GROWTH_BEGINS,    // somebody announces it
	FLOW_GROWTH_ANNOUNCED, // until all readers have seen it
	FLOW_GROWTH_CHECKED,   // somebody looks whether they have
	FLOW_GROWTH_MOVES,
};

struct flow_index {
	// Written when the index grows, read by all.
	struct flow_bucket *buckets;
	uint32_t nb_buckets;
	uint32_t grow_at; // flows; UINT32_MAX when all buckets are used
	union flow_span span;
	uint32_t growth; // enum flow_growth
	uint64_t token;  // of the RCU variable, of the announcement

	// By those who move entries.
	uint32_t nb_unclaimed
		__attribute__((aligned(64))); // old buckets to be emptied: the first so many
	uint32_t nb_left;                     // that aren't yet, with those that are claimed
	bool is_stuck;                        // an entry found no room
};

/* Return how many buckets a table of so many records has. */
uint32_t flow_index_size(uint32_t flows);

/* Use so many buckets, or enough for `flows`, before the first entry is placed. */
void flow_index_use(struct flow_index *index, uint32_t nb_buckets);
void flow_index_fit(struct flow_index *index, uint32_t flows);

/* Let the index grow from now on; more than it does, if nothing has been moved yet. */
void flow_index_begin_growth(struct flow_table *table);

/* Move a bounded number of entries, if there are any to be moved; every tick of every worker. True:
 * there is more to do, now or soon. */
bool flow_index_grow(struct flow_table *table);

static inline union flow_span flow_index_span(const struct flow_index *index)
{
	// Acquire: what was moved before it changed is seen where it is now.
	return (union flow_span){.word = __atomic_load_n(&index->span.word, __ATOMIC_ACQUIRE)};
}

/* The steps of a look-up, for passes over a burst. */

static inline uint32_t flow_hash_primary(uint32_t nb_buckets, uint64_t hash)
{
	return (hash >> 32) * nb_buckets >> 32;
}

static inline uint32_t flow_hash_secondary(uint32_t nb_buckets, uint64_t hash)
{
	return (hash & UINT32_MAX) * nb_buckets >> 32;
}

/* Return the hash's signature: independent of either bucket, each of which fixes bits
 * of one half only. */
static inline uint16_t flow_hash_signature(uint64_t hash)
{
	return hash ^ hash >> 32;
}

/* Return the slots that carry the signature, as bits; an empty slot may be among them. */
static inline uint32_t flow_bucket_match(const struct flow_bucket *bucket, uint16_t signature)
{
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
	__m128i wanted = _mm_set1_epi16(signature);
	__m128i low = _mm_loadu_si128((const __m128i *)&bucket->signature[0]);
	__m128i high =
		_mm_loadu_si128((const __m128i *)&bucket->signature[8]); // and of the entries
	uint32_t bits = _mm_movemask_epi8(
		_mm_packs_epi16(_mm_cmpeq_epi16(low, wanted), _mm_cmpeq_epi16(high, wanted)));
	return bits & ((1 << FLOW_BUCKET_SLOTS) - 1);
#else
	uint32_t bits = 0;
	// Acquire: whoever sees that another key has the slot sees where its entry went.
	for (unsigned i = 0; i < FLOW_BUCKET_SLOTS; i++)
		bits |= (uint32_t)(__atomic_load_n(&bucket->signature[i], __ATOMIC_ACQUIRE) ==
				signature)
			<< i;
	return bits;
#endif
}

/* Return the first entry in the bucket that carries the signature, or FLOW_NOT_FOUND. */
static inline uint32_t flow_bucket_candidate(const struct flow_bucket *bucket, uint16_t signature)
{
	for (uint32_t bits = flow_bucket_match(bucket, signature); bits != 0; bits &= bits - 1) {
		// Acquire: the record is seen as it was inserted.
		uint32_t slot = __builtin_ctz(bits);
		uint32_t entry = __atomic_load_n(&bucket->entry[slot], __ATOMIC_ACQUIRE);
		if (likely(flow_is_entry(entry)))
			return entry;
	}
	return FLOW_NOT_FOUND;
}

#endif
