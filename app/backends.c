/* SPDX-License-Identifier: BSD-3-Clause */
#include "backends.h"

#include <errno.h>
#include <rte_common.h>
#include <stdio.h>
#include <stdlib.h>

#include "clock.h"
#include "id_pool.h"
#include "resolver.h"
#include "service_access.h"
#include "watch.h"

_Static_assert(BACKENDS_IDS_MAX < 1u << SERVICE_ID_BITS, "an id fits into a flow");
_Static_assert(SERVICE_ID_BITS + ID_GENERATION_BITS == 32, "and its generation beside it");

int backends_init(
	struct backends *backends, const struct conf *conf, const struct snat_ports ports[2])
{
	memset(backends, 0, sizeof(*backends));
	backends->all_keys = true;
	backends->list = clock_ms(); // beyond all of the process before
	int err = endpoints_init(&backends->endpoints, conf, ports);
	if (err < 0)
		return err;
	// The kernel gives the pages of these where they are written first.
	backends->ids = id_pool_create(BACKENDS_IDS_MAX);
	backends->indices = id_pool_create(BACKENDS_IDS_MAX);
	backends->by_index = calloc(BACKENDS_IDS_MAX, sizeof(*backends->by_index));
	backends->index_published = calloc(BACKENDS_IDS_MAX, sizeof(*backends->index_published));
	backends->by_id = calloc(BACKENDS_IDS_MAX, sizeof(*backends->by_id));
	backends->connections = calloc(BACKENDS_IDS_MAX, sizeof(*backends->connections));
	backends->rows = calloc(BACKENDS_IDS_MAX, sizeof(*backends->rows));
	backends->changed_rows = calloc(BACKENDS_IDS_MAX, sizeof(*backends->changed_rows));
	backends->row_changed = calloc(BACKENDS_IDS_MAX, sizeof(*backends->row_changed));
	return backends->ids == NULL || backends->indices == NULL || backends->by_index == NULL ||
			backends->index_published == NULL || backends->by_id == NULL ||
			backends->rows == NULL || backends->changed_rows == NULL ||
			backends->row_changed == NULL || backends->connections == NULL
		? -ENOMEM
		: 0;
}

void backends_fini(struct backends *backends)
{
	for (uint32_t s = 0; s < backends->nb_services; s++) {
		struct control_service *service = backends->services[s];
		while (service->nb_backends > 0)
			control_backend_destroy(
				backends, service->backends[--service->nb_backends]);
		control_service_destroy(service);
	}
	free(backends->services);
	free(backends->by_index);
	free(backends->index_published);
	free(backends->by_id);
	free(backends->rows);
	free(backends->connections);
	free(backends->changed_rows);
	free(backends->row_changed);
	free(backends->key_changes);
	id_pool_destroy(backends->ids);
	id_pool_destroy(backends->indices);
	endpoints_fini(&backends->endpoints);
}

struct control_service *backends_find_service(const struct backends *backends, const char *name)
{
	for (uint32_t i = 0; i < backends->nb_services; i++)
		if (strcmp(backends->services[i]->name, name) == 0)
			return backends->services[i];
	return NULL;
}

const struct control_backend *backends_at(const struct backends *backends, uint32_t n)
{
	for (uint32_t i = 0; i < backends->nb_services; i++) {
		if (n < backends->services[i]->nb_backends)
			return backends->services[i]->backends[n];
		n -= backends->services[i]->nb_backends;
	}
	return NULL;
}

struct control_service *control_service_create(const char *name)
{
	struct control_service *service = calloc(1, sizeof(*service));

	if (service == NULL)
		return NULL;
	strncpy(service->name, name, CONF_NAME_MAX);
	service->index = SERVICE_NONE;
	return service;
}

void control_service_destroy(struct control_service *service)
{
	if (service == NULL)
		return;
	service_access_put(service->access);
	conf_service_put(service->conf);
	free(service->backends);
	free(service);
}

