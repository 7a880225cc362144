/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The commands on the DPDK telemetry socket: /weir/...
 *
 * Thread rule: init and fini on the control core. The commands run in threads of the telemetry
 * library, under daemon.lock; they read workers' counters without any.
 */
#ifndef WEIR_TELEMETRY_H
#define WEIR_TELEMETRY_H

struct daemon;

/* Register the commands for this daemon. 0 or -errno. */
int telemetry_init(struct daemon *daemon);
/* Let the commands answer with an error from here on: the library can't forget them. */
void telemetry_fini(struct daemon *daemon);

#endif
