/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler.h"

enum { NB_SLOTS = 65537, MAX = 1001 };

/* Fractions of the table are compared in millionths. */
enum { MILLION = 1000000, PERCENT = 10000 };

static uint64_t splitmix_next(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

/* Backends of weight 1. */
static void make_backends(struct scheduler_backend *backends, uint32_t count, uint64_t seed)
{
	for (uint32_t i = 0; i < count; i++)
		backends[i] = (struct scheduler_backend){splitmix_next(&seed), 1};
}

/* The whole table: a hash below the number of slots picks the slot of that number. */
static void read_table(uint16_t *table, const struct scheduler_backend *backends, uint32_t count)
{
	struct scheduler_cursor cursor = {0};
	void *built = scheduler_maglev.build(backends, count);

	assert_non_null(built);
	for (uint32_t slot = 0; slot < NB_SLOTS; slot++) {
		uint32_t index = scheduler_maglev.pick(built, slot, &cursor);

		assert_in_range(index, 0, count - 1);
		table[slot] = index;
	}
	scheduler_maglev.destroy(built);
}

/* Slots that two tables give to different backends, in millionths. */
struct moved {
	uint32_t own;    // to or from the backend that changed
	uint32_t others; // between backends that did not
};

/* `shift`: what is to be added to the indices of `after`. */
static struct moved compare(
	const uint16_t *before, const uint16_t *after, uint32_t shift, uint32_t changed)
{
	struct moved moved = {0};

	for (uint32_t slot = 0; slot < NB_SLOTS; slot++) {
		uint32_t from = before[slot], to = after[slot] + shift;

		if (from != to)
			*(from == changed || to == changed ? &moved.own : &moved.others) += 1;
	}
	moved.own = (uint64_t)moved.own * MILLION / NB_SLOTS;
	moved.others = (uint64_t)moved.others * MILLION / NB_SLOTS;
	return moved;
}

/* The largest share over the mean, less 1, in millionths. */
static uint32_t imbalance(const uint16_t *table, uint32_t count)
{
	uint32_t slots[MAX] = {0}, most = 0;

	for (uint32_t slot = 0; slot < NB_SLOTS; slot++) {
		if (++slots[table[slot]] > most)
			most = slots[table[slot]];
	}
	return (uint64_t)most * count * MILLION / NB_SLOTS - MILLION;
}

/* Known answers from maglev_reference.py, the paper's pseudo code. */
static void table_is_the_papers(void **state) // case D5
{
	static const struct {
		uint32_t count, weights;
		uint64_t hash;
	} known[] = {
		{1, 1, 0x2eb6d472ee536fed},
		{3, 1, 0x12dcf3b652aa548f},
		{100, 1, 0xefaad9c67511dfad},
		{4, 5, 0x8f9448455c44aa05},
		{100, 5, 0xba5ce3dee7c19f5e},
	};
	struct scheduler_backend backends[MAX];
	static uint16_t table[NB_SLOTS];

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint64_t hash = 0xcbf29ce484222325;

		make_backends(backends, known[i].count, 1);
		for (uint32_t j = 0; j < known[i].count; j++)
			backends[j].weight = 1 + j % known[i].weights;
		read_table(table, backends, known[i].count);
		for (uint32_t slot = 0; slot < NB_SLOTS; slot++) {
			hash = (hash ^ (table[slot] & 0xff)) * 0x100000001b3;
			hash = (hash ^ (table[slot] >> 8)) * 0x100000001b3;
		}
		assert_int_equal(hash, known[i].hash);
	}
}

static void backend_removed_or_added_moves_few_others(void **state) // case D5
{
	static const uint32_t counts[] = {2, 3, 4, 10, 100, 1000};
	struct scheduler_backend backends[MAX];
	static uint16_t all[NB_SLOTS], rest[NB_SLOTS];

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint32_t count = counts[i];

		for (uint64_t seed = 0; seed < 10; seed++) {
			// Added or removed: the two tables are the same.
			make_backends(backends, count + 1, seed + 1000 * count);
			read_table(all, backends, count + 1);
			read_table(rest, backends + 1, count);
			struct moved moved = compare(all, rest, 1, 0);

			assert_in_range(moved.own, MILLION / (count + 1) - MILLION / NB_SLOTS * 2,
				MILLION / (count + 1) + MILLION / NB_SLOTS * 2);
			assert_in_range(moved.others, 0, 7 * PERCENT / 10);
			assert_in_range(
				imbalance(rest, count), 0, count <= 100 ? PERCENT / 5 : PERCENT);
		}
	}
}

