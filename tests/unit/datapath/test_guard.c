/* SPDX-License-Identifier: BSD-3-Clause */
/* What must not end or move a flow, and what must (A3 to A7, A16; netfilter's own test scripts). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

/* Send a segment with these numbers; it must come out at the other end. */
static void inject(struct connection *c, enum flow_direction direction, uint8_t flags, uint32_t seq,
	uint32_t ack, unsigned payload)
{
	uint32_t numbers[] = {c->seq[0], c->seq[1]};

	c->seq[direction] = seq;
	c->seq[1 - direction] = ack;
	connection_send(c, 0, direction, flags, payload);
	c->seq[0] = numbers[0];
	c->seq[1] = numbers[1];
}

static void only_an_exact_reset_ends_a_flow(void **state) // A6, conntrack_rst_invalid.pkt
{
	FOR_EACH_FAMILY(family)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct rig *rig = rig_create(NULL);
			struct connection c = connection_in_use(rig, family, 1);
			uint32_t exact = c.seq[side];
			static const uint32_t offsets[] = {1000000, 1, 2, -1, 100, 65535, 1u << 31};

			inject(&c, side, TCP_RST, 0, 0, 0);
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
			for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
				inject(&c, side, TCP_RST, exact + offsets[i], 0, 0);
				inject(&c, side, TCP_RST | TCP_ACK, exact + offsets[i],
					c.seq[1 - side], 0);
				assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
			}
			connection_send(&c, 0, CLIENT, TCP_ACK, 10); // it goes on
			connection_send(&c, 0, BACKEND, TCP_ACK, 10);
			connection_send(&c, 0, side, TCP_RST, 0);
			assert_int_equal(connection_state(&c), TCP_CLOSE);
			rig_destroy(rig);
		}
}

/* Data is under way and not acknowledged: a RST in a train stands at its end. */
static void reset_behind_unacknowledged_data_is_exact(void **state) // A6
{
	for (enum flow_direction side = 0; side < 2; side++) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_in_use(rig, AF_INET, 2);

		for (unsigned i = 0; i < 100; i++)
			connection_send(&c, 0, side, TCP_ACK, 1400);
		connection_send(&c, 0, side, TCP_RST, 0);
		assert_int_equal(connection_state(&c), TCP_CLOSE);
		rig_destroy(rig);
	}
}

/* What a blind sender may say in a client's name: RST, SYN, or an error about a packet that the
 * client was never sent, any number in it. */
static unsigned forge(const struct connection *victim, uint64_t *seed, uint8_t *frame)
{
	uint64_t random = packets_random(seed);
	struct segment segment =
		connection_segment(victim, CLIENT, random % 3 == 0 ? TCP_RST : TCP_SYN);
	uint8_t quote[PACKETS_SIZE_MAX];

	segment.seq = packets_random(seed);
	if (segment.seq == victim->seq[CLIENT])
		segment.seq++;
	if (random % 3 != 2)
		return packets_build(&segment, frame);
	bool v6 = victim->family == AF_INET6;
	struct segment back = segment;
	back.src = segment.dst;
	back.dst = segment.src;
	back.sport = segment.dport;
	back.dport = segment.sport;
	unsigned size = packets_build(&back, quote) - PACKETS_IP_OFFSET;
	static const uint8_t types[2][4] = {{3, 4, 11, 12}, {1, 2, 3, 4}};
	struct icmp_error error = {
		.from = segment.from,
		.to = segment.to,
		.src = segment.src,
		.dst = segment.dst,
		.ttl = 60,
		.type = types[v6][random >> 8 & 3],
		.code = random >> 16 & 15,
		.rest = random >> 24 & 1 ? 68 : 0,
		.quote = quote + PACKETS_IP_OFFSET,
		.quote_size = size - (random >> 32) % 13,
	};
	return packets_build_error(&error, frame);
}

