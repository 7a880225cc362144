/* SPDX-License-Identifier: BSD-3-Clause */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "exception_budget.h"

#define SECOND UINT64_C(1000000000)

/* Take all that may pass, `steps` times a second for `seconds`; how many passed. */
static uint64_t drain(struct exception_budget *budget, unsigned steps, unsigned seconds)
{
	uint64_t start = budget->then, passed = 0;

	for (uint64_t step = 1; step <= (uint64_t)steps * seconds; step++) {
		exception_budget_refill(budget, start + step * SECOND / steps);
		uint64_t packets = exception_budget_packets(budget);
		exception_budget_take(budget, packets);
		passed += packets;
	}
	return passed;
}

static void test_burst_is_a_tenth_of_a_second(void **state)
{
	struct exception_budget budget;

	exception_budget_init(&budget, 20000, 5);
	assert_int_equal(exception_budget_packets(&budget), 2000);
	exception_budget_init(&budget, 100, 5);
	assert_int_equal(exception_budget_packets(&budget), EXCEPTION_BUDGET_BURST_MIN);
}

static void test_rate_is_exact_however_often_one_looks(void **state)
{
	static const unsigned steps[] = {10, 999, 1000, 3001, 100000};
	struct exception_budget budget;

	for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		exception_budget_init(&budget, 1000, 7);
		exception_budget_take(&budget, exception_budget_packets(&budget));
		assert_in_range(drain(&budget, steps[i], 10), 9999, 10000);
	}
}

static void test_credit_is_capped_after_a_long_sleep(void **state)
{
	static const unsigned rates[] = {1, 1000, 20000, 10000000, UINT_MAX};
	struct exception_budget budget;

	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		exception_budget_init(&budget, rates[i], 0);
		uint64_t burst = exception_budget_packets(&budget);
		exception_budget_take(&budget, burst);
		exception_budget_refill(&budget, UINT64_MAX / 2);
		assert_int_equal(exception_budget_packets(&budget), burst);
	}
}

static void test_wait_ends_when_a_packet_may_pass(void **state)
{
	struct exception_budget budget;

	exception_budget_init(&budget, 100, 0);
	assert_int_equal(exception_budget_wait_ms(&budget), 0);
	exception_budget_take(&budget, exception_budget_packets(&budget));
	int wait_ms = exception_budget_wait_ms(&budget);
	assert_in_range(wait_ms, 10, 11);
	exception_budget_refill(&budget, wait_ms * SECOND / 1000);
	assert_int_equal(exception_budget_packets(&budget), 1);
}

static void test_rate_zero_passes_nothing(void **state)
{
	struct exception_budget budget;

	exception_budget_init(&budget, 0, 0);
	exception_budget_refill(&budget, 100 * SECOND);
	assert_int_equal(exception_budget_packets(&budget), 0);
	assert_int_equal(exception_budget_wait_ms(&budget), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_burst_is_a_tenth_of_a_second),
		cmocka_unit_test(test_rate_is_exact_however_often_one_looks),
		cmocka_unit_test(test_credit_is_capped_after_a_long_sleep),
		cmocka_unit_test(test_wait_ends_when_a_packet_may_pass),
		cmocka_unit_test(test_rate_zero_passes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
