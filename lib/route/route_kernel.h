/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The requests to the kernel that next hops take, one question or order each (rtnetlink(7)). They
 * keep no state. `socket` is one of netlink_open() without groups.
 */
#ifndef WEIR_ROUTE_KERNEL_H
#define WEIR_ROUTE_KERNEL_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct mnl_socket;
struct nlmsghdr;

struct route_link {
	unsigned index; // 0: not there
	bool up;        // up, and with carrier
};

/* Look up the interface by name. 0 (also when it isn't there), or -errno. */
int route_kernel_link(struct mnl_socket *socket, const char *name, struct route_link *link);

/* What the kernel itself would do with a packet to an address. */
struct route_answer {
	uint8_t type;            // RTN_UNICAST, RTN_LOCAL, RTN_UNREACHABLE...
	unsigned interface;      // out of which it would go
	struct net_addr gateway; // AF_UNSPEC: on the link
};

struct route_question {
	unsigned interface; // the link of an address that has no meaning without (fe80::/10)
	const struct net_addr *addr;
	const struct net_addr *source; // NULL: the kernel's choice
};

/*
 * Ask what the kernel would do with a TCP segment to the address. Of a route with several next hops
 * it chooses by a hash: with fib_multipath_hash_policy = 0 of both addresses (IPv6: and of the
 * protocol), so that a socket bound to `source` goes the same way. 0, or -errno: -ENETUNREACH (of
 * IPv4, or -EINVAL, also when nobody here has `source`), -EHOSTUNREACH, -EACCES (prohibit), -EINVAL
 * (blackhole) are answers too.
 */
int route_kernel_lookup(struct mnl_socket *socket, const struct route_question *question,
	struct route_answer *answer);

#define ROUTE_WAYS_MAX 16

/* The gateways among which a route with several next hops leaves the choice. */
struct route_ways {
	unsigned count; // at most ROUTE_WAYS_MAX, the others are left out; 0 = there is no choice
	struct net_addr gateways[ROUTE_WAYS_MAX];
};

/* Ask for the gateways on the interface of the route that route_kernel_lookup() chose by. 0, or
 * -errno as there. */
int route_kernel_ways(
	struct mnl_socket *socket, const struct route_question *question, struct route_ways *ways);

/* An entry of the kernel's neighbour table. */
struct neighbour_entry {
	unsigned interface;
	struct net_addr addr;
	uint16_t state; // NUD_*
	bool managed;   // NTF_EXT_MANAGED
	bool has_mac;
	struct net_mac mac;
};

/* Read an entry from an RTM_NEWNEIGH or RTM_DELNEIGH; false: nothing for us (a
 * bridge's, a proxy entry). */
bool neighbour_entry_parse(const struct nlmsghdr *message, struct neighbour_entry *entry);

/* Ask the kernel for its entry. 0, -ENOENT, or another -errno. */
int neighbour_entry_read(struct mnl_socket *socket, unsigned interface, const struct net_addr *addr,
	struct neighbour_entry *entry);

/* Ask the kernel for all its entries of the interface. 0 or -errno. */
typedef void (*neighbour_entry_fn)(void *context, const struct neighbour_entry *entry);
int neighbour_entries_read(
	struct mnl_socket *socket, unsigned interface, neighbour_entry_fn read, void *context);

/*
 * Have the kernel resolve the neighbour if it is not, and keep it so when `managed`. Never of an
 * entry in NUD_PERMANENT or not known: the kernel would take that state away from it. So `create`
 * orders a new entry and is refused with -EEXIST when there is one. 0 or -errno.
 */
int neighbour_entry_use(struct mnl_socket *socket, unsigned interface, const struct net_addr *addr,
	bool managed, bool create);

/*
 * Have the kernel take the neighbour for failed, and no longer keep it resolved. IPv6 gives one
 * that is asked for the benefit of the doubt: the kernel would choose it again. It looks itself
 * whether it is back, once a minute (RFC 4191, 3.6). 0 or -errno.
 */
int neighbour_entry_fail(
	struct mnl_socket *socket, unsigned interface, const struct net_addr *addr);

/* Remove the kernel's entry. 0 or -errno. */
int neighbour_entry_remove(
	struct mnl_socket *socket, unsigned interface, const struct net_addr *addr);

/*
 * Set the interface's neighbour timers, both families. With the defaults (30 s reachable, 5 s
 * delay, 3 s of unicast probes) a neighbour whose MAC changed without a word, a container made
 * anew, stays lost for almost a minute. 0 or -errno.
 */
int neighbour_timers_set(struct mnl_socket *socket, unsigned interface);

#endif
