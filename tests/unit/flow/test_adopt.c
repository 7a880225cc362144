/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_rcu_qsbr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "clock.h"
#include "flow_adopt.h"
#include "flow_table.h"
#include "packets.h"

#define NOW_S 70000

static const struct hash_key key = {{1, 2, 3, 4}};

static const uint16_t timeouts[TCP_STATES] = {
	[TCP_SYN_SENT] = 240,
	[TCP_SYN_RECV] = 240,
	[TCP_SYN_SENT2] = 240,
	[TCP_ESTABLISHED] = 7440,
	[TCP_FIN_WAIT] = 240,
	[TCP_CLOSE_WAIT] = 240,
	[TCP_LAST_ACK] = 240,
	[TCP_TIME_WAIT] = 60,
	[TCP_CLOSE] = 60,
};

#define BRIEF_PORT 90 // of a VIP whose service has times of its own
static const uint16_t brief_timeouts[TCP_STATES] = {1, 1, 1, 100, 1, 1, 1, 1, 1, 1};

/* Records as a former process left them, and the table over them. */
struct world {
	sa_family_t family;
	struct flow4 *records4;
	struct flow6 *records6;
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table;
	struct flow_adopt_result result;
	uint32_t nb_seen;
	uint64_t alive_s;
	uint16_t unknown_port; // of a backend that nobody knows
};

/* A pointer into the whole record, not to its member: flow_addr() goes beyond that, and gcc 14
 * warns where it sees the member's size. */
static struct flow *record(struct world *world, uint32_t number)
{
	return world->family == AF_INET6
		? (struct flow *)((char *)&world->records6[number] + offsetof(struct flow6, flow))
		: (struct flow *)((char *)&world->records4[number] + offsetof(struct flow4, flow));
}

static void world_init(struct world *world, sa_family_t family, uint32_t records)
{
	*world = (struct world){.family = family, .alive_s = NOW_S};
	void **memory = family == AF_INET6 ? (void **)&world->records6 : (void **)&world->records4;
	size_t size = family == AF_INET6 ? sizeof(struct flow6) : sizeof(struct flow4);

	assert_int_equal(posix_memalign(memory, 64, records * size), 0);
	memset(*memory, 0, records * size);
	assert_int_equal(posix_memalign((void **)&world->rcu, 64, rte_rcu_qsbr_get_memsize(4)), 0);
	rte_rcu_qsbr_init(world->rcu, 4);
}

static void world_fini(struct world *world)
{
	flow_table_destroy(world->table);
	free(world->records4);
	free(world->records6);
	free(world->rcu);
}

/* Flow `id` into a record; no two ids share a tuple. */
static struct flow *leave(
	struct world *world, uint32_t number, uint32_t id, enum tcp_state state, uint16_t idle_s)
{
	struct flow *flow = record(world, number);
	unsigned size = net_addr_size(world->family);

	for (unsigned a = 0; a < FLOW_ADDRESSES; a++) {
		memset(flow_addr(flow, world->family, a), 0x10 + a, size);
		flow->port[a] = 80 + a;
	}
	memcpy(flow_addr(flow, world->family, FLOW_CLIENT) + size - 3, &id, 3);
	memcpy(flow_addr(flow, world->family, FLOW_SNAT) + size - 3, &id, 3);
	flow_addr(flow, world->family, FLOW_CLIENT)[0] = 0x0a;
	flow_addr(flow, world->family, FLOW_SNAT)[0] = 0x0b;
	flow->end[0] = id;
	flow->backend = 77;
	flow->last_seen = NOW_S - idle_s;
	flow->status = state;
	return flow;
}

static const uint16_t *resolve(void *context, struct flow *flow)
{
	const struct world *world = context;

	if (flow->port[FLOW_BACKEND] == world->unknown_port)
		return NULL;
	flow->backend = 4711;
	return flow->port[FLOW_VIP] == BRIEF_PORT ? brief_timeouts : timeouts;
}

static void adopted(void *context, struct flow *flow, enum tcp_state state)
{
	struct world *world = context;

	assert_int_equal(flow_state(flow), state);
	assert_int_equal(flow->backend, 4711);
	world->nb_seen++;
}

