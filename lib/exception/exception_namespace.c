/* SPDX-License-Identifier: BSD-3-Clause */
#include "exception_namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "dev.h"
#include "exception_interface.h"
#include "log.h"
#include "netlink.h"
#include "netns.h"
#include "own_file.h"

#define NETNS_DIR "/run/netns"
#define LOOPBACK 1          // the first device of every namespace
#define MADE "made by Weir" // its alias, in one of ours

static void make_path(char path[128], const char *name)
{
	snprintf(path, 128, NETNS_DIR "/%s", name);
}

static void make_marker_path(char path[128], const char *name)
{
	snprintf(path, 128, OWN_RUN_DIRECTORY "/%s.netns", name);
}

/* A network namespace's descriptor, or -errno; -EINVAL for a left-over file without a mount. */
static int open_mounted(const char *path)
{
	struct statfs fs;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &fs) == 0 && fs.f_type == NSFS_MAGIC &&
		ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET)
		return fd;
	close(fd);
	return -EINVAL;
}

/*
 * /run/netns as a shared mount point, as `ip netns add` leaves it: a namespace that is mounted or
 * removed here then appears and vanishes in other mount namespaces too, where it would else be kept
 * alive by their copies.
 */
static int share_directory(void)
{
	bool bound = false;

	if (mkdir(NETNS_DIR, 0755) < 0 && errno != EEXIST)
		return -errno;
	while (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) < 0) {
		if (errno != EINVAL || bound)
			return -errno;
		if (mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, NULL) < 0)
			return -errno;
		bound = true;
	}
	return 0;
}

/* The loopback up, and the mark that the namespace is Weir's. */
static int set_loopback(void)
{
	struct mnl_socket *socket = netlink_open(-1, 0);

	if (socket == NULL)
		return -errno;
	int err = exception_interface_up(socket, LOOPBACK);
	if (err == 0)
		err = exception_interface_set_alias(socket, LOOPBACK, MADE);
	mnl_socket_close(socket);
	return err;
}

/* A fresh namespace, mounted at `path`; the thread is back in its own afterwards. */
static int mount_new(const char *path)
{
	int err = 0;
	int previous = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (previous < 0)
		return -errno;
	if (unshare(CLONE_NEWNET) < 0) {
		err = -errno;
		close(previous);
		return err;
	}
	err = set_loopback();
	if (err == 0 && mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) < 0)
		err = -errno;
	netns_leave(previous);
	return err;
}

static int create(const char *path)
{
	int err = share_directory();

	if (err < 0)
		return err;
	// iproute2 takes the same lock while it makes one.
	int lock = open(NETNS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock >= 0 && flock(lock, LOCK_EX) < 0) {
		close(lock);
		lock = -1;
	}
	int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0444);
	if (fd < 0) {
		err = -errno;
	} else {
		close(fd);
		err = mount_new(path);
		if (err < 0)
			unlink(path);
	}
	if (lock >= 0)
		close(lock);
	return err;
}

static unsigned long long inode(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : st.st_ino;
}

/* Whether a file that an earlier weir left as its mark stands for this very namespace. */
static bool marker_matches(const struct exception_namespace *ns)
{
	char path[128];
	unsigned long long number = 0;

	make_marker_path(path, ns->name);
	FILE *file = own_file_read(path);
	if (file == NULL)
		return false;
	bool read = fscanf(file, "%llu", &number) == 1;
	fclose(file);
	return read && number == inode(ns->fd);
}

static bool is_ours(const struct exception_namespace *ns)
{
	struct mnl_socket *socket = netlink_open(ns->fd, 0);

	if (socket == NULL)
		return false;
	bool ours = exception_interface_has_alias(socket, LOOPBACK, MADE) ||
		(marker_matches(ns) && exception_interface_set_alias(socket, LOOPBACK, MADE) == 0);
	mnl_socket_close(socket);
	return ours;
}

int exception_namespace_open(struct exception_namespace *ns, const char *name, char *message)
{
	char path[128];

	*ns = (struct exception_namespace){.fd = -1};
	if (name[0] == '\0')
		return 0;
	if (strlen(name) >= sizeof(ns->name) || strchr(name, '/') != NULL ||
		strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
		snprintf(message, DEV_MESSAGE, "port.netns \"%s\": not a namespace's name", name);
		return -EINVAL;
	}
	strcpy(ns->name, name);
	make_path(path, name);

	ns->fd = open_mounted(path);
	if (ns->fd >= 0) {
		ns->ours = is_ours(ns);
		return 0;
	}
	int err = create(path);
	if (err == 0) {
		ns->fd = open_mounted(path);
		err = ns->fd < 0 ? ns->fd : 0;
	}
	if (err < 0) {
		snprintf(message, DEV_MESSAGE, "network namespace %s can't be made: %s%s", name,
			strerror(-err),
			err == -EPERM || err == -EACCES
				? " (run as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN)"
				: "");
		return err;
	}
	ns->ours = true;
	ns->made = true;
	return 0;
}

void exception_namespace_close(struct exception_namespace *ns, bool remove)
{
	char path[128];

	if (ns->fd < 0)
		return;
	close(ns->fd);
	ns->fd = -1;
	if (!remove || !ns->ours)
		return;
	make_path(path, ns->name);
	umount2(path, MNT_DETACH);
	if (unlink(path) < 0)
		log_warning("%s: %s; remove it by: ip netns delete %s", path, strerror(errno),
			ns->name);
	exception_namespace_forget(ns->name);
}

void exception_namespace_forget(const char *name)
{
	char path[128];

	make_marker_path(path, name);
	own_file_remove(path);
}
