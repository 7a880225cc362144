/* SPDX-License-Identifier: BSD-3-Clause */
#include "netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netns.h"

struct mnl_socket *netlink_open(int netns_fd, unsigned groups)
{
	int fd = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	struct mnl_socket *socket = mnl_socket_fdopen(fd);
	if (socket == NULL) {
		close(fd);
		return NULL;
	}
	if (mnl_socket_bind(socket, groups, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(socket);
		return NULL;
	}
	return socket;
}

int netlink_talk(struct mnl_socket *socket, struct nlmsghdr *request, mnl_cb_t received,
	void *context)
{
	char buffer[32768];
	static _Atomic unsigned sequence; // tells the answers of two requests apart
	int more = MNL_CB_OK;

	request->nlmsg_seq = ++sequence;
	if ((request->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP)
		request->nlmsg_flags |= NLM_F_ACK;
	if (mnl_socket_sendto(socket, request, request->nlmsg_len) < 0)
		return -errno;
	while (more > MNL_CB_STOP) {
		ssize_t length = mnl_socket_recvfrom(socket, buffer, sizeof(buffer));
		if (length < 0)
			return -errno;
		more = mnl_cb_run(buffer, length, request->nlmsg_seq, mnl_socket_get_portid(socket),
			received, context);
	}
	return more < 0 ? -errno : 0;
}
