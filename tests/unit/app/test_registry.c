/* SPDX-License-Identifier: BSD-3-Clause */
/* What is kept of services and backends from one configuration to the next. */
#include "app_test.h"

#define TWO "\"10.0.0.1:80\", \"10.0.0.2:80\""

static void what_stays_keeps_its_id_health_and_counters(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct control_backend *before = find(&registry, "web", "10.0.0.2:80");

	before->health.state = HEALTH_DOWN;
	before->before.opened = 7;
	apply(&registry,
		FILE_OF(SERVICE("web", ":81",
			"{ address = \"10.0.0.2:80\"; name = \"b\"; "
			"weight = 5; }, \"10.0.0.9:80\"")));
	struct control_backend *after = find(&registry, "web", "b");
	assert_ptr_equal(after, before);
	assert_int_equal(after->health.state, HEALTH_DOWN);
	assert_int_equal(after->before.opened, 7);
	assert_int_equal(control_backend_weight(after), 5);
	assert_ptr_equal(registry.backends.by_id[after->id], after);
	registry_end(&registry);
}

static void what_leaves_the_file_stays_until_it_is_gone(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct control_backend *backend = find(&registry, "web", "10.0.0.1:80");
	uint32_t id = backend->id;

	assert_int_equal(registry.backends.rows[id].service, backend->service->index);
	apply(&registry, FILE_OF(SERVICE("web", ":80", "\"10.0.0.2:80\"")));
	assert_int_equal(backend->life, BACKEND_REMOVED);
	assert_int_equal(backend->left_at, registry.publication);
	assert_string_equal(control_backend_state_name(backend), "removed");
	assert_false(control_backend_usable(backend));
	assert_int_equal(backend->service->nb_listed, 1);
	assert_int_equal(backend->service->nb_backends, 2);
	// Its flows go on, with its service's timeouts and moves (E34).
	assert_int_equal(registry.backends.rows[id].service, backend->service->index);
	assert_int_equal(registry.backends.rows[id].port, htons(80));
	// Put back it is the same one.
	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	assert_ptr_equal(find(&registry, "web", "10.0.0.1:80"), backend);
	assert_int_equal(backend->life, BACKEND_LISTED);
	assert_int_equal(registry.backends.rows[id].service, backend->service->index);
	registry_end(&registry);
}

static void an_id_that_is_taken_again_has_another_generation(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct control_service *service = backends_find_service(&registry.backends, "web");
	struct control_backend *backend = service->backends[--service->nb_backends];
	uint32_t id = backend->id, generation = backend->generation;

	service->nb_listed--;
	control_backend_destroy(&registry.backends, backend);
	assert_null(registry.backends.by_id[id]);
	assert_int_equal(registry.backends.rows[id].service, SERVICE_NONE);
	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO ", \"10.0.0.3:80\"")));
	backend = registry.backends.by_id[id];
	assert_non_null(backend);
	assert_int_not_equal(backend->generation, generation);
	registry_end(&registry);
}

static void a_removed_service_returns_with_its_backends(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO) SERVICE("api", ":81", TWO)));
	struct control_service *api = backends_find_service(&registry.backends, "api");
	uint32_t index = api->index;

	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	assert_false(api->is_listed);
	assert_int_equal(registry.backends.nb_listed, 1);
	assert_int_equal(registry.backends.nb_services, 2);
	// Its flows go on as they were, by what it said last (E34).
	assert_string_equal(api->conf->name, "api");
	assert_int_equal(api->index, index);
	assert_ptr_equal(registry.backends.by_index[index], api);
	for (uint32_t b = 0; b < 2; b++)
		assert_int_equal(registry.backends.rows[api->backends[b]->id].service, index);
	apply(&registry, FILE_OF(SERVICE("api", ":81", TWO) SERVICE("web", ":80", TWO)));
	assert_ptr_equal(registry.backends.services[0], api); // in the order of the file
	assert_ptr_equal(registry.backends.by_index[api->index], api);
	assert_int_equal(api->nb_listed, 2);
	for (uint32_t b = 0; b < 2; b++)
		assert_int_equal(registry.backends.rows[api->backends[b]->id].service, api->index);
	registry_end(&registry);
}

