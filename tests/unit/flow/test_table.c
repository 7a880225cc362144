/* SPDX-License-Identifier: BSD-3-Clause */
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
#include "tsan.h"

static struct flow *insert_hashed(
	struct flow_table *table, unsigned worker, struct flow *flow, enum tcp_state state)
{
	struct flow_hashes hashes;

	flow_table_hashes(table, flow, &hashes);
	return flow_table_insert(table, worker, flow, &hashes, state);
}

static enum tcp_state remove_hashed(struct flow_table *table, unsigned worker, struct flow *flow)
{
	struct flow_hashes hashes;

	flow_table_hashes(table, flow, &hashes);
	return flow_table_remove(table, worker, flow, &hashes);
}

static const struct hash_key key = {
	{0x0123456789abcdef, 0xfedcba9876543210, 0x1122334455667788, 42}};

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

/* --- a table, its readers, flows by number --- */

static struct rte_rcu_qsbr *rcu_create(unsigned nb_readers)
{
	struct rte_rcu_qsbr *rcu = NULL;
	size_t size = rte_rcu_qsbr_get_memsize(nb_readers);

	assert_int_equal(posix_memalign((void **)&rcu, 64, size), 0);
	assert_int_equal(rte_rcu_qsbr_init(rcu, nb_readers), 0);
	return rcu;
}

static struct flow_table *table_create(
	sa_family_t family, uint32_t flows, unsigned nb_workers, struct rte_rcu_qsbr **rcu)
{
	*rcu = rcu_create(8);
	struct flow_table *table =
		flow_table_create(family, flows, nb_workers, &key, *rcu, -1, false);

	assert_non_null(table);
	return table;
}

static void table_destroy(struct flow_table *table, struct rte_rcu_qsbr *rcu)
{
	flow_table_destroy(table);
	free(rcu);
}

struct tuple {
	uint8_t addrs[2][16]; // as in a packet: 4 or 16 bytes each, without a gap
	uint16_t ports[2];
};

/* The tuple of flow `id` as its packets have it; no two flows share one. */
static struct tuple tuple_of(uint32_t id, sa_family_t family, enum flow_direction direction)
{
	unsigned size = net_addr_size(family);
	struct tuple tuple = {0};
	uint8_t *addrs = &tuple.addrs[0][0];

	memset(addrs, direction == FLOW_FROM_CLIENT ? 0xc1 : 0xb2, size * 2);
	if (direction == FLOW_FROM_CLIENT) { // many clients, one service
		memcpy(addrs + size - 4, &id, 4);
		tuple.ports[0] = id * 31;
		tuple.ports[1] = 80;
	} else { // few backends, the SNAT port tells
		addrs[size - 1] = id & 3;
		memcpy(addrs + size * 2 - 2, (uint16_t[]){id >> 16}, 2);
		tuple.ports[0] = 8080;
		tuple.ports[1] = id;
	}
	return tuple;
}

static void fill(const struct flow_table *table, struct flow *flow, uint32_t id, uint16_t now_s)
{
	assert_int_equal(flow->status, TCP_NONE);
	memset(flow, 0, sizeof(*flow));
	for (enum flow_direction d = 0; d < FLOW_DIRECTIONS; d++) {
		struct tuple tuple = tuple_of(id, table->family, d);
		memcpy(flow_addr(flow, table->family, d * 2), tuple.addrs,
			net_addr_size(table->family) * 2);
		memcpy(&flow->port[d * 2], tuple.ports, 4);
	}
	flow->end[0] = id;
	flow->last_seen = now_s;
	flow->backend = id & 3;
	flow->since_ms = id;
}

static uint32_t find(const struct flow_table *table, uint32_t id, enum flow_direction direction)
{
	struct tuple tuple = tuple_of(id, table->family, direction);
	uint32_t ports;

	memcpy(&ports, tuple.ports, 4);
	return flow_table_find(table, flow_hash(&table->hasher, table->family, tuple.addrs, ports),
		tuple.addrs, ports);
}

/* The flow, found in both directions alike, or NULL. */
static struct flow *lookup(const struct flow_table *table, uint32_t id)
{
	uint32_t client = find(table, id, FLOW_FROM_CLIENT);
	uint32_t backend = find(table, id, FLOW_FROM_BACKEND);

	if (client == FLOW_NOT_FOUND) {
		assert_int_equal(backend, FLOW_NOT_FOUND);
		return NULL;
	}
	assert_int_equal(client ^ 1, backend);
	assert_int_equal(flow_entry_direction(client), FLOW_FROM_CLIENT);
	assert_int_equal(flow_entry_flow(table, client)->end[0], id);
	return flow_entry_flow(table, client);
}

static struct flow *insert(struct flow_table *table, unsigned worker, uint32_t id, uint16_t now_s,
	enum tcp_state state)
{
	struct flow *flow = flow_table_alloc(table, worker);

	if (flow == NULL)
		return NULL;
	fill(table, flow, id, now_s);
	flow->worker = worker;
	struct flow *inserted = insert_hashed(table, worker, flow, state);
	assert_ptr_equal(inserted, flow);
	return flow;
}

/* Bring all freed records back: nobody else reads. */
static void reclaim(struct flow_table *table, unsigned worker)
{
	flow_table_reclaim(table, worker, 0);
	flow_table_reclaim(table, worker, 0);
}

/* --- */

static enum flow_idle remove_expired(void *context, struct flow *flow, uint16_t idle_s)
{
	assert_true(remove_hashed(context, 0, flow));
	return FLOW_IDLE_ENDS;
}

