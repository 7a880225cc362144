/* SPDX-License-Identifier: BSD-3-Clause */
/* Backends judged by the clients' own connects, on a virtual clock: workers and probes are the
 * test's. */
#include "app_test.h"

#include <event2/event.h>

#include "control.h"
#include "passive.h"
#include "pipeline.h"
#include "stats_connect.h"

#define LOOK_MS 100
#define RETRY_MS 1000
#define WINDOW_MS 2000
#define TWO "\"10.0.0.1:80\", \"10.0.0.2:80\""
#define WEB(more)                                                                                  \
	FILE_OF("web = { listen = \":80\"; health = { type = \"none\"; }; " more                   \
		" backends = ( " TWO " ); };\n")
#define PASSIVE "passive = { fails = 3; window_ms = 2000; retry_ms = 1000; };"

/* --- what stands in for the control core --- */

struct control {
	struct registry registry;
	struct event_base *events;
	struct passive *passive;
	struct pipeline_fails fails[2];
	const struct pipeline_fails *workers[2];
	struct stats_connect connects[8]; // by id
	uint64_t now_ms;
	unsigned nb_changed;
	unsigned nb_kept;
	bool is_locked;
};

// The linker puts these in place of the control core's (--wrap).
struct backends *__wrap_control_registry(struct control *control);
void __wrap_control_lock(struct control *control);
void __wrap_control_unlock(struct control *control);
void __wrap_control_service_changed(struct control *control, struct control_service *service);
void __wrap_control_keep(struct control *control, const struct control_backend *backend);
const struct health_status *__wrap_health_target_status(const struct health_target *target);

struct backends *__wrap_control_registry(struct control *control)
{
	return &control->registry.backends;
}

void __wrap_control_lock(struct control *control)
{
	assert_false(control->is_locked);
	control->is_locked = true;
}

void __wrap_control_unlock(struct control *control)
{
	assert_true(control->is_locked);
	control->is_locked = false;
}

void __wrap_control_service_changed(struct control *control, struct control_service *service)
{
	assert_true(control->is_locked); // telemetry sees both or neither
	control->nb_changed++;
}

void __wrap_control_keep(struct control *control, const struct control_backend *backend)
{
	assert_false(control->is_locked);
	control->nb_kept++;
}

// What is probed, without its probes: the test says how they went.
struct health_target {
	struct health_status status;
};

const struct health_status *__wrap_health_target_status(const struct health_target *target)
{
	return &target->status;
}

static void count_connects(void *context, uint32_t id, struct stats_connect *sum)
{
	*sum = ((struct control *)context)->connects[id];
}

/* A service with two backends that are up. */
static struct control *start(const char *text)
{
	struct control *control = aligned_alloc(64, sizeof(*control));

	memset(control, 0, sizeof(*control));
	control->now_ms = 1000000;
	control->workers[0] = &control->fails[0];
	control->events = event_base_new();
	control->passive = passive_create(control->events, control, control->workers, 2);
	assert_non_null(control->passive);
	registry_start(&control->registry, text);
	control->registry.backends.count_connects = count_connects;
	control->registry.backends.context = control;
	bring_up(&control->registry, find(&control->registry, "web", "10.0.0.1:80"));
	bring_up(&control->registry, find(&control->registry, "web", "10.0.0.2:80"));
	return control;
}

static void end(struct control *control)
{
	registry_end(&control->registry);
	passive_destroy(control->passive);
	event_base_free(control->events);
	free(control);
}

static struct control_backend *first(struct control *control)
{
	return find(&control->registry, "web", "10.0.0.1:80");
}

static struct control_backend *second(struct control *control)
{
	return find(&control->registry, "web", "10.0.0.2:80");
}

/* As a worker counts and names it. */
static void count_fails(struct control *control, unsigned worker,
	const struct control_backend *backend, unsigned refused, unsigned timed_out)
{
	struct stats_connect *counted = &control->connects[backend->id];
	struct pipeline_fails *fails = &control->fails[worker];

	counted->refused += refused;
	counted->timed_out += timed_out;
	counted->fails += refused + timed_out;
	counted->in_row += refused + timed_out;
	for (unsigned i = 0; i < refused + timed_out; i++)
		fails->ids[fails->count++ % PIPELINE_FAILS] = backend->id;
}

