/* SPDX-License-Identifier: BSD-3-Clause */
#include "plan.h"

#include <errno.h>
#include <stdlib.h>

#include "backends.h"
#include "clock.h"
#include "id_pool.h"
#include "log.h"
#include "resolver.h"
#include "service_access.h"
#include "watch.h"

/* What becomes of one service of the configuration. */
struct plan_service {
	const struct conf_service *conf;
	struct control_service *service;
	bool is_new;  // made by this plan
	bool changed; // what follows is to be taken
	bool begun;
	struct control_backend **old; // the service's, sorted by endpoint
	uint32_t nb_old;
	struct control_backend **backends; // wanted ones, in order
	struct conf_backend *confs;        // of these, with strings of their own
	bool *created;                     // of these: made by this plan
	uint32_t nb_backends;
	uint32_t max;  // that there is room for
	uint32_t next; // of conf->backends
};

struct plan {
	struct backends *backends;
	const struct conf *conf;
	uint64_t number;
	struct plan_service *services;  // by service of conf
	struct control_service **order; // room for all services, old and new
	uint32_t next;                  // service to work on
	bool committed;
};

/* --- preparing --- */

static int compare_by_endpoint(const void *a, const void *b)
{
	const struct control_backend *const *first = a, *const *second = b;

	return net_endpoint_compare(&(*first)->conf.endpoint, &(*second)->conf.endpoint);
}

