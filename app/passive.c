/* SPDX-License-Identifier: BSD-3-Clause */
#include "passive.h"

#include <event2/event.h>
#include <rte_common.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "clock.h"
#include "control.h"
#include "log.h"
#include "pipeline.h"

#define LOOK_MS 100
#define DOUBLINGS_MAX 5
// Of those that nobody has named, at each look: a thousand backends are through within a window.
#define AROUND_BACKENDS 64
#define AROUND_IDS 16384

struct passive {
	struct control *control;
	struct event *look;
	LIST_HEAD(, control_backend) out;
	const struct pipeline_fails *const *fails;
	unsigned nb_workers;
	uint32_t seen[CONF_WORKERS_MAX]; // of each worker's names
	uint32_t next;                   // id that is looked at without being named
};

static void say(const struct control_backend *backend, const char *what, const char *why)
{
	char text[NET_ENDPOINT_TEXT];

	log_info("service %s: backend %s %s: %s (%s)", backend->service->name, backend->conf.name,
		net_endpoint_format(&backend->conf.endpoint, text), what, why);
}

/* --- the window --- */

static void forget_window(struct passive_backend *state)
{
	memset(state->fails_by, 0, sizeof(state->fails_by));
	memset(state->refused_by, 0, sizeof(state->refused_by));
	memset(state->timed_out_by, 0, sizeof(state->timed_out_by));
	memset(state->answers_by, 0, sizeof(state->answers_by));
}

static unsigned slot_ms(const struct conf_passive *conf)
{
	return RTE_MAX(conf->window_ms / PASSIVE_SLOTS, 1u);
}

/* The slot that is under way; the ones since the last look are emptied. */
static unsigned advance(
	struct passive_backend *state, uint64_t now_ms, const struct conf_passive *conf)
{
	uint32_t now = now_ms / slot_ms(conf);

	if (now - state->slot >= PASSIVE_SLOTS) {
		forget_window(state);
		state->slot = now;
	}
	while (state->slot != now) {
		unsigned at = ++state->slot % PASSIVE_SLOTS;
		state->fails_by[at] = state->refused_by[at] = state->timed_out_by[at] = 0;
		state->answers_by[at] = 0;
	}
	return now % PASSIVE_SLOTS;
}

/* What it answered since it was looked at last, or since it takes connections, is spread evenly
 * over that time. */
static void add_answers(const struct control_backend *backend, struct passive_backend *state,
	uint32_t answers, uint64_t now_ms)
{
	uint64_t since_ms =
		RTE_MAX(RTE_MAX(state->looked_ms, state->back_ms), backend->health.since_ms);
	uint64_t elapsed_ms = now_ms - RTE_MIN(since_ms, now_ms);
	uint64_t nb_slots = RTE_MAX(elapsed_ms / slot_ms(&backend->service->conf->passive), 1u);
	uint32_t each = (answers + nb_slots - 1) / nb_slots;

	for (unsigned i = 0; i < RTE_MIN(nb_slots, (uint64_t)PASSIVE_SLOTS); i++)
		state->answers_by[(state->slot - i) % PASSIVE_SLOTS] += each;
}

static uint32_t sum(const uint32_t by[PASSIVE_SLOTS])
{
	uint32_t all = 0;

	for (unsigned i = 0; i < PASSIVE_SLOTS; i++)
		all += by[i];
	return all;
}

/* --- out, and back --- */

/* What telemetry and log say of it. */
static void set_status(struct passive_backend *state)
{
	const struct passive_verdict *verdict = &state->verdict;

	state->status = (struct health_status){.state = HEALTH_DOWN, .since_ms = verdict->since_ms};
	snprintf(state->status.reason, sizeof(state->status.reason), "passive: %u connect%s %s%s%s",
		verdict->fails, verdict->fails == 1 ? "" : "s", verdict->refused ? "refused" : "",
		verdict->refused && verdict->timed_out ? " or " : "",
		verdict->timed_out ? "unanswered" : "");
}

/* So that what comes from here on counts, and nothing of before. */
static void look_away(struct control_backend *backend)
{
	struct passive_backend *state = &backend->passive;

	if (backend->health_target == NULL)
		return;
	state->probes = health_target_status(backend->health_target)->probes;
	state->failures = health_target_status(backend->health_target)->failures;
}

static bool is_last(const struct control_backend *backend)
{
	const struct control_service *service = backend->service;

	for (uint32_t b = 0; b < service->nb_backends; b++)
		if (service->backends[b] != backend && control_backend_usable(service->backends[b]))
			return false;
	return true;
}

