/* SPDX-License-Identifier: BSD-3-Clause */
/* What happens when ports, records or time run out. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_rcu_qsbr.h>
#include <stdlib.h>

#include "rig.h"

static struct stats_flows *counters(struct rig *rig, sa_family_t family)
{
	return &rig->workers[0].stats->live.flows[stats_family(family)];
}

/* FIN from the client, FIN from the backend, the last ACK. */
static void close_connection(struct connection *c)
{
	connection_send(c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
	connection_send(c, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
	connection_send(c, 0, CLIENT, TCP_ACK, 0);
	assert_int_equal(connection_state(c), TCP_TIME_WAIT);
}

static void snat_ports_run_out_exactly(void **state) // C4
{
	FOR_EACH_FAMILY(family)
		for (unsigned nb_snats = 1; nb_snats <= 2; nb_snats++) {
			struct rig *rig = rig_create(&(struct rig_options){
				.nb_backends = 1, .nb_ports = 64, .nb_snats = nb_snats});
			struct connection c[138];
			unsigned nb_ports = 64 * nb_snats;

			for (unsigned n = 0; n < nb_ports; n++) {
				c[n] = connection_of(rig, family, n);
				assert_true(connection_open(&c[n], 0));
				for (unsigned k = 0; k < n; k++)
					assert_false(c[k].snat_port == c[n].snat_port &&
						net_addr_equal(&c[k].snat, &c[n].snat));
			}
			for (unsigned n = nb_ports; n < nb_ports + 10; n++) {
				c[n] = connection_of(rig, family, n);
				struct segment segment = connection_segment(&c[n], CLIENT, TCP_SYN);
				const struct rig_packet *out = rig_run_segment(rig, 0, &segment);
				assert_int_equal(out->fate, RIG_ANSWERED);
				assert_int_equal(out->segment.flags, TCP_RST | TCP_ACK);
			}
			assert_int_equal(counters(rig, family)->refused_snat_full, 10);
			assert_int_equal(rig->workers[0].backends[family == AF_INET6].no_port, 10);
			assert_int_equal(rig->workers[0].backends[family != AF_INET6].no_port, 0);
			assert_int_equal(rig_ports_used(rig), nb_ports);
			assert_int_equal(flow_table_used(rig_flows(rig, family)), nb_ports);

			// One closes, one more comes, at once, and by its tuple.
			close_connection(&c[7]);
			assert_int_equal(rig_ports_used(rig), nb_ports - 1);
			assert_true(connection_open(&c[nb_ports], 0));
			assert_int_equal(c[nb_ports].snat_port, c[7].snat_port);
			assert_int_equal(connection_state(&c[7]), TCP_NONE);
			assert_false(connection_syn(&c[nb_ports + 1], 0));
			assert_int_equal(counters(rig, family)->evicted, 1);
			// What the old client sends late is no business of the new one.
			rig_wait(rig, 1000, 1000);
			struct segment late = connection_segment(&c[7], CLIENT, TCP_ACK);
			assert_int_equal(rig_run_segment(rig, 0, &late)->fate, RIG_ANSWERED);
			rig_destroy(rig);
		}
}

static void opening_and_closing_leaks_nothing(void **state) // C4
{
	enum { CYCLES = 1000000 };
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 64});
	uint64_t seed = 44;

	for (unsigned n = 0; n < CYCLES; n++) {
		struct connection c = connection_of(rig, n & 1 ? AF_INET6 : AF_INET, n % 60000);
		assert_true(connection_open(&c, 0));
		if (n % 3 == 0)
			connection_send(&c, 0, n / 3 & 1, TCP_RST, 0);
		else
			close_connection(&c);
		if (n % 16 == 0)
			rig_wait(rig, 1 + packets_random(&seed) % 40, 1);
	}
	assert_int_equal(rig_ports_used(rig), 0);
	rig_wait(rig, 70000, 100);
	assert_int_equal(flow_table_used(rig->flows4) + flow_table_used(rig->flows6), 0);
	assert_int_equal(rig_ports_used(rig), 0);
	for (unsigned id = 0; id < 2; id++)
		assert_int_equal(
			rig->workers[0].backends[id].opened, rig->workers[0].backends[id].closed);
	for (unsigned n = 0; n < 64; n++) { // all 64 are there
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_open(&c, 0));
	}
	struct connection c = connection_of(rig, AF_INET, 64);
	assert_false(connection_syn(&c, 0));
	rig_destroy(rig);
}

