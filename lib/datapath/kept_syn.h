/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client's SYN, kept as it came in the side record of its flow, so that it can be sent to another
 * backend, or to the same one again, without the client.
 *
 * Thread rule: the worker that has claimed the side record.
 */
#ifndef WEIR_KEPT_SYN_H
#define WEIR_KEPT_SYN_H

#include <stdbool.h>
#include <stdint.h>

#include "flow_table.h"
#include "packet.h"

/* Keep the SYN. False: it is too long, or not in one segment, and none is kept now. */
bool kept_syn_put(struct flow_side *side, const struct packet *packet);

static inline void kept_syn_forget(struct flow_side *side)
{
	side->frame_size = 0;
}

static inline bool kept_syn_is_there(const struct flow_side *side)
{
	return side->frame_size != 0;
}

/* Tell whether the buffer, whatever is in it, can carry the kept SYN. */
bool kept_syn_fits(const struct flow_side *side, const struct rte_mbuf *mbuf);

/* Have the kept SYN come from where the flow's client is now: it may have moved since. */
void kept_syn_follow(struct flow_side *side, const struct flow *flow);

/* Fill in what the kept SYN was parsed to; it stays in the side record, and has no mbuf. */
void kept_syn_read(struct flow_side *side, const struct flow_table *flows, struct packet *packet);

/* Copy the kept SYN in place of what the buffer has, and fill in what the copy was parsed to. */
void kept_syn_copy(const struct flow_side *side, const struct flow_table *flows,
	struct rte_mbuf *mbuf, struct packet *packet);

#endif