static void take_out(struct passive *passive, struct control_backend *backend, uint64_t now_ms)
{
	struct passive_backend *state = &backend->passive;
	const struct conf_passive *conf = &backend->service->conf->passive;
	struct passive_verdict *verdict = &state->verdict;
	uint64_t retry_ms = (uint64_t)conf->retry_ms
		<< RTE_MIN(verdict->times, (uint32_t)DOUBLINGS_MAX);

	// It did well for as long as it had been out: it starts anew.
	if (state->back_ms == 0 ||
		now_ms - state->back_ms > RTE_MAX(retry_ms, conf->window_ms * 2ull)) {
		verdict->times = 0;
		retry_ms = conf->retry_ms;
	}
	control_lock(passive->control);
	state->is_out = true;
	state->is_resumed = false;
	verdict->since_ms = now_ms;
	// Where probes pass and connects fail, it doesn't come and go at the probes' pace.
	verdict->probe_at_ms = now_ms;
	if (verdict->times != 0)
		verdict->probe_at_ms += (uint64_t)conf->window_ms
			<< RTE_MIN(verdict->times - 1, (uint32_t)DOUBLINGS_MAX);
	verdict->times++;
	verdict->retry_at_ms = now_ms + retry_ms;
	verdict->fails = sum(state->fails_by);
	verdict->refused = sum(state->refused_by) != 0;
	verdict->timed_out = sum(state->timed_out_by) != 0;
	set_status(state);
	control_service_changed(passive->control, backend->service);
	control_unlock(passive->control);
	control_keep(passive->control, backend);
	look_away(backend);
	LIST_INSERT_HEAD(&passive->out, backend, passive.entry);
	say(backend, "down", state->status.reason);
}

static void bring_back(
	struct passive *passive, struct control_backend *backend, const char *why, uint64_t now_ms)
{
	struct passive_backend *state = &backend->passive;

	control_lock(passive->control);
	state->is_out = false;
	state->back_ms = now_ms;
	if (why != NULL)
		control_service_changed(passive->control, backend->service);
	control_unlock(passive->control);
	control_keep(passive->control, backend);
	forget_window(state);
	LIST_REMOVE(backend, passive.entry);
	if (why != NULL)
		say(backend, "up", why);
}

/* Whether another one of the service can have connections, or may soon where a start has only just
 * begun to look. */
static bool others_serve(const struct control_service *service, bool is_start)
{
	for (uint32_t b = 0; b < service->nb_listed; b++) {
		const struct control_backend *backend = service->backends[b];
		if (control_backend_usable(backend) ||
			(is_start && !backend->passive.is_out && control_backend_awaited(backend)))
			return true;
	}
	return false;
}

/* What a backend that is out has to wait for. */
static void look_at_out(struct passive *passive, struct control_backend *backend, uint64_t now_ms)
{
	const struct passive_backend *state = &backend->passive;
	const struct health_status *probed = backend->health_target != NULL
		? health_target_status(backend->health_target)
		: NULL;
	bool has_news = probed != NULL && probed->probes != state->probes;

	if (backend->life > BACKEND_LEAVING || backend->service->conf == NULL)
		bring_back(passive, backend, NULL,
			now_ms); // it gets no connections for another reason
	else if (backend->service->conf->passive.fails == 0)
		bring_back(passive, backend, "passive: off", now_ms);
	else if (has_news && now_ms >= state->verdict.probe_at_ms &&
		probed->probes - state->probes != probed->failures - state->failures)
		bring_back(passive, backend, "passive: a probe passed", now_ms);
	else if (!has_news && now_ms >= state->verdict.retry_at_ms)
		bring_back(passive, backend, "passive: another try", now_ms);
	else if (state->is_resumed && !others_serve(backend->service, true))
		bring_back(passive, backend, "passive: no other is up", now_ms);
}

/* The failures that no answer followed are many enough, and at least half of its connects in the
 * window: a few that are lost among many say nothing. */
static bool is_failing(const struct passive_backend *state, const struct conf_passive *conf,
	const struct stats_connect *counted)
{
	uint32_t fails = sum(state->fails_by);
	uint32_t in_row = RTE_MIN(fails, counted->in_row);

	return conf->fails != 0 && in_row >= conf->fails &&
		2ull * in_row >= (uint64_t)fails + sum(state->answers_by);
}

static void judge(struct passive *passive, struct control_backend *backend, uint64_t now_ms)
{
	struct passive_backend *state = &backend->passive;
	struct stats_connect counted;

	if (backend->life > BACKEND_LEAVING || backend->service->conf == NULL)
		return;
	const struct conf_passive *conf = &backend->service->conf->passive;
	control_backend_count_connects(control_registry(passive->control), backend, &counted);
	unsigned at = advance(state, now_ms, conf);
	uint32_t answers = stats_connect_answers(&counted);
	add_answers(backend, state, answers - state->answers, now_ms);
	state->fails_by[at] += counted.fails - state->fails;
	state->refused_by[at] += counted.refused - state->refused;
	state->timed_out_by[at] += counted.timed_out - state->timed_out;
	state->fails = counted.fails;
	state->refused = counted.refused;
	state->timed_out = counted.timed_out;
	state->answers = answers;
	state->looked_ms = now_ms;
	if (!state->is_out && is_failing(state, conf, &counted) &&
		control_backend_usable(backend) && !is_last(backend))
		take_out(passive, backend, now_ms);
}

