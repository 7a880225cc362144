/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which backends wait for which health and route target. Targets are shared: by backends of several
 * services at one address, by backends behind one router.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_WATCH_H
#define WEIR_WATCH_H

#include "health.h"
#include "route.h"
#include "sources.h"

struct conf_health;
struct control_backend;
struct event_base;
struct probe_ports;
struct watch;

struct watch_source {
	struct event_base *events;
	int netns_fd;
	const char *interface;
	struct probe_ports *probe_ports; // of the probes under way
	struct net_sources sources;      // of the connections to backends; outlive them
	// A backend's target has news, which is not copied yet. Neither may watch or unwatch.
	void (*health_changed)(void *context, struct control_backend *backend);
	void (*hop_changed)(void *context, struct control_backend *backend);
	// The kernel has a neighbour at that MAC: route_heard_fn.
	void (*neighbour_heard)(
		void *context, const struct net_addr *addr, const struct net_mac *mac);
	// What is known of a backend's health from before; false: nothing.
	bool (*known_health)(
		void *context, const struct control_backend *backend, struct health_status *status);
	bool (*served)(void *context); // packets are: or a failed probe says nothing
	bool (*in_trouble)(void *context, uint64_t since_ms); // likewise; own_side.h
	void *context;
};

/* Create the watch of the kernel's neighbours and the probes. NULL and errno on failure. */
struct watch *watch_create(const struct watch_source *source);
/* Have the kernel keep an address resolved, as long as there is the watch, whoever is behind it. 0
 * or -errno. */
int watch_address(struct watch *watch, const struct net_addr *addr);
/* Let the kernel's neighbours stay when the watch goes. */
void watch_keep(struct watch *watch);
/* Free the watch; all backends must be unwatched. */
void watch_destroy(struct watch *watch);

/*
 * Start to probe the backend, unless it is disabled, and to follow its next hop; fine when it is
 * watched already, and then takes up another way of probing. What is known stands in
 * backend->health and ->hop afterwards, and the caller publishes it; a verdict by the former way of
 * probing holds until there is another. 0 or -errno, and then nothing changed. `watch` NULL:
 * nothing happens.
 */
int watch_backend(
	struct watch *watch, struct control_backend *backend, const struct conf_health *conf);
/*
 * Watch, as watch_backend() does, a backend that is published already. Its target may have a
 * verdict that was not published: of a target that other backends share, or of one that is never
 * probed. Then health_changed() is called.
 */
int watch_again(
	struct watch *watch, struct control_backend *backend, const struct conf_health *conf);
/* Stop to probe the backend and to follow its next hop; fine for one that isn't watched. */
void unwatch_backend(struct watch *watch, struct control_backend *backend);
/* Stop to probe the backend, but follow its next hop: old flows live on. */
void unwatch_health(struct watch *watch, struct control_backend *backend);

#endif
