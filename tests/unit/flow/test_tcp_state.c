/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "packets.h"
#include "tcp_state.h"

/*
 * What netfilter's connection tracking does, told as its comments tell it (Linux 6.x,
 * nf_conntrack_proto_tcp.c), each row for itself; "invalid" and "ignored" leave the state.
 */
static enum tcp_state netfilter(
	enum flow_direction direction, enum tcp_event event, enum tcp_state state)
{
	bool client = direction == FLOW_FROM_CLIENT;
	bool half_open = state == TCP_NONE || state == TCP_SYN_SENT || state == TCP_SYN_SENT2;

	switch (event) {
	case TCP_EVENT_SYN:
		if (client && (state == TCP_NONE || state == TCP_TIME_WAIT || state == TCP_CLOSE))
			return TCP_SYN_SENT; // new, or reopened (RFC 1122, 4.2.2.13)
		if (!client && state == TCP_SYN_SENT)
			return TCP_SYN_SENT2; // simultaneous open
		if (!client && state == TCP_TIME_WAIT)
			return TCP_SYN_SENT; // reopened, the server may have become the client
		return state;
	case TCP_EVENT_SYNACK:
		if (state == TCP_SYN_SENT2 || (!client && state == TCP_SYN_SENT))
			return TCP_SYN_RECV;
		return state;
	case TCP_EVENT_FIN:
		if (half_open)
			return state; // comes after the handshake, or is invalid
		if (state == TCP_SYN_RECV || state == TCP_ESTABLISHED)
			return TCP_FIN_WAIT;
		if (state == TCP_TIME_WAIT || state == TCP_CLOSE)
			return state;
		return TCP_LAST_ACK; // the second one, or repeated
	case TCP_EVENT_ACK:
		if (state == TCP_NONE)
			return client ? TCP_ESTABLISHED : state; // picked up in the middle
		if (state == TCP_SYN_RECV)
			return client ? TCP_ESTABLISHED : state;
		if (state == TCP_FIN_WAIT)
			return TCP_CLOSE_WAIT;
		if (state == TCP_LAST_ACK)
			return TCP_TIME_WAIT;
		return state;
	case TCP_EVENT_RST:
		return state == TCP_NONE ? state : TCP_CLOSE;
	default:
		return state;
	}
}

/* Where Weir differs, and why. */
static const struct {
	enum flow_direction direction;
	enum tcp_event event;
	enum tcp_state state;
	const char *reason;
} deviations[] = {
	{FLOW_FROM_CLIENT, TCP_EVENT_SYN, TCP_NONE,
		"a flow is made with its state, not by the table"},
	{FLOW_FROM_CLIENT, TCP_EVENT_ACK, TCP_NONE, "no flow is picked up in the middle"},
	{FLOW_FROM_CLIENT, TCP_EVENT_SYN, TCP_TIME_WAIT,
		"a new flow takes the place of the old one"},
	{FLOW_FROM_CLIENT, TCP_EVENT_SYN, TCP_CLOSE, "a new flow takes the place of the old one"},
	{FLOW_FROM_BACKEND, TCP_EVENT_SYN, TCP_TIME_WAIT, "backends open no connections"},
};

static bool deviates(enum flow_direction direction, enum tcp_event event, enum tcp_state state)
{
	for (unsigned i = 0; i < sizeof(deviations) / sizeof(deviations[0]); i++)
		if (deviations[i].direction == direction && deviations[i].event == event &&
			deviations[i].state == state)
			return true;
	return false;
}

static void every_cell_is_netfilters_or_listed(void **state) // A1
{
	unsigned cells = 0, different = 0;

	for (enum flow_direction d = 0; d < FLOW_DIRECTIONS; d++)
		for (enum tcp_event e = 0; e < TCP_EVENTS; e++)
			for (enum tcp_state s = 0; s < TCP_STATES; s++, cells++) {
				enum tcp_state next = tcp_next_state(d, e, s);
				if (!deviates(d, e, s)) {
					assert_int_equal(next, netfilter(d, e, s));
					continue;
				}
				different++;
				assert_int_not_equal(next, netfilter(d, e, s));
				assert_int_equal(next, s);
			}
	assert_int_equal(cells, 120);
	assert_int_equal(different, sizeof(deviations) / sizeof(deviations[0]));
}

static void no_flow_comes_out_of_the_table(void **state)
{
	for (enum flow_direction d = 0; d < FLOW_DIRECTIONS; d++)
		for (enum tcp_event e = 0; e < TCP_EVENTS; e++)
			for (enum tcp_state s = 0; s < TCP_STATES; s++)
				assert_true(
					(tcp_next_state(d, e, s) == TCP_NONE) == (s == TCP_NONE));
}

static void every_flag_byte_has_its_event(void **state)
{
	for (unsigned flags = 0; flags < 256; flags++) {
		enum tcp_event event = TCP_EVENT_NONE;
		if (flags & TCP_RST)
			event = TCP_EVENT_RST;
		else if ((flags & TCP_SYN) && (flags & TCP_ACK))
			event = TCP_EVENT_SYNACK;
		else if (flags & TCP_SYN)
			event = TCP_EVENT_SYN;
		else if (flags & TCP_FIN)
			event = TCP_EVENT_FIN;
		else if (flags & TCP_ACK)
			event = TCP_EVENT_ACK;
		assert_int_equal(tcp_event(flags), event);
	}
}

static void classes_of_states(void **state)
{
	for (enum tcp_state s = 0; s < TCP_STATES; s++) {
		assert_int_equal(tcp_state_closed(s), s == TCP_TIME_WAIT || s == TCP_CLOSE);
		assert_int_equal(tcp_state_half_open(s),
			s == TCP_SYN_SENT || s == TCP_SYN_RECV || s == TCP_SYN_SENT2);
		assert_int_equal(tcp_state_closing(s),
			s == TCP_FIN_WAIT || s == TCP_CLOSE_WAIT || s == TCP_LAST_ACK ||
				s == TCP_TIME_WAIT || s == TCP_CLOSE);
		assert_non_null(tcp_state_names[s]);
	}
}

/* Three places of a stream of 2^64 bytes, within 2^31 of each other, wherever 2^32 is passed. */
static void sequence_numbers_wrap(void **state) // A19
{
	static const uint64_t edges[] = {0, 1, 2, (1u << 31) - 2, (1u << 31) - 1};
	uint64_t seed = 19;
	unsigned wrong = 0;

	for (unsigned i = 0; i < 1000000; i++) {
		uint64_t at[3];
		at[0] = i & 1 ? packets_random(&seed)
			      : (uint64_t)(packets_random(&seed) >> 40) << 32;
		for (unsigned k = 1; k < 3; k++)
			at[k] = at[0] +
				(i & 2 ? edges[packets_random(&seed) % 5]
				       : packets_random(&seed) >> 33);
		for (unsigned a = 0; a < 3; a++)
			for (unsigned b = 0; b < 3; b++)
				wrong += tcp_seq_after(at[a], at[b]) != (at[a] > at[b]);
	}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cell_is_netfilters_or_listed),
		cmocka_unit_test(no_flow_comes_out_of_the_table),
		cmocka_unit_test(every_flag_byte_has_its_event),
		cmocka_unit_test(classes_of_states),
		cmocka_unit_test(sequence_numbers_wrap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
