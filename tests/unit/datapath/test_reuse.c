/* SPDX-License-Identifier: BSD-3-Clause */
/* A SNAT port lent again while its backend holds it in TIME_WAIT (case A12): what the backend and
 * the client see. rig.c checks that all numbers of a packet are moved alike, and the checksums. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "flow_offsets.h"
#include "rig.h"

/* A connection whose ends have clocks, and what the backend was told. */
struct timed {
	struct connection c;
	bool has_ts;
	uint32_t clock;     // of the client
	uint32_t seq_moved; // what the backend sees its numbers moved by
	uint32_t ts_moved;
};

static void put_number(uint8_t *at, uint32_t number)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = number >> (24 - 8 * i);
}

static uint32_t get_number(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

enum { BACKEND_CLOCK = 777 };

/* Send a segment as its end would, and check that the other end gets it in its own numbers. */
static void timed_send(
	struct timed *t, enum flow_direction direction, uint8_t flags, unsigned payload)
{
	struct connection *c = &t->c;
	struct segment in = connection_segment(c, direction, flags);
	uint8_t options[12] = {1, 1, 8, 10};
	bool to_backend = direction == CLIENT;

	t->clock++;
	in.payload_size = payload;
	if (!to_backend && (flags & TCP_ACK))
		in.ack += t->seq_moved;
	if (t->has_ts) {
		put_number(options + 4, to_backend ? t->clock : BACKEND_CLOCK);
		put_number(options + 8,
			flags == TCP_SYN     ? 0
				: to_backend ? BACKEND_CLOCK
					     : t->clock + t->ts_moved);
		in.options = options;
		in.options_size = sizeof(options);
	}
	const struct rig_packet *out = rig_run_segment(c->rig, 0, &in);
	assert_int_equal(out->fate, RIG_FORWARDED);
	if (flags == TCP_SYN && to_backend) { // learns what is done to it
		t->seq_moved = out->segment.seq - in.seq;
		t->ts_moved = t->has_ts ? get_number(out->segment.options + 4) - t->clock : 0;
	}
	assert_int_equal(out->segment.seq, in.seq + (to_backend ? t->seq_moved : 0));
	if (flags & TCP_ACK)
		assert_int_equal(out->segment.ack, in.ack - (to_backend ? 0 : t->seq_moved));
	if (t->has_ts) {
		assert_int_equal(get_number(out->segment.options + 4),
			get_number(options + 4) + (to_backend ? t->ts_moved : 0));
		assert_int_equal(get_number(out->segment.options + 8),
			get_number(options + 8) - (to_backend ? 0 : t->ts_moved));
	}
	c->seq[direction] += payload + !!(flags & TCP_SYN) + !!(flags & TCP_FIN);
}

static struct timed timed_open(struct rig *rig, sa_family_t family, uint32_t number, uint32_t seq,
	bool has_ts, uint32_t clock)
{
	struct timed t = {
		.c = connection_of(rig, family, number), .has_ts = has_ts, .clock = clock};
	struct connection at_backend = t.c;

	t.c.seq[CLIENT] = at_backend.seq[CLIENT] = seq;
	timed_send(&t, CLIENT, TCP_SYN, 0);
	// Only this one is the backend's: one backend, one port.
	t.c.snat = rig_snat_addr(family, 0);
	t.c.snat_port = RIG_PORT;
	t.c.backend_id = family == AF_INET6;
	t.c.backend = rig_backend_addr(rig, t.c.backend_id);
	t.c.backend_port = rig_backend_port(rig, t.c.backend_id);
	timed_send(&t, BACKEND, TCP_SYN | TCP_ACK, 0);
	timed_send(&t, CLIENT, TCP_ACK, 0);
	assert_int_equal(connection_state(&t.c), TCP_ESTABLISHED);
	return t;
}

/* `first` closes, the other one too. */
static void timed_close(struct timed *t, enum flow_direction first)
{
	timed_send(t, first, TCP_FIN | TCP_ACK, 0);
	timed_send(t, 1 - first, TCP_ACK, 0);
	timed_send(t, 1 - first, TCP_FIN | TCP_ACK, 0);
	timed_send(t, first, TCP_ACK, 0);
	assert_int_equal(connection_state(&t->c), TCP_TIME_WAIT);
}

static struct rig *one_port(void)
{
	return rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 1});
}

static uint64_t renumbered(const struct rig *rig)
{
	const struct stats_flows *flows = rig->workers[0].stats->live.flows;

	return flows[0].renumbered + flows[1].renumbered;
}

