/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A connection between two kernels past Weir, brought into a state by socket calls of both ends,
 * with what is lost on the way lost on purpose. Weir's pipeline is that of rig.h, on the rig's
 * clock; the kernels' timers run on the real one, so a trial that took longer than
 * TRIAL_PATIENCE_MS has to be made again.
 */
#ifndef WEIR_TEST_TRIAL_H
#define WEIR_TEST_TRIAL_H

#include <stdbool.h>
#include <stdint.h>

#include "host.h"
#include "rig.h"

enum { TRIAL_PATIENCE_MS = 800 }; // Linux sends a SYN or SYN-ACK again after 1 s, all else later

/* One end, and what its kernel has sent, in its own numbers. */
struct trial_end {
	const struct host *host;
	struct host_tuple tuple; // the connection as it sees it
	int fd;                  // -1 = none
	uint32_t first;          // number of the SYN
	uint32_t next;           // behind the last
	bool has_closed;         // the last one was a FIN
	uint32_t known;          // the highest acknowledgement; 0 before the first
	uint32_t ts;             // its latest timestamp, in connections that have some
};

struct trial {
	struct rig *rig;
	struct connection c; // the flow's names in the rig
	struct trial_end end[2];
	int listener; // -1 = none any more
	uint64_t started_ms;
	bool has_ts;
	bool is_moved; // the backend's tuple is lent again, and the client's numbers are moved
};

struct trial_mode {
	sa_family_t family;
	bool has_ts;
	bool is_moved;
};

struct trial_state {
	const char *name; // of Weir's state, and of what the ends know that Weir doesn't
	void (*reach)(struct trial *trial);
};

extern const struct trial_state trial_states[];
extern const unsigned trial_nb_states;

/* `hosts`: by direction. `number`: another one for each of 25,000 trials of two hosts. */
struct trial *trial_create(const struct host hosts[2], const struct trial_mode *mode,
	uint32_t number, const struct trial_state *state);
/* False: it took too long, and the kernels' timers may have changed something. */
bool trial_destroy(struct trial *trial);

/* The next frame that an end sends on this connection, as it comes to Weir: its size, 0 = none. */
unsigned trial_receive(struct trial *trial, enum flow_direction from, uint8_t *frame);

/* What comes out of Weir. */
struct trial_out {
	enum flow_direction to;
	struct host_tuple tuple; // the connection as that end sees it
	bool is_tcp;
	uint8_t flags;
};

/* False when it isn't to one of the ends. */
bool trial_read(const struct trial *trial, const struct rig_packet *packet, struct trial_out *out);

#endif
