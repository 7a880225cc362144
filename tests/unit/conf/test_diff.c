/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_test.h"

#include "conf_diff.h"
#include "conf_schema.h"

#define TWO                                                                                        \
	"listen = \":80\"; backends = ( { address = \"10.0.0.1:80\"; name = \"con1\"; }, "         \
	"{ address = \"10.0.0.2:80\"; name = \"con2\"; } );"

static struct conf_diff *diff_of(const char *from, const char *to, struct conf_error *error)
{
	struct conf *old = test_good(from), *new = test_good(to);
	struct conf_diff *diff = conf_diff_create(old, new, "weir.conf", error);

	conf_free(old);
	conf_free(new);
	return diff;
}

static void assert_lines(const char *from, const char *to, const char *const *lines)
{
	struct conf_error error;
	struct conf_diff *diff = diff_of(from, to, &error);
	unsigned nb = 0;

	if (diff == NULL)
		fail_msg("%s", error.text);
	for (; lines[nb] != NULL; nb++) {
		assert_true(nb < diff->nb_lines);
		assert_string_equal(diff->lines[nb], lines[nb]);
	}
	assert_int_equal(diff->nb_lines, nb);
	assert_int_equal(diff->any, nb != 0);
	conf_diff_destroy(diff);
}

#define LINES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void equal_files_have_no_difference(void **state)
{
	assert_lines(PORT WEB(TWO), "# a comment\n" PORT WEB(TWO), LINES(NULL));
}

static void backends_come_go_and_change(void **state)
{
	assert_lines(PORT WEB(TWO),
		PORT WEB("listen = \":80\"; backends = ( "
			 "{ address = \"10.0.0.2:80\"; name = \"con2\"; state = \"drain\"; weight "
			 "= 3; }, "
			 "{ address = \"10.0.0.9:8080\"; name = \"con5\"; weight = 2; }, "
			 "\"10.0.0.7:80\" );"),
		LINES("service web: con2: weight 1 -> 3; con2: state active -> drain; "
		      "+ con5 10.0.0.9:8080 weight 2; + 10.0.0.7:80; - con1 10.0.0.1:80"));
}

static void keys_are_named_by_their_path(void **state)
{
	assert_lines(PORT WEB(TWO),
		PORT "timeouts = { close_s = 5; };" WEB(
			"scheduler = "
			"\"round_robin\"; health = { type = \"http\"; path = \"/x\"; status = 204; "
			"}; "
			"listen = \":81\"; backends = ( { address = \"10.0.0.1:80\"; name = "
			"\"con1\"; }, "
			"{ address = \"10.0.0.2:80\"; name = \"two\"; } );"),
		LINES("timeouts.close_s 60 -> 5",
			"service web: listen changed; scheduler maglev -> round_robin; "
			"health.type tcp -> http; health.path \"/\" -> \"/x\"; "
			"health.status changed; two: name \"con2\" -> \"two\""));
}

static void idle_times_of_a_service_are_compared(void **state)
{
	assert_lines(PORT WEB(TWO " timeouts = { close_s = 5; };"),
		PORT WEB(TWO " on_idle = \"reset\"; "
			     "timeouts = { established_s = 90; };"),
		LINES("service web: on_idle drop -> reset; timeouts.established_s default -> 90; "
		      "timeouts.close_s 5 -> default"));
}

static void scheduling_and_lists_of_clients_are_compared(void **state)
{
	assert_lines(
		PORT WEB(
			TWO " deny = [ \"10.0.0.0/8\", \"11.0.0.0/8\" ]; allow = \"10.1.0.0/16\";"),
		PORT WEB(
			"listen = \":80\"; scheduler = \"least_conn\"; slow_start_ms = 5000; "
			"deny = [ \"10.0.0.0/8\", \"11.0.0.0/9\" ]; allow = \"10.1.0.0/16\"; "
			"backends = ( { address = \"10.0.0.1:80\"; name = \"con1\"; max_conns = 7; "
			"slow_start_ms = 0; }, { address = \"10.0.0.2:80\"; name = \"con2\"; }, "
			"{ address = \"10.0.0.3:80\"; name = \"con3\"; backup = true; } );"),
		LINES("service web: scheduler maglev -> least_conn; slow_start_ms 0 -> 5000; "
		      "deny changed; con1: max_conns 0 -> 7; con2: slow_start_ms 0 -> 5000; "
		      "+ con3 10.0.0.3:80 backup"));
}

static void what_a_connect_may_cost_is_compared(void **state)
{
	assert_lines(PORT WEB(TWO),
		PORT WEB(TWO " connect_timeout_ms = 100; connect_tries = 2; "
			     "retry_budget = 50; passive = { fails = 1; retry_ms = 10000; };"),
		LINES("service web: connect_timeout_ms 250 -> 100; connect_tries 3 -> 2; "
		      "retry_budget 20 -> 50; passive.fails 5 -> 1; passive.retry_ms 5000 -> "
		      "10000"));
}

static void services_come_and_go(void **state)
{
	assert_lines(PORT WEB(TWO), PORT "services = { api = { " TWO " }; };",
		LINES("service api: new, 2 backends", "service web: removed, 2 backends"));
}

static void only_changed_services_are_marked(void **state)
{
	struct conf_error error;
	struct conf_diff *diff = diff_of(PORT "services = { a = { listen = \":81\"; " BACKENDS
					      " }; b = { " TWO " }; };",
		PORT "services = { c = { listen = \":82\"; " BACKENDS " };"
		     " b = { " TWO
		     " }; a = { listen = \":81\"; backends = ( \"10.0.0.1:81\" ); }; };",
		&error);

	assert_non_null(diff);
	assert_true(diff->changed[0]);
	assert_false(diff->changed[1]);
	assert_true(diff->changed[2]);
	conf_diff_destroy(diff);
}