/* A flow that closed, was given up for its port or expired gives the port back once. */
static void a_port_comes_back_once(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 4});
	struct connection c[5];

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned n = 0; n < 4; n++) {
			c[n] = connection_of(rig, AF_INET, n);
			assert_true(connection_open(&c[n], 0));
		}
		close_connection(&c[0]);                        // time out
		connection_send(&c[1], 0, BACKEND, TCP_RST, 0); // reopen
		c[1].seq[CLIENT] += 1000000;
		assert_true(connection_open(&c[1], 0));
		connection_send(&c[2], 0, CLIENT, TCP_FIN | TCP_ACK, 0); // and closed by RST
		connection_send(&c[2], 0, BACKEND, TCP_RST, 0);
		assert_int_equal(rig_ports_used(rig), 2);
		c[4] = connection_of(rig, AF_INET, 100 + round);
		assert_true(connection_open(&c[4], 0));
		assert_int_equal(rig_ports_used(rig), 3);
		rig_wait(rig, 65000, 1000);
		assert_int_equal(rig_ports_used(rig), 3);
		rig_wait(rig, 7450000, 1000);
		assert_int_equal(flow_table_used(rig->flows4), 0);
		assert_int_equal(rig_ports_used(rig), 0);
	}
	rig_destroy(rig);
}

static void established_flows_never_give_way(void **state) // C2
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig =
			rig_create(&(struct rig_options){.flows = 1024, .nb_ports = 2000});
		uint32_t limit = rig_flows(rig, family)->limit, n = 0;
		struct connection *c = calloc(limit + 100, sizeof(*c));

		for (; n < limit; n++) {
			c[n] = connection_of(rig, family, n);
			assert_true(connection_open(&c[n], 0));
		}
		for (unsigned i = 0; i < 100; i++) {
			c[n] = connection_of(rig, family, n + i);
			struct segment segment = connection_segment(&c[n], CLIENT, TCP_SYN);
			const struct rig_packet *out = rig_run_segment(rig, 0, &segment);
			assert_int_equal(out->fate, RIG_ANSWERED);
			assert_int_equal(out->segment.flags, TCP_RST | TCP_ACK);
			rig_wait(rig, 10, 10);
		}
		assert_int_equal(counters(rig, family)->refused_flows_full, 100);
		assert_int_equal(counters(rig, family)->evicted, 0);
		assert_int_equal(flow_table_used(rig_flows(rig, family)), limit);
		for (uint32_t i = 0; i < limit; i++)
			connection_send(&c[i], 0, i & 1, TCP_ACK, 1);
		for (unsigned i = 0; i < 20; i++) { // one closes, one comes
			close_connection(&c[i]);
			assert_true(connection_open(&c[n], 0));
			c[n] = connection_of(rig, family, n + 1 + i);
			assert_false(connection_syn(&c[n], 0));
			rig_wait(rig, 5, 1);
		}
		free(c);
		rig_destroy(rig);
	}
}

/* A budget below what a millisecond asks for is made up for by further ticks, and no more than
 * that. */
static void a_sweep_that_is_behind_catches_up(void **state)
{
	enum { FLOWS = 9000, MS = 400, BUDGET = 1 };
	struct rig *rig = rig_create(&(struct rig_options){.flows = 10000, .nb_ports = 9000});
	unsigned nb_ticks = 0;

	for (unsigned n = 0; n < FLOWS; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
	}
	rig_wait(rig, 3000, 1);
	while (rig_tick(rig, 0, rig->now_ms, UINT32_MAX))
		;
	for (unsigned ms = 0; ms < MS; ms++) {
		rig->now_ms++;
		nb_ticks++;
		while (rig_tick(rig, 0, rig->now_ms, BUDGET))
			assert_in_range(++nb_ticks, 0, 10 * MS);
	}
	// Every record once in 2 s, and one more a millisecond.
	assert_in_range(nb_ticks, FLOWS / 2000 * MS, (FLOWS / 2000 + 2) * MS);
	rig_destroy(rig);
}

