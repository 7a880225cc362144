/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A process dies in the middle of an insert, a removal, a change of state, or of one flow's taking
 * another's place or client's tuple, at every point of each; its successor adopts what is left. The
 * records are shared memory, as in the table's file, and everything goes on from what the last
 * death left, while a model in shared memory too says what there must be: what was finished is
 * there, what was under way is there whole or not at all.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_byteorder.h>
#include <rte_rcu_qsbr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned points_left; // until this process ends

static void kill_point(void)
{
	if (points_left != 0 && --points_left == 0)
		_exit(0);
}

#define FLOW_KILL_POINT() kill_point()
// NOLINTBEGIN(bugprone-suspicious-include): compiled anew, with the kill points
#include "../../../lib/flow/flow_index.c"
#include "../../../lib/flow/flow_table.c"
// NOLINTEND(bugprone-suspicious-include)

#include "flow_adopt.h"
#include "snat.h"

#define RECORDS 64
#define CLIENTS 40 // that come and go
#define PORTS 60
#define OPS 12 // of a life
#define TRIALS 4000
#define BACKEND 0x0a010101
#define SNAT 0xc0000202

static const struct hash_key hash_key = {{5, 6, 7, 8}};
static const uint64_t port_key[2] = {9, 10};
static const struct snat_range range = {2000, 2000 + PORTS - 1};
static const uint16_t timeouts[TCP_STATES] = {240, 240, 240, 240, 240, 240, 240, 240, 240, 240};

/* What there must be of something that may be under way. */
enum fact { NOT, MAYBE, SURELY };

/* Survives the processes. */
struct shared {
	struct flow4 records[RECORDS];
	struct {
		enum tcp_state before; // TCP_NONE = no such flow
		enum tcp_state after;  // differs while something is under way
		uint16_t port;
		uint16_t port_after;
		bool moves;  // a record takes the place of another: for a moment there is none
		bool leaves; // the client's tuple, and stays by the backend's
	} model[CLIENTS];
	enum fact detached[PORTS]; // flows that are found by the backend's tuple only
};

struct life {
	struct shared *shared;
	struct rte_rcu_qsbr *rcu;
	struct flow_table *table;
	struct snat *snat;
	struct snat_pool *pool;
	struct flow_adopt_result result;
};

static const uint16_t *resolve(void *context, struct flow *flow)
{
	return timeouts;
}

static void adopted(void *context, struct flow *flow, enum tcp_state state)
{
	struct life *life = context;
	uint16_t port = rte_be_to_cpu_16(flow->port[FLOW_SNAT]);

	// Two flows with one port: the second can't be taken.
	assert_true(snat_pool_take(life->pool, port));
	if (tcp_state_closed(state))
		snat_pool_put(life->pool, port);
}

static void life_begin(struct life *life, struct shared *shared)
{
	life->shared = shared;
	assert_int_equal(posix_memalign((void **)&life->rcu, 64, rte_rcu_qsbr_get_memsize(1)), 0);
	rte_rcu_qsbr_init(life->rcu, 1);
	life->table = flow_table_create_over(
		shared->records, AF_INET, RECORDS, 1, &hash_key, life->rcu, -1, false);
	life->snat = snat_create(&range, 1, port_key, NULL);
	life->pool = snat_pool_create(life->snat, 0);
	assert_non_null(life->table);
	assert_non_null(life->pool);
	flow_table_adopt(life->table,
		&(struct flow_adopt_source){
			.found = RECORDS,
			.now_s = 100,
			.alive_s = 100,
			.resolve = resolve,
			.adopted = adopted,
			.context = life,
		},
		&life->result);
}

static void life_end(struct life *life)
{
	snat_pool_destroy(life->pool);
	snat_destroy(life->snat);
	flow_table_destroy(life->table);
	free(life->rcu);
}

static void fill_client(struct flow *flow, unsigned client)
{
	struct flow4 *record = flow4_of(flow);

	record->addr[FLOW_CLIENT] = rte_cpu_to_be_32(0x0a000001 + client);
	record->addr[FLOW_VIP] = rte_cpu_to_be_32(0xc0000201);
	flow->port[FLOW_CLIENT] = rte_cpu_to_be_16(40000);
	flow->port[FLOW_VIP] = rte_cpu_to_be_16(80);
}

