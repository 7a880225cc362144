/* SPDX-License-Identifier: BSD-3-Clause */
/* W2: SYNs that are lost on the way to a backend that answers others are no failures of it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

enum { TIMEOUT_MS = 250, A_MS = 10, BACKENDS = 4 };

static struct rig *create(void)
{
	return rig_create(&(struct rig_options){.nb_backends = BACKENDS,
		.connect = {.timeout_ms = TIMEOUT_MS, .retry_percent = 20, .tries = 1}});
}

/* One connect of a client, and its end. Returns the backend; `lost`: it gets no SYN of the set. */
static unsigned connect_one(struct rig *rig, sa_family_t family, uint32_t number, unsigned lost)
{
	struct connection c = connection_of(rig, family, number);

	assert_true(connection_syn(&c, 0));
	if (lost >> c.backend_id & 1)
		return c.backend_id;
	connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
	connection_send(&c, 0, CLIENT, TCP_ACK, 0);
	connection_send(&c, 0, CLIENT, TCP_RST, 0);
	return c.backend_id;
}

static uint64_t summed_timed_out(struct rig *rig)
{
	uint64_t sum = 0;

	for (unsigned id = 0; id < 2 * BACKENDS; id++)
		sum += rig_connects(rig, 0, id)->timed_out;
	return sum;
}

/* 10,000 connects a second, one of 200 lost. */
static void losses_among_answers_blame_nobody(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create();
		uint64_t random = 1;
		unsigned nb_lost = 0;

		for (unsigned n = 0; n < 10000; n++) {
			random = random * 6364136223846793005 + 1442695040888963407;
			bool is_lost = random >> 33 < (1ull << 31) / 200;
			connect_one(rig, family, n, is_lost ? -1u : 0);
			nb_lost += is_lost;
			if (n % A_MS == A_MS - 1)
				rig_wait(rig, 1, 1);
		}
		// Each of them is answered once more before the last ones are missed.
		for (unsigned n = 0, seen = 0; seen != (family == AF_INET ? 0xf : 0xf0); n++)
			seen |= 1 << connect_one(rig, family, 20000 + n, 0);
		rig_wait(rig, TIMEOUT_MS, 1);
		assert_in_range(nb_lost, 30, 70);
		assert_int_equal(summed_timed_out(rig), nb_lost);
		for (unsigned id = 0; id < 2 * BACKENDS; id++) {
			assert_int_equal(rig_connects(rig, 0, id)->fails, 0);
			assert_int_equal(rig_connects(rig, 0, id)->in_row, 0);
		}
		assert_int_equal(rig->workers[0].pipeline.fails.count, 0);
		rig_destroy(rig);
	}
}

/* From its last answer on each one counts, and none that was sent before it. */
static void one_that_is_dead_is_blamed_for_each(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create();
		unsigned dead = family == AF_INET ? 1 : BACKENDS + 1, nb_asked = 0, nb_lost = 0;
		uint32_t number = 0;

		for (unsigned n = 0; n < 100; n++)
			connect_one(rig, family, number++, 0);
		for (unsigned n = 0; n < 20; n++)
			nb_lost += connect_one(rig, family, number++, 1u << dead) == dead;
		rig_wait(rig, 1, 1);
		while (connect_one(rig, family, number++, 0) != dead) {
		}
		for (unsigned n = 0; n < 200; n++)
			nb_asked += connect_one(rig, family, number++, 1u << dead) == dead;
		rig_wait(rig, TIMEOUT_MS - 1, 1);
		assert_int_equal(rig_connects(rig, 0, dead)->timed_out, nb_lost);
		assert_int_equal(rig_connects(rig, 0, dead)->fails, 0);
		rig_wait(rig, 1, 1);
		for (unsigned left = nb_asked; left != 0; left -= RTE_MIN(left, 32u))
			rig_tick(rig, 0, rig->now_ms, 0);
		assert_true(nb_lost > 0 && nb_asked > 20);
		assert_int_equal(rig_connects(rig, 0, dead)->fails, nb_asked);
		assert_int_equal(rig_connects(rig, 0, dead)->in_row, nb_asked);
		assert_int_equal(rig->workers[0].pipeline.fails.count, nb_asked);
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(losses_among_answers_blame_nobody),
		cmocka_unit_test(one_that_is_dead_is_blamed_for_each),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
