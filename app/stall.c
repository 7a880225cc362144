/* SPDX-License-Identifier: BSD-3-Clause */
#include "stall.h"

#include <errno.h>
#include <event2/event.h>
#include <stdint.h>
#include <stdlib.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"

#define LOOK_MS 250
#define SAY_MS 500

struct stall {
	struct daemon *daemon;
	struct event *event;
	struct {
		uint64_t loops;
		uint64_t moved_ms; // when a look found another count
		bool said;
	} workers[CONF_WORKERS_MAX];
};

/* Since when the worker was not seen to turn, in ms. */
static uint64_t look_at(struct stall *stall, unsigned number, uint64_t now_ms)
{
	const struct worker *worker = &stall->daemon->workers[number];
	uint64_t loops = __atomic_load_n(&worker->stats.live.loops, __ATOMIC_RELAXED);

	if (loops != stall->workers[number].loops || stall->workers[number].moved_ms == 0) {
		stall->workers[number].loops = loops;
		stall->workers[number].moved_ms = now_ms;
	}
	return now_ms - stall->workers[number].moved_ms;
}

static unsigned sleep_ms(const struct stall *stall)
{
	return stall->daemon->conf->cores.idle_sleep_us / 1000;
}

bool stall_any(struct stall *stall, unsigned within_ms)
{
	uint64_t now_ms = clock_ms();
	bool is = false;

	if (stall == NULL || stall->daemon->workers == NULL)
		return false;
	for (unsigned w = 0; w < stall->daemon->port.nb_workers; w++)
		is |= look_at(stall, w, now_ms) > within_ms + sleep_ms(stall);
	return is;
}

static void look(evutil_socket_t fd, short what, void *context)
{
	struct stall *stall = context;
	uint64_t now_ms = clock_ms();

	for (unsigned w = 0; w < stall->daemon->port.nb_workers; w++) {
		uint64_t still_ms = look_at(stall, w, now_ms);
		bool *said = &stall->workers[w].said;
		if (!*said && still_ms > SAY_MS + sleep_ms(stall)) {
			log_error("worker %u stands still: no packet is served, no probe is judged",
				w);
			*said = true;
		} else if (*said && still_ms == 0) {
			log_warning("worker %u turns again", w);
			*said = false;
		}
	}
}

struct stall *stall_create(struct daemon *daemon)
{
	struct stall *stall = calloc(1, sizeof(*stall));

	if (stall == NULL)
		return NULL;
	stall->daemon = daemon;
	stall->event = event_new(daemon->events, -1, EV_PERSIST, look, stall);
	if (stall->event == NULL ||
		event_add(stall->event, &(struct timeval){.tv_usec = LOOK_MS * 1000}) < 0) {
		stall_destroy(stall);
		errno = ENOMEM;
		return NULL;
	}
	return stall;
}

void stall_destroy(struct stall *stall)
{
	if (stall == NULL)
		return;
	if (stall->event != NULL)
		event_free(stall->event);
	free(stall);
}
