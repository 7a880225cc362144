/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Schedulers: arrays in, index out. One file a scheduler, behind struct scheduler_ops.
 *
 * build() runs off the packet path and yields an immutable state; pick() runs on the workers,
 * without locks, and may change only the worker's own cursor.
 */
#ifndef WEIR_SCHEDULER_H
#define WEIR_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What build() takes at most. Weights in the file end at 256; the room above is for a caller that
 * scales all weights of a service to give one of them a fraction.
 */
enum { SCHEDULER_MAX_BACKENDS = 65536, SCHEDULER_MAX_WEIGHT = 65535 };

/* One candidate. Only usable ones (up, active, resolved, weight > 0) are given to build(). */
struct scheduler_backend {
	uint64_t identity; // keyed hash of the backend's address and port: stable across rebuilds
	uint32_t weight;   // 1 to SCHEDULER_MAX_WEIGHT
};

/* A worker's own place in one service; zeroed at first, kept by the caller across rebuilds. */
struct scheduler_cursor {
	uint32_t position;
	uint32_t refreshed;    // the caller's: the candidate whose load it looked at last
	uint32_t refreshed_ms; // the caller's: when it looked at that load
};

/* The connections that are open now, as the worker knows them. */
struct scheduler_load {
	const uint32_t *active; // by backend id
	const uint32_t *ids;    // of the backends given to build(), by index
	const uint32_t *limits; // by index: with so many it is full; 0 = never; NULL = none ever is
};

struct scheduler_ops {
	const char *name; // as in the file: "maglev", "round_robin"
	bool by_source;   // pick() takes scheduler_source_hash() of the client's address

	/*
	 * Build the state of a schedule. `backends` may go after the call. What is picked depends
	 * on identities and weights only, not on the order of the array. Any thread may call it.
	 * NULL and errno: EINVAL when count or a weight is 0 or a weight too large, E2BIG when
	 * there are too many, EEXIST when two have one identity, ENOMEM.
	 */
	void *(*build)(const struct scheduler_backend *backends, uint32_t count);

	/* Return an index into the array given to build(). `hash`: the flow's
	 * keyed hash. Never fails. */
	uint32_t (*pick)(const void *state, uint64_t hash, struct scheduler_cursor *cursor);

	/* Ask for what pick() is going to read; NULL where that is in the cache anyway. */
	void (*prefetch)(const void *state, uint64_t hash);

	/* Pick in place of pick(), where the load decides: a full backend only when
	 * it sees no other. */
	uint32_t (*pick_by_load)(const void *state, const struct scheduler_load *load,
		struct scheduler_cursor *cursor);

	/* Free a state; destroy(NULL) is fine. */
	void (*destroy)(void *state);
};

extern const struct scheduler_ops scheduler_maglev;
extern const struct scheduler_ops scheduler_round_robin;
extern const struct scheduler_ops scheduler_least_conn;
extern const struct scheduler_ops scheduler_source;

/* Return the scheduler of that name, or NULL. */
const struct scheduler_ops *scheduler_find(const char *name);

/* Hash an address of `size` bytes, 4 or 16, in network byte order: on every machine the same. */
uint64_t scheduler_source_hash(const void *addr, size_t size);

#endif
