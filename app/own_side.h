/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Our own side: whether the port has its link and weir0 is up. While it is in trouble nothing that
 * fails says anything about a backend: no probe is made, no failure counts, and the clocks that run
 * against a backend which is down stand.
 *
 * Thread rule: control core.
 */
#ifndef WEIR_OWN_SIDE_H
#define WEIR_OWN_SIDE_H

#include <stdbool.h>
#include <stdint.h>

struct daemon;
struct own_side;

/* Look at port and weir0 from the event loop from now on, and say what changes. NULL and errno:
 * -ENOMEM. */
struct own_side *own_side_create(struct daemon *daemon);
/* Stop to look; own_side_destroy(NULL) is fine. */
void own_side_destroy(struct own_side *own_side);

/* Tell whether something is out of order, or was since clock_ms() `since_ms`. Looks, unless it has
 * done so a moment ago. NULL: nothing is. */
bool own_side_in_trouble(struct own_side *own_side, uint64_t since_ms);

/* Return what is out of order, "" = nothing. Under daemon.lock, or on the event loop. */
const char *own_side_trouble(const struct own_side *own_side);

#endif
