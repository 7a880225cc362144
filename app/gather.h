/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Gathering what changed in the registry into a job for the publisher: in slices, as there may be
 * thousands of services. What changes meanwhile is in the job too: it is whole as of its last
 * slice.
 *
 * Thread rule: on the control core's event loop; not under daemon.lock, where nothing else is said.
 */
#ifndef WEIR_GATHER_H
#define WEIR_GATHER_H

#include <stdbool.h>
#include <stdint.h>

struct backends;
struct conf;
struct publish_job;

struct gather {
	struct publish_job *job; // NULL: none is under way
	uint32_t next;           // index of the service to look at
	bool again;              // all were looked at once
};

/* Gather what changed, until clock_ns() is `until_ns`. 1: there is more to do. 0: `job` is whole,
 * and the caller's to take and set to NULL. -ENOMEM: as if nothing had been gathered. */
int gather_step(struct gather *gather, struct backends *backends, const struct conf *conf,
	uint64_t until_ns);

/* Drop what was gathered, to be begun anew: services are about to get or to lose their indices.
 * Fine if none is under way. */
void gather_cancel(struct gather *gather, struct backends *backends);

/* Write into the registry that the job's table is published. Under daemon.lock. */
void gather_published(struct backends *backends, const struct publish_job *job);

/* Put what is in a failed job into the next one. */
void gather_again(struct backends *backends, const struct publish_job *job);

#endif
