/* SPDX-License-Identifier: BSD-3-Clause */
#include "reload.h"

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "actions.h"
#include "apply.h"
#include "backends.h"
#include "clock.h"
#include "conf.h"
#include "conf_diff.h"
#include "control.h"
#include "daemon.h"
#include "log.h"
#include "resolver.h"
#include "timeouts.h"
#include "upgrade.h"

#define LOADER_NICE 10
#define BUSY_RETRY_MS 5

TAILQ_HEAD(waiter_list, reload_waiter);

/* What the loader thread makes; its own until it ends. */
struct load {
	const char *path;
	const struct conf *running;
	int eventfd;
	struct conf *conf; // NULL: see error
	struct conf_diff *diff;
	struct conf_error error;
};

struct reload {
	struct daemon *daemon;
	struct event *loaded;
	struct event *retry; // when something else is being applied
	struct reload_status status;
	bool is_running;
	bool is_wanted; // once more, when this one is done
	struct waiter_list now;
	struct waiter_list later;
	pthread_t thread;
	bool has_thread;
	struct load load;
};

static void start(struct reload *reload);

/* --- the end --- */

static void tell(struct reload *reload, const struct reload_result *result)
{
	struct reload_waiter *waiter;

	while ((waiter = TAILQ_FIRST(&reload->now)) != NULL) {
		TAILQ_REMOVE(&reload->now, waiter, entry);
		waiter->is_waiting = false;
		waiter->told(waiter->context, result);
	}
}

static void end(struct reload *reload, const struct reload_result *result)
{
	tell(reload, result);
	conf_free(reload->load.conf);
	conf_diff_destroy(reload->load.diff);
	reload->load.conf = NULL;
	reload->load.diff = NULL;
	reload->is_running = false;
	if (reload->is_wanted)
		start(reload);
}

static void fail(struct reload *reload, const char *error)
{
	struct reload_status *status = &reload->status;

	log_error("reload: %s; nothing was changed", error);
	pthread_mutex_lock(&reload->daemon->lock);
	status->failures++;
	status->failed_ms = clock_ms();
	snprintf(status->error, sizeof(status->error), "%s", error);
	pthread_mutex_unlock(&reload->daemon->lock);
	end(reload, &(struct reload_result){.error = error});
}

static void succeed(struct reload *reload)
{
	struct conf_diff *diff = reload->load.diff;
	struct reload_status *status = &reload->status;

	pthread_mutex_lock(&reload->daemon->lock);
	status->loaded_ms = clock_ms();
	status->failed_ms = 0;
	status->error[0] = '\0';
	pthread_mutex_unlock(&reload->daemon->lock);
	for (unsigned i = 0; i < diff->nb_lines; i++)
		log_info("reload: %s", diff->lines[i]);
	if (diff->nb_lines == 0)
		log_info("reload: nothing changed");
	end(reload, &(struct reload_result){.lines = diff->lines, .nb_lines = diff->nb_lines});
}

/* --- applying --- */

static void set_timeouts(struct daemon *daemon, enum timeouts_step step)
{
	unsigned least_s[CONF_TIMEOUTS];

	backends_least_timeouts(control_backends(daemon->control), daemon->conf, least_s);
	timeouts_set(daemon->workers, daemon->port.nb_workers, daemon->conf, least_s, step);
}

static void applied(void *context, int err)
{
	struct reload *reload = context;
	struct daemon *daemon = reload->daemon;

	set_timeouts(daemon, TIMEOUTS_ALL);
	if (err == -ENOSPC)
		fail(reload,
			"too many backends are left from before, with connections open; try "
			"again when some have ended");
	else if (err < 0)
		fail(reload, strerror(-err));
	else
		succeed(reload);
}

/* Flow tables are made at the start, for the families in use then. */
static const char *check_families(const struct daemon *daemon, const struct conf *conf)
{
	for (unsigned i = 0; i < conf->nb_services; i++) {
		if (conf->services[i]->family == AF_INET6 && daemon->flows6 == NULL)
			return "the first IPv6 service needs a flow table, which is made at the "
			       "start: systemctl restart weir";
		if (conf->services[i]->family == AF_INET && daemon->flows4 == NULL)
			return "the first IPv4 service needs a flow table, which is made at the "
			       "start: systemctl restart weir";
	}
	return NULL;
}

static void committed(void *context)
{
	struct reload *reload = context;
	struct daemon *daemon = reload->daemon;

	resolver_follow(daemon->resolver, daemon->conf);
	actions_restore(daemon->control, reload->load.diff);
	set_timeouts(daemon, TIMEOUTS_RAISE);
}

