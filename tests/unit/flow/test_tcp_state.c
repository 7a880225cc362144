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
static enum tcp_state netfilter_fin(enum tcp_state state)
{
	if (state == TCP_NONE || state == TCP_SYN_SENT || state == TCP_SYN_SENT2)
		return state; // comes after the handshake, or is invalid
	if (state == TCP_SYN_RECV || state == TCP_ESTABLISHED)
		return TCP_FIN_WAIT;
	if (state == TCP_TIME_WAIT || state == TCP_CLOSE)
		return state;
	return TCP_LAST_ACK; // the second one, or repeated
}

static enum tcp_state netfilter(
	enum flow_direction direction, enum tcp_event event, enum tcp_state state)
{
	bool client = direction == FLOW_FROM_CLIENT;

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
	{FLOW_FROM_CLIENT, TCP_EVENT_ACK, TCP_FIN_WAIT, "only if it acknowledges the FIN"},
	{FLOW_FROM_BACKEND, TCP_EVENT_ACK, TCP_FIN_WAIT, "only if it acknowledges the FIN"},
	{FLOW_FROM_CLIENT, TCP_EVENT_ACK, TCP_LAST_ACK, "only if both FINs are acknowledged then"},
	{FLOW_FROM_BACKEND, TCP_EVENT_ACK, TCP_LAST_ACK, "only if both FINs are acknowledged then"},
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
	assert_int_equal(cells, 100);
	assert_int_equal(different, sizeof(deviations) / sizeof(deviations[0]));
}

/* What an end does when both close, each once: send its FIN, acknowledge the other's. */
static void close_step(enum tcp_fin fins[FLOW_DIRECTIONS], const char *step)
{
	switch (*step) {
	case 'C':
		fins[FLOW_FROM_CLIENT] = TCP_FIN_SENT;
		break;
	case 'B':
		fins[FLOW_FROM_BACKEND] = TCP_FIN_SENT;
		break;
	case 'c':
		fins[FLOW_FROM_CLIENT] = TCP_FIN_ACKED;
		break;
	case 'b':
		fins[FLOW_FROM_BACKEND] = TCP_FIN_ACKED;
		break;
	}
}

/* All orders of both FINs and their acknowledgements, in words of their own: C and B are the FINs,
 * c and b their acknowledgements. What netfilter calls otherwise is where it takes the first
 * acknowledgement for both. */
static void closing_is_as_netfilter_has_it(void **state) // A1
{
	static const struct {
		const char *steps;
		enum tcp_state states[4];
		const char *reason; // why netfilter has another one at the third step
	} orders[] = {
		{"CcBb", {TCP_FIN_WAIT, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_TIME_WAIT}, NULL},
		{"BbCc", {TCP_FIN_WAIT, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_TIME_WAIT}, NULL},
		{"CBcb", {TCP_FIN_WAIT, TCP_LAST_ACK, TCP_LAST_ACK, TCP_TIME_WAIT}, "one is open"},
		{"CBbc", {TCP_FIN_WAIT, TCP_LAST_ACK, TCP_LAST_ACK, TCP_TIME_WAIT}, "one is open"},
		{"BCcb", {TCP_FIN_WAIT, TCP_LAST_ACK, TCP_LAST_ACK, TCP_TIME_WAIT}, "one is open"},
		{"BCbc", {TCP_FIN_WAIT, TCP_LAST_ACK, TCP_LAST_ACK, TCP_TIME_WAIT}, "one is open"},
	};

	for (unsigned i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		enum tcp_fin fins[FLOW_DIRECTIONS] = {0};
		enum tcp_state other = TCP_ESTABLISHED;
		assert_int_equal(tcp_status(fins), TCP_ESTABLISHED);
		for (unsigned at = 0; at < 4; at++) {
			const char *step = &orders[i].steps[at];
			close_step(fins, step);
			enum tcp_state next = tcp_status_state(tcp_status(fins));
			other = *step < 'a' ? netfilter_fin(other)
					    : netfilter(FLOW_FROM_CLIENT, TCP_EVENT_ACK, other);
			assert_int_equal(next, orders[i].states[at]);
			assert_int_equal(next != other, at == 2 && orders[i].reason != NULL);
		}
	}
}

static void a_status_is_a_state_and_two_fins(void **state)
{
	for (enum tcp_fin client = 0; client <= TCP_FIN_ACKED; client++)
		for (enum tcp_fin backend = 0; backend <= TCP_FIN_ACKED; backend++) {
			const enum tcp_fin fins[] = {client, backend};
			uint8_t status = tcp_status(fins);
			assert_int_equal(tcp_status_fin(status, FLOW_FROM_CLIENT), client);
			assert_int_equal(tcp_status_fin(status, FLOW_FROM_BACKEND), backend);
			assert_in_range(tcp_status_state(status), TCP_ESTABLISHED, TCP_TIME_WAIT);
			// Both are through, or neither the port nor the count is given back.
			assert_int_equal(tcp_state_closed(tcp_status_state(status)),
				client == TCP_FIN_ACKED && backend == TCP_FIN_ACKED);
		}
	for (enum tcp_state s = 0; s < TCP_STATES; s++) // of version 1, and with no stream
		assert_int_equal(tcp_status_state(s), s);
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
		assert_int_equal(tcp_state_open(s),
			s == TCP_ESTABLISHED || s == TCP_FIN_WAIT || s == TCP_CLOSE_WAIT ||
				s == TCP_LAST_ACK);
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
		cmocka_unit_test(closing_is_as_netfilter_has_it),
		cmocka_unit_test(a_status_is_a_state_and_two_fins),
		cmocka_unit_test(no_flow_comes_out_of_the_table),
		cmocka_unit_test(every_flag_byte_has_its_event),
		cmocka_unit_test(classes_of_states),
		cmocka_unit_test(sequence_numbers_wrap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
