/* SPDX-License-Identifier: BSD-3-Clause */
/* E7: clients that another MAC reaches now. Each worker walks its share of the records in ticks;
 * the rig checks each packet. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "flow_moves.h"
#include "rig.h"

enum { BUDGET = 512, CLIENTS = 200 };

static const struct net_mac home = {{2, 0, 0, 0, 9, 1}}, away = {{2, 0, 0, 0, 9, 2}};

static struct flow_moves *moves_of(struct rig *rig)
{
	struct flow_moves *moves = flow_moves_create(rig->options.nb_workers);

	for (unsigned w = 0; w < rig->options.nb_workers; w++)
		rig->workers[w].pipeline.moves = moves;
	return moves;
}

/* All clients at a MAC go to another one, those that have no row of their own. */
static struct flow_move row(
	sa_family_t family, const struct net_mac *from, const struct net_mac *to)
{
	return (struct flow_move){
		.from = flow_mac_word(from), .to = flow_mac_word(to), .client.family = family};
}

/* Ticks of a worker until there is no more to do; how many it took. */
static unsigned walk(struct rig *rig, unsigned worker, uint32_t budget)
{
	unsigned ticks = 1;

	while (rig_tick(rig, worker, ++rig->now_ms, budget))
		ticks++;
	return ticks;
}

/* Where the backend's next segment goes. */
static struct net_mac answered_to(struct connection *c)
{
	struct segment segment = connection_segment(c, BACKEND, TCP_ACK | TCP_PSH);

	segment.payload_size = 10;
	const struct rig_packet *out = rig_run_segment(c->rig, 0, &segment);
	assert_int_equal(out->fate, RIG_FORWARDED);
	c->seq[BACKEND] += 10;
	return out->segment.to;
}

static struct connection client_at(
	struct rig *rig, sa_family_t family, uint32_t number, const struct net_mac *mac)
{
	struct connection c = connection_of(rig, family, number);

	c.mac = *mac;
	assert_true(connection_open(&c, 0));
	return c;
}

#define assert_mac(actual, wanted)                                                                 \
	do {                                                                                       \
		struct net_mac actual_mac = (actual);                                              \
		assert_memory_equal(&actual_mac, wanted, sizeof(actual_mac));                      \
	} while (0)

/* Two workers, a few ticks each; and no flow is met twice, or those that swap would be back. */
static void each_flow_is_moved_once(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){.nb_workers = 2, .flows = CLIENTS * 2});
	struct flow_moves *moves = moves_of(rig);
	struct connection clients[2 * CLIENTS];
	unsigned nb = 0;

	FOR_EACH_FAMILY(family)
		for (unsigned i = 0; i < CLIENTS; i++, nb++)
			clients[nb] = client_at(rig, family, nb, i % 2 ? &home : &away);
	for (unsigned i = 0; i < 4; i++)
		moves->rows[i] = row(
			i < 2 ? AF_INET : AF_INET6, i % 2 ? &away : &home, i % 2 ? &home : &away);
	assert_true(flow_moves_are_done(moves));
	flow_moves_begin(moves, 4);
	assert_true(walk(rig, 0, 4) > 3);
	assert_false(flow_moves_are_done(moves));
	walk(rig, 1, 4);
	assert_true(flow_moves_are_done(moves));
	for (unsigned i = 0; i < nb; i++)
		assert_mac(answered_to(&clients[i]), i % 2 ? &away : &home);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(moves->rows[i].nb_flows, CLIENTS / 2);
	walk(rig, 0, BUDGET);
	walk(rig, 1, BUDGET);
	assert_mac(answered_to(&clients[1]), &away);
	rig_destroy(rig);
	flow_moves_destroy(moves);
}

