/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two workers on the same connections, a control core that swaps service tables, and expiry, all at
 * once. Made for ThreadSanitizer (a build with -Db_sanitize=thread): WEIR_RACE_SECONDS says how
 * long, 2 by default. rig.c checks each packet.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <rte_rcu_qsbr.h>
#include <stdlib.h>
#include <time.h>

#include "clock.h"
#include "flow_moves.h"
#include "rig.h"
#include "tsan.h"

enum { CONNECTIONS = 400 };

struct race {
	struct rig *rig;
	struct connection connections[CONNECTIONS]; // the client's side; read-only
	uint64_t tuples[CONNECTIONS]; // atomic: what the SYN was last forwarded to, 0 = nothing yet
	struct flow_moves *moves;
	bool stop;
};

struct worker {
	struct race *race;
	unsigned number;
	uint64_t nb_forwarded;
};

/* SNAT address and port, backend. */
static uint64_t pack(const struct rig *rig, const struct segment *segment)
{
	for (unsigned n = 0; n < rig->options.nb_snats; n++)
		for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++) {
			struct net_addr snat = rig_snat_addr(segment->src.family, n);
			struct net_addr backend = rig_backend_addr(rig, id);
			if (net_addr_equal(&snat, &segment->src) &&
				net_addr_equal(&backend, &segment->dst) &&
				rig_backend_port(rig, id) == segment->dport)
				return 1 | n << 1 | id << 8 | (uint64_t)segment->sport << 16;
		}
	return 0;
}

static bool unpack(struct rig *rig, uint64_t tuple, struct connection *connection)
{
	if (tuple == 0)
		return false;
	connection->backend_id = tuple >> 8 & 0xff;
	connection->backend = rig_backend_addr(rig, connection->backend_id);
	connection->backend_port = rig_backend_port(rig, connection->backend_id);
	connection->snat = rig_snat_addr(connection->family, tuple >> 1 & 7);
	connection->snat_port = tuple >> 16;
	return true;
}

static void run_burst(struct worker *worker, uint64_t *seed, uint8_t bytes[][PACKETS_SIZE_MAX])
{
	static const uint8_t flags[] = {TCP_SYN, TCP_SYN, TCP_SYN, TCP_SYN | TCP_ACK,
		TCP_SYN | TCP_ACK, TCP_ACK, TCP_ACK, TCP_ACK, TCP_ACK, TCP_ACK, TCP_ACK,
		TCP_FIN | TCP_ACK, TCP_FIN | TCP_ACK, TCP_RST, TCP_PSH | TCP_ACK,
		TCP_RST | TCP_ACK};
	struct race *race = worker->race;
	struct rig_frame frames[PIPELINE_BURST];
	unsigned of[PIPELINE_BURST], count = 1 + packets_random(seed) % PIPELINE_BURST;

	for (unsigned i = 0; i < count; i++) {
		uint64_t random = packets_random(seed);
		of[i] = random % CONNECTIONS;
		struct connection connection = race->connections[of[i]];
		uint8_t flag = flags[random >> 16 & 15];
		bool back =
			unpack(race->rig, __atomic_load_n(&race->tuples[of[i]], __ATOMIC_RELAXED),
				&connection) &&
			(flag == (TCP_SYN | TCP_ACK) || flag == (TCP_RST | TCP_ACK) ||
				random >> 20 & 1);
		connection.mac.bytes[4] ^= random >> 21 & 1; // moves about
		if (flag != TCP_SYN)
			connection.seq[CLIENT]++;
		struct segment segment = connection_segment(&connection, back, flag);
		// A SYN seldom has data, so that refusals acknowledge it.
		segment.payload_size = flag == TCP_SYN && random >> 30 & 3 ? 0 : random >> 24 & 63;
		frames[i] = (struct rig_frame){bytes[i], packets_build(&segment, bytes[i])};
	}
	rig_run(race->rig, worker->number, frames, count);
	for (unsigned i = 0; i < count; i++) {
		const struct rig_packet *out = &race->rig->workers[worker->number].out[i];
		bool is_moved =
			out->fate == RIG_ANSWERED && out->is_tcp && out->segment.flags == TCP_SYN;
		if ((out->fate != RIG_FORWARDED && !is_moved) || !out->is_tcp)
			continue;
		worker->nb_forwarded++;
		if (out->segment.sport != RIG_VIP_PORT)
			__atomic_store_n(&race->tuples[of[i]], pack(race->rig, &out->segment),
				__ATOMIC_RELAXED);
	}
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct rig *rig = worker->race->rig;
	uint8_t(*bytes)[PACKETS_SIZE_MAX] = calloc(PIPELINE_BURST, sizeof(*bytes));
	uint64_t seed = 1 + worker->number;

	rte_rcu_qsbr_thread_register(rig->rcu, worker->number);
	rte_rcu_qsbr_thread_online(rig->rcu, worker->number);
	while (!__atomic_load_n(&worker->race->stop, __ATOMIC_RELAXED)) {
		run_burst(worker, &seed, bytes);
		rig_tick(rig, worker->number, __atomic_load_n(&rig->now_ms, __ATOMIC_RELAXED), 512);
		stats_publish(rig->workers[worker->number].stats);
		tsan_release(rig->rcu);
		rte_rcu_qsbr_quiescent(rig->rcu, worker->number);
		if (packets_random(&seed) % 512 == 0) { // asleep for a moment
			rte_rcu_qsbr_thread_offline(rig->rcu, worker->number);
			nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
			rte_rcu_qsbr_thread_online(rig->rcu, worker->number);
		}
	}
	tsan_release(rig->rcu);
	rte_rcu_qsbr_thread_offline(rig->rcu, worker->number);
	free(bytes);
	return NULL;
}

