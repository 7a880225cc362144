/* SPDX-License-Identifier: BSD-3-Clause */
/* Schedule and verdict together on a virtual clock: no time passes in these tests. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "probe_schedule.h"
#include "verdict.h"

#define INTERVAL 500
#define TIMEOUT 300
#define RISE 2
#define FALL 3
#define START 1000000

/* One target and the loop that serves it. */
struct target {
	struct schedule schedule;
	struct verdict verdict;
	uint64_t next_ms;
};

static void target_init(struct target *target, uint32_t ordinal)
{
	*target = (struct target){.next_ms = START};
	schedule_init(&target->schedule, INTERVAL, TIMEOUT, ordinal, START);
}

/* One probe that an answer ends `answer_ms` after its start, or else the deadline. Its end. */
static uint64_t probe(struct target *target, bool answers, uint64_t answer_ms)
{
	schedule_start(&target->schedule, target->next_ms, 0);
	uint64_t end_ms =
		answers ? target->next_ms + answer_ms : schedule_deadline(&target->schedule, 0);

	assert_true(schedule_failure_counts(&target->schedule, 0));
	verdict_add(&target->verdict, 0, answers, RISE, FALL);
	target->next_ms = schedule_next(&target->schedule);
	return end_ms;
}

static void first_probe_is_at_once_and_the_next_within_an_interval(void **state)
{
	for (uint32_t ordinal = 0; ordinal < 1000; ordinal++) {
		struct target target;

		target_init(&target, ordinal);
		assert_int_equal(probe(&target, true, 0), START);
		assert_int_equal(target.verdict.state, HEALTH_UP);
		assert_true(target.next_ms > START && target.next_ms <= START + INTERVAL);
	}
}

/* Ordinal 1's phase is 309 ms (500 / golden ratio): its slots are at START - 191, + 309, + 809. */
static void case_d1_verdict_times_are_exact(void **state)
{
	struct target target;

	target_init(&target, 1);
	probe(&target, true, 2);
	assert_int_equal(target.next_ms, START + 309);
	probe(&target, true, 2);
	// It dies at +310, just after a probe: the worst moment.
	assert_int_equal(probe(&target, false, 0), START + 809 + TIMEOUT);
	assert_int_equal(probe(&target, false, 0), START + 1309 + TIMEOUT);
	assert_int_equal(target.verdict.state, HEALTH_UP);
	assert_int_equal(probe(&target, false, 0), START + 1809 + TIMEOUT);
	assert_int_equal(target.verdict.state, HEALTH_DOWN);
	assert_true(1809 + TIMEOUT - 310 <= INTERVAL * FALL + TIMEOUT);
	// D2: it lives again, and is used after rise probes.
	assert_int_equal(probe(&target, true, 2), START + 2309 + 2);
	assert_int_equal(target.verdict.state, HEALTH_DOWN);
	assert_int_equal(probe(&target, true, 2), START + 2809 + 2);
	assert_int_equal(target.verdict.state, HEALTH_UP);
}

static void slots_do_not_drift(void **state)
{
	struct target target;

	target_init(&target, 7);
	probe(&target, true, 1);
	uint64_t first_ms = target.next_ms;
	for (int i = 0; i < 100000; i++) {
		target.next_ms += i % 13; // the loop is a little late each time
		probe(&target, i % 3 != 0, i % 40);
		target.verdict = (struct verdict){HEALTH_UP};
	}
	assert_int_equal(target.next_ms, first_ms + (uint64_t)100000 * INTERVAL);
}

static void missed_slots_collapse_into_one(void **state)
{
	struct target target;

	target_init(&target, 1);
	probe(&target, true, 0);
	assert_int_equal(target.next_ms, START + 309);
	target.next_ms = START + 60000; // the process was halted
	probe(&target, true, 3);
	assert_int_equal(target.next_ms, START + 60309);
}

static void a_timeout_longer_than_the_interval_probes_back_to_back(void **state)
{
	struct schedule schedule;

	schedule_init(&schedule, 500, 600, 0, 1000);
	schedule_start(&schedule, 1000, 0);
	assert_int_equal(schedule_deadline(&schedule, 0), 1600);
	assert_int_equal(schedule_next(&schedule), 1500); // due already: at once
	schedule_start(&schedule, 1600, 0);
	assert_int_equal(schedule_deadline(&schedule, 0), 2200);
	assert_int_equal(schedule_next(&schedule), 2000);
}

static void case_d1_1000_targets_are_spread_over_the_interval(void **state)
{
	unsigned slots[INTERVAL / 10] = {0};

	for (uint32_t ordinal = 0; ordinal < 1000; ordinal++) {
		struct target target;

		target_init(&target, ordinal);
		probe(&target, true, 0);
		slots[target.next_ms % INTERVAL / 10]++;
	}
	for (unsigned i = 0; i < INTERVAL / 10; i++)
		assert_in_range(slots[i], 10, 50);
}

