/* SPDX-License-Identifier: BSD-3-Clause */
/* Which CPU the control core and each worker run on. Pure functions. */
#ifndef WEIR_DEV_CORES_H
#define WEIR_DEV_CORES_H

#include <sched.h>

#include "conf.h"
#include "dev.h"

struct dev_cores {
	unsigned control;
	unsigned workers[DEV_WORKERS_MAX];
	unsigned nb_workers;
};

/*
 * Pick what the file names, else: control = the first allowed CPU that no worker is named to run on
 * (the first allowed if there is none), one worker on a CPU of `near` (the port's NUMA node; NULL =
 * any) that isn't control's if there is one. 0, or -EINVAL with `message` (DEV_MESSAGE bytes) that
 * says which CPUs are allowed.
 */
int dev_cores_pick(struct dev_cores *cores, const struct conf_cores *conf, const cpu_set_t *allowed,
	const cpu_set_t *near, char *message);

/* Write the CPUs as "0-3,8"; returns `text`, which is cut at `size` bytes. */
const char *dev_cores_format(const cpu_set_t *set, char *text, size_t size);

#endif
