/* SPDX-License-Identifier: BSD-3-Clause */
#include "scheduler_groups.h"

#include <errno.h>
#include <stdlib.h>

static int compare_identity(const void *a, const void *b)
{
	const struct scheduler_member *x = a, *y = b;

	return (x->identity > y->identity) - (x->identity < y->identity);
}

static int compare_weight(const void *a, const void *b)
{
	const struct scheduler_member *x = a, *y = b;

	if (x->weight != y->weight)
		return x->weight > y->weight ? -1 : 1;
	return compare_identity(a, b);
}

/* Whether two members, which are ordered by identity, have the same one. */
static bool has_twins(const struct scheduler_groups *groups)
{
	for (uint32_t i = 1; i < groups->nb_members; i++) {
		if (groups->members[i].identity == groups->members[i - 1].identity)
			return true;
	}
	return false;
}

/* Cut the members, which are ordered by weight. */
static void cut(struct scheduler_groups *groups)
{
	for (uint32_t i = 0; i < groups->nb_members; i++) {
		uint32_t weight = groups->members[i].weight;

		if (i == 0 || weight != groups->members[i - 1].weight)
			groups->groups[groups->nb_groups++] =
				(struct scheduler_group){.weight = weight, .first = i};
		groups->groups[groups->nb_groups - 1].nb_members++;
	}
}

int scheduler_groups_init(
	struct scheduler_groups *groups, const struct scheduler_backend *backends, uint32_t count)
{
	*groups = (struct scheduler_groups){.nb_members = count};
	if (count == 0)
		return -EINVAL;
	if (count > SCHEDULER_MAX_BACKENDS)
		return -E2BIG;
	for (uint32_t i = 0; i < count; i++) {
		if (backends[i].weight == 0 || backends[i].weight > SCHEDULER_MAX_WEIGHT)
			return -EINVAL;
	}

	groups->members = calloc(count, sizeof(*groups->members));
	groups->groups = calloc(count, sizeof(*groups->groups));
	if (groups->members == NULL || groups->groups == NULL) {
		scheduler_groups_fini(groups);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < count; i++)
		groups->members[i] = (struct scheduler_member){
			.identity = backends[i].identity,
			.weight = backends[i].weight,
			.index = i,
		};
	qsort(groups->members, count, sizeof(*groups->members), compare_identity);
	if (has_twins(groups)) {
		scheduler_groups_fini(groups);
		return -EEXIST;
	}
	qsort(groups->members, count, sizeof(*groups->members), compare_weight);
	cut(groups);
	return 0;
}

void scheduler_groups_fini(struct scheduler_groups *groups)
{
	free(groups->members);
	free(groups->groups);
	*groups = (struct scheduler_groups){0};
}
