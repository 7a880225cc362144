/* SPDX-License-Identifier: BSD-3-Clause */
#include "scheduler.h"

#include <string.h>

static const struct scheduler_ops *const schedulers[] = {
	&scheduler_maglev,
	&scheduler_round_robin,
	&scheduler_least_conn,
	&scheduler_source,
};

const struct scheduler_ops *scheduler_find(const char *name)
{
	for (size_t i = 0; i < sizeof(schedulers) / sizeof(schedulers[0]); i++) {
		if (strcmp(schedulers[i]->name, name) == 0)
			return schedulers[i];
	}
	return NULL;
}