static void array_order_does_not_matter(void **state)
{
	struct scheduler_backend backends[100], shuffled[100];
	static uint16_t table[NB_SLOTS], other[NB_SLOTS];
	uint64_t seed = 5;

	make_backends(backends, 100, 6);
	for (uint32_t i = 0; i < 100; i++)
		backends[i].weight = 1 + i % 3;
	memcpy(shuffled, backends, sizeof(backends));
	for (uint32_t i = 99; i > 0; i--) {
		uint32_t j = splitmix_next(&seed) % (i + 1);
		struct scheduler_backend swapped = shuffled[i];

		shuffled[i] = shuffled[j];
		shuffled[j] = swapped;
	}
	read_table(table, backends, 100);
	read_table(other, shuffled, 100);
	for (uint32_t slot = 0; slot < NB_SLOTS; slot++)
		assert_int_equal(backends[table[slot]].identity, shuffled[other[slot]].identity);
}

static void weights_set_the_shares(void **state) // 1:2:5 within 2 % over 10^5 flows
{
	struct scheduler_backend backends[3];
	uint32_t picked[3] = {0};
	uint64_t seed = 7;

	make_backends(backends, 3, 8);
	backends[1].weight = 2;
	backends[2].weight = 5;
	void *built = scheduler_maglev.build(backends, 3);
	for (uint32_t i = 0; i < 100000; i++)
		picked[scheduler_maglev.pick(built, splitmix_next(&seed), NULL)]++;
	scheduler_maglev.destroy(built);
	assert_in_range(picked[0], 12500 * 98 / 100, 12500 * 102 / 100);
	assert_in_range(picked[1], 25000 * 98 / 100, 25000 * 102 / 100);
	assert_in_range(picked[2], 62500 * 98 / 100, 62500 * 102 / 100);
}

static void slots_follow_the_weights_within_one(void **state)
{
	struct scheduler_backend backends[200];
	static uint16_t table[NB_SLOTS];
	uint32_t slots[200] = {0}, sum = 0;
	uint64_t seed = 9;

	make_backends(backends, 200, 10);
	for (uint32_t i = 0; i < 200; i++) {
		backends[i].weight = 1 + splitmix_next(&seed) % 256;
		sum += backends[i].weight;
	}
	read_table(table, backends, 200);
	for (uint32_t slot = 0; slot < NB_SLOTS; slot++)
		slots[table[slot]]++;
	for (uint32_t i = 0; i < 200; i++)
		assert_in_range(slots[i], (uint64_t)NB_SLOTS * backends[i].weight / sum - 1,
			(uint64_t)NB_SLOTS * backends[i].weight / sum + 2);
}

/* Besides the share that must move, D5's bound, or a fifth of that share when it is large. */
static void weight_change_moves_its_share(void **state)
{
	static const struct {
		uint32_t count, others, from, to;
	} changes[] = {
		{3, 1, 1, 2},
		{3, 100, 100, 10},
		{10, 1, 1, 2},
		{10, 2, 2, 1},
		{10, 100, 100, 101},
		{10, 1, 1, 256},
		{100, 1, 1, 2},
		{100, 100, 100, 101},
		{100, 100, 100, 50},
		{100, 256, 256, 1},
		{100, 1, 1, 256},
		{1000, 1, 1, 2},
		{1000, 100, 100, 99},
		{1000, 1, 1, 256},
	};
	struct scheduler_backend backends[MAX];
	static uint16_t before[NB_SLOTS], after[NB_SLOTS];

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		uint32_t count = changes[i].count, from = changes[i].from, to = changes[i].to;
		uint64_t rest = (uint64_t)changes[i].others * (count - 1);
		int64_t share = (int64_t)(MILLION * to / (rest + to)) -
			(int64_t)(MILLION * from / (rest + from));

		make_backends(backends, count, 11 + i);
		for (uint32_t j = 1; j < count; j++)
			backends[j].weight = changes[i].others;
		backends[0].weight = from;
		read_table(before, backends, count);
		backends[0].weight = to;
		read_table(after, backends, count);
		struct moved moved = compare(before, after, 0, 0);

		uint32_t must = share < 0 ? -share : share;
		uint32_t rounding = (count / 2 + 2) * (MILLION / NB_SLOTS + 1); // of each share
		assert_in_range(
			moved.own, must > rounding ? must - rounding : 0, must + 7 * PERCENT / 10);
		assert_in_range(moved.others, 0, 7 * PERCENT / 10 + must / 5);
	}
}

