/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Building and publishing the service table, off the control core's event loop: one builder thread
 * takes a job (what changed), builds those services and a table, swaps the pointer that the workers
 * load, and frees the old table when no worker can have it any more.
 *
 *     event loop: gather a job ─► publisher_submit ─► builder: build, swap ─► done(), on the loop
 *                                                               └─ grace period ─► passed
 *
 * A service that can't be built, because it has more candidates than its scheduler can choose from,
 * stays what it was, with a line in the log; the others are published.
 *
 * Everything that was built belongs to the builder. One job is under way at a time; changes that
 * come in between wait for the next.
 *
 * Thread rule: all calls, and the callbacks, on the control core's event loop.
 */
#ifndef WEIR_PUBLISH_H
#define WEIR_PUBLISH_H

#include <stdbool.h>
#include <stdint.h>

#include "service.h"
#include "service_choice.h"

struct event_base;
struct publisher;
struct rte_rcu_qsbr;

/* One service of a job. The arrays are the job's. */
struct publish_service {
	uint32_t index; // in the table
	bool gone;      // no service has the index any more; the rest is unset
	char name[SERVICE_NAME_MAX + 1];
	struct service_source source; // its arrays are those of `choice`, its access a reference
	struct service_choice choice;
};

/* What the next table differs in from the last one. */
struct publish_job {
	uint32_t nb_services;            // one beyond the highest index
	struct publish_service *changed; // of one that is there twice the last counts
	uint32_t nb_changed;
	uint32_t changed_room;
	uint32_t nb_backends;         // one beyond the highest id
	uint32_t *ids;                // of the backends that changed
	struct service_backend *rows; // what the backends of `ids` are now
	uint32_t nb_rows;
	uint64_t reset_round;
	struct service_key *keys; // changes, or all; NULL: as before
	uint32_t nb_keys;
	bool all_keys;
};

/* Create an empty job. NULL for want of memory. */
struct publish_job *publish_job_create(void);
/* Add a service to the job, zeroed, good until the next call. NULL for want of memory. */
struct publish_service *publish_job_add_service(struct publish_job *job);
/* Make room for the rows of backends, to be filled in. 0 or -ENOMEM. */
int publish_job_set_rows(struct publish_job *job, uint32_t nb_rows);
/* Free a job; publish_job_destroy(NULL) is fine. */
void publish_job_destroy(struct publish_job *job);

struct publisher_source {
	struct event_base *events;
	struct rte_rcu_qsbr *rcu;
	struct service_table **root;      // what the workers load; atomic
	struct service_snat snat4, snat6; // copied
	const struct snat *snat;

	// The job's table is published, or `err` says why not (-ENOMEM) and nothing changed. The
	// job is destroyed after the call.
	void (*done)(void *context, const struct publish_job *job, int err);
	// A grace period is over: publisher_passed() has grown.
	void (*passed)(void *context);
	void *context;
};

/* Create the publisher, and its thread. NULL and errno on failure. */
struct publisher *publisher_create(const struct publisher_source *source);
/* Free all tables, the published one too; the workers must have ended. */
void publisher_destroy(struct publisher *publisher);

bool publisher_busy(const struct publisher *publisher);
/* Take a job over, to build and publish its table; the publisher must not be busy. */
void publisher_submit(struct publisher *publisher, struct publish_job *job);
/* Wait until the job is done, and call done(). For the start, before the loop runs. */
void publisher_wait(struct publisher *publisher);

/* Return the number of the last job that was submitted; the first one is 1. */
uint64_t publisher_submitted(const struct publisher *publisher);
/* Return the number of the last job whose predecessors' tables no worker can have any more. */
uint64_t publisher_passed(const struct publisher *publisher);

#endif
