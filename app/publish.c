/* SPDX-License-Identifier: BSD-3-Clause */
#include "publish.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <rte_rcu_qsbr.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "conf.h"
#include "log.h"
#include "scheduler.h"
#include "service_access.h"

_Static_assert(CONF_SERVICE_BACKENDS_MAX == SCHEDULER_MAX_BACKENDS,
	"what a file may list can be scheduled");

#define RETIRED_CHECK_MS 5
#define RETIRED_REPORT_MS 1000

/* A table that was replaced, until no worker can have it any more. */
struct retired {
	struct retired *next; // the one replaced before
	struct service_table *table;
	uint64_t token;
	uint64_t since_ms;
	uint64_t number; // of the job that replaced it
	bool reported;
};

struct publisher {
	struct publisher_source source;
	struct event *event;
	int eventfd; // the builder tells the loop that there is news
	uint64_t submitted;
	uint64_t told_passed; // what passed() was called for last
	pthread_t thread;
	bool has_thread;

	// Shared, under the lock.
	pthread_mutex_t lock;
	pthread_cond_t wake;  // the builder: a job, or the end
	pthread_cond_t ready; // publisher_wait()
	struct publish_job *job;
	bool is_built;
	int err;
	bool stop;
	uint64_t passed; // atomic too: read without the lock

	// The builder's.
	struct service **services; // as in the published table; a reference each
	uint32_t nb_services;
	struct service_keys *keys;
	struct service_backend *rows; // as in the last job, by id
	uint32_t nb_rows;
	uint32_t rows_room;
	struct retired *retired;
};

struct publish_job *publish_job_create(void)
{
	return calloc(1, sizeof(struct publish_job));
}

struct publish_service *publish_job_add_service(struct publish_job *job)
{
	if (job->nb_changed == job->changed_room) {
		uint32_t room = job->changed_room * 2 + 16;
		struct publish_service *changed = realloc(job->changed, room * sizeof(*changed));
		if (changed == NULL)
			return NULL;
		job->changed = changed;
		job->changed_room = room;
	}
	struct publish_service *added = &job->changed[job->nb_changed++];
	memset(added, 0, sizeof(*added));
	return added;
}

int publish_job_set_rows(struct publish_job *job, uint32_t nb_rows)
{
	job->ids = calloc(nb_rows + 1, sizeof(*job->ids));
	if (posix_memalign((void **)&job->rows, 64, (nb_rows + 1) * sizeof(*job->rows)) != 0)
		job->rows = NULL;
	if (job->ids == NULL || job->rows == NULL)
		return -ENOMEM;
	job->nb_rows = nb_rows;
	return 0;
}

void publish_job_destroy(struct publish_job *job)
{
	if (job == NULL)
		return;
	for (uint32_t i = 0; i < job->nb_changed; i++) {
		service_choice_fini(&job->changed[i].choice);
		service_access_put(job->changed[i].source.access);
	}
	free(job->changed);
	free(job->ids);
	free(job->rows);
	free(job->keys);
	free(job);
}

/* --- the builder --- */

static int grow_services(struct publisher *publisher, uint32_t nb_services)
{
	struct service **services = publisher->services;

	if (nb_services <= publisher->nb_services)
		return 0;
	services = realloc(services, nb_services * sizeof(*services));
	if (services == NULL)
		return -ENOMEM;
	for (uint32_t i = publisher->nb_services; i < nb_services; i++)
		services[i] = NULL;
	publisher->services = services;
	publisher->nb_services = nb_services;
	return 0;
}

static int grow_rows(struct publisher *publisher, uint32_t nb_rows)
{
	struct service_backend *rows;

	if (nb_rows > publisher->rows_room) {
		uint32_t room = nb_rows + nb_rows / 8;
		if (posix_memalign((void **)&rows, 64, room * sizeof(*rows)) != 0)
			return -ENOMEM;
		if (publisher->nb_rows != 0)
			memcpy(rows, publisher->rows, publisher->nb_rows * sizeof(*rows));
		free(publisher->rows);
		publisher->rows = rows;
		publisher->rows_room = room;
	}
	for (; publisher->nb_rows < nb_rows; publisher->nb_rows++) {
		memset(&publisher->rows[publisher->nb_rows], 0, sizeof(*rows));
		publisher->rows[publisher->nb_rows].service = SERVICE_NONE;
	}
	return 0;
}