static struct flow *find(const struct life *life, unsigned client)
{
	struct flow4 wanted = {0};
	struct flow_hashes hashes;
	uint32_t ports;

	fill_client(&wanted.flow, client);
	flow_table_hashes(life->table, &wanted.flow, &hashes);
	memcpy(&ports, &wanted.flow.port[FLOW_CLIENT], sizeof(ports));
	uint32_t entry = flow_table_find(
		life->table, hashes.of[FLOW_FROM_CLIENT], &wanted.addr[FLOW_CLIENT], ports);
	return entry == FLOW_NOT_FOUND ? NULL : flow_entry_flow(life->table, entry);
}

static struct flow *find_by_port(const struct life *life, uint16_t port);

/* As the packet path does all of these. */

/* A flow that is closed makes way. */
static void forget(struct life *life, struct flow *flow)
{
	struct shared *shared = life->shared;
	unsigned client = rte_be_to_cpu_32(flow4_of(flow)->addr[FLOW_CLIENT]) - 0x0a000001;
	unsigned port = rte_be_to_cpu_16(flow->port[FLOW_SNAT]) - range.first;
	struct flow_hashes hashes;

	assert_true(tcp_state_closed(flow_state(flow)));
	flow_table_hashes(life->table, flow, &hashes);
	if (flow->flags & FLOW_DETACHED) {
		shared->detached[port] = MAYBE;
		flow_table_remove(life->table, 0, flow, &hashes);
		shared->detached[port] = NOT;
	} else {
		shared->model[client].after = TCP_NONE;
		flow_table_remove(life->table, 0, flow, &hashes);
		shared->model[client].before = TCP_NONE;
	}
}

/* Fill in a record, with a port of its own. */
static void fill(struct life *life, unsigned client, struct flow *flow, struct flow_hashes *hashes)
{
	kill_point();
	uint16_t port = snat_pool_get(life->pool, 0);
	assert_int_not_equal(port, SNAT_NO_PORT);
	kill_point();
	memset(flow, 0, offsetof(struct flow, last_seen));
	kill_point();
	flow->last_seen = 100;
	flow->flags = 0;
	fill_client(flow, client);
	kill_point();
	flow4_of(flow)->addr[FLOW_BACKEND] = rte_cpu_to_be_32(BACKEND);
	flow4_of(flow)->addr[FLOW_SNAT] = rte_cpu_to_be_32(SNAT);
	flow->port[FLOW_BACKEND] = rte_cpu_to_be_16(8080);
	flow->port[FLOW_SNAT] = rte_cpu_to_be_16(port);
	kill_point();
	flow_table_hashes(life->table, flow, hashes);
	struct flow *closed = find_by_port(life, port);
	if (closed != NULL)
		forget(life, closed);
	life->shared->model[client].port_after = port;
}

static void come(struct life *life, unsigned client)
{
	struct shared *shared = life->shared;
	struct flow *flow = flow_table_alloc(life->table, 0);
	struct flow_hashes hashes;

	if (flow == NULL) {
		struct flow *closed;
		if (flow_table_closed(life->table, 0, &closed, 1) == 1)
			forget(life, closed);
		return; // freed records wait for their grace period
	}
	fill(life, client, flow, &hashes);
	shared->model[client].after = TCP_SYN_RECV;
	assert_ptr_equal(flow_table_insert(life->table, 0, flow, &hashes, TCP_SYN_RECV), flow);
	shared->model[client].port = shared->model[client].port_after;
	shared->model[client].before = TCP_SYN_RECV;
}

/* To another backend. (Weir does it in SYN_SENT, of which adoption would take in nothing.) */
static void move_on(struct life *life, unsigned client, struct flow *old)
{
	struct shared *shared = life->shared;
	struct flow *flow = flow_table_alloc_spare(life->table, 0);
	struct flow_hashes hashes;
	uint16_t port = shared->model[client].port;

	if (flow == NULL)
		return;
	fill(life, client, flow, &hashes);
	shared->model[client].moves = true;
	assert_true(flow_table_replace(life->table, 0, old, flow, &hashes, TCP_SYN_RECV));
	shared->model[client].port = shared->model[client].port_after;
	shared->model[client].moves = false;
	kill_point();
	snat_pool_put(life->pool, port);
	kill_point();
}

