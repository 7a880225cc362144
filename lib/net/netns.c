/* SPDX-License-Identifier: BSD-3-Clause */
#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int netns_enter(int netns_fd)
{
	int previous = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (previous < 0)
		return -errno;
	if (setns(netns_fd, CLONE_NEWNET) < 0) {
		int err = -errno;
		close(previous);
		return err;
	}
	return previous;
}

void netns_leave(int previous_fd)
{
	if (setns(previous_fd, CLONE_NEWNET) < 0)
		abort();
	close(previous_fd);
}

int netns_socket(int netns_fd, int domain, int type, int protocol)
{
	int previous = -1, fd;

	if (netns_fd >= 0) {
		previous = netns_enter(netns_fd);
		if (previous < 0)
			return previous;
	}
	fd = socket(domain, type | SOCK_CLOEXEC, protocol);
	if (fd < 0)
		fd = -errno;
	if (previous >= 0)
		netns_leave(previous);
	return fd;
}
