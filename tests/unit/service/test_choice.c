/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "service_choice.h"

enum { COUNT = 4, NOW_MS = 100000000 };

/* Four usable primaries of weight 1 to 4, up for long; ids 10 to 13. */
static void make_members(struct service_member *members)
{
	for (uint32_t i = 0; i < COUNT; i++)
		members[i] = (struct service_member){
			.id = 10 + i, .identity = 100 + i, .weight = 1 + i, .usable = true};
}

/* `bits`: of the members that are expected. */
static void assert_choices(
	const struct service_choices *choices, const struct service_member *members, unsigned bits)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < COUNT; i++) {
		if (!(bits >> i & 1))
			continue;
		assert_true(at < choices->count);
		assert_int_equal(choices->ids[at], members[i].id);
		assert_int_equal(choices->weights[at].identity, members[i].identity);
		assert_int_equal(choices->weights[at].weight, members[i].weight);
		at++;
	}
	assert_int_equal(choices->count, at);
}

/* Of the members that are to get connections, and of the backups behind them. */
static void assert_chosen(
	const struct service_member *members, unsigned bits, unsigned behind, bool on_backups)
{
	struct service_choice choice;

	assert_int_equal(service_choice_init(&choice, members, COUNT, NOW_MS), 0);
	assert_choices(&choice.candidates, members, bits);
	assert_choices(&choice.backups, members, behind);
	assert_int_equal(choice.on_backups, on_backups);
	assert_int_equal(choice.next_ms, 0);
	service_choice_fini(&choice);
}

static void usable_ones_are_chosen(void **state)
{
	struct service_member members[COUNT];

	make_members(members);
	assert_chosen(members, 0xf, 0, false);
	members[1].usable = false;
	members[2].weight = 0;
	assert_chosen(members, 0x9, 0, false);
	members[0].usable = members[3].usable = false;
	assert_chosen(members, 0, 0, false);
}

static void backups_stand_behind_primaries_and_take_their_place(void **state) // E35
{
	struct service_member members[COUNT];

	make_members(members);
	members[1].backup = members[3].backup = true;
	assert_chosen(members, 0x5, 0xa, false);
	members[0].usable = false;
	assert_chosen(members, 0x4, 0xa, false);
	members[2].usable = false;
	assert_chosen(members, 0xa, 0, true); // both take over
	members[1].usable = false;
	assert_chosen(members, 0x8, 0, true);
	members[2].usable = true;
	assert_chosen(members, 0x4, 0x8, false); // and give back
	members[2].weight = 0;                   // may have no connections, so it doesn't serve
	assert_chosen(members, 0x8, 0, true);
	members[3].usable = false;
	assert_chosen(members, 0, 0, false);
	members[2].weight = 3;
	members[3].usable = true;
	members[3].weight = 0; // nor does a backup
	assert_chosen(members, 0x4, 0, false);
}

static void limits_are_told_when_there_are_any(void **state)
{
	struct service_member members[COUNT];
	struct service_choice choice;

	make_members(members);
	members[1].max_conns = 7;
	members[2].usable = false;
	assert_int_equal(service_choice_init(&choice, members, COUNT, NOW_MS), 0);
	assert_int_equal(choice.candidates.limits[0], 0);
	assert_int_equal(choice.candidates.limits[1], 7);
	assert_int_equal(choice.candidates.limits[2], 0);
	service_choice_fini(&choice);
	members[1].usable = false; // the only one with a limit
	assert_int_equal(service_choice_init(&choice, members, COUNT, NOW_MS), 0);
	assert_null(choice.candidates.limits);
	service_choice_fini(&choice);
	// A backup's is no reason to look for those of the others.
	members[3].backup = true;
	members[3].max_conns = 9;
	assert_int_equal(service_choice_init(&choice, members, COUNT, NOW_MS), 0);
	assert_null(choice.candidates.limits);
	assert_int_equal(choice.backups.limits[0], 9);
	service_choice_fini(&choice);
}

