/* SPDX-License-Identifier: BSD-3-Clause */
#include "tcp_state.h"

const char *const tcp_state_names[TCP_STATES] = {
	"none",
	"syn_sent",
	"syn_recv",
	"established",
	"fin_wait",
	"close_wait",
	"last_ack",
	"time_wait",
	"close",
	"syn_sent2",
};

/*
 * Rows are the segment, columns the state before; the entry is the state after. Differences from
 * netfilter's table:
 *  - its "invalid" and "ignore" are the state before: the segment is forwarded, and the end hosts
 *    judge it;
 *  - TCP_NONE stays TCP_NONE: only a client's SYN makes a flow, and not by way of this table;
 *  - a client's SYN in TIME_WAIT and CLOSE stays: it starts a new flow, not by way of this table;
 *  - a backend's SYN in TIME_WAIT stays: no connection is opened from that side;
 *  - a FIN has no row, nor has an ACK in the states behind TCP_ESTABLISHED: they are of the table
 *    below, by which FIN is whose;
 *  - a segment comes here only after it was found that its receiver takes it.
 */
#define NO TCP_NONE
#define SS TCP_SYN_SENT
#define SR TCP_SYN_RECV
#define ES TCP_ESTABLISHED
#define FW TCP_FIN_WAIT
#define CW TCP_CLOSE_WAIT
#define LA TCP_LAST_ACK
#define TW TCP_TIME_WAIT
#define CL TCP_CLOSE
#define S2 TCP_SYN_SENT2

// One row is one line, and its columns stand below one another.
// clang-format off
const uint8_t tcp_transitions[FLOW_DIRECTIONS][TCP_EVENTS][TCP_STATES] = {
	[FLOW_FROM_CLIENT] = {
		//                    NO  SS  SR  ES  FW  CW  LA  TW  CL  S2
		[TCP_EVENT_SYN] =    {NO, SS, SR, ES, FW, CW, LA, TW, CL, S2},
		[TCP_EVENT_SYNACK] = {NO, SS, SR, ES, FW, CW, LA, TW, CL, SR},
		[TCP_EVENT_ACK] =    {NO, SS, ES, ES, FW, CW, LA, TW, CL, S2},
		[TCP_EVENT_RST] =    {NO, CL, CL, CL, CL, CL, CL, CL, CL, CL},
		[TCP_EVENT_NONE] =   {NO, SS, SR, ES, FW, CW, LA, TW, CL, S2},
	},
	[FLOW_FROM_BACKEND] = {
		//                    NO  SS  SR  ES  FW  CW  LA  TW  CL  S2
		[TCP_EVENT_SYN] =    {NO, S2, SR, ES, FW, CW, LA, TW, CL, S2},
		[TCP_EVENT_SYNACK] = {NO, SR, SR, ES, FW, CW, LA, TW, CL, SR},
		[TCP_EVENT_ACK] =    {NO, SS, SR, ES, FW, CW, LA, TW, CL, S2},
		[TCP_EVENT_RST] =    {NO, CL, CL, CL, CL, CL, CL, CL, CL, CL},
		[TCP_EVENT_NONE] =   {NO, SS, SR, ES, FW, CW, LA, TW, CL, S2},
	},
};

// Rows are the client's FIN, columns the backend's. netfilter doesn't ask whose FIN it is, so there
// a repeated one counts as the other side's.
const uint8_t tcp_closing[1 << TCP_FIN_BITS][1 << TCP_FIN_BITS] = {
	//                  none sent acked
	[TCP_FIN_NONE] =   {ES,  FW,  CW},
	[TCP_FIN_SENT] =   {FW,  LA,  LA},
	[TCP_FIN_ACKED] =  {CW,  LA,  TW},
};
// clang-format on
