/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The flow table of one family: one for all workers, lock-free to read.
 *
 * Both tuples of a flow are keys of the index (flow_index.h). Only an insert takes a lock, that of
 * the first bucket of the client's tuple, which makes the same SYN on two workers one flow.
 *
 * Records are reused only after a grace period: freed ones are collected, a token of the RCU
 * variable is started for the batch, and the batch is freed when the token has passed.
 *
 * Thread rule: create and destroy on the control core; all with a `worker` argument by that worker;
 * find and the inline look-up by any registered reader of the RCU variable.
 */
#ifndef WEIR_FLOW_TABLE_H
#define WEIR_FLOW_TABLE_H

#include <rte_branch_prediction.h>
#include <rte_byteorder.h>
#include <rte_prefetch.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "flow.h"
#include "flow_hash.h"
#include "flow_index.h"
#include "flow_memory.h"
#include "flow_side.h"

struct rte_rcu_qsbr;

/*
 * Where a record stands: in a queue of flows that may give way (flow_giving_way.c), in the stack of
 * free records, or nowhere. Numbers of records + 1; 0 = none.
 */
struct flow_link {
	uint64_t next : 27; // the younger one; the next free one
	uint64_t previous : 27;
	uint64_t place : 2;
} __attribute__((packed));

#define FLOW_RECORDS_MAX ((1u << 27) - 1)

_Static_assert(sizeof(struct flow_link) == 7, "a flow may cost 96 bytes");

/* Numbers of records + 1. */
struct flow_queue {
	uint32_t oldest; // atomic; written under the lock
	uint32_t newest;
	bool is_ranked; // one of half-open flows: its backend is in the heap
};

/* A backend, and when its oldest half-open flow began, or an older one that is gone. */
struct flow_rank {
	uint32_t since_ms;
	uint32_t backend; // its id
};

#define FLOW_RETIRED_MAX 4096
#define FLOW_REMOVE_MAX 32
#define FLOW_CACHE_MAX 64
// A 16-bit age above UINT16_MAX less this is none: the flow was seen a little later than "now".
#define FLOW_CLOCK_SLACK_S 64

/* What one worker has for itself; but for the queues, of the flows that it made. */
struct flow_table_worker {
	uint32_t cache[FLOW_CACHE_MAX]; // free records at hand
	uint32_t nb_cache;
	uint32_t nb_collected; // retired, no token started yet
	uint32_t nb_waiting;   // retired, `token` must pass
	uint64_t token;
	uint64_t token_ms; // when it was started
	uint32_t sweep;    // next record of this worker's share to look at
	uint32_t queue_lock;
	struct flow_queue closed;     // under the lock
	struct flow_queue *half_open; // by backend id; under the lock
	struct flow_rank *ranks;      // a heap of the backends that have some; under the lock
	uint32_t nb_ranks;            // under the lock
	uint32_t nb_half_open;        // atomic; written under the lock
	uint32_t collected[FLOW_RETIRED_MAX + FLOW_REMOVE_MAX];
	uint32_t waiting[FLOW_RETIRED_MAX + FLOW_REMOVE_MAX];
} __attribute__((aligned(64)));

struct flow_table {
	// Read-only once created.
	uint8_t *records;
	uint32_t capacity;   // records
	uint32_t limit;      // flows: nine tenths of the records
	uint32_t cache_size; // free records that a worker keeps at hand, at most
	uint32_t record_size;
	uint32_t flow_offset; // of struct flow within a record
	sa_family_t family;
	bool own_records; // in `memory`, not in a file
	uint32_t nb_workers;
	struct flow_hasher hasher;
	struct rte_rcu_qsbr *rcu;
	struct flow_table_worker *workers;
	struct flow_memory memory;
	struct flow_sides *sides; // of flows whose backend hasn't answered the SYN
	struct flow_link *links;  // by record: under the lock of the queue that it is in, or `lock`

	struct flow_index index;

	// Shared by the workers, by atomics and under the lock.
	uint32_t used __attribute__((aligned(64)));
	uint32_t lock __attribute__((aligned(64)));
	uint32_t free;  // stack of free records that were used before: the first one's number + 1
	uint32_t fresh; // records from here on were never used
};

/* Create a table for `flows` records. `rcu` is the variable that all readers are registered with;
 * it outlives the table. NULL and errno on failure. */
struct flow_table *flow_table_create(sa_family_t family, uint32_t flows, uint32_t nb_workers,
	const struct hash_key *key, struct rte_rcu_qsbr *rcu, int numa_node, bool hugepages);
/*
 * Create a table as flow_table_create() does, but over records that lie elsewhere: in a file, with
 * flows in it maybe, which are taken in by flow_table_adopt(), in any case. They outlive the table.
 */
