/* SPDX-License-Identifier: BSD-3-Clause */
/* Side records, and the flow that takes another one's place. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <rte_rcu_qsbr.h>
#include <stdlib.h>

#include "flow_table.h"
#include "packets.h"

static struct flow_sides *sides_create(uint32_t count, unsigned nb_workers)
{
	struct flow_sides *sides = flow_sides_create(count, nb_workers, -1, false);

	assert_non_null(sides);
	return sides;
}

static void goes_with_the_table_and_has_bounds(void **state)
{
	assert_int_equal(flow_sides_count(16), 16);
	assert_int_equal(flow_sides_count(1024), 128);
	assert_int_equal(flow_sides_count(65536), 1024);
	assert_int_equal(flow_sides_count(1048576), 16384);
	assert_int_equal(flow_sides_count(67108864), 16384);
}

static void takes_from_its_own_part_then_from_any(void **state)
{
	enum { COUNT = 10 };
	struct flow_sides *sides = sides_create(COUNT, 2);
	struct flow_side *taken[COUNT];

	for (unsigned i = 0; i < COUNT; i++) {
		taken[i] = flow_side_get(sides, 1);
		assert_non_null(taken[i]);
		assert_int_equal(taken[i]->part, i < COUNT / 2);
	}
	assert_null(flow_side_get(sides, 0));
	for (unsigned i = 0; i < COUNT; i++)
		flow_side_put(sides, taken[i]);
	assert_ptr_equal(flow_side_get(sides, 1), taken[COUNT / 2 - 1]); // the last one put there
	flow_sides_destroy(sides);
}

static void only_the_owner_can_claim_and_once(void **state)
{
	struct flow_sides *sides = sides_create(4, 1);
	struct flow_side *side = flow_side_get(sides, 0);
	uint32_t index = flow_side_index(sides, side);

	assert_null(flow_side_claim(sides, index, 7)); // not his yet
	flow_side_own(sides, side, 7, 100);
	assert_null(flow_side_claim(sides, index, 8));
	assert_null(flow_side_claim(sides, 4, 7)); // an index that can't be
	assert_null(flow_side_claim(sides, UINT32_MAX, 7));
	assert_ptr_equal(flow_side_claim(sides, index, 7), side);
	assert_null(flow_side_claim(sides, index, 7));
	flow_side_put(sides, side);
	assert_null(flow_side_claim(sides, index, 7));
	flow_sides_destroy(sides);
}

static void is_due_to_the_millisecond(void **state)
{
	static const uint64_t due_ms[] = {
		1250, 1001, 1000, 3000, 1250, 1000 + FLOW_SIDE_SLOTS, 1 << 20};
	enum { COUNT = sizeof(due_ms) / sizeof(due_ms[0]) };
	struct flow_sides *sides = sides_create(COUNT, 1);
	struct flow_side *due;
	unsigned nb_due = 0;
	uint32_t owner;

	assert_null(flow_side_due(sides, 0, 1000, &owner));
	for (uint32_t i = 0; i < COUNT; i++)
		flow_side_own(sides, flow_side_get(sides, 0), i, due_ms[i]);
	for (uint64_t now_ms = 1000; now_ms <= 1 << 20; now_ms += now_ms < 4000 ? 1 : 777)
		while ((due = flow_side_due(sides, 0, now_ms, &owner)) != NULL) {
			uint64_t late = now_ms - due_ms[owner];
			assert_true(late <= (due_ms[owner] == 1000                 ? 1
							    : due_ms[owner] > 4000 ? 777
										   : 0));
			flow_side_put(sides, due);
			nb_due++;
		}
	assert_int_equal(nb_due, COUNT - 1);
	due = flow_side_due(sides, 0, (1 << 20) + 1, &owner);
	assert_non_null(due);
	assert_int_equal(owner, COUNT - 1);
	flow_sides_destroy(sides);
}

static void the_longest_sleep_leaves_none_behind(void **state)
{
	enum { COUNT = 3000 };
	struct flow_sides *sides = sides_create(COUNT, 1);
	uint64_t seed = 5;
	uint32_t owner;

	flow_side_due(sides, 0, 5000, &owner);
	for (uint32_t i = 0; i < COUNT; i++)
		flow_side_own(
			sides, flow_side_get(sides, 0), i, 5000 + packets_random(&seed) % 4000);
	for (uint32_t i = 0; i < COUNT; i++)
		assert_non_null(flow_side_due(sides, 0, 3000000, &owner));
	assert_null(flow_side_due(sides, 0, 3000000, &owner));
	flow_sides_destroy(sides);
}

static void a_claim_stops_the_timer(void **state)
{
	struct flow_sides *sides = sides_create(8, 1);
	struct flow_side *taken[8];
	uint32_t owner;

	flow_side_due(sides, 0, 1000, &owner);
	for (unsigned i = 0; i < 8; i++) {
		taken[i] = flow_side_get(sides, 0);
		flow_side_own(sides, taken[i], i, 1100); // all in one slot
	}
	// From the middle, the head and the end of the slot.
	for (unsigned i = 3; i < 11; i += 3)
		assert_non_null(
			flow_side_claim(sides, flow_side_index(sides, taken[i % 8]), i % 8));
	for (unsigned i = 0; i < 5; i++)
		assert_non_null(flow_side_due(sides, 0, 1100, &owner));
	assert_null(flow_side_due(sides, 0, 9999, &owner));
	flow_sides_destroy(sides);
}

/* --- two workers on one pool --- */

