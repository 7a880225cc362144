/* SPDX-License-Identifier: BSD-3-Clause */
/* SNAT ports lent again while the backend holds them in TIME_WAIT (case A12), against what Linux
 * does with the SYN. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "flow_offsets.h"
#include "packets.h"

/* What a Linux host keeps of a connection in TIME_WAIT. */
struct time_wait {
	uint32_t rcv_nxt;
	uint32_t ts_recent;
	bool has_ts;
};

/* tcp_timewait_state_process() and tcp_paws_reject() of Linux 6.x, for a SYN within 24 days:
 * whether it opens a connection at once. */
static bool linux_takes(const struct time_wait *tw, uint32_t seq, bool has_ts, uint32_t ts)
{
	bool saw_tstamp = tw->has_ts && has_ts;
	bool paws_reject = saw_tstamp && (int32_t)(tw->ts_recent - ts) > 0 && tw->ts_recent != 0;

	return !paws_reject &&
		((int32_t)(tw->rcv_nxt - seq) < 0 ||
			(saw_tstamp && (int32_t)(tw->ts_recent - ts) < 0));
}

/* A closed flow as its backend saw it. */
static struct flow closed_flow(const struct time_wait *tw, uint32_t now_s)
{
	struct flow flow = {.status = TCP_TIME_WAIT, .last_seen = now_s};

	flow.end[FLOW_FROM_CLIENT] = tw->rcv_nxt;
	flow_lingers(&flow);
	if (tw->has_ts)
		flow_note_ts(&flow, tw->ts_recent);
	return flow;
}

static uint32_t random32(uint64_t *seed)
{
	return packets_random(seed) >> 32;
}

static struct flow_syn random_syn(uint64_t *seed)
{
	return (struct flow_syn){random32(seed), random32(seed), packets_random(seed) % 4 != 0,
		packets_random(seed)};
}

static void every_syn_is_taken(void **state) // A12
{
	uint64_t seed = 12;
	unsigned nb_moved = 0, nb_plain = 0;

	for (unsigned i = 0; i < 1000000; i++) {
		struct time_wait tw = {random32(&seed), random32(&seed), i % 3 != 0};
		struct flow before = closed_flow(&tw, 1000), flow = {0};
		struct flow_syn syn = random_syn(&seed);
		if (i % 5 == 0) // near each other
			syn.seq = tw.rcv_nxt + (int32_t)(i % 7) - 3;
		if (i % 11 == 0)
			syn.ts = tw.ts_recent + (int32_t)(i % 7) - 3;
		bool moved = flow_take_over(&flow, &syn, &before, 1000 + i % 60);
		struct flow_offsets offsets = flow_offsets(&flow);

		assert_true(linux_takes(&tw, syn.seq + offsets.seq[FLOW_FROM_CLIENT], syn.has_ts,
			syn.ts + offsets.ts[FLOW_FROM_CLIENT]));
		// Only the flows that need it.
		assert_int_equal(moved, !linux_takes(&tw, syn.seq, syn.has_ts, syn.ts));
		assert_int_equal(moved, flow_has(&flow, FLOW_TRANSLATED));
		assert_true(moved || (offsets.seq[0] == 0 && offsets.ts[0] == 0));
		// And of those what needs it; but for what moves by nothing.
		assert_true(flow_has(&flow, FLOW_SEQ_MOVED) || offsets.seq[0] == 0);
		assert_int_equal(flow_has(&flow, FLOW_TS_MOVED), moved && tw.has_ts && syn.has_ts);
		nb_moved += moved;
		nb_plain += !moved;
	}
	assert_in_range(nb_moved, 300000, 700000);
	assert_int_equal(nb_moved + nb_plain, 1000000);
}

