/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking in the records that a former process left. Only they are trusted, one by one; all that is
 * derived from them is made here, so it makes no difference whether the former process had another
 * number of workers, another table size, or was killed in the middle of something.
 *
 * What isn't taken in:
 *     connecting  no answer of the backend has come yet: the client repeats its SYN, and that makes
 *                 the flow anew
 *     expired     idle for its service's timeout, the time without a process included
 *     duplicate   two records of one tuple, as an insert or a move that was cut off may leave them:
 *                 an open flow wins over a closed one, then the one that was seen less recently,
 *                 for a record that replaces another is seen last
 *     no_backend  the caller knows no backend for it
 *     no_room     the table became smaller; established flows stay first, closed ones last
 *     damaged     no flow can look like that
 *
 * Thread rule: control core, before any worker runs.
 */
#ifndef WEIR_FLOW_ADOPT_H
#define WEIR_FLOW_ADOPT_H

#include <stdint.h>

#include "tcp_state.h"

struct flow;
struct flow_table;

enum flow_adopt_drop {
	FLOW_ADOPT_CONNECTING,
	FLOW_ADOPT_EXPIRED,
	FLOW_ADOPT_DUPLICATE,
	FLOW_ADOPT_NO_BACKEND,
	FLOW_ADOPT_NO_ROOM,
	FLOW_ADOPT_DAMAGED,
	FLOW_ADOPT_DROPS
};

extern const char *const flow_adopt_drop_names[FLOW_ADOPT_DROPS];

struct flow_adopt_source {
	uint32_t found; // records there are, from the first on; more than the table's capacity too
	uint64_t now_s; // monotonic
	uint64_t alive_s; // when the former process was alive last: last_seen counts from there
	// Set flow->backend to what the flow's addresses mean today; they are of the table's
	// family. Returns the idle times of its service, by state; NULL: they mean nothing.
	const uint16_t *(*resolve)(void *context, struct flow *flow);
	// Taken in, once for each flow, in the order of the records.
	void (*adopted)(void *context, struct flow *flow, enum tcp_state state);
	void *context;
};

struct flow_adopt_result {
	uint32_t adopted;
	uint32_t dropped[FLOW_ADOPT_DROPS];
};

/* Adopt the records under a table that is new, made by flow_table_create_over(). Also for a file
 * that is new: then nothing is found. */
void flow_table_adopt(struct flow_table *table, const struct flow_adopt_source *source,
	struct flow_adopt_result *result);

#endif
