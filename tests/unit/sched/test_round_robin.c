/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "scheduler.h"

/* Identities rise with the index, so that ties go to the earlier backend, as in nginx. */
static void make_backends(
	struct scheduler_backend *backends, uint32_t count, const uint32_t *weights)
{
	for (uint32_t i = 0; i < count; i++)
		backends[i] = (struct scheduler_backend){i, weights[i]};
}

static void pick_many(uint32_t *picked, uint32_t nb_picks, const struct scheduler_backend *backends,
	uint32_t count)
{
	struct scheduler_cursor cursor = {0};
	void *built = scheduler_round_robin.build(backends, count);

	assert_non_null(built);
	for (uint32_t i = 0; i < nb_picks; i++) {
		picked[i] = scheduler_round_robin.pick(built, i * 0x9e3779b9, &cursor);
		assert_in_range(picked[i], 0, count - 1);
	}
	scheduler_round_robin.destroy(built);
}

static void sequence_is_nginxs_smooth_one(void **state)
{
	// From the comment of nginx's ngx_http_upstream_round_robin.c: { 5, 1, 1 }.
	static const uint32_t weights[] = {5, 1, 1}, expected[] = {0, 0, 1, 0, 2, 0, 0};
	struct scheduler_backend backends[3];
	uint32_t picked[14];

	make_backends(backends, 3, weights);
	pick_many(picked, 14, backends, 3);
	assert_memory_equal(picked, expected, sizeof(expected));
	assert_memory_equal(picked + 7, expected, sizeof(expected));
}

/* nginx's loop, over backends instead of groups: {weight, current} each. */
static void sequence_equals_the_plain_algorithm(void **state)
{
	enum { COUNT = 30 };
	struct scheduler_backend backends[COUNT];
	uint32_t weights[COUNT], total = 0;
	int64_t current[COUNT] = {0};

	for (uint32_t i = 0; i < COUNT; i++) { // falling: ties between weights go to the heavier
		weights[i] = 1 + (COUNT - 1 - i) / 4;
		total += weights[i];
	}
	uint32_t *picked = calloc(2 * total, sizeof(*picked));
	assert_non_null(picked);
	make_backends(backends, COUNT, weights);
	pick_many(picked, 2 * total, backends, COUNT);
	for (uint32_t step = 0; step < 2 * total; step++) {
		uint32_t best = 0;

		for (uint32_t i = 0; i < COUNT; i++) {
			current[i] += weights[i];
			if (current[i] > current[best])
				best = i;
		}
		current[best] -= total;
		assert_int_equal(picked[step], best);
	}
	free(picked);
}

static void every_window_of_a_round_is_exact(void **state)
{
	static const uint32_t weights[] = {4, 8, 20, 4, 12}; // divided by 4: a round is 12
	enum { COUNT = 5, ROUND = 12, PICKS = 20 * ROUND };
	struct scheduler_backend backends[COUNT];
	uint32_t picked[PICKS];

	make_backends(backends, COUNT, weights);
	pick_many(picked, PICKS, backends, COUNT);
	for (uint32_t first = 0; first + ROUND <= PICKS; first++) {
		uint32_t times[COUNT] = {0};

		for (uint32_t i = first; i < first + ROUND; i++)
			times[picked[i]]++;
		for (uint32_t i = 0; i < COUNT; i++)
			assert_int_equal(times[i] * 4, weights[i]);
	}
}

static void equal_weights_take_turns(void **state)
{
	static const uint32_t weights[] = {256, 256, 256, 256};
	struct scheduler_backend backends[4];
	uint32_t picked[4000];

	make_backends(backends, 4, weights);
	pick_many(picked, 4000, backends, 4);
	for (uint32_t i = 0; i < 4000; i++)
		assert_int_equal(picked[i], i % 4);
}

static void array_order_does_not_matter(void **state)
{
	static const uint32_t weights[] = {1, 2, 5, 2, 1};
	struct scheduler_backend backends[5], reversed[5];
	uint32_t picked[22], other[22];

	make_backends(backends, 5, weights);
	for (uint32_t i = 0; i < 5; i++)
		reversed[4 - i] = backends[i];
	pick_many(picked, 22, backends, 5);
	pick_many(other, 22, reversed, 5);
	for (uint32_t i = 0; i < 22; i++)
		assert_int_equal(backends[picked[i]].identity, reversed[other[i]].identity);
}

