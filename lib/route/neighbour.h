/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The next hops of an interface, shared by all targets behind them, and kept resolved by the
 * kernel.
 *
 * Nothing here waits: get and put only note what is to be done, neighbour_table_work() does it,
 * some at a time. Every order to the kernel starts with a look at its entry, for one that an
 * operator has made permanent is his (case B20): it is used and never touched.
 */
#ifndef WEIR_NEIGHBOUR_H
#define WEIR_NEIGHBOUR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "addr.h"
#include "route.h"
#include "route_kernel.h"

LIST_HEAD(route_targets, route_target);
TAILQ_HEAD(neighbour_queue, neighbour);

struct neighbour {
	struct net_addr addr; // the key; must stay first
	enum route_state state;
	struct net_mac mac;            // valid when RESOLVED
	struct route_targets targets;  // the table's user keeps them here
	unsigned users;                // get without put
	unsigned nb_ways;              // of these: as one of the ways of a route that has several
	bool is_usable;                // the kernel would send to it: by its last word
	struct neighbour_queue *queue; // the one it stands in, or none
	TAILQ_ENTRY(neighbour) entry;
	LIST_ENTRY(neighbour) all;
};

/* Called when a neighbour's state or MAC changed; from work, event and reset only. */
typedef void (*neighbour_changed_fn)(void *context, struct neighbour *neighbour);

struct neighbour_table {
	struct mnl_socket *socket;       // borrowed
	unsigned interface;              // 0: none now
	bool managed;                    // the kernel has not refused NTF_EXT_MANAGED
	bool is_kept;                    // its entries stay in the kernel when this goes
	bool ways_changed;               // the kernel may choose among several anew; the user's
	void *tree;                      // all by address, tsearch(3)
	LIST_HEAD(, neighbour) list;     // all
	struct neighbour_queue doubtful; // the kernel doesn't keep them resolved by itself
	unsigned doubtful_count;
	unsigned due;                  // the first so many of them are to be looked at
	struct neighbour_queue unused; // their last user left
	neighbour_changed_fn changed;
	void *context;
	route_heard_fn heard; // of all neighbours of the kernel; NULL: nobody asks
	void *heard_context;
};

void neighbour_table_init(struct neighbour_table *table, struct mnl_socket *socket,
	neighbour_changed_fn changed, void *context);

/* Free the table, and take what it entered out of the kernel's. No neighbour may have a user. */
void neighbour_table_fini(struct neighbour_table *table);

/* Take another interface, or the same one that has come back: all is unknown again. 0 =
 * none: all is unreachable. */
void neighbour_table_reset(struct neighbour_table *table, unsigned interface);

/* Return the neighbour of the address, shared and counted. NULL and errno on failure. */
struct neighbour *neighbour_get(struct neighbour_table *table, const struct net_addr *addr);
void neighbour_put(struct neighbour_table *table, struct neighbour *neighbour);

/* Return the neighbour as neighbour_get() does, for a route that may choose it: `ways_changed` says
 * that the kernel would choose otherwise than before. */
struct neighbour *neighbour_get_way(struct neighbour_table *table, const struct net_addr *addr);
void neighbour_put_way(struct neighbour_table *table, struct neighbour *neighbour);

/* Take in what the kernel told unasked; removed: the entry is gone. */
void neighbour_table_event(
	struct neighbour_table *table, const struct neighbour_entry *entry, bool removed);

/* Tell whoever hears of them all neighbours that the kernel has. */
void neighbour_table_hear(struct neighbour_table *table);

/* Have the kernel forget those that it keeps resolved for nobody here: a process before this one
 * had them entered. */
void neighbour_table_sweep(struct neighbour_table *table);

/* Look again at all neighbours, since events were lost. */
void neighbour_table_check_all(struct neighbour_table *table);
/* Look again at the neighbours that are in doubt: once a second. */
void neighbour_table_check(struct neighbour_table *table);

/* Tell whether neighbour_table_work() has anything to do. */
bool neighbour_table_has_work(const struct neighbour_table *table);
/* Do some of the work: until clock_ns() is `end`. */
void neighbour_table_work(struct neighbour_table *table, uint64_t end);

#endif
