/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A flow changes only by what its receiver takes. Of each side's stream are known `end`, the number
 * behind all that was sent, and of the other side `ack`, how much of it that one has acknowledged;
 * `ack` never passes `end`. Anybody may send in an end's name, but only who sees the connection
 * knows its numbers: a blind one hits a number once in 2^32.
 *
 * Numbers (the receiver's side of it: RFC 9293, 3.10.7.4; RFC 5961, 5):
 *  - A segment that begins at or before its side's `end` moves that by what it has more. So who
 *    doesn't know where a stream ends moves it by a segment of n bytes once in 2^32 / n.
 *  - A segment that begins beyond `end` comes behind one that was lost on the way here, or is
 *    blind. It moves `end` when its acknowledgement is known, exactly: the one that its side has
 *    sent last, or that of all that the other side has sent.
 *  - An acknowledgement moves `ack` up to the other side's `end`. Who acknowledges what was never
 *    sent says nothing at all.
 *
 * RST (RFC 5961, 3): ends the flow when its number is what the receiver has acknowledged last, or
 *    the `end` of its sender, or that of the sender's FIN (macOS sends such; Linux takes them, see
 *    tcp_reset_check()). In SYN_SENT a backend's acknowledges the SYN (RFC 9293, 3.10.7.3).
 * SYN: opens; in a connection that is open it changes nothing (RFC 5961, 4): who has one answers by
 *    a challenge, and gets an exact RST. pipeline.c says when it starts a new flow.
 * FIN: seen, when it stands exactly where its side's stream ends, or, overtaken by what was sent
 *    behind it, right before that; counts, when the other side acknowledges exactly the number
 * behind it. If its side sends more before that, it was a stranger's, and forgotten. A FIN that
 * counts ends the stream: nothing moves `end` any more. No ACK: no receiver takes a segment without
 * ACK, SYN and RST (RFC 9293, 3.10.7.4).
 *
 * No rule asks where a frame comes from. A router's frames bear another address than the one that
 * it answers to in VRRP (RFC 5798, 8.1.2), and the other way about a forged packet comes by the
 * same router as the backend's, where that is more than one hop away.
 *
 * What a receiver takes and Weir doesn't:
 *  - A RST within the window, but not exact: taken by Linux before the handshake is complete, and
 *    by a side in FIN_WAIT_2 that no process holds any more. Such a flow goes by its idle time.
 *  - A backend that has forgotten a connection takes a SYN of the same tuple. Whatever tells of
 *    that anybody may send, so the flow goes on with the numbers of before: it forwards all, and
 *    goes by its idle time.
 *  - With TCP Fast Open, the first ACK of a client when it acknowledges data, too.
 *
 * Several workers: what the status says must be known before it says so, and the other way about;
 * track_before() and track_behind() stand on either side of its change.
 */
#include "track.h"

#include "tcp_options.h"

#define WINDOW_MAX (1u << 30) // no receiver has a larger one (RFC 7323, 2.3)

/* --- numbers --- */

void track_begin(struct track *track, struct flow *flow, const struct packet *packet,
	enum flow_direction direction)
{
	*track = (struct track){
		.flow = flow,
		.packet = packet,
		.direction = direction,
		.seq = rte_be_to_cpu_32(packet->tcp->sent_seq),
		.ack = flow_seq_at_sender(
			flow, 1 - direction, rte_be_to_cpu_32(packet->tcp->recv_ack)),
		.end = track_load(&flow->end[direction]),
	};
}

static uint32_t other_end(const struct track *track)
{
	return track_load(&track->flow->end[1 - track->direction]);
}

static bool is_ack_credible(const struct track *track)
{
	return !tcp_seq_after(track->ack, other_end(track));
}

/* Who isn't blind knows how much of the other's stream he has. */
static bool knows_ack(const struct track *track)
{
	const struct flow *flow = track->flow;

	return track->ack == other_end(track) ||
		(flow_keeps_ack(flow, track->direction) &&
			track->ack == track_load(&flow->ack[track->direction]));
}

/* Where the sender's stream ends behind the segment, but for a FIN. */
static uint32_t end_behind(const struct track *track)
{
	if (tcp_seq_after(track->seq, track->end) &&
		(!knows_ack(track) || track->seq - track->end >= WINDOW_MAX))
		return track->end;
	return track_later(track->end, track->seq + track->packet->payload);
}