static void count_answers(
	struct control *control, const struct control_backend *backend, unsigned answers)
{
	struct stats_connect *counted = &control->connects[backend->id];

	counted->times[0] += answers;
	counted->in_row = answers != 0 ? 0 : counted->in_row;
}

static void look(struct control *control)
{
	passive_look(control->passive, control->now_ms);
}

/* Time goes by, with the looks in it. */
static void go_by(struct control *control, unsigned ms)
{
	for (uint64_t end_ms = control->now_ms + ms; control->now_ms < end_ms; look(control))
		control->now_ms += LOOK_MS;
}

static void assert_out_for(struct control *control, struct control_backend *backend, unsigned ms)
{
	count_fails(control, 0, backend, 3, 0);
	look(control);
	assert_true(backend->passive.is_out);
	go_by(control, ms - LOOK_MS);
	assert_true(backend->passive.is_out);
	go_by(control, LOOK_MS);
	assert_false(backend->passive.is_out);
}

/* --- out --- */

static void so_many_within_the_window_take_it_out(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	count_fails(control, 0, backend, 1, 0);
	go_by(control, WINDOW_MS / 2);
	count_fails(control, 0, backend, 0, 1);
	look(control);
	assert_false(backend->passive.is_out);
	assert_true(control_backend_usable(backend));
	count_fails(control, 0, backend, 0, 1);
	look(control);
	assert_true(backend->passive.is_out);
	assert_false(control_backend_usable(backend));
	assert_false(control_backend_candidate(backend));
	assert_true(control_backend_usable(second(control)));
	assert_int_equal(control->nb_changed, 1);
	end(control);
}

static void the_reason_is_its_own(void **state)
{
	static const struct {
		unsigned refused, timed_out;
		const char *reason;
	} cases[] = {
		{3, 0, "passive: 3 connects refused"},
		{0, 4, "passive: 4 connects unanswered"},
		{2, 3, "passive: 5 connects refused or unanswered"},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct control *control = start(WEB(PASSIVE));
		struct control_backend *backend = first(control);
		count_fails(control, 0, backend, cases[i].refused, cases[i].timed_out);
		look(control);
		const struct health_status *told = control_backend_health(backend);
		assert_int_equal(told->state, HEALTH_DOWN);
		assert_string_equal(told->reason, cases[i].reason);
		assert_int_equal(told->since_ms, control->now_ms);
		end(control);
	}
}

static void what_is_older_than_the_window_counts_for_nothing(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	for (unsigned i = 0; i < 20; i++) { // two in any window, for ever
		count_fails(control, 0, backend, 1, 0);
		go_by(control, WINDOW_MS / 2 + WINDOW_MS / PASSIVE_SLOTS);
		assert_false(backend->passive.is_out);
	}
	count_fails(control, 0, backend, 2, 0);
	go_by(control, 100 * WINDOW_MS);
	count_fails(control, 0, backend, 2, 0);
	look(control);
	assert_false(backend->passive.is_out);
	end(control);
}

static void all_workers_count(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	count_fails(control, 0, backend, 2, 0);
	look(control);
	control->workers[1] = &control->fails[1]; // one that starts later
	count_fails(control, 1, backend, 1, 0);
	look(control);
	assert_true(backend->passive.is_out);
	end(control);
}

static void names_that_were_overwritten_and_ids_of_nobody_do_no_harm(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	count_fails(control, 0, backend, 1, 0);
	control->fails[0].count += 10 * PIPELINE_FAILS;
	memset(control->fails[0].ids, 0xff, sizeof(control->fails[0].ids));
	look(control);
	assert_false(backend->passive.is_out);
	count_fails(control, 0, backend, 2, 0); // the one before is counted with these
	look(control);
	assert_true(backend->passive.is_out);
	end(control);
}

static void never_the_last_one(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control), *last = second(control);

	count_fails(control, 0, backend, 3, 0);
	count_fails(control, 0, last, 100, 0);
	look(control);
	assert_int_equal(backend->passive.is_out + last->passive.is_out, 1);
	struct control_backend *stays = backend->passive.is_out ? last : backend;
	for (unsigned i = 0; i < 5; i++) {
		count_fails(control, 0, stays, 100, 0);
		look(control);
		assert_true(control_backend_usable(stays));
	}
	end(control);
}

