/* SPDX-License-Identifier: BSD-3-Clause */
/* Bringing the registry in line with a configuration: all or nothing, in slices. */
#include "app_test.h"

#define TWO "\"10.0.0.1:80\", \"10.0.0.2:80\""
#define THREE TWO ", \"10.0.0.3:80\""

static void nothing_is_seen_before_the_commit(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct conf *conf =
		read_conf(FILE_OF(SERVICE("web", ":80", THREE) SERVICE("api", ":81", TWO)));
	uint32_t id = find(&registry, "web", "10.0.0.1:80")->id;

	struct plan *plan = plan_create(&registry.backends, conf, NULL);
	assert_int_equal(plan_step(plan, UINT64_MAX), 0);
	assert_int_equal(registry.backends.nb_services, 1);
	assert_int_equal(registry.backends.nb_backends, 2);
	assert_int_equal(registry.backends.services[0]->nb_backends, 2);
	assert_null(backends_find_service(&registry.backends, "api"));
	commit(&registry, plan, conf);
	assert_int_equal(registry.backends.nb_services, 2);
	assert_int_equal(registry.backends.nb_backends, 5);
	assert_int_equal(find(&registry, "web", "10.0.0.1:80")->id, id);
	registry_end(&registry);
}

static void a_plan_that_is_dropped_leaves_no_trace(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct conf *conf =
		read_conf(FILE_OF(SERVICE("api", ":81", THREE) SERVICE("web", ":80", THREE)));
	uint32_t end = id_pool_end(registry.backends.ids);

	// At every point at which it may be.
	for (int steps = 0; steps < 8; steps++) {
		struct plan *plan = plan_create(&registry.backends, conf, NULL);
		for (int i = 0; i < steps && plan_step(plan, 0) > 0; i++)
			;
		plan_destroy(plan);
		assert_int_equal(registry.backends.nb_services, 1);
		assert_int_equal(registry.backends.services[0]->nb_backends, 2);
		assert_int_equal(registry.backends.services[0]->nb_listed, 2);
		for (uint32_t id = end; id < id_pool_end(registry.backends.ids); id++)
			assert_null(registry.backends.by_id[id]);
	}
	conf_free(conf);
	// And the next one finds all as it was.
	apply(&registry, FILE_OF(SERVICE("web", ":80", THREE)));
	assert_int_equal(registry.backends.nb_backends, 3);
	registry_end(&registry);
}

static void it_is_prepared_in_slices(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct conf *conf =
		read_conf(FILE_OF(SERVICE("web", ":80", THREE) SERVICE("api", ":81", THREE)));
	struct plan *plan = plan_create(&registry.backends, conf, NULL);
	unsigned slices = 0;

	while (plan_step(plan, 0) > 0) // no time at all: one backend each
		slices++;
	assert_int_equal(slices, 6);
	commit(&registry, plan, conf);
	assert_int_equal(registry.backends.nb_backends, 6);
	registry_end(&registry);
}

static void no_id_left_refuses_the_whole(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct conf *conf = read_conf(FILE_OF(SERVICE("web", ":80", THREE)));

	while (id_pool_get(registry.backends.ids) != ID_NONE)
		;
	struct plan *plan = plan_create(&registry.backends, conf, NULL);
	assert_int_equal(plan_step(plan, UINT64_MAX), -ENOSPC);
	plan_destroy(plan);
	conf_free(conf);
	assert_int_equal(registry.backends.services[0]->nb_listed, 2);
	registry_end(&registry);
}

static void only_changed_services_are_touched(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO) SERVICE("api", ":81", TWO)));
	struct control_service *web = backends_find_service(&registry.backends, "web");
	struct control_service *api = backends_find_service(&registry.backends, "api");
	struct control_backend **list = web->backends;

	web->changed = api->changed = false;
	registry.backends.nb_changed_rows = 0;
	memset(registry.backends.row_changed, 0, 4);
	registry.backends.all_keys = false;
	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO) SERVICE("api", ":81", THREE)));
	assert_false(web->changed);
	assert_true(api->changed);
	assert_ptr_equal(web->backends, list);
	assert_ptr_equal(web->conf, registry.conf->services[0]);
	// The new backend's row, and its keys; those of the service, which may be others.
	assert_int_equal(registry.backends.nb_changed_rows, 1);
	assert_int_equal(
		registry.backends.changed_rows[0], find(&registry, "api", "10.0.0.3:80")->id);
	assert_int_equal(registry.backends.nb_key_changes, 4);
	registry_end(&registry);
}