enum { SHARED = 64, ROUNDS = 200000 };

struct racer {
	struct flow_sides *sides;
	unsigned worker;
	uint64_t nb_got, nb_put;
};

static void *race(void *argument)
{
	struct racer *racer = argument;
	struct flow_sides *sides = racer->sides;
	uint64_t seed = 1 + racer->worker;

	for (uint32_t now_ms = 0; now_ms < ROUNDS; now_ms++) {
		uint32_t random = packets_random(&seed), owner;
		struct flow_side *side = NULL;
		if (random & 1) {
			side = flow_side_get(sides, racer->worker);
			racer->nb_got += side != NULL;
		} else if (random & 2) {
			side = flow_side_claim(sides, random >> 8 & (SHARED - 1), random >> 16 & 7);
		} else {
			side = flow_side_due(sides, racer->worker, now_ms, &owner);
		}
		if (side == NULL)
			continue;
		side->sent_us++; // nobody else does now
		if (random & 4) {
			flow_side_own(sides, side, random >> 20 & 7, now_ms + (random >> 24));
		} else {
			flow_side_put(sides, side);
			racer->nb_put++;
		}
	}
	return NULL;
}

static void two_workers_lose_none(void **state)
{
	struct flow_sides *sides = sides_create(SHARED, 2);
	struct racer racers[] = {{sides, 0}, {sides, 1}};
	pthread_t thread;
	uint64_t left = 0;
	uint32_t owner;

	assert_int_equal(pthread_create(&thread, NULL, race, &racers[1]), 0);
	race(&racers[0]);
	pthread_join(thread, NULL);
	for (unsigned worker = 0; worker < 2; worker++)
		while (flow_side_due(sides, worker, 1 << 30, &owner) != NULL)
			left++;
	assert_int_equal(
		racers[0].nb_got + racers[1].nb_got - racers[0].nb_put - racers[1].nb_put, left);
	for (uint64_t i = left; i < SHARED; i++)
		assert_non_null(flow_side_get(sides, 0));
	assert_null(flow_side_get(sides, 0));
	flow_sides_destroy(sides);
}

/* --- a flow in another one's place --- */

struct table {
	struct flow_table *flows;
	struct rte_rcu_qsbr *rcu;
};

static struct table table_create(sa_family_t family, uint32_t flows)
{
	static const struct hash_key key = {{1, 2, 3, 4}};
	struct table table;

	assert_int_equal(posix_memalign((void **)&table.rcu, 64, rte_rcu_qsbr_get_memsize(2)), 0);
	assert_int_equal(rte_rcu_qsbr_init(table.rcu, 2), 0);
	table.flows = flow_table_create(family, flows, 1, &key, table.rcu, -1, false);
	assert_non_null(table.flows);
	return table;
}

static void table_destroy(struct table *table)
{
	flow_table_destroy(table->flows);
	free(table->rcu);
}

static void fill(const struct table *table, struct flow *flow, uint8_t client, uint8_t backend)
{
	memset(flow, 0, offsetof(struct flow, last_seen));
	for (enum flow_address which = 0; which < FLOW_ADDRESSES; which++)
		memset(flow_addr(flow, table->flows->family, which),
			which < FLOW_BACKEND ? client : backend,
			net_addr_size(table->flows->family));
	flow->port[FLOW_CLIENT] = client;
	flow->port[FLOW_SNAT] = backend;
}

static struct flow *find(
	const struct table *table, const struct flow *like, enum flow_direction direction)
{
	struct flow *flow = (struct flow *)like;
	struct flow_hashes hashes;
	uint32_t ports;

	flow_table_hashes(table->flows, flow, &hashes);
	memcpy(&ports, &flow->port[direction * 2], sizeof(ports));
	uint32_t entry = flow_table_find(table->flows, hashes.of[direction],
		flow_addr(flow, table->flows->family, direction * 2), ports);
	return entry == FLOW_NOT_FOUND ? NULL : flow_entry_flow(table->flows, entry);
}

