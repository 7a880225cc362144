/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Next hops from the kernel: for each watched address, which MAC on weir0 reaches it. The kernel's
 * routes and neighbours in weir0's namespace are followed by netlink (rtnetlink(7), libmnl); the
 * next hops are entered as managed neighbours (NTF_EXT_MANAGED, Linux 5.16; NTF_USE by timer
 * before), so that the kernel keeps them resolved. Probes from the same source addresses go the
 * same way.
 *
 * Thread rule: everything runs on the control core's event loop, and the change callback with it.
 */
#ifndef WEIR_ROUTE_H
#define WEIR_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "sources.h"

struct event_base;
struct route;
struct route_target;

enum route_state {
	ROUTE_PENDING, // not known yet; a resolved hop stays while another is asked for
	ROUTE_RESOLVED,
	ROUTE_UNREACHABLE, // no route, its neighbour failed, or the interface is down
	ROUTE_LOCAL,       // an address of weir0's own, or a route out of another interface
};

struct route_hop {
	enum route_state state;
	bool is_own; // UNREACHABLE for want of a route or of the interface: no neighbour's fault
	struct net_addr gateway; // the neighbour's address: the target itself when on the link
	struct net_mac mac;      // valid when RESOLVED
};

/*
 * Called when a target's hop changed: state, gateway or MAC. Never from inside another call of this
 * module; it may get and put targets itself.
 */
typedef void (*route_changed_fn)(void *context, struct route_target *target);

/*
 * Called with each neighbour that the kernel has on the interface, whoever it has it of, and its
 * MAC: as often as it tells, so mostly with what is known. It may call nothing of this module.
 */
typedef void (*route_heard_fn)(
	void *context, const struct net_addr *addr, const struct net_mac *mac);

/*
 * Follow the interface (by name, in namespace netns_fd; -1 = the thread's own), both families. It
 * need not be there yet, and may go and come back. It is to be Weir's own: its neighbour timers are
 * shortened, so that a MAC that changed without a word is found in some 10 s. netns_fd is not
 * needed after the call. NULL and errno on failure.
 */
struct route *route_create(struct event_base *events, int netns_fd, const char *interface,
	route_changed_fn changed, void *context);

/* Have `heard` called from now on, and at once for the neighbours that there are. Once a route. */
void route_hear(struct route *route, route_heard_fn heard, void *context);

/*
 * Have the kernel asked for the ways of packets that come from these addresses: of each family the
 * first one's. Before the first target; the lists must outlive the module.
 */
void route_set_sources(struct route *route, const struct net_sources *sources);

/* Let route_destroy() leave what it entered into the kernel's tables, for a
 * process after this one. */
void route_keep(struct route *route);

/* Free all targets; what route.c entered into the kernel's tables goes.
 * route_destroy(NULL) is fine. */
void route_destroy(struct route *route);

/*
 * Watch an address; shared and counted. The first answer comes by the callback, 100,000 addresses
 * take about a second, in slices of some milliseconds. NULL and errno on failure.
 */
struct route_target *route_target_get(struct route *route, const struct net_addr *addr);
void route_target_put(struct route_target *target);

const struct route_hop *route_target_hop(const struct route_target *target);
const struct net_addr *route_target_addr(const struct route_target *target);

#endif
