/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How soon systemd's next try follows a start that failed. What fails by the file, or by what the
 * machine lacks, fails again: the time between two tries doubles from 100 ms to ten seconds. A
 * weir that dies when it runs is no such failure, and its next start comes at once.
 *
 * Releases of systemd before 254 know one time for both, so it is the next try that waits, not the
 * one that fails: that ends at once, for whoever started the unit to see why. What failed is
 * written down in /run/weir. A change of the file ends the wait, and so does SIGTERM, by which a
 * restart by hand begins: the try behind it doesn't wait.
 *
 * Nothing of this happens where systemd isn't told of the start (NOTIFY_SOCKET).
 *
 * Thread rule: control core, before the event loop runs.
 */
#ifndef WEIR_START_PACE_H
#define WEIR_START_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Return in how many ms the next try follows, after so many failures in a row (at least 1). */
uint64_t start_pace_delay_ms(unsigned failures);

/* Wait until a start with the file `config` may be tried. False: a signal ends the process. */
bool start_pace_wait(const char *config);
/* Write down that it failed. */
void start_pace_failed(const char *config);
/* It has started, or is not to be tried again: forget the failures. */
void start_pace_forget(const char *config);

#endif
