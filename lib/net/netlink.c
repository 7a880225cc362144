/* SPDX-License-Identifier: BSD-3-Clause */
#include "netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "addr.h"
#include "netns.h"

static struct mnl_socket *open_socket(int netns_fd, int protocol, unsigned groups)
{
	int fd = netns_socket(netns_fd, AF_NETLINK, SOCK_RAW, protocol);

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	// So that a kernel that never answers doesn't stop the caller's loop for good.
	struct timeval timeout = {.tv_sec = NETLINK_TIMEOUT_S};
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));

	struct mnl_socket *socket = mnl_socket_fdopen(fd);
	if (socket == NULL) {
		int err = errno;
		close(fd);
		errno = err;
		return NULL;
	}
	// Errors come without a copy of the request then; kernels before 4.2 don't know it.
	int one = 1;
	mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &one, sizeof(one));
	if (mnl_socket_bind(socket, groups, MNL_SOCKET_AUTOPID) < 0) {
		int err = errno;
		mnl_socket_close(socket);
		errno = err;
		return NULL;
	}
	return socket;
}

struct mnl_socket *netlink_open(int netns_fd, unsigned groups)
{
	return open_socket(netns_fd, NETLINK_ROUTE, groups);
}

struct mnl_socket *netlink_open_protocol(int netns_fd, int protocol)
{
	return open_socket(netns_fd, protocol, 0);
}

/* NLM_F_DUMP shares its bits with NLM_F_REPLACE and NLM_F_EXCL: only a GET can be a dump. */
static bool is_dump(const struct nlmsghdr *request)
{
	return ((request->nlmsg_type - RTM_BASE) & 3) == 2 &&
		(request->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
}

/* The end of a dump carries an error when the dump broke off; libmnl's own handler ignores it. */
static int dump_ended(const struct nlmsghdr *message, void *context)
{
	int err;

	if (mnl_nlmsg_get_payload_len(message) < sizeof(err))
		return MNL_CB_STOP;
	memcpy(&err, mnl_nlmsg_get_payload(message), sizeof(err));
	if (err >= 0)
		return MNL_CB_STOP;
	errno = -err;
	return MNL_CB_ERROR;
}

static int acknowledged(const struct nlmsghdr *message, void *context)
{
	const struct nlmsgerr *err = mnl_nlmsg_get_payload(message);

	if (mnl_nlmsg_get_payload_len(message) < sizeof(*err)) {
		errno = EBADMSG;
		return MNL_CB_ERROR;
	}
	errno = err->error < 0 ? -err->error : err->error;
	return err->error == 0 ? MNL_CB_STOP : MNL_CB_ERROR;
}

/* Whether the answer's last message is in the buffer. */
static bool is_last(const void *buffer, ssize_t length)
{
	const struct nlmsghdr *message = buffer;
	int left = length;

	for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left))
		if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR)
			return true;
	return false;
}

static ssize_t receive(struct mnl_socket *socket, void *buffer, size_t size)
{
	ssize_t length;

	do
		length = mnl_socket_recvfrom(socket, buffer, size);
	while (length < 0 && errno == EINTR);
	if (length >= 0)
		return length;
	return errno == EAGAIN ? -ETIMEDOUT : -errno;
}

int netlink_talk(
	struct mnl_socket *socket, struct nlmsghdr *request, mnl_cb_t received, void *context)
{
	static mnl_cb_t control[] = {
		// never written; libmnl takes no const
		[NLMSG_ERROR] = acknowledged,
		[NLMSG_DONE] = dump_ended,
	};
	static _Atomic unsigned sequence; // tells the answers of two requests apart
	// As much as the kernel sends at once.
	char buffer[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
	unsigned port = mnl_socket_get_portid(socket);
	int more = MNL_CB_OK, err = 0;
	bool last = false;
	ssize_t length;

	request->nlmsg_seq = ++sequence;
	if (!is_dump(request))
		request->nlmsg_flags |= NLM_F_ACK;
	do
		length = mnl_socket_sendto(socket, request, request->nlmsg_len);
	while (length < 0 && errno == EINTR);
	if (length < 0)
		return -errno;
	// To the last message, whatever came before it: the kernel refuses a dump on a socket with
	// another one unfinished.
	while (!last) {
		length = receive(socket, buffer, sizeof(buffer));
		if (length < 0)
			return length;
		// What a request that timed out left behind. One buffer is of one request.
		if (length < (ssize_t)sizeof(struct nlmsghdr) ||
			((struct nlmsghdr *)buffer)->nlmsg_seq != request->nlmsg_seq)
			continue;
		if (more > MNL_CB_STOP) {
			more = mnl_cb_run2(buffer, length, request->nlmsg_seq, port, received,
				context, control, MNL_ARRAY_SIZE(control));
			err = more < MNL_CB_STOP ? -errno : 0;
		}
		last = is_last(buffer, length);
	}
	return err;
}

void netlink_address(const struct nlmsghdr *header, struct net_prefix *prefix)
{
	const struct ifaddrmsg *message = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr;

	*prefix = (struct net_prefix){.length = message->ifa_prefixlen};
	mnl_attr_for_each(attr, header, sizeof(*message))
	{
		// IPv4 has both, and IFA_LOCAL is the interface's own: IFA_ADDRESS may be the
		// peer's.
		uint16_t type = mnl_attr_get_type(attr);
		if (type != IFA_LOCAL && (type != IFA_ADDRESS || prefix->addr.family != AF_UNSPEC))
			continue;
		prefix->addr.family = message->ifa_family;
		memcpy(prefix->addr.v6, mnl_attr_get_payload(attr),
			net_addr_size(message->ifa_family));
	}
}