static void adopt(struct world *world, uint32_t found, uint32_t flows, unsigned nb_workers)
{
	world->table = flow_table_create_over(record(world, 0) == NULL
			? NULL
			: (void *)((char *)record(world, 0) -
				  (world->family == AF_INET6 ? offsetof(struct flow6, flow)
							     : offsetof(struct flow4, flow))),
		world->family, flows, nb_workers, &key, world->rcu, -1, false);
	assert_non_null(world->table);
	flow_table_adopt(world->table,
		&(struct flow_adopt_source){
			.found = found,
			.now_s = NOW_S,
			.alive_s = world->alive_s,
			.resolve = resolve,
			.adopted = adopted,
			.context = world,
		},
		&world->result);
	assert_int_equal(world->nb_seen, world->result.adopted);
	assert_int_equal(flow_table_used(world->table), world->result.adopted);
}

/* The flow with that id by its tuple of the direction, or NULL. */
static struct flow *find(struct world *world, uint32_t id, enum flow_direction direction)
{
	struct world other = *world;
	struct flow_hashes hashes;
	uint32_t ports;

	world_init(&other, world->family, 1);
	struct flow *wanted = leave(&other, 0, id, TCP_ESTABLISHED, 0);
	flow_table_hashes(world->table, wanted, &hashes);
	memcpy(&ports, &wanted->port[direction * 2], sizeof(ports));
	uint32_t entry = flow_table_find(world->table, hashes.of[direction],
		flow_addr(wanted, world->family, direction * 2), ports);
	world_fini(&other);
	return entry == FLOW_NOT_FOUND ? NULL : flow_entry_flow(world->table, entry);
}

/* The sum of addresses and ports that the client's packets have, or get. */
static uint16_t sum_of(struct flow *flow, enum flow_direction direction)
{
	uint32_t sum = checksum_sum(flow6_of(flow)->addr[direction * 2], 32, 0);

	return checksum_fold(checksum_sum(&flow->port[direction * 2], 4, sum));
}

static void assert_known(struct world *world, uint32_t id)
{
	struct flow *flow = find(world, id, FLOW_FROM_CLIENT);

	assert_non_null(flow);
	if (world->family == AF_INET6)
		assert_int_equal(flow6_of(flow)->delta,
			checksum_fold(checksum_delta16(
				sum_of(flow, FLOW_FROM_CLIENT), sum_of(flow, FLOW_FROM_BACKEND))));
	assert_int_equal(flow->end[0], id);
	assert_ptr_equal(find(world, id, FLOW_FROM_BACKEND), flow);
}

static void assert_unknown(struct world *world, uint32_t id)
{
	assert_null(find(world, id, FLOW_FROM_CLIENT));
	assert_null(find(world, id, FLOW_FROM_BACKEND));
}

static void flows_are_found_by_both_tuples(void **state)
{
	for (unsigned f = 0; f < 2; f++) {
		struct world world;
		world_init(&world, f ? AF_INET6 : AF_INET, 1000);
		for (uint32_t id = 1; id <= 500; id++)
			leave(&world, id * 2 - 1, id, TCP_SYN_RECV + id % 7, 10);
		adopt(&world, 1000, 1000, 1 + f);
		assert_int_equal(world.result.adopted, 500);
		for (uint32_t id = 1; id <= 500; id++)
			assert_known(&world, id);
		assert_unknown(&world, 501);
		world_fini(&world);
	}
}

static void free_records_are_lent_and_used_ones_are_not(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 1000);
	for (uint32_t id = 1; id <= 500; id++)
		leave(&world, id * 2 - 1, id, TCP_ESTABLISHED, 10);
	adopt(&world, 1000, 1000, 2);
	bool lent[1000] = {false};
	for (unsigned i = 0; i < 400; i++) {
		struct flow *flow = flow_table_alloc(world.table, i % 2);
		assert_non_null(flow);
		assert_int_equal(flow_state(flow), TCP_NONE);
		uint32_t number = flow_table_number(world.table, flow);
		assert_false(lent[number]);
		lent[number] = true;
	}
	assert_null(flow_table_alloc(world.table, 0)); // the limit is nine tenths
	world_fini(&world);
}

static void connects_in_progress_are_dropped(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 10);
	leave(&world, 0, 1, TCP_SYN_SENT, 0);
	leave(&world, 1, 2, TCP_SYN_RECV, 0);
	adopt(&world, 10, 10, 1);
	assert_unknown(&world, 1);
	assert_known(&world, 2);
	assert_int_equal(world.result.dropped[FLOW_ADOPT_CONNECTING], 1);
	world_fini(&world);
}

