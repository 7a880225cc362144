/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TCP connection tracking as a table, after netfilter's nf_conntrack_proto_tcp.c. Weir is not a
 * firewall: what netfilter calls invalid is forwarded and leaves the state as it is.
 */
#ifndef WEIR_TCP_STATE_H
#define WEIR_TCP_STATE_H

#include <stdbool.h>
#include <stdint.h>

enum tcp_state {
	TCP_NONE, // no flow: a free record
	TCP_SYN_SENT,
	TCP_SYN_RECV,
	TCP_ESTABLISHED,
	TCP_FIN_WAIT,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_SYN_SENT2, // simultaneous open
	TCP_STATES
};

/* What a segment is for the table. */
enum tcp_event {
	TCP_EVENT_SYN,
	TCP_EVENT_SYNACK,
	TCP_EVENT_FIN,
	TCP_EVENT_ACK,
	TCP_EVENT_RST,
	TCP_EVENT_NONE,
	TCP_EVENTS
};

enum flow_direction { FLOW_FROM_CLIENT, FLOW_FROM_BACKEND, FLOW_DIRECTIONS };

extern const uint8_t tcp_transitions[FLOW_DIRECTIONS][TCP_EVENTS][TCP_STATES];
extern const char *const tcp_state_names[TCP_STATES];

static inline enum tcp_event tcp_event(uint8_t flags)
{
	if (flags & 0x04)
		return TCP_EVENT_RST;
	if (flags & 0x02)
		return flags & 0x10 ? TCP_EVENT_SYNACK : TCP_EVENT_SYN;
	if (flags & 0x01)
		return TCP_EVENT_FIN;
	return flags & 0x10 ? TCP_EVENT_ACK : TCP_EVENT_NONE;
}

static inline enum tcp_state tcp_next_state(
	enum flow_direction direction, enum tcp_event event, enum tcp_state state)
{
	return tcp_transitions[direction][event][state];
}

/* Sequence numbers are compared modulo 2^32 (RFC 9293, 3.4). */
static inline bool tcp_seq_after(uint32_t a, uint32_t b)
{
	return (int32_t)(b - a) < 0;
}

/* Tell whether the connection is over but for its timers: it gives up its record and
 * SNAT port at once. */
static inline bool tcp_state_closed(enum tcp_state state)
{
	return state == TCP_TIME_WAIT || state == TCP_CLOSE;
}

static inline bool tcp_state_half_open(enum tcp_state state)
{
	return state == TCP_SYN_SENT || state == TCP_SYN_RECV || state == TCP_SYN_SENT2;
}

/* A FIN or RST was seen: a new SYN starts a new connection at once. */
static inline bool tcp_state_closing(enum tcp_state state)
{
	return state >= TCP_FIN_WAIT && state <= TCP_CLOSE;
}

#endif
