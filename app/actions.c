/* SPDX-License-Identifier: BSD-3-Clause */
#include "actions.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "backends.h"
#include "control.h"
#include "log.h"
#include "watch.h"

/* What is to be changed, and how it stood; -1 = as in the file. */
struct change {
	struct control *control;
	const char *service;
	const char *backend;
	char *words;
	int state; // -1 = as it is
	int weight;
};

static int refuse(struct change *change, int err, const char *what, const char *name)
{
	snprintf(change->words, ACTION_TEXT, "%s \"%.80s\"", what, name);
	return err;
}

static const char *state_name(enum conf_state state)
{
	static const char *const names[] = {"active", "drain", "disabled"};

	return names[state];
}

/* From here on it holds; a value as in the file needs no mark. */
static void set(struct control_backend *backend, const struct change *change)
{
	if (change->state >= 0)
		backend->temporary_state =
			(int)backend->conf.state == change->state ? -1 : change->state;
	if (change->weight >= 0)
		backend->temporary_weight =
			(int)backend->conf.weight == change->weight ? -1 : change->weight;
}

static void change_backend(struct change *change, struct control_service *service,
	struct control_backend *backend, char *words, size_t size)
{
	struct backends *backends = control_registry(change->control);
	enum conf_state state = control_backend_state(backend);
	unsigned weight = control_backend_weight(backend);

	control_lock(change->control);
	set(backend, change);
	backends->has_temporary = true;
	// It may have been disabled, or be so again.
	if (watch_backend(backends->watch, backend, &service->conf->health) < 0)
		log_error("service %s: backend %s isn't probed: no memory", service->name,
			backend->conf.name);
	control_unlock(change->control);
	control_service_changed(change->control, service);

	bool temporary = backend->temporary_state >= 0 || backend->temporary_weight >= 0;
	int length = snprintf(words, size, "service %s: %s: ", service->name, backend->conf.name);
	if (change->state >= 0 && (size_t)length < size)
		length += snprintf(words + length, size - length, "%s -> %s", state_name(state),
			state_name(control_backend_state(backend)));
	else if ((size_t)length < size)
		length += snprintf(words + length, size - length, "weight %u -> %u", weight,
			control_backend_weight(backend));
	if ((size_t)length < size)
		snprintf(words + length, size - length, "%s",
			temporary ? " (until the next reload)" : " (as in the file)");
	log_info("by hand: %s", words);
}

/* By its own name, or as one of the addresses of a DNS name by that of the entry in the file. */
static bool is_named(const struct control_backend *backend, const char *name)
{
	size_t length = strlen(name);

	return strncmp(backend->conf.name, name, length) == 0 &&
		(backend->conf.name[length] == '\0' || backend->conf.name[length] == '/');
}

static int perform(struct change *change)
{
	struct backends *backends = control_registry(change->control);
	struct control_service *service = backends_find_service(backends, change->service);

	change->words[0] = '\0';
	if (service == NULL || service->conf == NULL)
		return refuse(change, -ENOENT, "there is no service", change->service);
	unsigned nb = 0;
	for (uint32_t b = 0; b < service->nb_listed; b++) {
		if (!is_named(service->backends[b], change->backend))
			continue;
		change_backend(change, service, service->backends[b], change->words, ACTION_TEXT);
		nb++;
	}
	size_t length = strlen(change->words);
	if (nb > 1 && length < ACTION_TEXT)
		snprintf(change->words + length, ACTION_TEXT - length, ", and %u more", nb - 1);
	if (nb != 0)
		return 0;
	return refuse(change, -ENOENT, "the service has no backend", change->backend);
}

int action_drain(struct control *control, const char *service, const char *backend, char *words)
{
	return perform(&(struct change){control, service, backend, words, CONF_STATE_DRAIN, -1});
}

int action_activate(struct control *control, const char *service, const char *backend, char *words)
{
	return perform(&(struct change){control, service, backend, words, CONF_STATE_ACTIVE, -1});
}

int action_weight(struct control *control, const char *service, const char *backend, int64_t weight,
	char *words)
{
	if (weight < 0 || weight > CONF_WEIGHT_MAX) {
		snprintf(words, ACTION_TEXT, "a weight is 0 to %u", CONF_WEIGHT_MAX);
		return -EINVAL;
	}
	return perform(&(struct change){control, service, backend, words, -1, weight});
}

uint32_t actions_restore(struct control *control)
{
	struct backends *backends = control_registry(control);
	uint32_t restored = 0;

	if (!backends->has_temporary)
		return 0;
	backends->has_temporary = false;
	for (uint32_t s = 0; s < backends->nb_services; s++) {
		struct control_service *service = backends->services[s];
		for (uint32_t b = 0; b < service->nb_backends; b++) {
			struct control_backend *backend = service->backends[b];
			if (backend->temporary_state < 0 && backend->temporary_weight < 0)
				continue;
			backend->temporary_state = backend->temporary_weight = -1;
			restored++;
			if (service->conf == NULL || backend->life != BACKEND_LISTED)
				continue;
			if (watch_backend(backends->watch, backend, &service->conf->health) < 0)
				log_error("service %s: backend %s isn't probed: no memory",
					service->name, backend->conf.name);
			control_service_changed(control, service);
		}
	}
	return restored;
}
