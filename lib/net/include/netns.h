/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Network namespaces. A socket belongs for ever to the namespace in which it was made, so a thread
 * enters one only to make its sockets. Any thread; the switch is the calling thread's own.
 */
#ifndef WEIR_NETNS_H
#define WEIR_NETNS_H

/* Make a socket, as socket(2), in the namespace; netns_fd -1 = the thread's own. Returns
 * the descriptor, or -errno. */
int netns_socket(int netns_fd, int domain, int type, int protocol);

/* Enter the namespace; returns a descriptor of the one left, to be handed
 * to netns_leave(), or -errno. */
int netns_enter(int netns_fd);
/* Go back to the namespace that netns_enter() left, and close the descriptor. Aborts the process
 * when it fails: a thread in the wrong namespace would act on the wrong machine. */
void netns_leave(int previous_fd);

#endif