struct flow_table *flow_table_create_over(void *records, sa_family_t family, uint32_t flows,
	uint32_t nb_workers, const struct hash_key *key, struct rte_rcu_qsbr *rcu, int numa_node,
	bool hugepages);
void flow_table_destroy(struct flow_table *table);

/* Return the bytes of memory behind the table. */
size_t flow_table_size(const struct flow_table *table);

static inline struct flow *flow_table_record(const struct flow_table *table, uint32_t record)
{
	return (struct flow *)(table->records + (size_t)record * table->record_size +
		table->flow_offset);
}

static inline uint32_t flow_table_number(const struct flow_table *table, const struct flow *flow)
{
	uint64_t at = (const uint8_t *)flow - table->records;

	// By constants: a division takes longer than all the rest that asks for the number.
	return table->family == AF_INET6 ? at / sizeof(struct flow6) : at / sizeof(struct flow4);
}

static inline struct flow *flow_entry_flow(const struct flow_table *table, uint32_t entry)
{
	return flow_table_record(table, (entry >> 1) - 1);
}

/* Return the record of an entry, of a table that is known to be of that family: a constant,
 * which spares a product. */
static __rte_always_inline struct flow *flow_entry_flow_of(
	const struct flow_table *table, uint32_t entry, sa_family_t family)
{
	size_t size = family == AF_INET6 ? sizeof(struct flow6) : sizeof(struct flow4);
	size_t offset =
		family == AF_INET6 ? offsetof(struct flow6, flow) : offsetof(struct flow4, flow);

	return (struct flow *)(table->records + (entry & ~1u) * (size / 2) - size + offset);
}

/* Ask for the record of an entry. */
static __rte_always_inline void flow_entry_prefetch(
	const struct flow_table *table, uint32_t entry, sa_family_t family)
{
	struct flow *flow = flow_entry_flow_of(table, entry, family);

	rte_prefetch0(flow);
	if (family == AF_INET6)
		rte_prefetch0(flow6_of(flow));
}

static inline enum flow_direction flow_entry_direction(uint32_t entry)
{
	return entry & 1;
}

/* Tell whether the record's tuple of that direction is this one. */
static inline bool flow_matches(struct flow *flow, enum flow_direction direction,
	sa_family_t family, const void *addrs, uint32_t ports)
{
	uint32_t own_ports;

	memcpy(&own_ports, &flow->port[direction * 2], sizeof(own_ports));
	if (likely(family == AF_INET)) {
		uint64_t own, wanted;
		memcpy(&own, &flow4_of(flow)->addr[direction * 2], sizeof(own));
		memcpy(&wanted, addrs, sizeof(wanted));
		return ((own ^ wanted) | (own_ports ^ ports)) == 0;
	}
	const uint64_t *own = (const uint64_t *)flow6_of(flow)->addr[direction * 2];
	uint64_t differing = own_ports ^ ports;
	for (unsigned i = 0; i < 4; i++) { // word by word, so that none goes through memory
		uint64_t wanted;
		memcpy(&wanted, (const uint8_t *)addrs + i * sizeof(wanted), sizeof(wanted));
		differing |= own[i] ^ wanted;
	}
	return differing == 0;
}

/* State and FINs: tcp_status_state(). */
static inline uint8_t flow_status(const struct flow *flow)
{
	return __atomic_load_n(&flow->status, __ATOMIC_ACQUIRE);
}

static inline enum tcp_state flow_state(const struct flow *flow)
{
	return tcp_status_state(flow_status(flow));
}

static inline unsigned flow_worker(const struct flow *flow)
{
	// Whole: whoever learns the client's MAC writes the word.
	uint64_t word = __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);
	uint8_t bytes[sizeof(word)];

	memcpy(bytes, &word, sizeof(word));
	return bytes[sizeof(word) - 1] & FLOW_WORKER_MASK;
}

/* Tell whether the flow is established, and of its packets nothing but the addresses is changed. */
static inline bool flow_is_plain(const struct flow *flow)
{
	uint16_t word = __atomic_load_n(&flow->status_word, __ATOMIC_ACQUIRE);

	return (rte_le_to_cpu_16(word) & (UINT8_MAX | FLOW_TRANSLATED << 8)) == TCP_ESTABLISHED;
}

/* Do the whole look-up: return the entry of a live flow with that tuple, or FLOW_NOT_FOUND. */
uint32_t flow_table_find(
	const struct flow_table *table, uint64_t hash, const void *addrs, uint32_t ports);

