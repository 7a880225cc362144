/* SPDX-License-Identifier: BSD-3-Clause */
/* Which targets there are: found by what is probed and how. */
#include "health.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "probe_tls.h"
#include "target.h"

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int compare_texts(const char *a, const char *b)
{
	return strcmp(a != NULL ? a : "", b != NULL ? b : "");
}

// The order of the tree. What a kind of probe doesn't use was blanked by conf_normalise().
static int target_compare(const void *left, const void *right)
{
	const struct health_target *a = left, *b = right;
	int order;

	if ((order = memcmp(a->task.endpoint.addr.v6, b->task.endpoint.addr.v6, 16)) != 0 ||
		(order = compare_numbers(
			 a->task.endpoint.addr.family, b->task.endpoint.addr.family)) != 0 ||
		(order = compare_numbers(a->task.endpoint.port, b->task.endpoint.port)) != 0 ||
		(order = compare_numbers(a->conf.type, b->conf.type)) != 0 ||
		(order = compare_numbers(a->conf.interval_ms, b->conf.interval_ms)) != 0 ||
		(order = compare_numbers(a->conf.timeout_ms, b->conf.timeout_ms)) != 0 ||
		(order = compare_numbers(a->conf.rise, b->conf.rise)) != 0 ||
		(order = compare_numbers(a->conf.fall, b->conf.fall)) != 0 ||
		(order = compare_numbers(a->conf.status_first, b->conf.status_first)) != 0 ||
		(order = compare_numbers(a->conf.status_last, b->conf.status_last)) != 0 ||
		(order = compare_numbers(a->conf.verify, b->conf.verify)) != 0 ||
		(order = compare_texts(a->conf.path, b->conf.path)) != 0)
		return order;
	return compare_texts(a->conf.host, b->conf.host);
}

// Only what matters to the kind of probe; strings stay borrowed.
static struct conf_health conf_normalise(const struct conf_health *conf)
{
	struct conf_health out = {.type = conf->type};

	if (conf->type == CONF_HEALTH_NONE)
		return out;
	out.interval_ms = conf->interval_ms;
	out.timeout_ms = conf->timeout_ms;
	out.rise = conf->rise;
	out.fall = conf->fall;
	if (conf->type == CONF_HEALTH_TCP)
		return out;
	out.path = conf->path;
	out.host = conf->host;
	out.status_first = conf->status_first;
	out.status_last = conf->status_last;
	out.verify = conf->type == CONF_HEALTH_HTTPS && conf->verify;
	return out;
}

struct health *health_create(
	struct event_base *events, int netns_fd, health_changed_fn changed, void *context)
{
	struct health *health = calloc(1, sizeof(*health));

	if (health == NULL)
		return NULL;
	health->events = events;
	health->netns_fd = netns_fd;
	health->changed = changed;
	health->context = context;
	target_starter_init(health);
	return health;
}

void health_set_served(struct health *health, health_served_fn served, void *context)
{
	health->served = served;
	health->served_context = context;
}

void health_set_ports(struct health *health, struct probe_ports *ports)
{
	health->ports = ports;
}

void health_set_sources(struct health *health, const struct net_sources *sources)
{
	health->sources = *sources;
}

void health_set_trouble(struct health *health, health_trouble_fn trouble, void *context)
{
	health->trouble = trouble;
	health->trouble_context = context;
}

// Undoes what target_create() did, whole or in part.
static void target_free(void *argument)
{
	struct health_target *target = argument;

	target_stop(target);
	probe_task_fini(&target->task);
	free(target->verdict.fails);
	free(target->conf.path);
	free(target->conf.host);
	free(target);
}

void health_destroy(struct health *health)
{
	if (health == NULL)
		return;
	tdestroy(health->targets, target_free);
	target_starter_fini(health);
	probe_tls_context_destroy(health->tls[0]);
	probe_tls_context_destroy(health->tls[1]);
	free(health);
}

static int string_copy(char **copy, const char *text)
{
	*copy = text != NULL ? strdup(text) : NULL;
	return *copy == NULL && text != NULL ? -ENOMEM : 0;
}

