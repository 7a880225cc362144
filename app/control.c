/* SPDX-License-Identifier: BSD-3-Clause */
#include "control.h"

#include <errno.h>
#include <event2/event.h>
#include <rte_rcu_qsbr.h>
#include <search.h>
#include <stdlib.h>

#include "clock.h"
#include "daemon.h"
#include "exception.h"
#include "log.h"
#include "service.h"
#include "snat.h"

// Changes that come together are published together.
#define PUBLISH_DELAY_MS 1
#define RETIRED_CHECK_MS 10
#define RETIRED_REPORT_MS 1000

/* An address and port that backends have, whatever services they stand in: the SNAT ports towards
 * it are lent once. */
struct control_endpoint {
	struct net_endpoint endpoint;
	uint32_t references;
	struct snat_pool *pools[]; // by SNAT address of the family
};

/* Which backend waits for which target; sorted by target. */
struct watch {
	const void *target;
	struct control_backend *backend;
};

/* A table that was replaced, until no worker can have it any more. */
struct retired {
	struct retired *next;
	struct service_table *table;
	uint64_t token;
	uint64_t since_ms;
	bool reported;
};

struct control {
	struct daemon *daemon;
	struct control_service *services;
	uint32_t nb_services;
	struct control_backend *backends; // by id
	uint32_t nb_backends;
	void *endpoints;                  // tsearch(3) tree of struct control_endpoint
	struct service_snat snat4, snat6;
	struct service_key *keys;
	uint32_t nb_keys;
	struct health *health;
	struct route *route;
	struct watch *health_watches, *route_watches;
	struct event *publish_event;
	struct event *retired_event;
	struct retired *retired;
};

const struct control_service *control_services(const struct control *control, uint32_t *count)
{
	*count = control->nb_services;
	return control->services;
}

const struct control_backend *control_backends(const struct control *control, uint32_t *count)
{
	*count = control->nb_backends;
	return control->backends;
}

bool control_backend_usable(const struct control_backend *backend)
{
	return backend->health.state == HEALTH_UP && backend->hop.state == ROUTE_RESOLVED &&
		backend->conf->weight != 0;
}

/* --- SNAT addresses, ports and endpoints --- */

int control_snat_create(struct daemon *daemon)
{
	const struct conf_snat *conf = &daemon->conf->snat;
	struct snat_range ranges[SNAT_RANGES_MAX];
	unsigned nb_ranges = 0;

	for (; nb_ranges < conf->nb_ranges; nb_ranges++)
		ranges[nb_ranges] = (struct snat_range){conf->ranges[nb_ranges].first,
			conf->ranges[nb_ranges].last};
	if (nb_ranges == 0) {
		// What the kernel takes for its own connections stays the kernel's.
		uint16_t first, last;
		int err = exception_local_port_range(daemon->exception, &first, &last);
		if (err < 0)
			return err;
		if (first > 1024)
			ranges[nb_ranges++] = (struct snat_range){1024, first - 1};
		if (last < UINT16_MAX)
			ranges[nb_ranges++] = (struct snat_range){last + 1, UINT16_MAX};
		if (nb_ranges == 0)
			return -ENOSPC;
	}
	daemon->snat = snat_create(ranges, nb_ranges, daemon->key.k, NULL);
	return daemon->snat == NULL ? -errno : 0;
}

/* The addresses used towards backends of a family: those of the file, or the port's first. */
static int snat_addresses(struct service_snat *snat, const struct conf *conf, sa_family_t family)
{
	snat->addrs = calloc(conf->snat.nb_addresses + 1, sizeof(*snat->addrs));
	if (snat->addrs == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < conf->snat.nb_addresses; i++)
		if (conf->snat.addresses[i].family == family)
			snat->addrs[snat->count++] = conf->snat.addresses[i];
	for (unsigned i = 0; i < conf->port.nb_addresses && snat->count == 0; i++)
		if (conf->port.addresses[i].addr.family == family)
			snat->addrs[snat->count++] = conf->port.addresses[i].addr;
	return 0;
}

static const struct service_snat *snat_of(const struct control *control, sa_family_t family)
{
	return family == AF_INET6 ? &control->snat6 : &control->snat4;
}

static int compare_endpoints(const void *a, const void *b)
{
	const struct net_endpoint *first = a, *second = b;

	if (first->port != second->port)
		return first->port < second->port ? -1 : 1;
	if (first->addr.family != second->addr.family)
		return first->addr.family < second->addr.family ? -1 : 1;
	return memcmp(first->addr.v6, second->addr.v6, sizeof(first->addr.v6));
}