/* Return an entry that may be the one of that hash: its tuple isn't compared. Or FLOW_NOT_FOUND. */
static inline uint32_t flow_table_guess(const struct flow_table *table, uint64_t hash)
{
	const struct flow_bucket *buckets = table->index.buckets;
	uint32_t nb_buckets = flow_index_span(&table->index).wanted;
	uint16_t signature = flow_hash_signature(hash);
	uint32_t entry =
		flow_bucket_candidate(&buckets[flow_hash_primary(nb_buckets, hash)], signature);

	return entry != FLOW_NOT_FOUND
		? entry
		: flow_bucket_candidate(&buckets[flow_hash_secondary(nb_buckets, hash)], signature);
}

/*
 * Take a record to fill in: state TCP_NONE, nobody else sees it. NULL when the table is at
 * its limit or the worker's freed records wait for their grace period. The caller inserts
 * or gives it back.
 */
struct flow *flow_table_alloc(struct flow_table *table, unsigned worker);
/* Give back a record that was never inserted. */
void flow_table_give_back(struct flow_table *table, unsigned worker, struct flow *flow);

/* Hash the flow's tuple of that direction. */
uint64_t flow_table_hash(
	const struct flow_table *table, struct flow *flow, enum flow_direction direction);

/* The hashes of both tuples, by direction. */
struct flow_hashes {
	uint64_t of[FLOW_DIRECTIONS];
};

/* Hash both of the flow's tuples. */
void flow_table_hashes(
	const struct flow_table *table, struct flow *flow, struct flow_hashes *hashes);

/* Ask for the buckets, and the link, that an insert or a removal is going to touch. */
static inline void flow_table_prefetch(
	const struct flow_table *table, const struct flow *flow, const struct flow_hashes *hashes)
{
	const struct flow_bucket *buckets = table->index.buckets;
	uint32_t nb_buckets = flow_index_span(&table->index).wanted;

	rte_prefetch0(&table->links[flow_table_number(table, flow)]);
	for (unsigned d = 0; d < FLOW_DIRECTIONS; d++) {
		rte_prefetch0(&buckets[flow_hash_primary(nb_buckets, hashes->of[d])]);
		rte_prefetch0(&buckets[flow_hash_secondary(nb_buckets, hashes->of[d])]);
	}
}

/*
 * Publish a filled record (all but its state, which is set to `state` last) under both tuples, or
 * under none. Returns the flow: this one, or the one that another worker inserted for the client's
 * tuple in the meantime; then nobody has seen the record, and it is still the caller's. NULL when
 * the buckets are full, and the record is the caller's, too.
 */
struct flow *flow_table_insert(struct flow_table *table, unsigned worker, struct flow *flow,
	const struct flow_hashes *hashes, enum tcp_state state);

/*
 * Take a flow out. Returns the state it was in; TCP_NONE when another worker was faster. The record
 * keeps its contents until the grace period has passed. flow_table_may_remove() must have said yes.
 */
enum tcp_state flow_table_remove(struct flow_table *table, unsigned worker, struct flow *flow,
	const struct flow_hashes *hashes);

/* Take a flow out, as flow_table_remove() does, if it is in that state; false: it isn't, or another
 * worker was faster. */
bool flow_table_remove_from(struct flow_table *table, unsigned worker, struct flow *flow,
	const struct flow_hashes *hashes, enum tcp_state from);

/*
 * Put a flow in the place of another one with the same client's tuple, which is half open; the new
 * record is from flow_table_alloc_spare(), filled in but for its state. The old one is freed by its
 * state first, the new one's state is written last. False, and the new record is still the
 * caller's: the old flow isn't in state `from` any more, or the buckets are full.
 * flow_table_may_remove() must have said yes.
 */
bool flow_table_replace(struct flow_table *table, unsigned worker, struct flow *old,
	struct flow *flow, const struct flow_hashes *hashes, enum tcp_state from);

/*
 * Take a record for flow_table_replace(), also when the table is at its limit: the number of flows
 * stays. NULL when none is free. One that isn't used is given back by flow_table_give_back_spare().
 */
struct flow *flow_table_alloc_spare(struct flow_table *table, unsigned worker);
void flow_table_give_back_spare(struct flow_table *table, unsigned worker, struct flow *flow);

/*
 * Take the client's tuple from a flow: it is found by the backend's only, until it is removed. Any
 * worker, any number of times.
 */
void flow_table_detach(struct flow_table *table, struct flow *flow);

/* Tell whether the worker has room for FLOW_REMOVE_MAX retired records; no as long as
 * some reader is stuck. */
static inline bool flow_table_may_remove(const struct flow_table *table, unsigned worker)
{
	return table->workers[worker].nb_collected < FLOW_RETIRED_MAX;
}

/* Start and check grace periods; cheap when there is nothing to do. True
 * when something was freed. */
