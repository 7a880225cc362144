/* SPDX-License-Identifier: BSD-3-Clause */
#include "stats.h"

#include <string.h>

const char *const stats_drop_names[STATS_DROPS_COUNT] = {
#define X(id, name) [STATS_DROP_##id] = name,
	STATS_DROPS(X)
#undef X
};

const char *const stats_gave_way_names[STATS_GAVE_WAYS_COUNT] = {
#define X(id, name) [STATS_GAVE_WAY_##id] = name,
	STATS_GAVE_WAYS(X)
#undef X
};

_Static_assert(sizeof(struct stats_counters) % sizeof(uint64_t) == 0, "copied by words");
#define WORDS (sizeof(struct stats_counters) / sizeof(uint64_t))

void stats_publish(struct stats_worker *stats)
{
	const uint64_t *from = (const uint64_t *)&stats->live;
	uint64_t *to = (uint64_t *)&stats->published;
	uint32_t sequence = stats->sequence;

	__atomic_store_n(&stats->sequence, sequence + 1, __ATOMIC_RELAXED);
	// No word may be seen before the odd number.
	__atomic_thread_fence(__ATOMIC_RELEASE);
	for (unsigned i = 0; i < WORDS; i++)
		__atomic_store_n(&to[i], from[i], __ATOMIC_RELAXED);
	// The even number may not be seen before the last word.
	__atomic_store_n(&stats->sequence, sequence + 2, __ATOMIC_RELEASE);
}

void stats_read(const struct stats_worker *stats, struct stats_counters *copy)
{
	const uint64_t *from = (const uint64_t *)&stats->published;
	uint64_t *to = (uint64_t *)copy;
	uint32_t before, after;

	do {
		before = __atomic_load_n(&stats->sequence, __ATOMIC_ACQUIRE);
		for (unsigned i = 0; i < WORDS; i++)
			to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
		// The words must be read before the second look at the number.
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		after = __atomic_load_n(&stats->sequence, __ATOMIC_RELAXED);
	} while (before != after || (before & 1));
}

void stats_add(struct stats_counters *sum, const struct stats_counters *from)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *words = (const uint64_t *)from;

	for (unsigned i = 0; i < WORDS; i++)
		to[i] += words[i];
}
