/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A named network namespace as iproute2 keeps them: a bind mount at /run/netns/NAME, so that
 * `ip -n NAME` sees it. A mark within it, the loopback device's alias, tells one that Weir made
 * (perhaps a killed run) from somebody else's: only the former is removed. Earlier weirs had a file
 * for a mark, /run/weir/NAME.netns with the namespace's inode number.
 *
 * Control core. The calling thread is in its own namespace again when a function returns.
 */
#ifndef WEIR_EXCEPTION_NAMESPACE_H
#define WEIR_EXCEPTION_NAMESPACE_H

#include <stdbool.h>

#include "conf.h"

struct exception_namespace {
	int fd;    // -1 = the host's, i.e. the calling thread's
	bool ours; // Weir made it, in this run or in one before
	bool made; // by exception_namespace_open() just now
	char name[CONF_NETNS_MAX + 1];
};

/*
 * Open the namespace, after making it (loopback up) when it isn't there; "" is the host's.
 * 0, or -errno with `message` (DEV_MESSAGE bytes).
 */
int exception_namespace_open(struct exception_namespace *ns, const char *name, char *message);

/* Close the descriptor; with `remove` also the name and the marker, if ours. */
void exception_namespace_close(struct exception_namespace *ns, bool remove);

/* Remove the mark that an earlier weir may have left of a namespace that is gone. */
void exception_namespace_forget(const char *name);

#endif
