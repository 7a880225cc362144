/* SPDX-License-Identifier: BSD-3-Clause */
/* Which backend a SYN gets, beyond the scheduler's own tests: what is open counts, limits hold. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "rig.h"
#include "service_access.h"

/* The flow's connections as the worker sees them, and as all workers counted them. */
static void assert_active(const struct rig *rig, unsigned id, uint32_t expected)
{
	uint32_t active = 0;

	for (unsigned w = 0; w < rig->options.nb_workers; w++)
		active += rig->workers[w].backends[id].opened - rig->workers[w].backends[id].ended;
	assert_int_equal(active, expected);
	if (rig->options.nb_workers == 1)
		assert_int_equal(rig->workers[0].active[id], expected);
}

static void set_limits(struct rig *rig, uint32_t first, uint32_t step)
{
	for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++)
		rig->max_conns[id] = first + step * (id % rig->options.nb_backends);
	service_table_destroy((struct service_table *)rig_publish(rig));
}

/* SYNs of clients `first` to `first` + count - 1 in one burst; returns how many were forwarded. */
static unsigned syn_burst(
	struct rig *rig, unsigned worker, sa_family_t family, uint32_t first, unsigned count)
{
	static uint8_t frames[PIPELINE_BURST][PACKETS_SIZE_MAX];
	struct rig_frame burst[PIPELINE_BURST] = {0};
	unsigned forwarded = 0;

	for (unsigned i = 0; i < count; i++) {
		struct connection c = connection_of(rig, family, first + i);
		struct segment syn = connection_segment(&c, CLIENT, TCP_SYN);
		burst[i] = (struct rig_frame){frames[i], packets_build(&syn, frames[i])};
	}
	rig_run(rig, worker, burst, count);
	for (unsigned i = 0; i < count; i++)
		forwarded += rig->workers[worker].out[i].fate == RIG_FORWARDED;
	return forwarded;
}

static const struct scheduler_ops *const schedulers[] = {
	&scheduler_maglev, &scheduler_round_robin, &scheduler_least_conn, &scheduler_source};

/* A burst of SYNs sees itself: with one worker the limit is exact. */
static void limits_are_exact_within_a_burst(void **state)
{
	FOR_EACH_FAMILY(family) {
		for (size_t s = 0; s < sizeof(schedulers) / sizeof(schedulers[0]); s++) {
			struct rig *rig =
				rig_create(&(struct rig_options){.scheduler = schedulers[s]});
			unsigned base = family == AF_INET6 ? 4 : 0;

			set_limits(rig, 2, 3); // 2 + 5 + 8 + 11
			assert_int_equal(syn_burst(rig, 0, family, 0, 32), 26);
			for (unsigned id = 0; id < 4; id++)
				assert_active(rig, base + id, 2 + 3 * id);
			struct stats_flows *flows =
				&rig->workers[0].stats->live.flows[stats_family(family)];
			assert_int_equal(flows->refused_max_conns, 6);
			assert_int_equal(
				rig->workers[0].service_stats[family == AF_INET6].refused_max_conns,
				6);
			assert_int_equal(flows->created, 26);
			for (unsigned i = 0; i < 32; i++)
				if (rig->workers[0].out[i].fate != RIG_FORWARDED)
					assert_int_equal(rig->workers[0].out[i].fate,
						RIG_ANSWERED); // by RST
			// A SYN that comes again is of its flow, however full its backend is.
			assert_int_equal(syn_burst(rig, 0, family, 0, 32), 26);
			rig_destroy(rig);
		}
	}
}

static void backend_without_limit_takes_the_rest(void **state)
{
	for (size_t s = 0; s < sizeof(schedulers) / sizeof(schedulers[0]); s++) {
		struct rig *rig = rig_create(&(struct rig_options){.scheduler = schedulers[s]});

		set_limits(rig, 1, 0);
		rig->max_conns[2] = 0;
		service_table_destroy((struct service_table *)rig_publish(rig));
		assert_int_equal(syn_burst(rig, 0, AF_INET, 0, 32), 32);
		assert_active(rig, 2, 29);
		rig_destroy(rig);
	}
}