int control_backend_conf_copy(struct conf_backend *copy, const struct conf_backend *conf,
	const struct net_endpoint *endpoint)
{
	char address[NET_ADDR_TEXT];

	*copy = *conf;
	copy->endpoint = *endpoint;
	copy->host = conf->host != NULL ? strdup(conf->host) : NULL;
	copy->name = NULL;
	if (conf->host == NULL)
		copy->name = strdup(conf->name);
	else if (asprintf(&copy->name, "%s/%s", conf->name,
			 net_addr_format(&endpoint->addr, address)) < 0)
		copy->name = NULL;
	if (copy->name != NULL && (conf->host == NULL || copy->host != NULL))
		return 0;
	control_backend_conf_free(copy);
	copy->name = copy->host = NULL;
	return -ENOMEM;
}

void control_backend_conf_free(struct conf_backend *conf)
{
	free(conf->host);
	free(conf->name);
}

struct control_backend *control_backend_create(struct backends *backends,
	struct control_service *service, const struct conf_backend *conf,
	const struct net_endpoint *endpoint, const struct conf_health *health)
{
	struct control_backend *backend = calloc(1, sizeof(*backend));
	int err = ENOMEM;

	if (backend == NULL)
		return NULL;
	backend->service = service;
	backend->temporary_state = backend->temporary_weight = -1;
	backend->id = id_pool_get(backends->ids);
	if (backend->id == ID_NONE) {
		err = ENOSPC;
		goto fail;
	}
	backend->generation = id_pool_generation(backends->ids, backend->id);
	if (control_backend_conf_copy(&backend->conf, conf, endpoint) < 0)
		goto fail;
	backend->endpoint = endpoints_get(&backends->endpoints, endpoint);
	if (backend->endpoint == NULL)
		goto fail;
	err = -watch_backend(backends->watch, backend, health);
	if (err != 0)
		goto fail;
	backends->by_id[backend->id] = backend;
	backends->connections[backend->id] = 0;
	if (backends->count != NULL)
		backends->count(backends->context, backend->id, &backend->before);
	if (backends->count_connects != NULL)
		backends->count_connects(backends->context, backend->id, &backend->connects_before);
	return backend;
fail:
	control_backend_destroy(backends, backend);
	errno = err;
	return NULL;
}

void backends_row_again(struct backends *backends, uint32_t id)
{
	if (!backends->row_changed[id])
		backends->changed_rows[backends->nb_changed_rows++] = id;
	backends->row_changed[id] = true;
}

/* What isn't as it was goes with the next job. */
static void set_row(struct backends *backends, uint32_t id, const struct service_backend *row)
{
	// Another padding is no more than one row too many.
	// NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
	if (memcmp(&backends->rows[id], row, sizeof(*row)) == 0)
		return;
	backends->rows[id] = *row;
	backends_row_again(backends, id);
}

static void blank_row(struct backends *backends, uint32_t id)
{
	struct service_backend row;

	memset(&row, 0, sizeof(row));
	row.service = SERVICE_NONE;
	set_row(backends, id, &row);
}

void control_backend_destroy(struct backends *backends, struct control_backend *backend)
{
	if (backend == NULL)
		return;
	unwatch_backend(backends->watch, backend);
	if (backend->passive.is_out)
		LIST_REMOVE(backend, passive.entry);
	endpoints_put(&backends->endpoints, backend->endpoint);
	if (backend->id != ID_NONE) {
		blank_row(backends, backend->id);
		backends->by_id[backend->id] = NULL;
		id_pool_put(backends->ids, backend->id);
	}
	control_backend_conf_free(&backend->conf);
	free(backend);
}

void control_backend_count(const struct backends *backends, const struct control_backend *backend,
	struct stats_backend *sum)
{
	const struct stats_backend *before = &backend->before;

	memset(sum, 0, sizeof(*sum));
	if (backends->count == NULL)
		return;
	backends->count(backends->context, backend->id, sum);
	for (unsigned d = 0; d < 2; d++) {
		sum->packets[d] -= before->packets[d];
		sum->bytes[d] -= before->bytes[d];
	}
	sum->opened -= before->opened;
	sum->ended -= before->ended;
	sum->closed -= before->closed;
	sum->no_port -= before->no_port;
}