static void note_ack(const struct track *track)
{
	uint32_t *ack = &track->flow->ack[track->direction];

	if (flow_keeps_ack(track->flow, track->direction))
		track_store(ack, track_later(track_load(ack), track->ack));
}

void track_beyond(struct flow *flow, const struct packet *packet, enum flow_direction direction)
{
	struct track track;

	track_begin(&track, flow, packet, direction);
	if (!is_ack_credible(&track))
		return;
	track_store(&flow->end[direction], end_behind(&track));
	note_ack(&track);
}

/* --- whether the receiver takes it --- */

static bool reset_is_exact(const struct track *track, enum tcp_state state)
{
	const struct flow *flow = track->flow;
	enum flow_direction direction = track->direction;

	if (state == TCP_SYN_SENT && direction == FLOW_FROM_BACKEND)
		return (track->packet->flags & RTE_TCP_ACK_FLAG) && track->ack == other_end(track);
	if (track->seq == track->end)
		return true;
	if (tcp_state_half_open(state)) // what the client has acknowledged isn't known yet
		return state == TCP_SYN_RECV && direction == FLOW_FROM_CLIENT &&
			track->seq == track_load(&flow->ack[FLOW_FROM_BACKEND]);
	return (flow_keeps_ack(flow, 1 - direction) &&
		       track->seq == track_load(&flow->ack[1 - direction])) ||
		(tcp_status_fin(track->status, direction) != TCP_FIN_NONE &&
			track->seq + 1 == track->end);
}

/* A SYN without ACK. In SYN_SENT it may be of a new attempt, with a number of its own. */
static bool syn_is_taken(const struct track *track, enum tcp_state state)
{
	if (state == TCP_SYN_SENT)
		return true;
	// The first one again: then it ends where the backend's answer says.
	return state == TCP_SYN_RECV && track->direction == FLOW_FROM_CLIENT &&
		track_load(&track->flow->ack[FLOW_FROM_BACKEND]) - (track->seq + 1) <= UINT16_MAX;
}

/* The number of the client's SYN, and of the data with it, if any. In SYN_SENT `ack` is the SYN's
 * number, in SYN_RECV that of an answer. */
static bool backend_acknowledges_syn(const struct track *track, enum tcp_state state)
{
	uint32_t acked = track_load(&track->flow->ack[FLOW_FROM_BACKEND]);

	return (track->packet->flags & RTE_TCP_ACK_FLAG) &&
		track->ack - acked <= other_end(track) - acked &&
		(state == TCP_SYN_RECV || track->ack != acked);
}

/* An answer to a SYN. */
static bool synack_is_taken(const struct track *track, enum tcp_state state)
{
	if (track->direction == FLOW_FROM_CLIENT)
		return state == TCP_SYN_SENT2 && track->ack == other_end(track);
	return tcp_state_half_open(state) && backend_acknowledges_syn(track, state);
}

static bool is_taken(const struct track *track, enum tcp_event event, enum tcp_state state)
{
	switch (event) {
	case TCP_EVENT_RST:
		return state != TCP_NONE && reset_is_exact(track, state);
	case TCP_EVENT_SYN:
		return syn_is_taken(track, state);
	case TCP_EVENT_SYNACK:
		return synack_is_taken(track, state);
	case TCP_EVENT_ACK:
		if (!tcp_state_half_open(state))
			return true;
		return state == TCP_SYN_RECV &&
			(track->direction == FLOW_FROM_BACKEND || track->ack == other_end(track));
	default:
		return false;
	}
}

bool track_refuses(const struct flow *flow, const struct packet *packet)
{
	struct track track;

	track_begin(&track, (struct flow *)flow, packet, FLOW_FROM_BACKEND);
	return reset_is_exact(&track, TCP_SYN_SENT);
}

bool track_challenges(const struct flow *flow, const struct packet *packet)
{
	struct track track;

	track_begin(&track, (struct flow *)flow, packet, FLOW_FROM_BACKEND);
	return (packet->flags & (RTE_TCP_ACK_FLAG | RTE_TCP_RST_FLAG)) == RTE_TCP_ACK_FLAG &&
		!backend_acknowledges_syn(&track, TCP_SYN_SENT);
}

