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
 * itself again, with the configuration that it ran with, and the connections are adopted once more.
 *
 * Thread rule: control core.
 */
#ifndef WEIR_UPGRADE_H
#define WEIR_UPGRADE_H

#include <stdbool.h>

struct daemon;
struct upgrade;

/* Keep what a successor is to be started with, and find out whether this process is one.
 * Called before anything else. */
void upgrade_init(struct daemon *daemon, char **argv);

/* Return the path of the configuration to start with: the file's, or of what ran before this
 * process started again. */
const char *upgrade_config(const struct daemon *daemon);
/* The configuration is read: forget what ran before. */
void upgrade_config_read(struct daemon *daemon);

/* Tell whether this process takes over from another one that still runs. */
bool upgrade_is_successor(const struct daemon *daemon);

/* --- the running process --- */

/* Called once, from the event loop: the successor is prepared (error NULL), and this process ends
 * now; or it isn't, and nothing has happened. */
typedef void (*upgrade_told_fn)(void *context, const char *error);

/* Start a successor. 0; -EALREADY while there is one; -errno, of starting the program, too. */
int upgrade_start(struct daemon *daemon, upgrade_told_fn told, void *context);
/* Return the path of the program that a successor runs. */
const char *upgrade_binary(const struct daemon *daemon);
/* Whether a successor is being prepared, or waits for the port. */
bool upgrade_is_under_way(const struct daemon *daemon);
/* End the successor, if there is one, since this process is to end by hand: nobody takes over.
 * Before the port is let go. */
void upgrade_give_up(struct daemon *daemon);
/* Forget who is to be told of the upgrade's outcome. */
void upgrade_cancel_wait(struct daemon *daemon);

/* Tell whether a successor waits for the port. Asked at the end. */
bool upgrade_is_awaited(const struct daemon *daemon);
/* Tell the successor that the port is free. */
void upgrade_released(struct daemon *daemon);
/* Wait until the successor is ready: true. If it fails this doesn't return, but starts weir again;
 * false when that fails, too. */
bool upgrade_finish(struct daemon *daemon);

/* --- another start of this very process --- */

/* End, and start again: what weir has of the kernel can't be had again in place. */
void upgrade_start_again(struct daemon *daemon);
/* Tell whether the process is to start again. Asked at the end. */
bool upgrade_starts_again(const struct daemon *daemon);
/* Start again, with the program and the configuration that ran, whatever has come into their files'
 * place. Returns only when that fails. */
void upgrade_exec(struct daemon *daemon);

/* --- the successor --- */

/* Say that this process is prepared, and wait until the other one has let go of the
 * port. 0 or -errno. */
int upgrade_wait(struct daemon *daemon);
/* Tell the former process that the queues run. */
void upgrade_ready(struct daemon *daemon);
/* Tell the former process that the start failed; `message` says why. */
void upgrade_failed(struct daemon *daemon, const char *message);

#endif