static void one_that_has_no_connections_anyway_is_no_other(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	second(control)->temporary_state = CONF_STATE_DRAIN;
	count_fails(control, 0, backend, 100, 0);
	look(control);
	assert_false(backend->passive.is_out);
	second(control)->temporary_state = -1;
	count_fails(control, 0, backend, 1, 0);
	look(control);
	assert_true(backend->passive.is_out);
	end(control);
}

static void fails_of_0_is_off(void **state)
{
	struct control *control = start(WEB("passive = { fails = 0; };"));
	struct control_backend *backend = first(control);

	count_fails(control, 0, backend, 100, 100);
	look(control);
	assert_false(backend->passive.is_out);
	end(control);
}

/* --- and back --- */

static void each_time_in_a_row_is_twice_as_long_up_to_32_times(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	for (unsigned doublings = 0; doublings <= 5; doublings++)
		assert_out_for(control, backend, RETRY_MS << doublings);
	assert_out_for(control, backend, RETRY_MS << 5);
	assert_out_for(control, backend, RETRY_MS << 5);
	end(control);
}

static void one_that_did_well_as_long_starts_anew(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	for (unsigned doublings = 0; doublings < 4; doublings++)
		assert_out_for(control, backend, RETRY_MS << doublings);
	go_by(control, RETRY_MS << 4); // no longer than it would be out next
	assert_out_for(control, backend, RETRY_MS << 4);
	go_by(control, (RETRY_MS << 5) + LOOK_MS);
	assert_out_for(control, backend, RETRY_MS);
	assert_out_for(control, backend, RETRY_MS << 1);
	end(control);
}

static void what_failed_while_it_was_out_is_over(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	count_fails(control, 0, backend, 3, 0);
	look(control);
	go_by(control, RETRY_MS / 2);
	count_fails(
		control, 0, backend, 0, 50); // asked before, or of a table that a worker still has
	go_by(control, RETRY_MS / 2);
	assert_false(backend->passive.is_out);
	count_fails(control, 0, backend, 2, 0);
	go_by(control, LOOK_MS);
	assert_false(backend->passive.is_out);
	end(control);
}

static void a_probe_that_passes_brings_it_back(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);
	struct health_target target = {.status = {.state = HEALTH_UP, .probes = 7, .failures = 2}};

	backend->health_target = &target;
	count_fails(control, 0, backend, 3, 0);
	look(control);
	target.status.probes++; // fails, but not often enough for a verdict: no other try by time
	target.status.failures++;
	go_by(control, 10 * RETRY_MS);
	assert_true(backend->passive.is_out);
	target.status.probes++;
	look(control);
	assert_false(backend->passive.is_out);
	assert_true(control_backend_usable(backend));
	assert_int_equal(control->nb_changed, 2);
	backend->health_target = NULL;
	end(control);
}

static void probes_without_a_result_leave_it_to_time(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);
	struct health_target target = {.status = {.state = HEALTH_UP, .probes = 7}};

	backend->health_target = &target;
	assert_out_for(control, backend, RETRY_MS);
	backend->health_target = NULL;
	end(control);
}

static void a_verdict_by_probes_ends_it(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	count_fails(control, 0, backend, 3, 0);
	look(control);
	backend->health =
		(struct health_status){.state = HEALTH_DOWN, .reason = "connect: refused"};
	assert_string_equal(control_backend_health(backend)->reason, "connect: refused");
	passive_end(control->passive, backend, control->now_ms);
	assert_false(backend->passive.is_out);
	backend->health.state = HEALTH_UP;
	assert_true(control_backend_usable(backend));
	// What was in the window is forgotten with it, out or not.
	count_fails(control, 0, backend, 2, 0);
	look(control);
	passive_end(control->passive, backend, control->now_ms);
	count_fails(control, 0, backend, 2, 0);
	look(control);
	assert_false(backend->passive.is_out);
	end(control);
}

static void it_is_back_when_no_other_is_left(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control), *other = second(control);

	count_fails(control, 0, backend, 3, 0);
	look(control);
	passive_spare(control->passive, backend->service, control->now_ms);
	assert_true(backend->passive.is_out); // there is one
	other->health.state = HEALTH_DOWN;
	passive_spare(control->passive, backend->service, control->now_ms);
	assert_false(backend->passive.is_out);
	assert_true(control_backend_usable(backend));
	end(control);
}

