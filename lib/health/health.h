/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Active health probes. A target is (address and port to probe, struct conf_health); backends that
 * agree in both share one target, whatever services they stand in.
 *
 * Thread rule: everything runs on the control core's event loop, and the change callback with it.
 */
#ifndef WEIR_HEALTH_H
#define WEIR_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "conf.h"

struct event_base;
struct health;
struct health_target;

enum health_state { HEALTH_UNKNOWN, HEALTH_UP, HEALTH_DOWN };

struct health_status {
	enum health_state state;
	char reason[64];      // of the last change, "connect: refused", "http: status 503", "" while unknown
	uint64_t since_ms;    // clock_ms() of the last change
	uint64_t probes;      // finished
	uint64_t failures;
};

/* Called on a change of state only, never from inside another call of this module. */
typedef void (*health_changed_fn)(void *context, struct health_target *target);

/*
 * netns_fd: the network namespace whose sockets the probes use, -1 for the thread's own; borrowed
 * for the lifetime. NULL and errno on failure.
 */
struct health *health_create(struct event_base *events, int netns_fd, health_changed_fn changed,
	void *context);

/* Closes every probe and frees all targets. health_destroy(NULL) is fine. */
void health_destroy(struct health *health);

/*
 * Start to probe, or share the target that does already (counted). The first probe goes out at
 * once; later ones are spread over the interval. type CONF_HEALTH_NONE: a target that is up and
 * never probed. `conf` is copied. NULL and errno on failure. Undone by health_target_put().
 */
struct health_target *health_target_get(struct health *health, const struct net_endpoint *backend,
	const struct conf_health *conf);
void health_target_put(struct health_target *target);

const struct health_status *health_target_status(const struct health_target *target);
const struct net_endpoint *health_target_endpoint(const struct health_target *target);

/* "unknown", "up", "down". */
const char *health_state_name(enum health_state state);

#endif
