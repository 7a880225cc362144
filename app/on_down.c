/* SPDX-License-Identifier: BSD-3-Clause */
#include "on_down.h"

#include <event2/event.h>
#include <stdlib.h>

#include "backends.h"
#include "clock.h"
#include "control.h"
#include "log.h"

// How often those that are down are looked at; when it is to be at once, they are looked at at
// once.
#define LOOK_MS 100

struct on_down {
	struct control *control;
	struct event *look;
};

static bool is_down(const struct control_backend *backend)
{
	return backend->life == BACKEND_LISTED &&
		(backend->health.state == HEALTH_DOWN || backend->hop.state == ROUTE_UNREACHABLE);
}

/* Whether it is certain enough that nobody is at the other end. */
static bool is_dead(const struct control_backend *backend)
{
	if (backend->hop.state == ROUTE_UNREACHABLE)
		return true;
	// Of the latest probe: it may have gone down by an answer and been cut off since. A target
	// that was never probed, of another way of probing, says nothing yet.
	const struct health_status *status = backend->health_target != NULL
		? health_target_status(backend->health_target)
		: NULL;
	return status != NULL && status->probes != 0 && !status->connects;
}

static bool is_due(const struct control_backend *backend, uint64_t now_ms)
{
	const struct conf_service *conf = backend->service->conf;

	if (conf->on_down == CONF_DOWN_KEEP || now_ms - backend->down_ms < conf->on_down_reset_ms)
		return false;
	return conf->on_down == CONF_DOWN_RESET || is_dead(backend);
}

static void set_reset(struct on_down *on_down, struct control_backend *backend, bool reset)
{
	struct backends *backends = control_registry(on_down->control);

	backend->reset = reset;
	backends->reset_round += reset;
	backends_row_update(backends, backend);
	control_publish(on_down->control);
	if (reset)
		log_info("service %s: backend %s: its connections are reset",
			backend->service->name, backend->conf.name);
}

/* True when it is down and to be looked at again. */
static bool look_at(struct on_down *on_down, struct control_backend *backend, uint64_t now_ms)
{
	if (!is_down(backend)) {
		backend->down_ms = 0;
		if (backend->reset && backend->life == BACKEND_LISTED)
			set_reset(on_down, backend, false);
		return false;
	}
	if (backend->down_ms == 0)
		backend->down_ms = now_ms;
	if (!backend->reset && is_due(backend, now_ms))
		set_reset(on_down, backend, true);
	return !backend->reset;
}

static void look_later(struct on_down *on_down)
{
	if (!evtimer_pending(on_down->look, NULL))
		event_add(on_down->look, &(struct timeval){.tv_usec = LOOK_MS * 1000});
}

void on_down_update(struct on_down *on_down, struct control_backend *backend)
{
	// A backend that a plan is making has no service with a conf yet.
	if (backend->service->conf != NULL && look_at(on_down, backend, clock_ms()))
		look_later(on_down);
}

static void look_due(evutil_socket_t fd, short what, void *context)
{
	struct on_down *on_down = context;
	struct backends *backends = control_registry(on_down->control);
	uint64_t now_ms = clock_ms();
	bool again = false;

	for (uint32_t s = 0; s < backends->nb_listed; s++)
		for (uint32_t b = 0; b < backends->services[s]->nb_listed; b++)
			if (backends->services[s]->backends[b]->down_ms != 0)
				again |= look_at(
					on_down, backends->services[s]->backends[b], now_ms);
	if (again)
		look_later(on_down);
}

struct on_down *on_down_create(struct event_base *events, struct control *control)
{
	struct on_down *on_down = calloc(1, sizeof(*on_down));

	if (on_down == NULL)
		return NULL;
	on_down->control = control;
	on_down->look = evtimer_new(events, look_due, on_down);
	if (on_down->look != NULL)
		return on_down;
	free(on_down);
	return NULL;
}

void on_down_destroy(struct on_down *on_down)
{
	if (on_down == NULL)
		return;
	event_free(on_down->look);
	free(on_down);
}
