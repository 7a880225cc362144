/* SPDX-License-Identifier: BSD-3-Clause */
#include "vicinity.h"

#include <rte_common.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"

#define FALLEN_MIN 3 // fewer may well have died together

static const struct health_status *status_of(const struct control_backend *backend)
{
	return backend->health_target != NULL ? health_target_status(backend->health_target) : NULL;
}

static bool is_probed(const struct control_backend *backend)
{
	return status_of(backend) != NULL && status_of(backend)->probes != 0;
}

static bool neighbour_is_gone(const struct control_backend *backend)
{
	return backend->hop.state == ROUTE_UNREACHABLE && !backend->hop.is_own;
}

/* When it fell silent; 0: it answers. One that nobody probes does so with its neighbour. */
static uint64_t silent_ms(const struct control_backend *backend)
{
	if (is_probed(backend))
		return status_of(backend)->silent_ms;
	return neighbour_is_gone(backend) ? backend->down_ms : 0;
}

static bool is_member(const struct control_backend *backend)
{
	return backend->service->conf != NULL && backend->life != BACKEND_GONE &&
		control_backend_state(backend) != CONF_STATE_DISABLED;
}

/* AF_UNSPEC for one on the link, and as long as its way isn't known. */
static struct net_addr gateway_of(const struct control_backend *backend)
{
	static const struct net_addr link = {.family = AF_UNSPEC};

	return net_addr_equal(&backend->hop.gateway, &backend->conf.endpoint.addr)
		? link
		: backend->hop.gateway;
}

struct vicinity *vicinity_of(
	const struct vicinities *vicinities, const struct control_backend *backend)
{
	struct net_addr gateway = gateway_of(backend);

	for (unsigned i = 0; i < vicinities->count; i++)
		if (net_addr_equal(&vicinities->list[i].gateway, &gateway))
			return &vicinities->list[i];
	return NULL;
}

static struct vicinity *find_or_add(
	struct vicinities *vicinities, const struct control_backend *backend)
{
	struct vicinity *found = vicinity_of(vicinities, backend);

	if (found != NULL)
		return found;
	if (vicinities->count == vicinities->room) {
		unsigned room = vicinities->room * 2 + 4;
		struct vicinity *list = realloc(vicinities->list, room * sizeof(*list));
		if (list == NULL)
			return NULL;
		vicinities->list = list;
		vicinities->room = room;
	}
	found = &vicinities->list[vicinities->count++];
	*found = (struct vicinity){.gateway = gateway_of(backend), .is_unreachable = true};
	return found;
}

static void add_member(struct vicinity *vicinity, const struct control_backend *backend)
{
	const struct conf_health *health = &backend->service->conf->health;

	vicinity->nb_backends++;
	vicinity->nb_held += backend->held_ms != 0;
	vicinity->is_unreachable &= neighbour_is_gone(backend);
	vicinity->cycle_ms = RTE_MAX(vicinity->cycle_ms, health->interval_ms + health->timeout_ms);
	if (is_probed(backend))
		vicinity->answered_ms =
			RTE_MAX(vicinity->answered_ms, status_of(backend)->answered_ms);
}

/* When all answers are known. */
static bool has_fallen(const struct vicinity *vicinity, const struct control_backend *backend)
{
	uint64_t last_ms = is_probed(backend) ? status_of(backend)->answered_ms : backend->down_ms;

	return silent_ms(backend) != 0 && last_ms + vicinity->cycle_ms >= vicinity->answered_ms;
}

static void add_fallen(struct vicinity *vicinity, const struct control_backend *backend)
{
	const struct net_addr *host = &backend->conf.endpoint.addr;

	if (vicinity->nb_fallen++ == 0)
		vicinity->fallen_host = *host;
	vicinity->fallen_many_hosts |= !net_addr_equal(host, &vicinity->fallen_host);
}

static bool look_at(
	struct vicinities *vicinities, const struct control_backend *backend, bool answers_known)
{
	struct vicinity *vicinity;

	if (!is_member(backend))
		return true;
	vicinity = find_or_add(vicinities, backend);
	if (vicinity == NULL)
		return false;
	if (!answers_known)
		add_member(vicinity, backend);
	else if (has_fallen(vicinity, backend))
		add_fallen(vicinity, backend);
	return true;
}

bool vicinities_look(struct vicinities *vicinities, const struct backends *backends)
{
	bool whole = true;

	vicinities->count = 0;
	for (unsigned pass = 0; pass < 2; pass++)
		for (uint32_t s = 0; s < backends->nb_services; s++)
			for (uint32_t b = 0; b < backends->services[s]->nb_backends; b++)
				whole &= look_at(
					vicinities, backends->services[s]->backends[b], pass == 1);
	return whole;
}

void vicinities_free(struct vicinities *vicinities)
{
	free(vicinities->list);
}

bool vicinity_is_settled(
	const struct vicinity *vicinity, const struct control_backend *backend, uint64_t now_ms)
{
	return vicinity->nb_backends < FALLEN_MIN ||
		now_ms >= silent_ms(backend) + vicinity->cycle_ms;
}

bool vicinity_is_dark(
	const struct vicinity *vicinity, const struct control_backend *backend, bool link_is_silent)
{
	bool is_link = vicinity->gateway.family == AF_UNSPEC;

	if (is_probed(backend) ? vicinity->answered_ms > silent_ms(backend)
			       : !vicinity->is_unreachable)
		return false;
	if (has_fallen(vicinity, backend) && vicinity->nb_fallen >= FALLEN_MIN &&
		vicinity->fallen_many_hosts)
		return true;
	return vicinity->is_unreachable && (!is_link || link_is_silent);
}
