/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who answers in whose vicinity: all backends that are reached by one gateway, or all on the link.
 * Where nobody answers any more, it may be the way there and not the backends.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_VICINITY_H
#define WEIR_VICINITY_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct backends;
struct control_backend;

struct vicinity {
	struct net_addr gateway; // AF_UNSPEC: the link
	unsigned cycle_ms;       // the longest turn of its probes: interval and timeout
	uint64_t answered_ms;    // the latest answer to a probe of any of its backends
	unsigned nb_fallen;      // backends that fell silent within one cycle of that answer
	bool fallen_many_hosts;  // they are on more than one host
	bool is_unreachable;     // no neighbour is there
	unsigned nb_backends;
	unsigned nb_held; // whose resets are held back
	struct net_addr fallen_host;
};

struct vicinities {
	struct vicinity *list;
	unsigned count, room;
};

/* Look at all backends anew. Memory that can't be had: false, and nothing is known of some. */
bool vicinities_look(struct vicinities *vicinities, const struct backends *backends);
void vicinities_free(struct vicinities *vicinities);

/* Return the backend's vicinity as it was looked at last; NULL: it has none. */
struct vicinity *vicinity_of(
	const struct vicinities *vicinities, const struct control_backend *backend);

/* Tell whether all of the vicinity that could have answered since the backend fell silent has had
 * the time to, at clock_ms() `now_ms`. */
bool vicinity_is_settled(
	const struct vicinity *vicinity, const struct control_backend *backend, uint64_t now_ms);

/* Tell whether the backend fell silent with its whole vicinity, so that the way there may be at
 * fault. `link_is_silent`: nothing at all is received from it. */
bool vicinity_is_dark(const struct vicinity *vicinity, const struct control_backend *backend,
	bool link_is_silent);

#endif
