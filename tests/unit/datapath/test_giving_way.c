/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a half-open flow holds (record, SNAT port, place under max_conns) is given up to who comes
 * next, once the flow is older than nearly all clients take from SYN to ACK. On a virtual clock, to
 * the millisecond; rig.c checks every packet (I1, I3, I4), resets to backends too.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "rig.h"

enum { UNKNOWN_MS = 1000 }; // as long as nobody knows how long clients take

static const struct scheduler_ops *const schedulers[] = {
	&scheduler_maglev, &scheduler_round_robin, &scheduler_least_conn, &scheduler_source};

static struct stats_flows *counters(struct rig *rig, sa_family_t family)
{
	return &rig->workers[0].stats->live.flows[stats_family(family)];
}

static unsigned first_id(const struct rig *rig, sa_family_t family)
{
	return family == AF_INET6 ? rig->options.nb_backends : 0;
}

/* Sums over the workers. */
static unsigned gave_way(const struct rig *rig, enum stats_gave_way why)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < 2 * rig->options.nb_workers; i++)
		sum += rig->workers[i / 2].stats->live.flows[i % 2].gave_way[why];
	return sum;
}

/* Each client's handshake takes that long; the connections are reset right afterwards. */
static void clients_take(struct rig *rig, sa_family_t family, unsigned count, uint64_t ms)
{
	for (unsigned n = 0; n < count; n++) {
		struct connection c = connection_of(rig, family, 50000 + n);
		assert_true(connection_syn(&c, 0));
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		rig->now_ms += ms;
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		connection_send(&c, 0, CLIENT, TCP_RST, 0);
		rig_tick(rig, 0, rig->now_ms, UINT32_MAX);
	}
}

static void set_max_conns(struct rig *rig, uint32_t max_conns)
{
	for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++)
		rig->max_conns[id] = max_conns;
	service_table_destroy((struct service_table *)rig_publish(rig));
}

/* --- W3: other backends have some left --- */

static void an_empty_pool_passes_on_to_the_next(void **state) // W3
{
	enum { PORTS = 100, CONNECTS = 400 };

	FOR_EACH_FAMILY(family)
		for (size_t s = 0; s < sizeof(schedulers) / sizeof(schedulers[0]); s++) {
			struct rig *rig = rig_create(&(struct rig_options){
				.nb_ports = PORTS, .scheduler = schedulers[s]});
			for (unsigned n = 0; n < CONNECTS; n++) {
				struct connection c = connection_of(rig, family, n);
				assert_true(connection_open(&c, 0));
			}
			struct connection c = connection_of(rig, family, CONNECTS);
			assert_false(connection_syn(&c, 0));
			assert_int_equal(counters(rig, family)->refused_snat_full, 1);
			for (unsigned i = 0; i < 4; i++) {
				unsigned id = first_id(rig, family) + i;
				assert_int_equal(rig->workers[0].active[id], PORTS);
				assert_int_equal(snat_pool_used(rig->pools[id][0]), PORTS);
			}
			rig_destroy(rig);
		}
}

/* The first choice has no port, the next no place, the last has both. */
static void ports_and_places_are_looked_for_together(void **state) // W3
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 3, .nb_ports = 10});
	unsigned nb_open = 0;

	rig->max_conns[1] = 4;
	service_table_destroy((struct service_table *)rig_publish(rig));
	for (unsigned n = 0; n < 100; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		nb_open += connection_open(&c, 0);
	}
	assert_int_equal(nb_open, 10 + 4 + 10);
	assert_int_equal(rig->workers[0].active[1], 4);
	assert_int_equal(counters(rig, AF_INET)->refused_snat_full, 100 - 24);
	assert_int_equal(counters(rig, AF_INET)->refused_max_conns, 0);
	rig_destroy(rig);
}

/* --- how old --- */

/* What runs out, and what counts whom it is taken from. */
struct shortage {
	struct rig_options options;
	uint32_t max_conns;
	enum stats_gave_way why;
	unsigned nb_flows;
};

