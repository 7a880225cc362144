/* SPDX-License-Identifier: BSD-3-Clause */
#include "actions.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "backends.h"
#include "clock.h"
#include "conf_diff.h"
#include "control.h"
#include "hand.h"
#include "log.h"
#include "watch.h"

/* What is to be changed, and how it stood; -1 = as in the file. */
struct change {
	struct control *control;
	const struct hand *hand;
	const char *service;
	const char *backend;
	char *words;
	int state; // -1 = as it is
	int weight;
};

/* --- what is said --- */

#define MORE_TEXT 24 // ", and 1000000 more"

/* The n-th of a list behind the words; false when there is no room for it. */
static bool append_name(char *words, uint32_t n, const char *name)
{
	size_t length = strlen(words);

	if (length + strlen(name) + MORE_TEXT > ACTION_TEXT)
		return false;
	snprintf(words + length, ACTION_TEXT - length, "%s%s", n == 0 ? "" : ", ", name);
	return true;
}

static void append_rest(char *words, uint32_t nb_named, uint32_t nb)
{
	size_t length = strlen(words);

	if (nb_named < nb)
		snprintf(words + length, ACTION_TEXT - length, "%s%u more",
			nb_named == 0 ? "" : ", and ", nb - nb_named);
}

static int refuse_service(const struct change *change, const struct backends *backends)
{
	uint32_t n = 0;

	snprintf(change->words, ACTION_TEXT, "there is no service \"%.80s\"; there is ",
		change->service);
	while (n < backends->nb_listed &&
		append_name(change->words, n, backends->services[n]->name))
		n++;
	append_rest(change->words, n, backends->nb_listed);
	return -ENOENT;
}

static int refuse_backend(const struct change *change, const struct control_service *service)
{
	uint32_t n = 0;

	snprintf(change->words, ACTION_TEXT, "the service has no backend \"%.80s\"; it has ",
		change->backend);
	while (n < service->nb_listed &&
		append_name(change->words, n, service->backends[n]->conf.name))
		n++;
	append_rest(change->words, n, service->nb_listed);
	return -ENOENT;
}

static const char *state_name(enum conf_state state)
{
	static const char *const names[] = {"active", "drain", "disabled"};

	return names[state];
}

/* "service web: con1: drain -> active, weight 3 -> 1 (as in the file)", by what there was before;
 * -1 = not to be told. */
static void describe(const struct control_backend *backend, int old_state, int old_weight,
	char words[ACTION_TEXT])
{
	bool temporary = backend->temporary_state >= 0 || backend->temporary_weight >= 0;
	char state[32] = "", weight[32] = "";

	if (old_state >= 0)
		snprintf(state, sizeof(state), "%s -> %s%s", state_name(old_state),
			state_name(control_backend_state(backend)), old_weight >= 0 ? ", " : "");
	if (old_weight >= 0)
		snprintf(weight, sizeof(weight), "weight %d -> %u", old_weight,
			control_backend_weight(backend));
	snprintf(words, ACTION_TEXT, "service %s: %.250s: %s%s (%s)", backend->service->name,
		backend->conf.name, state, weight,
		temporary ? "until the next reload" : "as in the file");
}

/* --- what is done --- */

/* From here on it holds; a value as in the file needs no mark. */
static void set(struct control_backend *backend, const struct change *change)
{
	if (change->state >= 0)
		backend->temporary_state =
			(int)backend->conf.state == change->state ? -1 : change->state;
	if (change->weight >= 0)
		backend->temporary_weight =
			(int)backend->conf.weight == change->weight ? -1 : change->weight;
	backend->hand = *change->hand;
	backend->hand.set_ms = clock_ms();
}

static void change_backend(const struct change *change, struct control_service *service,
	struct control_backend *backend, char words[ACTION_TEXT])
{
	struct backends *backends = control_registry(change->control);
	enum conf_state state = control_backend_state(backend);
	unsigned weight = control_backend_weight(backend);
	char whose[HAND_TEXT];

	control_lock(change->control);
	set(backend, change);
	backends->has_temporary = true;
	// It may have been disabled, or be so again.
	if (watch_backend(backends->watch, backend, &service->conf->health) < 0)
		log_error("service %s: backend %s isn't probed: no memory", service->name,
			backend->conf.name);
	control_service_changed(change->control, service);
	control_unlock(change->control);
	control_keep(change->control, backend);
	describe(backend, change->state >= 0 ? (int)state : -1,
		change->weight >= 0 ? (int)weight : -1, words);
	log_info("by hand: %s, by %s", words, hand_text(change->hand, whose));
}

