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
		bool changed = verdict_add(verdict, 0, results[n] == '+', RISE, FALL);
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

	assert_true(verdict_add(&verdict, 0, true, 1, 1));
	assert_true(verdict_add(&verdict, 0, false, 1, 1));
	assert_false(verdict_add(&verdict, 0, false, 1, 1));
	assert_true(verdict_add(&verdict, 0, true, 1, 1));
}

/* As feed(), of results that come from `nb` addresses by turns; '.' = as before. */
static const char *feed_turns(struct verdict *verdict, unsigned nb, const char *results)
{
	static char states[64];
	size_t n = 0;

	for (; results[n] != '\0'; n++)
		states[n] = !verdict_add(verdict, n % nb, results[n] == '+', RISE, FALL) ? '.'
			: verdict->state == HEALTH_UP                                    ? 'U'
											 : 'D';
	states[n] = '\0';
	return states;
}

/* E8: at first each address is to pass, and one failure decides. */
static void the_first_round_decides(void **state)
{
	unsigned fails[3];
	struct verdict verdict;

	verdict_init(&verdict, HEALTH_UNKNOWN, fails, 3);
	assert_string_equal(feed_turns(&verdict, 3, "+++"), "..U");
	verdict_init(&verdict, HEALTH_UNKNOWN, fails, 3);
	assert_string_equal(feed_turns(&verdict, 3, "++-++-++-"), "..D......");
}

/* E8: behind a firewall that knows one of two: it neither stays up nor flaps. */
static void one_address_of_two_brings_down(void **state)
{
	unsigned fails[2];
	struct verdict verdict;

	verdict_init(&verdict, HEALTH_UP, fails, 2);
	assert_string_equal(feed_turns(&verdict, 2, "+-+-+-+-+-+-+-"), ".....D........");
	assert_string_equal(feed_turns(&verdict, 2, "+-+++"), "...U.");
}

/* D3 for each address: scattered losses never add up. */
static void losses_of_an_address_are_forgotten_when_it_passes(void **state)
{
	unsigned fails[2];
	struct verdict verdict;

	verdict_init(&verdict, HEALTH_UP, fails, 2);
	for (int i = 0; i < 100; i++)
		assert_string_equal(feed_turns(&verdict, 2, "+-+-++"), "......");
}

/* One that is dead is found as early as from one address, and is up when each has passed. */
static void failures_in_a_row_count_from_whatever_address(void **state)
{
	unsigned fails[4];
	struct verdict verdict;

	verdict_init(&verdict, HEALTH_UP, fails, 4);
	assert_string_equal(feed_turns(&verdict, 4, "++---"), "....D");
	verdict_init(&verdict, HEALTH_DOWN, fails, 4);
	assert_string_equal(feed_turns(&verdict, 4, "++++"), "...U");
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
		cmocka_unit_test(the_first_round_decides),
		cmocka_unit_test(one_address_of_two_brings_down),
		cmocka_unit_test(losses_of_an_address_are_forgotten_when_it_passes),
		cmocka_unit_test(failures_in_a_row_count_from_whatever_address),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
