/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packet path of one worker, without a port: a burst in, three kinds of bursts out. The same
 * code runs under the worker loop, the unit tests, the fuzzers and the benchmark; it needs no EAL.
 *
 *     packets ─► parse ─► hash ─► bucket ─► record ─► translate ─► forward
 *                  │                           └─ no flow: a service's SYN makes one ─► forward
 *                  │                                       else refuse ─► reply, or drop
 *                  └─ not TCP ─► punt (to the kernel, by class)
 *
 * Look-ups go over the whole burst in passes with a prefetch at the end of each, so that the misses
 * of all its packets overlap. An established flow's packet writes its own headers, its record's
 * line, and one line of its backend's counters.
 *
 * Thread rule: one worker per struct pipeline. The flow tables are shared by all; the service table
 * is read through `services`, loaded once a burst.
 */
#ifndef WEIR_PIPELINE_H
#define WEIR_PIPELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "flow_table.h"
#include "handshake.h"
#include "punt.h"
#include "retry.h"
#include "scheduler.h"
#include "service.h"
#include "stats.h"
#include "stats_connect.h"

struct flow_moves;
struct flow_side;
struct rte_mbuf;

#define PIPELINE_BURST 32 // packets a run, at most

struct pipeline_out {
	struct rte_mbuf *mbufs[PIPELINE_BURST * 2];
	uint32_t count;
};

/* At most `rate` a second, in bursts of a tenth of it. */
struct pipeline_rate {
	uint32_t rate;
	uint32_t tokens;
	uint64_t filled_ms;
};

/* A client's SYN that is to make a flow; a burst's are taken together, stage by stage. */
struct pipeline_syn {
	struct packet *packet;
	const struct service_backend *backend;
	struct flow *flow;
	uint32_t service;
	uint32_t id; // of the backend
	struct flow_hashes hashes;
};

/* How far a walk over this worker's records has come, by table. */
struct pipeline_walk {
	uint64_t round[2]; // what it was begun for
	uint32_t at[2];    // next record
	uint32_t left[2];  // until each of its records was looked at
};

/*
 * The backends whose connects failed of late, for the control core: what was counted says the rest.
 * An id may be overwritten before it was read; who fails on comes back.
 */
#define PIPELINE_FAILS 64
struct pipeline_fails {
	uint32_t count;               // so far; the last ones stand in `ids`; worker: write; atomic
	uint32_t ids[PIPELINE_FAILS]; // atomic
};

struct pipeline {
	// Set by the owner before the first run.
	unsigned worker;
	struct net_mac mac;        // the port's
	struct flow_table *flows4; // NULL when no service has the family
	struct flow_table *flows6;
	const struct flow_hasher *hasher;            // that both tables were made with
	const struct service_table *const *services; // where the published table stands; atomic
	struct stats_worker *stats;
	struct stats_backend *backends;     // by backend id, this worker's own
	uint32_t *active;                   // by backend id: its connections, as this worker sees
	struct stats_connect *connects;     // by backend id, this worker's own
	struct retry *retries;              // by service index, this worker's own
	struct handshakes *handshakes;      // likewise
	struct stats_backend *const *peers; // `backends` of all workers, this one's too
	unsigned nb_peers;
	struct service_cursors *cursors;     // by service index, this worker's own
	struct stats_service *service_stats; // by service index; read by the control core
	uint16_t timeout_s[TCP_STATES];      // idle seconds by state, below UINT16_MAX -
					// FLOW_CLOCK_SLACK_S, where the service has none of its
					// own; atomic
	uint16_t least_timeout_s[TCP_STATES];  // the shortest of these and of all services'; atomic
	struct flow_moves *moves;              // new MACs of clients; NULL: nobody tells of any
	const struct probe_ports *probe_ports; // NULL: nothing is probed
	struct rte_mbuf *(*new_mbuf)(void *context); // for packets of Weir's own; NULL = none left
	void *new_mbuf_context;
	uint32_t now_part_us; // of the next run's millisecond; 0 where the clock is no finer

