/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file of what outlives the process beside the flow table: rows of backends, services and
 * workers, at a place of their own by id, index and number.
 *
 * Each row is there twice, one copy right behind the other, and both are written at once, from
 * front to back. So whatever part of a write was done when the process died, one copy is whole: the
 * first one, which is what was written, or else the second one, which is what was there before.
 *
 * A version before this one had a single copy of backends' rows, and nothing else, in a file with
 * the same header. Such a file is read; and its program reads the backends in this one's, the part
 * of a row that it knows, and passes over what it doesn't.
 *
 * No function here keeps state; all are safe anywhere.
 */
#ifndef WEIR_KEPT_ROWS_H
#define WEIR_KEPT_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "conf.h"
#include "stats.h"
#include "stats_connect.h"

#define KEPT_ROW_SIZE 512
#define KEPT_WORKER_SIZE 1024
#define KEPT_BLOCK 128 // rows of one kind that lie side by side
#define KEPT_REASON 63 // what a version before this one has of a reason
#define KEPT_REASON_REST 48

/* In the machine's byte order; unused bytes are zero. All times are monotonic: good for one boot.
 */
struct kept_backend {
	char service[CONF_NAME_MAX + 1]; // "" = no row
	struct net_endpoint endpoint;    // with `service` the key
	// Who set something by hand, and when; 0 = nobody did, or a version before this one wrote
	// it.
	uint64_t set_ms;
	uint32_t set_pid, set_uid, set_login;
	// By its clients' connects it is out since then; 0 = it isn't. Until when, from there on.
	uint32_t passive_retry_ms;
	uint64_t passive_since_ms;
	uint32_t passive_probe_ms;
	uint16_t passive_fails;
	uint8_t passive_times;
	uint8_t passive_how; // KEPT_REFUSED, KEPT_TIMED_OUT
	struct stats_backend totals;
	uint64_t since_ms; // of its health
	uint32_t health;   // enum health_state
	uint8_t connects;
	// Set by hand: one more than the value; 0 = nothing.
	uint8_t hand_state;
	uint16_t hand_weight;
	char reason[KEPT_REASON + 1];
	uint64_t checksum; // of all before it, for a version before this one
	char reason_rest[KEPT_REASON_REST];
	uint64_t refused, timed_out, moved_away, syn_not_kept, challenged; // as in stats_connect
	uint64_t connections;
	uint32_t times[STATS_CONNECT_BUCKETS];
	uint64_t whole; // checksum of all before it
};

#define KEPT_REFUSED 1
#define KEPT_TIMED_OUT 2

struct kept_service {
	char name[CONF_NAME_MAX + 1]; // "" = no row
	uint64_t past_connections;    // of backends that are no more
	struct stats_service totals;
	// `whole` of a backend's row whose connections are among these already: it is erased next.
	uint64_t erased;
	uint8_t unused[KEPT_ROW_SIZE - 64 - 5 * 8];
	uint64_t whole;
};

struct kept_worker {
	uint64_t fields; // what the counters are, and in which order: of another program they
			 // aren't taken
	struct stats_counters counters;
	uint8_t unused[KEPT_WORKER_SIZE - sizeof(struct stats_counters) - 16];
	uint64_t whole;
};

/* Both copies of a row. */
struct kept_cell {
	union {
		struct kept_backend backend;
		struct kept_service service;
		uint8_t bytes[KEPT_ROW_SIZE];
	} copies[2];
};

struct kept_worker_cell {
	struct kept_worker copies[2];
};

enum kept_kind { KEPT_BACKENDS, KEPT_SERVICES };

/* Complete a row whose first copy is filled in: its checksums, and the second copy. */
void kept_seal_backend(struct kept_cell *cell);
void kept_seal_service(struct kept_cell *cell);
void kept_seal_worker(struct kept_worker_cell *cell);

/* Return the copy that counts; NULL: there is no row. */
const struct kept_backend *kept_backend_of(const struct kept_cell *cell);
const struct kept_service *kept_service_of(const struct kept_cell *cell);
const struct kept_worker *kept_worker_of(const struct kept_worker_cell *cell);

/* Begin an empty file. 0 or -errno. */
int kept_rows_begin(int fd);
/* Write `count` rows from number `first` on, which don't reach beyond a multiple of KEPT_BLOCK. 0
 * or -errno. */
int kept_rows_write(
	int fd, enum kept_kind kind, uint32_t first, const struct kept_cell *cells, uint32_t count);
int kept_rows_write_worker(int fd, unsigned worker, const struct kept_worker_cell *cell);

/* Who is told of each row in a file, in its order. */
struct kept_reader {
	void (*backend)(void *context, const struct kept_backend *row);
	void (*service)(void *context, const struct kept_service *row);
	void (*worker)(void *context, unsigned worker, const struct stats_counters *counters);
	void *context;
};

/* Read a file. 0, or -EINVAL: it is of another version or another boot, or -errno. */
int kept_rows_read(int fd, const struct kept_reader *reader);

#endif
