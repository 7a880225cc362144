/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Least connections, weighted: the backend whose open connections are fewest for its weight. The
 * search begins where weighted round robin would go, which so decides between equals: idle backends
 * share by weight, as in nginx, in place of the heaviest getting all (LVS's "wlc").
 *
 * No more than MAX_SEEN backends are compared, so that a SYN costs the same whatever the service's
 * size. Round robin moves on from one SYN to the next, hence all get their turn to be compared, and
 * the least loaded of 128 is far from the most loaded of all (Mitzenmacher, "The Power of Two
 * Choices in Randomized Load Balancing", 2001: two would do).
 */
#include "scheduler.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_SEEN = 128 };

struct least_conn {
	void *robin;
	uint32_t count;
	uint32_t weights[];
};

static void *least_conn_build(const struct scheduler_backend *backends, uint32_t count)
{
	void *robin = scheduler_round_robin.build(backends, count); // which checks them

	if (robin == NULL)
		return NULL;
	struct least_conn *least = malloc(sizeof(*least) + count * sizeof(least->weights[0]));
	if (least == NULL) {
		scheduler_round_robin.destroy(robin);
		errno = ENOMEM;
		return NULL;
	}
	least->robin = robin;
	least->count = count;
	for (uint32_t i = 0; i < count; i++)
		least->weights[i] = backends[i].weight;
	return least;
}

static uint32_t least_conn_pick(
	const void *state, const struct scheduler_load *load, struct scheduler_cursor *cursor)
{
	const struct least_conn *least = state;
	uint32_t first = scheduler_round_robin.pick(least->robin, 0, cursor), best = first;
	uint32_t seen = least->count < MAX_SEEN ? least->count : MAX_SEEN;
	uint64_t best_active = 0, best_weight = 0; // the first one that isn't full is better

	for (uint32_t i = first; seen-- > 0; i = i + 1 < least->count ? i + 1 : 0) {
		uint64_t active = load->active[load->ids[i]], weight = least->weights[i];

		if (load->limits != NULL && load->limits[i] != 0 && active >= load->limits[i])
			continue;
		// active / weight < best_active / best_weight; 32 bits times 16 can't overflow.
		if (best_weight == 0 || active * best_weight < best_active * weight) {
			best = i;
			best_active = active;
			best_weight = weight;
		}
	}
	return best;
}

static void least_conn_destroy(void *state)
{
	struct least_conn *least = state;

	if (least == NULL)
		return;
	scheduler_round_robin.destroy(least->robin);
	free(least);
}

const struct scheduler_ops scheduler_least_conn = {
	.name = "least_conn",
	.build = least_conn_build,
	.pick_by_load = least_conn_pick,
	.destroy = least_conn_destroy,
};