static void endpoint_put(struct control *control, struct control_endpoint *endpoint)
{
	if (endpoint == NULL || --endpoint->references != 0)
		return;
	for (uint32_t i = 0; i < snat_of(control, endpoint->endpoint.addr.family)->count; i++)
		snat_pool_destroy(endpoint->pools[i]);
	tdelete(endpoint, &control->endpoints, compare_endpoints);
	free(endpoint);
}

static struct control_endpoint *endpoint_get(struct control *control,
	const struct net_endpoint *key)
{
	struct control_endpoint **found = tfind(key, &control->endpoints, compare_endpoints);
	uint32_t count = snat_of(control, key->addr.family)->count;

	if (found != NULL) {
		(*found)->references++;
		return *found;
	}
	struct control_endpoint *endpoint =
		calloc(1, sizeof(*endpoint) + count * sizeof(endpoint->pools[0]));
	if (endpoint == NULL)
		return NULL;
	endpoint->endpoint = *key;
	endpoint->references = 1;
	if (tsearch(endpoint, &control->endpoints, compare_endpoints) == NULL) {
		free(endpoint);
		errno = ENOMEM;
		return NULL;
	}
	for (uint32_t i = 0; i < count; i++) {
		endpoint->pools[i] = snat_pool_create(control->daemon->snat, 0);
		if (endpoint->pools[i] == NULL) {
			endpoint_put(control, endpoint);
			errno = ENOMEM;
			return NULL;
		}
	}
	return endpoint;
}

/* --- publishing --- */

/* The same on every balancer, so that all build the same table: no secret in it. */
static uint64_t backend_identity(const struct net_endpoint *endpoint)
{
	static const struct hash_key fixed;
	uint8_t bytes[sizeof(endpoint->addr.v6) + sizeof(endpoint->port)];

	memcpy(bytes, endpoint->addr.v6, sizeof(endpoint->addr.v6));
	memcpy(bytes + sizeof(endpoint->addr.v6), &endpoint->port, sizeof(endpoint->port));
	return hash_siphash(&fixed, bytes, sizeof(bytes));
}

static int build_service(struct control *control, struct control_service *service)
{
	const struct conf_service *conf = service->conf;
	uint32_t *ids = calloc(conf->nb_backends, sizeof(*ids));
	struct scheduler_backend *weights = calloc(conf->nb_backends, sizeof(*weights));
	struct service_source source = {
		.name = conf->name,
		.family = conf->family,
		.drop_when_down = conf->on_all_down == CONF_ALL_DOWN_DROP,
		.scheduler = conf->scheduler == CONF_SCHEDULER_ROUND_ROBIN ? &scheduler_round_robin
									  : &scheduler_maglev,
		.candidates = ids,
		.weights = weights,
	};
	struct service *built = NULL;

	if (ids == NULL || weights == NULL)
		goto out;
	for (uint32_t i = 0; i < service->nb_backends; i++) {
		const struct control_backend *backend =
			&control->backends[service->first_backend + i];
		if (!control_backend_usable(backend))
			continue;
		ids[source.nb_candidates] = backend->id;
		weights[source.nb_candidates++] = (struct scheduler_backend){
			backend_identity(&backend->conf->endpoint), backend->conf->weight};
	}
	built = service_create(&source);
out:
	free(ids);
	free(weights);
	if (built == NULL)
		return -ENOMEM;
	service_put(service->built);
	service->built = built;
	service->changed = false;
	return 0;
}

static struct service_table *build_table(struct control *control)
{
	struct service **services = calloc(control->nb_services + 1, sizeof(*services));
	struct service_backend *backends = NULL;
	struct service_table *table = NULL;

	if (services == NULL || posix_memalign((void **)&backends, 64,
		(control->nb_backends + 1) * sizeof(*backends)) != 0)
		goto out;
	for (uint32_t i = 0; i < control->nb_services; i++)
		services[i] = control->services[i].built;
	for (uint32_t i = 0; i < control->nb_backends; i++) {
		const struct control_backend *backend = &control->backends[i];
		const struct net_endpoint *endpoint = &backend->conf->endpoint;
		backends[i] = (struct service_backend){
			.generation = backend->generation,
			.service = backend->service,
			.next_hop = backend->hop.mac,
			.port = endpoint->port,
			.family = endpoint->addr.family,
			.resolved = backend->hop.state == ROUTE_RESOLVED,
			.pools = backend->endpoint->pools,
		};
		memcpy(backends[i].addr, endpoint->addr.v6, sizeof(backends[i].addr));
	}
	struct service_table_source source = {
		.services = services,
		.nb_services = control->nb_services,
		.backends = backends,
		.nb_backends = control->nb_backends,
		.snat4 = control->snat4,
		.snat6 = control->snat6,
		.snat = control->daemon->snat,
		.keys = control->keys,
		.nb_keys = control->nb_keys,
	};
	table = service_table_create(&source);
out:
	free(services);
	free(backends);
	return table;
}