	// Out: whoever calls empties them after each run. A dropped packet is counted already; the
	// others are counted by who sends them.
	struct pipeline_out forward;
	struct pipeline_out reply; // made by the tick, or of received packets, which are answered
	struct pipeline_out punt[PUNT_CLASSES];
	struct pipeline_out drop;

	// Its own.
	struct pipeline_rate reset_rate; // RST to packets without a flow
	struct pipeline_rate icmp_rate;  // time exceeded
	uint32_t now_s;                  // of this run: pipeline_second()
	uint64_t now_us;                 // of this run
	bool look_again;                 // a flow that wasn't found may be there: SYNs of this
					 // burst have made flows, or the index grows
	bool ip6_seen;                   // in the last run
	uint32_t nb_syns;
	struct pipeline_syn syns[PIPELINE_BURST];
	uint64_t swept_ms;           // the last tick
	uint64_t sweep_due[2];       // records that the sweep is behind, by table
	struct pipeline_walk resets; // ends flows of marked backends
	uint64_t resets_ms;          // when it went on last
	struct pipeline_walk moving; // gives flows the new MACs of their clients
	struct pipeline_fails fails;
};

/* Set the defaults of what isn't the caller's: limits, timeouts (RFC 5382). */
void pipeline_init(struct pipeline *pipeline);

/*
 * Take `count` (at most PIPELINE_BURST) received packets through; each ends up in exactly one of
 * the out bursts. `now_ms`: monotonic.
 */
void pipeline_run(
	struct pipeline *pipeline, struct rte_mbuf **mbufs, uint32_t count, uint64_t now_ms);

/*
 * Do what time, the service table and the moves demand: grace periods, expiry, new MACs of clients,
 * resets of flows whose backend is marked. `budget`: how many records the sweep may look at. True
 * when there is more to do at once, as soon as the out bursts are emptied.
 */
bool pipeline_tick(struct pipeline *pipeline, uint64_t now_ms, uint32_t budget);

/* --- between the files of the module --- */

struct packet;

/* Hand a packet to the kernel: one that isn't TCP, or TCP that is no service's. */
void pipeline_punt(
	struct pipeline *pipeline, const struct service_table *table, const struct packet *packet);

/* Take a TCP packet that no flow knows. It ends in an out burst, or, a service's SYN, waits among
 * the syns for pipeline_admit(). */
void pipeline_new_flow(struct pipeline *pipeline, const struct service_table *table,
	struct packet *packet, uint64_t now_ms);

/* Tell whether the tuple is one that Weir lends: from a backend's address and port to a SNAT port.
 * Who comes with it is no business of the kernel's, though the flow is gone. */
bool pipeline_is_lent(
	const struct service_table *table, sa_family_t family, const void *addrs, uint32_t ports);

/* Take an ICMP error that quotes a TCP packet: it goes to whoever sent that, or to the
 * kernel, or is dropped. */
void pipeline_icmp_error(
	struct pipeline *pipeline, const struct service_table *table, const struct packet *packet);

/* Make flows of the waiting SYNs, all of one family, and forward them. */
void pipeline_admit(struct pipeline *pipeline, const struct service_table *table,
	sa_family_t family, uint64_t now_ms);

/* Tell whether the client of a SYN may connect. */
bool pipeline_allows(const struct service *service, const struct packet *packet);

/* Pick the backend that a SYN goes to, a backup while all candidates are full, and count it as
 * opened; whoever makes no flow of it takes that back. Returns its id, SERVICE_NONE when all are
 * full. The service must have a candidate. */
uint32_t pipeline_pick(struct pipeline *pipeline, const struct service *service,
	struct service_cursors *cursors, const struct packet *packet, uint64_t now_ms);

/* Ask for what pipeline_pick() is going to read. */
void pipeline_prefetch_pick(const struct service *service, const struct packet *packet);

