/* SPDX-License-Identifier: BSD-3-Clause */
/* rtnetlink requests by libmnl. One thread per socket. */
#ifndef WEIR_NETLINK_H
#define WEIR_NETLINK_H

#include <libmnl/libmnl.h>

/*
 * An rtnetlink socket in the namespace (-1 = the thread's own), subscribed to `groups` (RTMGRP_*
 * bits, 0 = none). Closed by mnl_socket_close(). NULL and errno on failure.
 */
struct mnl_socket *netlink_open(int netns_fd, unsigned groups);

/*
 * Send a request made in a buffer of at least MNL_SOCKET_BUFFER_SIZE bytes and wait for its end.
 * NLM_F_ACK is added when it is no dump. `received` (may be NULL) is called for each message of the
 * answer. 0 or -errno, the kernel's own included. Not for a socket with groups.
 */
int netlink_talk(struct mnl_socket *socket, struct nlmsghdr *request, mnl_cb_t received,
	void *context);

#endif
