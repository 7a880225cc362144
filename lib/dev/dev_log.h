/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * DPDK's own lines, and those of the libraries below its drivers, as lines of Weir's log. Until the
 * port runs they are debug lines only, and the most telling one is kept for the message of a
 * failure; after that warnings and errors show.
 *
 * DPDK may log from any of its threads; the functions are for the control core.
 */
#ifndef WEIR_DEV_LOG_H
#define WEIR_DEV_LOG_H

#include <stdbool.h>

void dev_log_open(void);
void dev_log_close(void);

/* Forget the kept line. */
void dev_log_clear(void);
/* Write the line that was kept since dev_log_clear(), "" = none, into `text`, which
 * holds 256 bytes; returned. */
const char *dev_log_cause(char *text);

/* Show warnings and errors, or don't. */
void dev_log_show(bool show);

/*
 * Turn what anybody prints to stdout and stderr into debug lines, until dev_log_capture_end(): EAL
 * prints its usage and its last words past every log. The process has no other thread that prints.
 */
void dev_log_capture_begin(void);
void dev_log_capture_end(void);

/* Take over the lines of libbpf and libxdp, if a driver has loaded them. */
void dev_log_attach_libbpf(void);

#endif