static void a_client_of_its_own_row_goes_by_that(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(&(struct rig_options){0});
		struct flow_moves *moves = moves_of(rig);
		struct connection own = client_at(rig, family, 1, &home);
		struct connection behind = client_at(rig, family, 2, &home);

		moves->rows[0] = row(family, &home, &home); // stays
		moves->rows[0].client = own.client;
		moves->rows[1] = row(family, &home, &away);
		flow_moves_begin(moves, 2);
		walk(rig, 0, BUDGET);
		assert_mac(answered_to(&own), &home);
		assert_mac(answered_to(&behind), &away);
		rig_destroy(rig);
		flow_moves_destroy(moves);
	}
}

/* It has sent from the new MAC itself, while that was on its way here. */
static void a_client_that_has_sent_needs_nothing(void **state)
{
	struct rig *rig = rig_create(&(struct rig_options){0});
	struct flow_moves *moves = moves_of(rig);
	struct connection c = client_at(rig, AF_INET, 1, &home);

	c.mac = away;
	connection_send(&c, 0, CLIENT, TCP_ACK | TCP_PSH, 10);
	moves->rows[0] = row(AF_INET, &home, &away);
	flow_moves_begin(moves, 1);
	walk(rig, 0, BUDGET);
	assert_int_equal(moves->rows[0].nb_flows, 0);
	assert_mac(answered_to(&c), &away);
	rig_destroy(rig);
	flow_moves_destroy(moves);
}

/* Both in one walk: a reset on behalf of the backend goes to where the client is. */
static void a_reset_goes_to_the_new_mac(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(&(struct rig_options){0});
		struct flow_moves *moves = moves_of(rig);
		struct connection c = client_at(rig, family, 1, &home);
		struct service_table *table = (struct service_table *)rig->table;

		for (unsigned i = 0; i < 20; i++)
			client_at(rig, family, 2 + i, &home);
		moves->rows[0] = row(family, &home, &away);
		flow_moves_begin(moves, 1);
		table->backends[c.backend_id].reset = table->has_resets = true;
		table->reset_round++;
		walk(rig, 0, 2); // the walk for the MACs takes more than one tick
		struct rig_worker *worker = &rig->workers[0];
		assert_true(worker->nb_made >= 2);
		for (unsigned i = 0; i < worker->nb_made; i += 2)
			assert_mac(worker->made[i].segment.to, &away);
		assert_int_equal(connection_state(&c), TCP_NONE);
		rig_destroy(rig);
		flow_moves_destroy(moves);
	}
}

/* The SYN was kept as it came, from the former MAC; refused, it makes a flow anew. */
static void a_kept_syn_follows_its_client(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(&(struct rig_options){
			.connect = {.timeout_ms = 250, .retry_percent = 20, .tries = 3}});
		struct flow_moves *moves = moves_of(rig);
		struct connection c = connection_of(rig, family, 1);

		c.mac = home;
		assert_true(connection_syn(&c, 0));
		moves->rows[0] = row(family, &home, &away);
		flow_moves_begin(moves, 1);
		walk(rig, 0, BUDGET);
		struct segment refusal = connection_segment(&c, BACKEND, TCP_RST | TCP_ACK);
		refusal.seq = 0;
		const struct rig_packet *out = rig_run_segment(rig, 0, &refusal);
		assert_int_equal(out->fate, RIG_ANSWERED); // the SYN, to the next one
		c.snat = out->segment.src;
		c.snat_port = out->segment.sport;
		c.backend = out->segment.dst;
		c.backend_port = out->segment.dport;
		struct segment answer = connection_segment(&c, BACKEND, TCP_SYN | TCP_ACK);
		out = rig_run_segment(rig, 0, &answer);
		assert_int_equal(out->fate, RIG_FORWARDED);
		assert_mac(out->segment.to, &away);
		rig_destroy(rig);
		flow_moves_destroy(moves);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_flow_is_moved_once),
		cmocka_unit_test(a_client_of_its_own_row_goes_by_that),
		cmocka_unit_test(a_client_that_has_sent_needs_nothing),
		cmocka_unit_test(a_reset_goes_to_the_new_mac),
		cmocka_unit_test(a_kept_syn_follows_its_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
