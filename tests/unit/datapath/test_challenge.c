/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backend that still holds a connection of the SNAT tuple, of which Weir knows nothing, answers
 * the SYN by a challenge (case A4): it is told that this one is over, and sent the SYN again.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

enum { TIMEOUT_MS = 250, OLD_SEQ = 145824453, OLD_ACK = 4711 };

static struct rig *create(unsigned tries)
{
	return rig_create(
		&(struct rig_options){.connect = {TIMEOUT_MS, 20, tries}, .nb_workers = 2});
}

/* What the backend says of the connection that it holds. */
static struct segment challenge_of(const struct connection *c)
{
	struct segment segment = connection_segment(c, BACKEND, TCP_ACK);

	segment.seq = OLD_SEQ;
	segment.ack = OLD_ACK;
	return segment;
}

static const struct rig_packet *challenge(const struct connection *c, unsigned worker)
{
	struct segment segment = challenge_of(c);

	return rig_run_segment(c->rig, worker, &segment);
}

/* The RST that its kernel takes: RFC 9293, 3.10.7.3 of who sends it, RFC 5961 of who gets it. */
static void is_told(const struct connection *c, const struct rig_packet *out)
{
	assert_int_equal(out->fate, RIG_ANSWERED);
	assert_int_equal(out->segment.flags, TCP_RST);
	assert_int_equal(out->segment.seq, OLD_ACK);
	assert_true(net_addr_equal(&out->segment.dst, &c->backend));
	assert_true(net_addr_equal(&out->segment.src, &c->snat));
	assert_int_equal(out->segment.dport, c->backend_port);
	assert_int_equal(out->segment.sport, c->snat_port);
	assert_int_equal(connection_state(c), TCP_SYN_SENT);
}

/* The client's SYN, to the same backend from the same port. */
static void is_sent_again(const struct connection *c, unsigned worker)
{
	const struct rig_packet *out = rig_last_made(c->rig, worker);
	struct net_mac mac = rig_backend_mac(c->backend_id);

	assert_int_equal(out->segment.flags, TCP_SYN);
	assert_int_equal(out->segment.seq, c->seq[CLIENT] - 1);
	assert_true(net_addr_equal(&out->segment.dst, &c->backend));
	assert_true(net_addr_equal(&out->segment.src, &c->snat));
	assert_int_equal(out->segment.sport, c->snat_port);
	assert_true(net_mac_equal(&out->segment.to, &mac));
	assert_true(packets_checksums_right(out->frame, out->size, 0));
}

static void is_open(struct connection *c)
{
	connection_send(c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
	connection_send(c, 0, CLIENT, TCP_ACK, 0);
	connection_send(c, 0, CLIENT, TCP_PSH | TCP_ACK, 100);
	assert_int_equal(connection_state(c), TCP_ESTABLISHED);
	assert_int_equal(rig_side_records(c->rig, c->family), 0);
	assert_int_equal(rig_created(c->rig), 1);
}

static void is_answered_and_the_syn_sent_again(void **state)
{
	FOR_EACH_FAMILY(family)
		for (unsigned worker = 0; worker < 2; worker++) { // that has the backend's packets
			struct rig *rig = create(3);
			struct connection c = connection_of(rig, family, 1);

			assert_true(connection_syn(&c, 0));
			is_told(&c, challenge(&c, worker));
			assert_int_equal(rig->workers[0].nb_made, 0);
			rig_wait(rig, 2, 1);
			assert_int_equal(rig->workers[0].nb_made, 1);
			is_sent_again(&c, 0);
			assert_int_equal(rig_connects(rig, worker, c.backend_id)->challenged, 1);
			assert_int_equal(rig_connects(rig, worker, c.backend_id)->refused, 0);
			is_open(&c);
			// The time of an answer is that to the SYN that was taken.
			assert_int_equal(
				stats_connect_answers(rig_connects(rig, 0, c.backend_id)), 1);
			rig_destroy(rig);
		}
}

static void whatever_acknowledges_something_else_is_one(void **state)
{
	static const uint8_t flags[] = {
		TCP_ACK, TCP_PSH | TCP_ACK, TCP_FIN | TCP_ACK, TCP_SYN | TCP_ACK};

	FOR_EACH_FAMILY(family)
		for (unsigned i = 0; i < sizeof(flags); i++) {
			struct rig *rig = create(3);
			struct connection c = connection_of(rig, family, 2);
			assert_true(connection_syn(&c, 0));
			struct segment segment = challenge_of(&c);
			segment.flags = flags[i];
			segment.payload_size = flags[i] & TCP_PSH ? 100 : 0;
			is_told(&c, rig_run_segment(rig, 0, &segment));
			rig_wait(rig, 2, 1);
			is_sent_again(&c, 0);
			is_open(&c);
			rig_destroy(rig);
		}
}

static void what_acknowledges_the_syn_is_the_clients(void **state)
{
	struct rig *rig = create(3);
	struct connection c = connection_of(rig, AF_INET, 3);

	assert_true(connection_syn(&c, 0));
	connection_send(&c, 0, BACKEND, TCP_ACK, 0);
	rig_wait(rig, 2, 1);
	assert_int_equal(rig->workers[0].nb_made, 0);
	is_open(&c);
	rig_destroy(rig);
}

static void once_for_each_syn_of_the_client(
	void **state) // as with a host that ignores the RST: RFC 1337
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create(3);
		struct connection c = connection_of(rig, family, 4);

		assert_true(connection_syn(&c, 0));
		for (unsigned syn = 1; syn <= 2; syn++) {
			for (unsigned i = 0; i < 5; i++) {
				is_told(&c, challenge(&c, 0));
				rig_wait(rig, 2, 1);
				assert_int_equal(rig->workers[0].nb_made, syn);
			}
			assert_int_equal(rig_connects(rig, 0, c.backend_id)->challenged, syn);
			c.seq[CLIENT]--;
			assert_true(connection_syn(&c, 0));
		}
		is_open(&c);
		rig_destroy(rig);
	}
}

