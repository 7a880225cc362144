/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which backends of a service get new connections now, and with what weight: primaries, and behind
 * them backups, or backups alone while no primary is usable; one that came up lately with a part of
 * its weight. Pure functions.
 */
#ifndef WEIR_SERVICE_CHOICE_H
#define WEIR_SERVICE_CHOICE_H

#include <stdbool.h>
#include <stdint.h>

#include "service.h"

#define SERVICE_WEIGHT_MAX 256 // of a member

/* One backend, as the control core knows it. */
struct service_member {
	uint32_t id;
	uint64_t identity;  // for the scheduler
	uint32_t weight;    // 0 to 256; 0 = none for it
	uint32_t max_conns; // 0 = any number
	bool usable;        // up, not drained, and its next hop is known
	bool backup;
	uint32_t slow_start_ms; // 0 = at once
	uint64_t up_since_ms;
};

/* What service_source takes. */
struct service_choice {
	struct service_choices candidates;
	struct service_choices backups; // behind them
	bool on_backups;                // the candidates are backups
	uint64_t next_ms;               // when a weight grows next; 0 = they stay
};

/* Return the tenths of its weight that a member has at a time: 1 when it comes up,
 * 10 from slow_start_ms after. */
uint32_t service_member_tenths(const struct service_member *member, uint64_t now_ms);

/* Choose the members that take connections now. 0 or -ENOMEM; then there is nothing to undo. */
int service_choice_init(struct service_choice *choice, const struct service_member *members,
	uint32_t count, uint64_t now_ms);
void service_choice_fini(struct service_choice *choice);

#endif