static void usable_are_those_that_are_up_and_active_and_reached(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct control_backend *backend = find(&registry, "web", "10.0.0.1:80");

	assert_false(control_backend_usable(backend));
	bring_up(&registry, backend);
	assert_true(control_backend_usable(backend));
	backend->hop.state = ROUTE_UNREACHABLE;
	assert_false(control_backend_usable(backend));
	backend->hop.state = ROUTE_RESOLVED;
	backend->temporary_state = CONF_STATE_DRAIN;
	assert_string_equal(control_backend_state_name(backend), "drain");
	assert_false(control_backend_usable(backend));
	backend->temporary_state = -1;
	backend->temporary_weight = 0;
	assert_int_equal(control_backend_weight(backend), 0);
	assert_false(control_backend_usable(backend));
	backend->temporary_weight = -1;
	backend->health.state = HEALTH_DOWN;
	assert_false(control_backend_usable(backend));
	registry_end(&registry);
}

static void forward_takes_all_as_candidates_when_none_is_usable(void **state)
{
	struct registry registry;
	registry_start(&registry,
		FILE_OF("web = { listen = \":80\"; on_all_down = \"forward\"; "
			"backends = ( " TWO " ); };\n"));
	struct control_service *service = backends_find_service(&registry.backends, "web");

	for (int b = 0; b < 2; b++) {
		service->backends[b]->hop.state = ROUTE_RESOLVED;
		service->backends[b]->health.state = HEALTH_DOWN;
		service->backends[b]->reset = true;
	}
	assert_true(control_service_look(service)); // it became empty
	assert_false(control_service_look(service));
	for (int b = 0; b < 2; b++) {
		assert_true(control_backend_candidate(service->backends[b]));
		assert_false(control_backend_usable(service->backends[b]));
		// Where new ones go, old ones aren't reset.
		backends_row_update(&registry.backends, service->backends[b]);
		assert_false(registry.backends.rows[service->backends[b]->id].reset);
	}
	service->backends[0]->health.state = HEALTH_UP;
	assert_true(control_service_look(service));
	assert_true(control_backend_candidate(service->backends[0]));
	assert_false(control_backend_candidate(service->backends[1]));
	backends_row_update(&registry.backends, service->backends[1]);
	assert_true(registry.backends.rows[service->backends[1]->id].reset);
	registry_end(&registry);
}

static void count_fixed(void *context, uint32_t id, struct stats_backend *sum)
{
	memset(sum, 0, sizeof(*sum));
	sum->opened = 100;
	sum->ended = 60;
	sum->bytes[1] = 5000;
}

static void counts_begin_when_the_id_is_taken(void **state)
{
	struct registry registry;
	struct stats_backend sum;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", "\"10.0.0.1:80\"")));

	registry.backends.count = count_fixed;
	control_backend_count(&registry.backends, find(&registry, "web", "10.0.0.1:80"), &sum);
	assert_int_equal(sum.opened, 100);
	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	control_backend_count(&registry.backends, find(&registry, "web", "10.0.0.2:80"), &sum);
	assert_int_equal(sum.opened, 0);
	assert_int_equal(sum.ended, 0);
	assert_int_equal(sum.bytes[1], 0);
	registry_end(&registry);
}

static uint64_t counted[4]; // by index

static void count_index(void *context, uint32_t index, struct stats_service *sum)
{
	sum->denied = sum->refused_max_conns = counted[index];
}