static void retire(struct control *control, struct service_table *table)
{
	struct retired *retired;

	if (table == NULL)
		return;
	retired = calloc(1, sizeof(*retired));
	if (retired == NULL)
		return; // the table is lost: better than freed under a reader
	retired->table = table;
	// Behind the swap: whoever reports from here on has loaded the new pointer.
	retired->token = rte_rcu_qsbr_start(control->daemon->rcu);
	retired->since_ms = clock_ms();
	retired->next = control->retired;
	control->retired = retired;
	event_add(control->retired_event, &(struct timeval){.tv_usec = RETIRED_CHECK_MS * 1000});
}

static void retired_check(evutil_socket_t fd, short what, void *context)
{
	struct control *control = context;

	for (struct retired **at = &control->retired; *at != NULL;) {
		struct retired *retired = *at;
		uint64_t age_ms = clock_ms() - retired->since_ms;
		if (rte_rcu_qsbr_check(control->daemon->rcu, retired->token, false) == 1) {
			*at = retired->next;
			service_table_destroy(retired->table);
			free(retired);
			continue;
		}
		if (age_ms > RETIRED_REPORT_MS && !retired->reported) {
			retired->reported = true;
			log_warning("a replaced service table is still in use after %lu ms: "
				    "a worker is stuck", age_ms);
		}
		at = &retired->next;
	}
	if (control->retired != NULL)
		event_add(control->retired_event,
			&(struct timeval){.tv_usec = RETIRED_CHECK_MS * 1000});
}

/* Build, swap, retire. What can't be built for want of memory stays as it is, and is tried again. */
static int publish(struct control *control)
{
	struct daemon *daemon = control->daemon;

	for (uint32_t i = 0; i < control->nb_services; i++)
		if (control->services[i].changed && build_service(control, &control->services[i]) < 0)
			return -ENOMEM;
	struct service_table *table = build_table(control);
	if (table == NULL)
		return -ENOMEM;
	// Release: a worker that sees the pointer sees the whole table.
	retire(control, __atomic_exchange_n(&daemon->services, table, __ATOMIC_ACQ_REL));
	return 0;
}

static void publish_soon(struct control *control)
{
	event_add(control->publish_event, &(struct timeval){.tv_usec = PUBLISH_DELAY_MS * 1000});
}

static void publish_due(evutil_socket_t fd, short what, void *context)
{
	struct control *control = context;

	if (publish(control) < 0) {
		log_error("no memory for a new service table; trying again in a second");
		event_add(control->publish_event, &(struct timeval){.tv_sec = 1});
	}
}

/* --- what health and route say --- */

static int compare_watches(const void *a, const void *b)
{
	const struct watch *first = a, *second = b;

	return first->target < second->target ? -1 : first->target > second->target;
}

/* The first watch of the target; the others follow it. */
static const struct watch *first_watch(const struct watch *watches, uint32_t count,
	const void *target)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (watches[middle].target < target)
			low = middle + 1;
		else
			high = middle;
	}
	return &watches[low];
}

static void log_backend(const struct control *control, const struct control_backend *backend,
	const char *state, const char *reason)
{
	char text[NET_ENDPOINT_TEXT];

	log_info("service %s: backend %s %s: %s%s%s%s", control->services[backend->service].conf->name,
		backend->conf->name, net_endpoint_format(&backend->conf->endpoint, text), state,
		reason[0] ? " (" : "", reason, reason[0] ? ")" : "");
}

static void update_health(struct control *control, struct control_backend *backend)
{
	backend->health = *health_target_status(backend->health_target);
	control->services[backend->service].changed = true;
}

static void update_hop(struct control *control, struct control_backend *backend)
{
	bool usable = control_backend_usable(backend);

	backend->hop = *route_target_hop(backend->route_target);
	if (control_backend_usable(backend) != usable)
		control->services[backend->service].changed = true;
}

