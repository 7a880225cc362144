/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What @include names: a file, or by a pattern (* ? [ ]) any number of them. Patterns are never
 * left to libconfig: 1.5 doesn't know them, and 1.7 takes them in the order of the directory.
 */
#ifndef WEIR_CONF_INCLUDE_H
#define WEIR_CONF_INCLUDE_H

#include <stdbool.h>
#include <stddef.h>

struct conf_include {
	char **names; // sorted by bytes, whatever the locale
	size_t nb_names;
	size_t next; // not taken yet
	bool is_pattern;
	const char *text; // as in the file, `length` bytes; borrowed
	size_t length;
	unsigned line;
};

/*
 * Find the files. A name without a leading / is relative to the directory of `base`, the file that
 * includes it. A name is taken as it is, there or not; a pattern may match nothing. NULL, or what
 * is wrong.
 */
const char *conf_include_find(struct conf_include *include, const char *base, const char *text,
	size_t length, unsigned line);

/* Free what conf_include_find() took; fine for one that was zeroed and never found. */
void conf_include_fini(struct conf_include *include);

#endif
