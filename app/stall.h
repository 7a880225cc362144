/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whether the workers turn: their loop counters move, each look at the queue counts. One that
 * stands still is said in the log, within a second; systemd's watchdog isn't fed then (notify.h),
 * and a probe that fails says nothing about its backend, since the answer waits in the port.
 *
 * Thread rule: control core. `workers` may be NULL until the first look.
 */
#ifndef WEIR_STALL_H
#define WEIR_STALL_H

#include <stdbool.h>

struct daemon;
struct stall;

/* Look at the workers from the event loop from now on. NULL and errno: -ENOMEM. */
struct stall *stall_create(struct daemon *daemon);
void stall_destroy(struct stall *stall); // NULL is fine

/* Tell whether some worker has not turned for `within_ms` and what it
 * sleeps; `stall` NULL: none. */
bool stall_any(struct stall *stall, unsigned within_ms);

#endif
