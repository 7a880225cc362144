/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The MACs of the kernel's neighbours. When one changes, the flows of clients that are reached by
 * it follow (flow_moves.h): all changes that came together cost one walk of the tables, and there
 * is at most one in 100 ms.
 *
 * Whose flows they are:
 *  - those of the neighbour itself, as a client, that have the former MAC;
 *  - those of clients behind it, if it is a router. That can't be seen in a flow, which knows the
 *    MAC alone: so the MAC's flows follow the gateway that had it. Where several gateways had it,
 *    they stay as long as one of them is left there, for that one still forwards; where none of
 *    the neighbours that had it is known as a gateway, they follow the only one. They never
 *    follow one of several hosts, or addresses of a host: of these, each goes by itself.
 *  - Never those of another neighbour: a client that the kernel knows decides for itself.
 *
 * What is known outlives the process, in a small file: the next one learns what changed meanwhile.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_MACS_H
#define WEIR_MACS_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct conf;
struct event_base;
struct flow_moves;
struct macs;

/* Begin with what the former process left of the instance, unless the file says that nothing
 * outlives it. NULL and errno on failure. */
struct macs *macs_create(struct event_base *events, unsigned nb_workers, const struct conf *conf);
/* End. `remove`: the file goes, too. macs_destroy(NULL) is fine. */
void macs_destroy(struct macs *macs, bool remove);

/* Return what the workers read; it lives as long as `macs`. */
struct flow_moves *macs_moves(struct macs *macs);

/* Take it that packets are sent by the neighbour to others behind it. */
void macs_gateway(struct macs *macs, const struct net_addr *addr);

/* Take in that the kernel has the neighbour at this MAC; mostly it is no news. */
void macs_heard(struct macs *macs, const struct net_addr *addr, const struct net_mac *mac);

/* Begin and end walks, at clock_ms() `now_ms`; by the event loop. Returns in how many ms to call
 * again; 0 = when there is news. */
unsigned macs_work(struct macs *macs, uint64_t now_ms);

/* Begin a walk at once, if there is something to walk for: clients are about to be told something.
 */
void macs_hurry(struct macs *macs, uint64_t now_ms);

/* Remove the file of an instance that doesn't run. */
void macs_remove(const struct conf *conf);

#endif
