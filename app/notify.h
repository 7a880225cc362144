/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What systemd is told (sd_notify(3)): that weir is ready, that it ends, and, about twice in each
 * WatchdogSec, that the control loop and all workers turn. Nothing when NOTIFY_SOCKET isn't set.
 *
 * When a worker stands still (stall.h) systemd is told nothing more, ends the process, and starts
 * another, which costs no connection.
 *
 * Thread rule: control core.
 */
#ifndef WEIR_NOTIFY_H
#define WEIR_NOTIFY_H

struct daemon;
struct notify;

/* Tell systemd, behind the start, that weir is ready. NULL and errno: -ENOMEM. */
struct notify *notify_create(struct daemon *daemon);
/* Tell systemd that weir ends. notify_destroy(NULL) is fine. */
void notify_destroy(struct notify *notify);

/* Tell systemd that another process is the unit's main one from here on. */
void notify_main_pid(int pid);

#endif
