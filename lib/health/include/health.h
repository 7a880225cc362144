/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Active health probes. A target is (address and port to probe, struct conf_health); backends that
 * agree in both share one target, whatever services they stand in.
 *
 * Thread rule: everything runs on the control core's event loop, and the change callback with it.
 * The process must ignore SIGPIPE.
 *
 * A failure is the backend's only when our own side was in order: a probe that can't be made (no
 * descriptor, memory, local port, address or route) is skipped and logged; none is made, and no
 * failure counts, while our own side is in trouble (health_set_trouble()); a deadline moves on by
 * what the loop lost (a busy CPU), and a probe during which it lost more than a timeout is repeated
 * at once.
 */
#ifndef WEIR_HEALTH_H
#define WEIR_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "conf.h"
#include "sources.h"

#define HEALTH_REASON_TEXT 112 // room for why a target is in its state

struct event_base;
struct health;
struct health_target;
struct probe_ports;

enum health_state { HEALTH_UNKNOWN, HEALTH_UP, HEALTH_DOWN };

struct health_status {
	enum health_state state;
	// Of the last change: "connect: ok", "connect: refused", "http: timeout",
	// "http: status 503", "tls: certificate: ..."; "" while unknown and when never probed. With
	// several source addresses a failure says which: "connect: timeout from 192.0.2.11".
	char reason[HEALTH_REASON_TEXT];
	uint64_t since_ms; // clock_ms() of the last change, or of the target's making
	uint64_t probes;   // probes that passed or failed; a skipped one doesn't count
	uint64_t failures; // probes that failed
	// The latest probe got a connection, whatever came after it: from any source address.
	bool connects;
	// Anything that came back is an answer, a refusal too.
	uint64_t answered_ms; // clock_ms() of the latest one; 0 = none since the target was made
	uint64_t silent_ms;   // when the first probe since failed for want of one; 0 = none has
};

/*
 * Called on a change of state only, never from inside another call of this module. It may get and
 * put targets, this one too, but not destroy the whole. Logging the change is its business.
 */
typedef void (*health_changed_fn)(void *context, struct health_target *target);

/* Make the probes, of which there are none yet. netns_fd: the network namespace whose sockets they
 * use, -1 for the thread's own; borrowed for the lifetime. NULL and errno on failure. */
struct health *health_create(
	struct event_base *events, int netns_fd, health_changed_fn changed, void *context);

/*
 * Whether probes are served: what carries them works. Asked every LOOP_BEAT_MS (probe_schedule.h)
 * while some are under way; time without is lost time, as a halt of the loop is.
 */
typedef bool (*health_served_fn)(void *context);
void health_set_served(struct health *health, health_served_fn served, void *context);

/* Let the local ports of all probes under way be in `ports`, which is the caller's. Before the
 * first target. */
void health_set_ports(struct health *health, struct probe_ports *ports);

/*
 * Let probes come from these addresses, in turn where a family has several, which are the caller's
 * and must outlive the targets. Before the first target. A failure is told with its address, and
 * verdict.h says what it is worth.
 */
void health_set_sources(struct health *health, const struct net_sources *sources);

/*
 * Whether our own side is in trouble, or was at any time since clock_ms() `since_ms`: no link, no
 * interface. Asked before each probe and at each failure.
 */
typedef bool (*health_trouble_fn)(void *context, uint64_t since_ms);
void health_set_trouble(struct health *health, health_trouble_fn trouble, void *context);

/* Drop every probe and free all targets, got or not. Some memory and sockets go only in the next
 * turn of the loop, or with the event_base. health_destroy(NULL) is fine. */
void health_destroy(struct health *health);

/*
 * Start to probe, or share the target that does already (counted). The first probe goes out at
 * once (many at once: 10,000 a second) and its result decides alone; later ones are spread over the
 * interval. type CONF_HEALTH_NONE: a target that is up and never probed, without a callback. `conf`
 * is copied. NULL and errno on failure: ENOMEM, or EINVAL for a conf that can't be probed by.
 * Undone by health_target_put().
 */
struct health_target *health_target_get(
	struct health *health, const struct net_endpoint *backend, const struct conf_health *conf);
void health_target_put(struct health_target *target);

/*
 * Tell what is known of the target from before: from here on it is as if it had been
 * probed, so that `rise` or `fall` results change it. Nothing happens when it is known
 * already, but that one that is never probed, and wasn't before, is up since then.
 */
void health_target_know(struct health_target *target, const struct health_status *status);

const struct health_status *health_target_status(const struct health_target *target);
/* Return what is probed: the backend's address and the port of `conf`, or else of the backend. */
const struct net_endpoint *health_target_endpoint(const struct health_target *target);

/* Return "unknown", "up" or "down". */
const char *health_state_name(enum health_state state);

#endif