static const struct shortage shortages[] = {
	{{.nb_backends = 1, .flows = 100}, 0, STATS_GAVE_WAY_RECORD, 90},
	{{.nb_backends = 1, .nb_ports = 64}, 0, STATS_GAVE_WAY_PORT, 64},
	{{.nb_backends = 1, .nb_ports = 32, .nb_snats = 2}, 0, STATS_GAVE_WAY_PORT, 64},
	{{.nb_backends = 1}, 10, STATS_GAVE_WAY_PLACE, 10},
};

#define NB_SHORTAGES (sizeof(shortages) / sizeof(shortages[0]))

static struct rig *shortage_create(const struct shortage *shortage)
{
	struct rig *rig = rig_create(&shortage->options);

	set_max_conns(rig, shortage->max_conns);
	return rig;
}

static uint64_t refused(struct rig *rig, sa_family_t family)
{
	const struct stats_flows *sum = counters(rig, family);

	return sum->refused_flows_full + sum->refused_snat_full + sum->refused_max_conns;
}

/* One a millisecond until nothing is left: number 0 is the first to go, and not before its time. */
static void the_oldest_gives_way_and_no_sooner(void **state) // C3, W4, W5, W6
{
	FOR_EACH_FAMILY(family)
		for (unsigned i = 0; i < NB_SHORTAGES; i++) {
			const struct shortage *shortage = &shortages[i];
			struct rig *rig = shortage_create(shortage);
			struct connection c[100];
			unsigned nb_flows = shortage->nb_flows, id = first_id(rig, family);
			uint64_t start_ms = rig->now_ms;

			for (unsigned n = 0; n < nb_flows; n++) {
				c[n] = connection_of(rig, family, n);
				assert_true(connection_syn(&c[n], 0));
				if (n & 1) // in either state
					connection_send(&c[n], 0, BACKEND, TCP_SYN | TCP_ACK, 0);
				rig->now_ms++;
			}
			struct connection late = connection_of(rig, family, 1000);
			rig->now_ms = start_ms + UNKNOWN_MS;
			assert_false(connection_syn(&late, 0));
			assert_int_equal(refused(rig, family), 1);
			for (unsigned n = 0; n < nb_flows; n++) {
				rig->now_ms = start_ms + n + UNKNOWN_MS + 1;
				late = connection_of(rig, family, 1000 + n);
				assert_true(connection_syn(&late, 0));
				assert_int_equal(connection_state(&c[n]), TCP_NONE);
				for (unsigned k = n + 1; k < nb_flows; k++)
					assert_int_not_equal(connection_state(&c[k]), TCP_NONE);
				assert_int_equal(gave_way(rig, shortage->why), n + 1);
				assert_int_equal(rig->workers[0].active[id], nb_flows);
				late = connection_of(rig, family, 2000);
				assert_false(connection_syn(&late, 0)); // the next one is too young
				rig_tick(rig, 0, rig->now_ms, UINT32_MAX);
				rig_tick(rig, 0, rig->now_ms, UINT32_MAX);
			}
			assert_int_equal(refused(rig, family), 1 + nb_flows);
			assert_int_equal(counters(rig, family)->evicted, nb_flows);
			assert_int_equal(counters(rig, family)->gave_way_silent, 0);
			assert_int_equal(counters(rig, family)->created, 2 * nb_flows);
			assert_int_equal(rig_ports_used(rig), nb_flows);
			assert_int_equal(flow_table_used(rig_flows(rig, family)), nb_flows);
			rig_wait(rig, 5000, 100); // no SYN is kept for longer
			assert_int_equal(rig_side_records(rig, family), 0);
			rig_destroy(rig);
		}
}

