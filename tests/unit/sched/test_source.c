/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler.h"

enum { CLIENTS = 100000, MAX = 11 };

static void make_backends(struct scheduler_backend *backends, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		backends[i] = (struct scheduler_backend){(i + 1) * 0x9e3779b97f4a7c15, 1};
}

/* The backend of each client: neighbours by address, as those of one network are. */
static void pick_all(uint16_t *picked, const struct scheduler_backend *backends, uint32_t count)
{
	struct scheduler_cursor cursor = {0};
	void *built = scheduler_source.build(backends, count);

	assert_non_null(built);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		uint32_t addr = htonl(0x0a000000 + i);
		picked[i] = scheduler_source.pick(
			built, scheduler_source_hash(&addr, sizeof(addr)), &cursor);
		assert_in_range(picked[i], 0, count - 1);
	}
	scheduler_source.destroy(built);
}

static void shares_follow_the_weights(void **state) // 1:2:5 within 2 % over 10^5 clients
{
	struct scheduler_backend backends[3];
	static uint16_t picked[CLIENTS];
	uint32_t times[3] = {0};

	make_backends(backends, 3);
	backends[1].weight = 2;
	backends[2].weight = 5;
	pick_all(picked, backends, 3);
	for (uint32_t i = 0; i < CLIENTS; i++)
		times[picked[i]]++;
	assert_in_range(times[0], 12500 * 98 / 100, 12500 * 102 / 100);
	assert_in_range(times[1], 25000 * 98 / 100, 25000 * 102 / 100);
	assert_in_range(times[2], 62500 * 98 / 100, 62500 * 102 / 100);
}

static void removed_backend_moves_its_own_clients(void **state) // case D5
{
	struct scheduler_backend backends[MAX];
	static uint16_t all[CLIENTS], rest[CLIENTS];
	uint32_t own = 0, others = 0;

	make_backends(backends, MAX);
	pick_all(all, backends, MAX);
	pick_all(rest, backends + 1, MAX - 1);
	for (uint32_t i = 0; i < CLIENTS; i++) {
		if (all[i] == 0)
			own++;
		else if (rest[i] + 1 != all[i])
			others++;
	}
	assert_in_range(own, CLIENTS / MAX * 97 / 100, CLIENTS / MAX * 103 / 100);
	assert_in_range(others, 0, CLIENTS * 7 / 1000); // Maglev's trace
}

/* Known answers from splitmix64.c (Vigna), the generator's first output with the seed as address:
 * the same on every machine and in every release, or clients would move at an upgrade. */
static void hash_never_changes(void **state)
{
	static const uint8_t zero[4] = {0}, v4[4] = {0x49, 0x96, 0x02, 0xd2}; // 1234567890
	static const uint8_t first[16] = {0}, second[16] = {[15] = 1};

	assert_int_equal(scheduler_source_hash(zero, 4), 0xe220a8397b1dcdaf);
	assert_int_equal(scheduler_source_hash(v4, 4), 0x476948b80f74962f);
	assert_int_not_equal(scheduler_source_hash(first, 16), scheduler_source_hash(second, 16));
}

/* Every bit of an IPv6 address counts. */
static void ipv6_addresses_spread(void **state)
{
	uint32_t buckets[128] = {0};

	for (uint32_t i = 0; i < CLIENTS; i++) {
		uint8_t addr[16] = {0x20, 0x01, 0x0d, 0xb8};
		uint32_t at = i % 3 * 4 + 4; // in one of three words

		addr[at] = i >> 16;
		addr[at + 1] = i >> 8;
		addr[at + 3] = i;
		buckets[scheduler_source_hash(addr, 16) % 65537 / 512 % 128]++;
	}
	for (uint32_t i = 0; i < 128; i++)
		assert_in_range(buckets[i], CLIENTS / 128 * 80 / 100, CLIENTS / 128 * 120 / 100);
}

static void scheduler_says_what_it_needs(void **state)
{
	assert_true(scheduler_source.by_source);
	assert_false(scheduler_maglev.by_source);
	assert_null(scheduler_source.pick_by_load);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shares_follow_the_weights),
		cmocka_unit_test(removed_backend_moves_its_own_clients),
		cmocka_unit_test(hash_never_changes),
		cmocka_unit_test(ipv6_addresses_spread),
		cmocka_unit_test(scheduler_says_what_it_needs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