static void listed_ones_stand_as_in_the_file_and_the_others_behind(void **state)
{
	static const char *const names[] = {
		"10.0.0.9:80", "10.0.0.3:80", "10.0.0.1:80", "10.0.0.2:80"};
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", THREE)));

	apply(&registry,
		FILE_OF(SERVICE(
			"web", ":80", "\"10.0.0.9:80\", \"10.0.0.3:80\", \"10.0.0.1:80\"")));
	const struct control_service *web = registry.backends.services[0];
	assert_int_equal(web->nb_listed, 3);
	assert_int_equal(web->nb_backends, 4);
	for (int b = 0; b < 4; b++)
		assert_string_equal(web->backends[b]->conf.name, names[b]);
	registry_end(&registry);
}

static void on_remove_reset_marks_the_flows(void **state)
{
	struct registry registry;
	registry_start(&registry,
		FILE_OF("web = { listen = \":80\"; on_remove = \"reset\"; "
			"backends = ( " THREE " ); };\n"));
	struct control_backend *backend = find(&registry, "web", "10.0.0.3:80");

	apply(&registry,
		FILE_OF("web = { listen = \":80\"; on_remove = \"reset\"; "
			"backends = ( " TWO " ); };\n"));
	assert_true(backend->reset);
	assert_true(registry.backends.rows[backend->id].reset);
	assert_int_equal(registry.backends.reset_round, 1);
	apply(&registry,
		FILE_OF("web = { listen = \":80\"; on_remove = \"reset\"; "
			"backends = ( " THREE " ); };\n"));
	assert_false(backend->reset);
	assert_false(registry.backends.rows[backend->id].reset);
	registry_end(&registry);
}

static void a_backend_that_is_gone_is_not_taken_for_a_new_one(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	struct control_backend *gone = find(&registry, "web", "10.0.0.2:80");

	apply(&registry, FILE_OF(SERVICE("web", ":80", "\"10.0.0.1:80\"")));
	gone->life = BACKEND_GONE; // but still in the list
	apply(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	const struct control_service *web = registry.backends.services[0];
	assert_int_equal(web->nb_backends, 3);
	assert_ptr_not_equal(web->backends[1], gone);
	assert_int_not_equal(web->backends[1]->id, gone->id);
	registry_end(&registry);
}

/* --- make before break (E11) --- */

#define OLD "\"10.0.0.1:80\""
#define NEW "\"10.0.0.2:80\""

static enum backend_life life(struct registry *registry, const char *name)
{
	return find(registry, "web", name)->life;
}

static bool let_go(struct registry *registry)
{
	return control_service_let_go(
		&registry->backends, registry->backends.services[0], ++registry->publication);
}

/* The only backend, up, is exchanged for `backends`. */
static void exchange(struct registry *registry, const char *backends)
{
	char text[1024];

	registry_start(registry, FILE_OF(SERVICE("web", ":80", OLD)));
	bring_up(registry, find(registry, "web", "10.0.0.1:80"));
	snprintf(text, sizeof(text), FILE_OF(SERVICE("web", ":80", "%s")), backends);
	apply(registry, text);
}

static void the_old_one_serves_until_the_new_one_has_a_verdict(void **state)
{
	struct registry registry;
	exchange(&registry, NEW);
	struct control_backend *old = find(&registry, "web", "10.0.0.1:80");
	struct control_backend *new = find(&registry, "web", "10.0.0.2:80");
	assert_int_equal(old->life, BACKEND_LEAVING);
	assert_true(control_backend_usable(old));
	assert_string_equal(control_backend_state_name(old), "leaving");
	control_service_look(registry.backends.services[0]);
	assert_false(registry.backends.services[0]->is_empty);
	assert_false(let_go(&registry));
	new->health.state = HEALTH_UP; // but nobody knows its next hop yet
	assert_false(let_go(&registry));
	bring_up(&registry, new);
	assert_true(let_go(&registry));
	assert_int_equal(old->life, BACKEND_REMOVED);
	assert_int_equal(old->left_at, registry.publication);
	assert_false(control_backend_usable(old));
	assert_false(let_go(&registry));
	registry_end(&registry);
}

static void it_goes_when_all_new_ones_are_down(void **state)
{
	struct registry registry;
	exchange(&registry, NEW ", \"10.0.0.3:80\"");
	find(&registry, "web", "10.0.0.2:80")->health.state = HEALTH_DOWN;
	assert_false(let_go(&registry));
	find(&registry, "web", "10.0.0.3:80")->health.state = HEALTH_DOWN;
	assert_true(let_go(&registry));
	assert_int_equal(life(&registry, "10.0.0.1:80"), BACKEND_REMOVED);
	registry_end(&registry);
}

static void it_goes_at_once_when_nobody_is_awaited(void **state)
{
	static const char *const wanted[] = {"{ address = \"10.0.0.2:80\"; state = \"drain\"; }",
		"{ address = \"10.0.0.2:80\"; state = \"disabled\"; }",
		("{ address = \"10.0.0.2:80\"; weight = 0; }, "
		 "{ address = \"10.0.0.3:80\"; state = \"drain\"; }")};

	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		struct registry registry;
		exchange(&registry, wanted[i]);
		assert_int_equal(life(&registry, "10.0.0.1:80"), BACKEND_REMOVED);
		registry_end(&registry);
	}
}

