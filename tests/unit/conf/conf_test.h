/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of conf share: files in a directory of their own. */
#ifndef WEIR_CONF_TEST_H
#define WEIR_CONF_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"

#define PORT "port = { device = \"eth1\"; address = \"192.0.2.10/24\"; };\n"
#define WEB(keys) "services = { web = {\n" keys "\n}; };\n"
#define BACKENDS "backends = ( \"10.0.0.1:80\" );"
#define SERVICES WEB("listen = \":80\"; " BACKENDS)

static char test_dir[] = "/tmp/weir-conf-XXXXXX";

/* "DIR/name", good until the next call but three. */
static inline const char *test_path(const char *name)
{
	static char paths[4][128];
	static unsigned next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", test_dir, name);
	return path;
}

static inline const char *test_write(const char *name, const char *text, size_t size)
{
	const char *path = test_path(name);
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, size, file), size);
	assert_int_equal(fclose(file), 0);
	return path;
}

static inline struct conf *test_load(const char *text, struct conf_error *error)
{
	memset(error, 0, sizeof(*error));
	return conf_load(test_write("test.conf", text, strlen(text)), error);
}

/* A file that must be right. */
static inline struct conf *test_good(const char *text)
{
	struct conf_error error;
	struct conf *conf = test_load(text, &error);

	if (conf == NULL)
		fail_msg("%s", error.text);
	return conf;
}

static inline int test_setup(void **state)
{
	return mkdtemp(test_dir) == NULL;
}

static inline int test_teardown(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", test_dir);
	return system(command);
}

#endif
