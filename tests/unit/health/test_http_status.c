/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "http_status.h"

/* From memory of the exact size, so that a sanitizer sees an over-read. */
static int parse(const char *text, size_t length)
{
	char *data = malloc(length > 0 ? length : 1);

	memcpy(data, text, length);
	int status = http_status_parse(data, length);
	free(data);
	return status;
}

static int parse_all(const char *text)
{
	return parse(text, strlen(text));
}

static void status_is_read_as_soon_as_it_is_there(void **state)
{
	static const char line[] = "HTTP/1.1 503 Service Unavailable\r\n";

	for (size_t length = 0; length < 13; length++)
		assert_int_equal(parse(line, length), 0);
	for (size_t length = 13; length < sizeof(line); length++)
		assert_int_equal(parse(line, length), 503);
}

static void forms_of_the_status_line(void **state)
{
	assert_int_equal(parse_all("HTTP/1.0 200\r\n"), 200);
	assert_int_equal(parse_all("HTTP/1.1 404 \r\n"), 404);
	assert_int_equal(parse_all("HTTP/1.1 204\n"), 204);
	assert_int_equal(parse_all("HTTP/1.1 999 x"), 999);
}

static void case_f10_malformed_is_refused_at_the_first_wrong_byte(void **state)
{
	static const char *bad[] = {"S", "SSH-2.0-OpenSSH_9.2\r\n", "HTTPX", "HTTP/11",
		"HTTP/1.1  ", "HTTP/1.1 0", "HTTP/1.1 20x", "HTTP/1.1 2000", "HTTP/1.1 -20",
		"http/1.1 200 ", "\r\nHTTP/1.1 200 ", "HTTP/1.1\t200 ", "<html>"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(parse_all(bad[i]), -EBADMSG);
	assert_int_equal(parse("HTTP/1.1\0 200 ", 14), -EBADMSG);
}

static void interim_responses_are_passed_over(void **state)
{
	assert_int_equal(parse_all("HTTP/1.1 100 Continue\r\n"), 0);
	assert_int_equal(parse_all("HTTP/1.1 100 Continue\r\n\r\n"), 0);
	assert_int_equal(parse_all("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\n"
				   "HTTP/1.1 200 OK\r\n"),
		200);
	assert_int_equal(parse_all("HTTP/1.1 100 Continue\r\n\r\nx"), -EBADMSG);
	assert_int_equal(parse_all("HTTP/1.1 101 Switching Protocols\r\n"), 101);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(status_is_read_as_soon_as_it_is_there),
		cmocka_unit_test(forms_of_the_status_line),
		cmocka_unit_test(case_f10_malformed_is_refused_at_the_first_wrong_byte),
		cmocka_unit_test(interim_responses_are_passed_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