static void count_index(const struct backends *backends, uint32_t index, struct stats_service *sum)
{
	memset(sum, 0, sizeof(*sum));
	if (backends->count_service != NULL && index != SERVICE_NONE)
		backends->count_service(backends->context, index, sum);
}

void control_service_count(const struct backends *backends, const struct control_service *service,
	struct stats_service *sum)
{
	count_index(backends, service->index, sum);
	sum->denied -= service->before.denied;
	sum->refused_max_conns -= service->before.refused_max_conns;
}

void control_service_take_index(
	struct backends *backends, struct control_service *service, uint32_t index)
{
	service->index = index;
	backends->by_index[index] = service;
	count_index(backends, index, &service->before);
}

void control_service_leave_index(struct backends *backends, struct control_service *service)
{
	backends->by_index[service->index] = NULL;
	id_pool_put(backends->indices, service->index);
	service->index = SERVICE_NONE;
}

void backends_least_timeouts(
	const struct backends *backends, const struct conf *conf, unsigned least_s[CONF_TIMEOUTS])
{
	memcpy(least_s, conf->timeout_s, sizeof(conf->timeout_s));
	for (uint32_t s = 0; s < backends->nb_services; s++) {
		const struct conf_service *service = backends->services[s]->conf;
		for (unsigned t = 0; service != NULL && t < CONF_TIMEOUTS; t++)
			if (service->timeout_s[t] != 0)
				least_s[t] = RTE_MIN(least_s[t], service->timeout_s[t]);
	}
}

void control_backend_count_connects(const struct backends *backends,
	const struct control_backend *backend, struct stats_connect *sum)
{
	memset(sum, 0, sizeof(*sum));
	if (backends->count_connects == NULL)
		return;
	backends->count_connects(backends->context, backend->id, sum);
	stats_connect_subtract(sum, &backend->connects_before);
}

