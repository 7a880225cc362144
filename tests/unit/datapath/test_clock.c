/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * W17: what the data path remembers of the clock are its low bits here and there, and 0 is a time
 * like any other. Nothing may depend on when the machine was started: not at 0, not when the
 * milliseconds leave 31 bits (24.9 days) or 32 (49.7 days), nor when the seconds leave 16 (18
 * hours).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "rig.h"

enum { TIMEOUT_MS = 250, BACKENDS = 4 };

static const uint64_t starts_ms[] = {
	0,
	1,
	65536 * 1000ull - 3000,
	(1ull << 31) - 1000,
	(1ull << 31) - TIMEOUT_MS / 2,
	1ull << 31,
	(1ull << 31) + 1000,
	3ull << 30,
	(1ull << 32) - 1000,
	(1ull << 32) - TIMEOUT_MS,
	(1ull << 32) - TIMEOUT_MS / 2,
	1ull << 32,
	(1ull << 32) + 1000,
	(1ull << 32) * 100 - TIMEOUT_MS, // the tenths of a second leave 32 bits
	(1ull << 40) + 12345,
};

#define FOR_EACH_START(start)                                                                      \
	for (const uint64_t *start = starts_ms;                                                    \
		start < starts_ms + sizeof(starts_ms) / sizeof(starts_ms[0]); start++)

static struct rig *create(uint64_t start_ms, const struct scheduler_ops *scheduler)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_workers = 2,
		.nb_backends = BACKENDS,
		.flows = 65536,
		.scheduler = scheduler,
		.connect = {.timeout_ms = TIMEOUT_MS, .retry_percent = 20, .tries = 3}});

	rig->now_ms = start_ms;
	for (unsigned w = 0; w < 2; w++)
		rig_tick(rig, w, rig->now_ms, UINT32_MAX);
	return rig;
}

static const struct rig_packet *refuse(const struct connection *c)
{
	struct segment segment = connection_segment(c, BACKEND, TCP_RST | TCP_ACK);

	segment.seq = 0;
	return rig_run_segment(c->rig, 0, &segment);
}

/* As if its time to answer were known: connects are silent after 250 ms, not after 900. */
static void let_them_answer(struct rig *rig)
{
	for (unsigned id = 0; id < BACKENDS; id++)
		stats_connect_answered(rig_connects(rig, 0, id), 1000);
}

static void silence_is_noticed_to_the_millisecond(void **state)
{
	FOR_EACH_START(start) {
		struct rig *rig = create(*start, &scheduler_maglev);
		struct connection c = connection_of(rig, AF_INET, 1);

		let_them_answer(rig);
		assert_true(connection_syn(&c, 0));
		for (unsigned tries = 1; tries < 3; tries++) {
			rig_wait(rig, TIMEOUT_MS - 1, 1);
			assert_int_equal(rig->workers[0].nb_made, tries - 1);
			rig_wait(rig, 1, 1);
			assert_int_equal(rig->workers[0].nb_made, tries);
		}
		rig_wait(rig, 1000 - 1, 1); // the last one has a second
		assert_int_equal(rig->workers[0].nb_made, 2);
		rig_wait(rig, 1, 1);
		assert_int_equal(rig->workers[0].nb_made, 3);
		assert_int_equal(rig_last_made(rig, 0)->segment.flags, TCP_RST | TCP_ACK);
		assert_int_equal(rig_side_records(rig, AF_INET), 0);
		rig_destroy(rig);
	}
}

/* Of four backends two have refused the latest connects, and have never answered any. */
static void who_failed_last_is_suspect(void **state)
{
	FOR_EACH_START(start)
		for (unsigned n = 0; n < 20; n++) {
			struct rig *rig = create(*start, &scheduler_maglev);
			struct connection c = connection_of(rig, AF_INET, n);
			unsigned first, nb_failed = 0;

			for (unsigned i = 100; nb_failed < 2; i++) {
				struct connection other = connection_of(rig, AF_INET, i);
				assert_true(connection_syn(&other, 0));
				if (other.backend_id >= 2)
					continue;
				nb_failed += !stats_connect_is_suspect(
					rig_connects(rig, 0, other.backend_id));
				refuse(&other);
				assert_true(stats_connect_is_suspect(
					rig_connects(rig, 0, other.backend_id)));
			}
			assert_true(connection_syn(&c, 0));
			first = c.backend_id;
			const struct rig_packet *moved = refuse(&c);
			assert_int_equal(moved->fate, RIG_ANSWERED);
			struct net_addr good =
				rig_backend_addr(rig, 2); // and of 3: two ports a host
			assert_true(first == 2 || first == 3 ||
				net_addr_equal(&moved->segment.dst, &good));
			// One answer, and it is well.
			assert_true(connection_syn(&c, 0));
			connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
			assert_false(stats_connect_is_suspect(rig_connects(rig, 0, c.backend_id)));
			rig_destroy(rig);
		}
}