/* They stay when the job fails later: the next one goes on from there. */
static int take_rows(struct publisher *publisher, const struct publish_job *job)
{
	int err = grow_rows(publisher, job->nb_backends);

	for (uint32_t i = 0; err == 0 && i < job->nb_rows; i++)
		publisher->rows[job->ids[i]] = job->rows[i];
	return err;
}

/*
 * In place of a service that can't be built: what it was, or, when it was not there, one without
 * backends, which refuses its clients. NULL for want of memory.
 */
static struct service *stand_in(
	const struct publisher *publisher, const struct publish_service *wanted, int err)
{
	struct service *former = publisher->services[wanted->index];
	struct service_source empty = wanted->source;

	log_error("service %s: %s; %s", wanted->name,
		err == E2BIG ? "it has too many backends to choose from" : strerror(err),
		former != NULL ? "clients get what it was before" : "its clients are refused");
	if (former != NULL)
		return service_get(former);
	empty.name = wanted->name;
	empty.candidates.count = empty.backups.count = 0;
	return service_create(&empty);
}

/* All changed services, by their place in the job. -ENOMEM: all or none; what is wrong with one
 * service is no reason to keep news of the others back. */
static int build_services(
	const struct publisher *publisher, const struct publish_job *job, struct service **built)
{
	for (uint32_t i = 0; i < job->nb_changed; i++) {
		struct service_source source = job->changed[i].source;
		if (job->changed[i].gone)
			continue;
		source.name = job->changed[i].name;
		built[i] = service_create(&source);
		if (built[i] == NULL && errno != ENOMEM)
			built[i] = stand_in(publisher, &job->changed[i], errno);
		if (built[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static void swap_services(
	struct publisher *publisher, const struct publish_job *job, struct service **built)
{
	for (uint32_t i = 0; i < job->nb_changed; i++) {
		struct service **place = &publisher->services[job->changed[i].index];
		struct service *old = *place;
		*place = built[i];
		built[i] = old;
	}
}

/* Build, swap, retire: 0, or -ENOMEM and nothing changed for the workers. */
static int publish(struct publisher *publisher, const struct publish_job *job, uint64_t number)
{
	const struct publisher_source *source = &publisher->source;
	struct service **built = calloc(job->nb_changed + 1, sizeof(*built));
	struct retired *retired = calloc(1, sizeof(*retired));
	struct service_keys *keys = publisher->keys;
	int err = -ENOMEM;

	if (job->keys != NULL)
		keys = job->all_keys ? service_keys_create(job->keys, job->nb_keys)
				     : service_keys_change(keys, job->keys, job->nb_keys);
	if (built == NULL || retired == NULL || keys == NULL ||
		grow_services(publisher, job->nb_services) < 0)
		goto out;
	err = build_services(publisher, job, built);
	if (err < 0)
		goto out;

	swap_services(publisher, job, built);
	struct service_table *table = service_table_create(&(struct service_table_source){
		.services = publisher->services,
		.nb_services = publisher->nb_services,
		.backends = publisher->rows,
		.nb_backends = job->nb_backends,
		.reset_round = job->reset_round,
		.snat4 = source->snat4,
		.snat6 = source->snat6,
		.snat = source->snat,
		.shared_keys = keys,
	});
	if (table == NULL) {
		swap_services(publisher, job, built);
		err = -ENOMEM;
		goto out;
	}
	// Release: a worker that sees the pointer sees the whole table.
	retired->table = __atomic_exchange_n(source->root, table, __ATOMIC_ACQ_REL);
	// Behind the swap: whoever reports from here on has loaded the new pointer.
	retired->token = rte_rcu_qsbr_start(source->rcu);
	retired->since_ms = clock_ms();
	retired->number = number;
	retired->next = publisher->retired;
	publisher->retired = retired;
	retired = NULL;
	if (keys != publisher->keys) {
		struct service_keys *old = publisher->keys;
		publisher->keys = keys;
		keys = old;
	} else {
		keys = NULL;
	}
out:
	// What is left here is the old, or what came of a failure.
	if (keys != publisher->keys)
		service_keys_put(keys);
	for (uint32_t i = 0; built != NULL && i < job->nb_changed; i++)
		service_put(built[i]);
	free(built);
	free(retired);
	return err;
}

static void wake_loop(struct publisher *publisher)
{
	uint64_t one = 1;

	if (write(publisher->eventfd, &one, sizeof(one)) < 0)
		log_error(
			"eventfd: %s", strerror(errno)); // it is full only after 2^64 - 2 of these
}

/* Free what no worker has any more. A newer token passes no earlier than an older one. */
static void check_retired(struct publisher *publisher)
{
	struct retired **at = &publisher->retired;

	while (*at != NULL && rte_rcu_qsbr_check(publisher->source.rcu, (*at)->token, false) != 1) {
		uint64_t age_ms = clock_ms() - (*at)->since_ms;
		if (age_ms > RETIRED_REPORT_MS && !(*at)->reported) {
			(*at)->reported = true;
			log_warning("a replaced service table is still in use after %lu ms: "
				    "a worker is stuck",
				(unsigned long)age_ms);
		}
		at = &(*at)->next;
	}
	if (*at == NULL)
		return;
	__atomic_store_n(&publisher->passed, (*at)->number, __ATOMIC_RELEASE);
	wake_loop(publisher);
	for (struct retired *retired = *at, *next; retired != NULL; retired = next) {
		next = retired->next;
		service_table_destroy(retired->table);
		free(retired);
	}
	*at = NULL;
}

static void wait_for_work(struct publisher *publisher)
{
	uint64_t until_ns = clock_ns() + RETIRED_CHECK_MS * 1000000ULL;
	struct timespec until = {until_ns / 1000000000, until_ns % 1000000000};

	if (publisher->retired == NULL)
		pthread_cond_wait(&publisher->wake, &publisher->lock);
	else
		pthread_cond_timedwait(&publisher->wake, &publisher->lock, &until);
}

static void *builder_main(void *context)
{
	struct publisher *publisher = context;

	pthread_setname_np(pthread_self(), "weir-builder");
	pthread_mutex_lock(&publisher->lock);
	while (!publisher->stop) {
		if (publisher->job != NULL && !publisher->is_built) {
			const struct publish_job *job = publisher->job;
			uint64_t number = publisher->submitted;
			pthread_mutex_unlock(&publisher->lock);
			int err = take_rows(publisher, job);
			if (err == 0)
				err = publish(publisher, job, number);
			pthread_mutex_lock(&publisher->lock);
			publisher->err = err;
			publisher->is_built = true;
			pthread_cond_signal(&publisher->ready);
			wake_loop(publisher);
		} else {
			wait_for_work(publisher);
		}
		pthread_mutex_unlock(&publisher->lock);
		check_retired(publisher);
		pthread_mutex_lock(&publisher->lock);
	}
	pthread_mutex_unlock(&publisher->lock);
	return NULL;
}

/* --- the event loop's side --- */

static void take_result(struct publisher *publisher)
{
	struct publish_job *job = NULL;
	int err;

	pthread_mutex_lock(&publisher->lock);
	if (publisher->is_built) {
		job = publisher->job;
		publisher->job = NULL;
		publisher->is_built = false;
	}
	err = publisher->err;
	pthread_mutex_unlock(&publisher->lock);
	if (job == NULL)
		return;
	publisher->source.done(publisher->source.context, job, err);
	publish_job_destroy(job);
}

static void on_news(evutil_socket_t fd, short what, void *context)
{
	struct publisher *publisher = context;
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("eventfd: %s", strerror(errno));
	take_result(publisher);
	uint64_t passed = publisher_passed(publisher);
	if (passed != publisher->told_passed) {
		publisher->told_passed = passed;
		publisher->source.passed(publisher->source.context);
	}
}

static int copy_snat(struct service_snat *snat)
{
	struct net_addr *addrs = calloc(snat->count + 1, sizeof(*addrs));

	if (addrs != NULL && snat->count != 0)
		memcpy(addrs, snat->addrs, snat->count * sizeof(*addrs));
	snat->addrs = addrs;
	return addrs == NULL ? -ENOMEM : 0;
}

struct publisher *publisher_create(const struct publisher_source *source)
{
	struct publisher *publisher = calloc(1, sizeof(*publisher));
	pthread_condattr_t monotonic;
	int err = ENOMEM;

	if (publisher == NULL)
		return NULL;
	publisher->source = *source;
	publisher->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&publisher->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&publisher->wake, &monotonic);
	pthread_cond_init(&publisher->ready, NULL);
	pthread_condattr_destroy(&monotonic);
	// Both, so that destroy may free both.
	int failed = copy_snat(&publisher->source.snat4) | copy_snat(&publisher->source.snat6);
	publisher->event = event_new(
		source->events, publisher->eventfd, EV_READ | EV_PERSIST, on_news, publisher);
	if (failed || publisher->eventfd < 0 || publisher->event == NULL ||
		event_add(publisher->event, NULL) < 0)
		goto fail;
	err = pthread_create(&publisher->thread, NULL, builder_main, publisher);
	if (err != 0)
		goto fail;
	publisher->has_thread = true;
	return publisher;
fail:
	publisher_destroy(publisher);
	errno = err;
	return NULL;
}

static void stop_builder(struct publisher *publisher)
{
	if (!publisher->has_thread)
		return;
	pthread_mutex_lock(&publisher->lock);
	publisher->stop = true;
	pthread_cond_signal(&publisher->wake);
	pthread_mutex_unlock(&publisher->lock);
	pthread_join(publisher->thread, NULL);
}

void publisher_destroy(struct publisher *publisher)
{
	if (publisher == NULL)
		return;
	stop_builder(publisher);
	publish_job_destroy(publisher->job);
	service_table_destroy(*publisher->source.root);
	*publisher->source.root = NULL;
	while (publisher->retired != NULL) {
		struct retired *retired = publisher->retired;
		publisher->retired = retired->next;
		service_table_destroy(retired->table);
		free(retired);
	}
	for (uint32_t i = 0; i < publisher->nb_services; i++)
		service_put(publisher->services[i]);
	free(publisher->services);
	free(publisher->rows);
	service_keys_put(publisher->keys);
	if (publisher->event != NULL)
		event_free(publisher->event);
	if (publisher->eventfd >= 0)
		close(publisher->eventfd);
	pthread_mutex_destroy(&publisher->lock);
	pthread_cond_destroy(&publisher->wake);
	pthread_cond_destroy(&publisher->ready);
	free(publisher->source.snat4.addrs);
	free(publisher->source.snat6.addrs);
	free(publisher);
}

bool publisher_busy(const struct publisher *publisher)
{
	return publisher->job != NULL; // only this thread sets it
}

void publisher_submit(struct publisher *publisher, struct publish_job *job)
{
	pthread_mutex_lock(&publisher->lock);
	assert(publisher->job == NULL);
	publisher->job = job;
	publisher->submitted++;
	pthread_cond_signal(&publisher->wake);
	pthread_mutex_unlock(&publisher->lock);
}

void publisher_wait(struct publisher *publisher)
{
	pthread_mutex_lock(&publisher->lock);
	while (publisher->job != NULL && !publisher->is_built)
		pthread_cond_wait(&publisher->ready, &publisher->lock);
	pthread_mutex_unlock(&publisher->lock);
	take_result(publisher);
}

uint64_t publisher_submitted(const struct publisher *publisher)
{
	return publisher->submitted;
}

uint64_t publisher_passed(const struct publisher *publisher)
{
	return __atomic_load_n(&publisher->passed, __ATOMIC_ACQUIRE);
}