static void look_at_worker(struct passive *passive, unsigned worker, uint64_t now_ms)
{
	const struct pipeline_fails *fails = passive->fails[worker];
	struct backends *backends = control_registry(passive->control);

	if (fails == NULL)
		return;
	uint32_t count = __atomic_load_n(&fails->count, __ATOMIC_ACQUIRE);
	uint32_t news = RTE_MIN(count - passive->seen[worker], (uint32_t)PIPELINE_FAILS);
	passive->seen[worker] = count;
	for (uint32_t i = 1; i <= news; i++) {
		uint32_t id = __atomic_load_n(
			&fails->ids[(count - i) % PIPELINE_FAILS], __ATOMIC_RELAXED);
		if (id < BACKENDS_IDS_MAX && backends->by_id[id] != NULL)
			judge(passive, backends->by_id[id], now_ms);
	}
}

/* So that it is known of each how much it answered lately, when it begins to fail. */
static void look_around(struct passive *passive, uint64_t now_ms)
{
	struct backends *backends = control_registry(passive->control);

	for (unsigned ids = 0, looked = 0; ids < AROUND_IDS && looked < AROUND_BACKENDS; ids++) {
		struct control_backend *backend =
			backends->by_id[passive->next++ % BACKENDS_IDS_MAX];
		if (backend == NULL)
			continue;
		judge(passive, backend, now_ms);
		looked++;
	}
}

void passive_look(struct passive *passive, uint64_t now_ms)
{
	look_around(passive, now_ms);
	for (unsigned w = 0; w < passive->nb_workers; w++)
		look_at_worker(passive, w, now_ms);
	for (struct control_backend *backend = LIST_FIRST(&passive->out), *next; backend != NULL;
		backend = next) {
		next = LIST_NEXT(backend, passive.entry);
		look_at_out(passive, backend, now_ms);
	}
}

static void look_due(evutil_socket_t fd, short what, void *context)
{
	passive_look(context, clock_ms());
}

void passive_resume(struct passive *passive, struct control_backend *backend,
	const struct passive_verdict *verdict)
{
	struct passive_backend *state = &backend->passive;
	struct stats_connect counted;

	if (passive == NULL)
		return;
	control_backend_count_connects(control_registry(passive->control), backend, &counted);
	state->fails = counted.fails;
	state->refused = counted.refused;
	state->timed_out = counted.timed_out;
	state->answers = stats_connect_answers(&counted);
	// A verdict by probes counts.
	if (verdict == NULL || backend->life != BACKEND_LISTED ||
		backend->health.state != HEALTH_UP)
		return;
	state->verdict = *verdict;
	state->is_out = state->is_resumed = true;
	set_status(state);
	look_away(backend);
	LIST_INSERT_HEAD(&passive->out, backend, passive.entry);
	say(backend, "down, as before this start", state->status.reason);
}

void passive_end(struct passive *passive, struct control_backend *backend, uint64_t now_ms)
{
	if (backend->passive.is_out)
		bring_back(passive, backend, NULL, now_ms);
	forget_window(&backend->passive);
}

void passive_spare(struct passive *passive, struct control_service *service, uint64_t now_ms)
{
	if (passive == NULL || LIST_EMPTY(&passive->out))
		return;
	if (others_serve(service, false))
		return;
	bool may_wait = others_serve(service, true);
	for (uint32_t b = 0; b < service->nb_listed; b++)
		if (service->backends[b]->passive.is_out &&
			!(may_wait && service->backends[b]->passive.is_resumed))
			bring_back(
				passive, service->backends[b], "passive: no other is up", now_ms);
}

struct passive *passive_create(struct event_base *events, struct control *control,
	const struct pipeline_fails *const *fails, unsigned nb_workers)
{
	struct passive *passive = calloc(1, sizeof(*passive));

	if (passive == NULL)
		return NULL;
	passive->control = control;
	passive->fails = fails;
	passive->nb_workers = nb_workers;
	LIST_INIT(&passive->out);
	passive->look = event_new(events, -1, EV_PERSIST, look_due, passive);
	if (passive->look != NULL &&
		event_add(passive->look, &(struct timeval){.tv_usec = LOOK_MS * 1000}) == 0)
		return passive;
	passive_destroy(passive);
	return NULL;
}

void passive_destroy(struct passive *passive)
{
	if (passive == NULL)
		return;
	if (passive->look != NULL)
		event_free(passive->look);
	free(passive);
}
