/* SPDX-License-Identifier: BSD-3-Clause */
/* When the connections of a backend that is down are reset, on a virtual clock: probes, neighbours
 * and our own side are the test's (E2). */
#include "app_test.h"

#include <event2/event.h>

#include "control.h"
#include "on_down.h"

#define LOOK_MS 100
#define VICINITY_MS 200
#define INTERVAL_MS 500
#define TIMEOUT_MS 300
#define CYCLE_MS (INTERVAL_MS + TIMEOUT_MS)
#define FALL 3
#define RESET_MS 10000
#define HOLD_MS 60000
#define NEVER UINT64_MAX
#define NB_MAX 8

#define WEB(backends, more)                                                                        \
	PORT "services = { web = { listen = \":80\"; " more " backends = ( " backends " ); }; "    \
	     "};\n"
#define ONE "\"192.0.2.21:80\""
#define TWO ONE ", \"192.0.2.22:80\""
#define SAME_HOST ONE ", \"192.0.2.21:81\", \"192.0.2.21:82\", \"192.0.2.21:83\""
#define FOUR ONE ", \"192.0.2.21:81\", \"192.0.2.22:80\", \"192.0.2.22:81\""

/* What is probed, without its probes: each has a result every INTERVAL_MS, at its own time. */
struct health_target {
	struct health_status status;
	uint64_t probed_ms; // the next result
	unsigned failures;  // in a row
	bool is_silent;     // and doesn't answer
	bool refuses;       // or does, but no more than that
};

/* --- what stands in for the control core --- */

struct control {
	struct registry registry;
	struct event_base *events;
	struct on_down *on_down;
	struct health_target targets[NB_MAX];
	struct control_backend *backends[NB_MAX];
	unsigned count;
	uint64_t now_ms;
	uint64_t reset_ms[NB_MAX]; // when its connections were reset first; NEVER
	bool in_trouble;
	bool is_quiet; // no frame comes
	uint64_t received;
};

struct backends *__wrap_control_registry(struct control *control);
void __wrap_control_lock(struct control *control);
void __wrap_control_unlock(struct control *control);
void __wrap_control_keep(struct control *control, const struct control_backend *backend);
void __wrap_control_publish(struct control *control);
void __wrap_control_service_changed(struct control *control, struct control_service *service);
bool __wrap_control_in_trouble(struct control *control, uint64_t since_ms);
uint64_t __wrap_control_received(const struct control *control);
const struct health_status *__wrap_health_target_status(const struct health_target *target);

struct backends *__wrap_control_registry(struct control *control)
{
	return &control->registry.backends;
}

void __wrap_control_lock(struct control *control)
{
}

void __wrap_control_keep(struct control *control, const struct control_backend *backend)
{
}

void __wrap_control_unlock(struct control *control)
{
}

void __wrap_control_publish(struct control *control)
{
}

void __wrap_control_service_changed(struct control *control, struct control_service *service)
{
}

bool __wrap_control_in_trouble(struct control *control, uint64_t since_ms)
{
	return control->in_trouble;
}

uint64_t __wrap_control_received(const struct control *control)
{
	return control->received;
}

const struct health_status *__wrap_health_target_status(const struct health_target *target)
{
	return &target->status;
}

static struct control *start(const char *text)
{
	struct control *control = aligned_alloc(64, sizeof(*control));

	memset(control, 0, sizeof(*control));
	control->now_ms = 1000000;
	control->events = event_base_new();
	registry_start(&control->registry, text);
	control->on_down = on_down_create(control->events, control);
	struct control_service *web = backends_find_service(&control->registry.backends, "web");
	control->count = web->nb_backends;
	for (unsigned i = 0; i < control->count; i++) {
		struct control_backend *backend = web->backends[i];
		struct health_target *target = &control->targets[i];
		control->backends[i] = backend;
		control->reset_ms[i] = NEVER;
		backend->health_target = target;
		backend->hop.gateway = backend->conf.endpoint.addr;
		bring_up(&control->registry, backend);
		target->status = (struct health_status){.state = HEALTH_UP,
			.connects = true,
			.probes = 1,
			.answered_ms = control->now_ms};
		// Evenly spread, as probe_schedule.h does it.
		target->probed_ms = control->now_ms + INTERVAL_MS * (i + 1) / control->count;
	}
	return control;
}

static void end(struct control *control)
{
	for (unsigned i = 0; i < control->count; i++)
		control->backends[i]->health_target = NULL;
	on_down_destroy(control->on_down);
	registry_end(&control->registry);
	event_base_free(control->events);
	free(control);
}