/* In a burst there may be as many as packets, and each backend is told. */
static void a_burst_is_served_as_one_by_one(void **state) // W5
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 20});
	static uint8_t bytes[PIPELINE_BURST][PACKETS_SIZE_MAX];
	struct rig_frame frames[PIPELINE_BURST];

	for (unsigned n = 0; n < 20; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
	}
	rig->now_ms += UNKNOWN_MS + 1;
	for (unsigned i = 0; i < PIPELINE_BURST; i++) {
		struct connection c = connection_of(rig, AF_INET, 100 + i);
		struct segment syn = connection_segment(&c, CLIENT, TCP_SYN);
		frames[i] = (struct rig_frame){bytes[i], packets_build(&syn, bytes[i])};
	}
	rig_run(rig, 0, frames, PIPELINE_BURST);
	for (unsigned i = 0; i < PIPELINE_BURST; i++)
		assert_int_equal(
			rig->workers[0].out[i].fate, i < 20 ? RIG_FORWARDED : RIG_ANSWERED);
	assert_int_equal(rig->workers[0].nb_made, 20);
	assert_int_equal(gave_way(rig, STATS_GAVE_WAY_PORT), 20);
	assert_int_equal(counters(rig, AF_INET)->refused_snat_full, PIPELINE_BURST - 20);
	rig_destroy(rig);
}

/* Nothing makes a half-open flow younger: not its SYN-ACK that is repeated, which a backend does
 * for a minute, nor the SYN. */
static void repetitions_make_nobody_younger(void **state) // W5
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 1});
	struct connection c = connection_of(rig, AF_INET, 1), other;

	assert_true(connection_syn(&c, 0));
	for (unsigned i = 0; i < 5; i++) {
		rig->now_ms += 200;
		c.seq[CLIENT] -= i & 1;
		if (i & 1)
			assert_true(connection_syn(&c, 0));
		c.seq[BACKEND] -= i != 0;
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
	}
	rig->now_ms++;
	other = connection_of(rig, AF_INET, 2);
	assert_true(connection_syn(&other, 0));
	assert_int_equal(connection_state(&c), TCP_NONE);
	rig_destroy(rig);
}

/* What acknowledges anything but the backend's SYN-ACK says nothing of the flow's age either. */
static void forged_segments_change_nobodys_age(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 1});
	struct connection c = connection_of(rig, AF_INET, 1),
			  other = connection_of(rig, AF_INET, 2);
	uint64_t seed = 3, start_ms = rig->now_ms;

	assert_true(connection_syn(&c, 0));
	connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
	for (unsigned i = 0; i < 1000; i++) {
		struct segment segment = connection_segment(&c, CLIENT, TCP_ACK);
		segment.ack += 1 + (uint32_t)packets_random(&seed) % (UINT32_MAX / 2);
		rig_run_segment(rig, 0, &segment);
		assert_int_equal(connection_state(&c), TCP_SYN_RECV);
		assert_int_equal(flow_since_ms(connection_flow(&c)), (uint32_t)start_ms);
	}
	rig->now_ms += UNKNOWN_MS;
	assert_false(connection_syn(&other, 0));
	rig->now_ms++;
	assert_true(connection_syn(&other, 0));
	rig_destroy(rig);
}

/* The 99th percentile of a service's own clients, by steps. */
static void a_services_clients_say_how_long(void **state)
{
	static const struct {
		unsigned slow; // of a thousand
		uint64_t ms, slow_ms, usual_ms;
	} cases[] = {
		{0, 0, 0, 20}, {0, 20, 0, 20}, {0, 21, 0, 30}, {0, 100, 0, 120}, {5, 35, 500, 40},
		{30, 35, 500, 640},
		{0, 5000, 0, 1000}, // a stranger who dawdles raises it no further
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *rig =
			rig_create(&(struct rig_options){.nb_ports = 1, .nb_backends = 1});
		clients_take(rig, AF_INET, 99, 1);
		for (unsigned n = 0; n < 10; n++) { // the latest weigh most
			clients_take(rig, AF_INET, cases[i].slow, cases[i].slow_ms);
			clients_take(rig, AF_INET, 1000 - cases[i].slow, cases[i].ms);
		}
		struct connection c = connection_of(rig, AF_INET, 1);
		assert_true(connection_syn(&c, 0));
		rig->now_ms += cases[i].usual_ms;
		c = connection_of(rig, AF_INET, 2);
		assert_false(connection_syn(&c, 0));
		rig->now_ms++;
		assert_true(connection_syn(&c, 0));
		// The other service knows nothing of it.
		c = connection_of(rig, AF_INET6, 1);
		assert_true(connection_syn(&c, 0));
		rig->now_ms += UNKNOWN_MS;
		c = connection_of(rig, AF_INET6, 2);
		assert_false(connection_syn(&c, 0));
		rig->now_ms++;
		assert_true(connection_syn(&c, 0));
		rig_destroy(rig);
	}
}

