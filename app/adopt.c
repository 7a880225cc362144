/* SPDX-License-Identifier: BSD-3-Clause */
#include "adopt.h"

#include <errno.h>
#include <rte_byteorder.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "clock.h"
#include "control.h"
#include "daemon.h"
#include "keep.h"
#include "log.h"
#include "passive.h"
#include "snat.h"
#include "tables.h"
#include "timeouts.h"
#include "watch.h"

/* An address and port: of a VIP (service NULL), or of a backend within a service. */
struct place {
	const struct control_service *within;
	struct net_endpoint endpoint;
	void *owner; // the service, or the backend; NULL = a free place
};

struct adoption {
	struct daemon *daemon;
	struct backends *backends;
	struct place *places; // open addressing
	uint32_t nb_places;   // a power of two
	uint32_t nb_used;
	sa_family_t family;
	const struct control_service *timed; // the service that timeout_s is of
	uint16_t timeout_s[TCP_STATES];
	uint32_t nb_removed; // backends entered as removed
	bool failed;         // for want of memory
};

/* --- who has an address --- */

static struct place *find_place(struct place *places, uint32_t nb_places,
	const struct control_service *within, const struct net_endpoint *endpoint)
{
	uint64_t words[3];

	memcpy(words, endpoint->addr.v6, 16);
	words[2] = (uintptr_t)within ^ (uint64_t)endpoint->port << 48;
	uint64_t hash = 0;
	for (unsigned i = 0; i < 3; i++)
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15 >> 7 ^ hash << 31;
	for (uint32_t at = hash ^ hash >> 32;; at++) {
		struct place *place = &places[at & (nb_places - 1)];
		if (place->owner == NULL ||
			(place->within == within && net_endpoint_equal(&place->endpoint, endpoint)))
			return place;
	}
}

static int grow_places(struct adoption *adoption)
{
	uint32_t nb_places = adoption->nb_places ? adoption->nb_places * 2 : 1024;
	struct place *places = calloc(nb_places, sizeof(*places));

	if (places == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < adoption->nb_places; i++) {
		const struct place *old = &adoption->places[i];
		if (old->owner != NULL)
			*find_place(places, nb_places, old->within, &old->endpoint) = *old;
	}
	free(adoption->places);
	adoption->places = places;
	adoption->nb_places = nb_places;
	return 0;
}

/* The first to have an address has it. */
static int add_place(struct adoption *adoption, const struct control_service *within,
	const struct net_endpoint *endpoint, void *owner)
{
	if (adoption->nb_used >= adoption->nb_places / 2 && grow_places(adoption) < 0)
		return -ENOMEM;
	struct place *place = find_place(adoption->places, adoption->nb_places, within, endpoint);
	if (place->owner == NULL) {
		*place = (struct place){within, *endpoint, owner};
		adoption->nb_used++;
	}
	return 0;
}

static int add_service(struct adoption *adoption, struct control_service *service)
{
	const struct conf_port *port = &adoption->daemon->conf->port;
	int err = 0;

	for (unsigned l = 0; l < service->conf->nb_listens && err == 0; l++) {
		const struct conf_listen *listen = &service->conf->listens[l];
		if (!listen->any)
			err = add_place(adoption, NULL, &listen->endpoint, service);
		for (unsigned a = 0; listen->any && a < port->nb_addresses && err == 0; a++)
			if (port->addresses[a].addr.family == service->conf->family)
				err = add_place(adoption, NULL,
					&(struct net_endpoint){
						port->addresses[a].addr, listen->endpoint.port},
					service);
	}
	for (uint32_t b = 0; b < service->nb_backends && err == 0; b++)
		err = add_place(adoption, service, &service->backends[b]->conf.endpoint,
			service->backends[b]);
	return err;
}

/* --- who isn't in the file any more --- */

/* A service that only has a past, under the address that its clients know. */
static struct control_service *make_service(
	struct adoption *adoption, const struct net_endpoint *vip)
{
	struct backends *backends = adoption->backends;
	char name[NET_ENDPOINT_TEXT];
	struct control_service *service = control_service_create(net_endpoint_format(vip, name));
	struct control_service **services =
		realloc(backends->services, (backends->nb_services + 1) * sizeof(*services));

	if (services != NULL)
		backends->services = services;
	if (service == NULL || services == NULL || add_place(adoption, NULL, vip, service) < 0) {
		control_service_destroy(service);
		return NULL;
	}
	services[backends->nb_services++] = service;
	return service;
}

