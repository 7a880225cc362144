/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What libconfig gets to read: the files with their includes put together, checked token by token.
 *
 * libconfig is never given the file itself, because its versions differ and none is strict: 1.5
 * reads 4294967376 as 80 without a word, waits for ever on a FIFO that is included, looks for
 * includes of includes in the wrong directory, calls every slip "syntax error", and searches a
 * group's keys one by one. The text made here has one setting a line, every integer in 64 bits,
 * no comment and no include, and is known to be right; the n-th line's place in the files is
 * remembered.
 */
#ifndef WEIR_CONF_SCAN_H
#define WEIR_CONF_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "conf_error.h"
#include "conf_file.h"

struct conf;

#define CONF_DEPTH_MAX 16            // groups and lists in one another; the schema needs 5
#define CONF_INCLUDE_DEPTH_MAX 10    // as libconfig
#define CONF_FILES_MAX 4096          // read in all: ten of ten lines could ask for 10^10
#define CONF_SETTINGS_MAX (1u << 20) // 131,072 backends as groups of 4 keys take 0.66 M
#define CONF_KEYS_MAX 8192           // keys of one group: libconfig searches them one by one

#define CONF_NO_PLACE UINT32_MAX

/* Where a setting stands, in the files and in the tree. */
struct conf_place {
	const struct conf_file *file;
	unsigned line;
	uint32_t parent; // the place of its group or list; CONF_NO_PLACE at the top
	uint32_t index;  // among its parent's settings
	uint32_t name_length;
	const char *name; // not terminated; NULL = an element of a list
};

struct conf_service;

/* A service as it stands in a file. */
struct conf_block {
	const char *text; // from its name to its last }; NULL = parts of it are included
	size_t size;
	uint32_t nb_settings;               // in it, and itself
	const struct conf_service *carried; // the former one, which it equals; NULL = to be read:
	uint32_t element;                   // its number in libconfig's group
};

struct conf_scan {
	char *text;                // for libconfig
	char *whole;               // as it was read, what is included in its place
	struct conf_place *places; // of line n + 1 of the text
	size_t nb_places;
	size_t places_room;
	struct conf_file **files; // the first is the main one
	size_t nb_files;
	struct conf_block *blocks; // by service
	size_t nb_blocks;
	size_t blocks_room;
	size_t nb_carried; // settings of former services, which have no place
};

/*
 * Read and check the file and what it includes. 0, or negative with `error` filled in.
 *
 * With `former` (NULL = none), a service that stands there word for word as one of its services did
 * is not looked into, and libconfig has none of it. Lines are then not counted, so that an error
 * only says that there is one: read again, without.
 */
int conf_scan_read(struct conf_scan *scan, const char *path, const struct conf *former,
	struct conf_error *error);

void conf_scan_fini(struct conf_scan *scan);

/* Return the place of the setting in a line of the text, counted from 1; NULL
 * when there is none. */
const struct conf_place *conf_scan_place(const struct conf_scan *scan, unsigned line);

/* Write a place as in messages, "services.web.backends[0]", "" for NULL. `path` holds
 * CONF_PATH_TEXT bytes; it is returned. */
const char *conf_scan_path(
	const struct conf_scan *scan, const struct conf_place *place, char *path);

#endif