/*
 * Choose another backend, with a place and a port left, when the first choice has none, or did not
 * take the connection; none of those that were `tried`, a backup when no candidate is left, and one
 * that failed others lately only for want of a better one. If no other has both, a half-open flow
 * of one gives way.
 */
uint32_t pipeline_pick_other(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, const struct service *service, struct service_cursors *cursors,
	const struct packet *packet, const uint32_t *tried, unsigned nb_tried, uint64_t now_ms);

/* A record, for which room is made in a full table. NULL = none. */
struct flow *pipeline_record_get(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, uint64_t now_ms);

/* Tell whether a half-open flow is older than nearly all clients of its service take to complete
 * the handshake. */
bool pipeline_may_give_way(const struct pipeline *pipeline, const struct service_table *table,
	const struct flow *flow, uint64_t now_ms);
/* End a half-open flow for a new one, and tell its backend. False: another worker did something
 * else with it. flow_table_may_remove() must have said yes. */
bool pipeline_give_way(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, enum stats_gave_way why);

/* Fill in the record of a SYN whose backend is known, all but its state, with a SNAT address and
 * port; and the hashes. False: no port is left. */
bool pipeline_fill(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct pipeline_syn *syn);
/* Give back the SNAT port of a filled record that becomes no flow. */
void pipeline_unfill(
	const struct service_table *table, struct flow_table *flows, struct flow *flow);
/* Make the closed flow give way that had the SNAT tuple of a filled record before: it gave its port
 * back, and that was lent again. False: not now. */
bool pipeline_take_over_tuple(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct pipeline_syn *syn);

/* --- connects: from the SYN to its answer --- */

/* Keep the SYN and start the time: a filled record is about to be a flow. */
void pipeline_connect_begin(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, const struct pipeline_syn *syn, uint64_t now_ms);
/* Free what a connect needed, since its flow has left TCP_SYN_SENT; `side` is what its record said
 * before. `answered`: by the backend, and it takes the connection. */
void pipeline_connect_end(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, uint32_t side, bool answered);
/* Look at a packet of a flow in TCP_SYN_SENT. True: it was taken, and all is done. */
bool pipeline_connect_packet(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct packet *packet, struct flow *flow,
	enum flow_direction direction, uint64_t now_ms);
/* Take it that the backend of a flow in TCP_SYN_SENT can't be reached, as if it had refused; `mbuf`
 * says so. True: it was taken, and all is done. */
bool pipeline_connect_unreachable(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct rte_mbuf *mbuf, struct flow *flow);
/* Look after silent backends, as a part of the tick. True: there is more to do at once. */
bool pipeline_connect_tick(struct pipeline *pipeline, uint64_t now_ms);

/* Tell the client, by a RST that it takes, that the flow is over. False: there is no buffer. */
bool pipeline_reset_client(struct pipeline *pipeline, struct flow_table *flows, struct flow *flow);

/* Count a connection more of a backend, or with -1 take one back. */
static inline void pipeline_count_opened(struct pipeline *pipeline, uint32_t id, int count)
{
	uint64_t *opened = &pipeline->backends[id].opened;

	// Other workers add it up; release: before it counts as ended it counts as opened.
	__atomic_store_n(opened, *opened + count, __ATOMIC_RELEASE);
	pipeline->active[id] += count;
}

/* Count a backend's connection as over, though the flow may stay until its last
 * timer. Once a connection. */
static inline void pipeline_count_ended(struct pipeline *pipeline, uint32_t id)
{
	uint64_t *ended = &pipeline->backends[id].ended;

	__atomic_store_n(ended, *ended + 1, __ATOMIC_RELEASE);
	pipeline->active[id]--;
}

/* Track, translate and forward a packet; flow and direction as found. Any state, any segment. */
void pipeline_forward(struct pipeline *pipeline, const struct service_table *table,
	struct packet *packet, struct flow *flow, enum flow_direction direction);

/*
 * Change a flow's status; false when another worker did. A flow that closes gives its SNAT port
 * back: it stays for what comes late, until the port is lent again (longest free first) or time is
 * up.
 */