static void what_an_index_counted_before_is_not_the_next_services(void **state)
{
	struct registry registry;
	struct stats_service sum;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO) SERVICE("api", ":81", TWO)));
	struct control_service *api = backends_find_service(&registry.backends, "api");

	registry.backends.count_service = count_index;
	counted[0] = 100;
	counted[1] = 7;
	control_service_count(&registry.backends, api, &sum);
	assert_int_equal(sum.denied, 7);
	// It keeps its index while it has connections, and then another service takes it.
	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	assert_int_equal(api->index, 1);
	control_service_leave_index(&registry.backends, api);
	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO) SERVICE("new", ":82", TWO)));
	struct control_service *new = backends_find_service(&registry.backends, "new");
	assert_int_equal(new->index, 1);
	counted[1] += 3;
	control_service_count(&registry.backends, new, &sum);
	assert_int_equal(sum.denied, 3);
	assert_int_equal(sum.refused_max_conns, 3);
	registry_end(&registry);
}

static void count_opened(void *context, uint32_t id, struct stats_backend *sum)
{
	*sum = (struct stats_backend){.opened = ((uint64_t *)context)[0]};
}

static void count_moved(void *context, uint32_t id, struct stats_connect *sum)
{
	*sum = (struct stats_connect){.moved_away = ((uint64_t *)context)[1]};
}

/* E36: one that is counted may turn out to move away. */
static void connections_never_fall(void **state)
{
	static const uint64_t opened_moved_told[][3] = {
		{10, 0, 10}, {10, 3, 10}, {12, 3, 10}, {14, 3, 11}, {14, 20, 11}, {40, 20, 20}};
	struct registry registry;
	uint64_t counted[2] = {0};

	registry_start(&registry, FILE_OF(SERVICE("web", ":80", "\"10.0.0.1:80\"")));
	registry.backends.count = count_opened;
	registry.backends.count_connects = count_moved;
	registry.backends.context = counted;
	for (unsigned i = 0; i < 6; i++) {
		memcpy(counted, opened_moved_told[i], sizeof(counted));
		assert_int_equal(control_backend_connections(
					 &registry.backends, find(&registry, "web", "10.0.0.1:80")),
			opened_moved_told[i][2]);
	}
	registry_end(&registry);
}

static void backends_are_numbered_service_by_service(void **state)
{
	struct registry registry;
	registry_start(&registry,
		FILE_OF(SERVICE("web", ":80", TWO) SERVICE("api", ":81", "\"10.0.0.3:81\"")));

	assert_string_equal(backends_at(&registry.backends, 1)->conf.name, "10.0.0.2:80");
	assert_string_equal(backends_at(&registry.backends, 2)->conf.name, "10.0.0.3:81");
	assert_null(backends_at(&registry.backends, 3));
	assert_null(backends_find_service(&registry.backends, "nobody"));
	registry_end(&registry);
}

static void the_address_of_a_name_is_in_the_name(void **state)
{
	struct conf_backend conf = {.name = "app.example.org:80", .host = "app.example.org"}, copy;
	struct net_endpoint endpoint = {.port = htons(80)};

	assert_int_equal(net_addr_parse(&endpoint.addr, "10.0.0.7"), 0);
	assert_int_equal(control_backend_conf_copy(&copy, &conf, &endpoint), 0);
	assert_string_equal(copy.name, "app.example.org:80/10.0.0.7");
	assert_string_equal(copy.host, conf.host);
	assert_ptr_not_equal(copy.host, conf.host);
	assert_true(net_endpoint_equal(&copy.endpoint, &endpoint));
	control_backend_conf_free(&copy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_stays_keeps_its_id_health_and_counters),
		cmocka_unit_test(what_leaves_the_file_stays_until_it_is_gone),
		cmocka_unit_test(an_id_that_is_taken_again_has_another_generation),
		cmocka_unit_test(a_removed_service_returns_with_its_backends),
		cmocka_unit_test(usable_are_those_that_are_up_and_active_and_reached),
		cmocka_unit_test(forward_takes_all_as_candidates_when_none_is_usable),
		cmocka_unit_test(counts_begin_when_the_id_is_taken),
		cmocka_unit_test(what_an_index_counted_before_is_not_the_next_services),
		cmocka_unit_test(connections_never_fall),
		cmocka_unit_test(backends_are_numbered_service_by_service),
		cmocka_unit_test(the_address_of_a_name_is_in_the_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