static void idle_time_goes_on_without_a_process(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 10);
	leave(&world, 0, 1, TCP_ESTABLISHED, 7439);
	leave(&world, 1, 2, TCP_ESTABLISHED, 7440);
	leave(&world, 2, 3, TCP_TIME_WAIT, 60);
	adopt(&world, 10, 10, 1);
	assert_known(&world, 1);
	assert_unknown(&world, 2);
	assert_unknown(&world, 3);
	assert_int_equal(world.result.dropped[FLOW_ADOPT_EXPIRED], 2);
	world_fini(&world);
}

static void each_service_has_idle_times_of_its_own(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 10);
	world.alive_s = NOW_S - 40;
	leave(&world, 0, 1, TCP_ESTABLISHED, 99)->port[FLOW_VIP] = BRIEF_PORT;
	leave(&world, 1, 2, TCP_ESTABLISHED, 100)->port[FLOW_VIP] = BRIEF_PORT;
	leave(&world, 2, 3, TCP_ESTABLISHED, 100);
	adopt(&world, 10, 10, 1);
	assert_null(find(&world, 2, FLOW_FROM_BACKEND));
	assert_non_null(find(&world, 1, FLOW_FROM_BACKEND));
	assert_known(&world, 3);
	assert_int_equal(world.result.dropped[FLOW_ADOPT_EXPIRED], 1);
	world_fini(&world);
}

static void the_short_clock_is_no_matter_after_a_long_time(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 10);
	// 65,536 s without a process and 5 s before: the stamp alone reads as 5 s.
	leave(&world, 0, 1, TCP_ESTABLISHED, 5);
	world.alive_s = NOW_S - 65536;
	adopt(&world, 10, 10, 1);
	assert_unknown(&world, 1);
	world_fini(&world);
}

static void a_packet_after_the_last_sign_of_life_is_no_age(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 10);
	leave(&world, 0, 1, TCP_TIME_WAIT, 0);
	world.alive_s = NOW_S - 3;
	adopt(&world, 10, 10, 1);
	assert_known(&world, 1);
	world_fini(&world);
}

static void of_two_with_one_tuple_the_open_one_stays(void **state)
{
	for (unsigned order = 0; order < 2; order++) {
		struct world world;
		world_init(&world, AF_INET, 40);
		leave(&world, order ? 0 : 39, 1, TCP_ESTABLISHED, 1);
		leave(&world, order ? 39 : 0, 1, TCP_CLOSE, 30)->end[0] = 2;
		adopt(&world, 40, 40, 1);
		assert_known(&world, 1);
		assert_int_equal(world.result.adopted, 1);
		assert_int_equal(world.result.dropped[FLOW_ADOPT_DUPLICATE], 1);
		world_fini(&world);
	}
}

static void of_two_open_ones_the_one_seen_earlier_stays(void **state)
{
	for (unsigned order = 0; order < 2; order++) {
		struct world world;
		world_init(&world, AF_INET6, 40);
		leave(&world, order ? 0 : 39, 1, TCP_ESTABLISHED, 9);
		struct flow *later = leave(&world, order ? 39 : 0, 1, TCP_ESTABLISHED, 2);
		later->end[0] = 2;
		later->port[FLOW_SNAT] = 9999; // one client tuple is enough
		adopt(&world, 40, 40, 1);
		assert_known(&world, 1);
		assert_int_equal(world.result.dropped[FLOW_ADOPT_DUPLICATE], 1);
		world_fini(&world);
	}
}

static void a_detached_flow_is_in_nobodys_way(void **state)
{
	for (unsigned order = 0; order < 2; order++) {
		struct world world;
		world_init(&world, AF_INET, 40);
		struct flow *detached = leave(&world, order ? 0 : 39, 1, TCP_TIME_WAIT, 9);
		struct flow *live = leave(&world, order ? 39 : 0, 1, TCP_ESTABLISHED, 2);
		detached->flags = FLOW_DETACHED;
		live->port[FLOW_SNAT] = 9999;
		adopt(&world, 40, 40, 1);
		assert_int_equal(world.result.adopted, 2);
		assert_ptr_equal(find(&world, 1, FLOW_FROM_CLIENT), live);
		assert_ptr_equal(find(&world, 1, FLOW_FROM_BACKEND), detached);
		world_fini(&world);
	}
}

