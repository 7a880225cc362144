/* SPDX-License-Identifier: BSD-3-Clause */
#include "apply.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "clock.h"
#include "conf.h"
#include "control.h"
#include "daemon.h"
#include "plan.h"

// A slice of work, and the pause after it, in which the loop's timers have their turn.
#define SLICE_NS 3000000
#define PAUSE_US 500

enum phase { PHASE_IDLE, PHASE_PREPARE, PHASE_PUBLISH, PHASE_FINISH };

struct apply {
	struct daemon *daemon;
	struct event *slice;
	enum phase phase;
	struct plan *plan;
	struct conf *conf;   // not running yet; NULL: it runs
	struct conf *former; // not running any more
	bool *changed;
	struct control_waiter waiter;
	apply_commit_fn commit;
	apply_done_fn done;
	void *context;
};

struct apply *apply_create(struct daemon *daemon)
{
	struct apply *apply = calloc(1, sizeof(*apply));

	if (apply == NULL)
		return NULL;
	apply->daemon = daemon;
	return apply;
}

static void reset(struct apply *apply)
{
	plan_destroy(apply->plan);
	conf_free(apply->conf);
	conf_free(apply->former);
	free(apply->changed);
	apply->plan = NULL;
	apply->conf = NULL;
	apply->former = NULL;
	apply->changed = NULL;
	apply->phase = PHASE_IDLE;
}

void apply_destroy(struct apply *apply)
{
	if (apply == NULL)
		return;
	control_cancel_wait(apply->daemon->control, &apply->waiter);
	reset(apply);
	if (apply->slice != NULL)
		event_free(apply->slice);
	free(apply);
}

bool apply_busy(const struct apply *apply)
{
	return apply->phase != PHASE_IDLE;
}

static void next_slice(struct apply *apply)
{
	event_add(apply->slice, &(struct timeval){.tv_usec = PAUSE_US});
}

/* Idle before the call, so that it may start the next one. */
static void end(struct apply *apply, int err)
{
	reset(apply);
	apply->done(apply->context, err);
}

static void published(void *context)
{
	struct apply *apply = context;

	apply->phase = PHASE_FINISH;
	next_slice(apply);
}

static void commit(struct apply *apply)
{
	struct daemon *daemon = apply->daemon;

	control_will_commit(daemon->control);
	pthread_mutex_lock(&daemon->lock);
	plan_commit(apply->plan, control_next_publication(daemon->control));
	if (apply->conf != NULL) {
		apply->former = daemon->conf;
		daemon->conf = apply->conf;
		apply->conf = NULL;
	}
	if (apply->commit != NULL)
		apply->commit(apply->context);
	pthread_mutex_unlock(&daemon->lock);
	apply->phase = PHASE_PUBLISH;
	control_reap(daemon->control);
	control_publish(daemon->control);
	control_wait(daemon->control, &apply->waiter, published, apply);
}

/* What the new one doesn't share is freed bit by bit. */
static int finish(struct apply *apply, uint64_t until_ns)
{
	int more = plan_finish(apply->plan, until_ns);

	while (more == 0 && apply->former != NULL) {
		if (clock_ns() >= until_ns)
			return 1;
		if (conf_free_part(apply->former))
			apply->former = NULL;
	}
	return more;
}

static void run_slice(evutil_socket_t fd, short what, void *context)
{
	struct apply *apply = context;
	uint64_t until_ns = clock_ns() + SLICE_NS;
	int more = apply->phase == PHASE_PREPARE ? plan_step(apply->plan, until_ns)
						 : finish(apply, until_ns);

	if (more > 0)
		next_slice(apply);
	else if (more < 0 || apply->phase == PHASE_FINISH)
		end(apply, more);
	else
		commit(apply);
}

int apply_start(struct apply *apply, struct conf *conf, const bool *changed, apply_commit_fn commit,
	apply_done_fn done, void *context)
{
	const struct conf *wanted = conf != NULL ? conf : apply->daemon->conf;

	if (apply->slice == NULL)
		apply->slice = evtimer_new(apply->daemon->events, run_slice, apply);
	apply->changed = calloc(wanted->nb_services + 1, sizeof(*apply->changed));
	if (apply->slice == NULL || apply->changed == NULL)
		goto fail;
	memcpy(apply->changed, changed, wanted->nb_services * sizeof(*changed));
	apply->plan = plan_create(control_registry(apply->daemon->control), wanted, apply->changed);
	if (apply->plan == NULL)
		goto fail;
	apply->conf = conf;
	apply->commit = commit;
	apply->done = done;
	apply->context = context;
	apply->phase = PHASE_PREPARE;
	next_slice(apply);
	return 0;
fail:
	reset(apply);
	return -ENOMEM;
}
