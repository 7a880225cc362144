/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Backends that refuse or are silent: the connection goes to the next one. On a virtual clock, to
 * the millisecond; rig.c checks every packet (I1, I3, I4).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "rig.h"

enum { TIMEOUT_MS = 250 };

static const struct service_connect defaults = {
	.timeout_ms = TIMEOUT_MS, .retry_percent = 20, .tries = 3};

static struct rig *create(struct rig_options options)
{
	options.connect = options.connect.tries != 0 ? options.connect : defaults;
	return rig_create(&options);
}

/* A whole handshake with each backend, so that it is known how fast they answer. */
static void let_them_answer(struct rig *rig, sa_family_t family, uint64_t answer_ms)
{
	for (unsigned n = 0; n < 200; n++) {
		struct connection c = connection_of(rig, family, 40000 + n);
		assert_true(connection_syn(&c, 0));
		rig->now_ms += answer_ms;
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		connection_send(&c, 0, CLIENT, TCP_RST, 0);
	}
	rig_wait(rig, 2000, 100);
}

/* The backend that the SYN was sent on to is the connection's from now on. */
static void take_over(struct connection *c, const struct rig_packet *out)
{
	assert_int_equal(out->fate, RIG_ANSWERED);
	assert_true(out->is_tcp);
	assert_int_equal(out->segment.flags, TCP_SYN);
	assert_int_equal(out->segment.seq, c->seq[CLIENT] - 1);
	assert_true(packets_checksums_right(out->frame, out->size, 0));
	c->snat = out->segment.src;
	c->snat_port = out->segment.sport;
	c->backend = out->segment.dst;
	c->backend_port = out->segment.dport;
	unsigned before = c->backend_id;
	for (unsigned id = 0; id < 2 * c->rig->options.nb_backends; id++) {
		struct net_addr addr = rig_backend_addr(c->rig, id);
		if (net_addr_equal(&addr, &c->backend) &&
			rig_backend_port(c->rig, id) == c->backend_port)
			c->backend_id = id;
	}
	assert_int_not_equal(c->backend_id, before);
	struct net_mac mac = rig_backend_mac(c->backend_id);
	assert_true(net_mac_equal(&out->segment.to, &mac));
}

static struct segment refusal(const struct connection *c)
{
	struct segment segment = connection_segment(c, BACKEND, TCP_RST | TCP_ACK);

	segment.seq = 0;
	return segment;
}

static const struct rig_packet *refuse(const struct connection *c, unsigned worker)
{
	struct segment segment = refusal(c);

	return rig_run_segment(c->rig, worker, &segment);
}

/* From SYN-ACK to data, both ways. */
static void goes_on(struct connection *c, unsigned worker)
{
	connection_send(c, worker, BACKEND, TCP_SYN | TCP_ACK, 0);
	connection_send(c, worker, CLIENT, TCP_ACK, 0);
	connection_send(c, worker, CLIENT, TCP_PSH | TCP_ACK, 100);
	connection_send(c, worker, BACKEND, TCP_PSH | TCP_ACK, 200);
	assert_int_equal(connection_state(c), TCP_ESTABLISHED);
	assert_int_equal(rig_side_records(c->rig, c->family), 0);
}

static bool syn_again(struct connection *c, unsigned worker)
{
	c->seq[CLIENT]--;
	return connection_syn(c, worker);
}

/* --- refused --- */

static void refused_goes_to_the_next_at_once(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 1);

		assert_true(connection_syn(&c, 0));
		unsigned first = c.backend_id, port = c.snat_port;
		struct flow *old = connection_flow(&c);
		take_over(&c, refuse(&c, 0));
		assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		assert_ptr_not_equal(connection_flow(&c), old);
		assert_int_equal(rig_connects(rig, 0, first)->refused, 1);
		assert_int_equal(rig_connects(rig, 0, first)->moved_away, 1);
		assert_int_equal(rig_connects(rig, 0, first)->fails, 1);
		assert_int_equal(rig->workers[0].backends[first].opened, 1);
		assert_int_equal(rig->workers[0].backends[first].ended, 1);
		assert_int_equal(rig->workers[0].backends[first].closed, 1);
		assert_int_equal(rig->workers[0].backends[c.backend_id].opened, 1);
		assert_int_equal(rig->workers[0].stats->live.answered, 1);
		assert_int_equal(rig->workers[0].stats->live.flows[family == AF_INET6].moved, 1);
		assert_int_equal(rig_created(rig), 1);
		assert_int_equal(rig_ports_used(rig), 1);
		assert_int_equal(flow_table_used(rig_flows(rig, family)), 1);
		// The old port is at the end of the queue, not the next one.
		assert_int_not_equal(snat_pool_get(rig->pools[first][0], 0), port);
		goes_on(&c, 0);
		rig_destroy(rig);
	}
}

