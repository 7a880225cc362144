/* SPDX-License-Identifier: BSD-3-Clause */
#include "probe_schedule.h"

#define REPEATS_MAX 3

void loop_watch_beat(struct loop_watch *watch, uint64_t now_ms)
{
	watch->due_ms = now_ms + LOOP_BEAT_MS;
}

void loop_watch_stop(struct loop_watch *watch)
{
	watch->due_ms = 0;
}

uint64_t loop_watch_observe(struct loop_watch *watch, uint64_t now_ms)
{
	if (watch->due_ms != 0 && now_ms > watch->due_ms + LOOP_TOLERANCE_MS) {
		watch->lost_ms += now_ms - watch->due_ms;
		watch->due_ms = now_ms; // counted up to here; the beat itself is still to come
	}
	return watch->lost_ms;
}

void loop_watch_lose(struct loop_watch *watch, unsigned ms)
{
	watch->lost_ms += ms;
}

void schedule_init(struct schedule *schedule, unsigned interval_ms, unsigned timeout_ms,
	uint32_t ordinal, uint64_t now_ms)
{
	uint32_t fraction = ordinal * UINT32_C(2654435769); // 2^32 / golden ratio (Knuth 6.4)
	uint64_t phase_ms = (uint64_t)fraction * interval_ms >> 32;
	uint64_t age_ms = (now_ms % interval_ms + interval_ms - phase_ms) % interval_ms;

	*schedule = (struct schedule){
		.interval_ms = interval_ms,
		.timeout_ms = timeout_ms,
		.slot_ms = now_ms >= age_ms ? now_ms - age_ms : now_ms,
	};
}

void schedule_start(struct schedule *schedule, uint64_t now_ms, uint64_t lost_ms)
{
	if (now_ms > schedule->slot_ms)
		schedule->slot_ms += (now_ms - schedule->slot_ms) / schedule->interval_ms *
			schedule->interval_ms;
	schedule->started_ms = now_ms;
	schedule->lost_ms = lost_ms;
}

uint64_t schedule_deadline(const struct schedule *schedule, uint64_t lost_ms)
{
	uint64_t lost = lost_ms - schedule->lost_ms;

	if (lost > schedule->timeout_ms)
		lost = schedule->timeout_ms;
	return schedule->started_ms + schedule->timeout_ms + lost;
}

bool schedule_failure_counts(const struct schedule *schedule, uint64_t lost_ms)
{
	return lost_ms - schedule->lost_ms <= schedule->timeout_ms ||
		schedule->repeats >= REPEATS_MAX;
}

void schedule_repeat(struct schedule *schedule)
{
	schedule->repeats++;
}

uint64_t schedule_next(struct schedule *schedule)
{
	schedule->repeats = 0;
	schedule->slot_ms += schedule->interval_ms;
	return schedule->slot_ms;
}

bool pace_allows(struct pace *pace, uint64_t now_ms)
{
	if (now_ms - pace->window_ms >= PACE_WINDOW_MS) {
		pace->window_ms = now_ms;
		pace->count = 0;
	}
	if (pace->count >= PACE_BURST)
		return false;
	pace->count++;
	return true;
}