/* A million random steps; a plain array says what must come out. */
static void behaves_as_a_plain_map(sa_family_t family, uint64_t seed)
{
	enum { IDS = 6000, STEPS = 1000000 };
	static const enum tcp_state states[] = {TCP_SYN_SENT, TCP_ESTABLISHED, TCP_TIME_WAIT};
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(family, 4096, 1, &rcu);
	struct {
		struct flow *flow;
		enum tcp_state state;
		uint32_t seen_s;
	} model[IDS] = {0};
	uint32_t count = 0, now_s = 60000, nb_refused = 0, nb_expired = 0;

	assert_int_equal(table->limit, 4096 - 409);
	for (unsigned step = 0; step < STEPS; step++) {
		uint32_t id = packets_random(&seed) % IDS, random = packets_random(&seed) >> 40;
		enum tcp_state state = states[random % 3];
		switch (random / 4 % 16) {
		case 0 ... 6:
			if (model[id].flow != NULL) { // there already
				struct flow *flow = flow_table_alloc(table, 0);
				if (flow == NULL)
					break;
				fill(table, flow, id, now_s);
				assert_ptr_equal(
					insert_hashed(table, 0, flow, state), model[id].flow);
				assert_int_equal(flow_state(flow), TCP_NONE);
				flow_table_give_back(table, 0, flow);
				break;
			}
			model[id].flow = insert(table, 0, id, now_s, state);
			assert_true((model[id].flow == NULL) == (count == table->limit));
			nb_refused += model[id].flow == NULL;
			count += model[id].flow != NULL;
			model[id].state = state;
			model[id].seen_s = now_s;
			break;
		case 7 ... 10:
			if (model[id].flow == NULL)
				break;
			assert_true(remove_hashed(table, 0, model[id].flow));
			assert_false(remove_hashed(table, 0, model[id].flow));
			model[id].flow = NULL;
			count--;
			break;
		case 11:
			if (model[id].flow == NULL)
				break;
			model[id].seen_s = now_s;
			model[id].flow->last_seen = now_s;
			assert_true(flow_table_set_status(
				table, 0, model[id].flow, model[id].state, state));
			model[id].state = state;
			break;
		case 12:
			if (random / 64 % 200 != 0)
				break;
			now_s += random / 64 / 200 % 100;
			uint32_t expected = 0;
			for (unsigned i = 0; i < IDS; i++)
				expected += model[i].flow != NULL &&
					now_s - model[i].seen_s >= timeouts[model[i].state];
			uint32_t got = 0, share = flow_table_share(table, 0);
			for (uint32_t looked = 0; looked < share; looked += 64) {
				got += flow_table_sweep(table, 0, RTE_MIN(64u, share - looked),
					now_s, timeouts, remove_expired, table);
				reclaim(table, 0);
			}
			assert_int_equal(got, expected);
			nb_expired += got;
			for (unsigned i = 0; i < IDS; i++)
				if (model[i].flow != NULL &&
					now_s - model[i].seen_s >= timeouts[model[i].state]) {
					model[i].flow = NULL;
					count--;
				}
			break;
		default:
			break;
		}
		reclaim(table, 0);
		assert_ptr_equal(lookup(table, id), model[id].flow);
		if (model[id].flow != NULL)
			assert_int_equal(flow_state(model[id].flow), model[id].state);
		assert_int_equal(flow_table_used(table), count);
	}
	for (unsigned i = 0; i < IDS; i++)
		assert_ptr_equal(lookup(table, i), model[i].flow);
	print_message("%u refused, %u expired, %u left\n", nb_refused, nb_expired, count);
	assert_true(nb_expired > 1000);
	table_destroy(table, rcu);
}

static void model4(void **state)
{
	behaves_as_a_plain_map(AF_INET, 1);
}

static void model6(void **state)
{
	behaves_as_a_plain_map(AF_INET6, 2);
}

static void none_refused_up_to_nine_tenths_then_all(void **state) // C2
{
	static const uint32_t sizes[] = {1024, 65536, 1048576};
#ifdef __SANITIZE_THREAD__ // one thread only, and a million would take it a minute
	enum { ROUNDS = 4 };
#else
	enum { ROUNDS = 6 };
#endif

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct rte_rcu_qsbr *rcu;
		uint32_t flows = sizes[i / 2];
		struct flow_table *table = table_create(i & 1 ? AF_INET6 : AF_INET, flows, 1, &rcu);
		uint32_t limit = flows - flows / 10, fullest = 0;
		assert_in_range(flow_table_size(table), flows * (i & 1 ? 128u : 64u),
			flows * (i & 1 ? 160u : 96u) + (1 << 16));
		for (uint32_t id = 0; id < limit; id++) {
			assert_non_null(insert(table, 0, id, 0, TCP_ESTABLISHED));
			if (id % 32 == 31)
				flow_index_grow(table);
		}
		while (flow_index_grow(table))
			;
		assert_int_equal(flow_index_span(&table->index).settled, table->index.nb_buckets);
		for (unsigned n = 0; n < 10; n++)
			assert_null(flow_table_alloc(table, 0));
		assert_int_equal(flow_table_used(table), limit);
		for (uint32_t b = 0; b < table->index.nb_buckets; b++) {
			uint32_t count = 0;
			for (unsigned s = 0; s < FLOW_BUCKET_SLOTS; s++)
				count += table->index.buckets[b].entry[s] != FLOW_NOT_FOUND;
			fullest += count == FLOW_BUCKET_SLOTS;
		}
		print_message("%u flows: %u of %u buckets full\n", limit, fullest,
			table->index.nb_buckets);
		for (uint32_t id = 0; id < limit + 100; id++)
			assert_true((lookup(table, id) != NULL) == (id < limit));
		// One closes, one more comes.
		for (uint32_t id = 0; id < 500; id++) {
			assert_true(remove_hashed(table, 0, lookup(table, id)));
			reclaim(table, 0);
			assert_non_null(insert(table, 0, limit + id, 0, TCP_ESTABLISHED));
			assert_null(flow_table_alloc(table, 0));
		}
		table_destroy(table, rcu);
	}
}