static void options_go_with_the_syn(void **state) // A18
{
	static const uint8_t options[] = {
		2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7};

	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 2);
		struct segment syn = connection_segment(&c, CLIENT, TCP_SYN);

		syn.options = options;
		syn.options_size = sizeof(options);
		const struct rig_packet *out = rig_run_segment(rig, 0, &syn);
		assert_int_equal(out->fate, RIG_FORWARDED);
		assert_true(connection_syn(&c, 0)); // the same flow: learn its tuple
		syn.seq = c.seq[CLIENT] - 1;
		rig_run_segment(rig, 0, &syn);
		out = refuse(&c, 0);
		take_over(&c, out);
		assert_int_equal(out->segment.options_size, sizeof(options));
		assert_memory_equal(out->segment.options, options, sizeof(options));
		assert_int_equal(out->segment.ttl, c.ttl - 1);
		goes_on(&c, 0);
		rig_destroy(rig);
	}
}

static void data_in_the_syn_goes_with_it(void **state) // TCP Fast Open
{
	struct rig *rig = create((struct rig_options){0});
	struct connection c = connection_of(rig, AF_INET, 3);
	struct segment syn = connection_segment(&c, CLIENT, TCP_SYN);

	syn.payload_size = 40;
	syn.payload = "a request of forty bytes and not one more";
	const struct rig_packet *out = rig_run_segment(rig, 0, &syn);
	assert_int_equal(out->fate, RIG_FORWARDED);
	c.seq[CLIENT]++;
	c.snat = out->segment.src;
	c.snat_port = out->segment.sport;
	c.backend = out->segment.dst;
	c.backend_port = out->segment.dport;
	struct segment rst = refusal(&c);
	rst.ack = syn.seq + 1 + 40;
	c.backend_id = UINT32_MAX;
	out = rig_run_segment(rig, 0, &rst);
	take_over(&c, out);
	assert_int_equal(out->segment.payload_size, 40);
	assert_memory_equal(out->segment.payload, syn.payload, 40);
	rig_destroy(rig);
}

static void a_blind_reset_moves_nothing(void **state) // A6
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 4);

		assert_true(connection_syn(&c, 0));
		struct flow *flow = connection_flow(&c);
		for (int i = -2; i <= 2; i++) {
			struct segment rst = refusal(&c);
			rst.ack += i;
			if (i == 0)
				rst.flags = TCP_RST; // acknowledges nothing
			assert_int_equal(rig_run_segment(rig, 0, &rst)->fate, RIG_FORWARDED);
			assert_ptr_equal(connection_flow(&c), flow);
			assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		}
		assert_int_equal(rig_connects(rig, 0, c.backend_id)->refused, 0);
		goes_on(&c, 0);
		rig_destroy(rig);
	}
}

static void none_twice_then_the_client_is_told(void **state)
{
	FOR_EACH_FAMILY(family)
		for (unsigned tries = 1; tries <= 5; tries++) {
			struct rig *rig = create((struct rig_options){
				.connect = {TIMEOUT_MS, 20, tries}, .nb_backends = 4});
			struct connection c = connection_of(rig, family, 5);
			unsigned seen = 0, nb_tried = 1;

			assert_true(connection_syn(&c, 0));
			for (;; nb_tried++) {
				assert_int_equal(seen >> c.backend_id & 1, 0);
				seen |= 1 << c.backend_id;
				const struct rig_packet *out = refuse(&c, 0);
				if (out->fate == RIG_FORWARDED) { // the last one's RST, as the
								  // client takes it
					assert_int_equal(out->segment.flags, TCP_RST | TCP_ACK);
					assert_int_equal(out->segment.ack, c.seq[CLIENT]);
					assert_true(net_addr_equal(&out->segment.dst, &c.client));
					break;
				}
				take_over(&c, out);
			}
			assert_int_equal(nb_tried, tries < 4 ? tries : 4);
			assert_int_equal(connection_state(&c), TCP_CLOSE);
			assert_int_equal(rig_ports_used(rig), 0);
			assert_int_equal(rig_side_records(rig, family), 0);
			rig_destroy(rig);
		}
}

static void those_that_failed_lately_come_last(void **state)
{
	for (unsigned n = 0; n < 50; n++) {
		struct rig *rig = create((struct rig_options){.nb_backends = 8});
		unsigned nb_dead = 0;
		let_them_answer(rig, AF_INET, 1);
		rig->now_ms += 10;
		for (unsigned id = 0; id < 8 && nb_dead < 6; id++, nb_dead++)
			rig_connects(rig, 0, id)->in_row = 1; // 6 and 7 are well
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
		take_over(&c, refuse(&c, 0));
		assert_in_range(c.backend_id, 6, 7);
		rig_destroy(rig);
	}
}

