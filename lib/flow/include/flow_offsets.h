/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sequence numbers and timestamps that differ on the two sides of a flow.
 *
 * A SNAT port that is lent again may meet the TIME_WAIT that the backend keeps of the flow before,
 * of another client whose numbers have nothing to do with those of this one. Linux takes a SYN then
 * when its timestamp is newer than the last it saw, or its number is above
 * (tcp_timewait_state_process; RFC 6191, RFC 1122 4.2.2.13); an older timestamp it never takes
 * (PAWS, RFC 7323). Else it answers by an ACK, and the client comes again after a second. So where
 * a SYN wouldn't be taken, the backend sees its numbers moved to where they go on from those
 * before.
 *
 * What is needed for that is kept where it costs nothing: the closed flow's record stays until its
 * port is lent again. `end` says where the client's data ended. When the backend is the first to
 * close (FLOW_LINGERS: only then it keeps a TIME_WAIT), the client's latest timestamp as the
 * backend saw it is noted: in `last_ts`, or, when `ts_offset` stands there, in `last_ts_moved`: the
 * client has nothing more to acknowledge then but the FIN. 0 = none. A flow whose numbers alone are
 * moved keeps its client's acknowledgement.
 *
 * A record that gave way in a full table, or expired because time_wait is set shorter than the
 * backend's, leaves nothing to go on from. To make up for it, all numbers of all flows would have
 * to follow one clock; those flows then get the client's own numbers.
 *
 * Thread rule: by whoever handles the flow's packets.
 */
#ifndef WEIR_FLOW_OFFSETS_H
#define WEIR_FLOW_OFFSETS_H

#include <stdbool.h>
#include <stdint.h>

#include "flow.h"

/* What is added to the numbers of each side's stream on their way to the
 * other side, modulo 2^32. */
struct flow_offsets {
	uint32_t seq[FLOW_DIRECTIONS];
	uint32_t ts[FLOW_DIRECTIONS];
};

/* Tell whether the flow has one of these flags. */
static inline bool flow_has(const struct flow *flow, enum flow_flag flags)
{
	return __atomic_load_n(&flow->flags, __ATOMIC_RELAXED) & flags;
}

/* Set a flag, by a locked instruction: not for a packet of an established flow. */
static inline void flow_set_flag(struct flow *flow, enum flow_flag flag)
{
	if (!flow_has(flow, flag))
		__atomic_fetch_or(&flow->flags, flag, __ATOMIC_RELAXED);
}

/* Return the flow's offsets, all zero when it isn't translated. */
static inline struct flow_offsets flow_offsets(const struct flow *flow)
{
	struct flow_offsets offsets = {0};

	if (flow_has(flow, FLOW_TRANSLATED))
		offsets.seq[FLOW_FROM_CLIENT] = flow->seq_offset;
	if (flow_has(flow, FLOW_TS_MOVED))
		offsets.ts[FLOW_FROM_CLIENT] = flow->ts_offset;
	return offsets;
}

/* Return a number of the side's stream, as it counts, in those of the other side. */
static inline uint32_t flow_seq_at_other(
	const struct flow *flow, enum flow_direction side, uint32_t seq)
{
	return seq + flow_offsets(flow).seq[side];
}

/* Return a number of the side's stream, as the other one knows it, in those of the side. */
static inline uint32_t flow_seq_at_sender(
	const struct flow *flow, enum flow_direction side, uint32_t seq)
{
	return seq - flow_offsets(flow).seq[side];
}

/* Tell whether ack[side] is what the side acknowledged, and may be written. */
static inline bool flow_keeps_ack(const struct flow *flow, enum flow_direction side)
{
	uint8_t flags = __atomic_load_n(&flow->flags, __ATOMIC_RELAXED);

	return side == FLOW_FROM_BACKEND ||
		(flags & (FLOW_TS_MOVED | FLOW_LINGERS)) != (FLOW_TS_MOVED | FLOW_LINGERS);
}

/* Note that the backend has closed first. */
void flow_lingers(struct flow *flow);

/* Note a timestamp in a client's segment, as the client counts. For flows with FLOW_LINGERS. */
void flow_note_ts(struct flow *flow, uint32_t ts);

/* What decides about a SYN: of the client's, as it came. */
struct flow_syn {
	uint32_t seq;
	uint32_t ts; // TSval
	bool has_ts;
	uint64_t secret; // nobody outside can guess it: the packet's keyed hash
};

/*
 * Set a new flow's offsets, given the closed flow that had its SNAT tuple before; NULL = none is
 * known. Sets or clears the flags of FLOW_TRANSLATED, nothing else; so it may be called again when
 * the flow gets another tuple. True when the flow is translated. The new flow isn't in the table
 * yet.
 */
bool flow_take_over(
	struct flow *flow, const struct flow_syn *syn, const struct flow *before, uint32_t now_s);

#endif