static void then_refused_goes_to_the_next(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create(3);
		struct connection c = connection_of(rig, family, 5);

		assert_true(connection_syn(&c, 0));
		challenge(&c, 0);
		rig_wait(rig, 2, 1);
		is_sent_again(&c, 0);
		struct segment refusal = connection_segment(&c, BACKEND, TCP_RST | TCP_ACK);
		refusal.seq = 0;
		const struct rig_packet *out = rig_run_segment(rig, 0, &refusal);
		assert_int_equal(out->fate, RIG_ANSWERED);
		assert_int_equal(out->segment.flags, TCP_SYN);
		assert_false(net_addr_equal(&out->segment.dst, &c.backend) &&
			out->segment.dport == c.backend_port);
		rig_destroy(rig);
	}
}

static void then_silent_goes_to_the_next_in_time(void **state)
{
	struct rig *rig = create(3);
	struct connection c = connection_of(rig, AF_INET, 6);

	rig->workers[0].connects[0].answer_us = rig->workers[0].connects[1].answer_us =
		rig->workers[0].connects[2].answer_us = rig->workers[0].connects[3].answer_us = 100;
	assert_true(connection_syn(&c, 0));
	rig_wait(rig, 100, 1);
	challenge(&c, 0);
	rig_wait(rig, 2, 1);
	is_sent_again(&c, 0);
	uint64_t sent_ms = rig->now_ms;
	while (rig->workers[0].nb_made == 1)
		rig_wait(rig, 1, 1);
	// Its time begins with the SYN that it was to take.
	assert_in_range(rig->now_ms - sent_ms, TIMEOUT_MS - 1, TIMEOUT_MS);
	assert_int_equal(rig_connects(rig, 0, c.backend_id)->timed_out, 1);
	rig_destroy(rig);
}

static void the_client_answers_when_the_syn_is_not_kept(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create(1);
		struct connection c = connection_of(rig, family, 7);

		assert_true(connection_syn(&c, 0));
		const struct rig_packet *out = challenge(&c, 0);
		assert_int_equal(out->fate, RIG_FORWARDED);
		assert_true(net_addr_equal(&out->segment.dst, &c.client));
		assert_int_equal(rig_side_records(rig, family), 1); // the connect's time still runs
		c.seq[CLIENT]--;
		assert_true(connection_syn(&c, 0));
		is_open(&c);
		rig_destroy(rig);
	}
}

static void a_neighbour_that_is_gone_gets_no_syn(void **state)
{
	struct rig *rig = create(3);
	struct connection c = connection_of(rig, AF_INET, 8);

	assert_true(connection_syn(&c, 0));
	challenge(&c, 0);
	rig_set_backend(rig, c.backend_id, true, false);
	rig_wait(rig, 2, 1);
	assert_int_equal(rig->workers[0].nb_made, 0);
	assert_int_equal(rig_dropped(rig, STATS_DROP_NO_NEIGHBOUR), 0);
	rig_destroy(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_answered_and_the_syn_sent_again),
		cmocka_unit_test(whatever_acknowledges_something_else_is_one),
		cmocka_unit_test(what_acknowledges_the_syn_is_the_clients),
		cmocka_unit_test(once_for_each_syn_of_the_client),
		cmocka_unit_test(then_refused_goes_to_the_next),
		cmocka_unit_test(then_silent_goes_to_the_next_in_time),
		cmocka_unit_test(the_client_answers_when_the_syn_is_not_kept),
		cmocka_unit_test(a_neighbour_that_is_gone_gets_no_syn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
