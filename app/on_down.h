/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What becomes of the connections of a backend that is down: whether and when they are reset on its
 * behalf (services.NAME.on_down). It is down when its probes say so, or when its neighbour is gone.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_ON_DOWN_H
#define WEIR_ON_DOWN_H

struct control;
struct control_backend;
struct event_base;
struct on_down;

/* Create the judge of down backends. NULL for want of memory. */
struct on_down *on_down_create(struct event_base *events, struct control *control);
/* Free the judge; on_down_destroy(NULL) is fine. */
void on_down_destroy(struct on_down *on_down);

/* Take in that health or next hop of a listed backend changed: marks its row, and publishes,
 * when it is time. */
void on_down_update(struct on_down *on_down, struct control_backend *backend);

#endif