/* A closed flow whose tuple the backend still has leaves the client's to the next one. */
static void leave_tuple(struct life *life, unsigned client, struct flow *flow)
{
	struct shared *shared = life->shared;
	unsigned port = shared->model[client].port - range.first;

	shared->model[client].leaves = true;
	shared->model[client].after = TCP_NONE;
	shared->detached[port] = MAYBE;
	kill_point();
	flow->flags |= FLOW_DETACHED;
	kill_point();
	flow_table_detach(life->table, flow);
	shared->detached[port] = SURELY;
	shared->model[client].before = TCP_NONE;
	shared->model[client].leaves = false;
	kill_point();
}

static void change(struct life *life, unsigned client, struct flow *flow, enum tcp_state to)
{
	struct shared *shared = life->shared;
	enum tcp_state from = flow_state(flow);

	shared->model[client].after = to;
	assert_true(flow_table_set_status(life->table, 0, flow, from, to));
	shared->model[client].before = to;
	kill_point();
	if (tcp_state_closed(to) && !tcp_state_closed(from))
		snat_pool_put(life->pool, shared->model[client].port);
	kill_point();
}

static void go(struct life *life, unsigned client, struct flow *flow)
{
	struct shared *shared = life->shared;
	struct flow_hashes hashes;

	shared->model[client].after = TCP_NONE;
	flow_table_hashes(life->table, flow, &hashes);
	enum tcp_state state = flow_table_remove(life->table, 0, flow, &hashes);
	shared->model[client].before = TCP_NONE;
	kill_point();
	if (!tcp_state_closed(state))
		snat_pool_put(life->pool, shared->model[client].port);
	kill_point();
}

static void live(struct life *life, unsigned *seed)
{
	static const enum tcp_state next[] = {
		TCP_ESTABLISHED, TCP_FIN_WAIT, TCP_TIME_WAIT, TCP_CLOSE};

	for (unsigned op = 0; op < OPS; op++) {
		unsigned client = rand_r(seed) % CLIENTS, choice = rand_r(seed) % 4;
		struct flow *flow = find(life, client);
		if (flow == NULL)
			come(life, client);
		else if (choice == 0)
			go(life, client, flow);
		else if (flow_state(flow) == TCP_SYN_RECV && choice == 1)
			move_on(life, client, flow);
		else if (tcp_state_closed(flow_state(flow)) && choice == 1)
			leave_tuple(life, client, flow);
		else if (next[choice] != flow_state(flow) && !tcp_state_closed(flow_state(flow)))
			change(life, client, flow, next[choice]);
		else
			go(life, client, flow);
		flow_table_reclaim(life->table, 0, op);
	}
}

/* --- what the successor has --- */

static struct flow *find_by_port(const struct life *life, uint16_t port)
{
	struct flow4 wanted = {.addr = {[FLOW_BACKEND] = rte_cpu_to_be_32(BACKEND),
				       [FLOW_SNAT] = rte_cpu_to_be_32(SNAT)}};
	struct flow_hashes hashes;
	uint32_t ports;

	wanted.flow.port[FLOW_BACKEND] = rte_cpu_to_be_16(8080);
	wanted.flow.port[FLOW_SNAT] = rte_cpu_to_be_16(port);
	flow_table_hashes(life->table, &wanted.flow, &hashes);
	memcpy(&ports, &wanted.flow.port[FLOW_BACKEND], sizeof(ports));
	uint32_t entry = flow_table_find(
		life->table, hashes.of[FLOW_FROM_BACKEND], &wanted.addr[FLOW_BACKEND], ports);
	return entry == FLOW_NOT_FOUND ? NULL : flow_entry_flow(life->table, entry);
}

static bool is_detached(const struct life *life, uint16_t port)
{
	const struct flow *flow = find_by_port(life, port);

	return flow != NULL && flow->flags & FLOW_DETACHED;
}

