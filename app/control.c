/* SPDX-License-Identifier: BSD-3-Clause */
#include "control.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "apply.h"
#include "backends.h"
#include "clock.h"
#include "daemon.h"
#include "exception.h"
#include "gather.h"
#include "id_pool.h"
#include "keep.h"
#include "log.h"
#include "macs.h"
#include "on_down.h"
#include "own_side.h"
#include "passive.h"
#include "plan.h"
#include "ports.h"
#include "publish.h"
#include "stall.h"
#include "tables.h"
#include "watch.h"
#include "withdraw.h"

// How long a worker may stand still before probes lose time.
#define SERVED_MS 40
// Changes that come together are published together.
#define PUBLISH_DELAY_MS 1
#define PUBLISH_RETRY_MS 1000
// A slice of gathering; PUBLISH_DELAY_MS after it the loop's timers have had their turn.
#define GATHER_SLICE_NS 3000000
#define WITHDRAW_RETRY_MS 1000
// How often removed backends are looked at: whether their flows are gone.
#define REAP_MS 200

struct control {
	struct daemon *daemon;
	struct backends backends;
	struct publisher *publisher;
	bool dirty;                           // something is to be published
	bool is_published;                    // the workers have all that changed; under the lock
	struct gather gather;                 // the job for it
	uint64_t reset_round;                 // of the last one
	TAILQ_HEAD(, control_waiter) waiters; // for publications
	struct event *publish_event;
	struct event *grow_event; // a weight of a backend that came up grows
	struct event *withdraw_event;
	struct on_down *on_down;
	struct ports *ports;
	struct passive *passive;
	struct event *reap_event;
	bool has_begun;           // a first table is published
	struct event *keep_event; // once a second, or more often with many backends
};

static void start_timer(struct event *timer, unsigned ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (!evtimer_pending(timer, NULL))
		evtimer_add(timer, &delay);
}

const struct backends *control_backends(const struct control *control)
{
	return &control->backends;
}

struct backends *control_registry(struct control *control)
{
	return &control->backends;
}

void control_lock(struct control *control)
{
	pthread_mutex_lock(&control->daemon->lock);
}

void control_unlock(struct control *control)
{
	pthread_mutex_unlock(&control->daemon->lock);
}

static void count_id(void *context, uint32_t id, struct stats_backend *sum)
{
	const struct daemon *daemon = context;

	memset(sum, 0, sizeof(*sum));
	for (unsigned w = 0; daemon->workers != NULL && w < daemon->port.nb_workers; w++) {
		const struct stats_backend *one = &daemon->workers[w].pipeline.backends[id];
		for (unsigned d = 0; d < 2; d++) {
			sum->packets[d] += __atomic_load_n(&one->packets[d], __ATOMIC_RELAXED);
			sum->bytes[d] += __atomic_load_n(&one->bytes[d], __ATOMIC_RELAXED);
		}
		sum->opened += __atomic_load_n(&one->opened, __ATOMIC_RELAXED);
		sum->ended += __atomic_load_n(&one->ended, __ATOMIC_RELAXED);
		sum->closed += __atomic_load_n(&one->closed, __ATOMIC_RELAXED);
		sum->no_port += __atomic_load_n(&one->no_port, __ATOMIC_RELAXED);
	}
}

static void count_index(void *context, uint32_t index, struct stats_service *sum)
{
	const struct daemon *daemon = context;

	for (unsigned w = 0; daemon->workers != NULL && w < daemon->port.nb_workers; w++) {
		const struct stats_service *one = &daemon->workers[w].pipeline.service_stats[index];
		sum->denied += __atomic_load_n(&one->denied, __ATOMIC_RELAXED);
		sum->refused_max_conns +=
			__atomic_load_n(&one->refused_max_conns, __ATOMIC_RELAXED);
	}
}

static void count_connects(void *context, uint32_t id, struct stats_connect *sum)
{
	const struct daemon *daemon = context;

	memset(sum, 0, sizeof(*sum));
	for (unsigned w = 0; daemon->workers != NULL && w < daemon->port.nb_workers; w++)
		stats_connect_add(sum, &daemon->workers[w].pipeline.connects[id]);
}