/* What idle workers keep at hand must not be missing to the one that works. */
static void records_kept_by_other_workers_are_beyond_the_limit(void **state)
{
	enum { WORKERS = 16, FLOWS = 1024 };
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, FLOWS, WORKERS, &rcu);
	uint32_t id = 0;

	for (unsigned round = 0; round < 3; round++) {
		uint32_t first = id;
		for (unsigned worker = 0; worker < WORKERS; worker++) // each fills its cache
			for (unsigned n = 0; n < 50; n++)
				assert_non_null(insert(table, worker, id++, 0, TCP_ESTABLISHED));
		for (uint32_t i = first; i < id; i++)
			assert_true(remove_hashed(table, i % WORKERS, lookup(table, i)));
		for (unsigned worker = 0; worker < WORKERS; worker++)
			reclaim(table, worker);
	}
	for (uint32_t i = 0; i < table->limit; i++)
		assert_non_null(insert(table, 5, id++, 0, TCP_ESTABLISHED));
	assert_null(flow_table_alloc(table, 5));
	table_destroy(table, rcu);
}

static void records_rest_until_all_readers_moved_on(void **state) // D13
{
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 1024, 1, &rcu);
	struct flow *removed[10], *flow;

	rte_rcu_qsbr_thread_register(rcu, 3); // a worker that stands still
	rte_rcu_qsbr_thread_online(rcu, 3);
	for (uint32_t id = 0; id < 10; id++)
		removed[id] = insert(table, 0, id, 0, TCP_ESTABLISHED);
	for (uint32_t id = 0; id < 10; id++)
		assert_true(remove_hashed(table, 0, removed[id]));
	assert_int_equal(flow_table_grace_age(table, 0, 1000), 0);
	for (unsigned ms = 1000; ms <= 6000; ms += 100) {
		assert_false(flow_table_reclaim(table, 0, ms));
		assert_int_equal(flow_table_grace_age(table, 0, ms), ms - 1000);
	}
	// All others can be had, but none of these.
	for (uint32_t id = 100; id < 100 + table->limit; id++) {
		assert_non_null(flow = insert(table, 0, id, 0, TCP_ESTABLISHED));
		for (unsigned i = 0; i < 10; i++)
			assert_ptr_not_equal(flow, removed[i]);
	}
	for (unsigned i = 0; i < 10; i++) // they keep what they were
		assert_int_equal(removed[i]->end[0], i);
	rte_rcu_qsbr_quiescent(rcu, 3);
	assert_true(flow_table_reclaim(table, 0, 6100));
	assert_int_equal(flow_table_grace_age(table, 0, 9000), 0);
	// A sleeping worker is offline and holds nothing up.
	rte_rcu_qsbr_thread_offline(rcu, 3);
	assert_true(remove_hashed(table, 0, lookup(table, 100)));
	assert_false(flow_table_reclaim(table, 0, 7000));
	assert_true(flow_table_reclaim(table, 0, 7000));
	table_destroy(table, rcu);
}

static void retired_records_have_bounded_room(void **state) // D13
{
	enum { FLOWS = 16384 };
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, FLOWS, 1, &rcu);
	uint32_t id = 0, nb_removed = 0;

	rte_rcu_qsbr_thread_register(rcu, 0);
	rte_rcu_qsbr_thread_online(rcu, 0);
	for (; id < 12000; id++)
		insert(table, 0, id, 0, TCP_ESTABLISHED);
	for (uint32_t i = 0; i < 12000 && flow_table_may_remove(table, 0); i++, nb_removed++) {
		assert_true(remove_hashed(table, 0, lookup(table, i)));
		flow_table_reclaim(table, 0, 0);
	}
	assert_in_range(nb_removed, FLOW_RETIRED_MAX, 2 * FLOW_RETIRED_MAX);
	rte_rcu_qsbr_quiescent(rcu, 0);
	assert_true(flow_table_reclaim(table, 0, 0));
	assert_true(flow_table_may_remove(table, 0));
	rte_rcu_qsbr_quiescent(rcu, 0);
	assert_true(flow_table_reclaim(table, 0, 0));
	for (uint32_t i = flow_table_used(table); i < table->limit; i++)
		assert_non_null(insert(table, 0, id++, 0, TCP_ESTABLISHED));
	assert_null(flow_table_alloc(table, 0));
	table_destroy(table, rcu);
}

static uint32_t sweep_all(struct flow_table *table, unsigned worker, uint32_t now_s)
{
	return flow_table_sweep(table, worker, UINT32_MAX, now_s, timeouts, remove_expired, table);
}

static void expires_to_the_second_wherever_the_clock_turns(void **state) // A15
{
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 1024, 1, &rcu);

	for (uint32_t now_s = 65536 - 8000; now_s < 65536 * 2 + 100; now_s += 997) {
		for (enum tcp_state s = TCP_SYN_SENT; s < TCP_STATES; s++) {
			struct flow *flow = insert(table, 0, s, now_s, s);
			assert_int_equal(sweep_all(table, 0, now_s), 0);
			assert_int_equal(sweep_all(table, 0, now_s + timeouts[s] - 1), 0);
			flow->last_seen = now_s + 5; // seen again
			assert_int_equal(sweep_all(table, 0, now_s + timeouts[s] + 4), 0);
			assert_ptr_equal(lookup(table, s), flow);
			assert_int_equal(sweep_all(table, 0, now_s + timeouts[s] + 5), 1);
			assert_null(lookup(table, s));
			reclaim(table, 0);
		}
	}
	table_destroy(table, rcu);
}