/* What Linux wants of a SYN in TIME_WAIT. */
static void assert_taken(const struct timed *last, uint32_t isn, const struct timed *t, uint32_t ts)
{
	bool compares = last->has_ts && t->has_ts;
	uint32_t end = last->c.seq[CLIENT] + last->seq_moved,
		 last_ts = last->clock + last->ts_moved;

	if (compares)
		assert_true((int32_t)(ts + t->ts_moved - last_ts) >= 0);
	assert_true((int32_t)(isn + t->seq_moved - end) > 0 ||
		(compares && (int32_t)(ts + t->ts_moved - last_ts) > 0));
}

static void each_client_is_taken_after_the_other(void **state) // A12
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = one_port();
		uint64_t seed = 12;
		struct timed last = {0};

		for (unsigned n = 0; n < 1000; n++) {
			uint32_t isn = packets_random(&seed), clock = packets_random(&seed) >> 32;
			struct timed t =
				timed_open(rig, family, n, isn, packets_random(&seed) % 4, clock);
			if (n != 0)
				assert_taken(&last, isn, &t, clock + 1);
			timed_send(&t, CLIENT, TCP_ACK | TCP_PSH, 400);
			timed_send(&t, BACKEND, TCP_ACK | TCP_PSH, 1400);
			timed_send(&t, CLIENT, TCP_ACK, 0);
			timed_close(&t, BACKEND);
			rig_wait(rig, packets_random(&seed) % 20000, 1000);
			last = t;
		}
		assert_in_range(renumbered(rig), 300, 800);
		assert_int_equal(rig_created(rig), 1000);
		assert_int_equal(flow_table_used(rig_flows(rig, family)), 1);
		rig_destroy(rig);
	}
}

static void who_needs_nothing_gets_nothing(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = one_port();
		struct timed t;

		// The client closed first, the backend keeps nothing.
		t = timed_open(rig, family, 1, 0x80000000, true, 5000);
		timed_close(&t, CLIENT);
		t = timed_open(rig, family, 2, 1000, true, 1000);
		assert_int_equal(t.seq_moved, 0);
		assert_int_equal(t.ts_moved, 0);
		// Its own numbers will do: the timestamp, or the number when there is none.
		timed_close(&t, BACKEND);
		t = timed_open(rig, family, 3, 500, true, 70000);
		assert_int_equal(renumbered(rig), 0);
		timed_close(&t, BACKEND);
		t = timed_open(rig, family, 4, 3000, false, 0);
		assert_int_equal(renumbered(rig), 0);
		timed_close(&t, BACKEND);
		t = timed_open(rig, family, 5, 3000, false, 0); // below
		assert_int_equal(renumbered(rig), 1);
		// The backend is gone for good: by RST.
		timed_send(&t, BACKEND, TCP_RST, 0);
		t = timed_open(rig, family, 6, 3000, false, 0);
		assert_int_equal(renumbered(rig), 1);
		assert_int_equal(t.seq_moved, 0);
		rig_destroy(rig);
	}
}

/* Both FINs under way at once: the backend goes to TIME_WAIT, too. */
static void simultaneous_close_lingers(void **state) // A10, A12
{
	struct rig *rig = one_port();
	struct timed t = timed_open(rig, AF_INET, 1, 1000, true, 5000);

	timed_send(&t, CLIENT, TCP_FIN | TCP_ACK, 0);
	t.c.seq[CLIENT]--; // the backend hasn't seen it
	timed_send(&t, BACKEND, TCP_FIN | TCP_ACK, 0);
	t.c.seq[CLIENT]++;
	timed_send(&t, CLIENT, TCP_ACK, 0);
	timed_send(&t, BACKEND, TCP_ACK, 0);
	assert_int_equal(connection_state(&t.c), TCP_TIME_WAIT);
	struct timed next = timed_open(rig, AF_INET, 2, 500, true, 100);
	assert_taken(&t, 500, &next, 101);
	assert_int_equal(renumbered(rig), 1);
	rig_destroy(rig);
}

/* A flow with moved numbers, and the closed one it came after. */
static struct timed moved_flow(struct rig *rig, sa_family_t family)
{
	struct timed t = timed_open(rig, family, 1, 0x50000000, true, 5000);