/* --- publishing --- */

static void publish_soon(struct control *control)
{
	control->dirty = true;
	__atomic_store_n(&control->is_published, false, __ATOMIC_RELEASE);
	start_timer(control->publish_event, PUBLISH_DELAY_MS);
}

void control_publish(struct control *control)
{
	publish_soon(control);
}

bool control_is_published(const struct control *control)
{
	return __atomic_load_n(&control->is_published, __ATOMIC_ACQUIRE);
}

uint64_t control_next_publication(const struct control *control)
{
	return publisher_submitted(control->publisher) + 1;
}

void control_wait(struct control *control, struct control_waiter *waiter,
	void (*told)(void *context), void *context)
{
	waiter->told = told;
	waiter->context = context;
	waiter->publication = control_next_publication(control);
	waiter->is_waiting = true;
	TAILQ_INSERT_TAIL(&control->waiters, waiter, entry);
}

void control_cancel_wait(struct control *control, struct control_waiter *waiter)
{
	if (!waiter->is_waiting)
		return;
	waiter->is_waiting = false;
	TAILQ_REMOVE(&control->waiters, waiter, entry);
}

static void tell_waiters(struct control *control)
{
	struct control_waiter *waiter;

	// They stand in the order of their publications.
	while ((waiter = TAILQ_FIRST(&control->waiters)) != NULL &&
		waiter->publication <= publisher_submitted(control->publisher)) {
		control_cancel_wait(control, waiter);
		waiter->told(waiter->context);
	}
}

/* Who came has a verdict, or who leaves serves no longer. */
static void let_go(struct control *control, struct control_service *service)
{
	if (service->nb_leaving == 0 ||
		!control_service_let_go(
			&control->backends, service, control_next_publication(control)))
		return;
	service->changed = true;
	control_reap(control);
}

void control_service_changed(struct control *control, struct control_service *service)
{
	let_go(control, service);
	service->changed = true;
	publish_soon(control);
}

/* To the next step of any service's slow start. */
static void start_growing(struct control *control)
{
	const struct backends *backends = &control->backends;
	uint64_t now_ms = clock_ms(), next_ms = UINT64_MAX;

	for (uint32_t i = 0; i < backends->nb_listed; i++) {
		uint64_t grows_ms = backends->services[i]->grows_ms;
		if (grows_ms != 0 && grows_ms < next_ms)
			next_ms = grows_ms;
	}
	evtimer_del(control->grow_event);
	if (next_ms != UINT64_MAX)
		start_timer(control->grow_event, next_ms > now_ms ? next_ms - now_ms : 0);
}

static void grow_due(evutil_socket_t fd, short what, void *context)
{
	struct control *control = context;
	struct backends *backends = &control->backends;
	uint64_t now_ms = clock_ms();

	for (uint32_t i = 0; i < backends->nb_listed; i++) {
		struct control_service *service = backends->services[i];
		if (service->grows_ms != 0 && service->grows_ms <= now_ms) {
			service->grows_ms = 0; // until it is collected
			service->changed = true;
			publish_soon(control);
		}
	}
	start_growing(control);
}

static void publish_failed(struct control *control)
{
	log_error("no memory for a new service table; trying again in a second");
	control->dirty = true;
	start_timer(control->publish_event, PUBLISH_RETRY_MS);
}

static void publish_by(struct control *control, uint64_t until_ns)
{
	int more =
		gather_step(&control->gather, &control->backends, control->daemon->conf, until_ns);

	if (more < 0) {
		publish_failed(control);
	} else if (more > 0) {
		start_timer(control->publish_event, PUBLISH_DELAY_MS);
	} else {
		struct publish_job *job = control->gather.job;
		control->gather.job = NULL;
		control->dirty = false;
		start_growing(control);
		// Resets go to where clients are now.
		if (job->reset_round != control->reset_round)
			macs_hurry(control->daemon->macs, clock_ms());
		control->reset_round = job->reset_round;
		publisher_submit(control->publisher, job);
	}
}