/* E36: as the next process begins, the workers count anew, its totals go on. */
static struct control *start_again(struct control *control, const char *text)
{
	struct passive_verdict verdict = first(control)->passive.verdict;
	struct stats_connect connects[8];
	uint64_t now_ms = control->now_ms;

	memcpy(connects, control->connects, sizeof(connects));
	end(control);
	control = start(text);
	control->now_ms = now_ms;
	for (unsigned id = 0; id < 2; id++) {
		struct control_backend *backend = control->registry.backends.by_id[id];
		stats_connect_subtract(&backend->connects_before, &connects[id]);
		backend->connects_before.fails = 0;
	}
	passive_resume(control->passive, first(control), &verdict);
	passive_resume(control->passive, second(control), NULL);
	return control;
}

static void another_process_goes_on_with_it(void **state)
{
	struct control *control = start(WEB(PASSIVE));

	count_fails(control, 0, first(control), 3, 1);
	look(control);
	assert_int_equal(control->nb_kept, 1);
	uint64_t since_ms = first(control)->passive.status.since_ms;
	go_by(control, 300);
	control = start_again(control, WEB(PASSIVE));
	assert_false(control_backend_usable(first(control)));
	assert_true(control_backend_usable(second(control)));
	assert_string_equal(control_backend_health(first(control))->reason,
		"passive: 4 connects refused or unanswered");
	assert_int_equal(control_backend_health(first(control))->since_ms, since_ms);
	go_by(control, RETRY_MS - 300 - LOOK_MS);
	assert_true(first(control)->passive.is_out);
	go_by(control, LOOK_MS);
	assert_false(first(control)->passive.is_out);
	assert_int_equal(control->nb_kept, 1);
	// In a row, twice as long; and nothing of before counts in the reason.
	assert_out_for(control, first(control), 2 * RETRY_MS);
	end(control);
}

static void what_a_former_process_counted_is_no_answer_and_no_fail(void **state)
{
	struct control *control = start(WEB(PASSIVE));

	count_answers(control, first(control), 1000);
	count_answers(control, second(control), 1000);
	go_by(control, 2 * WINDOW_MS);
	control = start_again(control, WEB(PASSIVE));
	bring_up(&control->registry, first(control));
	if (first(control)->passive.is_out)
		passive_end(control->passive, first(control), control->now_ms);
	look(control);
	assert_out_for(control, first(control), RETRY_MS);
	assert_string_equal(first(control)->passive.status.reason, "passive: 3 connects refused");
	end(control);
}

/* At a start nobody has a way to its backends yet; it waits until it is known. */
static void another_process_waits_for_the_others(void **state)
{
	struct control *control = start(WEB(PASSIVE));

	count_fails(control, 0, first(control), 3, 0);
	look(control);
	control = start_again(control, WEB(PASSIVE));
	second(control)->hop.state = ROUTE_PENDING;
	passive_spare(control->passive, first(control)->service, control->now_ms);
	look(control);
	assert_true(first(control)->passive.is_out);
	second(control)->hop.state = ROUTE_UNREACHABLE;
	look(control);
	assert_false(first(control)->passive.is_out);
	end(control);
}

static void a_verdict_that_a_probe_overtook_is_none(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct passive_verdict verdict = {.since_ms = 900000, .retry_at_ms = 1100000};

	first(control)->health.state = HEALTH_DOWN;
	passive_resume(control->passive, first(control), &verdict);
	assert_false(first(control)->passive.is_out);
	passive_resume(NULL, first(control), &verdict);
	end(control);
}

static void a_reload_that_turns_it_off_brings_it_back(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	count_fails(control, 0, backend, 3, 0);
	look(control);
	apply(&control->registry, WEB("passive = { fails = 0; };"));
	assert_true(backend->passive.is_out);
	look(control);
	assert_false(backend->passive.is_out);
	end(control);
}