static void every_scheduler_has_a_next_one(void **state)
{
	static const struct scheduler_ops *const schedulers[] = {&scheduler_maglev,
		&scheduler_round_robin, &scheduler_least_conn, &scheduler_source};

	for (unsigned s = 0; s < 4; s++) {
		struct rig *rig = create((struct rig_options){.scheduler = schedulers[s],
			.nb_backends = 4,
			.connect = {TIMEOUT_MS, 20, 4}});
		unsigned last[4] = {0};
		for (unsigned n = 0; n < 400; n++) {
			struct connection c = connection_of(rig, AF_INET, n);
			assert_true(connection_syn(&c, 0));
			for (unsigned i = 0; i < 3; i++)
				take_over(&c, refuse(&c, 0));
			last[c.backend_id]++;
			rig_wait(rig, 1, 1);
			connection_send(&c, 0, CLIENT, TCP_RST, 0);
		}
		// By a hash it is anybody in the end; in turn it is a pattern.
		for (unsigned id = 0; id < 4 && schedulers[s]->pick_by_load == NULL &&
			schedulers[s] != &scheduler_round_robin;
			id++)
			assert_in_range(last[id], 60, 140);
		rig_destroy(rig);
	}
}

/* Backends 2 and 3 of each family are backups. */
static struct rig *create_with_backups(struct rig_options options)
{
	struct rig *rig = create(options);

	for (unsigned id = 0; id < 8; id++)
		rig->is_backup[id] = id % 4 >= 2;
	service_table_destroy((struct service_table *)rig_publish(rig));
	return rig;
}

/* Primaries in any order, then backups, each once; then the client is told. */
static void backups_are_tried_behind_the_primaries(void **state) // E35
{
	static const struct scheduler_ops *const schedulers[] = {&scheduler_maglev,
		&scheduler_round_robin, &scheduler_least_conn, &scheduler_source};

	FOR_EACH_FAMILY(family)
		for (unsigned s = 0; s < 4; s++)
			for (unsigned n = 0; n < 20; n++) {
				struct rig *rig = create_with_backups(
					(struct rig_options){.scheduler = schedulers[s],
						.connect = {TIMEOUT_MS, 20, 8}});
				struct connection c = connection_of(rig, family, n);
				unsigned seen = 0;

				assert_true(connection_syn(&c, 0));
				for (unsigned i = 0;; i++) {
					assert_int_equal(c.backend_id % 4 >= 2, i >= 2);
					assert_int_equal(seen >> c.backend_id & 1, 0);
					seen |= 1 << c.backend_id;
					if (i == 3)
						break;
					take_over(&c, refuse(&c, 0));
				}
				assert_int_equal(refuse(&c, 0)->fate, RIG_FORWARDED);
				assert_int_equal(rig_ports_used(rig), 0);
				assert_int_equal(rig_side_records(rig, family), 0);
				rig_destroy(rig);
			}
}

static void silence_goes_to_a_backup_when_its_time_has_come(void **state) // E35
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create_with_backups((struct rig_options){0});
		struct connection c = connection_of(rig, family, 7);
		unsigned base = family == AF_INET6 ? 4 : 0;

		let_them_answer(rig, family, 1);
		rig_set_backend(rig, base + 1, false, true); // one primary is left
		assert_true(connection_syn(&c, 0));
		assert_int_equal(c.backend_id, base);
		uint64_t sent_ms = rig->now_ms;
		unsigned nb_made = rig->workers[0].nb_made;
		rig_tick(rig, 0, sent_ms + TIMEOUT_MS - 1, UINT32_MAX);
		assert_int_equal(rig->workers[0].nb_made, nb_made);
		rig->now_ms = sent_ms + TIMEOUT_MS;
		rig_tick(rig, 0, rig->now_ms, UINT32_MAX);
		assert_int_equal(rig->workers[0].nb_made, nb_made + 1);
		const struct rig_packet *out = rig_last_made(rig, 0);
		bool is_backup = false;
		for (unsigned id = base + 2; id < base + 4; id++) {
			struct net_addr addr = rig_backend_addr(rig, id);
			is_backup |= net_addr_equal(&addr, &out->segment.dst) &&
				rig_backend_port(rig, id) == out->segment.dport;
		}
		assert_true(is_backup);
		rig_destroy(rig);
	}
}

/* A backup that is well comes before a primary that failed others lately; one that isn't, behind.
 */
