/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control core's wiring: what the file, the probes and the kernel's routes say goes into the
 * registry (backends.h), and what changed there is published (publish.h).
 *
 * Thread rule: on the control core's event loop. Telemetry reads the registry under daemon.lock,
 * which the control core holds while it changes it.
 */
#ifndef WEIR_CONTROL_H
#define WEIR_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct backends;
struct control;
struct control_backend;
struct control_service;
struct daemon;

/* Build everything from the configuration and start probing. NULL and errno on failure. */
struct control *control_create(struct daemon *daemon);
/* Wait until the kernel has told the next hops of the backends that are known to be up, so that
 * their flows find them; runs the event loop meanwhile. */
void control_settle(struct control *control, unsigned limit_ms);
/* Publish a first table, before any worker runs. 0 or -ENOMEM. */
int control_publish_first(struct control *control);
/* Free the registry and what probes it; the workers must have ended.
 * control_destroy(NULL) is fine. */
void control_destroy(struct control *control);

/* Return the registry, to be read under daemon.lock or on the event loop. */
const struct backends *control_backends(const struct control *control);

/* Return the registry, to be changed by the event loop. */
struct backends *control_registry(struct control *control);

/* Tell whether our own side is in trouble, or was since clock_ms() `since_ms` (own_side.h). */
bool control_in_trouble(struct control *control, uint64_t since_ms);
/* Return how many frames the workers have received. */
uint64_t control_received(const struct control *control);

/* Take daemon.lock, which is held while something changes that telemetry reads. */
void control_lock(struct control *control);
void control_unlock(struct control *control);

/* Return the number of the next publication: all that has changed so far is in it. */
uint64_t control_next_publication(const struct control *control);
/* Tell whether the workers have all that changed so far. */
bool control_is_published(const struct control *control);
/* See that there is a publication soon. */
void control_publish(struct control *control);
/* Prepare for a plan that is about to be committed: what is being gathered is begun anew. */
void control_will_commit(struct control *control);
/* See what has become of removed backends from now on. */
void control_reap(struct control *control);

/* Somebody to be told when the next publication is made; the struct is his, zeroed at first. */
struct control_waiter {
	void (*told)(void *context);
	void *context;
	uint64_t publication;
	bool is_waiting;
	TAILQ_ENTRY(control_waiter) entry;
};

void control_wait(struct control *control, struct control_waiter *waiter,
	void (*told)(void *context), void *context);
/* Forget a waiter; fine for one that doesn't wait, too. */
void control_cancel_wait(struct control *control, struct control_waiter *waiter);

/* Write a backend down for the next process. */
void control_keep(struct control *control, const struct control_backend *backend);

/* Publish a service whose candidates or weights changed: a moment later, with all else
 * that changes until then. */
void control_service_changed(struct control *control, struct control_service *service);

#endif