static void another_order_is_a_change_without_a_word(void **state)
{
	struct conf_error error;
	struct conf_diff *diff = diff_of(
		PORT WEB("listen = \":80\"; backends = ( \"10.0.0.1:80\", \"10.0.0.2:80\" );"),
		PORT WEB("listen = \":80\"; backends = ( \"10.0.0.2:80\", \"10.0.0.1:80\" );"),
		&error);

	assert_non_null(diff);
	assert_true(diff->changed[0]);
	assert_int_equal(diff->nb_lines, 0);
	conf_diff_destroy(diff);
}

static void what_needs_a_restart_is_refused(void **state)
{
	static const char *const cases[][2] = {
		{"flows = 2048; " PORT SERVICES, "flows.size 1048576 -> 2048"},
		{"flows = { persist = false; }; " PORT SERVICES, "flows.persist true -> false"},
		{"instance = \"b\"; " PORT SERVICES, "instance \"\" -> \"b\""},
		{"port = { device = \"eth2\"; address = \"192.0.2.10/24\"; };" SERVICES,
			"port.device \"eth1\" -> \"eth2\""},
		{"port = { device = \"eth1\"; address = \"192.0.2.10/25\"; };" SERVICES,
			"port.address changed"},
		{"port = { device = \"eth1\"; address = \"192.0.2.10/24\"; gateway = "
		 "\"192.0.2.1\"; };" SERVICES,
			"port.gateway changed"},
		{"port = { device = \"eth1\"; address = \"192.0.2.10/24\"; driver = "
		 "\"af_packet\"; };" SERVICES,
			"port.driver default -> af_packet"},
		{"port = { device = \"eth1\"; address = \"192.0.2.10/24\"; netns = \"x\"; "
		 "};" SERVICES,
			"port.netns \"weir\" -> \"x\""},
		{"port = { device = \"eth1\"; address = \"192.0.2.10/24\"; eal = [ \"-v\" ]; "
		 "};" SERVICES,
			"port.eal changed"},
		{"port = { device = \"eth1\"; address = \"192.0.2.10/24\"; punt = { arp = 5; }; "
		 "};" SERVICES,
			"port.punt.arp 1000 -> 5"},
		{"port = { device = \"eth1\"; address = \"192.0.2.10/24\"; punt = { nd = 5; }; "
		 "};" SERVICES,
			"port.punt.nd 1000 -> 5"},
		{"cores = { workers = [ 1 ]; };" PORT SERVICES, "cores.workers changed"},
		{"snat = { addresses = \"192.0.2.10\"; };" PORT SERVICES, "snat.addresses changed"},
		{"snat = { ports = [ \"2000-3000\" ]; };" PORT SERVICES, "snat.ports changed"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct conf_error error;
		assert_null(diff_of(PORT SERVICES, cases[i][0], &error));
		assert_non_null(strstr(error.text, cases[i][1]));
		assert_non_null(strstr(error.text, "systemctl restart weir"));
	}
}

/* What a key has of its own must be comparable, or a reload would not see its change. */
static void check_keys(const struct conf_key *keys)
{
	for (const struct conf_key *key = keys; key->name != NULL; key++) {
		if (key->type == CONF_OWN && key->same == NULL &&
			strcmp(key->name, "services") != 0 && strcmp(key->name, "backends") != 0 &&
			!(strcmp(key->name, "address") == 0 && key->keys == NULL &&
				strstr(key->doc, "connections are sent to") != NULL))
			fail_msg("%s can't be compared", key->name);
		if (key->keys != NULL)
			check_keys(key->keys);
	}
}

static void every_key_can_be_compared(void **state)
{
	check_keys(conf_root_keys);
}

static void many_changes_are_bounded(void **state)
{
	static char from[200000], to[200000];
	char *at = from + sprintf(from, PORT "services = {"), *other;

	for (unsigned s = 0; s < 200; s++)
		at += sprintf(at, " s%u = { listen = \":%u\"; " BACKENDS " };", s, 1000 + s);
	sprintf(at, " };");
	other = to + sprintf(to, PORT "services = {");
	for (unsigned s = 0; s < 200; s++)
		other += sprintf(other,
			" s%u = { listen = \":%u\"; scheduler = \"round_robin\"; " BACKENDS " };",
			s, 1000 + s);
	sprintf(other, " };");
	struct conf_error error;
	struct conf_diff *diff = diff_of(from, to, &error);
	assert_non_null(diff);
	assert_int_equal(diff->nb_lines, 101);
	assert_string_equal(diff->lines[100], "and more");
	conf_diff_destroy(diff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_files_have_no_difference),
		cmocka_unit_test(backends_come_go_and_change),
		cmocka_unit_test(keys_are_named_by_their_path),
		cmocka_unit_test(idle_times_of_a_service_are_compared),
		cmocka_unit_test(scheduling_and_lists_of_clients_are_compared),
		cmocka_unit_test(what_a_connect_may_cost_is_compared),
		cmocka_unit_test(services_come_and_go),
		cmocka_unit_test(only_changed_services_are_marked),
		cmocka_unit_test(another_order_is_a_change_without_a_word),
		cmocka_unit_test(what_needs_a_restart_is_refused),
		cmocka_unit_test(every_key_can_be_compared),
		cmocka_unit_test(many_changes_are_bounded),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
