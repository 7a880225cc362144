/* SPDX-License-Identifier: BSD-3-Clause */
/* What Weir knows of a connection, all that a packet could change; and what it did change. */
#ifndef WEIR_TEST_RECORD_H
#define WEIR_TEST_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "trial.h"

struct record {
	bool is_there;
	uint8_t state; // enum tcp_state
	uint8_t flags;
	enum tcp_fin fins[2];
	uint16_t last_seen;
	uint32_t number; // of the record
	uint32_t end[2], ack[2], seq_offset, ts_offset;
	uint64_t client_mac;
	// Of the rig, which has but this connection.
	uint32_t flows, sides, ports, active;
	uint64_t opened, ended, closed;
	uint64_t refused, timed_out, challenged, fails;
	uint32_t moves; // of the retry budget
};

enum record_change {
	RECORD_IDLE = 1 << 0,    // it lives on for its whole idle time from now
	RECORD_NUMBERS = 1 << 1, // how far the ends are, by whom the client is reached
	RECORD_STATE = 1 << 2,   // and the rest: state, port, counts, blame
};

struct record record_of(const struct trial *trial);

/* A set of enum record_change. `text`, unless NULL, says which fields. */
unsigned record_diff(
	const struct record *before, const struct record *after, char *text, unsigned size);

#endif
