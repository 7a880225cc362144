/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "verdict.h"

#define RISE 2
#define FALL 3

/* Feeds '+' and '-'; returns the state after each: 'u' up, 'd' down, upper case = changed. */
static const char *feed(struct verdict *verdict, const char *results)
{
	static char states[64];
	size_t n = 0;

	for (; results[n] != '\0'; n++) {
		bool changed = verdict_add(verdict, results[n] == '+', RISE, FALL);
		states[n] =
			verdict->state == HEALTH_UP ? (changed ? 'U' : 'u') : (changed ? 'D' : 'd');
	}
	states[n] = '\0';
	return states;
}

static void first_result_decides(void **state)
{
	struct verdict good = {0}, bad = {0};

	assert_int_equal(good.state, HEALTH_UNKNOWN);
	assert_string_equal(feed(&good, "+"), "U");
	assert_string_equal(feed(&bad, "-"), "D");
}

static void fall_failures_in_a_row_bring_down(void **state)
{
	struct verdict verdict = {0};

	assert_string_equal(feed(&verdict, "+----"), "UuuDd");
}

static void rise_successes_in_a_row_bring_up(void **state)
{
	struct verdict verdict = {0};

	assert_string_equal(feed(&verdict, "-+-+++"), "DdddUu");
}

/* loxilb#1087: failures that successes interrupt must not add up. */
static void success_resets_the_failure_count(void **state)
{
	struct verdict verdict = {0};

	assert_string_equal(feed(&verdict, "+--+--+--+---"), "UuuuuuuuuuuuD");
}

static void case_d3_flapping_below_fall_changes_nothing(void **state)
{
	struct verdict verdict = {0};

	feed(&verdict, "+");
	for (int i = 0; i < 1000; i++)
		assert_string_equal(feed(&verdict, "--+"), "uuu");
}

static void rise_and_fall_of_one_follow_each_result(void **state)
{
	struct verdict verdict = {0};

	assert_true(verdict_add(&verdict, true, 1, 1));
	assert_true(verdict_add(&verdict, false, 1, 1));
	assert_false(verdict_add(&verdict, false, 1, 1));
	assert_true(verdict_add(&verdict, true, 1, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_result_decides),
		cmocka_unit_test(fall_failures_in_a_row_bring_down),
		cmocka_unit_test(rise_successes_in_a_row_bring_up),
		cmocka_unit_test(success_resets_the_failure_count),
		cmocka_unit_test(case_d3_flapping_below_fall_changes_nothing),
		cmocka_unit_test(rise_and_fall_of_one_follow_each_result),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