/* What ends makes room at once; a flow that lingers in TIME_WAIT or CLOSE does not count. */
static void connection_ends_when_it_closes_not_with_its_flow(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 1),
				  r = connection_of(rig, family, 2);

		assert_true(connection_open(&c, 0));
		assert_true(connection_open(&r, 0));
		unsigned both = c.backend_id == r.backend_id;
		assert_active(rig, c.backend_id, 1 + both);
		connection_send(&c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
		connection_send(&c, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
		assert_active(rig, c.backend_id, 1 + both);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_TIME_WAIT);
		assert_active(rig, c.backend_id, both);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0); // once more: ended once
		connection_send(&r, 0, CLIENT, TCP_RST | TCP_ACK, 0);
		assert_int_equal(connection_state(&r), TCP_CLOSE);
		assert_active(rig, c.backend_id, 0);
		assert_active(rig, r.backend_id, 0);
		rig_wait(rig, 70000, 1000); // the flows go, the counts stay
		assert_int_equal(connection_state(&c), TCP_NONE);
		assert_active(rig, c.backend_id, 0);
		assert_active(rig, r.backend_id, 0);
		rig_destroy(rig);
	}
}

static void half_open_connection_ends_with_its_flow(void **state)
{
	struct rig *rig = rig_create(NULL);
	struct connection c = connection_of(rig, AF_INET, 3);

	assert_true(connection_syn(&c, 0));
	assert_active(rig, c.backend_id, 1);
	rig_wait(rig, 245000, 1000);
	assert_int_equal(connection_state(&c), TCP_NONE);
	assert_active(rig, c.backend_id, 0);
	rig_destroy(rig);
}

/* Whatever a SYN is refused for, it was not opened. */
static void refused_connections_do_not_count(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 5});

	for (unsigned burst = 0; burst < 3; burst++)
		syn_burst(rig, 0, AF_INET, burst * 32, 32);
	assert_int_equal(rig->workers[0].stats->live.flows[0].refused_snat_full, 3 * 32 - 5);
	assert_active(rig, 0, 5);
	assert_int_equal(rig->workers[0].backends[0].opened, 5);
	rig_destroy(rig);
}

static void connections_without_a_record_do_not_count(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.flows = 1024});
	uint32_t limit = rig->flows4->limit, active = 0;

	for (uint32_t i = 0; i < limit; i++) {
		struct connection c = connection_of(rig, AF_INET, i);
		assert_true(connection_open(&c, 0)); // an established one never gives way
	}
	assert_int_equal(syn_burst(rig, 0, AF_INET, limit, 32), 0);
	assert_int_equal(rig->workers[0].stats->live.flows[0].refused_flows_full, 32);
	for (unsigned id = 0; id < 4; id++) {
		assert_active(rig, id, rig->workers[0].active[id]);
		active += rig->workers[0].active[id];
	}
	assert_int_equal(active, limit);
	rig_destroy(rig);
}

/* More connections than the table holds: who gives way has ended. */
static void evicted_connections_end(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.flows = 1024});
	uint32_t active = 0;

	for (uint32_t first = 0; first < 3200; first += 32) {
		syn_burst(rig, 0, AF_INET, first, 32);
		rig_wait(rig, 10, 10);
	}
	for (unsigned id = 0; id < 4; id++) {
		const struct stats_backend *backend = &rig->workers[0].backends[id];
		assert_int_equal(backend->ended, backend->closed); // all were half open
		assert_active(rig, id, backend->opened - backend->ended);
		active += backend->opened - backend->ended;
	}
	assert_int_equal(active, flow_table_used(rig->flows4));
	rig_destroy(rig);
}