/* The phases of every second, third ... target (one service of several) are spread, too. */
static void any_stride_of_ordinals_is_spread(void **state)
{
	for (unsigned stride = 1; stride <= 64; stride++) {
		unsigned slots[10] = {0};

		for (uint32_t i = 0; i < 1000; i++) {
			struct target target;

			target_init(&target, i * stride);
			probe(&target, true, 0);
			slots[target.next_ms % INTERVAL / 50]++;
		}
		for (unsigned i = 0; i < 10; i++)
			assert_in_range(slots[i], 50, 200);
	}
}

static void watch_counts_lateness_beyond_the_tolerance(void **state)
{
	struct loop_watch watch = {0};

	assert_int_equal(loop_watch_observe(&watch, 5000), 0); // not watching
	loop_watch_beat(&watch, 5000);                         // due at 5020
	assert_int_equal(loop_watch_observe(&watch, 5010), 0);
	assert_int_equal(loop_watch_observe(&watch, 5040), 0); // 20 late: tolerated
	assert_int_equal(loop_watch_observe(&watch, 5041), 21);
	assert_int_equal(loop_watch_observe(&watch, 5041), 21); // not twice
	loop_watch_beat(&watch, 5041);
	assert_int_equal(loop_watch_observe(&watch, 5061), 21);
	assert_int_equal(loop_watch_observe(&watch, 5161), 121);
	loop_watch_stop(&watch);
	assert_int_equal(loop_watch_observe(&watch, 9999), 121);
}

/* The loop was away for 100 of the 300 ms: the backend gets them back. */
static void lost_time_moves_the_deadline(void **state)
{
	struct schedule schedule;

	schedule_init(&schedule, INTERVAL, TIMEOUT, 1, START);
	schedule_start(&schedule, START, 7777);
	assert_int_equal(schedule_deadline(&schedule, 7777), START + 300);
	assert_int_equal(schedule_deadline(&schedule, 7877), START + 400);
	assert_int_equal(schedule_deadline(&schedule, 7777 + 60000), START + 600); // bounded
	assert_true(schedule_failure_counts(&schedule, 7877));
}

/* SIGSTOP for a minute: the failure isn't the backend's, and the probe is repeated in its slot. */
static void case_d16_failure_across_a_halt_is_not_counted(void **state)
{
	struct loop_watch watch = {0};
	struct schedule schedule;

	schedule_init(&schedule, INTERVAL, TIMEOUT, 1, START);
	loop_watch_beat(&watch, START);
	schedule_start(&schedule, START, loop_watch_observe(&watch, START));
	uint64_t lost_ms = loop_watch_observe(&watch, START + 60000);
	assert_int_equal(lost_ms, 60000 - LOOP_BEAT_MS);
	assert_false(schedule_failure_counts(&schedule, lost_ms));
	schedule_repeat(&schedule);
	// The repeated probe meets a loop in time: its failure counts.
	schedule_start(&schedule, START + 60000, lost_ms);
	assert_int_equal(schedule_deadline(&schedule, lost_ms), START + 60300);
	assert_true(schedule_failure_counts(&schedule, lost_ms));
	assert_int_equal(schedule_next(&schedule), START + 60309);
}

/* A loop that is late for ever must not keep a dead backend up. */
static void repeats_are_bounded(void **state)
{
	struct schedule schedule;
	uint64_t lost_ms = 0;
	int repeats = 0;

	schedule_init(&schedule, INTERVAL, TIMEOUT, 1, START);
	for (;; repeats++) {
		schedule_start(&schedule, START, lost_ms);
		lost_ms += 1000;
		if (schedule_failure_counts(&schedule, lost_ms))
			break;
		schedule_repeat(&schedule);
	}
	assert_int_equal(repeats, 3);
	schedule_next(&schedule);
	schedule_start(&schedule, START, lost_ms);
	// The next slot has repeats of its own.
	assert_false(schedule_failure_counts(&schedule, lost_ms + 1000));
}

static void pace_bounds_bursts(void **state)
{
	struct pace pace = {0};
	unsigned started = 0;

	for (uint64_t now_ms = START; now_ms < START + 100; now_ms++)
		for (int i = 0; i < 1000; i++)
			started += pace_allows(&pace, now_ms);
	assert_int_equal(started, 100 / PACE_WINDOW_MS * PACE_BURST);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(first_probe_is_at_once_and_the_next_within_an_interval),
		cmocka_unit_test(case_d1_verdict_times_are_exact),
		cmocka_unit_test(slots_do_not_drift),
		cmocka_unit_test(missed_slots_collapse_into_one),
		cmocka_unit_test(a_timeout_longer_than_the_interval_probes_back_to_back),
		cmocka_unit_test(case_d1_1000_targets_are_spread_over_the_interval),
		cmocka_unit_test(any_stride_of_ordinals_is_spread),
		cmocka_unit_test(watch_counts_lateness_beyond_the_tolerance),
		cmocka_unit_test(lost_time_moves_the_deadline),
		cmocka_unit_test(case_d16_failure_across_a_halt_is_not_counted),
		cmocka_unit_test(repeats_are_bounded),
		cmocka_unit_test(pace_bounds_bursts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