static int tls_borrow(struct health_target *target)
{
	struct ssl_ctx_st **context = &target->health->tls[target->conf.verify];

	if (target->conf.type != CONF_HEALTH_HTTPS)
		return 0;
	if (*context == NULL)
		*context = probe_tls_context_create(target->conf.verify);
	target->task.tls = *context;
	return *context != NULL ? 0 : -errno;
}

static int verdict_make(struct health_target *target)
{
	unsigned nb_sources = target->sources->count, *fails = NULL;

	if (nb_sources > 1) {
		fails = calloc(nb_sources, sizeof(*fails));
		if (fails == NULL)
			return -ENOMEM;
	}
	verdict_init(&target->verdict, HEALTH_UNKNOWN, fails, nb_sources);
	return 0;
}

// A target as `wanted` describes it, in no tree yet. NULL and errno.
static struct health_target *target_create(
	struct health *health, const struct health_target *wanted)
{
	struct health_target *target = calloc(1, sizeof(*target));
	int err;

	if (target == NULL)
		return NULL;
	target->health = health;
	target->references = 1;
	target->status.since_ms = clock_ms();
	target->task = (struct probe_task){
		.events = health->events,
		.netns_fd = health->netns_fd,
		.ports = health->ports,
		.endpoint = wanted->task.endpoint,
		.conf = &target->conf,
	};
	target->sources = net_sources_of(&health->sources, wanted->task.endpoint.addr.family);
	target_init(target);
	target->conf = wanted->conf;
	target->conf.path = target->conf.host = NULL;
	if ((err = verdict_make(target)) < 0 ||
		(err = string_copy(&target->conf.path, wanted->conf.path)) < 0 ||
		(err = string_copy(&target->conf.host, wanted->conf.host)) < 0 ||
		(err = tls_borrow(target)) < 0)
		goto fail;
	if (target->conf.type == CONF_HEALTH_NONE)
		target->status.state = HEALTH_UP;
	else if ((err = probe_task_init(&target->task)) < 0)
		goto fail;
	return target;
fail:
	target_free(target);
	errno = -err;
	return NULL;
}

static bool conf_is_sane(const struct conf_health *conf)
{
	return conf->type == CONF_HEALTH_NONE || (conf->interval_ms > 0 && conf->timeout_ms > 0);
}

struct health_target *health_target_get(
	struct health *health, const struct net_endpoint *backend, const struct conf_health *conf)
{
	struct health_target wanted = {.conf = conf_normalise(conf)};

	if (!conf_is_sane(conf)) {
		errno = EINVAL;
		return NULL;
	}
	wanted.task.endpoint = *backend;
	if (conf->type != CONF_HEALTH_NONE && conf->port != 0)
		wanted.task.endpoint.port = htons(conf->port);

	struct health_target **found = tfind(&wanted, &health->targets, target_compare);
	if (found != NULL) {
		(*found)->references++;
		return *found;
	}
	struct health_target *target = target_create(health, &wanted);
	if (target == NULL)
		return NULL;
	if (tsearch(target, &health->targets, target_compare) == NULL) {
		target_free(target);
		errno = ENOMEM;
		return NULL;
	}
	if (target->conf.type != CONF_HEALTH_NONE)
		target_start(target);
	return target;
}

void health_target_put(struct health_target *target)
{
	if (--target->references > 0)
		return;
	tdelete(target, &target->health->targets, target_compare);
	target_free(target);
}

void health_target_know(struct health_target *target, const struct health_status *status)
{
	bool was_unprobed = status->state == HEALTH_UP && status->reason[0] == '\0';

	if (target->conf.type == CONF_HEALTH_NONE && was_unprobed)
		target->status.since_ms = status->since_ms;
	if (target->status.state != HEALTH_UNKNOWN || status->state == HEALTH_UNKNOWN)
		return;
	target->status = *status;
	verdict_init(
		&target->verdict, status->state, target->verdict.fails, target->verdict.nb_sources);
}

const struct health_status *health_target_status(const struct health_target *target)
{
	return &target->status;
}

const struct net_endpoint *health_target_endpoint(const struct health_target *target)
{
	return &target->task.endpoint;
}

const char *health_state_name(enum health_state state)
{
	static const char *const names[] = {
		[HEALTH_UNKNOWN] = "unknown",
		[HEALTH_UP] = "up",
		[HEALTH_DOWN] = "down",
	};
	return names[state];
}
