/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The record of a connection. One cache line for IPv4, two for IPv6, no field without need: what
 * few flows need lies in a side record.
 *
 * A record holds two tuples, the one a packet arrives with from the client (client, VIP) and the
 * one from the backend (backend, SNAT address), side by side. To translate a packet is to replace
 * its tuple by the other one reversed, so one piece of code serves both directions:
 *     client -> VIP        becomes  SNAT -> backend
 *     backend -> SNAT      becomes  VIP -> client
 *
 * Data plane: any worker reads and writes the records of flows whose packets it gets. The fields by
 * direction have one writer at a time as long as the network keeps a direction on one queue; where
 * it doesn't, a lost update of these is harmless. All that changes after the insert is read and
 * written by relaxed atomics (which cost nothing), `state` changes by compare-and-swap only.
 */
#ifndef WEIR_FLOW_H
#define WEIR_FLOW_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "addr.h"
#include "tcp_state.h"

enum flow_address { FLOW_CLIENT, FLOW_VIP, FLOW_BACKEND, FLOW_SNAT, FLOW_ADDRESSES };

enum flow_flag {
	FLOW_TRANSLATED = 1 << 0, // sequence numbers and timestamps are moved by the offsets
	FLOW_SIDE = 1 << 1,     // in TCP_SYN_SENT: `side` stands in place of end[FLOW_FROM_BACKEND]
	FLOW_FIN_SEEN = 1 << 2, // by any side
	FLOW_PINNED = 1 << 3,   // a SYN-ACK was forwarded
	FLOW_LINGERS = 1 << 4,  // the backend closed first: it keeps the tuple in TIME_WAIT
	FLOW_DETACHED = 1 << 5, // found by the backend's tuple only: the client's is another flow's
};

/* The part that is the same in both families. */
struct flow {
	uint16_t port[FLOW_ADDRESSES]; // network byte order, by enum flow_address
	union {
		struct {
			struct net_mac client_mac; // where the client's latest packet came from
			uint8_t link;              // interface and VLAN, index into the port's list
			uint8_t worker;            // that made it
		};
		uint64_t client_word; // of these: read and written whole once inserted
	};
	// Numbers of a stream are kept as its sender counts them: an acknowledgement in those of
	// the side that it is for.
	union {
		uint32_t end[FLOW_DIRECTIONS]; // sequence number behind the highest segment sent by
					       // the side
		struct {
			uint32_t end_of_client;
			uint32_t side; // index of a side record: before the backend has sent
				       // anything
		};
	};
	union {
		uint32_t ack[FLOW_DIRECTIONS]; // the highest acknowledgement sent by the side
		uint32_t last_ts_moved; // the client's has this in its place: see flow_offsets.h
	};
	uint32_t seq_offset; // FLOW_TRANSLATED: what the backend sees the client's numbers moved by
	union {
		uint32_t ts_offset; // and its timestamps
		uint32_t last_ts;   // without offsets: see flow_offsets.h
	};
	uint32_t backend;   // FLOW_BACKEND_ID() and FLOW_BACKEND_GENERATION()
	uint16_t last_seen; // monotonic seconds, the low 16 bits
	union {
		struct {
			uint8_t state; // enum tcp_state; TCP_NONE = free
			uint8_t flags; // enum flow_flag
		};
		uint16_t state_word; // both: read whole
	};
};

#define FLOW_BACKEND_ID_BITS 20
#define FLOW_BACKEND_ID(backend) ((backend) & ((1u << FLOW_BACKEND_ID_BITS) - 1))
#define FLOW_BACKEND_GENERATION(backend) ((backend) >> FLOW_BACKEND_ID_BITS)

struct flow4 {
	uint32_t addr[FLOW_ADDRESSES]; // network byte order
	struct flow flow;
} __attribute__((aligned(64)));

struct flow6 {
	uint8_t addr[FLOW_ADDRESSES][16];
	struct flow flow; // on the second line
	uint16_t delta;   // of a client's packet's TCP checksum when its tuple is replaced; the
			  // negative of that of a backend's. Of IPv4 there is no room, and less to
			  // add up.
	uint16_t unused[7];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct flow) == 48, "the layout is persistent");
_Static_assert(sizeof(struct flow4) == 64, "one cache line");
_Static_assert(sizeof(struct flow6) == 128, "two cache lines");

static inline struct flow4 *flow4_of(struct flow *flow)
{
	return (struct flow4 *)((char *)flow - offsetof(struct flow4, flow));
}

static inline struct flow6 *flow6_of(struct flow *flow)
{
	return (struct flow6 *)((char *)flow - offsetof(struct flow6, flow));
}

/* One of the flow's addresses, as 4 or 16 bytes. */
static inline uint8_t *flow_addr(struct flow *flow, sa_family_t family, enum flow_address which)
{
	return family == AF_INET6 ? flow6_of(flow)->addr[which]
				  : (uint8_t *)&flow4_of(flow)->addr[which];
}

#endif
