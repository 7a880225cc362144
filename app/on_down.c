/* SPDX-License-Identifier: BSD-3-Clause */
#include "on_down.h"

#include <event2/event.h>
#include <rte_common.h>
#include <stdio.h>
#include <stdlib.h>

#include "backends.h"
#include "clock.h"
#include "control.h"
#include "log.h"
#include "vicinity.h"

// How often those that are down are looked at; when it is to be at once, they are looked at at
// once.
#define LOOK_MS 100
#define VICINITY_MS 200 // how old what is known of the vicinities may be

#define VICINITY_TEXT (NET_ADDR_TEXT + 16)

struct on_down {
	struct control *control;
	struct event *look;
	uint64_t looked_ms;
	struct vicinities vicinities;
	uint64_t vicinities_ms; // when they were looked at
	uint64_t received;      // frames, at the last look
	uint64_t received_ms;   // when it was another number, or looking began
};

static bool hop_is_down(const struct control_backend *backend)
{
	return backend->hop.state == ROUTE_UNREACHABLE && !backend->hop.is_own;
}

static bool is_down(const struct control_backend *backend)
{
	return backend->life != BACKEND_GONE &&
		(backend->health.state == HEALTH_DOWN || hop_is_down(backend));
}

/* Whether it is certain enough that nobody is at the other end. */
static bool is_dead(const struct control_backend *backend)
{
	if (hop_is_down(backend))
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

	if (conf->on_down == CONF_DOWN_KEEP || now_ms < backend->spared_ms ||
		now_ms - backend->down_ms < conf->on_down_reset_ms)
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

/* --- held back --- */

static struct vicinity *look_around(
	struct on_down *on_down, const struct control_backend *backend, uint64_t now_ms)
{
	const struct backends *backends = control_registry(on_down->control);

	if (now_ms - on_down->vicinities_ms >= VICINITY_MS) {
		if (!vicinities_look(&on_down->vicinities, backends))
			log_limited(LOG_LEVEL_ERROR, "no memory: resets are not held back");
		on_down->vicinities_ms = now_ms;
	}
	return vicinity_of(&on_down->vicinities, backend);
}

static const char *vicinity_text(const struct vicinity *vicinity, char text[VICINITY_TEXT])
{
	char gateway[NET_ADDR_TEXT];

	if (vicinity->gateway.family == AF_UNSPEC)
		snprintf(text, VICINITY_TEXT, "on the link");
	else
		snprintf(text, VICINITY_TEXT, "behind %s",
			net_addr_format(&vicinity->gateway, gateway));
	return text;
}

static void hold(struct vicinity *vicinity, struct control_backend *backend, uint64_t now_ms)
{
	char text[VICINITY_TEXT];

	backend->held_ms = now_ms;
	if (vicinity->nb_held++ != 0)
		return;
	log_warning("no backend %s answers, and all fell silent at once: is it the way there? "
		    "Their connections are not reset until one answers, or for %u s "
		    "(hold_resets_s)",
		vicinity_text(vicinity, text), backend->service->conf->hold_resets_s);
}

/* Somebody answers: the others have as long again, and a verdict's time at least. */
static void let_go(struct vicinity *vicinity, struct control_backend *backend, uint64_t now_ms)
{
	const struct conf_service *conf = backend->service->conf;
	char text[VICINITY_TEXT];

	backend->held_ms = 0;
	backend->spared_ms = now_ms +
		RTE_MAX(conf->on_down_reset_ms, vicinity->cycle_ms * (conf->health.rise + 1));
	if (--vicinity->nb_held == 0)
		log_info("a backend %s answers: the connections of those that stay down "
			 "are reset as usual",
			vicinity_text(vicinity, text));
}

/* Whether a reset that is due has to wait. */
static bool has_to_wait(struct on_down *on_down, struct control_backend *backend, uint64_t now_ms)
{
	const struct conf_service *conf = backend->service->conf;

	if (conf->on_down != CONF_DOWN_AUTO || conf->hold_resets_s == 0)
		return false;
	struct vicinity *vicinity = look_around(on_down, backend, now_ms);
	if (vicinity == NULL)
		return false;
	if (!vicinity_is_settled(vicinity, backend, now_ms))
		return true;
	bool link_is_silent = on_down->received_ms <= backend->down_ms &&
		now_ms - on_down->received_ms > vicinity->cycle_ms;
	if (!vicinity_is_dark(vicinity, backend, link_is_silent)) {
		if (backend->held_ms == 0)
			return false;
		let_go(vicinity, backend, now_ms);
		return true;
	}
	if (backend->held_ms == 0)
		hold(vicinity, backend, now_ms);
	return now_ms - backend->held_ms < conf->hold_resets_s * 1000ull;
}

bool on_down_holds(const struct control_backend *backend)
{
	return backend->held_ms != 0 && !backend->reset;
}

/* --- down --- */

/* Whether its connections live while it is up: of one that left the file that is on_remove's. */
static bool is_kept(const struct control_backend *backend)
{
	return backend->life <= BACKEND_LEAVING || !backend->service->resets_removed;
}

/* True when it is down and to be looked at again. */
static bool look_at(struct on_down *on_down, struct control_backend *backend, uint64_t now_ms)
{
	if (!is_down(backend)) {
		backend->down_ms = backend->held_ms = backend->spared_ms = 0;
		if (backend->reset && is_kept(backend))
			set_reset(on_down, backend, false);
		return false;
	}
	if (backend->down_ms == 0)
		backend->down_ms = now_ms;
	if (!backend->reset && !control_in_trouble(on_down->control, now_ms) &&
		is_due(backend, now_ms) && !has_to_wait(on_down, backend, now_ms))
		set_reset(on_down, backend, true);
	return !backend->reset;
}

static void look_later(struct on_down *on_down, uint64_t now_ms)
{
	if (evtimer_pending(on_down->look, NULL))
		return;
	event_add(on_down->look, &(struct timeval){.tv_usec = LOOK_MS * 1000});
	if (now_ms - on_down->looked_ms <= 2 * LOOK_MS)
		return;
	// Nobody was down until now.
	on_down->looked_ms = on_down->received_ms = now_ms;
	on_down->received = control_received(on_down->control);
}

void on_down_update(struct on_down *on_down, struct control_backend *backend, uint64_t now_ms)
{
	// Of a new service, which has no conf yet, or of one that a former process had.
	if (backend->service->conf != NULL && look_at(on_down, backend, now_ms))
		look_later(on_down, now_ms);
}

/* The clocks of one that is down stand. */
static void stand_still(struct control_backend *backend, uint64_t since_ms, uint64_t now_ms)
{
	uint64_t *clocks[] = {&backend->down_ms, &backend->held_ms, &backend->spared_ms};

	for (unsigned i = 0; i < RTE_DIM(clocks); i++)
		if (*clocks[i] != 0)
			*clocks[i] += now_ms - RTE_MIN(RTE_MAX(*clocks[i], since_ms), now_ms);
}

static void look_at_link(struct on_down *on_down, uint64_t now_ms)
{
	uint64_t received = control_received(on_down->control);

	if (received != on_down->received)
		on_down->received_ms = now_ms;
	on_down->received = received;
}

bool on_down_look(struct on_down *on_down, uint64_t now_ms)
{
	struct backends *backends = control_registry(on_down->control);
	bool stands = control_in_trouble(on_down->control, on_down->looked_ms), again = false;

	look_at_link(on_down, now_ms);
	for (uint32_t s = 0; s < backends->nb_services; s++)
		for (uint32_t b = 0; b < backends->services[s]->nb_backends; b++) {
			struct control_backend *backend = backends->services[s]->backends[b];
			if (backend->down_ms == 0)
				continue;
			if (stands)
				stand_still(backend, on_down->looked_ms, now_ms);
			again |= look_at(on_down, backend, now_ms);
		}
	on_down->looked_ms = now_ms;
	return again;
}

static void look_due(evutil_socket_t fd, short what, void *context)
{
	struct on_down *on_down = context;
	uint64_t now_ms = clock_ms();

	if (on_down_look(on_down, now_ms))
		look_later(on_down, now_ms);
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
	vicinities_free(&on_down->vicinities);
	free(on_down);
}