static void publish_due(evutil_socket_t fd, short what, void *context)
{
	struct control *control = context;

	// published() comes back to it when the publisher is free.
	if (control->dirty && !publisher_busy(control->publisher))
		publish_by(control, clock_ns() + GATHER_SLICE_NS);
}

void control_will_commit(struct control *control)
{
	gather_cancel(&control->gather, &control->backends);
}

static void withdraw_due(evutil_socket_t fd, short what, void *context)
{
	struct control *control = context;

	if (!withdraw_update(control->daemon->withdrawn, &control->backends,
		    &control->daemon->conf->port, control->daemon->exception))
		start_timer(control->withdraw_event, WITHDRAW_RETRY_MS);
}

static void published(void *context, const struct publish_job *job, int err)
{
	struct control *control = context;

	if (err < 0) {
		gather_again(&control->backends, job);
		publish_failed(control);
		return;
	}
	control_lock(control);
	gather_published(&control->backends, job);
	control->is_published = !control->dirty;
	control_unlock(control);
	if (control->dirty)
		start_timer(control->publish_event, PUBLISH_DELAY_MS);
	withdraw_due(-1, 0, control);
	tell_waiters(control);
}

/* --- removed backends --- */

/* Whether something of it is left over for another time. */
static bool reap_backend(struct control *control, struct control_backend *backend)
{
	struct stats_backend sum;

	if (backend->life == BACKEND_LEAVING)
		return true;
	// Until then a worker may give it a connection.
	if (publisher_passed(control->publisher) < backend->left_at)
		return true;
	if (backend->life == BACKEND_GONE) {
		backend->service->past_connections +=
			control_backend_connections(&control->backends, backend);
		control->backends.nb_backends--;
		control->backends.list++;
		keep_erase(control->daemon->keep, &control->backends, backend);
		control_backend_destroy(&control->backends, backend);
		return false;
	}
	control_backend_count(&control->backends, backend, &sum);
	if (sum.opened != sum.closed)
		return true;
	backend->life = BACKEND_GONE;
	backend->left_at = publisher_submitted(control->publisher) + 1;
	backends_row_update(&control->backends, backend);
	backends_keys_of_backend(&control->backends, backend, -1);
	publish_soon(control);
	return true;
}

static bool reap_service(struct control *control, struct control_service *service)
{
	uint32_t kept = service->nb_listed;

	for (uint32_t b = service->nb_listed; b < service->nb_backends; b++)
		if (reap_backend(control, service->backends[b]))
			service->backends[kept++] = service->backends[b];
	service->nb_backends = kept;
	return kept > service->nb_listed;
}

/* Nothing is left of a service that left the file. */
static void end_service(struct control *control, struct control_service *service)
{
	if (service->index != SERVICE_NONE) {
		keep_erase_service(control->daemon->keep, service);
		control_service_leave_index(&control->backends, service);
		publish_soon(control);
	}
	control_service_destroy(service);
}

static void reap_due(evutil_socket_t fd, short what, void *context)
{
	struct control *control = context;
	struct backends *backends = &control->backends;
	uint32_t kept = backends->nb_listed;
	bool again = false;

	// A plan that is being prepared may bring them back.
	if (control->daemon->apply != NULL && apply_busy(control->daemon->apply)) {
		control_reap(control);
		return;
	}
	pthread_mutex_lock(&control->daemon->lock);
	for (uint32_t s = 0; s < backends->nb_services; s++) {
		struct control_service *service = backends->services[s];
		again |= reap_service(control, service);
		if (s < backends->nb_listed)
			continue;
		if (service->nb_backends == 0)
			end_service(control, service);
		else
			backends->services[kept++] = service;
	}
	backends->nb_services = kept;
	pthread_mutex_unlock(&control->daemon->lock);
	if (again)
		control_reap(control);
}

void control_reap(struct control *control)
{
	start_timer(control->reap_event, REAP_MS);
}