static void longest_timeout_and_late_sweeps(void **state)
{
	uint16_t longest[TCP_STATES];
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 1024, 1, &rcu);

	for (enum tcp_state s = 0; s < TCP_STATES; s++)
		longest[s] = 64800;
	insert(table, 0, 1, 500, TCP_ESTABLISHED);
	for (uint32_t now_s = 500; now_s < 500 + 64800; now_s += 7)
		assert_int_equal(
			flow_table_sweep(table, 0, 9, now_s, longest, remove_expired, table), 0);
	for (uint32_t late = 0; late < 600; late++)
		if (flow_table_sweep(
			    table, 0, 9, 500 + 64800 + late, longest, remove_expired, table)) {
			assert_int_equal(late, 0);
			break;
		}
	assert_null(lookup(table, 1));
	table_destroy(table, rcu);
}

static void another_workers_clock_may_be_ahead(void **state)
{
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 1024, 2, &rcu);

	for (uint32_t now_s = 65530; now_s < 65545; now_s++)
		for (uint32_t ahead = 1; ahead < 60; ahead += 29) {
			struct flow *flow = insert(table, 1, 7, now_s + ahead, TCP_TIME_WAIT);
			assert_int_equal(sweep_all(table, 0, now_s), 0);
			assert_ptr_equal(lookup(table, 7), flow);
			assert_true(remove_hashed(table, 1, flow));
			reclaim(table, 1);
		}
	table_destroy(table, rcu);
}

static void every_worker_sweeps_its_share(void **state)
{
	enum { WORKERS = 3, FLOWS = 1000 };
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET6, FLOWS, WORKERS, &rcu);
	uint32_t nb_expired = 0, share = 0;

	for (uint32_t id = 0; id < table->limit; id++)
		insert(table, 1, id, 100, TCP_CLOSE);
	for (unsigned worker = 0; worker < WORKERS; worker++) {
		share += flow_table_share(table, worker);
		nb_expired += sweep_all(table, worker, 160);
	}
	assert_in_range(share, table->limit, FLOWS);
	assert_int_equal(nb_expired, table->limit);
	assert_int_equal(flow_table_used(table), 0);
	table_destroy(table, rcu);
}

/* --- giving way --- */

/* Who is the next: a closed one, or else a half-open one of this worker's, or else of another's. */
static struct flow *oldest(struct flow_table *table, unsigned worker)
{
	struct flow *flow = NULL;

	if (flow_table_closed(table, worker, &flow, 1) == 1)
		return flow;
	for (unsigned i = 0; i < table->nb_workers && flow == NULL; i++)
		flow = flow_table_half_open(table, (worker + i) % table->nb_workers);
	return flow;
}

static void closed_give_way_first_then_half_open_oldest_first(void **state) // C3
{
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 1024, 1, &rcu);
	struct flow *flows[40];

	for (uint32_t id = 0; id < 40; id++)
		flows[id] = insert(table, 0, id, 0, TCP_SYN_SENT);
	for (uint32_t id = 10; id < 40;
		id++) // 0-9 half open, 10-19 established, 20-29 and 30-39 closed
		assert_true(
			flow_table_set_status(table, 0, flows[id], TCP_SYN_SENT, TCP_ESTABLISHED));
	for (uint32_t id = 39; id >= 30; id--)
		assert_true(flow_table_set_status(table, 0, flows[id], TCP_ESTABLISHED, TCP_CLOSE));
	for (uint32_t id = 20; id < 30; id++)
		assert_true(
			flow_table_set_status(table, 0, flows[id], TCP_ESTABLISHED, TCP_TIME_WAIT));
	assert_false(flow_table_set_status(table, 0, flows[20], TCP_ESTABLISHED, TCP_CLOSE));
	assert_true(flow_table_set_status(table, 0, flows[35], TCP_CLOSE, TCP_CLOSE));
	assert_true(remove_hashed(table, 0, flows[33]));

	static const uint8_t order[] = {39, 38, 37, 36, 35, 34, 32, 31, 30, 20, 21, 22, 23, 24, 25,
		26, 27, 28, 29, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
	for (unsigned i = 0; i < sizeof(order); i++) {
		struct flow *next = oldest(table, 0);
		assert_ptr_equal(next, flows[order[i]]);
		assert_true(remove_hashed(table, 0, next));
	}
	for (unsigned i = 0; i < 3; i++)
		assert_null(oldest(table, 0));
	for (uint32_t id = 10; id < 20; id++)
		assert_ptr_equal(lookup(table, id), flows[id]);
	table_destroy(table, rcu);
}

/* All of a full table are queued, and the first that came is the first to go, whichever backend's
 * it is. */
static void the_oldest_of_all_half_open_flows_gives_way_first(void **state) // W4
{
	enum { FLOWS = 8192 };
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, FLOWS, 1, &rcu);
	struct flow **flows = calloc(table->limit, sizeof(*flows));

	for (uint32_t id = 0; id < table->limit; id++)
		assert_non_null(flows[id] = insert(table, 0, id, 0, TCP_SYN_SENT));
	assert_int_equal(table->limit, 7373);
	for (uint32_t id = 0; id < table->limit; id++) {
		assert_ptr_equal(oldest(table, 0), flows[id]);
		assert_ptr_equal(flow_table_half_open_of(table, id & 3), flows[id]);
		assert_true(remove_hashed(table, 0, flows[id]));
		if (id % 4096 == 4095)
			reclaim(table, 0);
	}
	assert_null(oldest(table, 0));
	free(flows);
	table_destroy(table, rcu);
}