/* --- what it changes --- */

/* A segment of an open connection, and the FINs. */
static void decide_stream(struct track *track)
{
	enum flow_direction own = track->direction, other = 1 - own;
	enum tcp_fin fins[] = {tcp_status_fin(track->status, FLOW_FROM_CLIENT),
		tcp_status_fin(track->status, FLOW_FROM_BACKEND)};

	if (!is_ack_credible(track))
		return;
	if (fins[other] == TCP_FIN_SENT && track->ack == other_end(track))
		fins[other] = TCP_FIN_ACKED;
	if (fins[own] != TCP_FIN_ACKED) {
		track->new_end = end_behind(track);
		if (track->new_end != track->end)
			fins[own] = TCP_FIN_NONE;
		uint32_t at = track->seq + track->packet->payload;
		if ((track->packet->flags & RTE_TCP_FIN_FLAG) && fins[own] == TCP_FIN_NONE &&
			track->new_end - at <= 1) {
			fins[own] = TCP_FIN_SENT;
			track->new_end = at;
			track->closes = true;
		}
	}
	track->next = tcp_status(fins);
}

void track_decide(struct track *track, uint8_t status)
{
	enum tcp_state state = tcp_status_state(status);
	enum tcp_event event = tcp_event(track->packet->flags);

	track->status = track->next = status;
	track->new_end = track->end;
	track->closes = false;
	track->counts = is_taken(track, event, state);
	if (!track->counts)
		return;
	enum tcp_state next = tcp_next_state(track->direction, event, state);
	if (event == TCP_EVENT_ACK && tcp_state_open(next))
		decide_stream(track);
	else if (next != state)
		track->next = next;
}

static void note_syn(const struct track *track, enum tcp_event event)
{
	struct flow *flow = track->flow;
	enum flow_direction direction = track->direction;
	bool from_client = direction == FLOW_FROM_CLIENT;

	if (from_client && tcp_status_state(track->status) != TCP_SYN_SENT)
		return; // the same again
	track_store(&flow->end[direction], track->seq + track->packet->payload + 1);
	if (from_client) {
		track_store(&flow->ack[FLOW_FROM_BACKEND], track->seq);
	} else if (event == TCP_EVENT_SYNACK) {
		track_store(&flow->ack[FLOW_FROM_BACKEND], track->ack);
		flow_set_flag(flow, FLOW_PINNED);
	}
}

void track_before(const struct track *track)
{
	enum tcp_event event = tcp_event(track->packet->flags);
	enum flow_direction direction = track->direction;

	if (event == TCP_EVENT_SYN || event == TCP_EVENT_SYNACK)
		note_syn(track, event);
	if (!track->closes)
		return;
	// Who acknowledges the number behind a FIN must not meet the number before it.
	track_store(&track->flow->end[direction], track->new_end + 1);
	// Who closes first keeps a TIME_WAIT.
	if (direction == FLOW_FROM_BACKEND &&
		tcp_status_fin(track->next, FLOW_FROM_CLIENT) != TCP_FIN_ACKED)
		flow_lingers(track->flow);
}

void track_behind(const struct track *track)
{
	struct flow *flow = track->flow;
	enum flow_direction direction = track->direction;
	enum tcp_state state = tcp_status_state(track->status);
	uint32_t ts;

	if (track->packet->flags & (RTE_TCP_SYN_FLAG | RTE_TCP_RST_FLAG))
		return;
	if (state == TCP_SYN_RECV && direction == FLOW_FROM_CLIENT)
		track_store(&flow->ack[FLOW_FROM_CLIENT], track->ack); // the first one
	if (tcp_state_open(tcp_status_state(track->next)) || tcp_state_open(state)) {
		// That of a FIN again: another worker may have had its number of before in hand.
		if (track->closes || track->new_end != track->end)
			track_store(&flow->end[direction], track->new_end + track->closes);
		if (is_ack_credible(track))
			note_ack(track);
	}
	if (direction == FLOW_FROM_CLIENT && flow_has(flow, FLOW_LINGERS) &&
		tcp_option_ts(track->packet->tcp, &ts))
		flow_note_ts(flow, ts);
}