static void grace_passed(void *context)
{
	struct control *control = context;

	if (control->reap_event != NULL && evtimer_pending(control->reap_event, NULL))
		event_active(control->reap_event, EV_TIMEOUT, 0);
}

/* --- what health and route say --- */

static void log_backend(
	const struct control_backend *backend, const char *state, const char *reason)
{
	char text[NET_ENDPOINT_TEXT];

	log_info("service %s: backend %s %s: %s%s%s%s", backend->service->name, backend->conf.name,
		net_endpoint_format(&backend->conf.endpoint, text), state, reason[0] ? " (" : "",
		reason, reason[0] ? ")" : "");
}

void control_keep(struct control *control, const struct control_backend *backend)
{
	keep_write(control->daemon->keep, &control->backends, backend);
}

static void health_changed(void *context, struct control_backend *backend)
{
	struct control *control = context;
	const struct health_status *status = health_target_status(backend->health_target);
	bool is_news = backend->health.state != status->state;

	pthread_mutex_lock(&control->daemon->lock);
	backend->health = *status;
	control_service_changed(control, backend->service); // told together: it isn't published yet
	pthread_mutex_unlock(&control->daemon->lock);
	control_keep(control, backend);
	if (is_news)
		passive_end(control->passive, backend, clock_ms());
	if (is_news)
		log_backend(backend, health_state_name(status->state), status->reason);
	on_down_update(control->on_down, backend, clock_ms());
}

static void hop_changed(void *context, struct control_backend *backend)
{
	struct control *control = context;
	enum route_state before = backend->hop.state;
	bool was_candidate = control_backend_candidate(backend);

	pthread_mutex_lock(&control->daemon->lock);
	backend->hop = *route_target_hop(backend->route_target);
	if (control_backend_candidate(backend) != was_candidate)
		backend->service->changed = true;
	let_go(control, backend->service);
	publish_soon(control);
	pthread_mutex_unlock(&control->daemon->lock);
	backends_row_update(&control->backends, backend);
	on_down_update(control->on_down, backend, clock_ms());
	if (backend->hop.gateway.family != AF_UNSPEC &&
		!net_addr_equal(&backend->hop.gateway, &backend->conf.endpoint.addr))
		macs_gateway(control->daemon->macs, &backend->hop.gateway);

	if (before == backend->hop.state)
		return;
	if (backend->hop.state == ROUTE_UNREACHABLE)
		log_backend(backend, "unreachable", "no neighbour or route");
	else if (backend->hop.state == ROUTE_LOCAL)
		log_backend(backend, "unreachable", "its route leads elsewhere");
	else if (backend->hop.state == ROUTE_RESOLVED && before == ROUTE_UNREACHABLE)
		log_backend(backend, "reachable again", "");
}

/* --- set-up --- */

/* What the former process was told by hand; what is as in the file needs no mark. */
static void resume_backend(const struct keep *keep, struct control_backend *backend)
{
	char text[HAND_TEXT];
	struct hand hand;
	int state, weight;

	keep_by_hand(keep, backend, &state, &weight, &hand);
	if (state != (int)backend->conf.state)
		backend->temporary_state = state;
	if (weight != (int)backend->conf.weight)
		backend->temporary_weight = weight;
	if (backend->temporary_state < 0 && backend->temporary_weight < 0)
		return;
	backend->hand = hand;
	log_info("service %s: backend %s: %s, weight %u, as set by hand before this start (until "
		 "the next reload), by %s",
		backend->service->name, backend->conf.name, control_backend_state_name(backend),
		control_backend_weight(backend), hand_text(&hand, text));
}

static void resume_by_hand(struct control *control)
{
	struct backends *backends = &control->backends;

	for (uint32_t s = 0; s < backends->nb_listed; s++)
		for (uint32_t b = 0; b < backends->services[s]->nb_listed; b++)
			resume_backend(control->daemon->keep, backends->services[s]->backends[b]);
	backends->has_temporary = true; // perhaps
}