static void a_million_forged_packets_end_no_flow(void **state) // A6, B18
{
	enum { FLOWS = 100, FORGED = 1000000 };
	struct rig *rig = rig_create(NULL);
	struct connection c[FLOWS];
	struct flow *flows[FLOWS];
	uint64_t seed = 6;
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned n = 0; n < FLOWS; n++) {
		c[n] = connection_in_use(rig, n & 1 ? AF_INET6 : AF_INET, n);
		flows[n] = connection_flow(&c[n]);
	}
	for (unsigned i = 0; i < FORGED; i++) {
		unsigned size = forge(&c[i % FLOWS], &seed, frame);
		assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, RIG_FORWARDED);
	}
	for (unsigned n = 0; n < FLOWS; n++) {
		assert_int_equal(connection_state(&c[n]), TCP_ESTABLISHED);
		assert_ptr_equal(connection_flow(&c[n]), flows[n]);
		connection_send(&c[n], 0, CLIENT, TCP_ACK, 10);
		connection_send(&c[n], 0, BACKEND, TCP_ACK, 10);
	}
	// Tracked still: by its own exact RST each ends.
	for (unsigned n = 0; n < FLOWS; n++) {
		connection_send(&c[n], 0, CLIENT, TCP_RST, 0);
		assert_int_equal(connection_state(&c[n]), TCP_CLOSE);
	}
	assert_int_equal(rig_created(rig), FLOWS);
	rig_destroy(rig);
}

/* A blind sender first moves what is known of the client by data or FIN, then sends
 * the RST for it. */
static void blind_pairs_end_no_flow(void **state) // A6
{
	enum { FLOWS = 900, TRIES = 20 };
	static const uint8_t first[] = {
		TCP_ACK, TCP_FIN | TCP_ACK, TCP_SYN, TCP_SYN | TCP_ACK, TCP_RST};
	uint64_t seed = 66;

	for (unsigned kind = 0; kind < sizeof(first); kind++) {
		struct rig *rig = rig_create(NULL);
		unsigned nb_lost = 0;
		for (unsigned n = 0; n < FLOWS; n++) {
			struct connection c = connection_in_use(rig, AF_INET, n);
			for (unsigned i = 0; i < TRIES; i++) {
				uint32_t seq = packets_random(&seed), ack = packets_random(&seed);
				unsigned payload = kind == 0 ? 100 : 0;
				inject(&c, CLIENT, first[kind], seq, ack, payload);
				inject(&c, CLIENT, TCP_RST, seq + payload, 0, 0);
				inject(&c, CLIENT, TCP_RST, seq + payload + 1, 0, 0);
			}
			nb_lost += connection_state(&c) != TCP_ESTABLISHED;
		}
		print_message("flags %02x: %u of %u flows in %u tries each\n", first[kind], nb_lost,
			FLOWS, TRIES);
		assert_int_equal(nb_lost, 0);
		rig_destroy(rig);
	}
}

/* netfilter takes any number behind a FIN; the receiver doesn't. */
static void no_other_reset_ends_what_is_closing(void **state) // A7, conntrack_inexact_rst.pkt
{
	FOR_EACH_FAMILY(family)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct rig *rig = rig_create(NULL);
			struct connection c = connection_in_use(rig, family, 3);

			connection_send(&c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
			connection_send(&c, 0, BACKEND, TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_CLOSE_WAIT);
			inject(&c, side, TCP_RST, c.seq[side] + 12345, 0, 0);
			assert_int_equal(connection_state(&c), TCP_CLOSE_WAIT);
			connection_send(&c, 0, side, TCP_RST, 0);
			assert_int_equal(connection_state(&c), TCP_CLOSE);
			rig_destroy(rig);
		}
}

