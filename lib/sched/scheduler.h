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
#include <stdint.h>

/* One candidate. Only usable ones (up, active, resolved, weight > 0) are given to build(). */
struct scheduler_backend {
	uint64_t identity; // keyed hash of the backend's address and port: stable across rebuilds
	uint32_t weight;   // 1 to 256
};

/* A worker's own place in one service; zeroed at first, kept by the caller across rebuilds. */
struct scheduler_cursor {
	uint32_t position;
};

struct scheduler_ops {
	const char *name; // as in the file: "maglev", "round_robin"

	/* `backends` may go after the call. NULL and errno when count is 0 or memory is short. */
	void *(*build)(const struct scheduler_backend *backends, uint32_t count);

	/* Index into the array given to build(). `hash`: the flow's keyed hash. Never fails. */
	uint32_t (*pick)(const void *state, uint64_t hash, struct scheduler_cursor *cursor);

	/* destroy(NULL) is fine. */
	void (*destroy)(void *state);
};

extern const struct scheduler_ops scheduler_maglev;
extern const struct scheduler_ops scheduler_round_robin;

#endif
