/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "scheduler.h"

enum { MAX = 1000, PICKS = 100000 };

/* A service of so many backends, and what is open on each. */
struct service {
	uint32_t count;
	uint32_t active[MAX];
	uint32_t ids[MAX];
	uint32_t picked[MAX];
	struct scheduler_load load;
	struct scheduler_cursor cursor;
	void *built;
};

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}

static void service_init(struct service *service, const uint32_t *weights, uint32_t count)
{
	struct scheduler_backend backends[MAX];

	*service = (struct service){.count = count};
	for (uint32_t i = 0; i < count; i++) {
		backends[i] = (struct scheduler_backend){i, weights[i]};
		service->ids[i] = count - 1 - i; // not the index
	}
	service->load = (struct scheduler_load){.active = service->active, .ids = service->ids};
	service->built = scheduler_least_conn.build(backends, count);
	assert_non_null(service->built);
}

static uint32_t service_open(struct service *service)
{
	uint32_t index =
		scheduler_least_conn.pick_by_load(service->built, &service->load, &service->cursor);

	assert_in_range(index, 0, service->count - 1);
	service->active[service->ids[index]]++;
	service->picked[index]++;
	return index;
}

static void service_close(struct service *service, uint32_t index)
{
	service->active[service->ids[index]]--;
}

static void service_fini(struct service *service)
{
	scheduler_least_conn.destroy(service->built);
}

static const uint32_t one_two_five[] = {1, 2, 5};

static void assert_one_two_five(const struct service *service) // within 2 %
{
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t fair = PICKS / 8 * one_two_five[i];
		assert_in_range(service->picked[i], fair * 98 / 100, fair * 102 / 100);
	}
}

static void open_connections_follow_the_weights(void **state)
{
	struct service service;

	service_init(&service, one_two_five, 3);
	for (uint32_t i = 0; i < PICKS; i++)
		service_open(&service);
	assert_one_two_five(&service);
	service_fini(&service);
}

static void connections_that_close_at_once_follow_the_weights(void **state)
{
	struct service service;

	service_init(&service, one_two_five, 3);
	for (uint32_t i = 0; i < PICKS; i++)
		service_close(&service, service_open(&service));
	assert_one_two_five(&service);
	service_fini(&service);
}

static void connections_of_random_length_follow_the_weights(void **state)
{
	static uint32_t open[800];
	uint64_t seed = 1;
	struct service service;

	service_init(&service, one_two_five, 3);
	for (uint32_t i = 0; i < 800; i++)
		open[i] = service_open(&service);
	for (uint32_t i = 800; i < PICKS; i++) {
		uint32_t *one = &open[random_next(&seed) % 800];
		service_close(&service, *one);
		*one = service_open(&service);
	}
	assert_one_two_five(&service);
	service_fini(&service);
}

static void idle_backend_catches_up_first(void **state)
{
	static const uint32_t weights[] = {1, 1, 2};
	struct service service;

	service_init(&service, weights, 3);
	service.active[service.ids[0]] = 10;
	service.active[service.ids[2]] = 40;
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(service_open(&service), 1);
	// Now 10, 10, 40: the first two, by turns, until all have 20 a weight.
	for (uint32_t i = 0; i < 20; i++)
		assert_int_not_equal(service_open(&service), 2);
	assert_int_equal(service.active[service.ids[0]], 20);
	assert_int_equal(service.active[service.ids[1]], 20);
	service_fini(&service);
}

static void full_backends_are_passed_over(void **state)
{
	static const uint32_t weights[] = {1, 1, 1}, limits[] = {2, 0, 5};
	struct service service;

	service_init(&service, weights, 3);
	service.load.limits = limits;
	for (uint32_t i = 0; i < 30; i++)
		service_open(&service);
	assert_int_equal(service.picked[0], 2);
	assert_int_equal(service.picked[1], 23);
	assert_int_equal(service.picked[2], 5);
	service_fini(&service);
}

static void any_is_picked_when_all_are_full(void **state)
{
	static const uint32_t weights[] = {1, 256}, limits[] = {1, 1};
	struct service service;

	service_init(&service, weights, 2);
	service.load.limits = limits;
	for (uint32_t i = 0; i < 10; i++)
		service_open(&service); // which checks the index
	service_fini(&service);
}

/* More backends than are compared at a time. */
static void large_service_is_even(void **state)
{
	uint32_t weights[MAX];
	uint64_t seed = 2;
	struct service service;

	for (uint32_t i = 0; i < MAX; i++)
		weights[i] = 1 + i % 2;
	service_init(&service, weights, MAX);
	for (uint32_t i = 0; i < MAX; i++)
		service.active[i] = random_next(&seed) % 20; // what was there before
	for (uint32_t i = 0; i < PICKS; i++)
		service_open(&service);
	uint32_t fair = (PICKS + MAX * 20 / 2) / (MAX * 3 / 2);
	for (uint32_t i = 0; i < MAX; i++)
		assert_in_range(service.active[service.ids[i]], fair * weights[i] - 6,
			fair * weights[i] + 6);
	service_fini(&service);
}

static void destroy_takes_nothing(void **state)
{
	scheduler_least_conn.destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(open_connections_follow_the_weights),
		cmocka_unit_test(connections_that_close_at_once_follow_the_weights),
		cmocka_unit_test(connections_of_random_length_follow_the_weights),
		cmocka_unit_test(idle_backend_catches_up_first),
		cmocka_unit_test(full_backends_are_passed_over),
		cmocka_unit_test(any_is_picked_when_all_are_full),
		cmocka_unit_test(large_service_is_even),
		cmocka_unit_test(destroy_takes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
