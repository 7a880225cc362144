/* SPDX-License-Identifier: BSD-3-Clause */
#include "watch.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "backends.h"
#include "clock.h"

#define DISABLED "disabled" // in place of a reason

LIST_HEAD(backend_list, control_backend);

/* A target and who waits for it. */
struct watched {
	const void *target; // the key
	struct backend_list backends;
};

struct watch {
	struct watch_source source;
	struct health *health;
	struct route *route;
	void *health_tree; // tsearch(3) of struct watched
	void *route_tree;
};

static int compare(const void *a, const void *b)
{
	const struct watched *first = a, *second = b;

	return first->target < second->target ? -1 : first->target > second->target;
}

static struct watched *find(void *const *tree, const void *target)
{
	struct watched key = {.target = target}, **found = tfind(&key, tree, compare);

	return found == NULL ? NULL : *found;
}

static struct watched *find_or_add(void **tree, const void *target)
{
	struct watched *watched = find(tree, target);

	if (watched != NULL)
		return watched;
	watched = calloc(1, sizeof(*watched));
	if (watched == NULL)
		return NULL;
	watched->target = target;
	LIST_INIT(&watched->backends);
	if (tsearch(watched, tree, compare) != NULL)
		return watched;
	free(watched);
	return NULL;
}

static void remove_if_empty(void **tree, const void *target)
{
	struct watched *watched = find(tree, target);

	if (watched == NULL || !LIST_EMPTY(&watched->backends))
		return;
	tdelete(watched, tree, compare);
	free(watched);
}

static void health_changed(void *context, struct health_target *target)
{
	struct watch *watch = context;
	struct watched *watched = find(&watch->health_tree, target);
	struct control_backend *backend;

	if (watched == NULL)
		return;
	LIST_FOREACH(backend, &watched->backends, health_entry)
		watch->source.health_changed(watch->source.context, backend);
}

static void hop_changed(void *context, struct route_target *target)
{
	struct watch *watch = context;
	struct watched *watched = find(&watch->route_tree, target);
	struct control_backend *backend;

	if (watched == NULL)
		return;
	LIST_FOREACH(backend, &watched->backends, route_entry)
		watch->source.hop_changed(watch->source.context, backend);
}

struct watch *watch_create(const struct watch_source *source)
{
	struct watch *watch = calloc(1, sizeof(*watch));

	if (watch == NULL)
		return NULL;
	watch->source = *source;
	watch->health = health_create(source->events, source->netns_fd, health_changed, watch);
	if (watch->health != NULL) {
		health_set_served(watch->health, source->served, source->context);
		health_set_ports(watch->health, source->probe_ports);
		health_set_sources(watch->health, &source->sources);
		health_set_trouble(watch->health, source->in_trouble, source->context);
	}
	if (watch->health != NULL)
		watch->route = route_create(
			source->events, source->netns_fd, source->interface, hop_changed, watch);
	if (watch->route != NULL) {
		route_set_sources(watch->route, &source->sources);
		route_hear(watch->route, source->neighbour_heard, source->context);
		return watch;
	}
	int err = errno;
	watch_destroy(watch);
	errno = err;
	return NULL;
}

int watch_address(struct watch *watch, const struct net_addr *addr)
{
	return route_target_get(watch->route, addr) == NULL ? -errno : 0;
}

void watch_keep(struct watch *watch)
{
	route_keep(watch->route);
}

void watch_destroy(struct watch *watch)
{
	if (watch == NULL)
		return;
	health_destroy(watch->health);
	route_destroy(watch->route);
	tdestroy(watch->health_tree, free);
	tdestroy(watch->route_tree, free);
	free(watch);
}

static int watch_hop(struct watch *watch, struct control_backend *backend)
{
	if (backend->route_target != NULL)
		return 0;
	struct route_target *target = route_target_get(watch->route, &backend->conf.endpoint.addr);
	if (target == NULL)
		return -errno;
	struct watched *watched = find_or_add(&watch->route_tree, target);
	if (watched == NULL) {
		route_target_put(target);
		return -ENOMEM;
	}
	LIST_INSERT_HEAD(&watched->backends, backend, route_entry);
	backend->route_target = target;
	backend->hop = *route_target_hop(target);
	return 0;
}

static int watch_health(struct watch *watch, struct control_backend *backend,
	const struct conf_health *conf, bool tells)
{
	struct conf_health named = *conf; // what it asks for is the name's, not one address's
	if (named.host == NULL)
		named.host = backend->conf.host;
	struct health_target *target =
		health_target_get(watch->health, &backend->conf.endpoint, &named);

	if (target == NULL)
		return -errno;
	if (target == backend->health_target) {
		health_target_put(target);
		return 0;
	}
	struct watched *watched = find_or_add(&watch->health_tree, target);
	if (watched == NULL) {
		health_target_put(target);
		return -ENOMEM;
	}
	struct health_status known;
	// The others that share the target wait to be told what it finds.
	if (LIST_EMPTY(&watched->backends) &&
		watch->source.known_health(watch->source.context, backend, &known))
		health_target_know(target, &known);
	const struct health_status *status = health_target_status(target);
	bool has_verdict = status->state != HEALTH_UNKNOWN || backend->health_target == NULL;
	unwatch_health(watch, backend);
	LIST_INSERT_HEAD(&watched->backends, backend, health_entry);
	backend->health_target = target;
	// Results of the former target are not to be compared with those of this one.
	backend->passive.probes = status->probes;
	backend->passive.failures = status->failures;
	if (has_verdict && tells && status->state != backend->health.state)
		watch->source.health_changed(watch->source.context, backend);
	else if (has_verdict)
		backend->health = *status;
	return 0;
}

/* It is so since a reload, or a former process. */
static void disable(const struct watch *watch, struct control_backend *backend)
{
	struct health_status known;

	if (strcmp(backend->health.reason, DISABLED) == 0)
		return;
	backend->health = (struct health_status){
		.state = HEALTH_UNKNOWN, .reason = DISABLED, .since_ms = clock_ms()};
	if (watch->source.known_health(watch->source.context, backend, &known) &&
		strcmp(known.reason, DISABLED) == 0)
		backend->health.since_ms = known.since_ms;
}

static int watch_any(struct watch *watch, struct control_backend *backend,
	const struct conf_health *conf, bool tells)
{
	if (watch == NULL)
		return 0;
	int err = watch_hop(watch, backend);
	if (err < 0 || control_backend_state(backend) != CONF_STATE_DISABLED)
		return err < 0 ? err : watch_health(watch, backend, conf, tells);
	unwatch_health(watch, backend);
	disable(watch, backend);
	return 0;
}

int watch_backend(
	struct watch *watch, struct control_backend *backend, const struct conf_health *conf)
{
	return watch_any(watch, backend, conf, false);
}

int watch_again(
	struct watch *watch, struct control_backend *backend, const struct conf_health *conf)
{
	return watch_any(watch, backend, conf, true);
}

void unwatch_health(struct watch *watch, struct control_backend *backend)
{
	struct health_target *target = backend->health_target;

	if (target == NULL)
		return;
	LIST_REMOVE(backend, health_entry);
	remove_if_empty(&watch->health_tree, target);
	backend->health_target = NULL;
	health_target_put(target);
}

void unwatch_backend(struct watch *watch, struct control_backend *backend)
{
	struct route_target *target = backend->route_target;

	unwatch_health(watch, backend);
	if (target == NULL)
		return;
	LIST_REMOVE(backend, route_entry);
	remove_if_empty(&watch->route_tree, target);
	backend->route_target = NULL;
	route_target_put(target);
}