static void a_hundred_must_have_completed(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_ports = 1, .nb_backends = 1});
	struct connection c;

	for (unsigned more = 0; more < 2; more++) {
		clients_take(rig, AF_INET, more == 0 ? 99 : 1, 1);
		c = connection_of(rig, AF_INET, 1);
		assert_true(connection_syn(&c, 0));
		rig->now_ms += 21;
		struct connection other = connection_of(rig, AF_INET, 2);
		assert_int_equal(connection_syn(&other, 0), more);
		c = more ? other : c;
		connection_send(&c, 0, BACKEND, TCP_RST | TCP_ACK, 0);
	}
	rig_destroy(rig);
}

/* --- who is told, and what --- */

static void its_backend_gets_a_reset_that_it_takes(void **state) // W5
{
	FOR_EACH_FAMILY(family)
		for (unsigned answered = 0; answered < 2; answered++) {
			struct rig *rig =
				rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 1});
			struct connection c = connection_of(rig, family, 1), other;

			assert_true(connection_syn(&c, 0));
			if (answered)
				connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
			rig->now_ms += UNKNOWN_MS + 1;
			other = connection_of(rig, family, 2);
			assert_true(connection_syn(&other, 0));
			assert_int_equal(rig->workers[0].nb_made, 1);
			// With an ACK only where it is known what to acknowledge (tcp_check_req()
			// of Linux takes no other).
			const struct segment *rst = &rig_last_made(rig, 0)->segment;
			assert_int_equal(rst->flags, answered ? TCP_RST | TCP_ACK : TCP_RST);
			assert_int_equal(rst->seq, c.seq[CLIENT]);
			assert_int_equal(rst->ack, answered ? c.seq[BACKEND] : 0);
			assert_true(net_addr_equal(&rst->src, &c.snat));
			assert_true(net_addr_equal(&rst->dst, &c.backend));
			assert_int_equal(rst->sport, c.snat_port);
			assert_int_equal(rst->dport, c.backend_port);
			// Its port is the other's by now. Its client, if it is one, learns when it
			// asks.
			assert_int_equal(other.snat_port, c.snat_port);
			rig_wait(rig, 1000, 1000);
			struct segment ack = connection_segment(&c, CLIENT, TCP_ACK);
			const struct rig_packet *out = rig_run_segment(rig, 0, &ack);
			assert_int_equal(out->fate, RIG_ANSWERED);
			assert_int_equal(out->segment.flags, TCP_RST);
			rig_destroy(rig);
		}
}

/* Where the backend sees the numbers moved, so is the reset's. */
static void a_reset_is_moved_with_its_flow(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 1});
	struct connection c = connection_of(rig, AF_INET, 1), other;
	struct segment syn;

	assert_true(connection_open(&c, 0));
	connection_send(&c, 0, BACKEND, TCP_FIN | TCP_ACK, 0); // it holds the tuple in TIME_WAIT
	connection_send(&c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
	connection_send(&c, 0, BACKEND, TCP_ACK, 0);
	other = connection_of(rig, AF_INET, 2);
	other.seq[CLIENT] = c.seq[CLIENT] - 1000000; // which it wouldn't take
	syn = connection_segment(&other, CLIENT, TCP_SYN);
	uint32_t seq = rig_run_segment(rig, 0, &syn)->segment.seq;
	assert_int_not_equal(seq, syn.seq);
	rig->now_ms += UNKNOWN_MS + 1;
	other = connection_of(rig, AF_INET, 3);
	assert_true(connection_syn(&other, 0));
	assert_int_equal(rig_last_made(rig, 0)->segment.flags, TCP_RST);
	assert_int_equal(rig_last_made(rig, 0)->segment.seq, seq + 1);
	rig_destroy(rig);
}