static void a_syn_flood_keeps_no_client_out(void **state) // C1, C3
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(
			&(struct rig_options){.flows = 1024, .nb_ports = 2000, .nb_backends = 2});
		uint32_t limit = rig_flows(rig, family)->limit;
		unsigned nb_failed = 0;
		struct connection *kept = calloc(100, sizeof(*kept));

		for (uint32_t n = 0; n < 100; n++) { // established before the flood
			kept[n] = connection_of(rig, family, 50000 + n);
			assert_true(connection_open(&kept[n], 0));
		}
		for (uint32_t n = 0; n < 20000; n++) { // SYNs that nobody completes
			struct connection c = connection_of(rig, family, n);
			nb_failed += !connection_syn(&c, 0);
			if (n % 16 == 0)
				rig_wait(rig, 1, 1);
			// Clients in earnest come in between, and their handshake takes its time.
			if (n % 20 == 10) {
				struct connection client =
					connection_of(rig, family, 40000 + n / 20);
				if (!connection_syn(&client, 0)) {
					nb_failed++;
					continue;
				}
				connection_send(&client, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
				for (uint32_t k = 0; k < 50; k++) {
					struct connection more = connection_of(rig, family, ++n);
					nb_failed += !connection_syn(&more, 0);
				}
				rig_wait(rig, 4, 1);
				connection_send(&client, 0, CLIENT, TCP_ACK, 0);
				assert_int_equal(connection_state(&client), TCP_ESTABLISHED);
				close_connection(&client);
			}
		}
		print_message(
			"%u refused, %lu gave way\n", nb_failed, counters(rig, family)->evicted);
		assert_in_range(nb_failed, 0, 200); // a hundredth
		for (uint32_t n = 0; n < 100; n++)
			connection_send(&kept[n], 0, n & 1, TCP_ACK, 1);
		assert_true(flow_table_used(rig_flows(rig, family)) <= limit);
		free(kept);
		rig_destroy(rig);
	}
}

static void a_stuck_reader_costs_no_flow(void **state) // D13
{
	struct rig *rig = rig_create(&(struct rig_options){.flows = 1024, .nb_ports = 2000});
	uint32_t limit = rig->flows4->limit, n = 0;

	rte_rcu_qsbr_thread_register(rig->rcu, 5);
	rte_rcu_qsbr_thread_online(rig->rcu, 5);
	for (; n < limit; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
	}
	// Each new one ends an old one as long as there are spare records, then none is ended in
	// vain.
	unsigned nb_refused = 0;
	for (unsigned i = 0; i < 1000; i++) {
		struct connection c = connection_of(rig, AF_INET, n + i);
		nb_refused += !connection_syn(&c, 0);
		rig_wait(rig, 5, 5);
	}
	assert_in_range(nb_refused, 1000 - (1024 - limit), 1000);
	assert_in_range(flow_table_used(rig->flows4), limit - 1, limit);
	rte_rcu_qsbr_quiescent(rig->rcu, 5);
	rte_rcu_qsbr_thread_offline(rig->rcu, 5);
	rig_wait(rig, 5, 1);
	for (unsigned i = 0; i < 200; i++) {
		struct connection c = connection_of(rig, AF_INET, 5000 + i);
		assert_true(connection_syn(&c, 0));
		rig_wait(rig, 2, 1);
	}
	rig_destroy(rig);
}

static void sweep_keeps_up_on_a_small_budget(void **state)
{
	enum { FLOWS = 60000 };
	struct rig *rig = rig_create(
		&(struct rig_options){.flows = 65536, .nb_ports = 40000, .nb_backends = 4});
	struct pipeline *pipeline = &rig->workers[0].pipeline;

	for (uint32_t n = 0; n < FLOWS - 2000; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
	}
	rig->now_ms += 240 * 1000;
	// A tick each 10 ms would have to look at 300; it may look at 100, three times a tick.
	for (unsigned i = 0; i < 2100 / 10; i++) {
		rig->now_ms += 10;
		for (unsigned k = 0; k < 4; k++)
			pipeline_tick(pipeline, rig->now_ms, 100);
	}
	assert_int_equal(flow_table_used(rig->flows4), 0);
	// Called once only it says that there is more to do.
	rig->now_ms += 1000;
	assert_true(pipeline_tick(pipeline, rig->now_ms, 100));
	for (unsigned i = 0; i < 1000 && pipeline_tick(pipeline, rig->now_ms, 100); i++)
		assert_true(i < 700); // two seconds, three milliseconds a tick
	rig_destroy(rig);
}

