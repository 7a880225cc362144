/* SPDX-License-Identifier: BSD-3-Clause */
/* What goes into a job for the publisher: all that changed, and nothing else. */
#include "app_test.h"

#include "gather.h"
#include "publish.h"

#define ONE "\"10.0.0.1:80\""
#define TWO ONE ", \"10.0.0.2:80\""

static struct publish_job *gather_all(struct registry *registry)
{
	struct gather gather = {NULL};

	assert_int_equal(gather_step(&gather, &registry->backends, registry->conf, UINT64_MAX), 0);
	return gather.job;
}

static void publish(struct registry *registry, struct publish_job *job)
{
	gather_published(&registry->backends, job);
	publish_job_destroy(job);
}

static void the_first_job_has_all(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO) SERVICE("api", ":81", ONE)));
	struct publish_job *job = gather_all(&registry);

	assert_int_equal(job->nb_services, 2);
	assert_int_equal(job->nb_changed, 2);
	assert_string_equal(job->changed[1].name, "api");
	assert_int_equal(job->nb_backends, 3);
	assert_int_equal(job->nb_rows, 3);
	assert_true(job->all_keys);
	// A VIP each on the port's one IPv4 address, address and host of each backend, two of SNAT.
	assert_int_equal(job->nb_keys, 2 + 2 * 3 + 2);
	publish(&registry, job);
	registry_end(&registry);
}

static void nothing_changed_makes_an_empty_job(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	publish(&registry, gather_all(&registry));
	struct publish_job *job = gather_all(&registry);

	assert_int_equal(job->nb_changed, 0);
	assert_int_equal(job->nb_rows, 0);
	assert_null(job->keys);
	assert_int_equal(job->nb_services, 1);
	assert_int_equal(job->nb_backends, 2);
	publish(&registry, job);
	registry_end(&registry);
}

static void what_became_known_of_a_backend_is_its_row(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct control_backend *backend = find(&registry, "web", "10.0.0.2:80");
	publish(&registry, gather_all(&registry));

	bring_up(&registry, backend);
	bring_up(&registry, backend); // the same again
	backend->service->changed = true;
	struct publish_job *job = gather_all(&registry);
	assert_int_equal(job->nb_rows, 1);
	assert_int_equal(job->ids[0], backend->id);
	assert_true(job->rows[0].resolved);
	assert_int_equal(job->nb_changed, 1);
	assert_int_equal(job->changed[0].source.candidates.count, 1);
	assert_int_equal(job->changed[0].source.candidates.ids[0], backend->id);
	assert_true(backend->gathered);
	assert_null(job->keys);
	publish(&registry, job);
	registry_end(&registry);
}

static void a_job_that_fails_is_made_up_for_by_the_next(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct publish_job *job = gather_all(&registry);
	uint32_t nb_keys = job->nb_keys;

	gather_again(&registry.backends, job);
	publish_job_destroy(job);
	job = gather_all(&registry);
	assert_int_equal(job->nb_changed, 1);
	assert_int_equal(job->nb_rows, 2);
	assert_true(job->all_keys);
	assert_int_equal(job->nb_keys, nb_keys);
	publish(&registry, job);
	registry_end(&registry);
}

static void in_use_are_those_that_were_published(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO) SERVICE("api", ":81", ONE)));
	struct control_backend *one = find(&registry, "web", "10.0.0.1:80");
	struct control_backend *two = find(&registry, "web", "10.0.0.2:80");
	struct control_backend *api = find(&registry, "api", "10.0.0.1:80");

	bring_up(&registry, one);
	bring_up(&registry, two);
	bring_up(&registry, api);
	struct publish_job *job = gather_all(&registry);
	assert_false(one->in_use);
	publish(&registry, job);
	assert_true(one->in_use && two->in_use && api->in_use);

	// One backend leaves the file, and a whole service: their flows keep them in the registry.
	apply(&registry, FILE_OF(SERVICE("web", ":80", ONE)));
	job = gather_all(&registry);
	assert_true(two->in_use && api->in_use);
	publish(&registry, job);
	assert_true(one->in_use);
	assert_false(two->in_use || api->in_use);
	registry_end(&registry);
}

static void an_index_without_a_service_is_gone_once(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO) SERVICE("api", ":81", ONE)));
	publish(&registry, gather_all(&registry));
	struct control_service *api = backends_find_service(&registry.backends, "api");
	uint32_t index = api->index;

	// As long as it has connections it is there, without a backend for new ones (E34).
	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct publish_job *job = gather_all(&registry);
	assert_int_equal(job->nb_changed, 1);
	assert_false(job->changed[0].gone);
	assert_int_equal(job->changed[0].index, index);
	assert_int_equal(job->changed[0].source.candidates.count, 0);
	publish(&registry, job);
	control_service_leave_index(&registry.backends, api);
	job = gather_all(&registry);
	assert_int_equal(job->nb_changed, 1);
	assert_true(job->changed[0].gone);
	assert_int_equal(job->changed[0].index, index);
	publish(&registry, job);
	job = gather_all(&registry);
	assert_int_equal(job->nb_changed, 0);
	publish(&registry, job);
	registry_end(&registry);
}