static void a_larger_table_keeps_all(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 2000);
	for (uint32_t id = 1; id <= 900; id++)
		leave(&world, id, id, TCP_ESTABLISHED, 0);
	adopt(&world, 1000, 2000, 1);
	for (uint32_t id = 1; id <= 900; id++)
		assert_known(&world, id);
	unsigned more = 0;
	while (flow_table_alloc(world.table, 0) != NULL)
		more++;
	assert_int_equal(more, 900);
	world_fini(&world);
}

static void a_smaller_table_keeps_established_ones_first(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 1000);
	for (uint32_t id = 1; id <= 900; id++) // a third each
		leave(&world, id, id,
			id % 3 == 0           ? TCP_ESTABLISHED
				: id % 3 == 1 ? TCP_CLOSE_WAIT
					      : TCP_TIME_WAIT,
			0);
	adopt(&world, 1000, 500, 2);
	assert_int_equal(world.result.adopted, 450);
	assert_int_equal(world.result.dropped[FLOW_ADOPT_NO_ROOM], 450);
	unsigned half_closed = 0;
	for (uint32_t id = 1; id <= 900; id++) {
		if (id % 3 == 0)
			assert_known(&world, id);
		else if (id % 3 == 1)
			half_closed += find(&world, id, FLOW_FROM_CLIENT) != NULL;
		else
			assert_unknown(&world, id);
	}
	assert_int_equal(half_closed, 150);
	for (uint32_t r = 500; r < 1000; r++)
		assert_int_equal(flow_state(record(&world, r)), TCP_NONE);
	world_fini(&world);
}

static void a_flow_of_an_unknown_backend_is_dropped(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 10);
	world.unknown_port = 9;
	leave(&world, 0, 1, TCP_ESTABLISHED, 0)->port[FLOW_BACKEND] = 9;
	leave(&world, 1, 2, TCP_ESTABLISHED, 0);
	adopt(&world, 10, 10, 1);
	assert_unknown(&world, 1);
	assert_known(&world, 2);
	assert_int_equal(world.result.dropped[FLOW_ADOPT_NO_BACKEND], 1);
	world_fini(&world);
}

static void what_cannot_be_a_flow_is_dropped(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 10);
	leave(&world, 0, 1, 200, 0);
	leave(&world, 1, 2, TCP_ESTABLISHED, 0)->port[FLOW_SNAT] = 0;
	memset(flow_addr(leave(&world, 2, 3, TCP_ESTABLISHED, 0), AF_INET, FLOW_BACKEND), 0, 4);
	leave(&world, 3, 4, TCP_ESTABLISHED, 0);
	leave(&world, 4, 5, TCP_ESTABLISHED, 0)->kind = 1; // UDP, or whatever it will be
	leave(&world, 5, 6, TCP_STATES, 0);
	adopt(&world, 10, 10, 1);
	assert_int_equal(world.result.adopted, 1);
	assert_int_equal(world.result.dropped[FLOW_ADOPT_DAMAGED], 5);
	world_fini(&world);
}

static void offsets_stay_and_side_records_are_forgotten(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 10);
	struct flow *translated = leave(&world, 0, 1, TCP_ESTABLISHED, 0);
	translated->flags = FLOW_SEQ_MOVED | FLOW_PINNED;
	translated->seq_offset = 5;
	translated->ts_offset = 6;
	struct flow *side = leave(&world, 1, 2, TCP_SYN_RECV, 0);
	side->flags = FLOW_SIDE;
	side->side = 8;
	adopt(&world, 10, 10, 1);
	assert_int_equal(translated->flags, FLOW_SEQ_MOVED | FLOW_PINNED);
	assert_int_equal(translated->seq_offset, 5);
	assert_int_equal(translated->ts_offset, 6);
	assert_int_equal(side->flags, 0);
	world_fini(&world);
}

