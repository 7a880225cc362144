/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Side records: what a flow needs only until its backend has answered the SYN. A bounded pool of
 * them beside a flow table, with a timer for each.
 *
 * A side record is free, or owned by a flow record, or claimed by one worker that decides about it;
 * only who has claimed it may look into it. Who finds an index in a flow record claims it by naming
 * the owner: an index that is out of date is anybody's, and then the claim fails. So no flow record
 * is trusted, and a side record that a race left over is found by its timer.
 *
 * The pool is parted among the workers: each part has a lock, a stack of free records, so that the
 * same few stay in the cache, and a wheel of timers, one slot a millisecond. A worker takes from
 * its own part first, then from any; the timers of a part are run by its worker. All is O(1).
 *
 * Thread rule: create and destroy on the control core; the rest by any worker.
 */
#ifndef WEIR_FLOW_SIDE_H
#define WEIR_FLOW_SIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "flow_memory.h"

#define FLOW_SIDE_FLOWS 64      // for as many there is one side record
#define FLOW_SIDE_FRAME_MAX 128 // bytes of a SYN that is kept, link header included
#define FLOW_SIDE_REPEATS_MAX 31
#define FLOW_SIDE_TRIES_MAX 8
#define FLOW_SIDE_SLOTS 1024
#define FLOW_SIDE_CLAIMED UINT32_MAX

struct flow_side {
	// Under the part's lock.
	uint32_t owner;    // number of the flow record + 1; 0 = free; FLOW_SIDE_CLAIMED
	uint32_t next;     // index + 1 of the next free one, or of the next in the slot
	uint32_t previous; // in the slot; 0 = it is the first
	uint32_t due_ms;   // the low bits
	uint8_t part;      // set once
	bool is_timed;     // it stands in a slot

	// Of who has claimed it.
	uint8_t frame_size;        // of the SYN; 0 = it is not kept
	uint8_t tcp_at;            // where its TCP header begins
	uint16_t epoch;            // of the backend, when the SYN was sent
	uint8_t nb_tried;          // backends so far, the flow's own the last
	uint8_t repeats : 5;       // of the client's SYN since the flow has this backend
	uint8_t is_late : 1;       // that has been silent for too long, and counted as such
	uint8_t is_challenged : 1; // it has answered the client's latest SYN by a challenge,
	uint8_t is_to_be_sent : 1; // so that the SYN is to be sent again when the timer goes off
	uint64_t sent_us;          // when that backend was first sent the SYN; monotonic
	uint32_t tried[FLOW_SIDE_TRIES_MAX]; // ids
	uint8_t frame[FLOW_SIDE_FRAME_MAX];  // as it came
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct flow_side) == 3 * FLOW_SIDE_FLOWS, "three bytes a flow");
_Static_assert(FLOW_SIDE_FRAME_MAX <= UINT8_MAX, "`frame_size`");
_Static_assert(FLOW_SIDE_REPEATS_MAX < 1 << 5, "`repeats`");

struct flow_side_part {
	uint32_t lock;
	uint32_t free;                   // index + 1
	uint32_t nb_timed;               // in the slots
	uint64_t at_ms;                  // the timers before it have been run
	uint32_t slots[FLOW_SIDE_SLOTS]; // index + 1 of the first, by due_ms
} __attribute__((aligned(64)));

struct flow_sides {
	struct flow_side *records;
	uint32_t count;
	unsigned nb_parts;
	struct flow_side_part *parts;
	struct flow_memory memory;
};

/* Return how many side records go with a table of so many flows. */
uint32_t flow_sides_count(uint32_t flows);

/* Create a pool of side records. NULL and errno on failure. */
struct flow_sides *flow_sides_create(
	uint32_t count, unsigned nb_workers, int numa_node, bool hugepages);
void flow_sides_destroy(struct flow_sides *sides);
size_t flow_sides_size(const struct flow_sides *sides); // bytes

static inline uint32_t flow_side_index(const struct flow_sides *sides, const struct flow_side *side)
{
	return side - sides->records;
}

/* Take a free side record, claimed, its contents undefined; NULL when there is none. */
struct flow_side *flow_side_get(struct flow_sides *sides, unsigned worker);

/* Claim the side record at `index` when `owner` owns it, and stop its timer. NULL: another one owns
 * it, or somebody has claimed it. */
struct flow_side *flow_side_claim(struct flow_sides *sides, uint32_t index, uint32_t owner);

/* Claim a side record of the worker's part whose time has come; NULL = none. */
struct flow_side *flow_side_due(
	struct flow_sides *sides, unsigned worker, uint64_t now_ms, uint32_t *owner);

/* Give a claimed side record to a flow record, to be due then. */
void flow_side_own(
	struct flow_sides *sides, struct flow_side *side, uint32_t owner, uint64_t due_ms);

/* Free a claimed side record. */
void flow_side_put(struct flow_sides *sides, struct flow_side *side);

#endif