static void without_a_buffer_it_gives_way_in_silence(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 1});
	struct connection c = connection_of(rig, AF_INET, 1);

	rig->has_no_buffers = true;
	assert_true(connection_syn(&c, 0));
	rig->now_ms += UNKNOWN_MS + 1;
	c = connection_of(rig, AF_INET, 2);
	assert_true(connection_syn(&c, 0));
	assert_int_equal(rig->workers[0].nb_made, 0);
	assert_int_equal(gave_way(rig, STATS_GAVE_WAY_PORT), 1);
	assert_int_equal(counters(rig, AF_INET)->gave_way_silent, 1);
	// An unresolved backend can't be told either.
	rig->has_no_buffers = false;
	rig_set_backend(rig, 0, true, false);
	rig->now_ms += UNKNOWN_MS + 1;
	assert_false(connection_syn(&c, 0));
	rig_destroy(rig);
}

/* --- who doesn't --- */

static void open_and_closed_connections_are_left_alone(void **state) // C2, C4
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 4});
	struct connection c[4], other;

	for (unsigned n = 0; n < 4; n++) {
		c[n] = connection_of(rig, AF_INET, n);
		assert_true(connection_open(&c[n], 0));
	}
	connection_send(&c[1], 0, CLIENT, TCP_FIN | TCP_ACK, 0);
	connection_send(&c[2], 0, BACKEND, TCP_FIN | TCP_ACK, 0);
	rig->now_ms += 10 * UNKNOWN_MS;
	other = connection_of(rig, AF_INET, 5);
	assert_false(connection_syn(&other, 0));
	for (unsigned n = 0; n < 4; n++)
		assert_int_not_equal(connection_state(&c[n]), TCP_NONE);
	assert_int_equal(gave_way(rig, STATS_GAVE_WAY_PORT), 0);
	rig_destroy(rig);
}

/* Another backend's half-open flows are of no use: neither ports nor places. */
static void only_who_holds_what_is_wanted_gives_way(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 2, .nb_ports = 2});
	struct connection c;
	unsigned nb_half_open = 0;

	rig_set_backend(rig, 1, false, true); // all go to backend 0
	for (unsigned n = 0; n < 2; n++) {
		c = connection_of(rig, AF_INET, n);
		nb_half_open += connection_syn(&c, 0);
	}
	assert_int_equal(nb_half_open, 2);
	rig_set_backend(rig, 0, false, true); // and then to backend 1
	rig_set_backend(rig, 1, true, true);
	for (unsigned n = 2; n < 4; n++) {
		c = connection_of(rig, AF_INET, n);
		assert_true(connection_open(&c, 0));
	}
	rig->now_ms += UNKNOWN_MS + 1;
	c = connection_of(rig, AF_INET, 4);
	assert_false(connection_syn(&c, 0));
	assert_int_equal(gave_way(rig, STATS_GAVE_WAY_PORT), 0);
	rig_destroy(rig);
}

/* Backends of one address and port, in several services, lend the same ports. */
static void a_port_may_come_from_another_service(void **state)
{
	struct rig *rig = rig_create(
		&(struct rig_options){.nb_backends = 3, .nb_ports = 4, .shared_pools = true});
	struct connection c;

	rig_set_backend(rig, 1, false, true);
	rig_set_backend(rig, 2, false, true);
	for (unsigned n = 0; n < 4; n++) {
		c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
	}
	rig_set_backend(rig, 0, false, true);
	rig_set_backend(rig, 2, true, true);
	rig->now_ms += UNKNOWN_MS + 1;
	c = connection_of(rig, AF_INET, 4);
	assert_true(connection_syn(&c, 0));
	assert_int_equal(c.backend_id, 2);
	assert_int_equal(gave_way(rig, STATS_GAVE_WAY_PORT), 1);
	assert_int_equal(rig->workers[0].active[0], 3);
	rig_destroy(rig);
}

/* --- several workers --- */

/* Who needs it takes it from whoever has it; a port also where it is of the other worker's class.
 */