/* Addresses of names aren't known yet: whoever seems to be gone may only not have come yet. */
static bool has_names(const struct control_service *service)
{
	for (unsigned b = 0; service->conf != NULL && b < service->conf->nb_backends; b++)
		if (service->conf->backends[b].host != NULL)
			return true;
	return false;
}

static struct control_backend *make_backend(struct adoption *adoption,
	struct control_service *service, const struct net_endpoint *endpoint)
{
	static const struct conf_health unprobed = {.type = CONF_HEALTH_NONE};
	struct backends *backends = adoption->backends;
	char name[NET_ENDPOINT_TEXT];
	struct conf_backend conf = {.name = name, .endpoint = *endpoint, .weight = 1};
	struct control_backend **list =
		realloc(service->backends, (service->nb_backends + 1) * sizeof(*list));

	if (list == NULL)
		return NULL;
	service->backends = list;
	net_endpoint_format(endpoint, name);
	struct control_backend *backend = control_backend_create(backends, service, &conf, endpoint,
		service->conf != NULL ? &service->conf->health : &unprobed);
	if (backend == NULL)
		return NULL;
	if (service->conf == NULL) {
		unwatch_health(backends->watch, backend);
		backend->health = (struct health_status){.since_ms = clock_ms()};
	}
	backend->life = BACKEND_REMOVED;
	backend->left_at = control_next_publication(adoption->daemon->control);
	if (service->resets_removed && !has_names(service)) {
		backend->reset = true;
		backends->reset_round++;
	}
	list[service->nb_backends++] = backend;
	backends->nb_backends++;
	backends_keys_of_backend(backends, backend, 1);
	backends_row_update(backends, backend);
	adoption->nb_removed++;
	if (add_place(adoption, service, endpoint, backend) < 0)
		adoption->failed = true;
	return backend;
}

/* --- flow by flow --- */

static struct net_endpoint endpoint_of(
	struct flow *flow, sa_family_t family, enum flow_address which)
{
	struct net_endpoint endpoint = {.addr.family = family, .port = flow->port[which]};

	memcpy(endpoint.addr.v6, flow_addr(flow, family, which), net_addr_size(family));
	return endpoint;
}

/* Flows of one service come in rows. */
static const uint16_t *timeouts_of(struct adoption *adoption, const struct control_service *service)
{
	if (adoption->timed != service)
		timeouts_at_start(adoption->daemon->conf, service->conf, adoption->timeout_s);
	adoption->timed = service;
	return adoption->timeout_s;
}

static const uint16_t *resolve(void *context, struct flow *flow)
{
	struct adoption *adoption = context;
	struct net_endpoint vip = endpoint_of(flow, adoption->family, FLOW_VIP);
	struct net_endpoint endpoint = endpoint_of(flow, adoption->family, FLOW_BACKEND);
	struct place *place = find_place(adoption->places, adoption->nb_places, NULL, &vip);
	struct control_service *service = place->owner;

	if (service == NULL)
		service = make_service(adoption, &vip);
	if (service == NULL)
		return NULL;
	place = find_place(adoption->places, adoption->nb_places, service, &endpoint);
	struct control_backend *backend = place->owner;
	if (backend == NULL)
		backend = make_backend(adoption, service, &endpoint);
	if (backend == NULL)
		return NULL;
	flow->backend = backend->generation << FLOW_BACKEND_ID_BITS | backend->id;
	return timeouts_of(adoption, service);
}

static void take_port(struct adoption *adoption, struct flow *flow, bool closed)
{
	const struct endpoints *endpoints = &adoption->backends->endpoints;
	const struct service_snat *snat =
		adoption->family == AF_INET6 ? &endpoints->snat6 : &endpoints->snat4;
	struct control_backend *backend = adoption->backends->by_id[FLOW_BACKEND_ID(flow->backend)];
	const uint8_t *addr = flow_addr(flow, adoption->family, FLOW_SNAT);
	uint16_t port = rte_be_to_cpu_16(flow->port[FLOW_SNAT]);

	for (uint32_t i = 0; i < snat->count; i++) {
		struct snat_pool *pool = backend->endpoint->pools[i];
		if (memcmp(snat->addrs[i].v6, addr, net_addr_size(adoption->family)) != 0)
			continue;
		// A closed flow's port is free, but behind all others: the backend remembers it.
		if (snat_pool_take(pool, port) && closed)
			snat_pool_put(pool, port);
	}
}

static void adopted(void *context, struct flow *flow, enum tcp_state state)
{
	struct adoption *adoption = context;
	struct worker *worker = &adoption->daemon->workers[flow_worker(flow)];
	struct stats_backend *count = &worker->pipeline.backends[FLOW_BACKEND_ID(flow->backend)];

	count->opened++;
	count->ended += tcp_state_closed(state);
	take_port(adoption, flow, tcp_state_closed(state));
}