static void a_flood_on_one_worker_gives_way_to_the_others(void **state) // C3
{
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 1024, 2, &rcu);
	uint32_t id = 0;

	for (; id < table->limit; id++)
		insert(table, 0, id, 0, TCP_SYN_SENT);
	for (uint32_t i = 0; i < 600; i++) { // the other worker's clients
		assert_null(flow_table_alloc(table, 1));
		struct flow *next = oldest(table, 1);
		assert_non_null(next);
		assert_int_equal(next->end[0], i);
		assert_true(remove_hashed(table, 1, next));
		struct flow *flow = insert(table, 1, id++, 0, TCP_SYN_SENT);
		assert_non_null(flow);
		assert_true(flow_table_set_status(table, 1, flow, TCP_SYN_SENT, TCP_ESTABLISHED));
		reclaim(table, 1);
	}
	table_destroy(table, rcu);
}

/* Who is in a queue, in the order of its age: a plain list of ids. */
struct queue_model {
	uint32_t ids[600];
	unsigned count;
};

static void model_add(struct queue_model *model, uint32_t id)
{
	model->ids[model->count++] = id;
}

static void model_drop(struct queue_model *model, uint32_t id)
{
	unsigned at = 0;

	while (model->ids[at] != id)
		at++;
	memmove(&model->ids[at], &model->ids[at + 1], (--model->count - at) * sizeof(id));
}

/* Flows of two workers and four backends come, open, close and go in any order: the queues are
 * those of a plain list at every step. */
static void queues_are_as_plain_lists(void **state)
{
	enum { IDS = 600, STEPS = 200000 };
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 1024, 2, &rcu);
	struct flow *flows[IDS] = {0};
	struct queue_model closed[2] = {0}, half_open[2] = {0};
	uint64_t seed = 7;

	for (uint32_t step = 0; step < STEPS; step++) {
		uint64_t random = packets_random(&seed);
		uint32_t id = random % IDS;
		unsigned maker = id / 4 & 1, worker = random >> 20 & 1;
		struct flow *flow = flows[id];
		if (flow == NULL) {
			flows[id] = flow_table_alloc(table, worker);
			fill(table, flows[id], id, 0);
			flows[id]->worker = maker;
			flows[id]->since_ms = UINT32_MAX - STEPS / 2 + step; // turns half-way
			insert_hashed(table, worker, flows[id], TCP_SYN_SENT);
			model_add(&half_open[maker], id);
		} else if ((random >> 21 & 3) == 0) {
			enum tcp_state before = remove_hashed(table, worker, flow);
			flows[id] = NULL;
			if (before != TCP_ESTABLISHED)
				model_drop(before == TCP_CLOSE ? &closed[maker] : &half_open[maker],
					id);
		} else if (tcp_state_half_open(flow_state(flow))) {
			enum tcp_state to = (random >> 21 & 3) == 1 ? TCP_ESTABLISHED
				: (random >> 21 & 3) == 2           ? TCP_CLOSE
								    : TCP_SYN_RECV;
			assert_true(
				flow_table_set_status(table, worker, flow, flow_state(flow), to));
			if (to != TCP_SYN_RECV)
				model_drop(&half_open[maker], id);
			if (to == TCP_CLOSE)
				model_add(&closed[maker], id);
		} else if (flow_state(flow) == TCP_ESTABLISHED) {
			assert_true(flow_table_set_status(
				table, worker, flow, TCP_ESTABLISHED, TCP_CLOSE));
			model_add(&closed[maker], id);
		}
		reclaim(table, 0);
		reclaim(table, 1);

		for (unsigned w = 0; w < 2; w++) {
			struct flow *all[IDS];
			const struct queue_model *model =
				closed[w].count != 0 ? &closed[w] : &closed[1 - w];
			assert_int_equal(flow_table_closed(table, w, all, IDS), model->count);
			for (unsigned i = 0; i < model->count; i++)
				assert_ptr_equal(all[i], flows[model->ids[i]]);
			// In the middle of the heap something may be out of date for long.
			if (random >> 30 & 7)
				continue;
			assert_ptr_equal(flow_table_half_open(table, w),
				half_open[w].count == 0 ? NULL : flows[half_open[w].ids[0]]);
		}
		struct flow *first = NULL;
		for (unsigned w = 0; w < 2; w++)
			for (unsigned i = 0; i < half_open[w].count; i++) {
				struct flow *other = flows[half_open[w].ids[i]];
				if (FLOW_BACKEND_ID(other->backend) != (id & 3))
					continue;
				if (first == NULL ||
					(int32_t)(other->since_ms - first->since_ms) < 0)
					first = other;
			}
		assert_ptr_equal(flow_table_half_open_of(table, id & 3), first);
	}
	table_destroy(table, rcu);
}

/* --- an index that grows --- */

/* Every entry that is in the index stands where it is looked for, once: two for each flow. */
static void check_index(const struct flow_table *table)
{
	const struct flow_index *index = &table->index;
	uint32_t nb_buckets = flow_index_span(index).settled, count = 0;

	assert_false(flow_span_is_growing(flow_index_span(index)));
	for (uint32_t b = 0; b < index->nb_buckets; b++) {
		for (unsigned s = 0; s < FLOW_BUCKET_SLOTS; s++) {
			uint32_t entry = index->buckets[b].entry[s];
			if (entry == FLOW_NOT_FOUND)
				continue;
			struct flow_hashes hashes;
			struct flow *flow = flow_entry_flow(table, entry);
			flow_table_hashes(table, flow, &hashes);
			uint64_t hash = hashes.of[flow_entry_direction(entry)];
			assert_int_not_equal(flow_state(flow), TCP_NONE);
			assert_true(flow_hash_primary(nb_buckets, hash) == b ||
				flow_hash_secondary(nb_buckets, hash) == b);
			assert_int_equal(index->buckets[b].signature[s], flow_hash_signature(hash));
			count++;
		}
	}
	assert_int_equal(count, 2 * flow_table_used(table));
}

/* From 8 buckets to all of them, by random steps, against a plain map. A reader that is held up
 * keeps announcements from becoming known, and ticks are rare, so that all goes on half-way. */
