/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading the file again: by SIGHUP or through the control socket, the same. The file is read,
 * checked and compared by a thread of its own, then applied as a whole or not at all.
 *
 * Thread rule: on the control core's event loop; telemetry reads the status under daemon.lock.
 */
#ifndef WEIR_RELOAD_H
#define WEIR_RELOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct daemon;
struct reload;

#define RELOAD_ERROR_TEXT 512

struct reload_status {
	uint64_t loaded_ms; // when the running configuration was taken; clock_ms()
	uint64_t attempts;
	uint64_t failures;
	uint64_t failed_ms; // when the last failed attempt ended; 0 when a later one succeeded
	char error[RELOAD_ERROR_TEXT]; // of the last failed attempt
};

/* How a reload ended: an error, or what changed, line by line; none when nothing did. */
struct reload_result {
	const char *error; // NULL: it succeeded
	char **lines;
	unsigned nb_lines;
};

/* Somebody who asked, until he is told; the struct is his, zeroed at first. */
struct reload_waiter {
	void (*told)(void *context, const struct reload_result *result);
	void *context;
	bool is_waiting;
	TAILQ_ENTRY(reload_waiter) entry;
};

/* Make the reloader. NULL for want of memory. */
struct reload *reload_create(struct daemon *daemon);
/* Free the reloader; reload_destroy(NULL) is fine. */
void reload_destroy(struct reload *reload);

/* Read the file once more, after this call. `waiter` NULL: nobody wants to be told. */
void reload_request(struct reload *reload, struct reload_waiter *waiter);
/* Forget a waiter; fine for one that doesn't wait, too. */
void reload_cancel_wait(struct reload *reload, struct reload_waiter *waiter);

const struct reload_status *reload_status(const struct reload *reload);

#endif
