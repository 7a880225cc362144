/* SPDX-License-Identifier: BSD-3-Clause */
/* What one packet came to: with Weir, with the kernel that got it, and in comparison. */
#ifndef WEIR_TEST_VERDICT_H
#define WEIR_TEST_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "host.h"
#include "record.h"
#include "rig.h"
#include "trial.h"

/* How Weir's record and the receiver's socket can part. Of the first three a packet has but the
 * gravest. */
enum deviation {
	DEVIATION_LIVES_ON, // idle time starts anew, by what the receiver ignored
	DEVIATION_NUMBERS,  // numbers or the client's MAC change likewise
	DEVIATION_STATE,    // state, port or counts change though the socket's state didn't
	DEVIATION_STAYS,    // the socket's state changed, and Weir's didn't follow
	DEVIATIONS
};

extern const char *const deviation_names[DEVIATIONS];

/* One packet past Weir, and to its receiver. */
struct passage {
	enum rig_fate fate;
	bool is_delivered;
	struct trial_out out;       // when it is
	struct host_view socket[2]; // of the receiver, before and after
	bool is_taken;              // by the receiver: something of it has changed
	struct record record[2];    // of Weir, before and after
};

enum { VERDICT_PASSAGES_MAX = 16 };

struct verdict {
	struct passage passages[VERDICT_PASSAGES_MAX]; // the packet's, and its answers'
	unsigned nb_passages;
	bool deviates[DEVIATIONS];
};

/*
 * Send the packet from that end, past Weir, and what its receiver answers; what is answered to that
 * is lost.
 */
void verdict_reach(struct verdict *verdict, struct trial *trial, enum flow_direction from,
	const void *frame, unsigned size);

/* Several lines: the packet, the state, what the kernel said, what Weir did. */
void verdict_print(const struct verdict *verdict);

#endif