/* The file as it is at the start: nothing else runs yet, so in one go. */
static int plan_first(struct control *control)
{
	struct plan *plan = plan_create(&control->backends, control->daemon->conf, NULL);
	int err;

	if (plan == NULL)
		return -errno;
	err = plan_step(plan, UINT64_MAX);
	if (err == 0) {
		plan_commit(plan, publisher_submitted(control->publisher) + 1);
		resume_by_hand(control);
		plan_finish(plan, UINT64_MAX);
	}
	plan_destroy(plan);
	return err;
}

int control_publish_first(struct control *control)
{
	struct backends *backends = &control->backends;

	// What is known to be down from before counts as long as it has been so.
	for (uint32_t s = 0; s < backends->nb_listed; s++)
		for (uint32_t b = 0; b < backends->services[s]->nb_listed; b++)
			on_down_update(
				control->on_down, backends->services[s]->backends[b], clock_ms());
	// One that the loop began while it settled: the publisher has one job at a time.
	publisher_wait(control->publisher);
	control->dirty = true;
	publish_by(control, UINT64_MAX);
	publisher_wait(control->publisher);
	if (control->daemon->services == NULL)
		return -ENOMEM;
	control->has_begun = true;
	keep_begin(control->daemon->keep, backends, control->daemon->workers,
		control->daemon->port.nb_workers);
	evtimer_add(control->keep_event, &(struct timeval){.tv_sec = 1});
	return 0;
}

/* All that was up has a next hop. */
static bool is_settled(const struct backends *backends)
{
	for (uint32_t s = 0; s < backends->nb_listed; s++)
		for (uint32_t b = 0; b < backends->services[s]->nb_listed; b++) {
			const struct control_backend *backend = backends->services[s]->backends[b];
			if (backend->health.state == HEALTH_UP &&
				backend->hop.state == ROUTE_PENDING)
				return false;
		}
	return true;
}

void control_settle(struct control *control, unsigned limit_ms)
{
	uint64_t end_ms = clock_ms() + limit_ms;

	while (!is_settled(&control->backends) && clock_ms() < end_ms) {
		event_base_loop(control->daemon->events, EVLOOP_NONBLOCK);
		usleep(500);
	}
}

static void keep_due(evutil_socket_t fd, short what, void *context)
{
	struct control *control = context;

	tables_alive(control->daemon);
	start_timer(control->keep_event, keep_tick(control->daemon->keep, &control->backends));
}

static bool known_health(
	void *context, const struct control_backend *backend, struct health_status *status)
{
	struct control *control = context;

	// The former process's verdict is as old as that process: at the start it is the best there
	// is, later it is not news.
	return !control->has_begun && keep_health(control->daemon->keep, backend, status);
}

static bool packets_are_served(void *context)
{
	struct control *control = context;

	return !stall_any(control->daemon->stall, SERVED_MS);
}

bool control_in_trouble(struct control *control, uint64_t since_ms)
{
	return own_side_in_trouble(control->daemon->own_side, since_ms);
}

static bool in_trouble(void *context, uint64_t since_ms)
{
	return control_in_trouble(context, since_ms);
}

uint64_t control_received(const struct control *control)
{
	const struct daemon *daemon = control->daemon;
	uint64_t sum = 0;

	for (unsigned w = 0; daemon->workers != NULL && w < daemon->port.nb_workers; w++)
		sum += __atomic_load_n(&daemon->workers[w].stats.live.received, __ATOMIC_RELAXED);
	return sum;
}

static void neighbour_heard(void *context, const struct net_addr *addr, const struct net_mac *mac)
{
	struct control *control = context;

	macs_heard(control->daemon->macs, addr, mac);
}

/* Answers to clients go by them, too, though no backend may be behind. */
static int watch_gateways(struct control *control)
{
	const struct conf_port *port = &control->daemon->conf->port;
	const struct net_addr *gateways[] = {&port->gateway4, &port->gateway6};
	int err = 0;

	for (unsigned f = 0; f < 2 && err == 0; f++) {
		if (gateways[f]->family == AF_UNSPEC)
			continue;
		macs_gateway(control->daemon->macs, gateways[f]);
		err = watch_address(control->backends.watch, gateways[f]);
	}
	return err;
}