static void first_use_is_left_alone(void **state)
{
	struct time_wait tw = {1000, 5000, true};
	struct flow before = closed_flow(&tw, 10), flow;
	struct flow_syn syn = {.seq = 1, .ts = 1, .has_ts = true};

	memset(&flow, 0xff, sizeof(flow));
	flow.flags = FLOW_TRANSLATED | FLOW_PINNED;
	assert_false(flow_take_over(&flow, &syn, NULL, 20));
	assert_int_equal(flow.flags, FLOW_PINNED);
	assert_int_equal(flow.seq_offset, 0);
	assert_int_equal(flow.ts_offset, 0);
	// The client closed first, or nobody did: the backend holds nothing.
	before.flags = 0;
	assert_false(flow_take_over(&flow, &syn, &before, 20));
}

static void called_again_for_another_tuple(void **state)
{
	struct time_wait tw = {1000, 5000, true};
	struct flow before = closed_flow(&tw, 10), flow = {0};
	struct flow_syn syn = {.seq = 1, .ts = 1, .has_ts = true};

	assert_true(flow_take_over(&flow, &syn, &before, 20));
	assert_false(flow_take_over(&flow, &syn, NULL, 20));
	assert_int_equal(flow_seq_at_other(&flow, FLOW_FROM_CLIENT, 77), 77);
}

static void timestamps_go_on_with_the_time(void **state)
{
	struct time_wait tw = {1000, 0xfffffff0, true};
	struct flow_syn syn = {.seq = 5, .ts = 0x80000010, .has_ts = true};

	for (unsigned idle_s = 0; idle_s < 60; idle_s++)
		for (uint32_t now_s = 65530; now_s < 65540; now_s++) { // the clock's 16 bits turn
			struct flow before = closed_flow(&tw, now_s), flow = {0};
			assert_true(flow_take_over(&flow, &syn, &before, now_s + idle_s));
			assert_int_equal(syn.ts + flow_offsets(&flow).ts[0],
				(uint32_t)(tw.ts_recent + idle_s * 1000 + 1));
		}
}

/* RFC 6528: nobody who doesn't know the secret can tell where the numbers begin. */
static void initial_numbers_are_not_foreseen(void **state)
{
	struct time_wait tw = {0x40000000, 0, false};
	uint64_t seed = 65;
	unsigned bins[16] = {0};

	for (unsigned i = 0; i < 16000; i++) {
		struct flow before = closed_flow(&tw, 10), flow = {0};
		struct flow_syn syn = {.seq = 7, .secret = packets_random(&seed)};
		assert_true(flow_take_over(&flow, &syn, &before, 20));
		uint32_t above = flow_seq_at_other(&flow, FLOW_FROM_CLIENT, 7) - tw.rcv_nxt;
		assert_in_range(above, 65536, 65536 + (1 << 26));
		bins[(above - 65537) >> 22]++;
	}
	for (unsigned i = 0; i < 16; i++)
		assert_in_range(bins[i], 800, 1200);
}

/* One port for a chain of clients, each with a clock and numbers of its own, as the kernel on the
 * other side sees it. */
static void a_chain_of_clients(void **state) // A12
{
	uint64_t seed = 99;

	for (unsigned round = 0; round < 100; round++) {
		struct time_wait tw = {0};
		struct flow before = {0};
		uint32_t now_s = 100;
		for (unsigned n = 0; n < 1000; n++) {
			struct flow flow = {0};
			struct flow_syn syn = random_syn(&seed);
			now_s += packets_random(&seed) % 50;
			flow_take_over(&flow, &syn, n ? &before : NULL, now_s);
			struct flow_offsets offsets = flow_offsets(&flow);
			if (n != 0)
				assert_true(linux_takes(&tw, syn.seq + offsets.seq[0], syn.has_ts,
					syn.ts + offsets.ts[0]));
			// It sends so much, so long; then the backend closes.
			uint32_t sent = packets_random(&seed) % 10000000,
				 ms = packets_random(&seed) % 100000;
			flow.end[FLOW_FROM_CLIENT] = syn.seq + sent;
			now_s += ms / 1000;
			flow_lingers(&flow);
			if (syn.has_ts) {
				flow_note_ts(&flow, syn.ts + ms);
				flow_note_ts(&flow, syn.ts + ms / 2); // an old one, late
			}
			flow.last_seen = now_s;
			tw = (struct time_wait){syn.seq + offsets.seq[0] + sent,
				syn.ts + offsets.ts[0] + ms, syn.has_ts};
			before = flow;
		}
	}
}