static void takes_the_others_place(void **state)
{
	for (unsigned six = 0; six < 2; six++) {
		struct table table = table_create(six ? AF_INET6 : AF_INET, 64);
		struct flow *old = flow_table_alloc(table.flows, 0);
		struct flow_hashes hashes;

		fill(&table, old, 1, 1);
		flow_table_hashes(table.flows, old, &hashes);
		assert_ptr_equal(
			flow_table_insert(table.flows, 0, old, &hashes, TCP_SYN_SENT), old);
		struct flow *flow = flow_table_alloc_spare(table.flows, 0);
		fill(&table, flow, 1, 2);
		flow_table_hashes(table.flows, flow, &hashes);
		assert_true(flow_table_replace(table.flows, 0, old, flow, &hashes, TCP_SYN_SENT));
		assert_int_equal(flow_state(old), TCP_NONE);
		assert_int_equal(flow_state(flow), TCP_SYN_SENT);
		assert_ptr_equal(find(&table, old, FLOW_FROM_CLIENT), flow);
		assert_ptr_equal(find(&table, flow, FLOW_FROM_BACKEND), flow);
		assert_null(find(&table, old, FLOW_FROM_BACKEND));
		assert_int_equal(flow_table_used(table.flows), 1);
		// It gives way as any half-open one, and then nothing is left.
		assert_ptr_equal(flow_table_half_open(table.flows, 0), flow);
		assert_int_equal(flow_table_remove(table.flows, 0, flow, &hashes), TCP_SYN_SENT);
		assert_null(find(&table, flow, FLOW_FROM_CLIENT));
		assert_int_equal(flow_table_used(table.flows), 0);
		table_destroy(&table);
	}
}

static void an_answered_flow_keeps_its_place(void **state)
{
	struct table table = table_create(AF_INET, 64);
	struct flow *old = flow_table_alloc(table.flows, 0);
	struct flow_hashes hashes;

	fill(&table, old, 1, 1);
	flow_table_hashes(table.flows, old, &hashes);
	flow_table_insert(table.flows, 0, old, &hashes, TCP_SYN_SENT);
	assert_true(flow_table_set_status(table.flows, 0, old, TCP_SYN_SENT, TCP_SYN_RECV));
	struct flow *flow = flow_table_alloc_spare(table.flows, 0);
	fill(&table, flow, 1, 2);
	flow_table_hashes(table.flows, flow, &hashes);
	assert_false(flow_table_replace(table.flows, 0, old, flow, &hashes, TCP_SYN_SENT));
	assert_int_equal(flow_state(flow), TCP_NONE);
	assert_null(find(&table, flow, FLOW_FROM_BACKEND));
	assert_ptr_equal(find(&table, old, FLOW_FROM_CLIENT), old);
	assert_ptr_equal(find(&table, old, FLOW_FROM_BACKEND), old);
	flow_table_give_back_spare(table.flows, 0, flow);
	assert_int_equal(flow_table_used(table.flows), 1);
	table_destroy(&table);
}

static void takes_its_place_in_a_full_table(void **state)
{
	struct table table = table_create(AF_INET, 64);
	struct flow *flow, *old = NULL;
	struct flow_hashes hashes;
	unsigned nb = 0;

	while ((flow = flow_table_alloc(table.flows, 0)) != NULL) {
		fill(&table, flow, 1 + nb, 1 + nb);
		flow_table_hashes(table.flows, flow, &hashes);
		flow_table_insert(table.flows, 0, flow, &hashes, TCP_SYN_SENT);
		old = flow;
		nb++;
	}
	for (unsigned i = 0; i < 1000; i++) {
		flow = flow_table_alloc_spare(table.flows, 0);
		assert_non_null(flow);
		fill(&table, flow, nb, 100 + i % 100);
		flow_table_hashes(table.flows, flow, &hashes);
		assert_true(flow_table_replace(table.flows, 0, old, flow, &hashes, TCP_SYN_SENT));
		old = flow;
		for (unsigned n = 0; n < 2; n++) // nobody else reads
			flow_table_reclaim(table.flows, 0, 0);
		assert_int_equal(flow_table_used(table.flows), nb);
	}
	table_destroy(&table);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_with_the_table_and_has_bounds),
		cmocka_unit_test(takes_from_its_own_part_then_from_any),
		cmocka_unit_test(only_the_owner_can_claim_and_once),
		cmocka_unit_test(is_due_to_the_millisecond),
		cmocka_unit_test(the_longest_sleep_leaves_none_behind),
		cmocka_unit_test(a_claim_stops_the_timer),
		cmocka_unit_test(two_workers_lose_none),
		cmocka_unit_test(takes_the_others_place),
		cmocka_unit_test(an_answered_flow_keeps_its_place),
		cmocka_unit_test(takes_its_place_in_a_full_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
