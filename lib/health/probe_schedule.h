/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * When a target is probed, and what a failure is worth when our own loop was late. Pure: time comes
 * in as an argument, so the tests run on a virtual clock.
 *
 * Each target has slots, one an interval, at a phase of its own; slots are counted, not measured
 * from the last probe, so nothing drifts. The first probe goes out at once, in place of the slot
 * before it. One probe runs at a time; one that starts late stands for all slots passed until then.
 */
#ifndef WEIR_PROBE_SCHEDULE_H
#define WEIR_PROBE_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * How much time the event loop lost to something else: a long callback, a busy CPU, SIGSTOP. A beat
 * is due every LOOP_BEAT_MS; what it is late by more than the tolerance is lost time.
 */
struct loop_watch {
	uint64_t due_ms;  // of the next beat; 0 = not watching
	uint64_t lost_ms; // total
};

#define LOOP_BEAT_MS 20
#define LOOP_TOLERANCE_MS 20

/* Expect the beat LOOP_BEAT_MS from now: call it at the start and at each beat, after observing. */
void loop_watch_beat(struct loop_watch *watch, uint64_t now_ms);

void loop_watch_stop(struct loop_watch *watch);

/* Return the time lost in total; the difference between two answers is what was lost between them.
 * Any callback may ask: after a halt the sockets' events come before the timers'. */
uint64_t loop_watch_observe(struct loop_watch *watch, uint64_t now_ms);

/* Count time as lost though the loop turned: what carries the probes stood still. */
void loop_watch_lose(struct loop_watch *watch, unsigned ms);

struct schedule {
	unsigned interval_ms;
	unsigned timeout_ms;
	uint64_t slot_ms;    // of the running probe, or of the next one
	uint64_t started_ms; // of the running probe
	uint64_t lost_ms;    // the loop's lost time when it started
	unsigned repeats;    // of the probe of this slot
};

/*
 * Make a schedule whose first probe is due now. `ordinal` is the target's running number:
 * multiples of the golden ratio lie evenly in the interval, whatever the addresses are and however
 * many targets there are.
 */
void schedule_init(struct schedule *schedule, unsigned interval_ms, unsigned timeout_ms,
	uint32_t ordinal, uint64_t now_ms);

/* Note that a probe starts, at its slot or late. lost_ms: what loop_watch_observe() says. */
void schedule_start(struct schedule *schedule, uint64_t now_ms, uint64_t lost_ms);

/* Return until when the running probe may wait. What the loop lost since the start is added, up to
 * another timeout: the probe wasn't served in that time. */
uint64_t schedule_deadline(const struct schedule *schedule, uint64_t lost_ms);

/*
 * Tell whether the running probe's failure says something about the backend. It doesn't when
 * the loop lost more than a timeout (a halt for a minute, case D16): the connection has aged,
 * so the probe is to be repeated at once. A loop that is always late must not hide a dead
 * backend, so repeats are bounded.
 */
bool schedule_failure_counts(const struct schedule *schedule, uint64_t lost_ms);

/* Have the probe started again, in the same slot. */
void schedule_repeat(struct schedule *schedule);

/* Note that the probe of this slot has ended. Returns when the next is due, which may
 * be in the past. */
uint64_t schedule_next(struct schedule *schedule);

/* Bounds what goes out in a burst: `burst` starts in each window. */
struct pace {
	uint64_t window_ms; // start of the window
	unsigned count;     // starts in it
};

/* Packets of a burst wait in weir0's queue, which holds a few hundred; a full queue loses SYNs. */
#define PACE_BURST 50
#define PACE_WINDOW_MS 5

/* Tell whether one more probe may start now; counts it. */
bool pace_allows(struct pace *pace, uint64_t now_ms);

#endif