/* --- totals --- */

/*
 * What is told of a backend is what the workers counted less `before`. The workers have counted the
 * flows that were taken in; it is to come out as what the former process told.
 */
static void carry_totals(const struct adoption *adoption, struct control_backend *backend)
{
	struct keep *keep = adoption->daemon->keep;
	struct stats_backend now, *before = &backend->before;
	struct keep_totals former;
	struct passive_verdict verdict;

	control_backend_count(adoption->backends, backend, &now);
	keep_totals(keep, backend, &former);
	if (former.packets.opened < now.opened)
		former.packets.opened = now.opened;
	for (unsigned d = 0; d < 2; d++) {
		before->packets[d] -= former.packets.packets[d];
		before->bytes[d] -= former.packets.bytes[d];
	}
	// As many are open now as were taken in; all others have ended.
	uint64_t past = former.packets.opened - now.opened;
	before->opened -= past;
	before->ended -= past;
	before->closed -= past;
	before->no_port -= former.packets.no_port;
	backend->no_port_told = former.packets.no_port;
	stats_connect_subtract(&backend->connects_before, &former.connects);
	adoption->backends->connections[backend->id] = former.connections;
	passive_resume(adoption->backends->passive, backend,
		keep_passive(keep, backend, &verdict) ? &verdict : NULL);
}

static void carry_service_totals(const struct adoption *adoption, struct control_service *service)
{
	struct stats_service former;

	keep_service_totals(
		adoption->daemon->keep, service->name, &former, &service->past_connections);
	service->before.denied -= former.denied;
	service->before.refused_max_conns -= former.refused_max_conns;
}

static void carry_all_totals(const struct adoption *adoption)
{
	struct backends *backends = adoption->backends;

	for (uint32_t s = 0; s < backends->nb_services; s++)
		for (uint32_t b = 0; b < backends->services[s]->nb_backends; b++)
			carry_totals(adoption, backends->services[s]->backends[b]);
	for (uint32_t s = 0; s < backends->nb_listed; s++)
		carry_service_totals(adoption, backends->services[s]);
}

static void tell(const struct daemon *daemon, const struct flow_adopt_result *result,
	sa_family_t family, uint32_t nb_removed)
{
	char why[200] = "";
	size_t length = 0;

	for (unsigned i = 0; i < FLOW_ADOPT_DROPS; i++)
		if (result->dropped[i] != 0)
			length += snprintf(why + length, sizeof(why) - length, "%s %u %s",
				length ? "," : "; not:", result->dropped[i],
				flow_adopt_drop_names[i]);
	log_info("%s: %u connections taken over%s", family == AF_INET6 ? "IPv6" : "IPv4",
		result->adopted, why);
	if (nb_removed != 0)
		log_info("%u of their backends are not in the file any more", nb_removed);
}

static void adopt_family(struct adoption *adoption, struct flow_table *table,
	const struct flow_file *file, struct flow_adopt_result *result)
{
	uint64_t now_s = clock_ms() / 1000;
	uint32_t nb_removed = adoption->nb_removed;

	adoption->family = table->family;
	flow_table_adopt(table,
		&(struct flow_adopt_source){
			.found = file->found,
			.now_s = now_s,
			.alive_s = file->alive_s < now_s ? file->alive_s : now_s,
			.resolve = resolve,
			.adopted = adopted,
			.context = adoption,
		},
		result);
	if (file->found != 0)
		tell(adoption->daemon, result, table->family, adoption->nb_removed - nb_removed);
}

int adopt_flows(struct daemon *daemon)
{
	struct adoption adoption = {
		.daemon = daemon,
		.backends = control_registry(daemon->control),
	};
	struct flow_table *tables[] = {daemon->flows4, daemon->flows6};
	uint64_t started_ms = clock_ms();
	int err = grow_places(&adoption);

	for (uint32_t s = 0; s < adoption.backends->nb_listed && err == 0; s++)
		err = add_service(&adoption, adoption.backends->services[s]);
	for (unsigned f = 0; f < 2 && err == 0; f++)
		if (daemon->files[f].fd >= 0)
			adopt_family(&adoption, tables[f], &daemon->files[f], &daemon->adopted[f]);
	if (err == 0 && adoption.failed)
		err = -ENOMEM;
	if (err == 0)
		carry_all_totals(&adoption);
	if (adoption.nb_removed != 0)
		control_reap(daemon->control);
	free(adoption.places);
	tables_adopted(daemon);
	daemon->adopted_ms = clock_ms() - started_ms;
	return err;
}