/* Which FIN is whose: of version 1 as far as that can be told, and else as it was. */
static void fins_are_told_apart(void **state)
{
	enum { NONE, SENT, ACKED, CLIENT = 4, BACKEND = 6 };
	static const struct {
		uint8_t status, flags;
		uint32_t acked; // of the FIN of whoever closed first: beyond it, or before it
		uint8_t adopted;
	} cases[] = {
		// Version 1: the first one's FIN alone; a second may have been the first again.
		{TCP_FIN_WAIT, 4, 0, TCP_FIN_WAIT | SENT << CLIENT},
		{TCP_FIN_WAIT, 4, 1, TCP_CLOSE_WAIT | ACKED << CLIENT},
		{TCP_CLOSE_WAIT, 4, 0, TCP_FIN_WAIT | SENT << CLIENT},
		{TCP_CLOSE_WAIT, 4, 1, TCP_CLOSE_WAIT | ACKED << CLIENT},
		{TCP_CLOSE_WAIT, 4 | FLOW_LINGERS, 1, TCP_CLOSE_WAIT | ACKED << BACKEND},
		{TCP_LAST_ACK, 4, 1, TCP_CLOSE_WAIT | ACKED << CLIENT},
		{TCP_LAST_ACK, 4 | FLOW_LINGERS, 0, TCP_FIN_WAIT | SENT << BACKEND},
		{TCP_TIME_WAIT, 4, 1, TCP_TIME_WAIT},
		{TCP_ESTABLISHED, 0, 1, TCP_ESTABLISHED},
		// Version 2.
		{TCP_LAST_ACK | ACKED << CLIENT | SENT << BACKEND, 0, 0,
			TCP_LAST_ACK | ACKED << CLIENT | SENT << BACKEND},
		{TCP_TIME_WAIT | ACKED << CLIENT | ACKED << BACKEND, 0, 0,
			TCP_TIME_WAIT | ACKED << CLIENT | ACKED << BACKEND},
	};
	enum { COUNT = sizeof(cases) / sizeof(cases[0]) };
	struct world world;

	world_init(&world, AF_INET, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		bool lingers = cases[i].flags & FLOW_LINGERS;
		struct flow *flow = leave(&world, i, i + 1, TCP_ESTABLISHED, 0);
		flow->status = cases[i].status;
		flow->flags = cases[i].flags;
		flow->end[lingers] = 1000;
		flow->ack[!lingers] = 999 + cases[i].acked;
	}
	adopt(&world, COUNT, COUNT * 2, 1);
	assert_int_equal(world.result.adopted, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(record(&world, i)->status, cases[i].adopted);
		assert_int_equal(record(&world, i)->flags, cases[i].flags & ~4);
	}
	world_fini(&world);
}

/* FINs that don't belong to the state, or are none. */
static void a_status_that_cant_be_is_damaged(void **state)
{
	struct world world;
	unsigned nb_sane = 0;

	world_init(&world, AF_INET, 256);
	for (unsigned status = 1; status < 256; status++)
		leave(&world, status, status, TCP_ESTABLISHED, 0)->status = status;
	adopt(&world, 256, 256 * 2, 1);
	for (enum tcp_fin c = 0; c <= TCP_FIN_ACKED; c++)
		for (enum tcp_fin b = 0; b <= TCP_FIN_ACKED; b++, nb_sane++)
			assert_true(flow_state(record(&world,
					    tcp_status((enum tcp_fin[]){c, b}))) != TCP_NONE);
	nb_sane += TCP_STATES - 3; // those without FINs, but free, connecting, established
	assert_int_equal(world.result.adopted, nb_sane);
	assert_int_equal(world.result.dropped[FLOW_ADOPT_CONNECTING], 1);
	// Without a state it is a free record, whatever else is set.
	assert_int_equal(world.result.dropped[FLOW_ADOPT_DAMAGED], 255 - 15 - 1 - nb_sane);
	world_fini(&world);
}

static void closed_flows_are_queued_to_give_way(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 100);
	for (uint32_t id = 1; id <= 80; id++)
		leave(&world, id, id, id <= 70 ? TCP_ESTABLISHED : TCP_TIME_WAIT, 0)->worker = id;
	adopt(&world, 100, 100, 2);
	struct flow *flow;
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(flow_table_closed(world.table, i % 2, &flow, 1), 1);
		assert_int_equal(flow_state(flow), TCP_TIME_WAIT);
		struct flow_hashes hashes;
		flow_table_hashes(world.table, flow, &hashes);
		assert_int_equal(flow_table_remove(world.table, 0, flow, &hashes), TCP_TIME_WAIT);
	}
	assert_int_equal(flow_table_closed(world.table, 0, &flow, 1), 0);
	world_fini(&world);
}