static void cursors_are_independent(void **state)
{
	static const uint32_t weights[] = {1, 1, 1};
	struct scheduler_backend backends[3];
	struct scheduler_cursor a = {0}, b = {0};

	make_backends(backends, 3, weights);
	void *built = scheduler_round_robin.build(backends, 3);
	for (uint32_t i = 0; i < 9; i++) {
		assert_int_equal(scheduler_round_robin.pick(built, 0, &a), i % 3);
		if (i % 2 == 0)
			assert_int_equal(scheduler_round_robin.pick(built, 0, &b), i / 2 % 3);
	}
	scheduler_round_robin.destroy(built);
	scheduler_round_robin.destroy(NULL);
}

static void cursor_survives_a_shorter_sequence(void **state)
{
	static const uint32_t weights[] = {1, 1, 1, 1};
	struct scheduler_backend backends[4];
	struct scheduler_cursor cursor = {0};

	make_backends(backends, 4, weights);
	void *four = scheduler_round_robin.build(backends, 4);
	void *two = scheduler_round_robin.build(backends, 2);
	for (uint32_t i = 0; i < 3; i++)
		scheduler_round_robin.pick(four, 0, &cursor);
	assert_int_equal(scheduler_round_robin.pick(two, 0, &cursor), 0);
	assert_int_equal(scheduler_round_robin.pick(two, 0, &cursor), 1);
	cursor.position = UINT32_MAX;
	assert_int_equal(scheduler_round_robin.pick(two, 0, &cursor), 0);
	scheduler_round_robin.destroy(four);
	scheduler_round_robin.destroy(two);
}

static void long_round_is_scaled(void **state)
{
	enum { COUNT = 1000, PICKS = 2 * 65536 };
	struct scheduler_backend backends[COUNT];
	uint32_t weights[COUNT], times[COUNT] = {0}, sum = 0;
	static uint32_t picked[PICKS];

	for (uint32_t i = 0; i < COUNT; i++) {
		weights[i] = 1 + i % 256;
		sum += weights[i];
	}
	assert_true(sum > 65536);
	make_backends(backends, COUNT, weights);
	pick_many(picked, PICKS, backends, COUNT);
	for (uint32_t i = 0; i < PICKS; i++)
		times[picked[i]]++;
	for (uint32_t i = 0; i < COUNT; i++) {
		uint32_t fair = (uint64_t)PICKS * weights[i] / sum;

		assert_in_range(times[i], fair > 4 ? fair - 4 : 1, fair + 4); // rounded, twice
	}
}

static void large_weights_with_a_common_divisor_stay_exact(void **state)
{
	static const uint32_t weights[] = {60000, 30000}; // the sum is beyond the longest sequence
	struct scheduler_backend backends[2];
	static uint32_t picked[90000];

	make_backends(backends, 2, weights);
	pick_many(picked, 90000, backends, 2);
	for (uint32_t i = 0; i + 3 <= 90000; i++) // one in each window of three is the second
		assert_int_equal(picked[i] + picked[i + 1] + picked[i + 2], 1);
}

static void smallest_share_is_one_turn(void **state)
{
	static const uint32_t weights[] = {1, 65535, 65535, 65535};
	static uint32_t picked[2 * 65536];
	struct scheduler_backend backends[4];
	uint32_t times[4] = {0};

	make_backends(backends, 4, weights);
	pick_many(picked, 2 * 65536, backends, 4);
	for (uint32_t i = 0; i < 2 * 65536; i++)
		times[picked[i]]++;
	assert_in_range(times[0], 1, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sequence_is_nginxs_smooth_one),
		cmocka_unit_test(sequence_equals_the_plain_algorithm),
		cmocka_unit_test(every_window_of_a_round_is_exact),
		cmocka_unit_test(equal_weights_take_turns),
		cmocka_unit_test(array_order_does_not_matter),
		cmocka_unit_test(cursors_are_independent),
		cmocka_unit_test(cursor_survives_a_shorter_sequence),
		cmocka_unit_test(long_round_is_scaled),
		cmocka_unit_test(large_weights_with_a_common_divisor_stay_exact),
		cmocka_unit_test(smallest_share_is_one_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