static void changes_between_slices_are_in_it_too(void **state)
{
	struct registry registry;
	registry_start(&registry,
		FILE_OF(SERVICE("a", ":80", ONE) SERVICE("b", ":81", ONE)
				SERVICE("c", ":82", ONE)));
	struct gather gather = {NULL};
	struct control_backend *first = find(&registry, "a", "10.0.0.1:80");

	assert_int_equal(gather_step(&gather, &registry.backends, registry.conf, 0), 1);
	assert_int_equal(gather.job->nb_changed, 1);
	bring_up(&registry, first);
	first->service->changed = true;
	int more;
	while ((more = gather_step(&gather, &registry.backends, registry.conf, 0)) > 0)
		;
	assert_int_equal(more, 0);
	// It is there twice; the last one counts.
	assert_int_equal(gather.job->nb_changed, 4);
	assert_int_equal(gather.job->changed[0].source.candidates.count, 0);
	const struct publish_service *last = NULL;
	for (uint32_t i = 0; i < gather.job->nb_changed; i++)
		if (gather.job->changed[i].index == first->service->index)
			last = &gather.job->changed[i];
	assert_non_null(last);
	// cppcheck-suppress nullPointer // the assertion ends the test
	assert_int_equal(last->source.candidates.count, 1);
	for (uint32_t s = 0; s < 3; s++)
		assert_false(registry.backends.services[s]->changed);
	publish(&registry, gather.job);
	registry_end(&registry);
}

static void what_is_cancelled_is_gathered_again(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("a", ":80", ONE) SERVICE("b", ":81", ONE)));
	struct gather gather = {NULL};

	gather_cancel(&gather, &registry.backends); // none is under way
	assert_int_equal(gather_step(&gather, &registry.backends, registry.conf, 0), 1);
	gather_cancel(&gather, &registry.backends);
	assert_null(gather.job);
	struct publish_job *job = gather_all(&registry);
	assert_int_equal(job->nb_changed, 2);
	publish(&registry, job);
	registry_end(&registry);
}

/* Whether the two have the same keys; of VIPs, with the same values. */
static void assert_same_keys(const struct service_keys *a, const struct service_keys *b)
{
	assert_int_equal(a->nb_keys, b->nb_keys);
	struct service_table *table = service_table_create(
		&(struct service_table_source){.shared_keys = (struct service_keys *)b});
	for (uint32_t i = 0; i <= a->mask; i++) {
		const struct service_key *key = &a->places[i];
		if (key->kind != 0)
			assert_int_equal(
				service_find(table, key->kind, key->family, key->addr, key->port),
				key->value);
	}
	service_table_destroy(table);
}

/* Services that swap addresses, backends that several share, that come and go: the keys that grew
 * by changes are those that a look at all of the registry gives. */
static void keys_by_changes_are_those_of_the_whole(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("s0", ":80", ONE)));
	struct publish_job *job = gather_all(&registry);
	struct service_keys *keys = service_keys_create(job->keys, job->nb_keys);
	publish(&registry, job);

	srand(4);
	for (int round = 0; round < 300; round++) {
		char text[4096] = PORT "services = {\n";
		int port = 80 + rand() % 3;
		for (int s = 0; s < 4; s++) {
			char line[256];
			if (s > 0 && rand() % 4 == 0)
				continue;
			int length = snprintf(line, sizeof(line),
				"s%d = { listen = \":%d\"; backends = ( ", s, port++);
			int nb = 1 + rand() % 3, first = rand() % 4;
			for (int b = 0; b < nb; b++)
				length += snprintf(line + length, sizeof(line) - length,
					"%s\"10.0.0.%d:%d\"", b > 0 ? ", " : "", first + b + 1,
					80 + s % 2);
			snprintf(line + length, sizeof(line) - length, " ); };\n");
			strcat(text, line);
		}
		strcat(text, "};\n");
		apply(&registry, text);
		// Some of those removed are gone, as control_reap() does it.
		for (uint32_t s = 0; s < registry.backends.nb_services; s++) {
			const struct control_service *service = registry.backends.services[s];
			for (uint32_t b = service->nb_listed; b < service->nb_backends; b++) {
				if (service->backends[b]->life != BACKEND_REMOVED ||
					rand() % 2 == 0)
					continue;
				service->backends[b]->life = BACKEND_GONE;
				backends_row_update(&registry.backends, service->backends[b]);
				backends_keys_of_backend(
					&registry.backends, service->backends[b], -1);
			}
		}
		job = gather_all(&registry);
		assert_false(job->all_keys);
		struct service_keys *changed = service_keys_change(keys, job->keys, job->nb_keys);
		uint32_t nb_keys;
		struct service_key *list =
			backends_keys(&registry.backends, registry.conf, &nb_keys);
		struct service_keys *whole = service_keys_create(list, nb_keys);
		assert_same_keys(whole, changed);
		assert_same_keys(changed, whole);
		free(list);
		service_keys_put(whole);
		service_keys_put(keys);
		keys = changed;
		publish(&registry, job);
	}
	service_keys_put(keys);
	registry_end(&registry);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_job_has_all),
		cmocka_unit_test(nothing_changed_makes_an_empty_job),
		cmocka_unit_test(what_became_known_of_a_backend_is_its_row),
		cmocka_unit_test(a_job_that_fails_is_made_up_for_by_the_next),
		cmocka_unit_test(in_use_are_those_that_were_published),
		cmocka_unit_test(an_index_without_a_service_is_gone_once),
		cmocka_unit_test(changes_between_slices_are_in_it_too),
		cmocka_unit_test(what_is_cancelled_is_gathered_again),
		cmocka_unit_test(keys_by_changes_are_those_of_the_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