/* By age, to the second; where version 1 left another number they are older than all that come. */
static void half_open_flows_are_queued_by_age(void **state)
{
	static const uint32_t age_ms[] = {7000, 61000, 100, 3500, 61000, 250000, 1200};
	static const uint8_t order[] = {5, 1, 4, 0, 3, 6, 2};
	struct world world;
	struct flow_hashes hashes;

	world_init(&world, AF_INET, 100);
	for (uint32_t i = 0; i < 7; i++)
		leave(&world, 10 + 7 * i, 1 + i, TCP_SYN_RECV, 0)->since_ms =
			NOW_S * 1000 - age_ms[i];
	struct flow *other = leave(&world, 5, 50, TCP_SYN_RECV, 0);
	other->since_ms = NOW_S * 1000 + 0x12345678;
	adopt(&world, 100, 100, 1);
	assert_ptr_equal(flow_table_half_open(world.table, 0), other);
	assert_true(flow_half_open_ms(other, NOW_S * 1000) > 1000000);
	flow_table_hashes(world.table, other, &hashes);
	flow_table_remove(world.table, 0, other, &hashes);
	for (unsigned i = 0; i < 7; i++) {
		struct flow *flow = flow_table_half_open(world.table, 0);
		uint32_t rank = age_ms[order[i]] / 1000;
		assert_ptr_equal(flow_table_half_open_of(world.table, 4711), flow);
		assert_int_equal(flow_half_open_ms(flow, NOW_S * 1000) / 1000, rank);
		flow_table_hashes(world.table, flow, &hashes);
		flow_table_remove(world.table, 0, flow, &hashes);
	}
	assert_null(flow_table_half_open(world.table, 0));
	world_fini(&world);
}

static void random_bytes_do_no_harm(void **state)
{
	unsigned seed = 1;

	for (unsigned round = 0; round < 200; round++) {
		struct world world;
		world_init(&world, round % 2 ? AF_INET6 : AF_INET, 100);
		uint8_t *bytes = world.records4 ? (void *)world.records4 : (void *)world.records6;
		size_t size = 100 * (world.records4 ? 64 : 128);
		for (size_t i = 0; i < size; i++)
			bytes[i] = rand_r(&seed) >> 7;
		for (uint32_t r = 0; r < 100; r++)
			record(&world, r)->status %= TCP_STATES + 1 + 16 * (r % 2);
		adopt(&world, 100, 30 + round % 100 > 100 ? 100 : 30 + round % 100, 1 + round % 3);
		world_fini(&world);
	}
}

static void a_million_flows_take_less_than_a_second(void **state)
{
	struct world world;
	world_init(&world, AF_INET, 1200000);
	for (uint32_t id = 1; id <= 1000000; id++)
		leave(&world, (uint64_t)id * 919 % 1199999, id, TCP_ESTABLISHED, 0);
	uint64_t before_ns = clock_thread_ns();
	adopt(&world, 1200000, 1200000, 2);
	uint64_t took_ms = (clock_thread_ns() - before_ns) / 1000000;
	print_message("adopted 1,000,000 flows in %lu ms of CPU time\n", (unsigned long)took_ms);
	assert_int_equal(world.result.adopted, 1000000);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(took_ms < 1000);
#endif
	world_fini(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flows_are_found_by_both_tuples),
		cmocka_unit_test(free_records_are_lent_and_used_ones_are_not),
		cmocka_unit_test(connects_in_progress_are_dropped),
		cmocka_unit_test(idle_time_goes_on_without_a_process),
		cmocka_unit_test(each_service_has_idle_times_of_its_own),
		cmocka_unit_test(the_short_clock_is_no_matter_after_a_long_time),
		cmocka_unit_test(a_packet_after_the_last_sign_of_life_is_no_age),
		cmocka_unit_test(of_two_with_one_tuple_the_open_one_stays),
		cmocka_unit_test(of_two_open_ones_the_one_seen_earlier_stays),
		cmocka_unit_test(a_detached_flow_is_in_nobodys_way),
		cmocka_unit_test(a_larger_table_keeps_all),
		cmocka_unit_test(a_smaller_table_keeps_established_ones_first),
		cmocka_unit_test(a_flow_of_an_unknown_backend_is_dropped),
		cmocka_unit_test(what_cannot_be_a_flow_is_dropped),
		cmocka_unit_test(offsets_stay_and_side_records_are_forgotten),
		cmocka_unit_test(fins_are_told_apart),
		cmocka_unit_test(a_status_that_cant_be_is_damaged),
		cmocka_unit_test(closed_flows_are_queued_to_give_way),
		cmocka_unit_test(half_open_flows_are_queued_by_age),
		cmocka_unit_test(random_bytes_do_no_harm),
		cmocka_unit_test(a_million_flows_take_less_than_a_second),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
