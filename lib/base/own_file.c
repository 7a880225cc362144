/* SPDX-License-Identifier: BSD-3-Clause */
#include "own_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#define OTHERS_WRITE (S_IWGRP | S_IWOTH)
#define FRESH ".new" // beside the file that it is to become

bool own_file_is(const struct stat *status, bool secret)
{
	mode_t refused = secret ? S_IRWXG | S_IRWXO : OTHERS_WRITE;

	return S_ISREG(status->st_mode) && status->st_nlink == 1 && status->st_uid == geteuid() &&
		(status->st_mode & refused) == 0;
}

int own_file_open(const char *path, int flags, bool secret)
{
	struct stat status;
	// A FIFO would be waited for.
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

	if (fd < 0)
		return -errno;
	int err = fstat(fd, &status) < 0 ? -errno : own_file_is(&status, secret) ? 0 : -EPERM;
	if (err == 0)
		return fd;
	close(fd);
	return err;
}

FILE *own_file_stream(const char *path, const char *mode)
{
	bool writes = mode[0] == 'w';
	int fd = own_file_open(path, writes ? O_WRONLY | O_CREAT : O_RDONLY, false);

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	// Not before it is known to be ours.
	FILE *file = writes && ftruncate(fd, 0) < 0 ? NULL : fdopen(fd, mode);
	if (file == NULL)
		close(fd);
	return file;
}

static void fresh_path(const char *path, char fresh[PATH_MAX])
{
	snprintf(fresh, PATH_MAX, "%s" FRESH, path);
}

FILE *own_file_begin(const char *path)
{
	char fresh[PATH_MAX];

	fresh_path(path, fresh);
	unlink(fresh); // of a process that died over it
	int fd = own_file_open(fresh, O_WRONLY | O_CREAT | O_EXCL, true);
	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	FILE *file = fdopen(fd, "w");
	if (file == NULL)
		close(fd);
	return file;
}

int own_file_end(FILE *file, const char *path)
{
	char fresh[PATH_MAX];
	bool is_whole = fflush(file) == 0 && !ferror(file);
	int err = is_whole ? 0 : errno != 0 ? -errno : -EIO;

	fresh_path(path, fresh);
	if (fclose(file) != 0 && err == 0)
		err = -errno;
	if (err == 0 && rename(fresh, path) < 0)
		err = -errno;
	if (err < 0)
		unlink(fresh);
	return err;
}

int own_directory_make(const char *path, mode_t mode)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return -errno;
	return own_directory_is(path) ? 0 : -EPERM;
}

bool own_directory_is(const char *path)
{
	struct stat status;

	return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) &&
		(status.st_uid == geteuid() || status.st_uid == 0) &&
		(status.st_mode & OTHERS_WRITE) == 0;
}
