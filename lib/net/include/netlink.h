/* SPDX-License-Identifier: BSD-3-Clause */
/* Netlink requests by libmnl. One thread per socket. */
#ifndef WEIR_NETLINK_H
#define WEIR_NETLINK_H

#include <libmnl/libmnl.h>

struct net_prefix;

#define NETLINK_TIMEOUT_S 5 // that the kernel may take for one message of its answer

/* Open an rtnetlink socket in the namespace (-1 = the thread's own), subscribed to `groups`
 * (RTMGRP_* bits, 0 = none). Closed by mnl_socket_close(). NULL and errno on failure. */
struct mnl_socket *netlink_open(int netns_fd, unsigned groups);

/* Open a netlink socket of another protocol than rtnetlink (NETLINK_NETFILTER), without groups. */
struct mnl_socket *netlink_open_protocol(int netns_fd, int protocol);

/*
 * Send a request and wait for its end. NLM_F_ACK is added when it is no dump. `received` (may be
 * NULL) is called for each message of the answer; when it returns MNL_CB_STOP the rest is skipped,
 * when MNL_CB_ERROR its errno is the result. Not for a socket with groups.
 *
 * 0 or -errno, the kernel's own included; -ETIMEDOUT: no answer in time, and whether a change was
 * made is not known; -EINTR: the table changed while it was dumped, what was received is not all of
 * one state: start again. The socket serves the next request after any of these.
 */
int netlink_talk(
	struct mnl_socket *socket, struct nlmsghdr *request, mnl_cb_t received, void *context);

/* Read the interface's own address from a message of a dump of addresses (struct ifaddrmsg), and
 * the length of its network. */
void netlink_address(const struct nlmsghdr *header, struct net_prefix *prefix);

#endif