static void any_workers_flow_gives_way_to_any(void **state)
{
	for (unsigned i = 0; i < 2 * NB_SHORTAGES; i++) {
		const struct shortage *shortage = &shortages[i / 2];
		struct shortage two = *shortage;
		two.options.nb_workers = 2;
		two.options.has_rss = i & 1;
		struct rig *rig = shortage_create(&two);
		struct connection c[100], late;
		uint64_t start_ms = rig->now_ms;
		unsigned nb_flows = shortage->nb_flows;

		for (unsigned n = 0; n < nb_flows; n++) {
			c[n] = connection_of(rig, AF_INET, n);
			assert_true(connection_syn(&c[n], n / 3 & 1));
			rig->now_ms++;
		}
		rig->now_ms = start_ms + UNKNOWN_MS + nb_flows;
		for (unsigned n = 0; n < nb_flows; n++) {
			late = connection_of(rig, AF_INET, 1000 + n);
			assert_true(connection_syn(&late, 1));
			// In a full table it is one of its own, if it has one left; else the
			// oldest.
			if (shortage->why != STATS_GAVE_WAY_RECORD)
				assert_int_equal(connection_state(&c[n]), TCP_NONE);
			assert_int_equal(gave_way(rig, shortage->why), n + 1);
			for (unsigned w = 0; w < 4; w++)
				rig_tick(rig, w & 1, rig->now_ms, UINT32_MAX);
		}
		late = connection_of(rig, AF_INET, 2000);
		assert_false(connection_syn(&late, 0));
		for (unsigned n = 0; n < nb_flows; n++)
			assert_int_equal(connection_state(&c[n]), TCP_NONE);
		assert_int_equal(rig_ports_used(rig), nb_flows);
		assert_int_equal(
			rig->workers[0].backends[0].opened + rig->workers[1].backends[0].opened,
			2 * nb_flows);
		assert_int_equal(
			rig->workers[0].backends[0].ended + rig->workers[1].backends[0].ended,
			nb_flows);
		rig_destroy(rig);
	}
}

/* What another worker opened of late isn't known yet, and isn't less than nothing. */
static void least_conn_counts_what_gave_way(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_workers = 2,
		.nb_backends = 2,
		.nb_ports = 4,
		.scheduler = &scheduler_least_conn});
	struct connection c;

	for (unsigned n = 0; n < 8; n++) {
		c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
	}
	rig->now_ms += UNKNOWN_MS + 1;
	for (unsigned n = 0; n < 8; n++) {
		c = connection_of(rig, AF_INET, 100 + n);
		assert_true(connection_syn(&c, 1));
		for (unsigned id = 0; id < 2; id++)
			assert_in_range(rig->workers[1].active[id], 3, 4);
	}
	rig_destroy(rig);
}

static void a_reader_that_is_stuck_lets_nobody_give_way(void **state) // D13
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 1});
	struct connection c = connection_of(rig, AF_INET, 1);

	rig->flows4->workers[0].nb_collected = FLOW_RETIRED_MAX;
	assert_true(connection_syn(&c, 0));
	rig->now_ms += UNKNOWN_MS + 1;
	c = connection_of(rig, AF_INET, 2);
	assert_false(connection_syn(&c, 0));
	rig->flows4->workers[0].nb_collected = 0;
	assert_true(connection_syn(&c, 0));
	rig_destroy(rig);
}

/* --- moved to another backend --- */

static void a_moved_flow_stands_with_its_new_backend(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 2,
		.nb_ports = 1,
		.connect = {.timeout_ms = 250, .retry_percent = 20, .tries = 3}});
	struct connection c = connection_of(rig, AF_INET, 1), other;

	assert_true(connection_syn(&c, 0));
	rig->now_ms += 500;
	struct segment refusal = connection_segment(&c, BACKEND, TCP_RST | TCP_ACK);
	const struct rig_packet *out = rig_run_segment(rig, 0, &refusal);
	assert_int_equal(out->fate, RIG_ANSWERED);
	assert_int_equal(out->segment.flags, TCP_SYN);
	// Its former backend's port is free, and its new one's it holds from now on.
	other = connection_of(rig, AF_INET, 2);
	assert_true(connection_syn(&other, 0));
	rig->now_ms += UNKNOWN_MS;
	struct connection late = connection_of(rig, AF_INET, 3);
	assert_false(connection_syn(&late, 0));
	rig->now_ms++;
	assert_true(connection_syn(&late, 0));
	late = connection_of(rig, AF_INET, 4);
	assert_true(connection_syn(&late, 0));
	assert_int_equal(connection_state(&c), TCP_NONE);
	assert_int_equal(connection_state(&other), TCP_NONE);
	rig_destroy(rig);
}

