/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_include.h"

#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#define SPECIAL "*?["

static bool is_special(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (strchr(SPECIAL, text[i]) != NULL)
			return true;
	return false;
}

/* The whole name. In a pattern the directory, which isn't part of it, is made
 * to stand for itself. */
static char *make_name(const char *base, const char *text, size_t length, bool is_pattern)
{
	const char *slash = text[0] == '/' ? NULL : strrchr(base, '/');
	size_t directory = slash != NULL ? slash - base + 1 : 0, at = 0;
	char *name = malloc(2 * directory + length + 1);

	if (name == NULL)
		return NULL;
	for (size_t i = 0; i < directory; i++) {
		if (is_pattern && strchr(SPECIAL "]\\", base[i]) != NULL)
			name[at++] = '\\';
		name[at++] = base[i];
	}
	memcpy(name + at, text, length);
	name[at + length] = '\0';
	return name;
}

/* A directory that isn't there holds no match; one that can't be read might. */
static int is_fatal(const char *path, int err)
{
	return err != ENOENT && err != ENOTDIR;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static const char *find_matches(struct conf_include *include, const char *pattern)
{
	glob_t found = {.gl_pathc = 0};
	const char *fault = NULL;
	int err = glob(pattern, GLOB_NOSORT, is_fatal, &found);

	if (err == GLOB_ABORTED)
		fault = "a directory in it can't be read";
	else if (err != 0 && err != GLOB_NOMATCH)
		fault = strerror(ENOMEM);
	if (err != 0)
		goto out;
	include->names = calloc(found.gl_pathc, sizeof(*include->names));
	for (; include->names != NULL && include->nb_names < found.gl_pathc; include->nb_names++) {
		char *name = strdup(found.gl_pathv[include->nb_names]);
		if (name == NULL)
			break;
		include->names[include->nb_names] = name;
	}
	if (include->nb_names < found.gl_pathc)
		fault = strerror(ENOMEM);
	else if (include->names != NULL)
		qsort(include->names, include->nb_names, sizeof(*include->names), by_bytes);
out:
	globfree(&found);
	return fault;
}

const char *conf_include_find(struct conf_include *include, const char *base, const char *text,
	size_t length, unsigned line)
{
	const char *fault = NULL;

	*include = (struct conf_include){.is_pattern = is_special(text, length),
		.text = text,
		.length = length,
		.line = line};
	char *name = make_name(base, text, length, include->is_pattern);
	if (name == NULL)
		return strerror(ENOMEM);
	if (include->is_pattern) {
		fault = find_matches(include, name);
		free(name);
		return fault;
	}
	include->names = calloc(1, sizeof(*include->names));
	if (include->names == NULL) {
		free(name);
		return strerror(ENOMEM);
	}
	include->names[include->nb_names++] = name;
	return NULL;
}

void conf_include_fini(struct conf_include *include)
{
	for (size_t i = 0; i < include->nb_names; i++)
		free(include->names[i]);
	free(include->names);
	memset(include, 0, sizeof(*include));
}
