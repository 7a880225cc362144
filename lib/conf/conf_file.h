/* SPDX-License-Identifier: BSD-3-Clause */
/* A configuration file in memory. */
#ifndef WEIR_CONF_FILE_H
#define WEIR_CONF_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CONF_FILE_MAX (16u << 20) // bytes; 1,000 services of 100 backends take 3 MB

struct conf_file {
	char *name;
	char *text; // followed by a NUL that is not counted
	size_t size;
	dev_t device; // with the inode: which file it is, whatever its name
	ino_t inode;
	bool is_exposed; // others than its owner may write it, or its owner is neither root nor us
};

/*
 * Read a regular file of at most CONF_FILE_MAX bytes. Never blocks on what isn't one. NULL, or
 * what is wrong with it (the file's name is for the caller to add); then nothing is left behind.
 */
const char *conf_file_read(struct conf_file *file, const char *name);

/* Free what conf_file_read() took; fine for a file that was zeroed and never read. */
void conf_file_fini(struct conf_file *file);

#endif