static void resets_of_half_open_flows(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 4);

		// From the backend: port closed.
		assert_true(connection_syn(&c, 0));
		inject(&c, BACKEND, TCP_RST, 0, 0, 0);
		inject(&c, BACKEND, TCP_RST | TCP_ACK, 0, c.seq[CLIENT] + 1, 0);
		inject(&c, BACKEND, TCP_RST | TCP_ACK, 0, c.seq[CLIENT] - 1, 0);
		assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		inject(&c, BACKEND, TCP_RST | TCP_ACK, 0, c.seq[CLIENT], 0);
		assert_int_equal(connection_state(&c), TCP_CLOSE);
		assert_int_equal(rig_ports_used(rig), 0);

		// From the client, which gives up: before the answer, and after it.
		c = connection_of(rig, family, 5);
		assert_true(connection_syn(&c, 0));
		inject(&c, CLIENT, TCP_RST, 0, 0, 0);
		inject(&c, CLIENT, TCP_RST, c.seq[CLIENT] + 1, 0, 0);
		assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		connection_send(&c, 0, CLIENT, TCP_RST, 0);
		assert_int_equal(connection_state(&c), TCP_CLOSE);
		c = connection_of(rig, family, 6);
		assert_true(connection_syn(&c, 0));
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		inject(&c, CLIENT, TCP_RST, c.seq[CLIENT] + 99, 0, 0);
		assert_int_equal(connection_state(&c), TCP_SYN_RECV);
		connection_send(&c, 0, CLIENT, TCP_RST, 0);
		assert_int_equal(connection_state(&c), TCP_CLOSE);
		rig_destroy(rig);
	}
}

static void answer_to_an_old_syn(void **state) // A3, conntrack_synack_old.pkt
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 7);

		assert_true(connection_syn(&c, 0));
		inject(&c, BACKEND, TCP_SYN | TCP_ACK, 145824453, 643160523,
			0); // of another connection
		assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		inject(&c, CLIENT, TCP_RST, 643160523, 0, 0); // the client's answer to that
		assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		assert_int_equal(rig_created(rig), 1);
		rig_destroy(rig);
	}
}

static void challenge_ack_to_a_reused_tuple(void **state) // A4, conntrack_syn_challenge_ack.pkt
{
	FOR_EACH_FAMILY(family)
		for (unsigned i = 0; i < 4; i++) { // wherever the old connection's numbers stand
			struct rig *rig = rig_create(NULL);
			struct connection c = connection_of(rig, family, 8);
			uint32_t old_ack = c.seq[CLIENT] + (i << 30) + 4711;

			assert_true(connection_syn(&c, 0));
			inject(&c, BACKEND, TCP_ACK, 145824453, old_ack, 0);
			inject(&c, CLIENT, TCP_RST, old_ack, 0, 0);
			assert_int_equal(connection_state(&c), TCP_SYN_SENT);
			c.seq[CLIENT]--;
			assert_true(connection_syn(&c, 0));
			connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
			connection_send(&c, 0, CLIENT, TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
			assert_int_equal(rig_created(rig), 1);
			rig_destroy(rig);
		}
}

static void client_that_forgot_the_connection(void **state) // A5, conntrack_synack_reuse.pkt
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_in_use(rig, family, 9);

		inject(&c, CLIENT, TCP_SYN, 987654321, 0, 0);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		assert_int_equal(rig_created(rig), 1);
		connection_send(&c, 0, BACKEND, TCP_ACK, 0); // the challenge
		connection_send(&c, 0, CLIENT, TCP_RST, 0);
		assert_int_equal(connection_state(&c), TCP_CLOSE);
		rig_set_backend(rig, c.backend_id, false, true);
		unsigned old = c.backend_id;
		c.seq[CLIENT] = 987654321;
		assert_true(connection_syn(&c, 0));
		assert_int_not_equal(c.backend_id, old);
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_SYN_RECV);
		assert_int_equal(rig_created(rig), 2);
		rig_destroy(rig);
	}
}

static void syn_on_a_live_flow_is_forwarded(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig =
			rig_create(&(struct rig_options){.scheduler = &scheduler_round_robin});
		struct connection c = connection_in_use(rig, family, 10);

		for (unsigned i = 0; i < 100; i++) {
			inject(&c, CLIENT, i & 1 ? TCP_SYN : TCP_SYN | TCP_ECE | TCP_CWR, i * 99999,
				0, i % 7);
			inject(&c, BACKEND, i & 1 ? TCP_SYN : TCP_SYN | TCP_ACK, i * 99999, i, 0);
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		}
		connection_send(&c, 0, CLIENT, TCP_ACK, 100);
		connection_send(&c, 0, CLIENT, TCP_RST, 0); // its number is still known
		assert_int_equal(connection_state(&c), TCP_CLOSE);
		assert_int_equal(rig_created(rig), 1);
		rig_destroy(rig);
	}
}

