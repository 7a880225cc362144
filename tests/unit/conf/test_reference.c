/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The keys in weir.conf(5) are the schema's, and the file that README and weir.conf(5) show first
 * is the minimal example. After a change of the schema, build/tests/unit/test_conf_reference
 * --write puts the new keys in their place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "conf.h"

#define README TEST_SOURCE_ROOT "/README.md"
#define MANUAL TEST_SOURCE_ROOT "/conf/weir.conf.5.md"
#define TEXT_MAX 1000000
#define BEGIN "<!-- keys: by tests/unit/conf/test_reference.c -->\n"
#define END "\n<!-- end of the keys -->\n"

static char *read_file(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, TEXT_MAX);

	assert_non_null(file);
	assert_non_null(text);
	assert_in_range(fread(text, 1, TEXT_MAX, file), 1, TEXT_MAX - 1);
	fclose(file);
	return text;
}

static char *reference(void)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	conf_reference_print(out);
	fclose(out);
	return text;
}

/* Where the keys stand in the manual's text. */
static void find(char *manual, char **begin, char **end)
{
	*begin = strstr(manual, BEGIN);
	assert_non_null(*begin);
	*begin += strlen(BEGIN);
	*end = strstr(*begin, END);
	assert_non_null(*end);
}

static void manual_has_the_schema(void **state)
{
	char *manual = read_file(MANUAL), *wanted = reference(), *begin, *end;

	find(manual, &begin, &end);
	*end = '\0';
	if (strcmp(begin, wanted) != 0)
		print_error("weir.conf.5.md lags behind the schema: test_conf_reference --write\n");
	assert_string_equal(begin, wanted);
	free(manual);
	free(wanted);
}

/* These have a meaning in Markdown. */
static void check_row(void *arg, const struct conf_reference *row)
{
	const char *cells[] = {row->path, row->value, row->initial, row->doc};

	for (unsigned i = 0; i < 4; i++) {
		assert_non_null(cells[i]);
		assert_null(strpbrk(cells[i], "*<>\n"));
	}
	assert_true(row->doc[0] != '\0');
	++*(unsigned *)arg;
}

static void each_key_is_documented(void **state)
{
	unsigned rows = 0;

	conf_reference_each(check_row, &rows);
	assert_true(rows > 40);
}

static void shows_the_minimal_file(const char *path)
{
	char *text = read_file(path);
	char *file = read_file(TEST_SOURCE_ROOT "/conf/examples/minimal.conf");
	const char *at = strstr(text, "    port = {\n");

	assert_non_null(at);
	for (char *line = strtok(file, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		assert_memory_equal(at, "    ", 4);
		assert_memory_equal(at + 4, line, strlen(line));
		assert_int_equal(at[4 + strlen(line)], '\n');
		at += 4 + strlen(line) + 1;
	}
	assert_int_equal(*at, '\n');
	free(text);
	free(file);
}

static void readme_shows_the_minimal_file(void **state)
{
	shows_the_minimal_file(README);
}

static void manual_shows_the_minimal_file(void **state)
{
	shows_the_minimal_file(MANUAL);
}

static int write_manual(void)
{
	char *manual = read_file(MANUAL), *wanted = reference(), *begin, *end;

	find(manual, &begin, &end);
	FILE *out = fopen(MANUAL, "w");
	if (out == NULL)
		return EXIT_FAILURE;
	fprintf(out, "%.*s%s%s", (int)(begin - manual), manual, wanted, end);
	free(manual);
	free(wanted);
	return fclose(out) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(manual_has_the_schema),
		cmocka_unit_test(readme_shows_the_minimal_file),
		cmocka_unit_test(manual_shows_the_minimal_file),
		cmocka_unit_test(each_key_is_documented),
	};

	if (argc > 1 && strcmp(argv[1], "--write") == 0)
		return write_manual();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
