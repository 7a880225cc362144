/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of the connections of a backend that is down: whether and when they are reset on its
 * behalf (services.NAME.on_down). It is down when its probes say so, or when its neighbour is gone.
 *
 * While our own side is in trouble (own_side.h) no time passes here. Trouble that can't be seen
 * from here, in a switch or in the filter of weir0's namespace, looks as if all backends had died
 * at once. So with on_down = "auto" resets are held back while nobody behind the same next hop, or
 * on the link, has answered anything since the backend fell silent, and either three backends on
 * two hosts fell silent within one turn of their probes, or the gateway or the link itself is
 * silent. When one answers again the others have on_down_reset_ms from then on; after hold_resets_s
 * nothing is held any more.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_ON_DOWN_H
#define WEIR_ON_DOWN_H

#include <stdbool.h>
#include <stdint.h>

struct control;
struct control_backend;
struct event_base;
struct on_down;

/* Create the judge of down backends. NULL for want of memory. */
struct on_down *on_down_create(struct event_base *events, struct control *control);
/* Free the judge; on_down_destroy(NULL) is fine. */
void on_down_destroy(struct on_down *on_down);

/* Take in that health or next hop of a backend changed, listed or with flows left: marks its row,
 * and publishes, when it is time. `now_ms`: clock_ms(). */
void on_down_update(struct on_down *on_down, struct control_backend *backend, uint64_t now_ms);

/* Look at all that are down, ten times a second while some are: true when some are to be looked at
 * again. `now_ms`: clock_ms(). */
bool on_down_look(struct on_down *on_down, uint64_t now_ms);

/* Tell whether resets of the backend's connections are held back. */
bool on_down_holds(const struct control_backend *backend);

#endif