/* The service's backend at the address that still counts; GONE ones may stand beside it. */
static struct control_backend *find_old(
	const struct plan_service *wanted, const struct net_endpoint *endpoint)
{
	uint32_t low = 0, high = wanted->nb_old;

	while (low < high) {
		uint32_t middle = (low + high) / 2;
		if (net_endpoint_compare(&wanted->old[middle]->conf.endpoint, endpoint) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < wanted->nb_old &&
		net_endpoint_equal(&wanted->old[low]->conf.endpoint, endpoint);
		low++)
		if (wanted->old[low]->life != BACKEND_GONE)
			return wanted->old[low];
	return NULL;
}

static int begin_service(struct plan *plan, struct plan_service *wanted)
{
	uint32_t nb_old = wanted->service->nb_backends, max = 0;

	for (uint32_t b = 0; b < wanted->conf->nb_backends; b++) {
		const struct conf_backend *conf = &wanted->conf->backends[b];
		const struct net_addr *addrs;
		max += conf->host == NULL ? 1
					  : resolver_addresses(plan->backends->resolver, conf->host,
						    wanted->conf->family, &addrs);
	}
	wanted->max = max;

	wanted->begun = true;
	wanted->old = calloc(nb_old + 1, sizeof(*wanted->old));
	// Behind the wanted ones there is room for those that are not.
	wanted->backends = calloc(max + nb_old + 1, sizeof(*wanted->backends));
	wanted->confs = calloc(max + 1, sizeof(*wanted->confs));
	wanted->created = calloc(max + 1, sizeof(*wanted->created));
	if (wanted->old == NULL || wanted->backends == NULL || wanted->confs == NULL ||
		wanted->created == NULL)
		return -ENOMEM;
	if (nb_old != 0)
		memcpy(wanted->old, wanted->service->backends, nb_old * sizeof(*wanted->old));
	wanted->nb_old = nb_old;
	qsort(wanted->old, nb_old, sizeof(*wanted->old), compare_by_endpoint);
	return 0;
}

static int want_backend(struct plan *plan, struct plan_service *wanted,
	const struct conf_backend *conf, const struct net_endpoint *endpoint)
{
	struct control_backend *backend = find_old(wanted, endpoint);
	uint32_t at = wanted->nb_backends;

	if (backend != NULL && backend->plan == plan->number)
		return 0;      // listed twice: the first one counts
	if (at == wanted->max) // a name has more addresses since; there is another plan for these
		return 0;
	if (control_backend_conf_copy(&wanted->confs[at], conf, endpoint) < 0)
		return -ENOMEM;
	if (backend == NULL) {
		backend = control_backend_create(
			plan->backends, wanted->service, conf, endpoint, &wanted->conf->health);
		if (backend == NULL) {
			int err = -errno;
			control_backend_conf_free(&wanted->confs[at]);
			return err;
		}
		wanted->created[at] = true;
	}
	backend->plan = plan->number;
	wanted->backends[at] = backend;
	wanted->nb_backends++;
	return 0;
}

/* Each address of a name is a backend. */
static int want_name(
	struct plan *plan, struct plan_service *wanted, const struct conf_backend *conf)
{
	const struct net_addr *addrs;
	uint32_t nb = resolver_addresses(
		plan->backends->resolver, conf->host, wanted->conf->family, &addrs);
	int err = 0;

	for (uint32_t i = 0; i < nb && err == 0; i++)
		err = want_backend(
			plan, wanted, conf, &(struct net_endpoint){addrs[i], conf->endpoint.port});
	return err;
}

static int compare_by_name(const void *a, const void *b)
{
	const struct control_service *const *first = a, *const *second = b;

	return strcmp((*first)->name, (*second)->name);
}

/* The services that there are, sorted by name. */
static struct control_service **sort_services(const struct backends *backends)
{
	struct control_service **sorted = calloc(backends->nb_services + 1, sizeof(*sorted));

	if (sorted == NULL || backends->nb_services == 0)
		return sorted;
	memcpy(sorted, backends->services, backends->nb_services * sizeof(*sorted));
	qsort(sorted, backends->nb_services, sizeof(*sorted), compare_by_name);
	return sorted;
}

static struct control_service *find_service(
	struct control_service *const *sorted, uint32_t nb, const char *name)
{
	struct control_service key, *wanted = &key, **found;

	strncpy(key.name, name, sizeof(key.name) - 1);
	key.name[sizeof(key.name) - 1] = '\0';
	found = bsearch(&wanted, sorted, nb, sizeof(*sorted), compare_by_name);
	return found == NULL ? NULL : *found;
}

struct plan *plan_create(struct backends *backends, const struct conf *conf, const bool *changed)
{
	struct plan *plan = calloc(1, sizeof(*plan));
	struct control_service **sorted = NULL;

	if (plan == NULL)
		return NULL;
	plan->backends = backends;
	plan->conf = conf;
	plan->number = ++backends->nb_plans;
	plan->services = calloc(conf->nb_services + 1, sizeof(*plan->services));
	plan->order = calloc(conf->nb_services + backends->nb_services + 1, sizeof(*plan->order));
	sorted = sort_services(backends);
	if (plan->services == NULL || plan->order == NULL || sorted == NULL)
		goto fail;
	for (uint32_t i = 0; i < conf->nb_services; i++) {
		struct plan_service *wanted = &plan->services[i];
		wanted->conf = conf->services[i];
		wanted->service = find_service(sorted, backends->nb_services, wanted->conf->name);
		wanted->changed = changed == NULL || changed[i];
		if (wanted->service == NULL) {
			wanted->service = control_service_create(wanted->conf->name);
			if (wanted->service == NULL)
				goto fail;
			wanted->is_new = wanted->changed = true;
		}
		wanted->service->plan = plan->number;
	}
	free(sorted);
	return plan;
fail:
	free(sorted);
	plan_destroy(plan);
	errno = ENOMEM;
	return NULL;
}

static void free_service(struct plan *plan, struct plan_service *wanted)
{
	for (uint32_t b = 0; b < wanted->nb_backends; b++) {
		control_backend_conf_free(&wanted->confs[b]);
		if (!plan->committed && wanted->created[b])
			control_backend_destroy(plan->backends, wanted->backends[b]);
	}
	if (!plan->committed) {
		free(wanted->backends); // else it is the service's now
		if (wanted->is_new)
			control_service_destroy(wanted->service);
	}
	free(wanted->confs);
	free(wanted->created);
	free(wanted->old);
	memset(wanted, 0, sizeof(*wanted));
}

void plan_destroy(struct plan *plan)
{
	if (plan == NULL)
		return;
	for (uint32_t i = 0; plan->services != NULL && i < plan->conf->nb_services; i++)
		free_service(plan, &plan->services[i]);
	free(plan->services);
	free(plan->order);
	free(plan);
}

int plan_step(struct plan *plan, uint64_t until_ns)
{
	for (; plan->next < plan->conf->nb_services; plan->next++) {
		struct plan_service *wanted = &plan->services[plan->next];
		int err = wanted->changed && !wanted->begun ? begin_service(plan, wanted) : 0;
		while (err == 0 && wanted->changed && wanted->next < wanted->conf->nb_backends) {
			const struct conf_backend *conf = &wanted->conf->backends[wanted->next++];
			err = conf->host == NULL ? want_backend(plan, wanted, conf, &conf->endpoint)
						 : want_name(plan, wanted, conf);
			if (err == 0 && clock_ns() >= until_ns)
				return 1;
		}
		if (err < 0)
			return err;
	}
	plan->next = 0;
	return 0;
}

/* --- the commit --- */

static void take_backends(
	struct plan *plan, struct plan_service *wanted, bool has_new_index, uint64_t publication)
{
	struct control_service *service = wanted->service;
	uint32_t nb = wanted->nb_backends;

	for (uint32_t b = 0; b < wanted->nb_backends; b++) {
		struct control_backend *backend = wanted->backends[b];
		struct conf_backend former = backend->conf;
		// Of the file the row has only the address, and what becomes of a reset.
		bool same_row = backend->life == BACKEND_LISTED && !wanted->created[b] &&
			!has_new_index && !backend->reset;
		backend->conf = wanted->confs[b];
		wanted->confs[b] = former;
		if (backend->life != BACKEND_LISTED && backend->health_target == NULL)
			backend->health = (struct health_status){.since_ms = clock_ms()};
		if (backend->life != BACKEND_LISTED)
			backend->reset = false;
		backend->life = BACKEND_LISTED;
		if (!same_row)
			backends_row_update(plan->backends, backend);
		if (!wanted->created[b])
			continue;
		plan->backends->nb_backends++;
		backends_keys_of_backend(plan->backends, backend, 1);
	}
	for (uint32_t b = 0; b < service->nb_backends; b++) {
		struct control_backend *backend = service->backends[b];
		if (backend->plan == plan->number)
			continue;
		wanted->backends[nb++] = backend;
	}
	free(service->backends);
	service->backends = wanted->backends;
	service->nb_listed = wanted->nb_backends;
	service->nb_backends = nb;
	service->changed = true;
	control_service_let_go(plan->backends, service, publication);
}

static void update_rows(struct backends *backends, const struct control_service *service)
{
	for (uint32_t b = 0; b < service->nb_backends; b++)
		backends_row_update(backends, service->backends[b]);
}

static void take_service(struct plan *plan, struct plan_service *wanted, uint64_t publication)
{
	struct control_service *service = wanted->service;
	bool has_new_index = service->index == SERVICE_NONE;

	conf_service_put(service->conf);
	service->conf = conf_service_get(wanted->conf);
	service->is_listed = true;
	if (wanted->changed) {
		service_access_put(service->access);
		service->access = NULL;
	}
	service->resets_removed = wanted->conf->on_remove == CONF_REMOVE_RESET;
	if (has_new_index) {
		control_service_take_index(
			plan->backends, service, id_pool_get(plan->backends->indices));
		service->changed = true;
	}
	if (!wanted->changed)
		return;
	take_backends(plan, wanted, has_new_index, publication);
	if (has_new_index)
		update_rows(plan->backends, service);
	backends_keys_of_service(plan->backends, &plan->conf->port, service, 1);
}

static void remove_service(struct plan *plan, struct control_service *service, uint64_t publication)
{
	service->nb_listed = 0;
	service->on_backups = false;
	service->changed |= service->is_listed;
	service->is_listed = false;
	control_service_let_go(plan->backends, service, publication);
}

/* The addresses of services that leave, or may have others now: they go before any comes, which may
 * have been another service's. */
static void take_back_vips(struct plan *plan)
{
	struct backends *backends = plan->backends;
	const struct conf_port *port = &plan->conf->port;

	for (uint32_t i = 0; i < backends->nb_services; i++) {
		const struct control_service *service = backends->services[i];
		if (service->is_listed && service->plan != plan->number)
			backends_keys_of_service(backends, port, service, -1);
	}
	for (uint32_t i = 0; i < plan->conf->nb_services; i++) {
		const struct plan_service *wanted = &plan->services[i];
		if (wanted->changed && wanted->service->is_listed)
			backends_keys_of_service(backends, port, wanted->service, -1);
	}
}

void plan_commit(struct plan *plan, uint64_t publication)
{
	struct backends *backends = plan->backends;
	uint32_t nb_listed = plan->conf->nb_services, nb = nb_listed;

	take_back_vips(plan);
	for (uint32_t i = 0; i < nb_listed; i++) {
		take_service(plan, &plan->services[i], publication);
		plan->order[i] = plan->services[i].service;
	}
	for (uint32_t i = 0; i < backends->nb_services; i++) {
		struct control_service *service = backends->services[i];
		if (service->plan == plan->number)
			continue;
		remove_service(plan, service, publication);
		plan->order[nb++] = service;
	}
	struct control_service **former = backends->services;
	backends->services = plan->order;
	backends->nb_services = nb;
	backends->nb_listed = nb_listed;
	backends->list++;
	plan->order = former;
	plan->committed = true;
}

int plan_finish(struct plan *plan, uint64_t until_ns)
{
	struct backends *backends = plan->backends;

	for (; plan->next < backends->nb_listed; plan->next++) {
		struct control_service *service = backends->services[plan->next];
		if (!plan->services[plan->next].changed)
			continue;
		for (uint32_t b = 0; b < service->nb_backends; b++) {
			struct control_backend *backend = service->backends[b];
			if (watch_again(backends->watch, backend, &service->conf->health) < 0)
				log_error("service %s: backend %s is still probed as before: no "
					  "memory",
					service->name, backend->conf.name);
		}
		free_service(plan, &plan->services[plan->next]);
		if (clock_ns() >= until_ns) {
			plan->next++;
			return 1;
		}
	}
	return 0;
}
