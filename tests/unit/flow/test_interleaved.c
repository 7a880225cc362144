/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What other workers do to the index in the middle of a step of the worker that moves its entries.
 * The points where a process may die (FLOW_KILL_POINT) are those where another one may come in
 * between: at each of them, in turn, they do their work.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_rcu_qsbr.h>
#include <stdlib.h>
#include <string.h>

static unsigned points_left; // until the others come in
static void (*others)(void);

static void come_in_between(void)
{
	if (points_left != 0 && --points_left == 0)
		others();
}

#define FLOW_KILL_POINT() come_in_between()
// NOLINTBEGIN(bugprone-suspicious-include): compiled anew, with others in between
#include "../../../lib/flow/flow_index.c"
#include "../../../lib/flow/flow_table.c"
// NOLINTEND(bugprone-suspicious-include)

enum { BUCKETS = 8, OLD = 16, NEW = 24, RECORDS = 1024 };

static const struct hash_key hash_key = {{5, 6, 7, 8}};

static struct flow_table *table;
static struct flow *old_flows[OLD], *new_flows[NEW];

static void fill(struct flow *flow, uint32_t number)
{
	memset(flow, 0, sizeof(*flow));
	for (unsigned i = 0; i < FLOW_ADDRESSES; i++)
		flow4_of(flow)->addr[i] = (i + 1) << 24;
	flow4_of(flow)->addr[FLOW_CLIENT] |= number;
	flow4_of(flow)->addr[FLOW_SNAT] |= number;
	flow->port[FLOW_VIP] = flow->port[FLOW_BACKEND] = 80;
}

static struct flow *add(unsigned worker, uint32_t number)
{
	struct flow *flow = flow_table_alloc(table, worker);
	struct flow_hashes hashes;

	assert_non_null(flow);
	fill(flow, number);
	flow_table_hashes(table, flow, &hashes);
	assert_ptr_equal(flow_table_insert(table, worker, flow, &hashes, TCP_ESTABLISHED), flow);
	return flow;
}

static void take_away(unsigned worker, struct flow *flow)
{
	struct flow_hashes hashes;

	flow_table_hashes(table, flow, &hashes);
	assert_int_equal(flow_table_remove(table, worker, flow, &hashes), TCP_ESTABLISHED);
}

static struct flow *find(struct flow *flow, enum flow_direction direction)
{
	uint32_t ports;

	memcpy(&ports, &flow->port[direction * 2], sizeof(ports));
	uint32_t entry = flow_table_find(table, flow_table_hash(table, flow, direction),
		flow_addr(flow, AF_INET, direction * 2), ports);
	return entry == FLOW_NOT_FOUND ? NULL : flow_entry_flow(table, entry);
}

/* Worker 1 detaches and removes all flows, worker 2 makes others, which get their slots. */
static void replace_all(void)
{
	for (unsigned i = 0; i < OLD; i++) {
		flow_table_detach(table, old_flows[i]);
		take_away(1, old_flows[i]);
	}
	for (uint32_t i = 0; i < NEW; i++)
		new_flows[i] = add(2, 1000 + i);
}

/* False: the move has fewer points. */
static bool moves_with_others_at(unsigned point)
{
	struct rte_rcu_qsbr *rcu = NULL;
	bool was_reached;

	assert_int_equal(posix_memalign((void **)&rcu, 64, rte_rcu_qsbr_get_memsize(4)), 0);
	assert_int_equal(rte_rcu_qsbr_init(rcu, 4), 0);
	table = flow_table_create(AF_INET, RECORDS, 3, &hash_key, rcu, -1, false);
	assert_non_null(table);
	flow_index_use(&table->index, BUCKETS);
	for (uint32_t i = 0; i < OLD; i++)
		old_flows[i] = add(1, i);
	flow_index_begin_growth(table);

	others = replace_all;
	points_left = point;
	while (flow_index_grow(table))
		;
	was_reached = points_left == 0;
	points_left = 0;
	for (unsigned i = 0; was_reached && i < NEW; i++)
		for (enum flow_direction d = 0; d < FLOW_DIRECTIONS; d++)
			assert_ptr_equal(find(new_flows[i], d), new_flows[i]);
	for (unsigned i = 0; i < OLD; i++)
		for (enum flow_direction d = 0; d < FLOW_DIRECTIONS; d++)
			assert_ptr_equal(find(old_flows[i], d), was_reached ? NULL : old_flows[i]);
	for (unsigned i = 0; was_reached && i < NEW; i++)
		take_away(0, new_flows[i]);
	for (unsigned i = 0; !was_reached && i < OLD; i++)
		take_away(0, old_flows[i]);
	for (uint32_t b = 0; b < table->index.nb_buckets; b++) // none is left behind
		for (unsigned s = 0; s < FLOW_BUCKET_SLOTS; s++)
			assert_int_equal(table->index.buckets[b].entry[s], FLOW_NOT_FOUND);
	flow_table_destroy(table);
	free(rcu);
	return was_reached;
}

static void a_slot_that_is_taken_over_keeps_its_new_signature(void **state) // S3
{
	unsigned point = 1;

	while (moves_with_others_at(point))
		point++;
	assert_true(point > 10); // so many entries moved at least
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_slot_that_is_taken_over_keeps_its_new_signature),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