bool pipeline_set_status(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, uint8_t from, uint8_t to);

/* End flows: out of the table, their SNAT ports back, counted. At most PIPELINE_BURST. Returns how
 * many this worker was the first to end. */
uint32_t pipeline_end_flows(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow **ended, uint32_t count);

/* End one flow if it is half open. Returns the state that it was in; TCP_NONE: it isn't, or another
 * worker was faster. */
enum tcp_state pipeline_end_half_open(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow);

/* Take the client's tuple from a closing flow, for it is to be another one's. The flow ends; or it
 * stays under the backend's tuple, closed, when what it knows will be needed by who gets its SNAT
 * port next. */
void pipeline_leave_tuple(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow);

/* Begin a walk, if it wasn't begun for that round yet, over the records of a table: flows4 (0) or
 * flows6 (1), which must be there. */
void pipeline_walk_begin(
	struct pipeline *pipeline, struct pipeline_walk *walk, unsigned table, uint64_t round);
/*
 * Go on with a walk, by so many records as a tick of that budget may look at; `pace`: by so many
 * when each was looked at, to see what came since. True: not each was looked at yet.
 */
bool pipeline_walk_on(struct pipeline *pipeline, struct pipeline_walk *walk, unsigned table,
	uint32_t budget, uint32_t pace, flow_seen_fn seen, void *context);

/* Give flows the new MACs of their clients, as a part of the tick. True: there is more to do at
 * once, and until then some flows go to where their clients are not. */
bool pipeline_move_clients(struct pipeline *pipeline, uint32_t budget);

/* End flows of backends that the service table has marked, as a part of the tick. True: there is
 * more to do at once. */
bool pipeline_reset_flows(struct pipeline *pipeline, uint64_t now_ms, uint32_t budget);

/* Send both ends of a flow a RST that they take (RFC 5961); the caller ends the flow. False, and
 * nothing was done: no room in the out burst. */
bool pipeline_reset_ends(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow);

/* Its backend gets a RST for a flow that was half open, in that state, and has ended. False: no
 * buffer, no room in the out burst, or no way to the backend. */
bool pipeline_reset_backend(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, enum tcp_state state);

/* Answer the packet by a RST in its own buffer (RFC 9293, 3.10.7.1). */
void pipeline_reset(struct pipeline *pipeline, struct packet *packet);
/* Answer the packet by a RST in its own buffer, within the rate; else drop it. A
 * RST is never answered. */
void pipeline_reset_limited(
	struct pipeline *pipeline, struct packet *packet, enum stats_drop reason, uint64_t now_ms);
/* Answer the packet by an ICMP time exceeded (RFC 792, RFC 4443), within the rate. */
void pipeline_time_exceeded(struct pipeline *pipeline, struct packet *packet, uint64_t now_ms);

/* Return what a flow's last_seen says of a packet: the second that begins then or next, so that
 * none ends before its time; a sweep counts whole seconds. */
static inline uint32_t pipeline_second(uint64_t now_ms)
{
	return (now_ms + 999) / 1000;
}

bool pipeline_rate_allows(struct pipeline_rate *rate, uint64_t now_ms);

static inline void pipeline_out_add(struct pipeline_out *out, struct rte_mbuf *mbuf)
{
	out->mbufs[out->count++] = mbuf;
}

static inline void pipeline_drop(
	struct pipeline *pipeline, struct rte_mbuf *mbuf, enum stats_drop reason)
{
	pipeline->stats->live.drops[reason]++;
	pipeline_out_add(&pipeline->drop, mbuf);
}

/* Tell whether it is a pure SYN; RFC 3168's ECE and CWR may be set, nothing else (case B13). */
static inline bool pipeline_is_first_syn(uint8_t tcp_flags)
{
	return (tcp_flags & 0x3f) == 0x02;
}

static inline struct flow_table *pipeline_flows(const struct pipeline *pipeline, sa_family_t family)
{
	return family == AF_INET6 ? pipeline->flows6 : pipeline->flows4;
}

#endif
