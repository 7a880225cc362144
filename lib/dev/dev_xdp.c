/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_xdp.h"

#include <dirent.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "netlink.h"

#define STEP_MS 1     // between two looks
#define RELEASE_MS 20 // that the kernel is given to let go of a queue that a look took
#define FRAME 4096
#define REQUEST_SIZE 64 // bytes: one that names a link and a program

/* A mapped ring holds its socket, and that its queue. The driver leaves those of all queues but the
 * first when it closes its device. */
static void unmap_rings(void)
{
	void *start, *end;
	char line[512];
	FILE *maps = fopen("/proc/self/maps", "re");

	if (maps == NULL)
		return;
	while (fgets(line, sizeof(line), maps) != NULL)
		if (strstr(line, " socket:[") != NULL && sscanf(line, "%p-%p", &start, &end) == 2)
			munmap(start, (char *)end - (char *)start);
	fclose(maps);
}

void dev_xdp_close_sockets(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int domain;

	if (directory == NULL)
		return;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		int fd = atoi(entry->d_name);
		socklen_t size = sizeof(domain);
		if (fd > 2 && fd != dirfd(directory) &&
			getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 &&
			domain == AF_XDP)
			close(fd);
	}
	closedir(directory);
	unmap_rings();
}

static void sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

/* A socket that lacks nothing but its queue. */
static int open_socket(void *frame)
{
	struct xdp_umem_reg memory = {.addr = (uintptr_t)frame, .len = FRAME, .chunk_size = FRAME};
	const int entries = 1;
	int fd = socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0);

	if (fd >= 0 &&
		(setsockopt(fd, SOL_XDP, XDP_UMEM_REG, &memory, sizeof(memory)) < 0 ||
			setsockopt(fd, SOL_XDP, XDP_UMEM_FILL_RING, &entries, sizeof(entries)) <
				0 ||
			setsockopt(fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &entries,
				sizeof(entries)) < 0 ||
			setsockopt(fd, SOL_XDP, XDP_RX_RING, &entries, sizeof(entries)) < 0)) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd < 0 ? -errno : fd;
}

/*
 * 0, -EBUSY or another -errno. Bound without copying: where a driver can't, the kernel says so
 * after it has found the queue free, and has taken nothing.
 */
static int look(unsigned index, unsigned queue, void *frame)
{
	struct sockaddr_xdp address = {.sxdp_family = AF_XDP,
		.sxdp_flags = XDP_ZEROCOPY,
		.sxdp_ifindex = index,
		.sxdp_queue_id = queue};
	int fd = open_socket(frame);

	if (fd < 0)
		return fd;
	int err = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	close(fd);
	if (err == 0) // taken, in fact
		sleep_ms(RELEASE_MS);
	return err == -EOPNOTSUPP ? 0 : err;
}

int dev_xdp_wait_free(const char *interface, unsigned nb_queues, unsigned wait_ms, unsigned *queue)
{
	uint64_t until_ms = clock_ms() + wait_ms;
	unsigned index = if_nametoindex(interface);
	void *frame = NULL;
	int err = 0;

	if (index == 0)
		return -ENODEV;
	if (posix_memalign(&frame, FRAME, FRAME) != 0)
		return -ENOMEM;
	for (*queue = 0; err == 0 && *queue < nb_queues; ++*queue) {
		while ((err = look(index, *queue, frame)) == -EBUSY && clock_ms() < until_ms)
			sleep_ms(STEP_MS);
		if (err < 0)
			break;
	}
	free(frame);
	return err;
}

static int detach(struct mnl_socket *socket, unsigned index, uint32_t mode)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = RTM_SETLINK;
	request->nlmsg_flags = NLM_F_REQUEST;
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(request, sizeof(*link));
	link->ifi_index = index;
	struct nlattr *xdp = mnl_attr_nest_start(request, IFLA_XDP);
	mnl_attr_put_u32(request, IFLA_XDP_FD, -1);
	mnl_attr_put_u32(request, IFLA_XDP_FLAGS, mode);
	mnl_attr_nest_end(request, xdp);
	return netlink_talk(socket, request, NULL, NULL);
}

int dev_xdp_detach(const char *interface)
{
	unsigned index = if_nametoindex(interface);
	struct mnl_socket *socket = index == 0 ? NULL : netlink_open(-1, 0);

	if (socket == NULL)
		return -errno;
	// It is in one of the two, and the other is fine without.
	int err = detach(socket, index, XDP_FLAGS_DRV_MODE);
	int err_generic = detach(socket, index, XDP_FLAGS_SKB_MODE);
	mnl_socket_close(socket);
	return err < 0 && err_generic < 0 ? err : 0;
}