/* Clients have other MACs, some of which they send from, too. */
static void move_clients(struct race *race)
{
	if (!flow_moves_are_done(race->moves))
		return;
	for (unsigned n = 0; n < CONNECTIONS; n++) {
		struct net_mac from = race->connections[n].mac, to = from;
		from.bytes[4] ^= race->moves->round & 1;
		to.bytes[4] ^= ~race->moves->round & 1;
		race->moves->rows[n] = (struct flow_move){
			.from = flow_mac_word(&from),
			.to = flow_mac_word(&to),
			.client = race->connections[n].client,
		};
		if (n & 2) // of all at that MAC
			memset(race->moves->rows[n].client.v6, 0,
				sizeof(race->moves->rows[n].client.v6));
	}
	flow_moves_begin(race->moves, CONNECTIONS);
}

/* Backends come and go, time goes by fast: 100 times as fast, so that flows expire. */
static unsigned control(struct race *race, unsigned seconds)
{
	struct rig *rig = race->rig;
	uint64_t start_ms = clock_ms(), virtual_ms = rig->now_ms, seed = 99;
	unsigned nb_swaps = 0;

	while (clock_ms() - start_ms < seconds * 1000) {
		unsigned id = packets_random(&seed) % (2 * rig->options.nb_backends);
		rig->is_up[id] = packets_random(&seed) % 4 != 0;
		rig->is_resolved[id] = packets_random(&seed) % 8 != 0;
		move_clients(race);
		struct service_table *old = (struct service_table *)rig_publish(rig);
		uint64_t token = rte_rcu_qsbr_start(rig->rcu);
		do {
			__atomic_store_n(&rig->now_ms, virtual_ms + (clock_ms() - start_ms) * 100,
				__ATOMIC_RELAXED);
			nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
		} while (rte_rcu_qsbr_check(rig->rcu, token, false) != 1);
		tsan_acquire(rig->rcu);
		service_table_destroy(old);
		nb_swaps++;
		for (unsigned worker = 0; worker < 2; worker++) {
			struct stats_counters copy;
			stats_read(rig->workers[worker].stats, &copy);
			assert_int_equal(copy.received,
				copy.forwarded + copy.answered + copy.punted +
					stats_dropped(&copy)); // I1, as a reader sees it
		}
	}
	return nb_swaps;
}

