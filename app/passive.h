/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Passive health: what becomes of the clients' own connects takes a backend out. The workers count
 * and name the backends; this looks at those names ten times a second, at the others in turn, and
 * judges.
 *
 * So many connects refused or unanswered within the window take a backend out for new connections,
 * with a reason of its own, when they are at least half of its connects in the window and none was
 * answered since the first of them; but never the last one of a service. A probe knows better: the
 * next one that passes brings it back, each time in a row after a while that doubles, and a verdict
 * by probes ends this one. Without probes it comes back after another while that doubles. Only
 * connects count that were made since the backend takes them again (its epoch): what is left over
 * from before says nothing about it.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_PASSIVE_H
#define WEIR_PASSIVE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "health.h"

struct control;
struct control_backend;
struct control_service;
struct event_base;
struct passive;
struct pipeline_fails;

#define PASSIVE_SLOTS 8 // of the window

/* Why a backend is out, and until when. */
struct passive_verdict {
	uint64_t since_ms;       // when it went out
	uint64_t retry_at_ms;    // when it comes back by itself,
	uint64_t probe_at_ms;    // and from when on a probe that passes brings it back
	uint32_t times;          // out in a row
	uint32_t fails;          // connects that failed,
	bool refused, timed_out; // some of them so
};

/* A backend's share of it; zeroed at first. */
struct passive_backend {
	bool is_out;
	struct health_status status;        // while it is out: what telemetry and log say
	uint64_t back_ms;                   // when it came back last; 0 = it never was out
	struct passive_verdict verdict;     // the last
	bool is_resumed;                    // it is a former process's
	uint64_t probes, failures;          // of its target when it went out
	uint64_t looked_ms;                 // when it was looked at last
	uint64_t fails, refused, timed_out; // counted then
	uint32_t answers;                   // likewise, the low bits
	uint32_t slot;                      // the latest: its number since the clock's start
	uint32_t fails_by[PASSIVE_SLOTS];
	uint32_t refused_by[PASSIVE_SLOTS];
	uint32_t timed_out_by[PASSIVE_SLOTS];
	uint32_t answers_by[PASSIVE_SLOTS];
	LIST_ENTRY(control_backend) entry; // of those that are out
};

/* Create the judge of the clients' connects. `fails`: of the workers, by number, which may start
 * later; the array outlives this. NULL for want of memory. */
struct passive *passive_create(struct event_base *events, struct control *control,
	const struct pipeline_fails *const *fails, unsigned nb_workers);
/* Free the judge; passive_destroy(NULL) is fine. */
void passive_destroy(struct passive *passive);

/* Look at what the workers counted, ten times a second. `now_ms`: clock_ms(). */
void passive_look(struct passive *passive, uint64_t now_ms);

/* Begin to judge a backend whose totals go on from those of a former process, before it gets any
 * connection: what that process counted says nothing, but its verdict (NULL: none) holds for as
 * long as it would have there. Fine without a `passive`. */
void passive_resume(struct passive *passive, struct control_backend *backend,
	const struct passive_verdict *verdict);

/* End what was held against a backend: its probes have a verdict, which counts, or
 * it goes. `now_ms`: clock_ms(). */
void passive_end(struct passive *passive, struct control_backend *backend, uint64_t now_ms);

/* Bring back what only this judge has taken out, when no backend of the service is usable. Fine
 * without a `passive`. Not under daemon.lock. `now_ms`: clock_ms(). */
void passive_spare(struct passive *passive, struct control_service *service, uint64_t now_ms);

#endif