static void numbers_of_either_space(void **state)
{
	struct flow flow = {.flags = FLOW_TRANSLATED, .seq_offset = 0xfffffff0};

	assert_int_equal(flow_seq_at_other(&flow, FLOW_FROM_CLIENT, 0x20), 0x10);
	assert_int_equal(flow_seq_at_sender(&flow, FLOW_FROM_CLIENT, 0x10), 0x20);
	assert_int_equal(flow_seq_at_other(&flow, FLOW_FROM_BACKEND, 0x20), 0x20);
	flow.flags = 0; // what stands there is no offset
	assert_int_equal(flow_seq_at_other(&flow, FLOW_FROM_CLIENT, 0x20), 0x20);
}

/* A record of version 1 of the layout had one bit for both. */
static void the_bit_of_version_1_moves_both(void **state)
{
	struct flow flow = {.flags = 1, .seq_offset = 0x10, .ts_offset = 0x20};
	struct flow_offsets offsets = flow_offsets(&flow);

	assert_int_equal(offsets.seq[FLOW_FROM_CLIENT], 0x10);
	assert_int_equal(offsets.ts[FLOW_FROM_CLIENT], 0x20);
}

static void numbers_alone_are_moved(void **state)
{
	struct flow flow = {
		.flags = FLOW_SEQ_MOVED, .seq_offset = 0x10, .ack[FLOW_FROM_CLIENT] = 4711};
	struct flow_offsets offsets = flow_offsets(&flow);

	assert_int_equal(offsets.seq[FLOW_FROM_CLIENT], 0x10);
	assert_int_equal(offsets.ts[FLOW_FROM_CLIENT], 0);
	// What the client acknowledged stays: its timestamp has a place of its own.
	flow_lingers(&flow);
	assert_true(flow_keeps_ack(&flow, FLOW_FROM_CLIENT));
	flow_note_ts(&flow, 5);
	assert_int_equal(flow.last_ts, 5);
	assert_int_equal(flow.ack[FLOW_FROM_CLIENT], 4711);
}

static void shared_fields_keep_apart(void **state)
{
	struct flow flow = {0};

	assert_true(flow_keeps_ack(&flow, FLOW_FROM_CLIENT));
	flow.flags = FLOW_LINGERS;
	assert_true(flow_keeps_ack(&flow, FLOW_FROM_CLIENT));
	flow.flags = FLOW_TRANSLATED;
	flow.ts_offset = 1000;
	flow.ack[FLOW_FROM_CLIENT] = 4711;
	assert_true(flow_keeps_ack(&flow, FLOW_FROM_CLIENT));
	flow_lingers(&flow);
	assert_false(flow_keeps_ack(&flow, FLOW_FROM_CLIENT));
	flow_note_ts(&flow, 5);
	assert_int_equal(flow.last_ts_moved, 1005);
	assert_int_equal(flow.ts_offset, 1000);
	flow_lingers(&flow); // the FIN again
	assert_int_equal(flow.last_ts_moved, 1005);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_syn_is_taken),
		cmocka_unit_test(first_use_is_left_alone),
		cmocka_unit_test(called_again_for_another_tuple),
		cmocka_unit_test(timestamps_go_on_with_the_time),
		cmocka_unit_test(initial_numbers_are_not_foreseen),
		cmocka_unit_test(a_chain_of_clients),
		cmocka_unit_test(numbers_of_either_space),
		cmocka_unit_test(the_bit_of_version_1_moves_both),
		cmocka_unit_test(numbers_alone_are_moved),
		cmocka_unit_test(shared_fields_keep_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
