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
 *  - a RST comes here only after its sequence number was found exact.
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
		[TCP_EVENT_FIN] =    {NO, SS, FW, FW, LA, LA, LA, TW, CL, S2},
		[TCP_EVENT_ACK] =    {NO, SS, ES, ES, CW, CW, TW, TW, CL, S2},
		[TCP_EVENT_RST] =    {NO, CL, CL, CL, CL, CL, CL, CL, CL, CL},
		[TCP_EVENT_NONE] =   {NO, SS, SR, ES, FW, CW, LA, TW, CL, S2},
	},
	[FLOW_FROM_BACKEND] = {
		//                    NO  SS  SR  ES  FW  CW  LA  TW  CL  S2
		[TCP_EVENT_SYN] =    {NO, S2, SR, ES, FW, CW, LA, TW, CL, S2},
		[TCP_EVENT_SYNACK] = {NO, SR, SR, ES, FW, CW, LA, TW, CL, SR},
		[TCP_EVENT_FIN] =    {NO, SS, FW, FW, LA, LA, LA, TW, CL, S2},
		[TCP_EVENT_ACK] =    {NO, SS, SR, ES, CW, CW, TW, TW, CL, S2},
		[TCP_EVENT_RST] =    {NO, CL, CL, CL, CL, CL, CL, CL, CL, CL},
		[TCP_EVENT_NONE] =   {NO, SS, SR, ES, FW, CW, LA, TW, CL, S2},
	},
};
// clang-format on
