/* SPDX-License-Identifier: BSD-3-Clause */
/* Ending the flows of a backend because the service table says so; the rig checks each RST that a
 * tick sends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

enum { BUDGET = 512 };

/* The backend is marked from here on, as a new table would say. */
static void mark(struct rig *rig, unsigned id)
{
	struct service_table *table = (struct service_table *)rig->table;

	table->backends[id].reset = true;
	table->has_resets = true;
	table->reset_round++;
}

/* Ticks until there is no more to do; how many it took. */
static unsigned walk(struct rig *rig, uint32_t budget)
{
	unsigned ticks = 1;

	while (rig_tick(rig, 0, ++rig->now_ms, budget))
		ticks++;
	return ticks;
}

static void assert_reset(
	const struct segment *rst, const struct connection *c, enum flow_direction from)
{
	struct segment at_end = connection_segment(c, 1 - from, TCP_ACK);

	assert_int_equal(rst->flags, TCP_RST | TCP_ACK);
	assert_int_equal(rst->seq, c->seq[from]);
	assert_int_equal(rst->ack, c->seq[1 - from]);
	assert_true(net_addr_equal(&rst->dst, &at_end.src));
	assert_true(net_addr_equal(&rst->src, &at_end.dst));
	assert_int_equal(rst->sport, at_end.dport);
	assert_int_equal(rst->dport, at_end.sport);
}

static void both_ends_of_a_marked_backend_get_what_they_take(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(&(struct rig_options){.connect.tries = 1});
		struct connection c = connection_in_use(rig, family, 1), other;
		uint32_t number = 2;
		do
			other = connection_in_use(rig, family, number++);
		while (other.backend_id == c.backend_id);

		// All that the backend has, and nobody else.
		unsigned nb = 0, total = 0;
		struct rig_worker *worker = &rig->workers[0];
		mark(rig, c.backend_id);
		walk(rig, BUDGET);
		nb = worker->nb_made;
		assert_in_range(nb, 2, 2 * number);
		for (unsigned i = 0; i < nb && i < RIG_MADE; i++) {
			const struct segment *rst = &worker->made[i].segment;
			struct segment to_client = connection_segment(&c, CLIENT, TCP_ACK);
			if (rst->dport == to_client.sport && net_addr_equal(&rst->dst, &c.client)) {
				assert_reset(rst, &c, BACKEND);
				assert_reset(&worker->made[i + 1].segment, &c, CLIENT);
				total++;
			}
		}
		assert_int_equal(total, 1);
		assert_int_equal(connection_state(&c), TCP_NONE);
		assert_int_equal(connection_state(&other), TCP_ESTABLISHED);
		assert_int_equal(worker->stats->live.flows[stats_family(family)].reset, nb / 2);
		rig_destroy(rig);
	}
}

static void another_generation_of_the_id_is_left_alone(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.connect.tries = 1});
	struct connection c = connection_in_use(rig, AF_INET, 1);

	((struct service_table *)rig->table)->backends[c.backend_id].generation++;
	mark(rig, c.backend_id);
	walk(rig, BUDGET);
	assert_int_equal(rig->workers[0].nb_made, 0);
	assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
	rig_destroy(rig);
}

static void a_small_budget_takes_more_ticks_for_the_same(void **state)
{
	unsigned ticks[2];

	for (int i = 0; i < 2; i++) {
		struct rig *rig = rig_create(&(struct rig_options){.connect.tries = 1});
		struct connection c = connection_in_use(rig, AF_INET, 1);
		mark(rig, c.backend_id);
		ticks[i] = walk(rig, i == 0 ? BUDGET : 16);
		assert_int_equal(rig->workers[0].nb_made, 2);
		assert_int_equal(connection_state(&c), TCP_NONE);
		rig_destroy(rig);
	}
	assert_true(ticks[1] > ticks[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_ends_of_a_marked_backend_get_what_they_take),
		cmocka_unit_test(another_generation_of_the_id_is_left_alone),
		cmocka_unit_test(a_small_budget_takes_more_ticks_for_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