static void health_changed(void *context, struct health_target *target)
{
	struct control *control = context;
	const struct watch *end = control->health_watches + control->nb_backends;

	pthread_mutex_lock(&control->daemon->lock);
	for (const struct watch *watch =
			first_watch(control->health_watches, control->nb_backends, target);
		watch < end && watch->target == target; watch++) {
		update_health(control, watch->backend);
		log_backend(control, watch->backend, health_state_name(watch->backend->health.state),
			watch->backend->health.reason);
	}
	pthread_mutex_unlock(&control->daemon->lock);
	publish_soon(control);
}

static void route_changed(void *context, struct route_target *target)
{
	struct control *control = context;
	const struct watch *end = control->route_watches + control->nb_backends;

	pthread_mutex_lock(&control->daemon->lock);
	for (const struct watch *watch =
			first_watch(control->route_watches, control->nb_backends, target);
		watch < end && watch->target == target; watch++) {
		enum route_state before = watch->backend->hop.state;
		update_hop(control, watch->backend);
		if (before == watch->backend->hop.state)
			continue;
		if (watch->backend->hop.state == ROUTE_UNREACHABLE)
			log_backend(control, watch->backend, "unreachable", "no neighbour or route");
		else if (watch->backend->hop.state == ROUTE_LOCAL)
			log_backend(control, watch->backend, "unreachable", "its route leads elsewhere");
		else if (watch->backend->hop.state == ROUTE_RESOLVED && before == ROUTE_UNREACHABLE)
			log_backend(control, watch->backend, "reachable again", "");
	}
	pthread_mutex_unlock(&control->daemon->lock);
	publish_soon(control);
}

/* --- set-up --- */

static void key_add(struct control *control, enum service_key_kind kind,
	const struct net_addr *addr, uint16_t port, uint32_t value)
{
	service_key_set(&control->keys[control->nb_keys++], kind, addr, port, value);
}

/* Every address and port the packet path has to know. */
static int collect_keys(struct control *control)
{
	const struct conf *conf = control->daemon->conf;
	const struct service_snat *snats[] = {&control->snat4, &control->snat6};
	uint32_t max = 2 + control->nb_backends * 2 + control->snat4.count + control->snat6.count;

	for (unsigned s = 0; s < conf->nb_services; s++)
		max += conf->services[s].nb_listens * conf->port.nb_addresses;
	control->keys = calloc(max, sizeof(*control->keys));
	if (control->keys == NULL)
		return -ENOMEM;

	for (unsigned s = 0; s < conf->nb_services; s++) {
		const struct conf_service *service = &conf->services[s];
		for (unsigned l = 0; l < service->nb_listens; l++) {
			const struct conf_listen *listen = &service->listens[l];
			if (!listen->any) {
				key_add(control, SERVICE_KEY_VIP, &listen->endpoint.addr,
					listen->endpoint.port, s);
				continue;
			}
			for (unsigned a = 0; a < conf->port.nb_addresses; a++)
				if (conf->port.addresses[a].addr.family == service->family)
					key_add(control, SERVICE_KEY_VIP, &conf->port.addresses[a].addr,
						listen->endpoint.port, s);
		}
	}
	for (uint32_t b = 0; b < control->nb_backends; b++) {
		const struct net_endpoint *endpoint = &control->backends[b].conf->endpoint;
		key_add(control, SERVICE_KEY_ENDPOINT, &endpoint->addr, endpoint->port, b);
		key_add(control, SERVICE_KEY_HOST, &endpoint->addr, 0, b);
	}
	if (conf->port.gateway4.family != AF_UNSPEC)
		key_add(control, SERVICE_KEY_HOST, &conf->port.gateway4, 0, 0);
	if (conf->port.gateway6.family != AF_UNSPEC)
		key_add(control, SERVICE_KEY_HOST, &conf->port.gateway6, 0, 0);
	for (unsigned f = 0; f < 2; f++)
		for (uint32_t i = 0; i < snats[f]->count; i++)
			key_add(control, SERVICE_KEY_SNAT, &snats[f]->addrs[i], 0, i);
	return 0;
}

