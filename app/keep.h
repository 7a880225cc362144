/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What outlives the process beside the flow table: for each backend of each service what the probes
 * said last, what was set by hand and what was counted, in a small file in /run/weir. So no backend
 * is unknown after a restart, nobody waits for `rise`, no host in maintenance gets clients, and
 * totals go on.
 *
 * A verdict is written when it changes, what is set by hand before it is answered, totals in turn,
 * so many at a time that the loop doesn't notice; a row at a place of its own, by the backend's id,
 * under a checksum. A row that is damaged is a backend that is probed anew.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_KEEP_H
#define WEIR_KEEP_H

#include <stdbool.h>

#include "health.h"
#include "stats.h"

struct backends;
struct conf;
struct control_backend;
struct keep;

/* Read what the former process left of the instance. `persist` false: nothing is read or written.
 * NULL for want of memory. */
struct keep *keep_create(const struct conf *conf, bool persist);
/* End the keeping. `remove`: the file goes, too. keep_destroy(NULL) is fine. */
void keep_destroy(struct keep *keep, bool remove);

/* Read what is known of a backend's health from before: false when nothing is. */
bool keep_health(const struct keep *keep, const struct control_backend *backend,
	struct health_status *status);
/* Read what was counted for a backend before: false when nothing was. */
bool keep_totals(const struct keep *keep, const struct control_backend *backend,
	struct stats_backend *totals);

/* Read what was set by hand for a backend before, -1 = nothing was. */
void keep_by_hand(
	const struct keep *keep, const struct control_backend *backend, int *state, int *weight);

/* Keep what runs now from here on: writes all backends, and replaces what the former process left
 * as a whole. `keep` NULL: nothing happens, in any of these. */
void keep_begin(struct keep *keep, const struct backends *backends);
/* Write a backend down. */
void keep_write(
	struct keep *keep, const struct backends *backends, const struct control_backend *backend);
/* Take a backend out that is gone. */
void keep_erase(struct keep *keep, const struct control_backend *backend);
/* Write the next backends' totals. Returns in how many ms to call again: all have their turn once a
 * second, or, where these are thousands, as often as slices at that distance allow. */
unsigned keep_tick(struct keep *keep, const struct backends *backends);
/* Write all backends, at the end. */
void keep_all(struct keep *keep, const struct backends *backends);

/* Remove the file of an instance that doesn't run. */
void keep_remove(const struct conf *conf);

#endif
