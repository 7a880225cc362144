/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The signals of the process. They are blocked before anything else is done, in all threads, and
 * read by the event loop: one that comes before there is a loop waits for it. So none ends a start
 * half-way, interrupts a system call, or is lost while the process starts again.
 *
 * SIGTERM, SIGINT and SIGQUIT end weir; before it has started, between two steps of the start.
 * SIGHUP reads the file again. SIGUSR1 is for whoever rotates logs: nothing is to be done, weir has
 * none of its own. SIGUSR2 and SIGALRM do nothing, and are said.
 *
 * Thread rule: control core.
 */
#ifndef WEIR_SIGNALS_H
#define WEIR_SIGNALS_H

struct daemon;
struct signals;

/* Hold back what signals_create() reads; ignore those that a write would be ended by. Before any
 * thread is started. */
void signals_block(void);
/* Return the number of a signal that waits and is to end the process, or 0. */
int signals_end_waits(void);
/* Wait for such a signal, for so long at most, and take it: its number, or 0. */
int signals_wait_end(unsigned ms);

/* Read the signals from now on, by daemon->events. NULL and errno. */
struct signals *signals_create(struct daemon *daemon);
/* signals_destroy(NULL) is fine. They stay blocked. */
void signals_destroy(struct signals *signals);

#endif