static void a_suspect_primary_comes_behind_a_backup_that_is_well(void **state) // E35
{
	for (unsigned n = 0; n < 20; n++)
		for (unsigned suspects = 0; suspects < 8; suspects++) {
			struct rig *rig = create_with_backups((struct rig_options){0});
			struct connection c = connection_of(rig, AF_INET, n);

			assert_true(connection_syn(&c, 0));
			unsigned other = 1 - c.backend_id;
			unsigned ids[] = {other, 2, 3}; // the other primary, and the backups
			for (unsigned i = 0; i < 3; i++)
				rig_connects(rig, 0, ids[i])->in_row = suspects >> i & 1;
			take_over(&c, refuse(&c, 0));
			if ((suspects & 1) == 0 || suspects == 7)
				assert_int_equal(c.backend_id, other);
			else
				assert_int_equal(suspects >> (c.backend_id - 1) & 1, 0);
			rig_destroy(rig);
		}
}

static void a_full_or_unresolved_one_is_no_choice(void **state)
{
	struct rig *rig = create((struct rig_options){.nb_backends = 4});
	struct connection c = connection_of(rig, AF_INET, 6);

	for (unsigned id = 0; id < 4; id++)
		rig->max_conns[id] = 2;
	rig_set_backend(rig, 0, true, true);
	for (unsigned n = 100; n < 107; n++) {
		struct connection other = connection_of(rig, AF_INET, n);
		assert_true(connection_open(&other, 0));
	}
	assert_true(connection_syn(&c, 0)); // the last place of all
	struct rig_packet out = *refuse(&c, 0);
	assert_int_equal(out.fate, RIG_FORWARDED);
	assert_int_equal(out.segment.flags, TCP_RST | TCP_ACK);
	rig_destroy(rig);
}

static void a_backend_without_a_port_left_is_passed_over(void **state)
{
	struct rig *rig = create((struct rig_options){.nb_backends = 3, .nb_ports = 4});
	unsigned nb_moved = 0;

	// Two of three backends have no port left; whoever is refused by the third ends there.
	for (unsigned id = 0; id < 2; id++)
		for (unsigned n = 0; n < 4; n++)
			assert_int_not_equal(snat_pool_get(rig->pools[id][0], 0), SNAT_NO_PORT);
	for (unsigned n = 0; n < 100 && nb_moved == 0; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		if (!connection_syn(&c, 0))
			continue;
		assert_int_equal(c.backend_id, 2);
		assert_int_equal(refuse(&c, 0)->fate, RIG_FORWARDED);
		assert_int_equal(
			rig->workers[0].backends[0].opened + rig->workers[0].backends[1].opened, 0);
		nb_moved++;
		snat_pool_put(rig->pools[1][0], RIG_PORT); // now there is one
		c = connection_of(rig, AF_INET, 1000);
		while (!connection_syn(&c, 0) || c.backend_id != 2)
			c = connection_of(rig, AF_INET, c.client_port + 1);
		const struct rig_packet *out = refuse(&c, 0);
		if (out->fate == RIG_ANSWERED)
			take_over(&c, out);
	}
	assert_int_equal(nb_moved, 1);
	rig_destroy(rig);
}

static void a_full_table_moves_too(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){.flows = 100});
		struct connection c = connection_of(rig, family, 0);

		assert_true(connection_syn(&c, 0));
		for (unsigned n = 1; n < 90; n++) {
			struct connection other = connection_of(rig, family, n);
			assert_true(connection_open(&other, 0));
		}
		assert_int_equal(flow_table_used(rig_flows(rig, family)), 90);
		take_over(&c, refuse(&c, 0));
		take_over(&c, refuse(&c, 0));
		goes_on(&c, 0);
		assert_int_equal(flow_table_used(rig_flows(rig, family)), 90);
		assert_int_equal(rig->workers[0].stats->live.flows[family == AF_INET6].evicted, 0);
		rig_destroy(rig);
	}
}

static void an_answered_connection_stays(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 7);

		let_them_answer(rig, family, 1);
		assert_true(connection_syn(&c, 0));
		struct flow *flow = connection_flow(&c);
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		assert_int_equal(rig_side_records(rig, family), 0);
		rig_wait(rig, 5000, 1);
		assert_ptr_equal(connection_flow(&c), flow);
		connection_send(&c, 0, BACKEND, TCP_RST, 0); // and a RST is the client's
		assert_int_equal(connection_state(&c), TCP_CLOSE);
		assert_int_equal(rig->workers[0].nb_made, 0);
		rig_destroy(rig);
	}
}

