/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_side.h"

#include <errno.h>
#include <rte_common.h>
#include <stdlib.h>
#include <string.h>

#include "flow_lock.h"

enum {
	COUNT_MIN = 128,
	COUNT_MAX = 16384,
};

uint32_t flow_sides_count(uint32_t flows)
{
	uint32_t count = RTE_MAX(flows / FLOW_SIDE_FLOWS, (uint32_t)COUNT_MIN);

	return RTE_MIN(RTE_MIN(count, flows), (uint32_t)COUNT_MAX);
}

struct flow_sides *flow_sides_create(
	uint32_t count, unsigned nb_workers, int numa_node, bool hugepages)
{
	struct flow_sides *sides = calloc(1, sizeof(*sides));
	int err = ENOMEM;

	if (sides == NULL)
		return NULL;
	sides->count = count;
	sides->nb_parts = nb_workers;
	if (posix_memalign((void **)&sides->parts, 64, nb_workers * sizeof(*sides->parts)) != 0)
		goto fail_sides;
	memset(sides->parts, 0, nb_workers * sizeof(*sides->parts));
	err = -flow_memory_map(
		&sides->memory, count * sizeof(*sides->records), numa_node, hugepages);
	if (err != 0)
		goto fail_parts;
	sides->records = sides->memory.start;
	for (uint32_t i = count; i-- > 0;) {
		struct flow_side_part *part = &sides->parts[i % nb_workers];
		sides->records[i].part = i % nb_workers;
		sides->records[i].next = part->free;
		part->free = i + 1;
	}
	return sides;
fail_parts:
	free(sides->parts);
fail_sides:
	free(sides);
	errno = err;
	return NULL;
}

void flow_sides_destroy(struct flow_sides *sides)
{
	if (sides == NULL)
		return;
	flow_memory_unmap(&sides->memory);
	free(sides->parts);
	free(sides);
}

size_t flow_sides_size(const struct flow_sides *sides)
{
	return sizeof(*sides) + sides->nb_parts * sizeof(*sides->parts) +
		sides->count * sizeof(*sides->records);
}

static struct flow_side_part *part_of(const struct flow_sides *sides, const struct flow_side *side)
{
	return &sides->parts[side->part];
}

struct flow_side *flow_side_get(struct flow_sides *sides, unsigned worker)
{
	for (unsigned i = 0; i < sides->nb_parts; i++) {
		unsigned number =
			worker + i < sides->nb_parts ? worker + i : worker + i - sides->nb_parts;
		struct flow_side_part *part = &sides->parts[number];
		struct flow_side *side = NULL;
		// Not worth a lock: a pool that is empty is so for all the SYNs of a flood.
		if (__atomic_load_n(&part->free, __ATOMIC_RELAXED) == 0)
			continue;
		flow_lock_take(&part->lock);
		if (part->free != 0) {
			side = &sides->records[part->free - 1];
			__atomic_store_n(&part->free, side->next, __ATOMIC_RELAXED);
			side->owner = FLOW_SIDE_CLAIMED;
		}
		flow_lock_release(&part->lock);
		if (side != NULL)
			return side;
	}
	return NULL;
}

static uint32_t *slot_of(struct flow_side_part *part, uint32_t due_ms)
{
	return &part->slots[due_ms % FLOW_SIDE_SLOTS];
}

static void link_timer(
	struct flow_sides *sides, struct flow_side_part *part, struct flow_side *side)
{
	uint32_t *slot = slot_of(part, side->due_ms);

	side->next = *slot;
	side->previous = 0;
	if (*slot != 0)
		sides->records[*slot - 1].previous = flow_side_index(sides, side) + 1;
	*slot = flow_side_index(sides, side) + 1;
	side->is_timed = true;
	part->nb_timed++;
}

static void unlink_timer(
	struct flow_sides *sides, struct flow_side_part *part, struct flow_side *side)
{
	if (!side->is_timed)
		return;
	if (side->previous != 0)
		sides->records[side->previous - 1].next = side->next;
	else
		*slot_of(part, side->due_ms) = side->next;
	if (side->next != 0)
		sides->records[side->next - 1].previous = side->previous;
	side->is_timed = false;
	part->nb_timed--;
}

struct flow_side *flow_side_claim(struct flow_sides *sides, uint32_t index, uint32_t owner)
{
	struct flow_side *side, *claimed = NULL;

	if (index >= sides->count)
		return NULL;
	side = &sides->records[index];
	struct flow_side_part *part = part_of(sides, side);
	flow_lock_take(&part->lock);
	if (side->owner == owner + 1) {
		side->owner = FLOW_SIDE_CLAIMED;
		unlink_timer(sides, part, side);
		claimed = side;
	}
	flow_lock_release(&part->lock);
	return claimed;
}

static bool is_due(const struct flow_side *side, uint64_t now_ms)
{
	return (int32_t)(side->due_ms - (uint32_t)now_ms) <= 0;
}

struct flow_side *flow_side_due(
	struct flow_sides *sides, unsigned worker, uint64_t now_ms, uint32_t *owner)
{
	struct flow_side_part *part = &sides->parts[worker];
	struct flow_side *due = NULL;

	flow_lock_take(&part->lock);
	if (now_ms - part->at_ms > FLOW_SIDE_SLOTS)
		part->at_ms = now_ms - FLOW_SIDE_SLOTS; // each slot once
	if (part->nb_timed == 0)
		part->at_ms = RTE_MAX(part->at_ms, now_ms);
	for (;;) {
		// What is due a turn of the wheel later or more is passed over.
		uint32_t at = *slot_of(part, part->at_ms);
		while (at != 0 && !is_due(&sides->records[at - 1], now_ms))
			at = sides->records[at - 1].next;
		if (at != 0)
			due = &sides->records[at - 1];
		if (due != NULL || part->at_ms >= now_ms)
			break; // this millisecond's slot may get more
		part->at_ms++;
	}
	if (due != NULL) {
		*owner = due->owner - 1;
		due->owner = FLOW_SIDE_CLAIMED;
		unlink_timer(sides, part, due);
	}
	flow_lock_release(&part->lock);
	return due;
}

void flow_side_own(
	struct flow_sides *sides, struct flow_side *side, uint32_t owner, uint64_t due_ms)
{
	struct flow_side_part *part = part_of(sides, side);

	flow_lock_take(&part->lock);
	side->owner = owner + 1;
	// A slot that was passed comes a turn later: what is overdue goes into the next one.
	side->due_ms = due_ms > part->at_ms ? due_ms : part->at_ms + 1;
	link_timer(sides, part, side);
	flow_lock_release(&part->lock);
}

void flow_side_put(struct flow_sides *sides, struct flow_side *side)
{
	struct flow_side_part *part = part_of(sides, side);

	flow_lock_take(&part->lock);
	side->owner = 0;
	side->next = part->free;
	__atomic_store_n(&part->free, flow_side_index(sides, side) + 1, __ATOMIC_RELAXED);
	flow_lock_release(&part->lock);
}
