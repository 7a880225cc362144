/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients that another MAC reaches from now on, as the kernel says of themselves or of the router
 * before them (case E7). All changes that came together make one round: each worker walks its share
 * of the records once, and when all have, there may be another round.
 *
 * A flow's MAC is looked up once a round, by what it was before: two hosts may swap theirs. A flow
 * whose client has sent from a new MAC itself has that already, and is found by none.
 *
 * Thread rule: control core; what has a `worker` argument, and flow_moves_apply(), by that worker
 * within a round. The rows are the control core's between rounds and the workers' in one: `round`
 * hands them over, `done` hands them back.
 */
#ifndef WEIR_FLOW_MOVES_H
#define WEIR_FLOW_MOVES_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "flow.h"

#define FLOW_MOVES_MAX 24576 // rows a round

/* Flows with the MAC `from` are to have the MAC `to`: those of one client; or those of all clients
 * of a family that no other row of that `from` names. */
struct flow_move {
	uint64_t from; // flow_mac_word()
	uint64_t to;
	struct net_addr client; // 0.0.0.0 or ::: all of the family
	uint32_t owner;         // the control core's own
	uint32_t nb_flows;      // that were found; atomic
};

struct flow_moves {
	uint32_t nb_workers;
	uint32_t nb_rows;
	struct flow_move *rows; // FLOW_MOVES_MAX; in a round in the order of from and client
	uint64_t round;         // atomic; 0 = none yet
	uint64_t done[];        // atomic; by worker, the last round that it has walked
};

/* Return a MAC as it stands in a flow's client_word. */
static inline uint64_t flow_mac_word(const struct net_mac *mac)
{
	uint64_t word = 0;

	memcpy(&word, mac, sizeof(*mac));
	return word;
}

/* Create a set of moves without a round. NULL and errno on failure. */
struct flow_moves *flow_moves_create(unsigned nb_workers);
void flow_moves_destroy(struct flow_moves *moves);

/* Tell whether all workers are through with the last round: the rows may be written. */
bool flow_moves_are_done(const struct flow_moves *moves);
/* Begin a round with the first `count` rows. */
void flow_moves_begin(struct flow_moves *moves, uint32_t count);

/* Return the round that the worker is to walk its records for; 0 = none. */
static inline uint64_t flow_moves_due(const struct flow_moves *moves, unsigned worker)
{
	// Acquire: the rows are those of the round.
	uint64_t round = __atomic_load_n(&moves->round, __ATOMIC_ACQUIRE);

	return round != __atomic_load_n(&moves->done[worker], __ATOMIC_RELAXED) ? round : 0;
}

/* Give a flow its new MAC, if it has one. Once a round for each flow. */
void flow_moves_apply(struct flow_moves *moves, struct flow *flow, sa_family_t family);

/* Say that the worker has walked its records for the round. */
void flow_moves_walked(struct flow_moves *moves, unsigned worker, uint64_t round);

#endif
