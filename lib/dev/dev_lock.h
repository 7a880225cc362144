/* SPDX-License-Identifier: BSD-3-Clause */
/* Who else runs: one process a file prefix, one process a port. Control core only. */
#ifndef WEIR_DEV_LOCK_H
#define WEIR_DEV_LOCK_H

#include <sys/types.h>

#include "dev_device.h"

#define DEV_RUNTIME "/var/run" // EAL's, for its directory dpdk

struct dev_lock {
	int fd; // -1 = not held
	char path[128];
};

/*
 * Lock the PCI device, or the kernel interface within its network namespace, by a file in
 * /run/weir; nothing to lock for other devices. `name` is written into it for the next one's
 * message. The kernel lets go when the process ends in any way. 0, or -errno (-EBUSY = taken) with
 * `message` (DEV_MESSAGE bytes).
 */
int dev_lock_take(
	struct dev_lock *lock, const struct dev_device *device, const char *name, char *message);
/* Let go of the lock and remove its file. Fine on one that isn't held. */
void dev_lock_release(struct dev_lock *lock);

/* Return the pid of the live process with this EAL file prefix, 0 = none, -1 =
 * of another PID namespace. */
pid_t dev_lock_prefix_owner(const char *prefix);

#endif