/* A connection that its backend refuses finds no port elsewhere: an older half-open flow makes way
 * for it. */
static void a_move_is_made_way_for(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 2,
		.nb_ports = 4,
		.connect = {.timeout_ms = 250, .retry_percent = 20, .tries = 3}});
	struct connection c[9], late;

	for (unsigned n = 0; n < 8; n++) {
		c[n] = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c[n], 0));
		connection_send(&c[n], 0, BACKEND, TCP_SYN | TCP_ACK, 0);
	}
	rig->now_ms += UNKNOWN_MS + 1;
	late = connection_of(rig, AF_INET, 8);
	assert_true(connection_syn(&late, 0));
	struct segment refusal = connection_segment(&late, BACKEND, TCP_RST | TCP_ACK);
	unsigned before = late.backend_id;
	const struct rig_packet *out = rig_run_segment(rig, 0, &refusal);
	assert_int_equal(out->fate, RIG_ANSWERED);
	assert_int_equal(out->segment.flags, TCP_SYN);
	assert_int_equal(out->segment.dport, rig_backend_port(rig, 1 - before));
	assert_int_equal(gave_way(rig, STATS_GAVE_WAY_PORT), 2);
	rig_destroy(rig);
}

/* --- all of it together --- */

/* Clients whose answer takes a while: those who got through send their ACK. */
static unsigned complete(struct connection *c, const bool *through, unsigned count)
{
	unsigned nb_open = 0;

	for (unsigned n = 0; n < count; n++) {
		if (!through[n])
			continue;
		struct segment ack = connection_segment(&c[n], CLIENT, TCP_ACK);
		nb_open += rig_run_segment(c[n].rig, 0, &ack)->fate == RIG_FORWARDED;
	}
	return nb_open;
}

/* Real clients don't put each other out. */
static void a_thousand_clients_at_once_get_as_many_as_there_are(void **state) // C3, C4
{
	enum { CLIENTS = 1000 };

	for (unsigned i = 0; i < NB_SHORTAGES; i++) {
		const struct shortage *shortage = &shortages[i];
		struct rig *rig = shortage_create(shortage);
		static struct connection c[CLIENTS];
		static bool through[CLIENTS];
		for (unsigned n = 0; n < CLIENTS; n++) {
			c[n] = connection_of(rig, AF_INET, n);
			through[n] = connection_syn(&c[n], 0);
			if (through[n])
				connection_send(&c[n], 0, BACKEND, TCP_SYN | TCP_ACK, 0);
			rig->now_ms += n % 10 == 0;
		}
		rig->now_ms += 100 - CLIENTS / 10;
		assert_int_equal(complete(c, through, CLIENTS), shortage->nb_flows);
		assert_int_equal(refused(rig, AF_INET), CLIENTS - shortage->nb_flows);
		rig_destroy(rig);
	}
}

/*
 * A stranger sends SYNs from random sources, one each `step_ms`; clients come five times a second,
 * and their handshakes take 30 ms. Returns how many of these did not get through.
 */