/* Follow the steps as the control core's timer does, from the moment at which a member came up. */
static void weight_grows_from_a_tenth_to_the_whole(void **state)
{
	static const uint32_t durations_ms[] = {1, 7, 9, 1000, 60000, 3600000};
	struct service_member members[COUNT];
	struct service_choice choice;

	for (size_t d = 0; d < sizeof(durations_ms) / sizeof(durations_ms[0]); d++) {
		uint64_t now_ms = NOW_MS;
		uint32_t tenths = 0, steps = 0;

		make_members(members);
		members[2].slow_start_ms = durations_ms[d];
		members[2].up_since_ms = NOW_MS;
		members[3].slow_start_ms = durations_ms[d]; // up for long
		for (;;) {
			assert_int_equal(service_choice_init(&choice, members, COUNT, now_ms), 0);
			if (choice.next_ms == 0)
				break;
			assert_in_range(service_member_tenths(&members[2], now_ms), tenths + 1, 9);
			tenths = service_member_tenths(&members[2], now_ms);
			assert_int_equal(choice.candidates.weights[2].weight, 3 * tenths);
			assert_int_equal(choice.candidates.weights[3].weight, 4 * 10);
			assert_int_equal(choice.candidates.weights[0].weight, 1 * 10);
			// Nothing changes a moment earlier, and the next step is to come.
			assert_int_equal(
				service_member_tenths(&members[2], choice.next_ms - 1), tenths);
			assert_true(choice.next_ms > now_ms);
			assert_true(++steps < 10);
			now_ms = choice.next_ms;
			service_choice_fini(&choice);
		}
		for (uint32_t i = 0; i < COUNT; i++)
			assert_int_equal(choice.candidates.weights[i].weight, members[i].weight);
		assert_int_equal(now_ms, NOW_MS + durations_ms[d]);
		service_choice_fini(&choice);
	}
}

static void slow_start_begins_at_a_tenth_and_is_linear(void **state)
{
	struct service_member member = {.slow_start_ms = 9000, .up_since_ms = NOW_MS};

	for (uint32_t tenths = 1; tenths < 10; tenths++) {
		assert_int_equal(
			service_member_tenths(&member, NOW_MS + (tenths - 1) * 1000), tenths);
		assert_int_equal(
			service_member_tenths(&member, NOW_MS + tenths * 1000 - 1), tenths);
	}
	assert_int_equal(service_member_tenths(&member, NOW_MS + 9000), 10);
	assert_int_equal(service_member_tenths(&member, NOW_MS - 1), 1); // a clock read earlier
	member.slow_start_ms = 0;
	assert_int_equal(service_member_tenths(&member, NOW_MS), 10);
}

static void earliest_step_of_several_comes_first(void **state)
{
	struct service_member members[COUNT];
	struct service_choice choice;

	make_members(members);
	members[0].slow_start_ms = 9000;
	members[0].up_since_ms = NOW_MS - 500; // at NOW + 500
	members[1].slow_start_ms = 900;
	members[1].up_since_ms = NOW_MS - 10; // at NOW + 90
	members[2].slow_start_ms = 90;
	members[2].up_since_ms = NOW_MS; // at NOW + 10, but it isn't usable
	members[2].usable = false;
	assert_int_equal(service_choice_init(&choice, members, COUNT, NOW_MS), 0);
	assert_int_equal(choice.next_ms, NOW_MS + 90);
	service_choice_fini(&choice);
}

/* Weights are scaled while one of the same schedule grows. */
static void a_backup_grows_among_its_own(void **state) // E35
{
	struct service_member members[COUNT];
	struct service_choice choice;

	make_members(members);
	members[2].backup = members[3].backup = true;
	members[3].slow_start_ms = 900;
	members[3].up_since_ms = NOW_MS - 10; // at NOW + 90
	assert_int_equal(service_choice_init(&choice, members, COUNT, NOW_MS), 0);
	assert_int_equal(choice.next_ms, NOW_MS + 90);
	assert_int_equal(choice.candidates.weights[0].weight, 1);
	assert_int_equal(choice.candidates.weights[1].weight, 2);
	assert_int_equal(choice.backups.weights[0].weight, 3 * 10);
	assert_int_equal(choice.backups.weights[1].weight, 4);
	service_choice_fini(&choice);
	members[0].slow_start_ms = 900;
	members[0].up_since_ms = NOW_MS - 50; // earlier
	assert_int_equal(service_choice_init(&choice, members, COUNT, NOW_MS), 0);
	assert_int_equal(choice.next_ms, NOW_MS + 50);
	assert_int_equal(choice.candidates.weights[1].weight, 2 * 10);
	service_choice_fini(&choice);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(usable_ones_are_chosen),
		cmocka_unit_test(backups_stand_behind_primaries_and_take_their_place),
		cmocka_unit_test(limits_are_told_when_there_are_any),
		cmocka_unit_test(weight_grows_from_a_tenth_to_the_whole),
		cmocka_unit_test(slow_start_begins_at_a_tenth_and_is_linear),
		cmocka_unit_test(earliest_step_of_several_comes_first),
		cmocka_unit_test(a_backup_grows_among_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