static void a_late_answer_is_reset_and_disturbs_nothing(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 8), late;

		let_them_answer(rig, family, 1);
		assert_true(connection_syn(&c, 0));
		late = c;
		rig_wait(rig, TIMEOUT_MS, 1);
		take_over(&c, rig_last_made(rig, 0));
		struct segment answer = connection_segment(&late, BACKEND, TCP_SYN | TCP_ACK);
		const struct rig_packet *out = rig_run_segment(rig, 0, &answer);
		assert_int_equal(out->fate, RIG_ANSWERED);
		assert_int_equal(out->segment.flags, TCP_RST);
		assert_int_equal(out->segment.seq, answer.ack);
		assert_true(net_addr_equal(&out->segment.dst, &late.backend));
		assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		goes_on(&c, 0);
		out = rig_run_segment(rig, 0, &answer);
		assert_int_equal(out->fate, RIG_ANSWERED);
		connection_send(&c, 0, CLIENT, TCP_ACK, 10);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		rig_destroy(rig);
	}
}

/* --- what is not kept --- */

static void a_syn_too_long_is_not_kept_but_counted(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 9);
		struct segment syn = connection_segment(&c, CLIENT, TCP_SYN);
		unsigned header = family == AF_INET6 ? 40 : 20;

		syn.payload_size = FLOW_SIDE_FRAME_MAX - 14 - header - 20 + 1;
		const struct rig_packet *out = rig_run_segment(rig, 0, &syn);
		assert_int_equal(out->fate, RIG_FORWARDED);
		c.snat = out->segment.src;
		c.snat_port = out->segment.sport;
		c.backend = out->segment.dst;
		c.backend_port = out->segment.dport;
		struct segment rst = refusal(&c);
		rst.ack = syn.seq + 1 + syn.payload_size;
		assert_int_equal(rig_run_segment(rig, 0, &rst)->fate, RIG_FORWARDED);
		uint64_t not_kept = 0, refused = 0;
		for (unsigned id = 0; id < 8; id++) {
			not_kept += rig_connects(rig, 0, id)->syn_not_kept;
			refused += rig_connects(rig, 0, id)->refused;
		}
		assert_int_equal(not_kept, 1);
		assert_int_equal(refused, 1);
		assert_int_equal(rig_side_records(rig, family), 0);
		rig_destroy(rig);
	}
}

static void without_a_side_record_it_is_as_it_always_was(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){.flows = 4096});
		struct flow_sides *sides = rig_flows(rig, family)->sides;
		struct connection c = connection_of(rig, family, 10);
		struct flow_side *taken[128], *side;
		unsigned nb = 0;

		while ((side = flow_side_get(sides, 0)) != NULL)
			taken[nb++] = side;
		assert_true(connection_syn(&c, 0));
		assert_int_equal(rig_connects(rig, 0, c.backend_id)->syn_not_kept, 1);
		assert_int_equal(refuse(&c, 0)->fate, RIG_FORWARDED);
		assert_int_equal(connection_state(&c), TCP_CLOSE);
		// With room again, the client's next SYN is kept.
		c = connection_of(rig, family, 11);
		assert_true(connection_syn(&c, 0));
		while (nb > 0)
			flow_side_put(sides, taken[--nb]);
		assert_true(syn_again(&c, 0));
		take_over(&c, refuse(&c, 0));
		goes_on(&c, 0);
		rig_destroy(rig);
	}
}

/* --- silent --- */

static void silence_goes_to_the_next_when_time_is_up(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 12);

		let_them_answer(rig, family, 1);
		assert_true(connection_syn(&c, 0));
		unsigned first = c.backend_id;
		rig_wait(rig, TIMEOUT_MS - 1, 1);
		assert_int_equal(rig->workers[0].nb_made, 0);
		rig_wait(rig, 1, 1);
		assert_int_equal(rig->workers[0].nb_made, 1);
		take_over(&c, rig_last_made(rig, 0));
		assert_int_equal(rig_connects(rig, 0, first)->timed_out, 1);
		assert_int_equal(rig_connects(rig, 0, first)->moved_away, 1);
		assert_int_equal(
			rig->workers[0].stats->live.generated, 0); // whoever sends counts it
		first = c.backend_id;
		rig_wait(rig, TIMEOUT_MS, 1);
		take_over(&c, rig_last_made(rig, 0));
		assert_int_equal(rig_connects(rig, 0, first)->timed_out, 1);
		goes_on(&c, 0);
		rig_destroy(rig);
	}
}