static void grows_as_a_plain_map(sa_family_t family, uint64_t seed)
{
	enum { FLOWS = 16384, IDS = 15000 };
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(family, FLOWS, 1, &rcu);
	struct flow **model = calloc(IDS, sizeof(*model));
	uint32_t count = 0, nb_growing = 0, nb_announced = 0, nb_growths = 0, before = 8;

	rte_rcu_qsbr_thread_register(rcu, 0);
	rte_rcu_qsbr_thread_online(rcu, 0);
	flow_index_use(&table->index, 8);
	for (uint32_t step = 0; before != table->index.nb_buckets; step++) {
		assert_in_range(step, 0, 1000000);
		uint64_t random = packets_random(&seed);
		uint32_t id = random % IDS, other = (random >> 24) % IDS;
		if (model[id] == NULL && count < table->limit) {
			model[id] = insert(table, 0, id, 0, TCP_ESTABLISHED);
			assert_non_null(model[id]);
			count++;
		}
		if (model[other] != NULL && (random >> 48) % 4 == 0) {
			assert_true(remove_hashed(table, 0, model[other]));
			model[other] = NULL;
			count--;
		}
		if (random >> 51 & 1)
			rte_rcu_qsbr_quiescent(rcu, 0);
		if ((random >> 52) % 8 == 0)
			reclaim(table, 0);
		if ((random >> 55) % 16 == 0)
			flow_index_grow(table);
		assert_ptr_equal(lookup(table, id), model[id]);
		assert_ptr_equal(lookup(table, other), model[other]);
		if (step % 8192 == 0)
			for (uint32_t i = 0; i < IDS; i++)
				assert_ptr_equal(lookup(table, i), model[i]);
		nb_announced += table->index.growth == FLOW_GROWTH_ANNOUNCED;
		nb_growing += table->index.growth == FLOW_GROWTH_MOVES;
		uint32_t settled = flow_index_span(&table->index).settled;
		nb_growths += settled != before;
		before = settled;
	}
	for (uint32_t i = 0; i < IDS; i++)
		assert_ptr_equal(lookup(table, i), model[i]);
	check_index(table);
	print_message("%u growths, %u steps announced, %u while entries moved, %u flows\n",
		nb_growths, nb_announced, nb_growing, count);
	assert_in_range(nb_growths, 5, 10); // 8 << 9 = 4,096, then all 5,463
	assert_true(nb_growing > 2000);
	free(model);
	table_destroy(table, rcu);
}

static void grows4(void **state)
{
	for (uint64_t seed = 1; seed <= 2; seed++)
		grows_as_a_plain_map(AF_INET, seed);
}

static void grows6(void **state)
{
	grows_as_a_plain_map(AF_INET6, 6);
}

static void nothing_moves_before_all_readers_know(void **state)
{
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 4096, 1, &rcu);
	uint32_t id = 0;

	rte_rcu_qsbr_thread_register(rcu, 3); // a worker that stands still
	rte_rcu_qsbr_thread_online(rcu, 3);
	flow_index_use(&table->index, 64);
	for (; table->index.growth == FLOW_GROWTH_NONE; id++)
		assert_non_null(insert(table, 0, id, 0, TCP_ESTABLISHED));
	assert_int_equal(id, 64 * 5 / 2 + 1);
	struct flow_bucket *old = calloc(64, sizeof(*old));
	memcpy(old, table->index.buckets, 64 * sizeof(*old));
	for (unsigned n = 0; n < 100; n++) {
		assert_true(flow_index_grow(table));
		assert_int_equal(table->index.growth, FLOW_GROWTH_ANNOUNCED);
	}
	assert_memory_equal(old, table->index.buckets, 64 * sizeof(*old));
	for (uint32_t n = 0; n < id; n++)
		assert_non_null(lookup(table, n));
	rte_rcu_qsbr_quiescent(rcu, 3);
	while (flow_index_grow(table))
		;
	assert_int_equal(flow_index_span(&table->index).settled, 128);
	check_index(table);
	free(old);
	table_destroy(table, rcu);
}

static void replaced_and_detached_flows_move_too(void **state)
{
	enum { FLOWS = 300 };
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 4096, 1, &rcu);

	rte_rcu_qsbr_thread_register(rcu, 0);
	rte_rcu_qsbr_thread_online(rcu, 0);
	for (unsigned stage = 0; stage < 4; stage++) { // settled, announced, entries move, grown
		struct flow *flows[FLOWS];
		struct flow_hashes hashes;
		flow_index_use(&table->index, 48);
		table->index.grow_at = UINT32_MAX;
		for (uint32_t id = 0; id < FLOWS / 2; id++)
			flows[id] = insert(table, 0, id, 0, TCP_SYN_SENT);
		if (stage > 0)
			flow_index_begin_growth(table);
		if (stage > 1) {
			rte_rcu_qsbr_quiescent(rcu, 0);
			flow_index_grow(table); // 32 of 48 buckets
			assert_int_equal(table->index.growth, FLOW_GROWTH_MOVES);
		}
		if (stage > 2)
			assert_false(flow_index_grow(table));
		for (uint32_t id = 0; id < FLOWS / 2; id++) { // another SNAT port
			struct flow *flow = flow_table_alloc_spare(table, 0);
			fill(table, flow, id, 0);
			flow->port[FLOW_SNAT] = id + FLOWS;
			flow_table_hashes(table, flow, &hashes);
			assert_true(flow_table_replace(
				table, 0, flows[id], flow, &hashes, TCP_SYN_SENT));
			uint32_t entry = find(table, id, FLOW_FROM_CLIENT);
			assert_ptr_equal(flow_entry_flow(table, entry), flow);
			assert_int_equal(find(table, id, FLOW_FROM_BACKEND), FLOW_NOT_FOUND);
			flows[id] = flow;
		}
		for (uint32_t id = 0; id < FLOWS / 4; id++) {
			flow_table_detach(table, flows[id]);
			flow_table_detach(table, flows[id]);
			assert_int_equal(find(table, id, FLOW_FROM_CLIENT), FLOW_NOT_FOUND);
		}
		rte_rcu_qsbr_quiescent(rcu, 0);
		while (flow_index_grow(table))
			;
		for (uint32_t id = 0; id < FLOWS / 2; id++) {
			uint32_t entry = find(table, id, FLOW_FROM_CLIENT);
			assert_true((entry == FLOW_NOT_FOUND) == (id < FLOWS / 4));
			assert_true(remove_hashed(table, 0, flows[id]));
		}
		check_index(table); // empty
		rte_rcu_qsbr_quiescent(rcu, 0);
		reclaim(table, 0);
		rte_rcu_qsbr_quiescent(rcu, 0);
		reclaim(table, 0);
	}
	table_destroy(table, rcu);
}

