/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer",
 * NSDI 2016, section 3.4) with weights.
 *
 * Each backend walks the slots in an order of its own, offset + j * skip, and the backends take
 * turns: whoever has the turn takes the next slot of its walk that is still free. A backend that
 * comes or goes thus disturbs few slots but its own. The number of slots is prime, so that every
 * skip leads to every slot; 65,537 keeps the imbalance below 1 % up to 655 backends, in 128 KiB.
 *
 * Weights are a matter of whose turn it is. Turn k of a backend is due at (k + 1/2) / weight, which
 * shares the slots out as Webster's method does seats; the first turn is due at 0, so that nobody
 * goes without a slot. When a turn is due depends on the backend's own weight alone: another
 * backend's weight, even the largest, does not reorder the rest. With equal weights these are the
 * paper's rounds. Integers only, so that all machines build the same table.
 */
#include "scheduler.h"

#include <errno.h>
#include <stdlib.h>

#include "scheduler_groups.h"

enum { NB_SLOTS = 65537 };

struct maglev {
	uint16_t slots[NB_SLOTS];
};

/* A backend's place in its order of the slots. */
struct walk {
	uint32_t next;
	uint32_t skip; // 1 to NB_SLOTS - 1
};

/* A group's next turn. */
struct turn {
	uint64_t due; // in 1 / 2^32 of a turn of weight 1
	uint32_t group;
};

/* SplitMix64 (Steele, Lea, Flood 2014): the two hashes of the paper are its first two outputs. */
static uint64_t splitmix_next(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static struct walk walk_start(uint64_t identity)
{
	uint64_t seed = identity;
	uint32_t offset = splitmix_next(&seed) % NB_SLOTS;
	uint32_t skip = splitmix_next(&seed) % (NB_SLOTS - 1) + 1;

	return (struct walk){.next = offset, .skip = skip};
}

/* Take the walk's next free slot; there must be one. The bits of `taken` fit in the L1 cache. */
static uint32_t walk_take(struct walk *walk, uint64_t *taken)
{
	uint32_t slot;

	do {
		slot = walk->next;
		walk->next += walk->skip;
		if (walk->next >= NB_SLOTS)
			walk->next -= NB_SLOTS;
	} while (taken[slot / 64] >> (slot % 64) & 1);
	taken[slot / 64] |= (uint64_t)1 << (slot % 64);
	return slot;
}

static bool turn_before(const struct turn *a, const struct turn *b)
{
	return a->due != b->due ? a->due < b->due : a->group < b->group;
}

/* Restore the heap, in which the next turn comes first, after its first one was put off. */
static void turns_sift(struct turn *turns, uint32_t nb_turns)
{
	struct turn moved = turns[0];
	uint32_t hole = 0;

	for (uint32_t child; (child = 2 * hole + 1) < nb_turns; hole = child) {
		if (child + 1 < nb_turns && turn_before(&turns[child + 1], &turns[child]))
			child++;
		if (turn_before(&moved, &turns[child]))
			break;
		turns[hole] = turns[child];
	}
	turns[hole] = moved;
}

static void fill(struct maglev *maglev, const struct scheduler_groups *groups, struct walk *walks,
	struct turn *turns)
{
	uint64_t taken[NB_SLOTS / 64 + 1] = {0};
	uint32_t nb_free = NB_SLOTS;

	for (uint32_t i = 0; i < groups->nb_members; i++)
		walks[i] = walk_start(groups->members[i].identity);
	for (uint32_t i = 0; i < groups->nb_groups; i++)
		turns[i] = (struct turn){.due = 0, .group = i}; // in order, hence a heap

	while (nb_free > 0) {
		const struct scheduler_group *group = &groups->groups[turns[0].group];
		uint32_t nb = group->nb_members < nb_free ? group->nb_members : nb_free;

		for (uint32_t i = group->first; i < group->first + nb; i++)
			maglev->slots[walk_take(&walks[i], taken)] = groups->members[i].index;
		nb_free -= nb;

		uint64_t stride = ((uint64_t)1 << 32) / group->weight;
		turns[0].due += turns[0].due == 0 ? stride + stride / 2 : stride;
		turns_sift(turns, groups->nb_groups);
	}
}

static void *maglev_build(const struct scheduler_backend *backends, uint32_t count)
{
	struct scheduler_groups groups;
	int error = scheduler_groups_init(&groups, backends, count);

	if (error < 0) {
		errno = -error;
		return NULL;
	}
	struct maglev *maglev = malloc(sizeof(*maglev));
	struct walk *walks = calloc(groups.nb_members, sizeof(*walks));
	struct turn *turns = calloc(groups.nb_groups, sizeof(*turns));
	if (maglev != NULL && walks != NULL && turns != NULL) {
		fill(maglev, &groups, walks, turns);
	} else {
		free(maglev);
		maglev = NULL;
		error = ENOMEM;
	}
	free(walks);
	free(turns);
	scheduler_groups_fini(&groups);
	if (maglev == NULL)
		errno = error;
	return maglev;
}

static uint32_t maglev_pick(const void *state, uint64_t hash, struct scheduler_cursor *cursor)
{
	const struct maglev *maglev = state;

	// A modulo, not a multiply and shift: it uses all bits of the hash, whichever of them the
	// flow table's index has used already. By a constant, and only once a connection.
	return maglev->slots[hash % NB_SLOTS];
}

static void maglev_prefetch(const void *state, uint64_t hash)
{
	const struct maglev *maglev = state;

	__builtin_prefetch(&maglev->slots[hash % NB_SLOTS]);
}

static void maglev_destroy(void *state)
{
	free(state);
}

const struct scheduler_ops scheduler_maglev = {
	.name = "maglev",
	.build = maglev_build,
	.pick = maglev_pick,
	.prefetch = maglev_prefetch,
	.destroy = maglev_destroy,
};