uint64_t control_backend_connections(
	const struct backends *backends, const struct control_backend *backend)
{
	uint64_t *most = &backends->connections[backend->id];
	uint64_t told = __atomic_load_n(most, __ATOMIC_RELAXED);
	struct stats_backend sum;
	struct stats_connect connects;

	control_backend_count(backends, backend, &sum);
	control_backend_count_connects(backends, backend, &connects);
	// One that was opened between the two looks may have moved, too.
	if (sum.opened <= connects.moved_away)
		return told;
	uint64_t now = sum.opened - connects.moved_away;
	while (now > told &&
		!__atomic_compare_exchange_n(
			most, &told, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return RTE_MAX(now, told);
}

const struct health_status *control_backend_health(const struct control_backend *backend)
{
	return backend->passive.is_out && backend->health.state == HEALTH_UP
		? &backend->passive.status
		: &backend->health;
}

enum conf_state control_backend_state(const struct control_backend *backend)
{
	return backend->temporary_state >= 0 ? (enum conf_state)backend->temporary_state
					     : backend->conf.state;
}

unsigned control_backend_weight(const struct control_backend *backend)
{
	return backend->temporary_weight >= 0 ? (unsigned)backend->temporary_weight
					      : backend->conf.weight;
}

static bool may_have_connections(const struct control_backend *backend)
{
	return backend->life <= BACKEND_LEAVING && backend->hop.state == ROUTE_RESOLVED &&
		control_backend_state(backend) == CONF_STATE_ACTIVE &&
		control_backend_weight(backend) != 0;
}

bool control_backend_usable(const struct control_backend *backend)
{
	return may_have_connections(backend) && backend->health.state == HEALTH_UP &&
		!backend->passive.is_out;
}

static bool forwards(const struct control_service *service)
{
	return service->is_empty && service->conf != NULL &&
		service->conf->on_all_down == CONF_ALL_DOWN_FORWARD;
}

bool control_backend_candidate(const struct control_backend *backend)
{
	return forwards(backend->service) ? may_have_connections(backend)
					  : control_backend_usable(backend);
}

bool control_service_look(struct control_service *service)
{
	bool was_empty = service->is_empty;

	service->is_empty = true;
	for (uint32_t b = 0; b < service->nb_backends && service->is_empty; b++)
		service->is_empty = !control_backend_usable(service->backends[b]);
	return service->is_empty != was_empty;
}

bool control_backend_awaited(const struct control_backend *backend)
{
	return control_backend_state(backend) == CONF_STATE_ACTIVE &&
		control_backend_weight(backend) != 0 &&
		(backend->health.state == HEALTH_UNKNOWN ||
			(backend->health.state == HEALTH_UP &&
				backend->hop.state == ROUTE_PENDING));
}

bool control_service_awaited(const struct backends *backends, const struct control_service *service)
{
	const struct conf_service *conf = service->conf;

	for (uint32_t b = 0; b < service->nb_listed; b++)
		if (control_backend_awaited(service->backends[b]))
			return true;
	for (unsigned b = 0; b < conf->nb_backends; b++)
		if (conf->backends[b].host != NULL &&
			resolver_awaits(backends->resolver, conf->backends[b].host, conf->family))
			return true;
	return false;
}

/* Whether nobody who is listed can have connections, but somebody may soon. Backups take over when
 * it is known that nobody else can. */
static bool awaits(const struct control_service *service)
{
	bool any = false;

	for (uint32_t b = 0; b < service->nb_listed; b++) {
		const struct control_backend *backend = service->backends[b];
		if (!backend->conf.backup && control_backend_usable(backend))
			return false;
		any |= control_backend_awaited(backend);
	}
	return any;
}

static void remove_backend(
	struct backends *backends, struct control_backend *backend, uint64_t publication)
{
	backend->life = BACKEND_REMOVED;
	backend->left_at = publication;
	if (backend->service->resets_removed) {
		backend->reset = true;
		backends->reset_round++;
	}
	backends_row_update(backends, backend);
}

bool control_service_let_go(
	struct backends *backends, struct control_service *service, uint64_t publication)
{
	bool stays = service->is_listed && awaits(service), any = false;

	service->nb_leaving = 0;
	for (uint32_t b = service->nb_listed; b < service->nb_backends; b++) {
		struct control_backend *backend = service->backends[b];
		if (backend->life >= BACKEND_REMOVED)
			continue;
		if (stays && control_backend_usable(backend)) {
			backend->life = BACKEND_LEAVING;
			service->nb_leaving++;
			continue;
		}
		remove_backend(backends, backend, publication);
		any = true;
	}
	return any;
}

const char *control_backend_state_name(const struct control_backend *backend)
{
	static const char *const names[] = {
		[CONF_STATE_ACTIVE] = "active",
		[CONF_STATE_DRAIN] = "drain",
		[CONF_STATE_DISABLED] = "disabled",
	};

	if (backend->life == BACKEND_LEAVING)
		return "leaving";
	return backend->life == BACKEND_LISTED ? names[control_backend_state(backend)] : "removed";
}

void backends_row_update(struct backends *backends, const struct control_backend *backend)
{
	const struct net_endpoint *endpoint = &backend->conf.endpoint;
	struct service_backend row;

	if (backend->life == BACKEND_GONE) {
		blank_row(backends, backend->id);
		return;
	}
	memset(&row, 0, sizeof(row)); // what lies between its members is compared, too
	row.generation = backend->generation;
	row.service = backend->service->index; // of one that left the file, too
	row.next_hop = backend->hop.mac;
	row.port = endpoint->port;
	row.family = endpoint->addr.family;
	row.resolved = backend->hop.state == ROUTE_RESOLVED;
	row.down = control_backend_health(backend)->state == HEALTH_DOWN;
	// Where they get new ones, for want of a better backend, the old ones live, too.
	row.reset =
		backend->reset && !(backend->life == BACKEND_LISTED && forwards(backend->service));
	row.epoch = backend->epoch;
	row.pools = backend->endpoint->pools;
	memcpy(row.addr, endpoint->addr.v6, sizeof(row.addr));
	set_row(backends, backend->id, &row);
}

/* --- keys --- */

/* Room for `count` more changes; without it, the next job has all keys. */
static bool has_room(struct backends *backends, size_t count)
{
	if (backends->all_keys)
		return false;
	if (backends->nb_key_changes + count <= backends->key_changes_room)
		return true;
	size_t room = (backends->key_changes_room + count) * 2;
	struct service_key *changes = realloc(backends->key_changes, room * sizeof(*changes));
	if (changes == NULL) {
		backends->all_keys = true;
		return false;
	}
	backends->key_changes = changes;
	backends->key_changes_room = room;
	return true;
}

/* A list that has the room. */
struct key_list {
	struct service_key *keys;
	uint32_t count;
};

static void key_add(struct key_list *list, enum service_key_kind kind, const struct net_addr *addr,
	uint16_t port, uint32_t value)
{
	service_key_set(&list->keys[list->count++], kind, addr, port, value);
}

static void add_vips(
	struct key_list *list, const struct conf_port *port, const struct control_service *service)
{
	for (unsigned l = 0; l < service->conf->nb_listens; l++) {
		const struct conf_listen *listen = &service->conf->listens[l];
		if (!listen->any) {
			key_add(list, SERVICE_KEY_VIP, &listen->endpoint.addr,
				listen->endpoint.port, service->index);
			continue;
		}
		for (unsigned a = 0; a < port->nb_addresses; a++)
			if (port->addresses[a].addr.family == service->conf->family)
				key_add(list, SERVICE_KEY_VIP, &port->addresses[a].addr,
					listen->endpoint.port, service->index);
	}
}

/* No id as their value: it might be that of one who has left the key to another. */
static void add_endpoint(struct key_list *list, const struct net_endpoint *endpoint)
{
	key_add(list, SERVICE_KEY_ENDPOINT, &endpoint->addr, endpoint->port, 0);
	key_add(list, SERVICE_KEY_HOST, &endpoint->addr, 0, 0);
}

/* What was added behind the changes so far is one, too. */
static void take_changes(struct backends *backends, const struct key_list *list, int count)
{
	for (uint32_t i = 0; i < list->count; i++)
		list->keys[i].count = count;
	backends->nb_key_changes += list->count;
}

void backends_keys_of_backend(
	struct backends *backends, const struct control_backend *backend, int count)
{
	if (!has_room(backends, 2))
		return;
	struct key_list list = {backends->key_changes + backends->nb_key_changes, 0};
	add_endpoint(&list, &backend->conf.endpoint);
	take_changes(backends, &list, count);
}

void backends_keys_of_service(struct backends *backends, const struct conf_port *port,
	const struct control_service *service, int count)
{
	if (!has_room(backends, (size_t)service->conf->nb_listens * port->nb_addresses))
		return;
	struct key_list list = {backends->key_changes + backends->nb_key_changes, 0};
	add_vips(&list, port, service);
	take_changes(backends, &list, count);
}

struct service_key *backends_keys(
	const struct backends *backends, const struct conf *conf, uint32_t *nb_keys)
{
	const struct service_snat *snats[] = {
		&backends->endpoints.snat4, &backends->endpoints.snat6};
	const struct net_addr *gateways[] = {&conf->port.gateway4, &conf->port.gateway6};
	size_t max = 2 + backends->nb_backends * 2 + snats[0]->count + snats[1]->count;
	struct key_list list = {0};

	for (uint32_t s = 0; s < backends->nb_listed; s++)
		max += backends->services[s]->conf->nb_listens * conf->port.nb_addresses;
	list.keys = calloc(max, sizeof(*list.keys));
	if (list.keys == NULL)
		return NULL;
	for (uint32_t s = 0; s < backends->nb_services; s++) {
		const struct control_service *service = backends->services[s];
		if (service->is_listed)
			add_vips(&list, &conf->port, service);
		for (uint32_t b = 0; b < service->nb_backends; b++)
			if (service->backends[b]->life != BACKEND_GONE)
				add_endpoint(&list, &service->backends[b]->conf.endpoint);
	}
	for (unsigned f = 0; f < 2; f++) {
		if (gateways[f]->family != AF_UNSPEC)
			key_add(&list, SERVICE_KEY_HOST, gateways[f], 0, 0);
		for (uint32_t i = 0; i < snats[f]->count; i++)
			key_add(&list, SERVICE_KEY_SNAT, &snats[f]->addrs[i], 0, i);
	}
	*nb_keys = list.count;
	return list.keys;
}
