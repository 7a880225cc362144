/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What one worker counted of the connects to one backend, and how long it took to answer: an array
 * of these by backend id is a worker's own. Touched by a SYN and its answer, by nothing else.
 *
 * Times go into a histogram whose buckets are half a power of two wide: below 32 us, to 48, to 64,
 * to 96 ...; the last one is open, from 1 s on.
 *
 * One worker writes; read while it is written, each number is right.
 */
#ifndef WEIR_STATS_CONNECT_H
#define WEIR_STATS_CONNECT_H

#include <stdbool.h>
#include <stdint.h>

#define STATS_CONNECT_BUCKETS 32
#define STATS_CONNECT_FIRST_BITS 5 // the first bucket ends at 2^5 us

struct stats_connect {
	uint64_t refused;      // SYNs that the backend answered by a RST
	uint64_t timed_out;    // SYNs that it didn't answer in time
	uint64_t moved_away;   // connections that another backend was given instead
	uint64_t syn_not_kept; // SYNs that couldn't be moved: too long, or no room
	uint64_t challenged; // SYNs that it answered for a connection of before, and was sent again
	uint64_t fails;      // refused and timed out since it takes connections again
	uint32_t answer_us;  // how long it takes, smoothed; 0 = it hasn't answered yet
	uint32_t in_row;     // of refused and timed_out since it answered last
	uint64_t answered_us; // when that was, monotonic; 0 = never
	uint32_t times[STATS_CONNECT_BUCKETS];
} __attribute__((aligned(64)));

static inline unsigned stats_connect_bucket(uint64_t us)
{
	if (us < 1u << STATS_CONNECT_FIRST_BITS)
		return 0;
	unsigned bits = 63 - __builtin_clzll(us);
	unsigned bucket = 1 + (bits - STATS_CONNECT_FIRST_BITS) * 2 + (us >> (bits - 1) & 1);
	return bucket < STATS_CONNECT_BUCKETS ? bucket : STATS_CONNECT_BUCKETS - 1;
}

/* Return where the bucket begins, in us. */
static inline uint64_t stats_connect_from(unsigned bucket)
{
	if (bucket == 0)
		return 0;
	return (uint64_t)(2 + (bucket - 1) % 2)
		<< ((bucket - 1) / 2 + STATS_CONNECT_FIRST_BITS - 1);
}

/* Note that the backend has answered after so long. The worker calls it. */
void stats_connect_answered(struct stats_connect *connect, uint64_t us);

/* Tell whether the worker's latest news of the backend is a failure. */
static inline bool stats_connect_is_suspect(const struct stats_connect *connect)
{
	return connect->in_row != 0;
}

/* Return the smoothed time with one more taken in; 0 = there is none yet. */
static inline uint32_t stats_connect_smooth(uint32_t smoothed, uint64_t us)
{
	int64_t last = us < UINT32_MAX / 2 ? us : UINT32_MAX / 2;

	if (smoothed == 0)
		return last + 1;
	return smoothed + (last - (int64_t)smoothed) / 8;
}

/* Add the counts of one worker to a sum; the rest is left alone. Any thread. */
void stats_connect_add(struct stats_connect *sum, const struct stats_connect *from);
/* Take the counts of an earlier sum away from a sum. Any thread. */
void stats_connect_subtract(struct stats_connect *sum, const struct stats_connect *before);

/* Return how many answers the histogram has. */
uint64_t stats_connect_answers(const struct stats_connect *sum);
/* Return the time in us that so many percent of the answers took at most; within its bucket as if
 * they were spread evenly. 0 = no answer. */
uint64_t stats_connect_percentile(const struct stats_connect *sum, unsigned percent);

#endif
