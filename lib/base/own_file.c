/* SPDX-License-Identifier: BSD-3-Clause */
#include "own_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#define OTHERS_WRITE (S_IWGRP | S_IWOTH)
#define FRESH ".new" // beside the file that it is to become

static bool is_trusted(uid_t user)
{
	return user == geteuid() || user == 0;
}

bool own_file_is(const struct stat *status, bool secret)
{
	mode_t refused = secret ? S_IRWXG | S_IRWXO : OTHERS_WRITE;

	return S_ISREG(status->st_mode) && status->st_nlink == 1 && is_trusted(status->st_uid) &&
		(status->st_mode & refused) == 0;
}

int own_file_open(const char *path, int flags, bool secret)
{
	struct stat status;
	// A FIFO would be waited for.
	int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

	if (fd < 0) // of a symbolic link, a directory, a socket or a FIFO
		return errno == ELOOP || errno == EISDIR || errno == ENXIO ? -EPERM : -errno;
	int err = fstat(fd, &status) < 0       ? -errno
		: own_file_is(&status, secret) ? 0
		: status.st_nlink == 0         ? -ENOENT // removed meanwhile
					       : -EPERM;
	if (err == 0)
		return fd;
	close(fd);
	return err;
}

/* A stream of what own_file_open() returned. */
static FILE *stream(int fd, const char *mode)
{
	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	FILE *file = fdopen(fd, mode);
	if (file == NULL)
		close(fd);
	return file;
}

FILE *own_file_read(const char *path)
{
	return stream(own_file_open(path, O_RDONLY, false), "r");
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
	return stream(own_file_open(fresh, O_WRONLY | O_CREAT | O_EXCL, true), "w");
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

void own_file_remove(const char *path)
{
	char fresh[PATH_MAX];

	fresh_path(path, fresh);
	unlink(fresh);
	unlink(path);
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

	return lstat(path, &status) == 0 && S_ISDIR(status.st_mode) && is_trusted(status.st_uid) &&
		(status.st_mode & OTHERS_WRITE) == 0;
}
