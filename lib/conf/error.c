/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "conf.h"

#define FILE_NAME_MAX 200 // bytes of the file's name that a message shows

int conf_error_vset(struct conf_error *error, const char *file, unsigned line, const char *path,
	const char *format, va_list args)
{
	size_t size = sizeof(error->text), length = strlen(file);
	int at;

	if (length > FILE_NAME_MAX)
		at = snprintf(error->text, size, "...%s", file + length - FILE_NAME_MAX);
	else
		at = snprintf(error->text, size, "%s", file);
	if (line != 0)
		at += snprintf(error->text + at, size - at, ":%u", line);
	at += snprintf(error->text + at, size - at, ": ");
	if (path[0] != '\0')
		at += snprintf(error->text + at, size - at, "%.*s: ", CONF_PATH_TEXT, path);
	vsnprintf(error->text + at, size - at, format, args);
	return -EINVAL;
}

int conf_error_set(struct conf_error *error, const char *file, unsigned line, const char *path,
	const char *format, ...)
{
	va_list args;

	va_start(args, format);
	conf_error_vset(error, file, line, path, format, args);
	va_end(args);
	return -EINVAL;
}

int conf_error_memory(struct conf_error *error, const char *file)
{
	conf_error_set(error, file, 0, "", "out of memory while reading it");
	return -ENOMEM;
}
