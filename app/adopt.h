/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The connections that a former process left in the flow tables' files: what they mean in today's
 * configuration. A flow's service is the one that listens on its VIP today, its backend is known by
 * address and port. A backend that isn't in the file any more is entered as removed, as if a reload
 * had taken it out just now; so is one whose service is gone.
 *
 * Thread rule: control core, before the first table is published.
 */
#ifndef WEIR_ADOPT_H
#define WEIR_ADOPT_H

struct daemon;

/* Take the former process's flows in, once the workers' counters are there. 0 or -ENOMEM. */
int adopt_flows(struct daemon *daemon);

#endif