static struct net_sources sources_of(const struct endpoints *endpoints)
{
	return (struct net_sources){
		.v4 = {endpoints->snat4.addrs, endpoints->snat4.count},
		.v6 = {endpoints->snat6.addrs, endpoints->snat6.count},
	};
}

static int create_parts(struct control *control)
{
	struct daemon *daemon = control->daemon;
	struct backends *backends = &control->backends;

	control->publish_event = evtimer_new(daemon->events, publish_due, control);
	control->grow_event = evtimer_new(daemon->events, grow_due, control);
	control->withdraw_event = evtimer_new(daemon->events, withdraw_due, control);
	control->on_down = on_down_create(daemon->events, control);
	control->passive =
		passive_create(daemon->events, control, daemon->fails, daemon->port.nb_workers);
	control->reap_event = evtimer_new(daemon->events, reap_due, control);
	control->keep_event = evtimer_new(daemon->events, keep_due, control);
	if (control->publish_event == NULL || control->grow_event == NULL ||
		control->withdraw_event == NULL || control->on_down == NULL ||
		control->passive == NULL || control->reap_event == NULL ||
		control->keep_event == NULL)
		return -ENOMEM;
	int err = backends_init(backends, daemon->conf, daemon->snat_ports);
	if (err < 0)
		return err;
	backends->count = count_id;
	backends->count_service = count_index;
	backends->count_connects = count_connects;
	backends->passive = control->passive;
	backends->resolver = daemon->resolver;
	backends->context = daemon;
	control->ports = ports_create(daemon->events, backends);
	if (control->ports == NULL)
		return -errno;
	backends->watch = watch_create(&(struct watch_source){
		.events = daemon->events,
		.netns_fd = exception_netns(daemon->exception),
		.interface = EXCEPTION_INTERFACE,
		.probe_ports = &daemon->probe_ports,
		.sources = sources_of(&backends->endpoints),
		.health_changed = health_changed,
		.hop_changed = hop_changed,
		.neighbour_heard = neighbour_heard,
		.known_health = known_health,
		.served = packets_are_served,
		.in_trouble = in_trouble,
		.context = control,
	});
	if (backends->watch == NULL)
		return -errno;
	err = watch_gateways(control);
	if (err < 0)
		return err;
	control->publisher = publisher_create(&(struct publisher_source){
		.events = daemon->events,
		.rcu = daemon->rcu,
		.root = &daemon->services,
		.snat4 = backends->endpoints.snat4,
		.snat6 = backends->endpoints.snat6,
		.snat = daemon->snat_ports[0].snat, // the ranges, which both have
		.done = published,
		.passed = grace_passed,
		.context = control,
	});
	return control->publisher == NULL ? -errno : 0;
}

struct control *control_create(struct daemon *daemon)
{
	struct control *control = calloc(1, sizeof(*control));

	if (control == NULL)
		return NULL;
	control->daemon = daemon;
	TAILQ_INIT(&control->waiters);
	int err = create_parts(control);
	if (err == 0)
		err = plan_first(control);
	if (err == 0)
		return control;
	control_destroy(control);
	errno = -err;
	return NULL;
}

void control_destroy(struct control *control)
{
	if (control == NULL)
		return;
	gather_cancel(&control->gather, &control->backends);
	publisher_destroy(control->publisher);
	backends_fini(&control->backends);
	watch_destroy(control->backends.watch);
	on_down_destroy(control->on_down);
	ports_destroy(control->ports);
	passive_destroy(control->passive);
	if (control->withdraw_event != NULL)
		event_free(control->withdraw_event);
	if (control->publish_event != NULL)
		event_free(control->publish_event);
	if (control->grow_event != NULL)
		event_free(control->grow_event);
	if (control->reap_event != NULL)
		event_free(control->reap_event);
	if (control->keep_event != NULL)
		event_free(control->keep_event);
	free(control);
}
