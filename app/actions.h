/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is done to backends by hand, in an incident, without editing the file. It holds until the
 * next reload, which restores what the file says; another process goes on with it. The file is
 * never written.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_ACTIONS_H
#define WEIR_ACTIONS_H

#include <stddef.h>
#include <stdint.h>

struct conf_diff;
struct control;
struct hand;

#define ACTION_TEXT 400

/* Drain a backend, named as in telemetry, or by its address and port; `hand`: whose it is. 0 with
 * words for what was done (and soon published), or -ENOENT, -EINVAL with what is wrong and which
 * names there are; `words` holds ACTION_TEXT bytes.
 */
int action_drain(struct control *control, const struct hand *hand, const char *service,
	const char *backend, char *words);
/* Let a backend take connections. Named and answered as action_drain(). */
int action_activate(struct control *control, const struct hand *hand, const char *service,
	const char *backend, char *words);
/* Set a backend's weight, 0 to CONF_WEIGHT_MAX. Named and answered as action_drain(). */
int action_weight(struct control *control, const struct hand *hand, const char *service,
	const char *backend, int64_t weight, char *words);

/* Take back all that was done by hand, under daemon.lock, when a reload has put the file's values
 * in place. Adds a line to `diff` for each backend that this changes. */
void actions_restore(struct control *control, struct conf_diff *diff);

#endif