static void one_that_leaves_the_file_is_not_judged(void **state)
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	count_fails(control, 0, backend, 3, 0);
	look(control);
	apply(&control->registry, FILE_OF(SERVICE("web", ":80", "\"10.0.0.2:80\"")));
	look(control);
	assert_false(backend->passive.is_out);
	count_fails(control, 0, backend, 100, 0); // its last connects
	look(control);
	assert_false(backend->passive.is_out);
	assert_int_equal(control->nb_changed, 1);
	end(control);
}

/* --- a share of the connects --- */

enum { A_LOOK = 250 }; // connects to a backend, of 10,000 a second on four

/* Half a percent of the SYNs are lost at random, and blamed on both. */
static void losses_take_nobody_out(void **state) // W2
{
	struct control *control = start(WEB(PASSIVE));
	uint64_t random = 1;

	for (unsigned ms = 0; ms < 60000; ms += LOOK_MS) {
		for (unsigned b = 0; b < 2; b++) {
			struct control_backend *backend = b == 0 ? first(control) : second(control);
			for (unsigned i = 0; i < A_LOOK; i++) {
				random = random * 6364136223846793005 + 1442695040888963407;
				if (random >> 33 < (1ull << 31) / 200)
					count_fails(control, 0, backend, 0, 1);
				else
					count_answers(control, backend, 1);
			}
		}
		go_by(control, LOOK_MS);
		assert_false(first(control)->passive.is_out || second(control)->passive.is_out);
	}
	assert_in_range(control->connects[first(control)->id].fails, 600, 900);
	assert_int_equal(control->nb_changed, 0);
	end(control);
}

/* From one look to the next all of them fail: out when they are half of the window's. */
static void one_that_dies_goes_within_the_window(void **state) // W2
{
	for (unsigned refuses = 0; refuses < 2; refuses++) {
		struct control *control = start(WEB(PASSIVE));
		struct control_backend *backend = first(control);
		unsigned ms = 0;

		for (unsigned i = 0; i < 100; i++) {
			count_answers(control, backend, A_LOOK);
			if (i % 10 == 9) // it is looked at
				count_fails(control, 0, backend, 0, 1);
			go_by(control, LOOK_MS);
		}
		for (; !backend->passive.is_out; ms += LOOK_MS) {
			assert_in_range(ms, 0, WINDOW_MS);
			count_fails(
				control, 0, backend, refuses ? A_LOOK : 0, refuses ? 0 : A_LOOK);
			go_by(control, LOOK_MS);
		}
		assert_in_range(ms, WINDOW_MS / 4, WINDOW_MS);
		end(control);
	}
}

/* Nor does one when it had hardly any connects for long, until just before. */
static void a_gap_shorter_than_half_the_window_takes_nobody_out(void **state) // W2
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	go_by(control, 3600 * 1000);
	for (unsigned i = 0; i < 300; i++) {
		if (i % 30 >= 22)
			count_fails(control, 0, backend, 0, A_LOOK);
		else
			count_answers(control, backend, A_LOOK);
		go_by(control, LOOK_MS);
		assert_false(backend->passive.is_out);
	}
	end(control);
}

static void one_that_answers_every_other_stays(void **state) // W2
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);

	for (unsigned i = 0; i < 600; i++) {
		count_fails(control, 0, backend, 1, 0);
		count_answers(control, backend, 1);
		count_fails(control, 0, backend, 1, 0);
		go_by(control, LOOK_MS);
		assert_false(backend->passive.is_out);
	}
	end(control);
}

/* Its probes pass every second, and all its connects fail: it is back ever later. */
static void one_that_flaps_is_back_ever_later(void **state) // W2
{
	struct control *control = start(WEB(PASSIVE));
	struct control_backend *backend = first(control);
	struct health_target target = {.status = {.state = HEALTH_UP, .probes = 7}};
	unsigned nb_out = 0;

	backend->health_target = &target;
	for (unsigned ms = 0; ms < 600000; ms += LOOK_MS) {
		bool was_out = backend->passive.is_out;
		target.status.probes += ms % 1000 == 0;
		if (!was_out)
			count_fails(control, 0, backend, 5, 0);
		go_by(control, LOOK_MS);
		nb_out += !was_out && backend->passive.is_out;
	}
	// 0, 2, 4, 8, 16, 32, then 64 s each; twice as many publications.
	assert_in_range(nb_out, 10, 16);
	assert_in_range(control->nb_changed, 2 * nb_out - 1, 2 * nb_out);
	backend->health_target = NULL;
	end(control);
}