/* Each keeps to the sum of both, whoever opened and whoever ended. */
static void limits_hold_over_workers(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_workers = 2, .nb_backends = 1});
	struct connection c[10];

	set_limits(rig, 10, 0);
	for (unsigned i = 0; i < 10; i++) {
		c[i] = connection_of(rig, AF_INET, i);
		assert_true(connection_open(&c[i], i % 3 == 0));
	}
	for (unsigned w = 0; w < 2; w++)
		assert_int_equal(syn_burst(rig, w, AF_INET, 100, 1), 0);
	connection_send(&c[0], 0, CLIENT, TCP_RST | TCP_ACK, 0); // opened by 1
	connection_send(&c[1], 1, CLIENT, TCP_RST | TCP_ACK, 0); // opened by 0
	assert_active(rig, 0, 8);
	assert_int_equal(syn_burst(rig, 0, AF_INET, 200, 1), 1);
	assert_int_equal(syn_burst(rig, 1, AF_INET, 201, 5), 1);
	assert_active(rig, 0, 10);
	rig_destroy(rig);
}

/* What the other worker opened is seen a millisecond later. */
static void least_conn_sees_what_other_workers_opened(void **state)
{
	struct rig *rig = rig_create(
		&(struct rig_options){.nb_workers = 2, .scheduler = &scheduler_least_conn});
	uint32_t number = 0;

	for (unsigned round = 0; round < 10; round++) { // 32 by one, 8 by the other
		assert_int_equal(syn_burst(rig, 0, AF_INET, number, 32), 32);
		rig->now_ms++;
		assert_int_equal(syn_burst(rig, 1, AF_INET, number + 32, 8), 8);
		rig->now_ms++;
		number += 40;
		for (unsigned id = 0; id < 4; id++)
			assert_active(rig, id, number / 4);
	}
	// One backend is relieved: worker 1 ends what worker 0 opened, and worker 0 knows.
	for (uint32_t i = 0; i < number; i++) {
		struct connection c = connection_of(rig, AF_INET, i);
		struct flow *flow = connection_flow(&c);
		if (FLOW_BACKEND_ID(flow->backend) != 3)
			continue;
		uint32_t before = rig->workers[1].backends[3].ended;
		pipeline_end_flows(&rig->workers[1].pipeline, rig->table, rig->flows4, &flow, 1);
		assert_int_equal(rig->workers[1].backends[3].ended, before + 1);
	}
	assert_active(rig, 3, 0);
	rig->now_ms++;
	assert_int_equal(syn_burst(rig, 0, AF_INET, 1000, 32), 32);
	assert_active(rig, 3, 32);
	rig_destroy(rig);
}

static void source_keeps_a_client_with_its_backend(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(&(struct rig_options){.scheduler = &scheduler_source});
		unsigned backends[4] = {0};

		for (uint32_t client = 0; client < 40; client++) {
			struct connection c = connection_of(rig, family, client);
			assert_true(connection_syn(&c, 0));
			unsigned id = c.backend_id;
			backends[id % 4]++;
			for (unsigned port = 0; port < 5; port++) {
				c = connection_of(rig, family, client);
				c.client_port = 40000 + port;
				assert_true(connection_syn(&c, 0));
				assert_int_equal(c.backend_id, id);
			}
		}
		for (unsigned i = 0; i < 4; i++)
			assert_in_range(backends[i], 3, 20);
		rig_destroy(rig);
	}
}

static void denied_clients_get_nothing(void **state)
{
	struct rig *rig = rig_create(NULL);
	struct connection c = connection_of(rig, AF_INET, 1),
			  other = connection_of(rig, AF_INET, 2);
	struct net_prefix denied = {.addr = c.client, .length = 32};
	struct segment syn = connection_segment(&c, CLIENT, TCP_SYN);

	assert_true(connection_open(&c, 0));
	rig->access = service_access_create(NULL, 0, &denied, 1);
	service_table_destroy((struct service_table *)rig_publish(rig));
	// The connection that it has stays; a further one gets no answer.
	connection_send(&c, 0, CLIENT, TCP_PSH | TCP_ACK, 100);
	connection_send(&c, 0, BACKEND, TCP_PSH | TCP_ACK, 100);
	syn.sport++;
	assert_int_equal(rig_run_segment(rig, 0, &syn)->fate, RIG_DROPPED);
	assert_int_equal(rig_dropped(rig, STATS_DROP_DENIED), 1);
	assert_int_equal(rig->workers[0].service_stats[0].denied, 1);
	assert_int_equal(rig->workers[0].service_stats[1].denied, 0);
	assert_int_equal(rig_created(rig), 1);
	assert_true(connection_syn(&other, 0));
	service_access_put(rig->access);
	rig_destroy(rig);
}