static void apply(struct reload *reload)
{
	if (apply_start(reload->daemon->apply, reload->load.conf, reload->load.diff->changed,
		    committed, applied, reload) < 0)
		fail(reload, "out of memory");
	else
		reload->load.conf = NULL; // taken over
}

static void try_apply(evutil_socket_t fd, short what, void *context)
{
	struct reload *reload = context;

	if (apply_busy(reload->daemon->apply))
		event_add(reload->retry, &(struct timeval){.tv_usec = BUSY_RETRY_MS * 1000});
	else
		apply(reload);
}

/* --- loading --- */

static void *loader_main(void *context)
{
	struct load *load = context;
	uint64_t one = 1;

	pthread_setname_np(pthread_self(), "weir-loader");
	setpriority(PRIO_PROCESS, gettid(), LOADER_NICE);
	load->conf = conf_reload(load->path, load->running, &load->error);
	if (load->conf != NULL)
		load->diff = conf_diff_create(load->running, load->conf, load->path, &load->error);
	if (write(load->eventfd, &one, sizeof(one)) < 0)
		log_error("eventfd: %s", strerror(errno));
	return NULL;
}

static void loaded(evutil_socket_t fd, short what, void *context)
{
	struct reload *reload = context;
	struct load *load = &reload->load;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 || !reload->has_thread)
		return;
	pthread_join(reload->thread, NULL);
	reload->has_thread = false;
	if (load->diff == NULL) {
		fail(reload, load->error.text);
		return;
	}
	daemon_tell_exposed(load->conf);
	const char *error = check_families(reload->daemon, load->conf);
	if (error != NULL)
		fail(reload, error);
	else
		try_apply(-1, 0, reload);
}

static void start(struct reload *reload)
{
	reload->is_wanted = false;
	reload->is_running = true;
	TAILQ_CONCAT(&reload->now, &reload->later, entry);
	pthread_mutex_lock(&reload->daemon->lock);
	reload->status.attempts++;
	pthread_mutex_unlock(&reload->daemon->lock);
	// Only a reload replaces the running configuration, so it stands still under the loader.
	reload->load.path = reload->daemon->options.config;
	reload->load.running = reload->daemon->conf;
	// The successor has read the file already: what is answered here would not hold there.
	if (upgrade_is_under_way(reload->daemon)) {
		fail(reload,
			"an upgrade is under way, and the new process may have read the file "
			"before "
			"it changed; reload again when the upgrade has ended");
		return;
	}
	int err = pthread_create(&reload->thread, NULL, loader_main, &reload->load);
	if (err != 0)
		fail(reload, strerror(err));
	else
		reload->has_thread = true;
}

void reload_request(struct reload *reload, struct reload_waiter *waiter)
{
	if (waiter != NULL) {
		waiter->is_waiting = true;
		TAILQ_INSERT_TAIL(&reload->later, waiter, entry);
	}
	// One that runs may have read the file already.
	if (reload->is_running)
		reload->is_wanted = true;
	else
		start(reload);
}

void reload_cancel_wait(struct reload *reload, struct reload_waiter *waiter)
{
	struct reload_waiter *other;

	if (!waiter->is_waiting)
		return;
	waiter->is_waiting = false;
	TAILQ_FOREACH(other, &reload->now, entry) {
		if (other == waiter) {
			TAILQ_REMOVE(&reload->now, waiter, entry);
			return;
		}
	}
	TAILQ_REMOVE(&reload->later, waiter, entry);
}

const struct reload_status *reload_status(const struct reload *reload)
{
	return &reload->status;
}

struct reload *reload_create(struct daemon *daemon)
{
	struct reload *reload = calloc(1, sizeof(*reload));

	if (reload == NULL)
		return NULL;
	reload->daemon = daemon;
	TAILQ_INIT(&reload->now);
	TAILQ_INIT(&reload->later);
	reload->status.loaded_ms = daemon->started_ms;
	reload->load.eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	reload->loaded = event_new(
		daemon->events, reload->load.eventfd, EV_READ | EV_PERSIST, loaded, reload);
	reload->retry = evtimer_new(daemon->events, try_apply, reload);
	if (reload->load.eventfd >= 0 && reload->loaded != NULL && reload->retry != NULL &&
		event_add(reload->loaded, NULL) == 0)
		return reload;
	reload_destroy(reload);
	return NULL;
}

void reload_destroy(struct reload *reload)
{
	if (reload == NULL)
		return;
	if (reload->has_thread)
		pthread_join(reload->thread, NULL);
	conf_free(reload->load.conf);
	conf_diff_destroy(reload->load.diff);
	if (reload->loaded != NULL)
		event_free(reload->loaded);
	if (reload->retry != NULL)
		event_free(reload->retry);
	if (reload->load.eventfd >= 0)
		close(reload->load.eventfd);
	free(reload);
}
