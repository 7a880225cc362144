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
 * written by relaxed atomics (which cost nothing), `status` changes by compare-and-swap only.
 */
#ifndef WEIR_FLOW_H
#define WEIR_FLOW_H

#include <rte_byteorder.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "addr.h"
#include "tcp_state.h"

enum flow_address { FLOW_CLIENT, FLOW_VIP, FLOW_BACKEND, FLOW_SNAT, FLOW_ADDRESSES };

/*
 * Every bit of the record and whose it is. A free bit is 0 in every record, and 0 goes on meaning
 * what held before: so a newer weir takes in what an older one left. The other way about, the
 * file's header names what an older one would misread (flow_file.h).
 *
 *     byte     bits  what
 *     status   0-3   enum tcp_state
 *              4-5   enum tcp_fin of the client; 0 in version 1, which knew whose FIN it was by
 *              6-7   enum tcp_fin of the backend       FLOW_LINGERS alone
 *     flags    0-6   enum flow_flag, but for bit 2
 *              2     free once no file of version 1 is left: there a FIN was seen
 *              7     free; kept for PROXY protocol: the header is due
 *     worker   0-5   the worker that made the flow: STATS_WORKERS_MAX
 *              6-7   free; kept for PROXY protocol: which of four lengths the header has
 *     kind     0-1   protocol: 0 = TCP, the only one so far; kept as a part of the tuple, in which
 *                    0 leaves hash and match as they are
 *              2-3   mode: 0 = FullNAT, the only one so far
 *              4-7   free
 *
 * The status changes by compare-and-swap, the flags by atomic or and and; worker and kind never
 * do, so they may stand in one word with the client's MAC, which is written whole.
 */
enum flow_flag {
	FLOW_TS_MOVED = 1 << 0, // timestamps by `ts_offset`, and numbers by `seq_offset`, maybe 0
	FLOW_SIDE = 1 << 1,     // in TCP_SYN_SENT: `side` stands in place of end[FLOW_FROM_BACKEND]
	FLOW_PINNED = 1 << 3,   // a SYN-ACK was forwarded
	FLOW_LINGERS = 1 << 4,  // the backend closed first: it keeps the tuple in TIME_WAIT
	FLOW_DETACHED = 1 << 5, // found by the backend's tuple only: the client's is another flow's
	FLOW_SEQ_MOVED = 1 << 6, // sequence numbers, by `seq_offset`
};

#define FLOW_TRANSLATED (FLOW_SEQ_MOVED | FLOW_TS_MOVED) // by any of the offsets

#define FLOW_WORKER_MASK 0x3f // of `worker`
// The bytes of an address at the beginning of a word in memory, such as `client_word`.
#define FLOW_MAC_OF_WORD RTE_BE64(0xffffffffffff0000)

/* The part that is the same in both families. */
struct flow {
	uint16_t port[FLOW_ADDRESSES]; // network byte order, by enum flow_address
	union {
		struct {
			struct net_mac client_mac; // where the client's latest packet came from
			uint8_t kind;              // protocol and mode
			uint8_t worker;            // that made it: flow_worker()
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
		uint32_t since_ms; // or this, while the flow is half open: when its backend was
				   // given the SYN; monotonic, the low bits
	};
	uint32_t seq_offset; // FLOW_TRANSLATED: what the backend sees the client's numbers moved by
	union {
		uint32_t ts_offset; // FLOW_TS_MOVED: and its timestamps
		uint32_t last_ts;   // without that: see flow_offsets.h
	};
	uint32_t backend;   // FLOW_BACKEND_ID() and FLOW_BACKEND_GENERATION()
	uint16_t last_seen; // monotonic seconds, the low 16 bits
	union {
		struct {
			uint8_t status; // flow_state(); 0 = free
			uint8_t flags;  // enum flow_flag
		};
		uint16_t status_word; // both: read whole
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

/* Return one of the flow's addresses, as 4 or 16 bytes. */
static inline uint8_t *flow_addr(struct flow *flow, sa_family_t family, enum flow_address which)
{
	return family == AF_INET6 ? flow6_of(flow)->addr[which]
				  : (uint8_t *)&flow4_of(flow)->addr[which];
}

#endif
