/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a segment of a known flow changes in its record: nothing but what its receiver takes.
 * track.c has the rules. Runs on the worker that has the packet, before the packet is rewritten.
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

static inline uint32_t track_load(const uint32_t *number)
{
	return __atomic_load_n(number, __ATOMIC_RELAXED);
}

static inline void track_store(uint32_t *number, uint32_t value)
{
	__atomic_store_n(number, value, __ATOMIC_RELAXED);
}

/* --- a plain segment of a plain flow --- */

/* Tell whether the segment has an ACK and no FIN: it says nothing but how far its sender is. */
static inline bool track_is_plain(const struct packet *packet)
{
	return (packet->flags & (TRACK_STATE_FLAGS | RTE_TCP_ACK_FLAG)) == RTE_TCP_ACK_FLAG;
}

/* Return the later of two sequence numbers. It takes no branch, since whether data is new is no
 * better known than the toss of a coin. */
static inline uint32_t track_later(uint32_t highest, uint32_t value)
{
	return tcp_seq_after(value, highest) ? value : highest;
}

/* Note the numbers of a plain segment that begins beyond what is known of its sender's stream, or
 * acknowledges what isn't known of the other's. Few do. */
void track_beyond(struct flow *flow, const struct packet *packet, enum flow_direction direction);

/* Note how far the sender of a plain segment, in a plain flow, has sent and acknowledged. */
static inline void track_numbers(
	struct flow *flow, const struct packet *packet, enum flow_direction direction)
{
	uint32_t seq = rte_be_to_cpu_32(packet->tcp->sent_seq);
	uint32_t ack = rte_be_to_cpu_32(packet->tcp->recv_ack);
	uint32_t end = track_load(&flow->end[direction]);
	uint32_t other_end = track_load(&flow->end[1 - direction]);

	if (unlikely((int32_t)((end - seq) | (other_end - ack)) < 0)) { // one before the other
		track_beyond(flow, packet, direction);
		return;
	}
	track_store(&flow->end[direction], track_later(end, seq + packet->payload));
	track_store(&flow->ack[direction], track_later(track_load(&flow->ack[direction]), ack));
}

/* --- any segment of any flow --- */

/* A segment against what was known of its flow when it came. */
struct track {
	struct flow *flow;
	const struct packet *packet;
	enum flow_direction direction;
	uint32_t seq;   // the segment's numbers, each as the sender of that stream counts
	uint32_t ack;   // valid with the ACK flag
	uint32_t end;   // known of the sender
	uint8_t status; // set by track_decide(): that the segment met, and the one behind it
	uint8_t next;
	bool counts;      // the receiver takes it; else it changes nothing, and keeps no flow alive
	bool closes;      // it has a FIN that is new
	uint32_t new_end; // of the sender, but for that FIN; `end` when there is no stream
};

void track_begin(struct track *track, struct flow *flow, const struct packet *packet,
	enum flow_direction direction);

/* What the segment means for a flow of that status. Changes nothing; so it may be asked again when
 * another worker has changed the status. */
void track_decide(struct track *track, uint8_t status);

/* What must be known before the status changes, and what may be only when it has changed. */
void track_before(const struct track *track);
void track_behind(const struct track *track);

/* Tell whether the RST of a backend is an answer to the client's SYN: RFC 9293, 3.10.7.3. */
bool track_refuses(const struct flow *flow, const struct packet *packet);

/* Tell whether a backend's segment acknowledges anything but the client's SYN: it has a connection
 * of that tuple, or what is left of one (RFC 9293, 3.10.7.3; RFC 5961's challenge ACK). */
bool track_challenges(const struct flow *flow, const struct packet *packet);

/* Tell whether a packet has kept the flow alive in this second. */
static inline bool track_is_seen(const struct flow *flow, uint32_t now_s)
{
	return __atomic_load_n(&flow->last_seen, __ATOMIC_RELAXED) == (uint16_t)now_s;
}

static inline void track_seen(struct flow *flow, uint32_t now_s)
{
	__atomic_store_n(&flow->last_seen, (uint16_t)now_s, __ATOMIC_RELAXED);
}

#endif
