/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *bad_kind(const struct stat *stat)
{
	if (S_ISDIR(stat->st_mode))
		return "is a directory; name a regular file";
	if (S_ISFIFO(stat->st_mode))
		return "is a FIFO; name a regular file";
	if (!S_ISREG(stat->st_mode))
		return "is a device or socket; name a regular file";
	if (stat->st_size > CONF_FILE_MAX)
		return "is larger than 16 MiB; is it a configuration file?";
	return NULL;
}

/* The file may be written to meanwhile: its size is what was read, not what fstat said. */
static const char *read_all(struct conf_file *file, int fd, size_t expected)
{
	size_t room = expected + 1;

	file->text = malloc(room + 1);
	while (file->text != NULL) {
		ssize_t n = read(fd, file->text + file->size, room - file->size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return strerror(errno);
		file->size += n;
		file->text[file->size] = '\0';
		if (n == 0)
			return NULL;
		if (file->size > CONF_FILE_MAX)
			return "grew beyond 16 MiB while it was read";
		if (file->size == room) {
			room *= 2;
			char *larger = realloc(file->text, room + 1);
			if (larger == NULL)
				break;
			file->text = larger;
		}
	}
	return strerror(ENOMEM);
}

const char *conf_file_read(struct conf_file *file, const char *name)
{
	struct stat stat;
	const char *fault;
	int fd;

	memset(file, 0, sizeof(*file));
	/* Without O_NONBLOCK the open of a FIFO waits for a writer, for ever. */
	fd = open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENXIO ? "is a device or socket; name a regular file"
				      : strerror(errno);
	if (fstat(fd, &stat) < 0) {
		fault = strerror(errno);
		goto out;
	}
	fault = bad_kind(&stat);
	if (fault != NULL)
		goto out;
	file->device = stat.st_dev;
	file->inode = stat.st_ino;
	file->is_exposed = (stat.st_mode & (S_IWGRP | S_IWOTH)) != 0 ||
		(stat.st_uid != 0 && stat.st_uid != geteuid());
	file->name = strdup(name);
	fault = file->name == NULL ? strerror(ENOMEM) : read_all(file, fd, stat.st_size);
out:
	if (fault != NULL)
		conf_file_fini(file);
	close(fd);
	return fault;
}

void conf_file_fini(struct conf_file *file)
{
	free(file->name);
	free(file->text);
	memset(file, 0, sizeof(*file));
}