static void race_with(const struct scheduler_ops *scheduler, uint32_t max_conns)
{
	const char *text = getenv("WEIR_RACE_SECONDS");
	unsigned seconds = text != NULL ? atoi(text) : 2;
	struct race *race = calloc(1, sizeof(*race));
	// Fewer ports and records than connections: they run out, too.
	struct rig *rig = race->rig = rig_create(&(struct rig_options){.nb_workers = 2,
		.flows = 160,
		.nb_ports = 12,
		.nb_snats = 2,
		.nb_backends = 6,
		.scheduler = scheduler,
		.connect = {.timeout_ms = 250, .retry_percent = 20, .tries = 3}});
	struct worker workers[] = {{race, 0}, {race, 1}};
	pthread_t threads[2];

	race->moves = flow_moves_create(2);
	for (unsigned worker = 0; worker < 2; worker++)
		rig->workers[worker].pipeline.moves = race->moves;
	for (unsigned n = 0; n < CONNECTIONS; n++)
		race->connections[n] = connection_of(rig, n & 1 ? AF_INET6 : AF_INET, n);
	for (unsigned id = 0; id < 12; id++)
		rig->max_conns[id] = max_conns;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	unsigned nb_swaps = control(race, seconds);
	__atomic_store_n(&race->stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);

	// When all has expired nothing is left and nothing was counted twice.
	for (unsigned i = 0; i < 4000; i++) {
		rig->now_ms += 2500;
		for (unsigned worker = 0; worker < 2; worker++)
			rig_tick(rig, worker, rig->now_ms, UINT32_MAX);
	}
	assert_int_equal(flow_table_used(rig->flows4) + flow_table_used(rig->flows6), 0);
	assert_int_equal(rig_ports_used(rig), 0);
	for (unsigned id = 0; id < 12; id++)
		assert_int_equal(
			rig->workers[0].backends[id].opened + rig->workers[1].backends[id].opened,
			rig->workers[0].backends[id].closed + rig->workers[1].backends[id].closed);
	struct stats_flows sum = {0};
	for (unsigned i = 0; i < 4; i++) {
		const struct stats_flows *flows = &rig->workers[i / 2].stats->live.flows[i % 2];
		sum.created += flows->created;
		sum.expired += flows->expired;
		sum.evicted += flows->evicted;
		for (unsigned why = 0; why < STATS_GAVE_WAYS_COUNT; why++)
			sum.gave_way[why] += flows->gave_way[why];
		sum.moved += flows->moved;
		sum.given_up += flows->given_up;
		sum.refused_flows_full += flows->refused_flows_full;
		sum.refused_snat_full += flows->refused_snat_full;
		sum.refused_no_backend += flows->refused_no_backend;
	}
	print_message(
		"%u swaps; %lu packets forwarded; flows: %lu created, %lu expired, %lu evicted, "
		"%lu moved, %lu given up; gave way: %lu records, %lu ports, %lu places; "
		"refused: %lu table, %lu ports, %lu backends\n",
		nb_swaps, workers[0].nb_forwarded + workers[1].nb_forwarded, sum.created,
		sum.expired, sum.evicted, sum.moved, sum.given_up,
		sum.gave_way[STATS_GAVE_WAY_RECORD], sum.gave_way[STATS_GAVE_WAY_PORT],
		sum.gave_way[STATS_GAVE_WAY_PLACE], sum.refused_flows_full, sum.refused_snat_full,
		sum.refused_no_backend);
	for (unsigned i = 0; i < 2; i++) {
		const struct flow_sides *sides = i == 0 ? rig->flows4->sides : rig->flows6->sides;
		for (uint32_t n = 0; n < sides->count; n++)
			assert_int_equal(sides->records[n].owner, 0);
	}
	assert_true(sum.created > 100 && sum.evicted > 10 && sum.moved > 10);
	assert_true(sum.gave_way[max_conns != 0 ? STATS_GAVE_WAY_PLACE : STATS_GAVE_WAY_PORT] != 0);
	assert_true(race->moves->round > 10);
	rig_destroy(rig);
	flow_moves_destroy(race->moves);
	free(race);
}

static void two_workers_on_the_same_connections(void **state)
{
	race_with(&scheduler_maglev, 0);
}

static void two_workers_count_for_each_other(void **state)
{
	race_with(&scheduler_least_conn, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_workers_on_the_same_connections),
		cmocka_unit_test(two_workers_count_for_each_other),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
