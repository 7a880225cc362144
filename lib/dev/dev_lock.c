/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev.h"
#include "own_file.h"

/* Interface names repeat between network namespaces, so the file names the namespace too. */
static void make_path(struct dev_lock *lock, const struct dev_device *device)
{
	struct stat netns = {0};
	if (device->kind != DEV_KIND_PCI && stat("/proc/self/ns/net", &netns) == 0)
		snprintf(lock->path, sizeof(lock->path), OWN_RUN_DIRECTORY "/port-%s-net%lu.lock",
			device->interface, (unsigned long)netns.st_ino);
	else
		snprintf(lock->path, sizeof(lock->path), OWN_RUN_DIRECTORY "/port-%s.lock",
			device->kind == DEV_KIND_PCI ? device->name : device->interface);
}

/*
 * Open and lock. A holder that ends removes the file: a lock on a file that is no longer the one
 * of that name excludes nobody, so then it starts again. So it does when another weir that ends has
 * removed the directory.
 */
static int open_locked(const char *path)
{
	for (;;) {
		int made = own_directory_make(OWN_RUN_DIRECTORY, 0755);
		int fd = made < 0 ? made : own_file_open(path, O_RDWR | O_CREAT, false);
		if (fd == -ENOENT)
			continue;
		if (fd < 0)
			return fd;
		struct stat held, named;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			int failed = errno == EWOULDBLOCK ? -EBUSY : -errno;
			close(fd);
			return failed;
		}
		if (fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino)
			return fd;
		close(fd);
	}
}

static void name_holder(const char *path, const char *device, char *message)
{
	char holder[100] = "another process";
	FILE *file = own_file_read(path);
	if (file != NULL) {
		if (fgets(holder, sizeof(holder), file) != NULL)
			holder[strcspn(holder, "\n")] = '\0';
		fclose(file);
	}
	snprintf(message, DEV_MESSAGE, "%s is the port of %s already", device, holder);
}

int dev_lock_take(
	struct dev_lock *lock, const struct dev_device *device, const char *name, char *message)
{
	lock->fd = -1;
	if (device->kind != DEV_KIND_PCI && device->interface[0] == '\0')
		return 0;
	make_path(lock, device);

	int fd = open_locked(lock->path);
	if (fd == -EBUSY) {
		const char *device_name =
			device->kind == DEV_KIND_PCI ? device->name : device->interface;
		name_holder(lock->path, device_name, message);
		return fd;
	}
	if (fd < 0) {
		snprintf(message, DEV_MESSAGE, "cannot lock %s: %s", lock->path, strerror(-fd));
		return fd;
	}
	lock->fd = fd;

	char text[100];
	int length = snprintf(text, sizeof(text), "%s (pid %d)\n", name, getpid());
	if (ftruncate(fd, 0) < 0 || write(fd, text, length) < 0) {
		int failed = -errno;
		snprintf(
			message, DEV_MESSAGE, "cannot write %s: %s", lock->path, strerror(-failed));
		dev_lock_release(lock);
		return failed;
	}
	return 0;
}

void dev_lock_release(struct dev_lock *lock)
{
	if (lock->fd < 0)
		return;
	unlink(lock->path); // before the lock goes: see open_locked()
	close(lock->fd);
	lock->fd = -1;
}

pid_t dev_lock_prefix_owner(const char *prefix)
{
	char path[256];
	snprintf(path, sizeof(path), DEV_RUNTIME "/dpdk/%s/config", prefix);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	// A primary process holds a write lock on a part of this file for its life.
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	pid_t owner = 0;
	if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK)
		owner = lock.l_pid > 0 ? lock.l_pid : -1;
	close(fd);
	return owner;
}
