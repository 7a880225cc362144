/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A balancer without ports for tests and fuzzers: pipelines of one or two workers on shared flow
 * tables, a service of each family with its backends. Frames go in, and what came out of each is
 * there to be looked at. After each run it checks, and aborts with a message if it doesn't hold:
 *   - every packet is in exactly one of the bursts, and the accounting identity is exact (I1);
 *   - what leaves has one side's tuple, whole (I3), and differs from what came in by what was to be
 *     changed only: the client's sequence numbers and timestamps all by the same, if at all; what
 *     is punted is untouched;
 *   - checksums of what leaves are right if they were, and as wrong as they were if not (I4, B11).
 * A worker's runs may stand in a thread of their own; all else in one thread.
 */
#ifndef WEIR_TEST_RIG_H
#define WEIR_TEST_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "packets.h"
#include "pipeline.h"
#include "snat.h"

enum {
	RIG_WORKERS = 2,
	RIG_BACKENDS = 16,
	RIG_SNATS = 4,
	RIG_PORT = 20000,
	RIG_VIP_PORT = 80,
	RIG_MADE = 256
};

struct rig_options {
	unsigned nb_workers;  // 0 = 1
	uint32_t flows;       // 0 = 1024
	unsigned nb_backends; // of each family; 0 = 4
	unsigned nb_ports;    // SNAT ports; 0 = 1000
	uint16_t first_port;  // of these; 0 = RIG_PORT
	unsigned nb_snats;    // SNAT addresses of each family; 0 = 1
	bool shared_pools;    // all backends of a family lend the same ports, as if of one address
	bool has_rss;         // ports are of workers, even and odd ones by turns
	const struct scheduler_ops *scheduler; // NULL = maglev
	bool drop_when_down;
	struct service_connect connect; // zeroed: a connection has one backend, whatever it does
};

enum rig_fate {
	RIG_FORWARDED,
	RIG_ANSWERED,
	RIG_DROPPED,
	RIG_PUNTED, // + the class
};

/* What became of a packet. */
struct rig_packet {
	enum rig_fate fate;
	unsigned place; // in its burst
	unsigned size;
	bool is_tcp;            // `segment` is filled in
	struct segment segment; // points into `frame`
	uint8_t frame[PACKETS_SIZE_MAX];
};

struct rig_worker {
	struct pipeline pipeline;
	struct stats_worker *stats;
	struct stats_backend backends[2 * RIG_BACKENDS];
	uint32_t active[2 * RIG_BACKENDS];
	struct stats_connect connects[2 * RIG_BACKENDS];
	struct retry retries[2];
	struct handshakes handshakes[2];
	struct service_cursors cursors[2];
	struct stats_service service_stats[2];
	struct rig_packet made[RIG_MADE]; // by itself, the last ones: the n-th at n % RIG_MADE
	unsigned nb_made;
	struct rig_packet out[PIPELINE_BURST]; // of its last run, in the order they went in
};

struct rig {
	struct rig_options options;
	uint64_t now_ms; // atomic, when threads run
	struct rte_rcu_qsbr *rcu;
	struct snat *snat;
	struct snat_pool *pools[2 * RIG_BACKENDS][RIG_SNATS];
	struct flow_table *flows4, *flows6;
	const struct service_table *table; // published
	bool is_up[2 * RIG_BACKENDS];
	bool is_resolved[2 * RIG_BACKENDS];
	bool is_backup[2 * RIG_BACKENDS];     // for the next table
	uint32_t max_conns[2 * RIG_BACKENDS]; // 0 = any number; for the next table
	struct service_access *access;        // of the next table's services
	uint16_t timeout_s[SERVICE_STATES];   // likewise
	bool reset_when_idle;                 // likewise
	bool are_swapped;                     // likewise: each service has the other family now
	bool has_no_buffers;                  // for what a pipeline makes by itself
	struct stats_backend *counters[RIG_WORKERS];
	struct rig_worker workers[RIG_WORKERS];
};

/* Backends: ids 0 to nb_backends - 1 are of IPv4, as many behind these of IPv6. Service 0 is of
 * IPv4, 1 of IPv6. All are up at the start. */
