/* SPDX-License-Identifier: BSD-3-Clause */
#include "track.h"

#include "tcp_options.h"

// A client seldom has more than this under way when it closes; a blind one hits it once in 4,096.
#define FLIGHT_MAX (1u << 20)

/* The packet's acknowledgement, in the numbers of the side that it is for. */
static uint32_t acknowledged(
	const struct flow *flow, const struct packet *packet, enum flow_direction direction)
{
	return flow_seq_at_sender(flow, 1 - direction, rte_be_to_cpu_32(packet->tcp->recv_ack));
}

/*
 * What was sent up to `end` is not acknowledged already, and not too much under way. A client may
 * be anybody, and where its data ends proves nothing; a backend's packets had to know the SNAT
 * port.
 */
static bool is_under_way(const struct flow *flow, enum flow_direction direction, uint32_t end)
{
	return direction == FLOW_FROM_BACKEND ||
		end - track_load(&flow->ack[FLOW_FROM_BACKEND]) <= FLIGHT_MAX;
}

/*
 * A RST counts only when the receiver will take it (RFC 5961): its number is what the receiver
 * acknowledged last, or where the sender's data ends; in SYN_SENT its acknowledgement is of the SYN
 * (RFC 9293, 3.10.7.3). After a FIN any will do: there is nothing left to protect.
 */
static bool reset_is_exact(const struct flow *flow, const struct packet *packet,
	enum flow_direction direction, enum tcp_state state)
{
	uint32_t seq = rte_be_to_cpu_32(packet->tcp->sent_seq);

	if (state == TCP_SYN_SENT && direction == FLOW_FROM_BACKEND)
		return (packet->flags & RTE_TCP_ACK_FLAG) &&
			acknowledged(flow, packet, direction) ==
			track_load(&flow->end[FLOW_FROM_CLIENT]);
	if (state == TCP_SYN_SENT)
		return seq == track_load(&flow->end[FLOW_FROM_CLIENT]);
	return seq == track_load(&flow->ack[1 - direction]) ||
		(seq == track_load(&flow->end[direction]) && is_under_way(flow, direction, seq)) ||
		flow_has(flow, FLOW_FIN_SEEN);
}

bool track_refuses(const struct flow *flow, const struct packet *packet)
{
	return reset_is_exact(flow, packet, FLOW_FROM_BACKEND, TCP_SYN_SENT);
}

/* Acknowledges the other side's SYN: its number, and the data with it, if any. */
static bool acknowledges_syn(
	const struct flow *flow, const struct packet *packet, enum flow_direction direction)
{
	return (packet->flags & RTE_TCP_ACK_FLAG) &&
		track_load(&flow->end[1 - direction]) - acknowledged(flow, packet, direction) <=
		UINT16_MAX;
}

bool track_challenges(const struct flow *flow, const struct packet *packet)
{
	return (packet->flags & (RTE_TCP_ACK_FLAG | RTE_TCP_RST_FLAG)) == RTE_TCP_ACK_FLAG &&
		!acknowledges_syn(flow, packet, FLOW_FROM_BACKEND);
}

/* Whether both ends could take it. */
static bool is_credible(const struct flow *flow, const struct packet *packet,
	enum flow_direction direction, enum tcp_state state, enum tcp_event event)
{
	switch (event) {
	case TCP_EVENT_RST:
		return reset_is_exact(flow, packet, direction, state);
	case TCP_EVENT_SYN:
		return tcp_state_half_open(state);
	case TCP_EVENT_SYNACK:
		return tcp_state_half_open(state) && acknowledges_syn(flow, packet, direction);
	case TCP_EVENT_FIN:
		return is_under_way(flow, direction,
			       rte_be_to_cpu_32(packet->tcp->sent_seq) + packet->payload + 1) &&
			(state != TCP_SYN_RECV || acknowledges_syn(flow, packet, direction));
	default:
		return state != TCP_SYN_RECV || acknowledges_syn(flow, packet, direction);
	}
}

/* A FIN that does not acknowledge the other side's: who closes first keeps a TIME_WAIT. */
static bool closes_first(
	const struct flow *flow, const struct packet *packet, enum flow_direction direction)
{
	return !flow_has(flow, FLOW_FIN_SEEN) ||
		tcp_seq_after(track_load(&flow->end[1 - direction]),
			acknowledged(flow, packet, direction));
}

static void note_syn(struct flow *flow, const struct packet *packet, enum flow_direction direction)
{
	uint32_t seq = rte_be_to_cpu_32(packet->tcp->sent_seq);

	// The first, a retransmission, or a new attempt with a number of its own.
	track_store(&flow->end[direction], seq + packet->payload + 1);
	if (flow_keeps_ack(flow, 1 - direction))
		track_store(&flow->ack[1 - direction], seq);
}

enum tcp_state track_state(struct flow *flow, const struct packet *packet,
	enum flow_direction direction, enum tcp_state state, bool *counts)
{
	enum tcp_event event = tcp_event(packet->flags);

	*counts = is_credible(flow, packet, direction, state, event);
	if (!*counts)
		return state;
	if (event == TCP_EVENT_FIN) {
		if (direction == FLOW_FROM_BACKEND && closes_first(flow, packet, direction))
			flow_lingers(flow);
		flow_set_flag(flow, FLOW_FIN_SEEN);
	}
	if (event == TCP_EVENT_SYN || event == TCP_EVENT_SYNACK)
		note_syn(flow, packet, direction);
	if (event == TCP_EVENT_SYNACK) {
		if (flow_keeps_ack(flow, direction))
			track_store(&flow->ack[direction], acknowledged(flow, packet, direction));
		if (direction == FLOW_FROM_BACKEND)
			flow_set_flag(flow, FLOW_PINNED);
	}
	return tcp_next_state(direction, event, state);
}

void track_stream(struct flow *flow, const struct packet *packet, enum flow_direction direction)
{
	uint32_t ts;

	track_end(flow, direction,
		rte_be_to_cpu_32(packet->tcp->sent_seq) + packet->payload +
			(packet->flags & RTE_TCP_FIN_FLAG));
	if ((packet->flags & RTE_TCP_ACK_FLAG) && flow_keeps_ack(flow, direction))
		track_ack(flow, direction, acknowledged(flow, packet, direction));
	if (direction == FLOW_FROM_CLIENT && flow_has(flow, FLOW_LINGERS) &&
		tcp_option_ts(packet->tcp, &ts))
		flow_note_ts(flow, ts);
}