/* What was under way happened or didn't: the model says from here on what is there. */
static void compare_client(struct life *life, unsigned client, const struct flow *flow)
{
	struct shared *shared = life->shared;
	enum tcp_state state = flow == NULL ? TCP_NONE : flow_state(flow);
	enum tcp_state before = shared->model[client].before;
	enum tcp_state after = shared->model[client].after;
	bool moves = shared->model[client].moves;

	if (state != before && state != after && !(moves && state == TCP_NONE))
		fail_msg("client %u: state %u, not %u or %u", client, state, before, after);
	if (shared->model[client].leaves)
		assert_true((flow == NULL) == is_detached(life, shared->model[client].port));
	if (flow != NULL) {
		uint16_t port = rte_be_to_cpu_16(flow->port[FLOW_SNAT]);
		if (before == TCP_NONE || (moves && port != shared->model[client].port))
			shared->model[client].port = shared->model[client].port_after;
		assert_int_equal(port, shared->model[client].port);
		assert_ptr_equal(find_by_port(life, port), flow);
	}
	shared->model[client].before = shared->model[client].after = state;
	shared->model[client].moves = shared->model[client].leaves = false;
}

static void compare(struct life *life)
{
	struct shared *shared = life->shared;
	unsigned nb_flows = 0, nb_open = 0, nb_detached = 0;

	for (unsigned client = 0; client < CLIENTS; client++) {
		struct flow *flow = find(life, client);
		compare_client(life, client, flow);
		nb_flows += flow != NULL;
		nb_open += flow != NULL && !tcp_state_closed(flow_state(flow));
	}
	for (unsigned p = 0; p < PORTS; p++) {
		bool detached = is_detached(life, range.first + p);
		assert_true(shared->detached[p] == MAYBE ||
			detached == (shared->detached[p] == SURELY));
		shared->detached[p] = detached ? SURELY : NOT;
		nb_detached += detached;
	}
	assert_int_equal(life->result.adopted, nb_flows + nb_detached);
	assert_int_equal(flow_table_used(life->table), nb_flows + nb_detached);
	assert_int_equal(life->result.dropped[FLOW_ADOPT_DUPLICATE], 0);
	assert_int_equal(life->result.dropped[FLOW_ADOPT_DAMAGED], 0);
	assert_int_equal(snat_pool_used(life->pool), nb_open);
}

/* No port is lost, none is lent twice. */
static void lend_all(struct life *life)
{
	bool lent[PORTS] = {false};
	uint16_t port;

	for (unsigned client = 0; client < CLIENTS; client++) {
		struct flow *flow = find(life, client);
		if (flow != NULL && !tcp_state_closed(flow_state(flow)))
			lent[rte_be_to_cpu_16(flow->port[FLOW_SNAT]) - range.first] = true;
	}
	while ((port = snat_pool_get(life->pool, 0)) != SNAT_NO_PORT) {
		assert_false(lent[port - range.first]);
		lent[port - range.first] = true;
	}
	for (unsigned i = 0; i < PORTS; i++)
		assert_true(lent[i]);
}

static void killed_at_any_point_the_successor_has_all(void **state)
{
	struct shared *shared = mmap(
		NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned nb_killed = 0;

	assert_true(shared != MAP_FAILED);
	for (unsigned trial = 0; trial < TRIALS; trial++) {
		// One life after the other, each ended a point later than the one before.
		unsigned points = 1 + trial % 150;
		pid_t pid = fork();
		if (pid == 0) {
			struct life life;
			unsigned seed = trial;
			life_begin(&life, shared);
			points_left = points;
			live(&life, &seed);
			_exit(1);
		}
		int status = 0;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
		nb_killed += WEXITSTATUS(status) == 0;
		struct life life;
		life_begin(&life, shared);
		compare(&life);
		lend_all(&life);
		life_end(&life);
	}
	print_message("%u of %u lives were cut short\n", nb_killed, TRIALS);
	assert_true(nb_killed > TRIALS / 4);
	munmap(shared, sizeof(*shared));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(killed_at_any_point_the_successor_has_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