/* By its own name, or as one of the addresses of a DNS name by that of the entry in the file. */
static bool is_named(const struct control_backend *backend, const char *name)
{
	size_t length = strlen(name);

	return strncmp(backend->conf.name, name, length) == 0 &&
		(backend->conf.name[length] == '\0' || backend->conf.name[length] == '/');
}

/* By its address and port. */
static bool is_at(const struct control_backend *backend, const char *endpoint)
{
	char text[NET_ENDPOINT_TEXT];

	return strcmp(net_endpoint_format(&backend->conf.endpoint, text), endpoint) == 0;
}

/* How many were changed. A name counts first: it may look like the address of another one. */
static unsigned change_backends(const struct change *change, struct control_service *service,
	bool (*is_meant)(const struct control_backend *backend, const char *text))
{
	unsigned nb = 0;

	for (uint32_t b = 0; b < service->nb_listed; b++) {
		if (!is_meant(service->backends[b], change->backend))
			continue;
		change_backend(change, service, service->backends[b], change->words);
		nb++;
	}
	return nb;
}

static int perform(struct change *change)
{
	struct backends *backends = control_registry(change->control);
	struct control_service *service = backends_find_service(backends, change->service);

	change->words[0] = '\0';
	if (service == NULL || !service->is_listed)
		return refuse_service(change, backends);
	unsigned nb = change_backends(change, service, is_named);
	if (nb == 0)
		nb = change_backends(change, service, is_at);
	size_t length = strlen(change->words);
	if (nb > 1 && length < ACTION_TEXT)
		snprintf(change->words + length, ACTION_TEXT - length, ", and %u more", nb - 1);
	return nb != 0 ? 0 : refuse_backend(change, service);
}

int action_drain(struct control *control, const struct hand *hand, const char *service,
	const char *backend, char *words)
{
	return perform(
		&(struct change){control, hand, service, backend, words, CONF_STATE_DRAIN, -1});
}

int action_activate(struct control *control, const struct hand *hand, const char *service,
	const char *backend, char *words)
{
	return perform(
		&(struct change){control, hand, service, backend, words, CONF_STATE_ACTIVE, -1});
}

int action_weight(struct control *control, const struct hand *hand, const char *service,
	const char *backend, int64_t weight, char *words)
{
	if (weight < 0 || weight > CONF_WEIGHT_MAX) {
		snprintf(words, ACTION_TEXT, "a weight is 0 to %u", CONF_WEIGHT_MAX);
		return -EINVAL;
	}
	return perform(&(struct change){control, hand, service, backend, words, -1, weight});
}

/* The line of a listed backend that isn't any more as somebody set it. */
static void tell_restored(
	const struct control_backend *backend, int state, int weight, struct conf_diff *diff)
{
	char words[ACTION_TEXT];

	if (state == (int)backend->conf.state)
		state = -1;
	if (weight == (int)backend->conf.weight)
		weight = -1;
	if (state < 0 && weight < 0)
		return;
	describe(backend, state, weight, words);
	if (conf_diff_add_line(diff, words) < 0)
		log_error("%s", words);
}

static void restore_backend(
	struct control *control, struct control_backend *backend, struct conf_diff *diff)
{
	struct backends *backends = control_registry(control);
	struct control_service *service = backend->service;
	int state = backend->temporary_state, weight = backend->temporary_weight;

	if (state < 0 && weight < 0)
		return;
	backend->temporary_state = backend->temporary_weight = -1;
	control_keep(control, backend);
	// One that left the file is judged as long as it has connections.
	if (service->conf != NULL &&
		watch_backend(backends->watch, backend, &service->conf->health) < 0)
		log_error("service %s: backend %s isn't probed: no memory", service->name,
			backend->conf.name);
	if (backend->life != BACKEND_LISTED)
		return;
	tell_restored(backend, state, weight, diff);
	control_service_changed(control, service);
}

void actions_restore(struct control *control, struct conf_diff *diff)
{
	struct backends *backends = control_registry(control);

	if (!backends->has_temporary)
		return;
	backends->has_temporary = false;
	for (uint32_t s = 0; s < backends->nb_services; s++)
		for (uint32_t b = 0; b < backends->services[s]->nb_backends; b++)
			restore_backend(control, backends->services[s]->backends[b], diff);
}
