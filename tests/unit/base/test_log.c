/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

/* stderr while it leads into a pipe. */
struct capture {
	int real_stderr;
	int read_end;
	char text[8192];
};

static int capture_start(void **state)
{
	static struct capture capture;
	int ends[2];

	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) < 0)
		return -1;
	capture.real_stderr = dup(STDERR_FILENO);
	capture.read_end = ends[0];
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	unsetenv("JOURNAL_STREAM");
	log_set_level(LOG_LEVEL_INFO);
	*state = &capture;
	return 0;
}

static int capture_stop(void **state)
{
	struct capture *capture = *state;

	dup2(capture->real_stderr, STDERR_FILENO);
	close(capture->real_stderr);
	close(capture->read_end);
	return 0;
}

/* What was logged since the last call. */
static const char *capture_read(struct capture *capture)
{
	ssize_t size = read(capture->read_end, capture->text, sizeof(capture->text) - 1);

	capture->text[size > 0 ? size : 0] = '\0';
	return capture->text;
}

static unsigned count_lines(const char *text)
{
	unsigned count = 0;

	while ((text = strchr(text, '\n')) != NULL) {
		text++;
		count++;
	}
	return count;
}

static void assert_matches(const char *text, const char *pattern)
{
	regex_t regex;

	assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
	if (regexec(&regex, text, 0, NULL, 0) != 0)
		fail_msg("\"%s\" is not like %s", text, pattern);
	regfree(&regex);
}

static void line_has_time_level_and_module(void **state)
{
	struct capture *capture = *state;

	log_warning("backend %s: down (%d)", "con1", 7);
	assert_matches(capture_read(capture),
		"^20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3} "
		"warning test: "
		"backend con1: down \\(7\\)\n$");
}

static void line_has_syslog_severity_under_journald(void **state)
{
	struct capture *capture = *state;

	setenv("JOURNAL_STREAM", "8:12345", 1);
	log_set_level(LOG_LEVEL_DEBUG);
	log_error("a");
	log_warning("b");
	log_info("c");
	log_debug("d");
	assert_string_equal(capture_read(capture),
		"<3>error test: a\n<4>warning test: b\n<6>info test: c\n<7>debug test: d\n");
}

static void lines_above_the_level_are_dropped(void **state)
{
	static const char *expected[] = {"e", "ew", "ewi", "ewid"};
	struct capture *capture = *state;

	setenv("JOURNAL_STREAM", "8:12345", 1);
	for (enum log_level level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
		char seen[8];
		unsigned nb_seen = 0;

		log_set_level(level);
		log_error(" ");
		log_warning(" ");
		log_info(" ");
		log_debug(" ");
		for (const char *line = capture_read(capture); *line != '\0';
			line = strchr(line, '\n') + 1)
			seen[nb_seen++] = line[3]; // after "<N>"
		seen[nb_seen] = '\0';
		assert_string_equal(seen, expected[level]);
	}
}

static void long_line_is_cut_and_ends_with_a_newline(void **state)
{
	struct capture *capture = *state;
	char text[3000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	log_error("%s", text);
	const char *line = capture_read(capture);
	assert_int_equal(strlen(line), 1024);
	assert_ptr_equal(strchr(line, '\n'), line + 1023);
}

/* Let a test that counts within one second of the clock start at its beginning. */
static void sleep_to_next_second(void)
{
	struct timespec rest = {.tv_nsec = 1000000000 - clock_ns() % 1000000000};

	nanosleep(&rest, NULL);
}

static void limit_allows_ten_lines_a_second(void **state) // case C7
{
	struct log_limit limit = {0};

	sleep_to_next_second();
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(log_limit_allows(&limit), i < 10);
	assert_int_equal(limit.held_back, 990);
	limit.second--; // as if that had been a second ago
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(log_limit_allows(&limit), i < 10);
}

static void flood(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		log_limited(LOG_LEVEL_INFO, "line %u", i);
}

static void limited_line_says_what_was_held_back(void **state) // case C7
{
	struct capture *capture = *state;

	setenv("JOURNAL_STREAM", "8:12345", 1);
	sleep_to_next_second();
	flood(1000);
	assert_int_equal(count_lines(capture_read(capture)), 10);
	sleep_to_next_second();
	flood(1000);
	const char *text = capture_read(capture);
	assert_int_equal(count_lines(text), 10);
	assert_matches(text,
		"^<6>info test: line 0\n<6>info test: 990 lines [^\n]* held back [^\n]*\n"
		"<6>info test: line 1\n");
}

#define capture_test(test) cmocka_unit_test_setup_teardown(test, capture_start, capture_stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		capture_test(line_has_time_level_and_module),
		capture_test(line_has_syslog_severity_under_journald),
		capture_test(lines_above_the_level_are_dropped),
		capture_test(long_line_is_cut_and_ends_with_a_newline),
		cmocka_unit_test(limit_allows_ten_lines_a_second),
		capture_test(limited_line_says_what_was_held_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
