/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A target's probes in time. Each has its own timer; all are started from one queue, which bounds
 * how many go out in a burst and how many are under way.
 *
 * A probe's life: timer (the slot has come), queue, running, with the timer now as its deadline,
 * result, timer for the next slot. The change callback is the last step of an event, because the
 * target may be gone after it.
 */
#include "target.h"

#include <stddef.h>
#include <stdio.h>
#include <sys/resource.h>

#include "clock.h"
#include "log.h"

// Probes under way at most: 6,800 silent backends with the default interval and timeout.
#define INFLIGHT_MAX 4096

static struct timeval timeval_of(uint64_t ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static void target_wait(struct health_target *target, uint64_t due_ms, uint64_t now_ms)
{
	struct timeval delay = timeval_of(due_ms > now_ms ? due_ms - now_ms : 0);

	target->due_ms = due_ms;
	event_add(&target->timer, &delay);
}

static void starter_wake(struct health *health, uint64_t delay_ms)
{
	struct timeval delay = timeval_of(delay_ms);

	if (!TAILQ_EMPTY(&health->queue) && health->inflight < health->inflight_max &&
		!event_pending(&health->starter, EV_TIMEOUT, NULL))
		event_add(&health->starter, &delay);
}

// A repeated probe goes before all others: its verdict is late already.
static void target_enqueue(struct health_target *target, bool first, uint64_t now_ms)
{
	struct health *health = target->health;

	target->phase = TARGET_QUEUED;
	target->queued_ms = now_ms;
	if (first)
		TAILQ_INSERT_HEAD(&health->queue, target, queued);
	else
		TAILQ_INSERT_TAIL(&health->queue, target, queued);
	starter_wake(health, 0);
}

static void inflight_add(struct health *health, uint64_t now_ms)
{
	struct timeval beat = timeval_of(LOOP_BEAT_MS);

	if (health->inflight++ > 0)
		return;
	loop_watch_beat(&health->watch, now_ms);
	event_add(&health->beat, &beat);
}

static void inflight_del(struct health *health)
{
	if (--health->inflight == 0) {
		loop_watch_stop(&health->watch);
		event_del(&health->beat);
	}
	starter_wake(health, 0);
}

static void on_beat(int fd, short what, void *argument)
{
	struct health *health = argument;
	struct timeval beat = timeval_of(LOOP_BEAT_MS);
	uint64_t now_ms = clock_ms();

	loop_watch_observe(&health->watch, now_ms);
	if (health->served != NULL && !health->served(health->served_context))
		loop_watch_lose(&health->watch, LOOP_BEAT_MS);
	loop_watch_beat(&health->watch, now_ms);
	event_add(&health->beat, &beat);
}

/* What a failure says, and where there are several source addresses, of which one. */
static void reason_write(const struct health_target *target, const struct probe_result *result,
	char reason[HEALTH_REASON_TEXT])
{
	char text[NET_ADDR_TEXT];

	if (result->outcome == PROBE_PASSED || target->sources->count < 2)
		snprintf(reason, HEALTH_REASON_TEXT, "%s", result->reason);
	else
		snprintf(reason, HEALTH_REASON_TEXT, "%s from %s", result->reason,
			net_addr_format(target->task.source, text));
}

static void change_report(
	struct health_target *target, const struct probe_result *result, uint64_t now_ms)
{
	target->status.state = target->verdict.state;
	target->status.since_ms = now_ms;
	reason_write(target, result, target->status.reason);
	target->health->changed(target->health->context, target);
}

static bool is_in_trouble(const struct health *health, uint64_t since_ms)
{
	return health->trouble != NULL && health->trouble(health->trouble_context, since_ms);
}

static void note_answer(struct health_target *target, uint64_t answered_ms, uint64_t now_ms)
{
	struct health_status *status = &target->status;

	if (answered_ms != 0) {
		status->answered_ms = answered_ms;
		status->silent_ms = 0;
	} else if (status->silent_ms == 0) {
		status->silent_ms = now_ms;
	}
}

static void note_connected(struct health_target *target, unsigned source, bool connected)
{
	uint64_t bit = UINT64_C(1) << source % 64;

	target->connected = connected ? target->connected | bit : target->connected & ~bit;
	target->status.connects = target->connected != 0;
}

/* Nothing is known yet, and there are other addresses to ask from: at once, for until each has
 * passed the target isn't up. */
static bool is_in_first_round(const struct health_target *target, unsigned source)
{
	return target->verdict.state == HEALTH_UNKNOWN && source + 1 < target->sources->count;
}

static void tell_skipped(struct health_target *target, const struct probe_result *result)
{
	char text[NET_ENDPOINT_TEXT];

	if (!target->is_skipped)
		log_limited(LOG_LEVEL_WARNING, "probes of %s skipped (%s)",
			net_endpoint_format(&target->task.endpoint, text), result->reason);
	target->is_skipped = true;
}

// The probe has ended, running or at once. The target may be gone when this returns.
static void target_judge(struct health_target *target, const struct probe_result *result)
{
	struct health *health = target->health;
	bool passed = result->outcome == PROBE_PASSED;
	uint64_t now_ms = clock_ms();
	uint64_t lost_ms = loop_watch_observe(&health->watch, now_ms);
	bool counts = passed || schedule_failure_counts(&target->schedule, lost_ms);

	if (target->phase == TARGET_RUNNING) {
		event_del(&target->timer);
		inflight_del(health);
	}
	if (!counts) {
		schedule_repeat(&target->schedule);
		target_enqueue(target, true, now_ms);
		return;
	}
	unsigned source = target->source;
	if (target->sources->count > 1)
		target->source = (source + 1) % target->sources->count;
	target->phase = TARGET_WAITING;
	if (passed && is_in_first_round(target, source))
		target_enqueue(target, true, now_ms);
	else
		target_wait(target, schedule_next(&target->schedule), now_ms);
	if (!passed && is_in_trouble(health, target->schedule.started_ms))
		return; // said by whoever knows of it
	if (result->outcome == PROBE_SKIPPED) {
		tell_skipped(target, result);
		return;
	}
	target->is_skipped = false;
	note_answer(target, result->answered_ms, now_ms);
	target->status.probes++;
	target->status.failures += !passed;
	note_connected(target, source, passed || strncmp(result->reason, "connect:", 8) != 0);
	if (verdict_add(&target->verdict, source, passed, target->conf.rise, target->conf.fall))
		change_report(target, result, now_ms);
}

static void on_probe_done(struct probe *probe, const struct probe_result *result)
{
	char *target = (char *)probe - offsetof(struct health_target, probe);

	target_judge((struct health_target *)target, result);
}

static void probe_launch(struct health_target *target, uint64_t now_ms)
{
	struct health *health = target->health;
	struct probe_result result;

	schedule_start(&target->schedule, now_ms, loop_watch_observe(&health->watch, now_ms));
	if (is_in_trouble(health, now_ms)) {
		target_wait(target, schedule_next(&target->schedule), now_ms);
		return;
	}
	if (target->sources->count != 0)
		target->task.source = &target->sources->addrs[target->source];
	if (!probe_start(&target->probe, &target->task, &result)) {
		target_judge(target, &result);
		return;
	}
	target->phase = TARGET_RUNNING;
	inflight_add(health, now_ms);
	target_wait(target, schedule_deadline(&target->schedule, health->watch.lost_ms), now_ms);
}

// When the queue takes longer than an interval, detection does, too. Said once until it is empty.
static void lag_report(struct health *health, const struct health_target *target, uint64_t now_ms)
{
	uint64_t lag_ms = now_ms - target->queued_ms;

	if (health->is_behind || lag_ms <= target->conf.interval_ms)
		return;
	health->is_behind = true;
	log_limited(LOG_LEVEL_WARNING,
		"probes wait %lu ms for their turn: too many backends for their interval "
		"(%u probes under way, at most %u)",
		(unsigned long)lag_ms, health->inflight, health->inflight_max);
}

static void on_starter(int fd, short what, void *argument)
{
	struct health *health = argument;
	struct health_target *target;

	while ((target = TAILQ_FIRST(&health->queue)) != NULL &&
		health->inflight < health->inflight_max) {
		uint64_t now_ms = clock_ms();

		if (!pace_allows(&health->pace, now_ms)) {
			starter_wake(health, PACE_WINDOW_MS);
			return;
		}
		TAILQ_REMOVE(&health->queue, target, queued);
		target->phase = TARGET_WAITING;
		lag_report(health, target, now_ms);
		probe_launch(target, now_ms);
	}
	if (target == NULL)
		health->is_behind = false;
}

static void on_target_timer(int fd, short what, void *argument)
{
	struct health_target *target = argument;
	struct health *health = target->health;
	uint64_t now_ms = clock_ms();

	if (target->phase == TARGET_RUNNING)
		target->due_ms = schedule_deadline(
			&target->schedule, loop_watch_observe(&health->watch, now_ms));
	if (now_ms < target->due_ms) // the loop's clock is coarser than ours, or it was late
		target_wait(target, target->due_ms, now_ms);
	else if (target->phase == TARGET_WAITING)
		target_enqueue(target, false, now_ms);
	else
		probe_end(&target->probe, PROBE_FAILED, "%s: timeout", target->probe.stage);
}

void target_starter_init(struct health *health)
{
	struct rlimit files;

	// The other half of the descriptors is the rest of the process's.
	health->inflight_max = INFLIGHT_MAX;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur / 2 < INFLIGHT_MAX)
		health->inflight_max = files.rlim_cur / 2 > 0 ? files.rlim_cur / 2 : 1;
	TAILQ_INIT(&health->queue);
	evtimer_assign(&health->starter, health->events, on_starter, health);
	evtimer_assign(&health->beat, health->events, on_beat, health);
}

void target_starter_fini(struct health *health)
{
	event_del(&health->starter);
	event_del(&health->beat);
}

void target_init(struct health_target *target)
{
	evtimer_assign(&target->timer, target->health->events, on_target_timer, target);
	target->task.done = on_probe_done;
}

void target_start(struct health_target *target)
{
	struct health *health = target->health;
	uint64_t now_ms = clock_ms();

	schedule_init(&target->schedule, target->conf.interval_ms, target->conf.timeout_ms,
		health->created++, now_ms);
	target_enqueue(target, false, now_ms);
}

void target_stop(struct health_target *target)
{
	if (target->phase == TARGET_QUEUED)
		TAILQ_REMOVE(&target->health->queue, target, queued);
	event_del(&target->timer);
	probe_cancel(&target->probe);
	if (target->phase == TARGET_RUNNING)
		inflight_del(target->health);
	target->phase = TARGET_WAITING;
}
