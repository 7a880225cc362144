/* SPDX-License-Identifier: BSD-3-Clause */
#include "service.h"

#include <errno.h>
#include <stdlib.h>

#include "service_access.h"

static void fini_set(struct service_set *set, const struct scheduler_ops *scheduler)
{
	if (set->schedule != NULL)
		scheduler->destroy(set->schedule);
	free(set->limits);
	free(set->ids);
}

static void destroy(struct service *service)
{
	fini_set(&service->candidates, service->scheduler);
	fini_set(&service->backups, service->scheduler);
	service_access_put(service->access);
	free(service);
}

/* Copy an array of `count` numbers: NULL for want of memory. */
static uint32_t *copy(const uint32_t *from, uint32_t count)
{
	uint32_t *to = malloc(count * sizeof(*to));

	if (to != NULL)
		memcpy(to, from, count * sizeof(*to));
	return to;
}

/* False and errno on failure; what is there then is fini_set()'s. */
static bool init_set(struct service_set *set, const struct service_choices *choices,
	const struct scheduler_ops *scheduler)
{
	set->count = choices->count;
	if (set->count == 0)
		return true;
	set->ids = copy(choices->ids, set->count);
	if (choices->limits != NULL)
		set->limits = copy(choices->limits, set->count);
	if (set->ids == NULL || (choices->limits != NULL && set->limits == NULL))
		return false;
	set->schedule = scheduler->build(choices->weights, set->count);
	return set->schedule != NULL;
}

struct service *service_create(const struct service_source *source)
{
	struct service *service = calloc(1, sizeof(*service));

	if (service == NULL)
		return NULL;
	service->references = 1;
	strncpy(service->name, source->name, SERVICE_NAME_MAX);
	service->family = source->family;
	service->drop_when_down = source->drop_when_down;
	service->connect = source->connect;
	service->reset_when_idle = source->reset_when_idle;
	memcpy(service->timeout_s, source->timeout_s, sizeof(service->timeout_s));
	service->scheduler = source->scheduler;
	service->access = service_access_get(source->access);
	if (init_set(&service->candidates, &source->candidates, source->scheduler) &&
		init_set(&service->backups, &source->backups, source->scheduler))
		return service;
	int err = errno;
	destroy(service);
	errno = err;
	return NULL;
}

struct service *service_get(struct service *service)
{
	service->references++;
	return service;
}

void service_put(struct service *service)
{
	if (service != NULL && --service->references == 0)
		destroy(service);
}

static int copy_snat(struct service_snat *to, const struct service_snat *from)
{
	to->addrs = calloc(from->count + 1, sizeof(*to->addrs));
	if (to->addrs == NULL)
		return -ENOMEM;
	if (from->count != 0)
		memcpy(to->addrs, from->addrs, from->count * sizeof(*to->addrs));
	to->count = from->count;
	return 0;
}

/* Backends with the same pools, in a ring each. False for want of memory. */
static bool link_siblings(struct service_table *table)
{
	uint32_t places = 1;

	while (places < 2 * table->nb_backends)
		places *= 2;
	uint32_t *first = calloc(places, sizeof(*first)); // id + 1 of each ring's, by a hash
	if (first == NULL)
		return false;
	for (uint32_t id = 0; id < table->nb_backends; id++) {
		struct service_backend *backend = &table->backends[id];
		uint32_t at = ((uintptr_t)backend->pools * 0x9e3779b97f4a7c15) >> 32;
		backend->sibling = id;
		if (backend->pools == NULL)
			continue;
		while (first[at & (places - 1)] != 0 &&
			table->backends[first[at & (places - 1)] - 1].pools != backend->pools)
			at++;
		if (first[at & (places - 1)] == 0) {
			first[at & (places - 1)] = id + 1;
			continue;
		}
		struct service_backend *sibling = &table->backends[first[at & (places - 1)] - 1];
		backend->sibling = sibling->sibling;
		sibling->sibling = id;
	}
	free(first);
	return true;
}

struct service_table *service_table_create(const struct service_table_source *source)
{
	struct service_table *table = calloc(1, sizeof(*table));

	if (table == NULL)
		return NULL;
	table->key_owner = source->shared_keys;
	if (table->key_owner != NULL)
		table->key_owner->references++;
	else
		table->key_owner = service_keys_create(source->keys, source->nb_keys);
	table->services = calloc(source->nb_services + 1, sizeof(*table->services));
	if (posix_memalign((void **)&table->backends, 64,
		    (source->nb_backends + 1) * sizeof(*table->backends)) != 0)
		table->backends = NULL;
	if (table->key_owner == NULL || table->services == NULL || table->backends == NULL ||
		copy_snat(&table->snat4, &source->snat4) < 0 ||
		copy_snat(&table->snat6, &source->snat6) < 0) {
		service_table_destroy(table);
		errno = ENOMEM;
		return NULL;
	}
	table->keys = table->key_owner->places;
	table->key_mask = table->key_owner->mask;
	table->snat = source->snat;
	table->reset_round = source->reset_round;
	table->nb_backends = source->nb_backends;
	for (uint32_t i = 0; i < source->nb_backends; i++) {
		struct service_backend *backend = &table->backends[i];
		*backend = source->backends[i];
		table->has_resets |= backend->reset;
		backend->tag = backend->resolved ? backend->generation << SERVICE_ID_BITS | i
						 : SERVICE_NO_TAG;
	}
	if (!link_siblings(table)) {
		service_table_destroy(table);
		errno = ENOMEM;
		return NULL;
	}
	for (; table->nb_services < source->nb_services; table->nb_services++) {
		struct service *service = source->services[table->nb_services];
		table->services[table->nb_services] = service != NULL ? service_get(service) : NULL;
	}
	return table;
}

void service_table_destroy(struct service_table *table)
{
	if (table == NULL)
		return;
	for (uint32_t i = 0; i < table->nb_services; i++)
		// NOLINTNEXTLINE(clang-analyzer-core.NullDereference): without them there are 0
		service_put(table->services[i]);
	free(table->services);
	free(table->backends);
	free(table->snat4.addrs);
	free(table->snat6.addrs);
	service_keys_put(table->key_owner);
	free(table);
}
