/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Per-worker counters. One worker writes, anybody reads the published copy.
 *
 * The accounting identity, exact at burst boundaries:
 *     received = forwarded + answered + punted + sum of drops[]
 * Packets that Weir makes (generated) and packets from weir0 (from_kernel) are counted apart.
 */
#ifndef WEIR_STATS_H
#define WEIR_STATS_H

#include <stdint.h>
#include <sys/socket.h>

#define STATS_WORKERS_MAX 64

/* Why a received packet went nowhere: id, and the name in telemetry. */
#define STATS_DROPS(X)                                                                             \
	X(RUNT, "runt")                           /* headers don't lie in the first segment */     \
	X(WRONG_MAC, "wrong_mac")                 /* unicast to another station */                 \
	X(BAD_IP, "bad_ip")                       /* version, header length, total length */       \
	X(BAD_TCP, "bad_tcp")                     /* header cut, or data offset wrong */           \
	X(BAD_SUM, "bad_sum")                     /* SYN with a wrong checksum */                  \
	X(BAD_ADDRESS, "bad_address")             /* source or port that can't be: cases B12 */    \
	X(FRAGMENT, "fragment")                   /* of a TCP packet */                            \
	X(EXTENSION_HEADERS, "extension_headers") /* IPv6: too many, or cut */                     \
	X(BAD_ICMP, "bad_icmp")                   /* error: checksum, or what it quotes */         \
	X(BAD_ND, "bad_nd")                       /* neighbour discovery from beyond the link */   \
	X(ICMP_NO_FLOW, "icmp_no_flow")           /* error about a packet of no known flow */      \
	X(TTL, "ttl_expired")                     /* time exceeded not sent: rate limit */         \
	X(DENIED, "denied")                       /* SYN of a client that may not connect */       \
	X(NO_BACKEND, "no_backend")               /* SYN in silence: on_all_down = "drop" */       \
	X(NO_FLOW, "no_flow")                     /* RST not sent: rate limit, or is a RST */      \
	X(STRAY_BACKEND, "stray_backend")         /* of a backend, to a SNAT port, no flow */      \
	X(NO_NEIGHBOUR, "no_neighbour")           /* next hop unresolved */                        \
	X(NO_BUFFER, "no_buffer")                                                                  \
	X(PUNT_ARP_FULL, "punt_arp_full")                                                          \
	X(PUNT_ND_FULL, "punt_nd_full")                                                            \
	X(PUNT_PROBE_FULL, "punt_probe_full")                                                      \
	X(PUNT_BACKEND_FULL, "punt_backend_full")                                                  \
	X(PUNT_REST_FULL, "punt_rest_full")                                                        \
	X(TX_FULL, "tx_full") /* the port took it not */

enum stats_drop {
#define X(id, name) STATS_DROP_##id,
	STATS_DROPS(X)
#undef X
		STATS_DROPS_COUNT
};

extern const char *const stats_drop_names[STATS_DROPS_COUNT];

/* What a half-open flow gave way for: id, and the name in telemetry. */
#define STATS_GAVE_WAYS(X)                                                                         \
	X(RECORD, "gave_way_for_record") /* in a full table */                                     \
	X(PORT, "gave_way_for_port")     /* its SNAT port, towards its backend */                  \
	X(PLACE, "gave_way_for_place")   /* under its backend's max_conns */

enum stats_gave_way {
#define X(id, name) STATS_GAVE_WAY_##id,
	STATS_GAVE_WAYS(X)
#undef X
		STATS_GAVE_WAYS_COUNT
};

extern const char *const stats_gave_way_names[STATS_GAVE_WAYS_COUNT];

struct stats_flows {
	uint64_t created;
	uint64_t expired;       // by time
	uint64_t expired_reset; // expired ones whose ends got a RST (on_idle = "reset")
	uint64_t evicted;       // closed or half-open ones that gave way to new ones
	uint64_t gave_way[STATS_GAVE_WAYS_COUNT]; // evicted ones that were half open
	uint64_t gave_way_silent; // of these, those whose backend could be sent no RST
	uint64_t renumbered;      // created ones whose numbers the backend sees moved by an offset
	uint64_t reset;           // ended by Weir: the backend was down, or left the file
	uint64_t moved;           // given another backend before the first one had answered
	uint64_t over_budget;     // silent ones that stayed where they were: retry_budget
	uint64_t given_up;        // as many backends as may be tried were silent: reset
	uint64_t refused_no_backend; // SYN answered by RST: no backend is up
	uint64_t refused_max_conns;  // SYN answered by RST: all backends have their max_conns
	uint64_t refused_flows_full; // SYN answered by RST: the flow table is full
	uint64_t refused_snat_full; // SYN answered by RST: no SNAT port towards the backend is left
};

static inline unsigned stats_family(sa_family_t family)
{
	return family == AF_INET6;
}

struct stats_counters {
	uint64_t received;
	uint64_t forwarded;
	uint64_t answered; // received packets that were answered by one of Weir's own
	uint64_t punted;
	uint64_t tagged; // punted ones that had a VLAN's tag
	uint64_t drops[STATS_DROPS_COUNT];
	uint64_t generated;          // packets that Weir made and the port took
	uint64_t generated_lost;     // packets that Weir made and the port didn't take
	uint64_t from_kernel;        // packets of weir0 that the port took
	uint64_t from_kernel_lost;   // packets of weir0 that the port didn't take
	struct stats_flows flows[2]; // by stats_family()
	uint64_t loops;
	uint64_t busy_loops; // with at least one packet
	uint64_t busy_ns;    // spent in busy loops, measured by the clock
};

/* Worker: writes `live` without order, publishes now and then. On cache lines of its own. */
struct stats_worker {
	struct stats_counters live;                     // worker only
	uint32_t sequence __attribute__((aligned(64))); // odd while `published` is being written
	struct stats_counters published;                // worker: write; anybody: stats_read()
} __attribute__((aligned(64)));

/* Make the worker's live counters readable: about 60 stores. The worker calls it
 * at a burst boundary. */
void stats_publish(struct stats_worker *stats);

/* Copy the published counters, so that the identity holds. Any thread. */
void stats_read(const struct stats_worker *stats, struct stats_counters *copy);

/* Add `from` to `sum`. */
void stats_add(struct stats_counters *sum, const struct stats_counters *from);

static inline uint64_t stats_dropped(const struct stats_counters *counters)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < STATS_DROPS_COUNT; i++)
		sum += counters->drops[i];
	return sum;
}

/*
 * What one worker counted for one backend; an array of these by backend id is a worker's own.
 * Read while it is written: each number is right, two may be a packet apart.
 */
struct stats_backend {
	uint64_t packets[2]; // [0] from the client, [1] from the backend
	uint64_t bytes[2];   // of the IP packets
	uint64_t opened;     // connections given to it
	uint64_t ended;      // opened ones that were closed, reset or given up: not open any more
	uint64_t closed;     // ended ones that are forgotten: the flow is gone
	uint64_t no_port;    // times that no SNAT port towards it was left
} __attribute__((aligned(64)));

/* What one worker counted of new connections that a service didn't take; an array of these by
 * service index is a worker's own. Read while it is written: each number is right. */
struct stats_service {
	uint64_t denied;            // of clients that may not connect
	uint64_t refused_max_conns; // all backends have their max_conns
};

#endif
