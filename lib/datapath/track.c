/* SPDX-License-Identifier: BSD-3-Clause */
#include "track.h"

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
			rte_be_to_cpu_32(packet->tcp->recv_ack) == flow->end[FLOW_FROM_CLIENT];
	return seq == flow->ack[1 - direction] || seq == flow->end[direction] ||
		(flow->flags & FLOW_FIN_SEEN);
}

void track_state(struct flow_table *flows, unsigned worker, struct flow *flow,
	const struct packet *packet, enum flow_direction direction)
{
	enum tcp_state state = flow_state(flow);
	enum tcp_event event = tcp_event(packet->flags);
	uint32_t seq = rte_be_to_cpu_32(packet->tcp->sent_seq);

	if (event == TCP_EVENT_RST && !reset_is_exact(flow, packet, direction, state))
		return;
	if (event == TCP_EVENT_FIN)
		flow->flags |= FLOW_FIN_SEEN;
	if (event == TCP_EVENT_SYN && direction == FLOW_FROM_CLIENT && state == TCP_SYN_SENT) {
		// A retransmission, or a new attempt with a number of its own.
		flow->end[FLOW_FROM_CLIENT] = seq + packet->payload + 1;
	}
	if (event == TCP_EVENT_SYNACK && direction == FLOW_FROM_BACKEND &&
		tcp_state_half_open(state)) {
		flow->end[FLOW_FROM_BACKEND] = seq + packet->payload + 1;
		flow->ack[FLOW_FROM_BACKEND] = rte_be_to_cpu_32(packet->tcp->recv_ack);
		flow->ack[FLOW_FROM_CLIENT] = seq;
		flow->flags |= FLOW_PINNED;
	}

	enum tcp_state next = tcp_next_state(direction, event, state);
	if (next != state)
		flow_table_set_state(flows, worker, flow, state, next);
}