/* Two services have the same server: what one's clients meet is no other's. */
static void each_service_has_its_own(void **state) // W2
{
	struct control *control =
		start(FILE_OF("web = { listen = \":80\"; health = { type = \"none\"; }; " PASSIVE
			      " backends = ( " TWO " ); };\n"
			      "api = { listen = \":81\"; health = { type = \"none\"; }; " PASSIVE
			      " backends = ( " TWO " ); };\n"));
	struct control_backend *web = first(control);
	struct control_backend *api = find(&control->registry, "api", "10.0.0.1:80");

	bring_up(&control->registry, api);
	bring_up(&control->registry, find(&control->registry, "api", "10.0.0.2:80"));
	for (unsigned i = 0; i < 30; i++) {
		count_fails(control, 0, web, 1, 0);
		count_answers(control, api, 10);
		go_by(control, LOOK_MS);
	}
	assert_true(web->passive.is_out);
	assert_false(api->passive.is_out);
	assert_true(control_backend_usable(api));
	end(control);
}

/* Whatever the clock says at first: the slots' numbers have 32 bits. */
static void the_window_is_the_same_at_any_time(void **state) // W17
{
	static const uint64_t starts_ms[] = {0, 1ull << 31, (1ull << 32) - 1000,
		(1ull << 31) * (WINDOW_MS / PASSIVE_SLOTS) - 1000,
		(1ull << 32) * (WINDOW_MS / PASSIVE_SLOTS) - 1000};

	for (unsigned i = 0; i < sizeof(starts_ms) / sizeof(starts_ms[0]); i++) {
		struct control *control = start(WEB(PASSIVE));
		struct control_backend *backend = first(control);
		control->now_ms = starts_ms[i];
		for (unsigned n = 0; n < 20; n++) { // two in any window
			count_fails(control, 0, backend, 1, 0);
			go_by(control, WINDOW_MS / 2 + WINDOW_MS / PASSIVE_SLOTS);
			assert_false(backend->passive.is_out);
		}
		count_fails(control, 0, backend, 2, 0);
		look(control);
		assert_true(backend->passive.is_out);
		end(control);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(so_many_within_the_window_take_it_out),
		cmocka_unit_test(the_reason_is_its_own),
		cmocka_unit_test(what_is_older_than_the_window_counts_for_nothing),
		cmocka_unit_test(all_workers_count),
		cmocka_unit_test(names_that_were_overwritten_and_ids_of_nobody_do_no_harm),
		cmocka_unit_test(never_the_last_one),
		cmocka_unit_test(one_that_has_no_connections_anyway_is_no_other),
		cmocka_unit_test(fails_of_0_is_off),
		cmocka_unit_test(each_time_in_a_row_is_twice_as_long_up_to_32_times),
		cmocka_unit_test(one_that_did_well_as_long_starts_anew),
		cmocka_unit_test(what_failed_while_it_was_out_is_over),
		cmocka_unit_test(a_probe_that_passes_brings_it_back),
		cmocka_unit_test(probes_without_a_result_leave_it_to_time),
		cmocka_unit_test(a_verdict_by_probes_ends_it),
		cmocka_unit_test(it_is_back_when_no_other_is_left),
		cmocka_unit_test(another_process_goes_on_with_it),
		cmocka_unit_test(what_a_former_process_counted_is_no_answer_and_no_fail),
		cmocka_unit_test(another_process_waits_for_the_others),
		cmocka_unit_test(a_verdict_that_a_probe_overtook_is_none),
		cmocka_unit_test(a_reload_that_turns_it_off_brings_it_back),
		cmocka_unit_test(one_that_leaves_the_file_is_not_judged),
		cmocka_unit_test(losses_take_nobody_out),
		cmocka_unit_test(one_that_dies_goes_within_the_window),
		cmocka_unit_test(a_gap_shorter_than_half_the_window_takes_nobody_out),
		cmocka_unit_test(one_that_answers_every_other_stays),
		cmocka_unit_test(one_that_flaps_is_back_ever_later),
		cmocka_unit_test(each_service_has_its_own),
		cmocka_unit_test(the_window_is_the_same_at_any_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
