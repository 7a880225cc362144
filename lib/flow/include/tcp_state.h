/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TCP connection tracking as a table, after netfilter's nf_conntrack_proto_tcp.c. Weir is not a
 * firewall: what netfilter calls invalid is forwarded and leaves the state as it is.
 *
 * How a connection ends is told of each side by itself: its FIN was sent, and it was acknowledged.
 * The states from TCP_ESTABLISHED to TCP_TIME_WAIT follow from that:
 *     TCP_FIN_WAIT    one side has sent its FIN, which the other one may or may not take
 *     TCP_CLOSE_WAIT  the other one has acknowledged it: half closed
 *     TCP_LAST_ACK    the other one has sent its own, too
 *     TCP_TIME_WAIT   both are acknowledged
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

/* What is known of a side's FIN. */
enum tcp_fin { TCP_FIN_NONE, TCP_FIN_SENT, TCP_FIN_ACKED };

/* What a segment is for the table; one without ACK, SYN and RST is TCP_EVENT_NONE: no receiver
 * takes it (RFC 9293, 3.10.7.4). */
enum tcp_event {
	TCP_EVENT_SYN,
	TCP_EVENT_SYNACK,
	TCP_EVENT_ACK,
	TCP_EVENT_RST,
	TCP_EVENT_NONE,
	TCP_EVENTS
};

enum flow_direction { FLOW_FROM_CLIENT, FLOW_FROM_BACKEND, FLOW_DIRECTIONS };

#define TCP_STATE_BITS 4
#define TCP_FIN_BITS 2

extern const uint8_t tcp_transitions[FLOW_DIRECTIONS][TCP_EVENTS][TCP_STATES];
extern const uint8_t tcp_closing[1 << TCP_FIN_BITS][1 << TCP_FIN_BITS];
extern const char *const tcp_state_names[TCP_STATES];

static inline enum tcp_event tcp_event(uint8_t flags)
{
	if (flags & 0x04)
		return TCP_EVENT_RST;
	if (flags & 0x02)
		return flags & 0x10 ? TCP_EVENT_SYNACK : TCP_EVENT_SYN;
	return flags & 0x10 ? TCP_EVENT_ACK : TCP_EVENT_NONE;
}

static inline enum tcp_state tcp_next_state(
	enum flow_direction direction, enum tcp_event event, enum tcp_state state)
{
	return tcp_transitions[direction][event][state];
}

/*
 * A status is a state, and the FINs that it follows from, in one byte: state in the low 4 bits,
 * then 2 bits of the client's FIN, 2 of the backend's. In all states but those from TCP_ESTABLISHED
 * to TCP_TIME_WAIT there are no FINs.
 */
static inline enum tcp_state tcp_status_state(uint8_t status)
{
	return status & ((1 << TCP_STATE_BITS) - 1);
}

static inline enum tcp_fin tcp_status_fin(uint8_t status, enum flow_direction side)
{
	return status >> (TCP_STATE_BITS + side * TCP_FIN_BITS) & ((1 << TCP_FIN_BITS) - 1);
}

/* Return the status of an established or closing connection that has these FINs. */
static inline uint8_t tcp_status(const enum tcp_fin fins[FLOW_DIRECTIONS])
{
	return tcp_closing[fins[FLOW_FROM_CLIENT]][fins[FLOW_FROM_BACKEND]] |
		fins[FLOW_FROM_CLIENT] << TCP_STATE_BITS |
		fins[FLOW_FROM_BACKEND] << (TCP_STATE_BITS + TCP_FIN_BITS);
}

/* Tell whether sequence number a is after b, modulo 2^32 (RFC 9293, 3.4). */
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

/* The handshake is complete, and not all is over yet: there are streams, and FINs. */
static inline bool tcp_state_open(enum tcp_state state)
{
	return state >= TCP_ESTABLISHED && state <= TCP_LAST_ACK;
}

#endif