static unsigned flood(struct rig *rig, unsigned seconds, unsigned step_ms, unsigned *nb_clients)
{
	struct connection client = {0};
	unsigned nb_failed = 0;

	for (unsigned ms = 0; ms < seconds * 1000; ms++) {
		if (ms % step_ms == 0) {
			struct connection spoofed = connection_of(rig, AF_INET, 1000 + ms % 50000);
			spoofed.client.v6[0] = 10 + ms / 50000;
			if (connection_syn(&spoofed, 0))
				connection_send(&spoofed, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		}
		if (ms % 200 == 50) {
			client = connection_of(rig, AF_INET, 55000 + *nb_clients % 5000);
			(*nb_clients)++;
			if (connection_syn(&client, 0)) {
				connection_send(&client, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
			} else {
				client.rig = NULL;
				nb_failed++;
			}
		}
		if (ms % 200 == 80 && client.rig != NULL) {
			struct segment ack = connection_segment(&client, CLIENT, TCP_ACK);
			nb_failed += rig_run_segment(rig, 0, &ack)->fate != RIG_FORWARDED;
		}
		if (ms % 200 == 150 && client.rig != NULL && connection_flow(&client) != NULL)
			connection_send(&client, 0, CLIENT, TCP_RST, 0);
		rig_wait(rig, 1, 1);
	}
	return nb_failed;
}

static void a_stranger_stops_nobody(void **state) // W5, W6
{
	static const struct {
		struct rig_options options;
		uint32_t max_conns;
		unsigned step_ms;
		enum stats_gave_way why;
	} cases[] = {
		{{.flows = 65536, .nb_ports = 1024}, 0, 5, STATS_GAVE_WAY_PORT},
		{{.flows = 4096, .nb_ports = 2000}, 100, 200, STATS_GAVE_WAY_PLACE},
		{{.flows = 1024, .nb_ports = 2000}, 0, 5, STATS_GAVE_WAY_RECORD},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *rig = rig_create(&cases[i].options);
		struct connection idle[50];
		unsigned nb_clients = 0, nb_failed;

		set_max_conns(rig, cases[i].max_conns);
		for (unsigned n = 0; n < 50; n++)
			idle[n] = connection_in_use(rig, AF_INET, n);
		nb_failed = flood(rig, i == 1 ? 120 : 40, cases[i].step_ms, &nb_clients);
		nb_failed += flood(rig, 10, 1000000, &nb_clients);
		print_message("%u of %u clients failed, %u half-open flows gave way\n", nb_failed,
			nb_clients, gave_way(rig, cases[i].why));
		assert_in_range(nb_failed, 0, nb_clients / 100);
		assert_true(gave_way(rig, cases[i].why) > 100);
		for (unsigned n = 0; n < 50; n++)
			connection_send(&idle[n], 0, CLIENT, TCP_ACK | TCP_PSH, 10);
		// When it is over nothing is left of it.
		rig_wait(rig, 243000, 1000);
		assert_int_equal(flow_table_used(rig->flows4), 50);
		assert_int_equal(rig_ports_used(rig), 50);
		assert_int_equal(rig_side_records(rig, AF_INET), 0);
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_pool_passes_on_to_the_next),
		cmocka_unit_test(ports_and_places_are_looked_for_together),
		cmocka_unit_test(the_oldest_gives_way_and_no_sooner),
		cmocka_unit_test(a_burst_is_served_as_one_by_one),
		cmocka_unit_test(repetitions_make_nobody_younger),
		cmocka_unit_test(forged_segments_change_nobodys_age),
		cmocka_unit_test(a_services_clients_say_how_long),
		cmocka_unit_test(a_hundred_must_have_completed),
		cmocka_unit_test(its_backend_gets_a_reset_that_it_takes),
		cmocka_unit_test(a_reset_is_moved_with_its_flow),
		cmocka_unit_test(without_a_buffer_it_gives_way_in_silence),
		cmocka_unit_test(open_and_closed_connections_are_left_alone),
		cmocka_unit_test(only_who_holds_what_is_wanted_gives_way),
		cmocka_unit_test(a_port_may_come_from_another_service),
		cmocka_unit_test(any_workers_flow_gives_way_to_any),
		cmocka_unit_test(least_conn_counts_what_gave_way),
		cmocka_unit_test(a_reader_that_is_stuck_lets_nobody_give_way),
		cmocka_unit_test(a_moved_flow_stands_with_its_new_backend),
		cmocka_unit_test(a_move_is_made_way_for),
		cmocka_unit_test(a_thousand_clients_at_once_get_as_many_as_there_are),
		cmocka_unit_test(a_stranger_stops_nobody),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
