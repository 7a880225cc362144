/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What outlives the process beside the flow table: for each backend of each service what the probes
 * and the clients' connects said last, what was set by hand and by whom, and what was counted of
 * it, of its service and by the workers, in a small file in /run/weir. So no backend is unknown
 * after a restart, nobody waits for `rise`, no host in maintenance gets clients, and totals go on.
 *
 * A verdict is written when it changes, what is set by hand before it is answered, a total before
 * it is told: so none is ever below what was told of it. What nobody asks for is written in turn,
 * so much at a time that the loop doesn't notice. Whenever the process dies, each row is as it was
 * before a write or after it (kept_rows.h).
 *
 * Thread rule: on the control core's event loop, but for what says otherwise.
 */
#ifndef WEIR_KEEP_H
#define WEIR_KEEP_H

#include <stdbool.h>

#include "hand.h"
#include "health.h"
#include "passive.h"
#include "stats.h"
#include "stats_connect.h"

struct backends;
struct conf;
struct control_backend;
struct control_service;
struct keep;
struct worker;

/* Read what the former process left of the instance. `persist` false: nothing is read or written.
 * NULL for want of memory. */
struct keep *keep_create(const struct conf *conf, bool persist);
/* End the keeping. `remove`: the file goes, too. keep_destroy(NULL) is fine. */
void keep_destroy(struct keep *keep, bool remove);

/* --- what the former process left; of `keep` NULL nothing --- */

/* Read what is known of a backend's health from before: false when nothing is. */
bool keep_health(const struct keep *keep, const struct control_backend *backend,
	struct health_status *status);

/* Read the verdict by its clients' connects that was on a backend: false when there was none. */
bool keep_passive(const struct keep *keep, const struct control_backend *backend,
	struct passive_verdict *verdict);

/* Read what was set by hand for a backend before, -1 = nothing was; and by whom. */
void keep_by_hand(const struct keep *keep, const struct control_backend *backend, int *state,
	int *weight, struct hand *hand);

/* What was counted of a backend. */
struct keep_totals {
	struct stats_backend packets;
	struct stats_connect connects; // the counts; the rest is 0
	uint64_t connections;          // as they were told
};

/* Take what was counted for a backend before: false, and all 0, when nothing was. */
bool keep_totals(
	struct keep *keep, const struct control_backend *backend, struct keep_totals *totals);
/* Take what was counted for a service before: of itself, and the connections of its backends whose
 * totals nobody took. Once all are taken of those that there are. */
void keep_service_totals(struct keep *keep, const char *service, struct stats_service *totals,
	uint64_t *past_connections);
/* Add what a worker had counted, and to the first one what those did that are no more. */
void keep_worker_totals(const struct keep *keep, unsigned worker, unsigned nb_workers,
	struct stats_counters *counters);

/* --- what runs now --- */

/* Keep what runs now from here on: writes all, and replaces what the former process left as a
 * whole. `keep` NULL: nothing happens, in any of these. */
void keep_begin(struct keep *keep, const struct backends *backends, const struct worker *workers,
	unsigned nb_workers);
/* Write a backend down. Telemetry calls it, too, under daemon.lock. */
void keep_write(
	struct keep *keep, const struct backends *backends, const struct control_backend *backend);
/* Write a service down, and those of its backends that have got connections since they were.
 * Telemetry calls it, too, under daemon.lock. */
void keep_write_service(
	struct keep *keep, const struct backends *backends, const struct control_service *service);
/* Write down what the workers counted. Telemetry calls it, too. */
void keep_write_workers(struct keep *keep);
/* Take a backend out that is gone, whose service has its connections among those of the past. */
void keep_erase(
	struct keep *keep, const struct backends *backends, const struct control_backend *backend);
/* Take a service out that is gone, while it has its index. */
void keep_erase_service(struct keep *keep, const struct control_service *service);
/* Write the next totals. Returns in how many ms to call again: all have their turn once a second,
 * or, where these are thousands, as often as slices at that distance allow. */
unsigned keep_tick(struct keep *keep, const struct backends *backends);
/* Write all, at the end. */
void keep_all(struct keep *keep, const struct backends *backends);

/* Remove the file of an instance that doesn't run. */
void keep_remove(const struct conf *conf);

#endif