struct rig *rig_create(const struct rig_options *options);
void rig_destroy(struct rig *rig);

/* Build a table of what is up and resolved, and publish it; the one before is returned, for the
 * caller to free when nobody reads it. */
const struct service_table *rig_publish(struct rig *rig);
/* The same with one backend changed, for one thread. */
void rig_set_backend(struct rig *rig, unsigned id, bool is_up, bool is_resolved);

struct net_addr rig_vip(sa_family_t family);
struct net_addr rig_snat_addr(sa_family_t family, unsigned index);
struct net_addr rig_backend_addr(const struct rig *rig, unsigned id);
uint16_t rig_backend_port(const struct rig *rig, unsigned id);
struct net_mac rig_mac(void);                // the port's
struct net_mac rig_backend_mac(unsigned id); // next hop

struct rig_frame {
	const void *bytes;
	unsigned size;
};

/* Run a burst through a worker. Results are in its `out`. */
void rig_run(struct rig *rig, unsigned worker, const struct rig_frame *frames, unsigned count);
/* One frame, or one segment. */
const struct rig_packet *rig_run_frame(
	struct rig *rig, unsigned worker, const void *frame, unsigned size);
const struct rig_packet *rig_run_segment(
	struct rig *rig, unsigned worker, const struct segment *segment);

/* One tick of a worker; what it sends is in `made`. True: there is more to do at once. */
bool rig_tick(struct rig *rig, unsigned worker, uint64_t now_ms, uint32_t budget);

/* Let time go by in steps of `step_ms`, with all workers' ticks. */
void rig_wait(struct rig *rig, uint64_t ms, uint64_t step_ms);

/* Sums over the workers. */
uint64_t rig_dropped(const struct rig *rig, enum stats_drop reason);
uint64_t rig_created(const struct rig *rig);
uint32_t rig_ports_used(const struct rig *rig);
struct flow_table *rig_flows(const struct rig *rig, sa_family_t family);
unsigned rig_side_records(const struct rig *rig, sa_family_t family); // in use
struct stats_connect *rig_connects(struct rig *rig, unsigned worker, unsigned id);
/* What the worker has made itself last; NULL = nothing yet. */
const struct rig_packet *rig_last_made(const struct rig *rig, unsigned worker);

#define FOR_EACH_FAMILY(family)                                                                    \
	for (sa_family_t family = AF_INET; family != 0; family = family == AF_INET ? AF_INET6 : 0)

/* --- a connection, seen from both ends --- */

#define CLIENT FLOW_FROM_CLIENT
#define BACKEND FLOW_FROM_BACKEND

struct connection {
	struct rig *rig;
	sa_family_t family;
	struct net_mac mac; // of the client
	struct net_addr client, snat, backend;
	uint16_t client_port, snat_port, backend_port;
	unsigned backend_id;
	uint32_t seq[2]; // next of the client and of the backend
	uint8_t ttl;
};

/* A client; no packet is sent. */
struct connection connection_of(struct rig *rig, sa_family_t family, uint32_t number);
/* The segment that the end would send: numbers, no payload. */
struct segment connection_segment(
	const struct connection *connection, enum flow_direction direction, uint8_t flags);
/* Send the client's SYN; true when it was forwarded: backend and SNAT tuple are known then. */
bool connection_syn(struct connection *connection, unsigned worker);
/* Send and check that it comes out at the other end, translated; numbers move on. */
void connection_send(struct connection *connection, unsigned worker, enum flow_direction direction,
	uint8_t flags, unsigned payload);
/* SYN, SYN-ACK, ACK. */
bool connection_open(struct connection *connection, unsigned worker);
/* A client's connection, open on worker 0 and with data each way, all acknowledged. */
struct connection connection_in_use(struct rig *rig, sa_family_t family, uint32_t number);
/* The flow, by the client's tuple; NULL = none. */
struct flow *connection_flow(const struct connection *connection);
/* Its state; TCP_NONE = no flow. */
enum tcp_state connection_state(const struct connection *connection);

#endif