static void probe(struct control *control, unsigned i)
{
	struct health_target *target = &control->targets[i];
	struct health_status *status = &target->status;
	bool passed = !target->is_silent && !target->refuses;

	target->probed_ms += INTERVAL_MS;
	if (control->in_trouble)
		return;
	status->probes++;
	status->connects = passed;
	if (!target->is_silent) {
		status->answered_ms = control->now_ms;
		status->silent_ms = 0;
	} else if (status->silent_ms == 0) {
		status->silent_ms = control->now_ms;
	}
	target->failures = passed ? 0 : target->failures + 1;
	enum health_state state = passed ? HEALTH_UP : HEALTH_DOWN;
	if (state == status->state || (!passed && target->failures < FALL))
		return;
	status->state = control->backends[i]->health.state = state;
	on_down_update(control->on_down, control->backends[i], control->now_ms);
}

static void go_by(struct control *control, unsigned ms)
{
	for (uint64_t end_ms = control->now_ms + ms; control->now_ms < end_ms;) {
		control->now_ms++;
		control->received += !control->is_quiet;
		for (unsigned i = 0; i < control->count; i++)
			if (control->now_ms == control->targets[i].probed_ms)
				probe(control, i);
		if (control->now_ms % LOOK_MS == 0)
			on_down_look(control->on_down, control->now_ms);
		for (unsigned i = 0; i < control->count; i++)
			if (control->backends[i]->reset && control->reset_ms[i] == NEVER)
				control->reset_ms[i] = control->now_ms;
	}
}

static void silence(struct control *control, unsigned first, unsigned count, bool is_silent)
{
	for (unsigned i = first; i < first + count; i++)
		control->targets[i].is_silent = is_silent;
}

/* The neighbour of each, or of the gateway, answers or not. */
static void set_neighbours(struct control *control, unsigned first, unsigned count, bool is_there)
{
	for (unsigned i = first; i < first + count; i++) {
		control->backends[i]->hop.state = is_there ? ROUTE_RESOLVED : ROUTE_UNREACHABLE;
		on_down_update(control->on_down, control->backends[i], control->now_ms);
	}
}

static void put_behind(struct control *control, unsigned first, unsigned count, const char *gateway)
{
	for (unsigned i = first; i < first + count; i++)
		assert_int_equal(net_addr_parse(&control->backends[i]->hop.gateway, gateway), 0);
}

static unsigned nb_reset(const struct control *control)
{
	unsigned nb = 0;

	for (unsigned i = 0; i < control->count; i++)
		nb += control->reset_ms[i] != NEVER;
	return nb;
}

/* It was reset at the look after so long down. */
static void assert_reset_after(const struct control *control, unsigned i, unsigned ms)
{
	uint64_t due_ms = control->backends[i]->down_ms + ms;

	assert_int_equal(control->reset_ms[i], (due_ms + LOOK_MS - 1) / LOOK_MS * LOOK_MS);
}

/* --- what dies for good --- */

static void one_of_one(void **state)
{
	struct control *control = start(WEB(ONE, ""));

	silence(control, 0, 1, true);
	go_by(control, 30000);
	assert_reset_after(control, 0, RESET_MS);
	end(control);
}

static void one_of_two_and_two_of_four(void **state)
{
	static const char *const texts[] = {WEB(TWO, ""), WEB(FOUR, "")};

	for (unsigned i = 0; i < 2; i++) {
		struct control *control = start(texts[i]);
		unsigned dead = control->count / 2;
		silence(control, 0, dead, true);
		go_by(control, 30000);
		assert_int_equal(nb_reset(control), dead);
		for (unsigned b = 0; b < dead; b++)
			assert_reset_after(control, b, RESET_MS);
		end(control);
	}
}

/* Both on one host, or two hosts with one each: too few to blame the way there. */
static void all_of_few(void **state)
{
	static const char *const texts[] = {WEB(TWO, ""), WEB(SAME_HOST, "")};

	for (unsigned i = 0; i < 2; i++) {
		struct control *control = start(texts[i]);
		silence(control, 0, control->count, true);
		go_by(control, 30000);
		for (unsigned b = 0; b < control->count; b++)
			assert_reset_after(control, b, RESET_MS);
		end(control);
	}
}

static void one_after_the_other(void **state)
{
	struct control *control = start(WEB(FOUR, ""));

	for (unsigned i = 0; i < 4; i++) {
		silence(control, i, 1, true);
		go_by(control, CYCLE_MS + INTERVAL_MS);
	}
	go_by(control, 30000);
	for (unsigned i = 0; i < 4; i++)
		assert_reset_after(control, i, RESET_MS);
	end(control);
}

