/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Smooth weighted round robin, as in nginx: at each step every backend gains its weight, the one
 * that has most is picked and pays the sum of all weights. Weights 5, 1, 1 give a a b a c a a.
 *
 * The sequence repeats after the sum of the weights, divided by their greatest common divisor, so
 * it is computed once and the workers only step through it. Members of a group are picked in turn,
 * so that only the groups are compared at each step.
 */
#include "scheduler.h"

#include <errno.h>
#include <stdlib.h>

#include "scheduler_groups.h"

/* Weights that would make the sequence longer are rounded to a share of this, but at least 1. */
enum { MAX_SEQUENCE = 65536 };

struct round_robin {
	uint32_t length;
	uint16_t sequence[];
};

/* A group at one step. */
struct balance {
	int64_t gained;     // of the members whose turn in this round is still to come
	uint32_t nb_served; // members that had their turn in this round
};

static uint32_t greatest_common_divisor(uint32_t a, uint32_t b)
{
	while (b != 0) {
		uint32_t rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static uint64_t sum_of_weights(const struct scheduler_groups *groups)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < groups->nb_groups; i++)
		sum += (uint64_t)groups->groups[i].weight * groups->groups[i].nb_members;
	return sum;
}

/* Make the weights as small as they may be; returns their sum, less than 2 * MAX_SEQUENCE. */
static uint32_t reduce_weights(struct scheduler_groups *groups)
{
	uint32_t divisor = 0;

	for (uint32_t i = 0; i < groups->nb_groups; i++)
		divisor = greatest_common_divisor(divisor, groups->groups[i].weight);
	for (uint32_t i = 0; i < groups->nb_groups; i++)
		// NOLINTNEXTLINE(clang-analyzer-core.DivideZero): no weight is 0
		groups->groups[i].weight /= divisor;

	uint64_t sum = sum_of_weights(groups);
	if (sum <= MAX_SEQUENCE)
		return sum;
	for (uint32_t i = 0; i < groups->nb_groups; i++) {
		struct scheduler_group *group = &groups->groups[i];
		uint32_t scaled = ((uint64_t)group->weight * MAX_SEQUENCE + sum / 2) / sum;

		group->weight = scaled > 0 ? scaled : 1;
	}
	return sum_of_weights(groups);
}

static void fill(
	struct round_robin *robin, const struct scheduler_groups *groups, struct balance *balances)
{
	for (uint32_t step = 0; step < robin->length; step++) {
		uint32_t best = 0;

		for (uint32_t i = 0; i < groups->nb_groups; i++) {
			balances[i].gained += groups->groups[i].weight;
			if (balances[i].gained > balances[best].gained)
				best = i;
		}
		const struct scheduler_group *group = &groups->groups[best];
		struct balance *balance = &balances[best];
		robin->sequence[step] = groups->members[group->first + balance->nb_served++].index;
		if (balance->nb_served == group->nb_members) {
			balance->nb_served = 0;
			balance->gained -= robin->length;
		}
	}
}

static void *round_robin_build(const struct scheduler_backend *backends, uint32_t count)
{
	struct scheduler_groups groups;
	int error = scheduler_groups_init(&groups, backends, count);

	if (error < 0) {
		errno = -error;
		return NULL;
	}
	uint32_t length = reduce_weights(&groups);
	struct round_robin *robin = malloc(sizeof(*robin) + length * sizeof(robin->sequence[0]));
	struct balance *balances = calloc(groups.nb_groups, sizeof(*balances));
	if (robin != NULL && balances != NULL) {
		robin->length = length;
		fill(robin, &groups, balances);
	} else {
		free(robin);
		robin = NULL;
		error = ENOMEM;
	}
	free(balances);
	scheduler_groups_fini(&groups);
	if (robin == NULL)
		errno = error;
	return robin;
}

static uint32_t round_robin_pick(const void *state, uint64_t hash, struct scheduler_cursor *cursor)
{
	const struct round_robin *robin = state;
	uint32_t position = cursor->position;

	if (position >= robin->length) // the round is over, or the sequence a new, shorter one
		position = 0;
	cursor->position = position + 1;
	return robin->sequence[position];
}

static void round_robin_destroy(void *state)
{
	free(state);
}

const struct scheduler_ops scheduler_round_robin = {
	.name = "round_robin",
	.build = round_robin_build,
	.pick = round_robin_pick,
	.destroy = round_robin_destroy,
};
