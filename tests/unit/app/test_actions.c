/* SPDX-License-Identifier: BSD-3-Clause */
/* What is done to backends by hand, what is said of it, and what a reload takes back. */
#include "app_test.h"

#include "actions.h"
#include "control.h"
#include "hand.h"

#define ONE(name, address) "{ name = \"" name "\"; address = \"" address "\"; }"
#define WEB                                                                                        \
	SERVICE("web", ":80",                                                                      \
		ONE("con1", "10.0.0.1:80") ", " ONE("con2", "10.0.0.2:80") ", \"10.0.0.3:80\"")
#define API SERVICE("api", ":81", ONE("con1", "10.0.0.1:81"))

/* --- what stands in for the control core --- */

struct control {
	struct registry registry;
	unsigned nb_changed;
};

// The linker puts these in place of the control core's (--wrap).
struct backends *__wrap_control_registry(struct control *control);
void __wrap_control_lock(struct control *control);
void __wrap_control_unlock(struct control *control);
void __wrap_control_service_changed(struct control *control, struct control_service *service);
void __wrap_control_keep(struct control *control, const struct control_backend *backend);

struct backends *__wrap_control_registry(struct control *control)
{
	return &control->registry.backends;
}

void __wrap_control_lock(struct control *control)
{
}

void __wrap_control_unlock(struct control *control)
{
}

void __wrap_control_service_changed(struct control *control, struct control_service *service)
{
	control->nb_changed++;
}

void __wrap_control_keep(struct control *control, const struct control_backend *backend)
{
}

/* --- */

static const struct hand hand = {.pid = 4711, .uid = 0, .login = HAND_NO_LOGIN};

static int setup(void **state)
{
	static struct control control;

	registry_start(&control.registry, FILE_OF(WEB API));
	control.nb_changed = 0;
	*state = &control;
	return 0;
}

static int teardown(void **state)
{
	struct control *control = *state;

	registry_end(&control->registry);
	return 0;
}

/* A reload of that file, and the lines about what it takes back. */
static struct conf_diff *reload(struct control *control, const char *text)
{
	struct conf *conf = read_conf(text);
	struct conf_error error;
	struct conf_diff *none = conf_diff_create(conf, conf, "", &error);

	assert_int_equal(none->nb_lines, 0);
	apply(&control->registry, text);
	control->nb_changed = 0;
	actions_restore(control, none);
	conf_free(conf);
	return none;
}

static void a_refusal_names_what_there_is(void **state)
{
	struct control *control = *state;
	char words[ACTION_TEXT];

	assert_int_equal(action_drain(control, &hand, "web", "con9", words), -ENOENT);
	assert_string_equal(
		words, "the service has no backend \"con9\"; it has con1, con2, 10.0.0.3:80");
	assert_int_equal(action_weight(control, &hand, "wbe", "con1", 3, words), -ENOENT);
	assert_string_equal(words, "there is no service \"wbe\"; there is web, api");
	assert_int_equal(control->nb_changed, 0);
}

static void a_long_list_ends_in_a_number(void **state)
{
	struct control *control = *state;
	char text[8192] = PORT "services = { web = { listen = \":80\"; backends = (",
	     words[ACTION_TEXT];

	for (int b = 0; b < 100; b++)
		sprintf(text + strlen(text), "%s\"10.0.0.%d:8080\"", b == 0 ? "" : ",", 100 + b);
	apply(&control->registry, strcat(text, "); }; };"));
	assert_int_equal(action_activate(control, &hand, "web", "con1", words), -ENOENT);
	unsigned nb_named = 0;
	for (const char *at = words; (at = strstr(at, "10.0.0.")) != NULL; at++)
		nb_named++;
	char end[32];
	sprintf(end, ":8080, and %u more", 100 - nb_named);
	assert_in_range(nb_named, 15, 50);
	assert_string_equal(words + strlen(words) - strlen(end), end);
}

static void a_reload_says_what_it_takes_back(void **state)
{
	struct control *control = *state;
	char words[ACTION_TEXT];

	assert_int_equal(action_drain(control, &hand, "web", "con1", words), 0);
	assert_string_equal(words, "service web: con1: active -> drain (until the next reload)");
	assert_int_equal(action_drain(control, &hand, "web", "10.0.0.3:80", words), 0);
	assert_int_equal(action_weight(control, &hand, "web", "10.0.0.3:80", 7, words), 0);
	assert_string_equal(
		words, "service web: 10.0.0.3:80: weight 1 -> 7 (until the next reload)");
	assert_int_equal(action_weight(control, &hand, "api", "con1", 0, words), 0);
	// Taken back by hand already.
	assert_int_equal(action_drain(control, &hand, "web", "con2", words), 0);
	assert_int_equal(action_activate(control, &hand, "web", "con2", words), 0);
	assert_string_equal(words, "service web: con2: drain -> active (as in the file)");

	struct conf_diff *diff = reload(control, FILE_OF(WEB API));
	assert_int_equal(diff->nb_lines, 3);
	assert_string_equal(diff->lines[0], "service web: con1: drain -> active (as in the file)");
	assert_string_equal(diff->lines[1],
		"service web: 10.0.0.3:80: drain -> active, weight 7 -> 1 (as in the file)");
	assert_string_equal(diff->lines[2], "service api: con1: weight 0 -> 1 (as in the file)");
	assert_int_equal(control->nb_changed, 3);
	conf_diff_destroy(diff);

	diff = reload(control, FILE_OF(WEB API));
	assert_int_equal(diff->nb_lines, 0);
	conf_diff_destroy(diff);
}

/* What the file says now as it was set by hand before, or doesn't have any more, isn't changed by
 * taking it back. */
static void a_reload_that_agrees_says_nothing(void **state)
{
	struct control *control = *state;
	char words[ACTION_TEXT];

	assert_int_equal(action_drain(control, &hand, "web", "con1", words), 0);
	assert_int_equal(action_weight(control, &hand, "api", "con1", 0, words), 0);
	struct conf_diff *diff = reload(control,
		FILE_OF(SERVICE("web", ":80",
			"{ name = \"con1\"; address = \"10.0.0.1:80\"; state = \"drain\"; }")));
	assert_int_equal(diff->nb_lines, 0);
	conf_diff_destroy(diff);
	assert_int_equal(find(&control->registry, "web", "con1")->temporary_state, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_refusal_names_what_there_is, setup, teardown),
		cmocka_unit_test_setup_teardown(a_long_list_ends_in_a_number, setup, teardown),
		cmocka_unit_test_setup_teardown(a_reload_says_what_it_takes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_reload_that_agrees_says_nothing, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