static void a_rack_whose_neighbour_lives(void **state)
{
	struct control *control = start(WEB(FOUR, ""));

	put_behind(control, 0, 4, "192.0.2.1");
	silence(control, 0, 2, true);
	go_by(control, 100000);
	assert_int_equal(nb_reset(control), 2);
	assert_reset_after(control, 1, RESET_MS);
	end(control);
}

/* Nobody accepts any more, but there is somebody who says so. */
static void a_refusal_is_an_answer(void **state)
{
	struct control *control = start(WEB(FOUR, ""));

	silence(control, 0, 3, true);
	control->targets[3].refuses = true;
	go_by(control, 30000);
	assert_int_equal(nb_reset(control), 4);
	assert_reset_after(control, 0, RESET_MS);
	end(control);
}

/* With connections left, by itself or with its service, whether it died before or after (E34). */
static void one_that_left_the_file(void **state)
{
	static const char *const files[] = {
		WEB("\"192.0.2.22:80\"", ""), FILE_OF(SERVICE("other", ":81", TWO))};

	for (unsigned i = 0; i < 4; i++) {
		struct control *control = start(WEB(TWO, ""));
		bool dies_first = i % 2;
		silence(control, 0, dies_first, true);
		go_by(control, 5000 + 1);
		apply(&control->registry, files[i / 2]);
		assert_int_equal(control->backends[0]->life, BACKEND_REMOVED);
		silence(control, 0, 1, true);
		go_by(control, 30000);
		assert_int_equal(nb_reset(control), 1);
		assert_reset_after(control, 0, RESET_MS);
		// It is back: those that it gets now live.
		silence(control, 0, 1, false);
		go_by(control, 5000);
		assert_false(control->backends[0]->reset);
		end(control);
	}
}

/* --- what may be the way there --- */

