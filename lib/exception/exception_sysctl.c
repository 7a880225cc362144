/* SPDX-License-Identifier: BSD-3-Clause */
#include "exception_sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int open_setting(const char *family, const char *device, const char *key, int flags)
{
	char path[160];

	if (device == NULL)
		snprintf(path, sizeof(path), "/proc/sys/net/%s/%s", family, key);
	else
		snprintf(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, device, key);
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int exception_sysctl_set(const char *family, const char *device, const char *key, const char *value)
{
	int fd = open_setting(family, device, key, O_WRONLY);

	if (fd < 0)
		return fd;
	int err = write(fd, value, strlen(value)) < 0 ? -errno : 0;
	close(fd);
	return err;
}

int exception_sysctl_get(
	const char *family, const char *device, const char *key, char value[EXCEPTION_SYSCTL_TEXT])
{
	int fd = open_setting(family, device, key, O_RDONLY);

	if (fd < 0)
		return fd;
	ssize_t length = read(fd, value, EXCEPTION_SYSCTL_TEXT - 1);
	int err = length < 0 ? -errno : 0;
	close(fd);
	if (err < 0)
		return err;
	value[length] = '\0';
	value[strcspn(value, "\n")] = '\0';
	return 0;
}
