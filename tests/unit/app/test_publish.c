/* SPDX-License-Identifier: BSD-3-Clause */
/* The builder: what can't be built holds nothing else back (case E40). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <rte_rcu_qsbr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "publish.h"
#include "scheduler.h"

#define TOO_MANY (SCHEDULER_MAX_BACKENDS + 1)

struct world {
	struct event_base *events;
	struct rte_rcu_qsbr *rcu;
	struct service_table *table; // published
	struct publisher *publisher;
	int nb_done, err;
};

static void done(void *context, const struct publish_job *job, int err)
{
	struct world *world = context;

	world->nb_done++;
	world->err = err;
}

static void passed(void *context)
{
}

static int set_up(void **state)
{
	struct world *world = calloc(1, sizeof(*world));

	world->events = event_base_new();
	assert_int_equal(posix_memalign((void **)&world->rcu, 64, rte_rcu_qsbr_get_memsize(1)), 0);
	assert_int_equal(rte_rcu_qsbr_init(world->rcu, 1), 0);
	world->publisher = publisher_create(&(struct publisher_source){
		.events = world->events,
		.rcu = world->rcu,
		.root = &world->table,
		.done = done,
		.passed = passed,
		.context = world,
	});
	assert_non_null(world->publisher);
	*state = world;
	return 0;
}

static int tear_down(void **state)
{
	struct world *world = *state;

	publisher_destroy(world->publisher);
	event_base_free(world->events);
	free(world->rcu);
	free(world);
	return 0;
}

static void add(struct publish_job *job, uint32_t index, uint32_t nb_candidates)
{
	struct publish_service *service = publish_job_add_service(job);

	assert_non_null(service);
	service->index = index;
	snprintf(service->name, sizeof(service->name), "service%u", index);
	service->source.scheduler = &scheduler_maglev;
	struct service_choices *choices = &service->choice.candidates;
	choices->ids = calloc(nb_candidates + 1, sizeof(uint32_t));
	choices->weights = calloc(nb_candidates + 1, sizeof(struct scheduler_backend));
	choices->count = nb_candidates;
	for (uint32_t i = 0; i < nb_candidates; i++) {
		choices->ids[i] = i;
		choices->weights[i] = (struct scheduler_backend){.identity = i, .weight = 1};
	}
	service->source.candidates = *choices;
}

static void publish(struct world *world, uint32_t first, uint32_t second)
{
	struct publish_job *job = publish_job_create();

	assert_non_null(job);
	add(job, 0, first);
	add(job, 1, second);
	job->nb_services = 2;
	job->all_keys = true;
	job->keys = calloc(1, sizeof(*job->keys));
	assert_int_equal(publish_job_set_rows(job, 0), 0);
	int nb_done = world->nb_done;
	publisher_submit(world->publisher, job);
	publisher_wait(world->publisher);
	assert_int_equal(world->nb_done, nb_done + 1);
	assert_int_equal(world->err, 0);
}

static void a_service_of_too_many_backends_leaves_the_others_published(void **state)
{
	struct world *world = *state;

	publish(world, 2, TOO_MANY);
	assert_int_equal(world->table->services[0]->candidates.count, 2);
	assert_string_equal(world->table->services[1]->name, "service1");
	assert_int_equal(world->table->services[1]->candidates.count, 0);
}

static void it_stays_what_it_was(void **state)
{
	struct world *world = *state;

	publish(world, 2, 3);
	for (int i = 0; i < 3; i++) {
		publish(world, 4 + i, TOO_MANY);
		assert_int_equal(world->table->services[0]->candidates.count, 4 + i);
		assert_int_equal(world->table->services[1]->candidates.count, 3);
	}
	publish(world, 2, 5);
	assert_int_equal(world->table->services[1]->candidates.count, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			a_service_of_too_many_backends_leaves_the_others_published, set_up,
			tear_down),
		cmocka_unit_test_setup_teardown(it_stays_what_it_was, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