static void random_bursts_add_up(void **state) // I1, I3, I4: rig.c checks
{
	enum { CONNECTIONS = 64, BURSTS = 60000 };
	struct rig *rig =
		rig_create(&(struct rig_options){.flows = 1024, .nb_ports = 40, .nb_snats = 2});
	static uint8_t bytes[PIPELINE_BURST][PACKETS_SIZE_MAX];
	struct connection c[CONNECTIONS];
	struct rig_frame frames[PIPELINE_BURST];
	uint64_t seed = 1;

	for (unsigned n = 0; n < CONNECTIONS; n++)
		c[n] = connection_of(rig, n & 1 ? AF_INET6 : AF_INET, n);
	for (unsigned burst = 0; burst < BURSTS; burst++) {
		unsigned count = 1 + packets_random(&seed) % PIPELINE_BURST;
		unsigned of[PIPELINE_BURST];
		for (unsigned i = 0; i < count; i++) {
			static const uint8_t flags[] = {TCP_SYN, TCP_SYN, TCP_SYN | TCP_ACK,
				TCP_ACK, TCP_ACK, TCP_FIN | TCP_ACK, TCP_RST, TCP_ACK | TCP_PSH};
			uint64_t random = packets_random(&seed);
			of[i] = random % CONNECTIONS;
			struct connection *one = &c[of[i]];
			bool back = random >> 8 & 1 && one->snat_port != 0;
			struct segment segment =
				connection_segment(one, back, flags[random >> 12 & 7]);
			segment.payload_size = random >> 16 & 31;
			segment.ttl = (random >> 24 & 63) + 1;
			segment.seq += random >> 30 & 1 ? 0 : random >> 32;
			frames[i] = (struct rig_frame){bytes[i], packets_build(&segment, bytes[i])};
			if ((random >> 40 & 31) == 0)
				bytes[i][packets_random(&seed) % frames[i].size] ^= random >> 48;
			if ((random >> 45 & 63) == 0)
				frames[i].size = packets_random(&seed) % frames[i].size;
		}
		rig_run(rig, 0, frames, count);
		for (unsigned i = 0; i < count; i++) { // learn the tuples that SYNs got
			const struct rig_packet *out = &rig->workers[0].out[i];
			if (out->fate != RIG_FORWARDED || !out->is_tcp ||
				out->segment.sport == RIG_VIP_PORT)
				continue;
			c[of[i]].snat = out->segment.src;
			c[of[i]].snat_port = out->segment.sport;
			c[of[i]].backend = out->segment.dst;
			c[of[i]].backend_port = out->segment.dport;
		}
		if (burst % 16 == 0)
			rig_wait(rig, packets_random(&seed) % 300, 7);
		if (burst % 256 == 0) {
			unsigned id = packets_random(&seed) % 8;
			rig_set_backend(
				rig, id, packets_random(&seed) & 1, packets_random(&seed) % 8 != 0);
		}
	}
	rig_wait(rig, 7450 * 1000, 500);
	assert_int_equal(flow_table_used(rig->flows4) + flow_table_used(rig->flows6), 0);
	assert_int_equal(rig_ports_used(rig), 0);
	for (unsigned id = 0; id < 8; id++)
		assert_int_equal(
			rig->workers[0].backends[id].opened, rig->workers[0].backends[id].closed);
	print_message("%lu flows\n", rig_created(rig));
	rig_destroy(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(snat_ports_run_out_exactly),
		cmocka_unit_test(opening_and_closing_leaks_nothing),
		cmocka_unit_test(a_port_comes_back_once),
		cmocka_unit_test(established_flows_never_give_way),
		cmocka_unit_test(a_sweep_that_is_behind_catches_up),
		cmocka_unit_test(a_syn_flood_keeps_no_client_out),
		cmocka_unit_test(a_stuck_reader_costs_no_flow),
		cmocka_unit_test(sweep_keeps_up_on_a_small_budget),
		cmocka_unit_test(random_bursts_add_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
