/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From one process to the next without a pause for more than the port itself takes.
 *
 *     running process                        its successor: the file of the same path, made anew
 *     upgrade_start(): starts it ──────────► EAL under another prefix, configuration, memory
 *     answers the request      ◄─ prepared ─ upgrade_wait(): all that needs no port is done
 *     ends: workers, tables, weir0, port
 *     upgrade_released()       ─ released ─► takes the port, adopts the tables, starts the queues
 *     upgrade_finish()         ◄─── ready ── upgrade_ready()
 *     exits                    ─── (end) ──► upgrade: telemetry under the usual path
 *
 * They talk over a socket pair that the successor inherits. As long as it isn't prepared the
 * running process goes on as if nothing had been; if it fails after that, the former process starts
 * itself again, and the connections are adopted once more.
 *
 * Thread rule: control core.
 */
#ifndef WEIR_UPGRADE_H
#define WEIR_UPGRADE_H

#include <stdbool.h>

struct daemon;
struct upgrade;

/* First of all: keeps what a successor is to be started with, and finds out whether this process is
 * one. */
void upgrade_init(struct daemon *daemon, char **argv);

/* Whether this process takes over from another one that still runs. */
bool upgrade_is_successor(const struct daemon *daemon);

/* --- the running process --- */

/* The successor is prepared (error NULL), and this process ends now; or it isn't, and nothing has
 * happened. Called once, from the event loop. */
typedef void (*upgrade_told_fn)(void *context, const char *error);

/* Start a successor. 0; -EALREADY while there is one; -errno. */
int upgrade_start(struct daemon *daemon, upgrade_told_fn told, void *context);
/* Nobody is to be told any more. */
void upgrade_cancel_wait(struct daemon *daemon);

/* At the end: whether a successor waits for the port. */
bool upgrade_is_awaited(const struct daemon *daemon);
/* The port is free. */
void upgrade_released(struct daemon *daemon);
/* Wait until the successor is ready; if it fails this doesn't return, but starts weir again. */
void upgrade_finish(struct daemon *daemon);

/* --- the successor --- */

/* Prepared: wait until the other process has let go of the port. 0 or -errno. */
int upgrade_wait(struct daemon *daemon);
/* The queues run. */
void upgrade_ready(struct daemon *daemon);
/* The start failed; `message` says why. */
void upgrade_failed(struct daemon *daemon, const char *message);

#endif