static int add_backends(struct control *control)
{
	const struct conf *conf = control->daemon->conf;

	for (unsigned s = 0; s < conf->nb_services; s++)
		control->nb_backends += conf->services[s].nb_backends;
	control->services = calloc(conf->nb_services + 1, sizeof(*control->services));
	control->backends = calloc(control->nb_backends + 1, sizeof(*control->backends));
	if (control->services == NULL || control->backends == NULL)
		return -ENOMEM;

	uint32_t id = 0;
	for (unsigned s = 0; s < conf->nb_services; s++, control->nb_services++) {
		const struct conf_service *service = &conf->services[s];
		control->services[s] = (struct control_service){
			.conf = service,
			.first_backend = id,
			.nb_backends = service->nb_backends,
			.changed = true,
		};
		for (unsigned b = 0; b < service->nb_backends; b++, id++) {
			struct control_backend *backend = &control->backends[id];
			*backend = (struct control_backend){
				.conf = &service->backends[b], .id = id, .service = s};
			backend->endpoint = endpoint_get(control, &backend->conf->endpoint);
			if (backend->endpoint == NULL)
				return -errno;
		}
	}
	return 0;
}

/* From here on probes are sent and next hops asked for. */
static int watch_backends(struct control *control)
{
	control->health_watches = calloc(control->nb_backends + 1, sizeof(struct watch));
	control->route_watches = calloc(control->nb_backends + 1, sizeof(struct watch));
	if (control->health_watches == NULL || control->route_watches == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < control->nb_backends; i++) {
		struct control_backend *backend = &control->backends[i];
		const struct net_endpoint *endpoint = &backend->conf->endpoint;
		backend->route_target = route_target_get(control->route, &endpoint->addr);
		backend->health_target = health_target_get(control->health, endpoint,
			&control->services[backend->service].conf->health);
		if (backend->route_target == NULL || backend->health_target == NULL)
			return -errno;
		control->health_watches[i] = (struct watch){backend->health_target, backend};
		control->route_watches[i] = (struct watch){backend->route_target, backend};
		update_health(control, backend);
		update_hop(control, backend);
	}
	qsort(control->health_watches, control->nb_backends, sizeof(struct watch), compare_watches);
	qsort(control->route_watches, control->nb_backends, sizeof(struct watch), compare_watches);
	return 0;
}

struct control *control_create(struct daemon *daemon)
{
	struct control *control = calloc(1, sizeof(*control));
	int netns = exception_netns(daemon->exception), err;

	if (control == NULL)
		return NULL;
	control->daemon = daemon;
	err = -ENOMEM;
	control->publish_event = evtimer_new(daemon->events, publish_due, control);
	control->retired_event = evtimer_new(daemon->events, retired_check, control);
	if (control->publish_event == NULL || control->retired_event == NULL)
		goto fail;
	if ((err = snat_addresses(&control->snat4, daemon->conf, AF_INET)) < 0 ||
		(err = snat_addresses(&control->snat6, daemon->conf, AF_INET6)) < 0 ||
		(err = add_backends(control)) < 0 || (err = collect_keys(control)) < 0)
		goto fail;
	control->health = health_create(daemon->events, netns, health_changed, control);
	control->route = control->health == NULL
		? NULL
		: route_create(daemon->events, netns, EXCEPTION_INTERFACE, route_changed, control);
	if (control->route == NULL) {
		err = -errno;
		goto fail;
	}
	if ((err = watch_backends(control)) < 0 || (err = publish(control)) < 0)
		goto fail;
	return control;
fail:
	control_destroy(control);
	errno = -err;
	return NULL;
}

void control_destroy(struct control *control)
{
	if (control == NULL)
		return;
	struct daemon *daemon = control->daemon;

	for (uint32_t i = 0; i < control->nb_backends && control->backends != NULL; i++) {
		if (control->backends[i].health_target != NULL)
			health_target_put(control->backends[i].health_target);
		if (control->backends[i].route_target != NULL)
			route_target_put(control->backends[i].route_target);
	}
	health_destroy(control->health);
	route_destroy(control->route);
	service_table_destroy(daemon->services);
	daemon->services = NULL;
	while (control->retired != NULL) {
		struct retired *retired = control->retired;
		control->retired = retired->next;
		service_table_destroy(retired->table);
		free(retired);
	}
	for (uint32_t i = 0; i < control->nb_services; i++)
		service_put(control->services[i].built);
	for (uint32_t i = 0; i < control->nb_backends && control->backends != NULL; i++)
		endpoint_put(control, control->backends[i].endpoint);
	if (control->publish_event != NULL)
		event_free(control->publish_event);
	if (control->retired_event != NULL)
		event_free(control->retired_event);
	free(control->health_watches);
	free(control->route_watches);
	free(control->snat4.addrs);
	free(control->snat6.addrs);
	free(control->keys);
	free(control->backends);
	free(control->services);
	free(control);
}
