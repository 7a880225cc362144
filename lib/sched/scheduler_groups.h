/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Backends in the one order that all schedulers start from, heaviest first and by identity among
 * equals, cut into groups of one weight. The members of a group are served in turn, so a scheduler
 * only has to choose between groups, of which there are few. Internal to this module.
 */
#ifndef WEIR_SCHEDULER_GROUPS_H
#define WEIR_SCHEDULER_GROUPS_H

#include <stdint.h>

#include "scheduler.h"

struct scheduler_member {
	uint64_t identity;
	uint32_t weight;
	uint32_t index; // in the caller's array
};

struct scheduler_group {
	uint32_t weight;
	uint32_t first; // of its members
	uint32_t nb_members;
};

struct scheduler_groups {
	struct scheduler_member *members;
	uint32_t nb_members;
	struct scheduler_group *groups; // by falling weight
	uint32_t nb_groups;
};

/* Check the backends, order and group them. 0, or the errors of scheduler_ops.build() as -errno. */
int scheduler_groups_init(
	struct scheduler_groups *groups, const struct scheduler_backend *backends, uint32_t count);

void scheduler_groups_fini(struct scheduler_groups *groups);

#endif