static void all_at_once_are_held_for_so_long(void **state)
{
	struct control *control = start(WEB(FOUR, ""));

	silence(control, 0, 4, true);
	go_by(control, RESET_MS + HOLD_MS);
	assert_int_equal(nb_reset(control), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_true(on_down_holds(control->backends[i]));
	go_by(control, 5000);
	for (unsigned i = 0; i < 4; i++) {
		// Two looks: when it is due, and when it has been held for long enough.
		uint64_t due_ms = (control->backends[i]->down_ms + RESET_MS + LOOK_MS - 1) /
			LOOK_MS * LOOK_MS;
		assert_int_equal(control->reset_ms[i], due_ms + HOLD_MS);
		assert_false(on_down_holds(control->backends[i]));
	}
	end(control);
}

static void all_come_back_and_none_was_reset(void **state)
{
	struct control *control = start(WEB(FOUR, ""));

	silence(control, 0, 4, true);
	go_by(control, 15000);
	silence(control, 0, 4, false);
	go_by(control, 200000);
	assert_int_equal(nb_reset(control), 0);
	assert_false(on_down_holds(control->backends[0]));
	end(control);
}

static void those_that_stay_down_have_as_long_again(void **state)
{
	struct control *control = start(WEB(FOUR, ""));

	silence(control, 0, 4, true);
	go_by(control, 15000);
	silence(control, 0, 1, false);
	go_by(control, INTERVAL_MS); // by now it has answered
	uint64_t answered_ms = control->targets[0].status.answered_ms;
	go_by(control, 30000);
	assert_int_equal(nb_reset(control), 3);
	for (unsigned i = 1; i < 4; i++)
		// Seen by the look that finds what it knows of the vicinity too old.
		assert_in_range(control->reset_ms[i], answered_ms + RESET_MS,
			answered_ms + RESET_MS + 4 * LOOK_MS);
	end(control);
}

/* Reset at once, which is before the others can have failed. */
static void at_once_waits_for_a_turn_of_all_probes(void **state)
{
	struct control *control = start(WEB(FOUR, "on_down_reset_ms = 0;"));

	silence(control, 0, 4, true);
	go_by(control, 20000);
	assert_int_equal(nb_reset(control), 0);
	silence(control, 0, 4, false);
	go_by(control, 20000);
	assert_int_equal(nb_reset(control), 0);
	silence(control, 3, 1, true);
	go_by(control, 5000);
	assert_int_equal(nb_reset(control), 1);
	assert_in_range(control->reset_ms[3], control->backends[3]->down_ms,
		control->backends[3]->down_ms + VICINITY_MS + LOOK_MS);
	end(control);
}

static void a_gateway_that_is_gone_takes_few_with_it(void **state)
{
	struct control *control = start(WEB(FOUR, ""));

	put_behind(control, 0, 2, "192.0.2.1");
	put_behind(control, 2, 2, "192.0.2.2");
	silence(control, 0, 2, true);
	set_neighbours(control, 0, 2, false);
	go_by(control, 15000);
	assert_int_equal(nb_reset(control), 0);
	go_by(control, HOLD_MS);
	assert_int_equal(nb_reset(control), 2);
	end(control);
}

static void a_link_from_which_nothing_comes(void **state)
{
	for (unsigned quiet = 0; quiet < 2; quiet++) {
		struct control *control = start(WEB(ONE, ""));
		control->is_quiet = quiet != 0;
		silence(control, 0, 1, true);
		set_neighbours(control, 0, 1, false);
		go_by(control, 15000);
		assert_int_equal(nb_reset(control), 1 - quiet);
		go_by(control, HOLD_MS);
		assert_int_equal(nb_reset(control), 1);
		end(control);
	}
}

static void a_backend_that_was_down_before_is_none_of_them(void **state)
{
	struct control *control = start(WEB(FOUR, ""));

	silence(control, 0, 1, true);
	go_by(control, 5000);
	silence(control, 1, 3, true);
	go_by(control, 20000);
	assert_int_equal(nb_reset(control), 1);
	assert_reset_after(control, 0, RESET_MS);
	end(control);
}

static void what_is_said_in_the_file_is_done(void **state)
{
	static const char *const texts[] = {
		WEB(FOUR, "on_down = \"reset\";"), WEB(FOUR, "hold_resets_s = 0;")};

	for (unsigned i = 0; i < 2; i++) {
		struct control *control = start(texts[i]);
		silence(control, 0, 4, true);
		go_by(control, 20000);
		assert_int_equal(nb_reset(control), 4);
		assert_reset_after(control, 2, RESET_MS);
		end(control);
	}
}

/* --- our own trouble --- */

static void in_trouble_no_time_passes(void **state)
{
	struct control *control = start(WEB(TWO, ""));

	silence(control, 0, 1, true);
	go_by(control, 5000);
	uint64_t down_ms = control->backends[0]->down_ms, before_ms = control->now_ms;
	control->in_trouble = true;
	set_neighbours(control, 0, 2, false);
	go_by(control, 100000);
	assert_int_equal(nb_reset(control), 0);
	control->in_trouble = false;
	set_neighbours(control, 0, 2, true);
	uint64_t stood_ms = control->now_ms - before_ms;
	go_by(control, 20000);
	assert_int_equal(nb_reset(control), 1);
	assert_in_range(control->reset_ms[0], down_ms + stood_ms + RESET_MS - LOOK_MS,
		down_ms + stood_ms + RESET_MS + LOOK_MS);
	end(control);
}

/* No route to it any more: that isn't its fault. */
static void without_a_route_it_is_not_down(void **state)
{
	struct control *control = start(WEB(TWO, ""));

	control->backends[0]->hop.is_own = true;
	set_neighbours(control, 0, 1, false);
	go_by(control, 100000);
	assert_int_equal(nb_reset(control), 0);
	control->backends[0]->hop.is_own = false;
	set_neighbours(control, 0, 1, false);
	go_by(control, 20000);
	assert_reset_after(control, 0, RESET_MS);
	end(control);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_of_one),
		cmocka_unit_test(one_of_two_and_two_of_four),
		cmocka_unit_test(all_of_few),
		cmocka_unit_test(one_after_the_other),
		cmocka_unit_test(a_rack_whose_neighbour_lives),
		cmocka_unit_test(a_refusal_is_an_answer),
		cmocka_unit_test(one_that_left_the_file),
		cmocka_unit_test(all_at_once_are_held_for_so_long),
		cmocka_unit_test(all_come_back_and_none_was_reset),
		cmocka_unit_test(those_that_stay_down_have_as_long_again),
		cmocka_unit_test(at_once_waits_for_a_turn_of_all_probes),
		cmocka_unit_test(a_gateway_that_is_gone_takes_few_with_it),
		cmocka_unit_test(a_link_from_which_nothing_comes),
		cmocka_unit_test(a_backend_that_was_down_before_is_none_of_them),
		cmocka_unit_test(what_is_said_in_the_file_is_done),
		cmocka_unit_test(in_trouble_no_time_passes),
		cmocka_unit_test(without_a_route_it_is_not_down),
	};
	return cmocka_run_group_tests_name("on_down", tests, NULL, NULL);
}
