/* SPDX-License-Identifier: BSD-3-Clause */
/* The form of all messages: "file:line: key.path: what is wrong; what would be right". */
#ifndef WEIR_CONF_ERROR_H
#define WEIR_CONF_ERROR_H

#include <stdarg.h>

struct conf_error;

#define CONF_PATH_TEXT 192 // room for a key's path in messages; longer ones are cut

/*
 * Fill in `error`. Line 0 and an empty path are left out. A very long file name loses its start,
 * so that the message is never crowded out. Always -EINVAL, for `return conf_error_set(...)`.
 */
int conf_error_set(struct conf_error *error, const char *file, unsigned line, const char *path,
	const char *format, ...) __attribute__((format(printf, 5, 6)));
int conf_error_vset(struct conf_error *error, const char *file, unsigned line, const char *path,
	const char *format, va_list args);

/* Fill in `error` with a lack of memory. Always -ENOMEM. */
int conf_error_memory(struct conf_error *error, const char *file);

#endif