/* --- backups --- */

/* The last `nb_backups` of each family's four. */
static struct rig *with_backups(const struct scheduler_ops *scheduler, unsigned nb_backups)
{
	struct rig *rig = rig_create(&(struct rig_options){
		.scheduler = scheduler, .connect = {.timeout_ms = 250, .tries = 4}});

	for (unsigned id = 0; id < 8; id++)
		rig->is_backup[id] = id % 4 >= 4 - nb_backups;
	service_table_destroy((struct service_table *)rig_publish(rig));
	return rig;
}

static void backups_get_nothing_while_a_primary_has_room(void **state) // E35
{
	FOR_EACH_FAMILY(family) {
		for (size_t s = 0; s < sizeof(schedulers) / sizeof(schedulers[0]); s++) {
			struct rig *rig = with_backups(schedulers[s], 2);
			unsigned base = family == AF_INET6 ? 4 : 0;

			for (unsigned burst = 0; burst < 8; burst++)
				assert_int_equal(syn_burst(rig, 0, family, burst * 32, 32), 32);
			assert_active(rig, base + 2, 0);
			assert_active(rig, base + 3, 0);
			rig_destroy(rig);
		}
	}
}

/* Places of primaries first, then of backups, then none. A backup without a limit takes all. */
static void what_primaries_have_no_room_for_goes_to_backups(void **state) // E35
{
	FOR_EACH_FAMILY(family) {
		for (size_t s = 0; s < sizeof(schedulers) / sizeof(schedulers[0]); s++) {
			struct rig *rig = with_backups(schedulers[s], 2);
			unsigned base = family == AF_INET6 ? 4 : 0;

			set_limits(rig, 2, 3); // 2 + 5, 8 + 11
			assert_int_equal(syn_burst(rig, 0, family, 0, 7), 7);
			assert_active(rig, base + 0, 2);
			assert_active(rig, base + 1, 5);
			assert_int_equal(syn_burst(rig, 0, family, 7, 32), 19);
			for (unsigned id = 0; id < 4; id++)
				assert_active(rig, base + id, 2 + 3 * id);
			assert_int_equal(
				rig->workers[0].service_stats[family == AF_INET6].refused_max_conns,
				13);
			rig->max_conns[base + 3] = 0;
			service_table_destroy((struct service_table *)rig_publish(rig));
			assert_int_equal(syn_burst(rig, 0, family, 100, 32), 32);
			assert_active(rig, base + 3, 11 + 32);
			rig_destroy(rig);
		}
	}
}

/* Each scheduler spreads over the backups as over any backends, while the primaries are full. */
static void backups_are_scheduled_too(void **state) // E35
{
	enum { CLIENTS = 400 };

	for (size_t s = 0; s < sizeof(schedulers) / sizeof(schedulers[0]); s++) {
		struct rig *rig = with_backups(schedulers[s], 2);
		rig->max_conns[0] = rig->max_conns[1] = 1;
		service_table_destroy((struct service_table *)rig_publish(rig));
		for (unsigned n = 0; n < CLIENTS; n += 20)
			assert_int_equal(syn_burst(rig, 0, AF_INET, n, 20), 20);
		for (unsigned id = 2; id < 4; id++) {
			uint32_t active = rig->workers[0].active[id];
			if (schedulers[s] == &scheduler_round_robin ||
				schedulers[s] == &scheduler_least_conn)
				assert_int_equal(active, (CLIENTS - 2) / 2);
			else
				assert_in_range(active, CLIENTS / 3, CLIENTS * 2 / 3);
		}
		rig_destroy(rig);
	}
}