static void all_tries_silent_the_client_is_told(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 13);

		let_them_answer(rig, family, 1);
		assert_true(connection_syn(&c, 0));
		rig_wait(rig, 2 * TIMEOUT_MS + 999, 1);
		assert_int_equal(rig->workers[0].nb_made, 2);
		rig_wait(rig, 1, 1);
		assert_int_equal(rig->workers[0].nb_made, 3);
		const struct segment *rst = &rig_last_made(rig, 0)->segment;
		assert_int_equal(rst->flags, TCP_RST | TCP_ACK); // RFC 9293, 3.10.7.3
		assert_int_equal(rst->ack, c.seq[CLIENT]);
		assert_true(net_addr_equal(&rst->dst, &c.client));
		assert_int_equal(rst->dport, c.client_port);
		assert_int_equal(rst->sport, RIG_VIP_PORT);
		assert_true(net_mac_equal(&rst->to, &c.mac));
		assert_null(connection_flow(&c));
		assert_int_equal(rig_ports_used(rig), 0);
		assert_int_equal(rig_side_records(rig, family), 0);
		assert_int_equal(rig->workers[0].stats->live.flows[family == AF_INET6].given_up, 1);
		rig_destroy(rig);
	}
}

static void one_backend_alone_is_left_in_peace(void **state)
{
	struct rig *rig = create((struct rig_options){.nb_backends = 1});
	struct connection c = connection_of(rig, AF_INET, 14);

	let_them_answer(rig, AF_INET, 1);
	assert_true(connection_syn(&c, 0));
	rig_wait(rig, 30000, 10);
	assert_int_equal(rig->workers[0].nb_made, 0);
	assert_int_equal(connection_state(&c), TCP_SYN_SENT);
	assert_int_equal(rig_side_records(rig, AF_INET), 0); // not kept for ever
	assert_true(syn_again(&c, 0));
	goes_on(&c, 0);
	rig_destroy(rig);
}

/* It left the file, and its service, which has backends of the other family now, stayed (E34). */
static void of_another_family_there_is_no_next_one(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});
		struct connection refused = connection_of(rig, family, 1);
		struct connection silent = connection_of(rig, family, 2);

		assert_true(connection_syn(&refused, 0));
		assert_true(connection_syn(&silent, 0));
		rig->are_swapped = true;
		service_table_destroy((struct service_table *)rig_publish(rig));
		assert_int_equal(refuse(&refused, 0)->fate, RIG_FORWARDED);
		rig_wait(rig, 5000, 10);
		assert_true(syn_again(&silent, 0));
		assert_int_equal(rig->workers[0].nb_made, 0);
		assert_int_equal(rig_side_records(rig, family), 0);
		rig_destroy(rig);
	}
}

static void off_means_that_silence_moves_nothing(void **state)
{
	struct rig *rig = create((struct rig_options){.connect = {0, 20, 3}});
	struct connection c = connection_of(rig, AF_INET, 15);

	let_them_answer(rig, AF_INET, 1);
	assert_true(connection_syn(&c, 0));
	struct flow *flow = connection_flow(&c);
	for (unsigned i = 0; i < 4; i++) {
		rig_wait(rig, 1000u << i, 10);
		assert_true(syn_again(&c, 0));
		assert_ptr_equal(connection_flow(&c), flow);
	}
	assert_int_equal(rig->workers[0].nb_made, 0);
	take_over(&c, refuse(&c, 0)); // a refusal does
	rig_destroy(rig);
}

static void backends_far_away_move_nothing(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){0});

		// From the first connection on, 50 of them under way at a time.
		enum { NB = 500, ANSWER_MS = 300 };
		struct connection *c = calloc(NB, sizeof(*c));
		for (unsigned ms = 0; ms < NB * 6 + ANSWER_MS; ms++) {
			if (ms % 6 == 0 && ms / 6 < NB) {
				c[ms / 6] = connection_of(rig, family, ms / 6);
				assert_true(connection_syn(&c[ms / 6], 0));
			}
			if (ms >= ANSWER_MS && (ms - ANSWER_MS) % 6 == 0)
				connection_send(
					&c[(ms - ANSWER_MS) / 6], 0, BACKEND, TCP_SYN | TCP_ACK, 0);
			rig_wait(rig, 1, 1);
		}
		assert_int_equal(rig->workers[0].nb_made, 0);
		assert_int_equal(rig->workers[0].stats->live.flows[family == AF_INET6].moved, 0);
		free(c);
		rig_destroy(rig);
	}
}

static void the_clients_own_syn_stays_before_the_time_and_moves_after_it(void **state)
{
	FOR_EACH_FAMILY(family) {
		// Nobody has answered yet: 900 ms.
		struct rig *rig = create((struct rig_options){0});
		struct connection c = connection_of(rig, family, 16), first;

		rig->workers[0].pipeline.new_mbuf = NULL; // the timer can do nothing
		assert_true(connection_syn(&c, 0));
		first = c;
		rig_wait(rig, 500, 10);
		assert_true(syn_again(&c, 0));
		assert_int_equal(c.backend_id, first.backend_id);
		assert_int_equal(c.snat_port, first.snat_port);
		rig_wait(rig, 500, 10);
		assert_true(syn_again(&c, 0));
		assert_int_not_equal(c.backend_id, first.backend_id);
		assert_int_equal(rig_connects(rig, 0, first.backend_id)->timed_out, 1);
		assert_int_equal(rig_connects(rig, 0, first.backend_id)->moved_away, 1);
		goes_on(&c, 0);
		rig_destroy(rig);
	}
}

