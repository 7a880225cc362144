/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files that outlive the process: whoever finds one takes it for what a former process of the same
 * user, or of root, left. So it must be theirs alone: nobody else made it, may write to it, or has
 * another name for it.
 *
 * Any thread.
 */
#ifndef WEIR_OWN_FILE_H
#define WEIR_OWN_FILE_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>

#define OWN_RUN_DIRECTORY "/run/weir"

/* Tell whether a file is ours: regular, with one name, of this user or root, and nobody else may
 * write to it or, if it is `secret`, do anything with it. */
bool own_file_is(const struct stat *status, bool secret);

/* Open a file of ours, and none that a symbolic link leads to. `flags` as of open(2); one that is
 * made has mode 0600. Nothing is waited for. The descriptor, or -errno; -EPERM: it is somebody
 * else's, or no file. */
int own_file_open(const char *path, int flags, bool secret);
/* Open one as a stream, to read what may be no secret. NULL and errno. */
FILE *own_file_read(const char *path);

/*
 * Begin to write a file anew: beside the old one, which counts until own_file_end() has put the new
 * one in its place, so that a death at any moment leaves the one or the other. A directory must be
 * there. NULL and errno.
 */
FILE *own_file_begin(const char *path);
/* Close what own_file_begin() of that path returned, and put it in place. 0, or -errno and the old
 * one stays. */
int own_file_end(FILE *file, const char *path);
/* Remove a file, and what was begun of a new one. Fine when there is none. */
void own_file_remove(const char *path);

/* Make a directory, unless it is there. 0 or -errno; -EPERM: what is there is no directory of this
 * user or root, or others may write in it. */
int own_directory_make(const char *path, mode_t mode);
/* Tell whether it is such a directory. */
bool own_directory_is(const char *path);

#endif
