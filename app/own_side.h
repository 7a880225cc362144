/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Our own side: what the kernel gave, and others can take away. Four times a second it is looked
 * at, and a line says what is wrong.
 *
 * - weir0 is down, or has lost an address or its default route; the port isn't mute any more (a
 *   flush of nftables): put back in place.
 * - weir0, or the name of its namespace, is gone; the port was deleted and made anew: the process
 *   starts again (upgrade.h), which costs no connection.
 * - The port has no link, or is gone: that can only be waited for.
 *
 * While it is in trouble nothing that fails says anything about a backend: no probe is made, no
 * failure counts, and the clocks that run against a backend which is down stand.
 *
 * Thread rule: control core.
 */
#ifndef WEIR_OWN_SIDE_H
#define WEIR_OWN_SIDE_H

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct own_side;

/* Look at port and weir0 from the event loop from now on. NULL and errno: -ENOMEM. */
struct own_side *own_side_create(struct daemon *daemon);
/* Stop to look; own_side_destroy(NULL) is fine. */
void own_side_destroy(struct own_side *own_side);

/* Tell whether something is out of order, or was since clock_ms() `since_ms`. Looks, unless it has
 * done so a moment ago. NULL: nothing is. */
bool own_side_in_trouble(struct own_side *own_side, uint64_t since_ms);

/* Return what is out of order, "" = nothing. Under daemon.lock, or on the event loop. */
const char *own_side_trouble(const struct own_side *own_side);

#endif