static void a_neighbour_that_is_gone_is_silent(void **state)
{
	struct rig *rig = create((struct rig_options){0});
	struct connection c = connection_of(rig, AF_INET, 17);

	let_them_answer(rig, AF_INET, 1);
	assert_true(connection_syn(&c, 0));
	unsigned first = c.backend_id;
	rig_set_backend(rig, first, true, false);
	assert_true(syn_again(&c, 0)); // at once
	assert_int_not_equal(c.backend_id, first);
	first = c.backend_id;
	rig_set_backend(rig, first, true, false);
	rig_wait(rig, TIMEOUT_MS, 1);
	take_over(&c, rig_last_made(rig, 0));
	goes_on(&c, 0);
	rig_destroy(rig);
}

/* --- the budget --- */

static void budget_is_a_share_of_the_last_second(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){.flows = 65536});
		struct stats_flows *flows = &rig->workers[0].stats->live.flows[family == AF_INET6];
		enum { SECONDS = 5, A_SECOND = 200 };

		let_them_answer(rig, family, 1);
		rig_wait(rig, 1000, 100);
		// All silent, and no client sends its SYN again.
		for (unsigned ms = 0; ms < SECONDS * 1000; ms++) {
			if (ms % (1000 / A_SECOND) == 0) {
				struct connection c = connection_of(rig, family, ms);
				assert_true(connection_syn(&c, 0));
			}
			rig_wait(rig, 1, 1);
		}
		// In a second 40 of 200; in the first one less, as nobody had connected before.
		assert_in_range(flows->moved, (SECONDS - 1) * A_SECOND / 5, SECONDS * A_SECOND / 5);
		assert_int_equal(flows->moved + flows->given_up, rig->workers[0].nb_made);
		// 1.2 SYNs a connect.
		assert_in_range(SECONDS * A_SECOND + flows->moved, 0, SECONDS * A_SECOND * 12 / 10);
		assert_true(flows->over_budget > 0);
		rig_destroy(rig);
	}
}

static void budget_has_a_least(void **state)
{
	struct rig *rig = create((struct rig_options){.nb_workers = 2});

	let_them_answer(rig, AF_INET, 1);
	for (unsigned n = 0; n < 30; n++) { // at one instant, on one of two workers
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
	}
	rig_wait(rig, TIMEOUT_MS, 1);
	assert_int_equal(rig->workers[0].stats->live.flows[0].moved, 6); // 20 % of 30
	rig_wait(rig, 3000, 1);
	uint64_t before = rig->workers[0].stats->live.flows[0].moved;
	for (unsigned n = 100; n < 120; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
	}
	rig_wait(rig, TIMEOUT_MS, 1);
	assert_int_equal(rig->workers[0].stats->live.flows[0].moved - before, 5); // half of 10
	rig_destroy(rig);
}

static void over_budget_the_second_repetition_goes_to_one_that_answers(void **state)
{
	struct rig *rig =
		create((struct rig_options){.connect = {TIMEOUT_MS, 0, 3}, .nb_workers = 1});
	struct connection c = connection_of(rig, AF_INET, 18);

	let_them_answer(rig, AF_INET, 1);
	for (unsigned n = 100; n < 110; n++) { // the least is used up
		struct connection other = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&other, 0));
	}
	rig_wait(rig, 1, 1);
	assert_true(connection_syn(&c, 0));
	unsigned first = c.backend_id;
	rig_wait(rig, TIMEOUT_MS, 1);
	assert_int_equal(rig->workers[0].stats->live.flows[0].moved, 10);
	assert_int_equal(rig->workers[0].stats->live.flows[0].over_budget, 1);
	assert_true(syn_again(&c, 0));
	assert_int_equal(c.backend_id, first);
	assert_int_equal(rig->workers[0].stats->live.flows[0].over_budget, 2);
	assert_true(syn_again(&c, 0));
	assert_int_equal(c.backend_id, first); // all are silent: it would be in vain
	for (unsigned id = 0; id < 4; id++)
		rig_connects(rig, 0, id)->in_row = 0;
	assert_true(syn_again(&c, 0));
	assert_int_not_equal(c.backend_id, first);
	connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
	connection_send(&c, 0, CLIENT, TCP_ACK, 0);
	assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
	rig_destroy(rig);
}

/* --- two workers --- */