	timed_close(&t, BACKEND);
	t = timed_open(rig, family, 2, 0x10000000, true, 1000);
	assert_int_not_equal(t.seq_moved, 0);
	assert_int_not_equal(t.ts_moved, 0);
	timed_send(&t, CLIENT, TCP_ACK | TCP_PSH, 500);
	timed_send(&t, BACKEND, TCP_ACK | TCP_PSH, 700);
	timed_send(&t, CLIENT, TCP_ACK, 0);
	return t;
}

static void inject(
	struct timed *t, enum flow_direction direction, uint8_t flags, uint32_t seq, uint32_t ack)
{
	struct segment segment = connection_segment(&t->c, direction, flags);

	segment.seq = seq;
	segment.ack = ack;
	assert_int_equal(rig_run_segment(t->c.rig, 0, &segment)->fate, RIG_FORWARDED);
}

static void guards_compare_in_the_right_space(void **state) // A6
{
	FOR_EACH_FAMILY(family)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct rig *rig = one_port();
			struct timed t = moved_flow(rig, family);
			uint32_t exact = t.c.seq[side];

			// The client's numbers as the backend sees them are nobody's that a client
			// sends.
			inject(&t, side, TCP_RST, t.c.seq[CLIENT] + t.seq_moved, 0);
			inject(&t, side, TCP_RST, exact + 1, 0);
			inject(&t, side, TCP_RST, exact - 1, 0);
			inject(&t, CLIENT, TCP_SYN, 99, 0);
			inject(&t, BACKEND, TCP_SYN | TCP_ACK, 99, t.c.seq[CLIENT]);
			assert_int_equal(connection_state(&t.c), TCP_ESTABLISHED);
			timed_send(&t, CLIENT, TCP_ACK, 10);
			timed_send(&t, BACKEND, TCP_ACK, 10);
			inject(&t, side, TCP_RST, t.c.seq[side], 0);
			assert_int_equal(connection_state(&t.c), TCP_CLOSE);
			rig_destroy(rig);
		}
}

/* Refused while it opens: the RST acknowledges the SYN as the backend saw it. */
static void refusal_of_a_moved_syn(void **state)
{
	struct rig *rig = one_port();
	struct timed t = timed_open(rig, AF_INET, 1, 0x50000000, true, 5000);
	struct segment segment;

	timed_close(&t, BACKEND);
	struct timed next = {.c = connection_of(rig, AF_INET, 2)};
	next.c.seq[CLIENT] = 1000;
	timed_send(&next, CLIENT, TCP_SYN, 0);
	assert_int_not_equal(next.seq_moved, 0);
	next.c.snat = t.c.snat;
	next.c.snat_port = t.c.snat_port;
	next.c.backend = t.c.backend;
	next.c.backend_port = t.c.backend_port;
	segment = connection_segment(&next.c, BACKEND, TCP_RST | TCP_ACK);
	segment.seq = 0;
	assert_int_equal(segment.ack, 1001);
	rig_run_segment(rig, 0, &segment); // not moved: forged
	assert_int_equal(connection_state(&next.c), TCP_SYN_SENT);
	segment.ack += next.seq_moved;
	const struct rig_packet *out = rig_run_segment(rig, 0, &segment);
	assert_int_equal(out->segment.ack, 1001);
	assert_int_equal(connection_state(&next.c), TCP_CLOSE);
	rig_destroy(rig);
}

static void data_lost_repeated_and_acknowledged_in_parts(void **state) // A8, A18
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = one_port();
		struct timed t = moved_flow(rig, family);
		uint32_t seq = t.c.seq[CLIENT];

		for (unsigned i = 0; i < 10; i++)
			timed_send(&t, CLIENT, TCP_ACK, 1000);
		// The backend has all but the third; rig.c checks the blocks.
		struct segment segment = connection_segment(&t.c, BACKEND, TCP_ACK);
		uint8_t options[12] = {1, 1, 5, 10};
		put_number(options + 4, seq + t.seq_moved + 3000);
		put_number(options + 8, seq + t.seq_moved + 10000);
		segment.ack = seq + t.seq_moved + 2000;
		segment.options = options;
		segment.options_size = sizeof(options);
		const struct rig_packet *out = rig_run_segment(rig, 0, &segment);
		assert_int_equal(out->segment.ack, seq + 2000);
		assert_int_equal(get_number(out->segment.options + 4), seq + 3000);
		assert_int_equal(get_number(out->segment.options + 8), seq + 10000);
		t.c.seq[CLIENT] = seq + 2000;
		timed_send(&t, CLIENT, TCP_ACK, 1000);
		rig_destroy(rig);
	}
}

