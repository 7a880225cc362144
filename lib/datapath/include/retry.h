/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How many SYNs Weir may send on of its own accord, since a backend is silent: a share of the
 * connects of the last second, as one worker saw them. So when all backends are silent, a network
 * is gone or a database hangs, they are not asked many times over.
 *
 * The last second is ten buckets of 100 ms, the one under way included. One worker's own, by
 * service.
 */
#ifndef WEIR_RETRY_H
#define WEIR_RETRY_H

#include <rte_branch_prediction.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define RETRY_BUCKETS 10
#define RETRY_BUCKET_MS 100
#define RETRY_MIN_A_SECOND 10 // whatever the connects, over all workers

struct retry {
	uint64_t bucket;   // the one under way: its number since the clock's start
	uint32_t connects; // of the last second
	uint32_t moves;
	uint32_t answer_us; // how long the service's backends take to answer, smoothed; 0 = unknown
	uint16_t connects_by[RETRY_BUCKETS];
	uint16_t moves_by[RETRY_BUCKETS];
} __attribute__((aligned(64)));

/* Forget what is older than a second. */
static inline void retry_advance(struct retry *retry, uint64_t now_ms)
{
	uint64_t now = now_ms / RETRY_BUCKET_MS, steps = now - retry->bucket;

	if (likely(steps == 0))
		return;
	for (uint64_t i = 0; i < steps && i < RETRY_BUCKETS; i++) {
		unsigned at = ++retry->bucket % RETRY_BUCKETS;
		retry->connects -= retry->connects_by[at];
		retry->moves -= retry->moves_by[at];
		retry->connects_by[at] = retry->moves_by[at] = 0;
	}
	// All are empty: where it goes on doesn't matter.
	retry->bucket = now;
}

/* Count a client's connect. */
static inline void retry_connect(struct retry *retry, uint64_t now_ms)
{
	retry_advance(retry, now_ms);
	unsigned at = retry->bucket % RETRY_BUCKETS;
	bool counts = retry->connects_by[at] != UINT16_MAX;
	retry->connects_by[at] += counts;
	retry->connects += counts;
}

/* Tell whether one more SYN may be sent on; then it counts. `percent` of the connects; `workers`
 * share the least number. */
static inline bool retry_take(
	struct retry *retry, uint64_t now_ms, uint32_t percent, unsigned workers)
{
	retry_advance(retry, now_ms);
	unsigned at = retry->bucket % RETRY_BUCKETS;
	uint64_t allowed = (uint64_t)retry->connects * percent / 100;
	uint64_t least = (RETRY_MIN_A_SECOND + workers - 1) / workers;
	if (retry->moves >= (allowed > least ? allowed : least) ||
		retry->moves_by[at] == UINT16_MAX)
		return false;
	retry->moves_by[at]++;
	retry->moves++;
	return true;
}

#endif
