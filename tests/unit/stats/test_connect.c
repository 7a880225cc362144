/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "stats_connect.h"

static void buckets_are_half_a_power_of_two(void **state)
{
	static const uint64_t begins[] = {0, 32, 48, 64, 96, 128, 192, 256, 384, 512};

	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(stats_connect_from(i), begins[i]);
	for (unsigned i = 1; i < STATS_CONNECT_BUCKETS; i++) {
		assert_int_equal(stats_connect_bucket(stats_connect_from(i)), i);
		assert_int_equal(stats_connect_bucket(stats_connect_from(i) - 1), i - 1);
	}
	assert_in_range(stats_connect_from(STATS_CONNECT_BUCKETS - 1), 1000000, 2000000);
	assert_int_equal(stats_connect_bucket(UINT64_MAX), STATS_CONNECT_BUCKETS - 1);
}

/* Of the times 1, 2, ... n: the answer is off by no more than its bucket is wide. */
static void percentiles_are_within_their_bucket(void **state)
{
	enum { N = 100000 };
	static const unsigned percents[] = {1, 50, 90, 99, 100};
	struct stats_connect sum = {0};

	assert_int_equal(stats_connect_percentile(&sum, 50), 0);
	for (uint64_t us = 1; us <= N; us++)
		stats_connect_answered(&sum, us);
	assert_int_equal(stats_connect_answers(&sum), N);
	for (unsigned i = 0; i < 5; i++) {
		uint64_t exact = N / 100 * percents[i],
			 said = stats_connect_percentile(&sum, percents[i]);
		assert_in_range(said, exact * 2 / 3, exact * 3 / 2);
	}
}

static void smooths_towards_what_is(void **state)
{
	uint32_t smoothed = stats_connect_smooth(0, 1000);

	assert_in_range(smoothed, 1000, 1001);
	for (unsigned i = 0; i < 100; i++)
		smoothed = stats_connect_smooth(smoothed, 300000);
	assert_in_range(smoothed, 299000, 300000);
	for (unsigned i = 0; i < 100; i++)
		smoothed = stats_connect_smooth(smoothed, 0);
	assert_in_range(smoothed, 1, 10); // never unknown again
	assert_int_not_equal(stats_connect_smooth(0, 0), 0);
	assert_in_range(stats_connect_smooth(1, UINT64_MAX), 1, UINT32_MAX / 2);
}

static void sums_add_up_and_are_taken_away(void **state)
{
	struct stats_connect a = {.refused = 1,
				     .timed_out = 2,
				     .moved_away = 3,
				     .syn_not_kept = 4,
				     .challenged = 6,
				     .fails = 5},
			     sum = {0}, none = {0};

	stats_connect_answered(&a, 10);
	a.answer_us = 0;
	stats_connect_add(&sum, &a);
	stats_connect_add(&sum, &a);
	assert_int_equal(sum.fails, 10);
	assert_int_equal(sum.challenged, 12);
	assert_int_equal(sum.times[0], 2);
	stats_connect_subtract(&sum, &a);
	assert_memory_equal(&sum, &a, sizeof(sum));
	stats_connect_subtract(&sum, &a);
	assert_memory_equal(&sum, &none, sizeof(sum));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_are_half_a_power_of_two),
		cmocka_unit_test(percentiles_are_within_their_bucket),
		cmocka_unit_test(smooths_towards_what_is),
		cmocka_unit_test(sums_add_up_and_are_taken_away),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