static void ports_that_primaries_lack_backups_have(void **state) // E35
{
	for (size_t s = 0; s < sizeof(schedulers) / sizeof(schedulers[0]); s++) {
		struct rig *rig = rig_create(
			&(struct rig_options){.scheduler = schedulers[s], .nb_ports = 5});
		rig->is_backup[2] = rig->is_backup[3] = true;
		service_table_destroy((struct service_table *)rig_publish(rig));
		assert_int_equal(syn_burst(rig, 0, AF_INET, 0, 10), 10);
		assert_active(rig, 0, 5);
		assert_active(rig, 1, 5);
		assert_int_equal(syn_burst(rig, 0, AF_INET, 10, 20), 10);
		assert_active(rig, 2, 5);
		assert_active(rig, 3, 5);
		rig_destroy(rig);
	}
}

/* The backend that the client's next connection gets. */
static unsigned backend_of(struct rig *rig, uint32_t client, uint16_t port)
{
	struct connection c = connection_of(rig, AF_INET, client);

	c.client_port = port;
	assert_true(connection_open(&c, 0));
	return c.backend_id;
}

/* Whether the primaries are full, or down, or refuse. */
static void source_keeps_a_client_with_its_backup(void **state) // E35
{
	for (uint32_t client = 0; client < 30; client++) {
		struct rig *rig = with_backups(&scheduler_source, 3);
		unsigned first = 0;

		assert_int_equal(backend_of(rig, client, 40000), 0);
		rig->max_conns[0] = 1;
		service_table_destroy((struct service_table *)rig_publish(rig));
		first = backend_of(rig, client, 40001);
		assert_in_range(first, 1, 3);
		assert_int_equal(backend_of(rig, client, 40002), first);
		rig->max_conns[0] = 0;
		rig_set_backend(rig, 0, false, true);
		assert_int_equal(backend_of(rig, client, 40003), first);
		rig_set_backend(rig, 0, true, true);
		struct connection c = connection_of(rig, AF_INET, client);
		c.client_port = 40004;
		assert_true(connection_syn(&c, 0));
		assert_int_equal(c.backend_id, 0);
		struct segment rst = connection_segment(&c, BACKEND, TCP_RST | TCP_ACK);
		rst.seq = 0;
		const struct rig_packet *out = rig_run_segment(rig, 0, &rst);
		assert_int_equal(out->fate, RIG_ANSWERED);
		struct net_addr addr = rig_backend_addr(rig, first);
		assert_true(net_addr_equal(&out->segment.dst, &addr));
		assert_int_equal(out->segment.dport, rig_backend_port(rig, first));
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits_are_exact_within_a_burst),
		cmocka_unit_test(backend_without_limit_takes_the_rest),
		cmocka_unit_test(connection_ends_when_it_closes_not_with_its_flow),
		cmocka_unit_test(half_open_connection_ends_with_its_flow),
		cmocka_unit_test(refused_connections_do_not_count),
		cmocka_unit_test(connections_without_a_record_do_not_count),
		cmocka_unit_test(evicted_connections_end),
		cmocka_unit_test(limits_hold_over_workers),
		cmocka_unit_test(least_conn_sees_what_other_workers_opened),
		cmocka_unit_test(source_keeps_a_client_with_its_backend),
		cmocka_unit_test(denied_clients_get_nothing),
		cmocka_unit_test(backups_get_nothing_while_a_primary_has_room),
		cmocka_unit_test(what_primaries_have_no_room_for_goes_to_backups),
		cmocka_unit_test(backups_are_scheduled_too),
		cmocka_unit_test(ports_that_primaries_lack_backups_have),
		cmocka_unit_test(source_keeps_a_client_with_its_backup),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