/* All are silent: a fifth of the last second's connects is moved, in each second alike. */
static void the_budget_is_of_the_last_second(void **state)
{
	enum { SECONDS = 3, A_SECOND = 200 };

	FOR_EACH_START(start) {
		struct rig *rig = create(*start, &scheduler_maglev);
		uint64_t moved = 0, *now = &rig->workers[0].stats->live.flows[0].moved;

		let_them_answer(rig);
		for (unsigned ms = 0; ms < SECONDS * 1000; ms++) {
			if (ms % (1000 / A_SECOND) == 0) {
				struct connection c = connection_of(rig, AF_INET, ms);
				assert_true(connection_syn(&c, 0));
			}
			rig_wait(rig, 1, 1);
			if (ms % 1000 == 999) {
				// Of the first second 250 ms go by before the first move.
				assert_in_range(*now - moved,
					A_SECOND / 5 * (ms < 1000 ? 3 : 4) / 5,
					A_SECOND / 5 * 6 / 5);
				moved = *now;
			}
		}
		rig_destroy(rig);
	}
}

static void the_load_of_the_other_worker_is_seen(void **state)
{
	FOR_EACH_START(start) {
		struct rig *rig = create(*start, &scheduler_least_conn);
		unsigned nb_opened[BACKENDS] = {0};

		for (unsigned n = 0; n < 400; n++) { // by turns, each sees what the other opened
			struct connection c = connection_of(rig, AF_INET, n);
			assert_true(connection_open(&c, n % 2));
			nb_opened[c.backend_id]++;
			if (n % 4 == 3)
				rig_wait(rig, 1, 1);
		}
		for (unsigned id = 0; id < BACKENDS; id++)
			assert_in_range(nb_opened[id], 98, 102);
		rig_destroy(rig);
	}
}

static void strays_are_answered_at_their_rate(void **state)
{
	FOR_EACH_START(start) {
		struct rig *rig = create(*start, &scheduler_maglev);
		unsigned nb_answered = 0;

		rig_wait(rig, 100, 100); // its bucket fills in a tenth of a second
		for (unsigned ms = 0; ms < 1000; ms++, rig_wait(rig, 1, 1))
			for (unsigned i = 0; i < 2; i++) {
				struct connection c = connection_of(rig, AF_INET, ms);
				struct segment ack = connection_segment(&c, CLIENT, TCP_ACK);
				nb_answered += rig_run_segment(rig, 0, &ack)->fate == RIG_ANSWERED;
			}
		assert_in_range(nb_answered, 1000 + 98, 1000 + 100); // and a burst of 100
		rig_destroy(rig);
	}
}

static void an_idle_flow_ends_in_its_time(void **state)
{
	FOR_EACH_START(start) {
		struct rig *rig = create(*start, &scheduler_maglev);
		struct connection half = connection_of(rig, AF_INET, 1);
		struct connection open = connection_of(rig, AF_INET6, 2);

		assert_true(connection_syn(&half, 0));
		connection_send(&half, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		assert_true(connection_open(&open, 0));
		rig_wait(rig, 240000 - 1, 1000);
		assert_int_equal(connection_state(&half), TCP_SYN_RECV);
		rig_wait(rig, 4000, 100); // by the second, and by the sweep's pace
		assert_int_equal(connection_state(&half), TCP_NONE);
		rig_wait(rig, 7440000 - 244000, 1000);
		assert_int_equal(connection_state(&open), TCP_ESTABLISHED);
		rig_wait(rig, 4000, 100);
		assert_int_equal(connection_state(&open), TCP_NONE);
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(silence_is_noticed_to_the_millisecond),
		cmocka_unit_test(who_failed_last_is_suspect),
		cmocka_unit_test(the_budget_is_of_the_last_second),
		cmocka_unit_test(the_load_of_the_other_worker_is_seen),
		cmocka_unit_test(strays_are_answered_at_their_rate),
		cmocka_unit_test(an_idle_flow_ends_in_its_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