/* --- two threads --- */

/* As facts about rte_rcu_qsbr that ThreadSanitizer can't see. */
enum { RACE_IDS = 512, RACE_ROUNDS = 400 };

struct racer {
	struct flow_table *table;
	struct rte_rcu_qsbr *rcu;
	pthread_barrier_t *barrier;
	unsigned worker;
	unsigned nb_won[RACE_ROUNDS];
	unsigned nb_wrong;
};

static void quiescent(struct racer *racer)
{
	tsan_release(racer->rcu);
	rte_rcu_qsbr_quiescent(racer->rcu, racer->worker);
}

/* At the barrier, holding up nobody's grace period. */
static void wait_offline(struct racer *racer)
{
	tsan_release(racer->rcu);
	rte_rcu_qsbr_thread_offline(racer->rcu, racer->worker);
	pthread_barrier_wait(racer->barrier);
	rte_rcu_qsbr_thread_online(racer->rcu, racer->worker);
}

static void *race(void *argument)
{
	struct racer *racer = argument;
	struct flow_table *table = racer->table;

	rte_rcu_qsbr_thread_register(racer->rcu, racer->worker);
	rte_rcu_qsbr_thread_online(racer->rcu, racer->worker);
	for (unsigned round = 0; round < RACE_ROUNDS; round++) {
		wait_offline(racer);
		for (uint32_t id = 0; id < RACE_IDS; id++) { // both insert the same
			struct flow *flow = flow_table_alloc(table, racer->worker);
			if (flow == NULL) {
				racer->nb_wrong++;
				continue;
			}
			// Each its own backend tuple, as each has a SNAT port of its own.
			fill(table, flow, id, 0);
			flow->port[FLOW_SNAT] = id + RACE_IDS * racer->worker;
			flow->worker = racer->worker;
			struct flow *inserted =
				insert_hashed(table, racer->worker, flow, TCP_SYN_SENT);
			racer->nb_won[round] += inserted == flow;
			if (inserted != flow)
				flow_table_give_back(table, racer->worker, flow);
			if (inserted == NULL || inserted->end[0] != id ||
				find(table, id, FLOW_FROM_CLIENT) == FLOW_NOT_FOUND)
				racer->nb_wrong++;
		}
		wait_offline(racer);
		for (uint32_t n = 0; n < RACE_IDS; n++) { // both remove them, from either end
			uint32_t id = racer->worker ? n : RACE_IDS - 1 - n;
			uint32_t entry = find(table, id, FLOW_FROM_CLIENT);
			if (entry == FLOW_NOT_FOUND)
				continue;
			struct flow *flow = flow_entry_flow(table, entry);
			if (flow->end[0] != id)
				racer->nb_wrong++;
			flow_table_set_status(table, racer->worker, flow, TCP_SYN_SENT, TCP_CLOSE);
			remove_hashed(table, racer->worker, flow);
			quiescent(racer);
			flow_table_reclaim(table, racer->worker, 0);
		}
		do {
			quiescent(racer);
			flow_table_reclaim(table, racer->worker, 0);
		} while (table->workers[racer->worker].nb_waiting != 0);
	}
	rte_rcu_qsbr_thread_offline(racer->rcu, racer->worker);
	return NULL;
}

static void same_keys_on_two_workers_make_one_flow_each(void **state)
{
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table = table_create(AF_INET, 4096, 2, &rcu);
	pthread_barrier_t barrier;
	struct racer racers[2] = {{table, rcu, &barrier, 0}, {table, rcu, &barrier, 1}};
	pthread_t threads[2];

	pthread_barrier_init(&barrier, NULL, 2);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(racers[0].nb_wrong + racers[1].nb_wrong, 0);
	for (unsigned round = 0; round < RACE_ROUNDS; round++)
		assert_int_equal(racers[0].nb_won[round] + racers[1].nb_won[round], RACE_IDS);
	assert_int_equal(flow_table_used(table), 0);
	pthread_barrier_destroy(&barrier);
	table_destroy(table, rcu);
}

enum { GROW_ROUNDS = 8, GROW_STABLE = 50, GROW_IDS = 6000 };

struct grower {
	struct flow_table *table;
	struct rte_rcu_qsbr *rcu;
	pthread_barrier_t *barrier;
	unsigned worker;
	unsigned nb_won;
	unsigned nb_lost; // inserted by the other one
	unsigned nb_wrong;
};

/* Flow `id` is there, and the right one. */
static bool is_there(const struct flow_table *table, uint32_t id)
{
	uint32_t entry = find(table, id, FLOW_FROM_CLIENT);

	return entry != FLOW_NOT_FOUND && flow_entry_flow(table, entry)->end[0] == id;
}