static void a_backup_is_no_reason_to_go_early(void **state)
{
	struct registry registry;
	registry_start(&registry,
		FILE_OF(SERVICE(
			"web", ":80", OLD ", { address = \"10.0.0.3:80\"; backup = true; }")));
	bring_up(&registry, find(&registry, "web", "10.0.0.1:80"));
	bring_up(&registry, find(&registry, "web", "10.0.0.3:80"));
	apply(&registry,
		FILE_OF(SERVICE(
			"web", ":80", NEW ", { address = \"10.0.0.3:80\"; backup = true; }")));
	assert_int_equal(life(&registry, "10.0.0.1:80"), BACKEND_LEAVING);
	find(&registry, "web", "10.0.0.2:80")->health.state = HEALTH_DOWN;
	assert_true(let_go(&registry));
	registry_end(&registry);
}

static void who_does_not_serve_has_nothing_to_stay_for(void **state)
{
	struct registry registry;
	registry_start(&registry, FILE_OF(SERVICE("web", ":80", TWO)));
	bring_up(&registry, find(&registry, "web", "10.0.0.1:80"));
	apply(&registry, FILE_OF(SERVICE("web", ":80", "\"10.0.0.3:80\"")));
	assert_int_equal(life(&registry, "10.0.0.1:80"), BACKEND_LEAVING);
	assert_int_equal(life(&registry, "10.0.0.2:80"), BACKEND_REMOVED);
	// Drained by hand in the meantime.
	find(&registry, "web", "10.0.0.1:80")->temporary_state = CONF_STATE_DRAIN;
	assert_true(let_go(&registry));
	assert_int_equal(life(&registry, "10.0.0.1:80"), BACKEND_REMOVED);
	registry_end(&registry);
}

static void it_may_come_back_or_leave_for_another(void **state)
{
	struct registry registry;
	exchange(&registry, NEW);
	apply(&registry, FILE_OF(SERVICE("web", ":80", "\"10.0.0.3:80\"")));
	assert_int_equal(life(&registry, "10.0.0.1:80"), BACKEND_LEAVING);
	assert_int_equal(life(&registry, "10.0.0.2:80"), BACKEND_REMOVED);
	apply(&registry, FILE_OF(SERVICE("web", ":80", OLD)));
	assert_int_equal(life(&registry, "10.0.0.1:80"), BACKEND_LISTED);
	assert_int_equal(registry.backends.services[0]->nb_leaving, 0);
	apply(&registry, FILE_OF(SERVICE("api", ":81", NEW))); // its service goes
	assert_int_equal(life(&registry, "10.0.0.1:80"), BACKEND_REMOVED);
	registry_end(&registry);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_seen_before_the_commit),
		cmocka_unit_test(a_plan_that_is_dropped_leaves_no_trace),
		cmocka_unit_test(it_is_prepared_in_slices),
		cmocka_unit_test(no_id_left_refuses_the_whole),
		cmocka_unit_test(only_changed_services_are_touched),
		cmocka_unit_test(listed_ones_stand_as_in_the_file_and_the_others_behind),
		cmocka_unit_test(on_remove_reset_marks_the_flows),
		cmocka_unit_test(a_backend_that_is_gone_is_not_taken_for_a_new_one),
		cmocka_unit_test(the_old_one_serves_until_the_new_one_has_a_verdict),
		cmocka_unit_test(it_goes_when_all_new_ones_are_down),
		cmocka_unit_test(it_goes_at_once_when_nobody_is_awaited),
		cmocka_unit_test(a_backup_is_no_reason_to_go_early),
		cmocka_unit_test(who_does_not_serve_has_nothing_to_stay_for),
		cmocka_unit_test(it_may_come_back_or_leave_for_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
