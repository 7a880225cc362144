/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "start_pace.h"

#define CONFIG "/nonexistent/test-start-pace.conf"

static void the_time_between_tries_doubles_up_to_ten_seconds(void **state) // case E13
{
	static const uint64_t expected[] = {
		100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000, 10000};

	for (unsigned i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
		assert_int_equal(start_pace_delay_ms(i + 1), expected[i]);
	assert_int_equal(start_pace_delay_ms(4000000000U), 10000);
}

static void without_systemd_nobody_waits(void **state)
{
	unsetenv("NOTIFY_SOCKET");
	for (unsigned i = 0; i < 20; i++) {
		start_pace_failed(CONFIG);
		assert_true(start_pace_wait(CONFIG));
	}
	start_pace_forget(CONFIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_time_between_tries_doubles_up_to_ten_seconds),
		cmocka_unit_test(without_systemd_nobody_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
