/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a segment of a known flow changes in its record. Runs on the worker that has the packet,
 * before the packet is rewritten.
 */
#ifndef WEIR_TRACK_H
#define WEIR_TRACK_H

#include <rte_byteorder.h>
#include <rte_tcp.h>
#include <stdbool.h>
#include <stdint.h>

#include "flow_offsets.h"
#include "flow_table.h"
#include "packet.h"

/* Segments of these may change the state. */
#define TRACK_STATE_FLAGS (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG | RTE_TCP_RST_FLAG)

/*
 * The state behind a segment that may change it, by its flags or because the flow isn't
 * established; notes what comes with that. What the ends can't both take changes nothing, and then
 * `*counts` is false.
 */
enum tcp_state track_state(struct flow *flow, const struct packet *packet,
	enum flow_direction direction, enum tcp_state state, bool *counts);

/* Whether the RST of a backend is an answer to the client's SYN: RFC 9293, 3.10.7.3. */
bool track_refuses(const struct flow *flow, const struct packet *packet);

/* Whether a backend's segment acknowledges anything but the client's SYN: it has a connection of
 * that tuple, or what is left of one (RFC 9293, 3.10.7.3; RFC 5961's challenge ACK). */
bool track_challenges(const struct flow *flow, const struct packet *packet);

static inline uint32_t track_load(const uint32_t *number)
{
	return __atomic_load_n(number, __ATOMIC_RELAXED);
}

static inline void track_store(uint32_t *number, uint32_t value)
{
	__atomic_store_n(number, value, __ATOMIC_RELAXED);
}

/* Without a branch: whether data is new is no better known than the toss of a coin. */
static inline uint32_t track_later(uint32_t highest, uint32_t value)
{
	return tcp_seq_after(value, highest) ? value : highest;
}

static inline void track_end(struct flow *flow, enum flow_direction direction, uint32_t end)
{
	track_store(&flow->end[direction], track_later(track_load(&flow->end[direction]), end));
}

static inline void track_ack(struct flow *flow, enum flow_direction direction, uint32_t ack)
{
	track_store(&flow->ack[direction], track_later(track_load(&flow->ack[direction]), ack));
}

/* How far the sender of a plain segment, in a plain flow, has sent and acknowledged. */
static inline void track_numbers(
	struct flow *flow, const struct packet *packet, enum flow_direction direction)
{
	uint32_t seq = rte_be_to_cpu_32(packet->tcp->sent_seq);
	uint32_t ack = rte_be_to_cpu_32(packet->tcp->recv_ack);

	track_end(flow, direction, seq + packet->payload);
	track_ack(flow, direction, ack);
}

/* Whether the segment says nothing but how far its sender is: that it has no FIN, and an ACK. */
static inline bool track_is_plain(const struct packet *packet)
{
	return (packet->flags & (TRACK_STATE_FLAGS | RTE_TCP_ACK_FLAG)) == RTE_TCP_ACK_FLAG;
}

/* The same of any segment, in any flow; and what is kept of a closing one. Not for SYN and RST:
 * theirs are no numbers of the stream. */
void track_stream(struct flow *flow, const struct packet *packet, enum flow_direction direction);

/* Whether a packet has kept the flow alive in this second. */
static inline bool track_is_seen(const struct flow *flow, uint32_t now_s)
{
	return __atomic_load_n(&flow->last_seen, __ATOMIC_RELAXED) == (uint16_t)now_s;
}

static inline void track_seen(struct flow *flow, uint32_t now_s)
{
	__atomic_store_n(&flow->last_seen, (uint16_t)now_s, __ATOMIC_RELAXED);
}

#endif