bool flow_table_reclaim(struct flow_table *table, unsigned worker, uint64_t now_ms);

/* Return how long this worker's oldest grace period has been waiting, ms. */
uint64_t flow_table_grace_age(const struct flow_table *table, unsigned worker, uint64_t now_ms);

/*
 * Change the status; false when another worker changed it in the meantime. A flow that becomes half
 * open or closed is queued for giving way.
 */
bool flow_table_set_status(
	struct flow_table *table, unsigned worker, struct flow *flow, uint8_t from, uint8_t to);

/*
 * Flows that may give way. They stay where they are until somebody ends them, and another worker
 * may end them first.
 *
 * The oldest closed ones, `count` at most, of this worker's, or else of another's. Returns how
 * many.
 */
uint32_t flow_table_closed(
	struct flow_table *table, unsigned worker, struct flow **flows, uint32_t count);
/* The oldest half-open one of those that worker `maker` made; NULL = none. */
struct flow *flow_table_half_open(struct flow_table *table, unsigned maker);
/* The oldest half-open one of a backend's, whoever made it; NULL = none. Takes no lock. */
struct flow *flow_table_half_open_of(struct flow_table *table, uint32_t backend);

/* When the backend of a half-open flow was given the SYN: ms, the low bits of the clock. */
static inline uint32_t flow_since_ms(const struct flow *flow)
{
	return __atomic_load_n(&flow->since_ms, __ATOMIC_RELAXED);
}

/* How long ago that was. Another worker's clock may have been read a little later than ours. */
static inline uint32_t flow_half_open_ms(const struct flow *flow, uint64_t now_ms)
{
	uint32_t age_ms = (uint32_t)now_ms - flow_since_ms(flow);

	return age_ms > INT32_MAX ? 0 : age_ms;
}

/* Tell whether the table is full of flows that never give way: a new one would be refused, and
 * nothing else need be asked. */
bool flow_table_is_exhausted(const struct flow_table *table);

/*
 * Look at the next `count` records of this worker's share. Calls idle() for each flow that has been
 * idle for its state's time in `timeout_s`, the shortest there is; that says what becomes of it: it
 * stays for now, or was removed or will be, with up to FLOW_REMOVE_MAX others, or the sweep is to
 * end before it and to begin with it the next time. `now_s`: monotonic seconds. Returns how many
 * ended.
 */
enum flow_idle { FLOW_IDLE_STAYS, FLOW_IDLE_ENDS, FLOW_IDLE_LATER };
typedef enum flow_idle (*flow_idle_fn)(void *context, struct flow *flow, uint16_t idle_s);
uint32_t flow_table_sweep(struct flow_table *table, unsigned worker, uint32_t count, uint32_t now_s,
	const uint16_t timeout_s[TCP_STATES], flow_idle_fn idle, void *context);

/*
 * Look at the next `count` records of this worker's share, from *at on, which moves. Calls seen()
 * for each flow; when that returns false, the walk ends before the flow. Returns how many were
 * looked at.
 */
typedef bool (*flow_seen_fn)(void *context, struct flow *flow);
uint32_t flow_table_walk(struct flow_table *table, unsigned worker, uint32_t *at, uint32_t count,
	flow_seen_fn seen, void *context);

/* Return how many records in this worker's share were ever used. */
uint32_t flow_table_share(const struct flow_table *table, unsigned worker);

static inline uint32_t flow_table_used(const struct flow_table *table)
{
	return __atomic_load_n(&table->used, __ATOMIC_RELAXED);
}

/* --- between the files of the module --- */

/* Put a flow's tuples into the index, both or none (the buckets are full). */
bool flow_table_place(
	struct flow_table *table, struct flow *flow, const struct flow_hashes *hashes);
/* Take a flow's tuples out of the index. */
void flow_table_unplace(
	struct flow_table *table, const struct flow *flow, const struct flow_hashes *hashes);
/* Take a flow's tuples out of the index with a span that was read when the flow had its state. */
void flow_index_remove(struct flow_table *table, union flow_span span, const struct flow *flow,
	const struct flow_hashes *hashes);

/* Onto the stack of free records: under `lock`, or by the one who adopts. */
void flow_table_free(struct flow_table *table, uint32_t record);

/* The queues' memory, of all workers. 0 or -errno. */
int flow_table_map_queues(struct flow_table *table);
void flow_table_unmap_queues(struct flow_table *table);

/* Behind a change of the flow's state: into the queue where it belongs, and out of the one where it
 * doesn't any more. */
void flow_table_settle(
	struct flow_table *table, struct flow *flow, enum tcp_state from, enum tcp_state to);

#endif