static void weight_may_be_scaled_without_moving_more_than_a_trace(void **state)
{
	struct scheduler_backend backends[10];
	static uint16_t before[NB_SLOTS], after[NB_SLOTS];

	make_backends(backends, 10, 12);
	for (uint32_t i = 0; i < 10; i++)
		backends[i].weight = 1 + i;
	read_table(before, backends, 10);
	for (uint32_t i = 0; i < 10; i++)
		backends[i].weight *= 100;
	read_table(after, backends, 10);
	assert_in_range(compare(before, after, 0, 0).others, 0, PERCENT / 5);
}

static void everyone_has_a_slot(void **state)
{
	struct scheduler_backend *backends =
		calloc(SCHEDULER_MAX_BACKENDS, sizeof(struct scheduler_backend));
	static uint16_t table[NB_SLOTS];
	static bool seen[SCHEDULER_MAX_BACKENDS];

	assert_non_null(backends);
	make_backends(backends, SCHEDULER_MAX_BACKENDS, 13);
	for (uint32_t i = 0; i < SCHEDULER_MAX_BACKENDS; i += 2)
		backends[i].weight = SCHEDULER_MAX_WEIGHT;
	read_table(table, backends, SCHEDULER_MAX_BACKENDS);
	for (uint32_t slot = 0; slot < NB_SLOTS; slot++)
		seen[table[slot]] = true;
	for (uint32_t i = 0; i < SCHEDULER_MAX_BACKENDS; i++)
		assert_true(seen[i]);
	free(backends);
}

static void single_backend_has_all_slots(void **state)
{
	static const struct scheduler_backend backend = {0, 256};
	static uint16_t table[NB_SLOTS];

	read_table(table, &backend, 1); // which checks the index
	void *built = scheduler_maglev.build(&backend, 1);
	assert_int_equal(scheduler_maglev.pick(built, UINT64_MAX, NULL), 0);
	scheduler_maglev.destroy(built);
	scheduler_maglev.destroy(NULL);
}

/* The checks are common to all schedulers. */
static void bad_input_is_refused(void **state)
{
	struct scheduler_backend *backends = calloc(NB_SLOTS, sizeof(*backends));
	static const char *names[] = {"maglev", "round_robin", "least_conn", "source"};

	assert_non_null(backends);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const struct scheduler_ops *ops = scheduler_find(names[i]);

		assert_string_equal(ops->name, names[i]);
		make_backends(backends, NB_SLOTS, 14);
		errno = 0;
		assert_null(ops->build(backends, 0));
		assert_int_equal(errno, EINVAL);
		assert_null(ops->build(backends, NB_SLOTS));
		assert_int_equal(errno, E2BIG);
		backends[1].identity = backends[3].identity;
		backends[1].weight = 2;
		assert_null(ops->build(backends, 4));
		assert_int_equal(errno, EEXIST);
		backends[3].weight = 0;
		assert_null(ops->build(backends, 4));
		assert_int_equal(errno, EINVAL);
		backends[3].weight = SCHEDULER_MAX_WEIGHT + 1;
		assert_null(ops->build(backends, 4));
		assert_int_equal(errno, EINVAL);
	}
	assert_null(scheduler_find("random"));
	free(backends);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table_is_the_papers),
		cmocka_unit_test(backend_removed_or_added_moves_few_others),
		cmocka_unit_test(array_order_does_not_matter),
		cmocka_unit_test(weights_set_the_shares),
		cmocka_unit_test(slots_follow_the_weights_within_one),
		cmocka_unit_test(weight_change_moves_its_share),
		cmocka_unit_test(weight_may_be_scaled_without_moving_more_than_a_trace),
		cmocka_unit_test(everyone_has_a_slot),
		cmocka_unit_test(single_backend_has_all_slots),
		cmocka_unit_test(bad_input_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