static bool grow_tick(struct grower *grower)
{
	tsan_release(grower->rcu);
	rte_rcu_qsbr_quiescent(grower->rcu, grower->worker);
	flow_table_reclaim(grower->table, grower->worker, 0);
	return flow_index_grow(grower->table);
}

static bool table_is_crowded(const struct flow_table *table)
{
	return flow_table_used(table) > 3 * flow_index_span(&table->index).wanted;
}

/*
 * Both insert the same flows in the same order, and the one who won removes every second one of
 * them later. Flows that stay are looked up all the time, and never missed.
 */
static void *grow(void *argument)
{
	struct grower *grower = argument;
	struct flow_table *table = grower->table;
	unsigned worker = grower->worker;
	struct flow **won = calloc(GROW_IDS, sizeof(*won));
	uint64_t seed = 1 + worker;

	rte_rcu_qsbr_thread_register(grower->rcu, worker);
	rte_rcu_qsbr_thread_online(grower->rcu, worker);
	pthread_barrier_wait(grower->barrier);
	for (uint32_t id = GROW_STABLE; id < GROW_IDS; id++) {
		// One that is held up while it moves entries holds up the growth; without a growth
		// under way the next insert begins one.
		while (table_is_crowded(table) && grow_tick(grower))
			;
		struct flow *flow = flow_table_alloc(table, worker);
		if (flow == NULL) {
			grower->nb_wrong++;
			break;
		}
		fill(table, flow, id, 0);
		flow->port[FLOW_SNAT] = id + GROW_IDS * worker;
		struct flow *inserted = insert_hashed(table, worker, flow, TCP_ESTABLISHED);
		if (inserted == flow) {
			won[id] = flow;
			grower->nb_won++;
		} else {
			grower->nb_lost += inserted != NULL;
			grower->nb_wrong += inserted == NULL || inserted->end[0] != id;
			flow_table_give_back(table, worker, flow);
		}
		uint32_t old = GROW_STABLE + packets_random(&seed) % (id - GROW_STABLE + 1);
		if (won[old] != NULL && old % 2 == 1 && old + 200 < id) {
			grower->nb_wrong += !is_there(table, old);
			grower->nb_wrong += !remove_hashed(table, worker, won[old]);
			uint32_t entry = find(table, old, FLOW_FROM_CLIENT); // the other's, if any
			grower->nb_wrong += entry != FLOW_NOT_FOUND &&
				flow_entry_flow(table, entry) == won[old];
			won[old] = NULL;
		}
		grower->nb_wrong += !is_there(table, packets_random(&seed) % GROW_STABLE);
		grower->nb_wrong += won[id] != NULL && !is_there(table, id);
		if (packets_random(&seed) % 8 != 0)
			continue;
		grow_tick(grower);
		for (uint32_t stable = 0; stable < GROW_STABLE; stable++)
			grower->nb_wrong += !is_there(table, stable);
	}
	while (grow_tick(grower))
		;
	tsan_release(grower->rcu);
	rte_rcu_qsbr_thread_offline(grower->rcu, worker);
	rte_rcu_qsbr_thread_unregister(grower->rcu, worker);
	free(won);
	return NULL;
}

static void an_index_grows_under_two_workers(void **state)
{
	unsigned nb_lost = 0;

	for (unsigned round = 0; round < GROW_ROUNDS; round++) {
		struct rte_rcu_qsbr *rcu;
		struct flow_table *table =
			table_create(round % 4 == 3 ? AF_INET6 : AF_INET, 8192, 2, &rcu);
		pthread_barrier_t barrier;
		struct grower growers[2] = {{table, rcu, &barrier, 0}, {table, rcu, &barrier, 1}};
		pthread_t threads[2];

		flow_index_use(&table->index, 64);
		pthread_barrier_init(&barrier, NULL, 2);
		for (uint32_t id = 0; id < GROW_STABLE; id++)
			insert(table, 0, id, 0, TCP_ESTABLISHED);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, grow, &growers[i]), 0);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(growers[0].nb_wrong + growers[1].nb_wrong, 0);
		assert_true(growers[0].nb_won + growers[1].nb_won >= GROW_IDS - GROW_STABLE);
		assert_in_range(
			flow_index_span(&table->index).settled, 512, table->index.nb_buckets);
		nb_lost += growers[0].nb_lost + growers[1].nb_lost;
		check_index(table);
		pthread_barrier_destroy(&barrier);
		table_destroy(table, rcu);
	}
	print_message("%u flows inserted by the other worker first\n", nb_lost);
	assert_true(nb_lost > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(model4),
		cmocka_unit_test(model6),
		cmocka_unit_test(none_refused_up_to_nine_tenths_then_all),
		cmocka_unit_test(records_kept_by_other_workers_are_beyond_the_limit),
		cmocka_unit_test(records_rest_until_all_readers_moved_on),
		cmocka_unit_test(retired_records_have_bounded_room),
		cmocka_unit_test(expires_to_the_second_wherever_the_clock_turns),
		cmocka_unit_test(longest_timeout_and_late_sweeps),
		cmocka_unit_test(another_workers_clock_may_be_ahead),
		cmocka_unit_test(every_worker_sweeps_its_share),
		cmocka_unit_test(closed_give_way_first_then_half_open_oldest_first),
		cmocka_unit_test(the_oldest_of_all_half_open_flows_gives_way_first),
		cmocka_unit_test(a_flood_on_one_worker_gives_way_to_the_others),
		cmocka_unit_test(queues_are_as_plain_lists),
		cmocka_unit_test(grows4),
		cmocka_unit_test(grows6),
		cmocka_unit_test(nothing_moves_before_all_readers_know),
		cmocka_unit_test(replaced_and_detached_flows_move_too),
		cmocka_unit_test(same_keys_on_two_workers_make_one_flow_each),
		cmocka_unit_test(an_index_grows_under_two_workers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