/* The client comes again from the same port: its new flow gets another SNAT port, and what is known
 * of the old one waits for who gets that. */
static void same_client_again(void **state) // A12, A13
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig =
			rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 2});
		struct connection a = connection_of(rig, family, 1),
				  b = connection_of(rig, family, 2);

		a.seq[CLIENT] = 0x50000000;
		assert_true(connection_open(&a, 0));
		connection_send(&a, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
		connection_send(&a, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
		connection_send(&a, 0, BACKEND, TCP_ACK, 0);
		assert_int_equal(connection_state(&a), TCP_TIME_WAIT);
		struct connection old = a;
		a.seq[CLIENT] += 70000;
		assert_true(connection_open(&a, 0));
		assert_int_not_equal(a.snat_port, old.snat_port);
		// Whatever the backend still says of the old connection isn't for the new one.
		struct segment late = connection_segment(&old, BACKEND, TCP_ACK);
		const struct rig_packet *out = rig_run_segment(rig, 0, &late);
		assert_int_equal(out->fate, RIG_ANSWERED);
		assert_int_equal(out->segment.flags & TCP_RST, TCP_RST);
		assert_int_equal(out->segment.seq, late.ack);
		connection_send(&a, 0, CLIENT, TCP_ACK, 10);
		connection_send(&a, 0, BACKEND, TCP_ACK, 10);
		// Another client gets the old port.
		b.seq[CLIENT] = 0x10000000;
		assert_true(connection_syn(&b, 0));
		assert_int_equal(b.snat_port, old.snat_port);
		assert_int_equal(renumbered(rig), 1);
		assert_int_equal(flow_table_used(rig_flows(rig, family)), 2);
		rig_destroy(rig);
	}
}

/* The same with an unfinished close, over and over: no port and no record is lost. */
static void same_client_again_and_again(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(&(struct rig_options){.nb_ports = 7});
		struct connection c = connection_of(rig, family, 1);

		for (unsigned i = 0; i < 10000; i++) {
			assert_true(connection_open(&c, 0));
			if (i % 3 != 0)
				connection_send(&c, 0, i & 1, TCP_FIN | TCP_ACK, 0);
			if (i % 3 == 1)
				connection_send(&c, 0, 1 - (i & 1), TCP_FIN | TCP_ACK, 0);
			if (i % 3 == 0)
				connection_send(&c, 0, i & 1, TCP_RST, 0);
			// Half closed, it is a live connection: who opens another one by that tuple
			// is told so, and ends it.
			if (i % 3 == 2)
				connection_send(&c, 0, CLIENT, TCP_RST, 0);
			// Nor are both sides through before the second FIN is acknowledged.
			assert_int_equal(rig_ports_used(rig), i % 3 == 1);
			if (i % 3 == 1)
				connection_send(&c, 0, i & 1, TCP_ACK, 0);
			assert_int_equal(rig_ports_used(rig), 0);
			c.seq[CLIENT] += 12345;
			rig_wait(rig, 1, 1);
		}
		rig_wait(rig, 250000, 1000);
		assert_int_equal(flow_table_used(rig_flows(rig, family)), 0);
		assert_int_equal(rig_ports_used(rig), 0);
		rig_destroy(rig);
	}
}

/* A full table: the records of closed flows give way, and with them what was known. */
static void record_that_gave_way_is_no_harm(void **state)
{
	struct rig *rig =
		rig_create(&(struct rig_options){.nb_backends = 1, .nb_ports = 40, .flows = 20});

	for (unsigned n = 0; n < 500; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_open(&c, 0));
		connection_send(&c, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
		connection_send(&c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
		connection_send(&c, 0, BACKEND, TCP_ACK, 0);
		rig_wait(rig, 1, 1);
	}
	assert_int_equal(renumbered(rig), 0);
	rig_destroy(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_client_is_taken_after_the_other),
		cmocka_unit_test(who_needs_nothing_gets_nothing),
		cmocka_unit_test(simultaneous_close_lingers),
		cmocka_unit_test(guards_compare_in_the_right_space),
		cmocka_unit_test(refusal_of_a_moved_syn),
		cmocka_unit_test(data_lost_repeated_and_acknowledged_in_parts),
		cmocka_unit_test(same_client_again),
		cmocka_unit_test(same_client_again_and_again),
		cmocka_unit_test(record_that_gave_way_is_no_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