static void a_flood_of_syn_and_ack_establishes_nothing(void **state)
{
	struct rig *rig = rig_create(NULL);
	uint64_t seed = 12;
	unsigned nb_established = 0;

	for (unsigned n = 0; n < 900; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		assert_true(connection_syn(&c, 0));
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		for (unsigned i = 0; i < 5; i++) // who doesn't see the answer can't acknowledge it
			inject(&c, CLIENT, i & 1 ? TCP_ACK : TCP_FIN | TCP_ACK, c.seq[CLIENT],
				packets_random(&seed), i);
		nb_established += connection_state(&c) != TCP_SYN_RECV;
	}
	assert_int_equal(nb_established, 0);
	rig_destroy(rig);
}

static void idle_time_is_that_of_the_flow(void **state) // A15, A16
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_in_use(rig, family, 11);
		uint64_t start_ms = rig->now_ms;

		// What is no packet of the flow doesn't keep it alive.
		for (unsigned s = 0; s < 7439; s += 60) {
			rig_wait(rig, start_ms + s * 1000 - rig->now_ms, 2000);
			inject(&c, CLIENT, TCP_RST, c.seq[CLIENT] + 4711, 0, 0);
			inject(&c, CLIENT, TCP_SYN, 1, 0, 0);
		}
		rig_wait(rig, start_ms + 7439000 - rig->now_ms, 1);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		rig_wait(rig, 1000 + 2000, 1); // to 7,440 s, and one period of the sweep
		assert_int_equal(connection_state(&c), TCP_NONE);
		assert_int_equal(rig_ports_used(rig), 0);
		rig_destroy(rig);
	}
}

static void each_state_has_its_time(void **state)
{
	static const struct {
		unsigned packets; // of the list below
		enum tcp_state state;
		unsigned idle_s;
	} cases[] = {{1, TCP_SYN_SENT, 240}, {2, TCP_SYN_RECV, 240}, {3, TCP_ESTABLISHED, 7440},
		{4, TCP_FIN_WAIT, 240}, {5, TCP_CLOSE_WAIT, 240}, {6, TCP_LAST_ACK, 240},
		{7, TCP_TIME_WAIT, 60}, {8, TCP_CLOSE, 60}};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, AF_INET, 12);
		rig->now_ms += 65536000 - 3000; // the clock's lower 16 bits turn in between
		rig_wait(rig, 10, 10);
		for (unsigned p = 0; p < cases[i].packets; p++) {
			static const uint8_t flags[] = {TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK,
				TCP_FIN | TCP_ACK, TCP_ACK, TCP_FIN | TCP_ACK, TCP_ACK, TCP_RST};
			if (p == 0)
				assert_true(connection_syn(&c, 0));
			else
				connection_send(&c, 0,
					p == 1 || p == 4 || p == 5 ? BACKEND : CLIENT, flags[p], 0);
		}
		assert_int_equal(connection_state(&c), cases[i].state);
		rig_wait(rig, (cases[i].idle_s - 1) * 1000, 500);
		assert_int_equal(connection_state(&c), cases[i].state);
		rig_wait(rig, 1000 + 1000 + 2000, 500); // rounded up, and one period of the sweep
		assert_int_equal(connection_state(&c), TCP_NONE);
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_an_exact_reset_ends_a_flow),
		cmocka_unit_test(reset_behind_unacknowledged_data_is_exact),
		cmocka_unit_test(a_million_forged_packets_end_no_flow),
		cmocka_unit_test(blind_pairs_end_no_flow),
		cmocka_unit_test(no_other_reset_ends_what_is_closing),
		cmocka_unit_test(resets_of_half_open_flows),
		cmocka_unit_test(answer_to_an_old_syn),
		cmocka_unit_test(challenge_ack_to_a_reused_tuple),
		cmocka_unit_test(client_that_forgot_the_connection),
		cmocka_unit_test(syn_on_a_live_flow_is_forwarded),
		cmocka_unit_test(a_flood_of_syn_and_ack_establishes_nothing),
		cmocka_unit_test(idle_time_is_that_of_the_flow),
		cmocka_unit_test(each_state_has_its_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