static void any_worker_may_have_the_next_packet(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create((struct rig_options){.nb_workers = 2});
		struct connection c = connection_of(rig, family, 19);

		let_them_answer(rig, family, 1);
		assert_true(connection_syn(&c, 0));
		take_over(&c, refuse(&c, 1));
		rig_wait(rig, TIMEOUT_MS, 1); // the timer is of the worker whose side record it is
		take_over(&c, rig_last_made(rig, 0));
		connection_send(&c, 1, BACKEND, TCP_SYN | TCP_ACK, 0);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		assert_int_equal(rig_side_records(rig, family), 0);
		assert_int_equal(rig_ports_used(rig), 1);
		rig_destroy(rig);
	}
}

/* --- counting --- */

static void times_are_from_the_syn_to_its_answer(void **state)
{
	struct rig *rig = create((struct rig_options){.nb_backends = 1});
	struct stats_connect *counted = rig_connects(rig, 0, 0);

	for (unsigned n = 0; n < 100; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
		rig->now_ms += n < 98 ? 5 : 200;
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0); // again: is no second answer
	}
	assert_int_equal(stats_connect_answers(counted), 100);
	assert_in_range(stats_connect_percentile(counted, 50), 4096, 6144);
	assert_in_range(stats_connect_percentile(counted, 99), 196608, 262144);
	// A SYN that was sent twice says nothing.
	struct connection c = connection_of(rig, AF_INET, 200);
	assert_true(connection_syn(&c, 0));
	rig->now_ms += 100;
	assert_true(syn_again(&c, 0));
	connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
	assert_int_equal(stats_connect_answers(counted), 100);
	rig_destroy(rig);
}

static void what_was_asked_before_a_return_counts_for_nothing(void **state)
{
	struct rig *rig = create((struct rig_options){0});
	struct connection c = connection_of(rig, AF_INET, 20);

	assert_true(connection_syn(&c, 0));
	unsigned first = c.backend_id;
	((struct service_backend *)rig->table->backends)[first].epoch++;
	take_over(&c, refuse(&c, 0));
	assert_int_equal(rig_connects(rig, 0, first)->refused, 1);
	assert_int_equal(rig_connects(rig, 0, first)->fails, 0);
	assert_int_equal(rig->workers[0].pipeline.fails.count, 0);
	take_over(&c, refuse(&c, 0));
	assert_int_equal(rig->workers[0].pipeline.fails.count, 1);
	rig_destroy(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused_goes_to_the_next_at_once),
		cmocka_unit_test(options_go_with_the_syn),
		cmocka_unit_test(data_in_the_syn_goes_with_it),
		cmocka_unit_test(a_blind_reset_moves_nothing),
		cmocka_unit_test(none_twice_then_the_client_is_told),
		cmocka_unit_test(those_that_failed_lately_come_last),
		cmocka_unit_test(every_scheduler_has_a_next_one),
		cmocka_unit_test(backups_are_tried_behind_the_primaries),
		cmocka_unit_test(silence_goes_to_a_backup_when_its_time_has_come),
		cmocka_unit_test(a_suspect_primary_comes_behind_a_backup_that_is_well),
		cmocka_unit_test(a_full_or_unresolved_one_is_no_choice),
		cmocka_unit_test(a_backend_without_a_port_left_is_passed_over),
		cmocka_unit_test(a_full_table_moves_too),
		cmocka_unit_test(an_answered_connection_stays),
		cmocka_unit_test(a_late_answer_is_reset_and_disturbs_nothing),
		cmocka_unit_test(a_syn_too_long_is_not_kept_but_counted),
		cmocka_unit_test(without_a_side_record_it_is_as_it_always_was),
		cmocka_unit_test(silence_goes_to_the_next_when_time_is_up),
		cmocka_unit_test(all_tries_silent_the_client_is_told),
		cmocka_unit_test(one_backend_alone_is_left_in_peace),
		cmocka_unit_test(of_another_family_there_is_no_next_one),
		cmocka_unit_test(off_means_that_silence_moves_nothing),
		cmocka_unit_test(backends_far_away_move_nothing),
		cmocka_unit_test(the_clients_own_syn_stays_before_the_time_and_moves_after_it),
		cmocka_unit_test(a_neighbour_that_is_gone_is_silent),
		cmocka_unit_test(budget_is_a_share_of_the_last_second),
		cmocka_unit_test(budget_has_a_least),
		cmocka_unit_test(over_budget_the_second_repetition_goes_to_one_that_answers),
		cmocka_unit_test(any_worker_may_have_the_next_packet),
		cmocka_unit_test(times_are_from_the_syn_to_its_answer),
		cmocka_unit_test(what_was_asked_before_a_return_counts_for_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
