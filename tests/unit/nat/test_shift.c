/* SPDX-License-Identifier: BSD-3-Clause */
/* Sequence numbers and timestamps moved by offsets of either side (A18): against the numbers
 * written down by hand, and the checksum computed in full. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_mbuf.h>
#include <string.h>

#include "nat_shift.h"
#include "packet.h"
#include "packets.h"

static const struct net_mac own = {{2, 0, 0, 0, 0, 1}};

static struct segment segment_of(sa_family_t family, uint8_t flags)
{
	return (struct segment){
		.from = {{2, 0, 0, 0, 0, 2}},
		.to = own,
		.src = packets_addr(family == AF_INET6 ? "2001:db8::1" : "192.0.2.1"),
		.dst = packets_addr(family == AF_INET6 ? "2001:db8::2" : "192.0.2.2"),
		.sport = 1234,
		.dport = 80,
		.seq = 1000,
		.ack = 2000,
		.flags = flags,
		.ttl = 64,
		.window = 500,
		.payload_size = 33,
	};
}

/* Build, shift, read back. `out` points into `frame`. */
static void shift(const struct segment *in, enum flow_direction direction,
	const struct flow_offsets *offsets, uint8_t *frame, struct segment *out)
{
	unsigned size = packets_build(in, frame);
	struct rte_mbuf *mbuf = packets_mbuf(frame, size);
	struct packet packet;

	assert_ptr_equal(packet_parse(&packet, &packet, mbuf, packet_own(&own)), &packet);
	assert_int_equal(packet.kind, PACKET_TCP);
	nat_shift(&packet, direction, offsets);
	memcpy(frame, rte_pktmbuf_mtod(mbuf, void *), size);
	packets_free(mbuf);
	assert_true(packets_checksums_right(frame, size, 0));
	assert_true(packets_read(frame, size, out));
	assert_int_equal(out->payload_size, in->payload_size);
}

static const struct flow_offsets both = {{100, 0xfffffff6}, {7000, 0xffffffff}}; // -10, -1

static void numbers_of_both_sides(void **state)
{
	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct segment in = segment_of(v6 ? AF_INET6 : AF_INET, TCP_ACK), out;
		uint8_t frame[PACKETS_SIZE_MAX];

		shift(&in, FLOW_FROM_CLIENT, &both, frame, &out);
		assert_int_equal(out.seq, 1100);
		assert_int_equal(out.ack, 2010);
		shift(&in, FLOW_FROM_BACKEND, &both, frame, &out);
		assert_int_equal(out.seq, 990);
		assert_int_equal(out.ack, 1900);
	}
}

static void what_there_and_back_was_done_is_undone(void **state)
{
	struct segment in = segment_of(AF_INET, TCP_ACK), out;
	uint8_t frame[PACKETS_SIZE_MAX];
	const struct flow_offsets zero = {0};

	in.seq = 0xffffffff;
	shift(&in, FLOW_FROM_CLIENT, &both, frame, &out);
	assert_int_equal(out.seq, 99); // wraps
	shift(&in, FLOW_FROM_CLIENT, &zero, frame, &out);
	assert_int_equal(out.seq, 0xffffffff);
	assert_int_equal(out.ack, 2000);
}

static void without_ack_nothing_is_repeated(void **state)
{
	struct segment in = segment_of(AF_INET, TCP_SYN), out;
	static const uint8_t options[] = {8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 1};
	static const uint8_t moved[] = {8, 10, 0, 0, 27, 97, 0, 0, 0, 0, 1, 1}; // 7009
	uint8_t frame[PACKETS_SIZE_MAX];

	in.ack = 0;
	in.options = options;
	in.options_size = sizeof(options);
	shift(&in, FLOW_FROM_CLIENT, &both, frame, &out);
	assert_int_equal(out.ack, 0);
	assert_memory_equal(out.options, moved, sizeof(moved));
}

static void options_by_hand(void **state) // A18
{
	static const struct {
		unsigned size;
		uint8_t in[40], out[40];
	} cases[] = {
		// From the backend: TSval less 1, TSecr less 7000, SACK edges less 100.
		{12, {1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 27, 98},
			{1, 1, 8, 10, 255, 255, 255, 255, 0, 0, 0, 10}},
		// At an odd place, and behind other kinds.
		{12, {1, 8, 10, 0, 0, 1, 0, 0, 0, 27, 88, 0},
			{1, 8, 10, 0, 0, 0, 255, 0, 0, 0, 0, 0}},
		{16, {3, 3, 7, 8, 10, 1, 2, 3, 4, 0, 1, 0, 0, 1, 1, 0},
			{3, 3, 7, 8, 10, 1, 2, 3, 3, 0, 0, 228, 168, 1, 1, 0}},
		// One block, two at an odd place, D-SACK (the first below the acknowledgement),
		// three with timestamps: all the room there is.
		{12, {1, 1, 5, 10, 0, 0, 1, 0, 0, 0, 2, 0},
			{1, 1, 5, 10, 0, 0, 0, 156, 0, 0, 1, 156}},
		{20, {1, 5, 18, 0, 0, 0, 200, 0, 0, 1, 44, 0, 0, 7, 208, 0, 0, 7, 209, 0},
			{1, 5, 18, 0, 0, 0, 100, 0, 0, 0, 200, 0, 0, 7, 108, 0, 0, 7, 109, 0}},
		{40,
			{1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 27, 89, 1, 1, 5, 26, 0, 0, 0, 99, 0, 0, 0,
				101, 0, 0, 0, 100, 255, 0, 0, 0, 0, 0, 1, 100, 128, 0, 0, 0},
			{1, 1, 8, 10, 0, 0, 0, 4, 0, 0, 0, 1, 1, 1, 5, 26, 255, 255, 255, 255, 0, 0,
				0, 1, 0, 0, 0, 0, 254, 255, 255, 156, 0, 0, 1, 0, 127, 255, 255,
				156}},
		// Four blocks.
		{36,
			{1, 1, 5, 34, 0, 0, 0, 100, 0, 0, 0, 101, 0, 0, 0, 102, 0, 0, 0, 103, 0, 0,
				0, 104, 0, 0, 0, 105, 0, 0, 0, 106, 0, 0, 0, 107},
			{1, 1, 5, 34, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0,
				0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7}},
		// A block cut short, a timestamp of another size, what stands behind the end,
		// broken lists.
		{12, {5, 8, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0}, {5, 8, 0, 0, 1, 0, 0, 0, 1, 1, 0, 0}},
		{12, {8, 9, 1, 2, 3, 4, 5, 6, 7, 1, 1, 1}, {8, 9, 1, 2, 3, 4, 5, 6, 7, 1, 1, 1}},
		{12, {0, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1}, {0, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1}},
		{12, {77, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8},
			{77, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8}},
		{8, {1, 8, 10, 1, 2, 3, 4, 5}, {1, 8, 10, 1, 2, 3, 4, 5}},
		{4, {1, 1, 1, 5}, {1, 1, 1, 5}},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (unsigned v6 = 0; v6 < 2; v6++) {
			struct segment in = segment_of(v6 ? AF_INET6 : AF_INET, TCP_ACK), out;
			uint8_t frame[PACKETS_SIZE_MAX];
			in.options = cases[i].in;
			in.options_size = cases[i].size;
			shift(&in, FLOW_FROM_BACKEND, &both, frame, &out);
			assert_int_equal(out.options_size, cases[i].size);
			assert_memory_equal(out.options, cases[i].out, cases[i].size);
		}
}

/* Whatever the options are, the checksum fits, and there and back nothing has changed. */
static void random_options(void **state)
{
	uint64_t seed = 18;

	for (unsigned i = 0; i < 300000; i++) {
		struct flow_offsets offsets, back;
		struct segment in = segment_of(AF_INET, i & 1 ? TCP_ACK : TCP_SYN), out;
		uint8_t frame[PACKETS_SIZE_MAX], again[PACKETS_SIZE_MAX], options[40];
		enum flow_direction direction = i >> 1 & 1;
		for (unsigned n = 0; n < sizeof(options); n++) {
			static const uint8_t kinds[] = {0, 1, 1, 5, 8, 10, 18, 26};
			uint64_t random = packets_random(&seed);
			options[n] = random & 1 ? kinds[random >> 8 & 7] : random >> 16;
		}
		for (unsigned d = 0; d < 2; d++) {
			offsets.seq[d] = packets_random(&seed);
			offsets.ts[d] = packets_random(&seed) >> 32;
			back.seq[d] = -offsets.seq[d];
			back.ts[d] = -offsets.ts[d];
		}
		in.options = options;
		in.options_size = packets_random(&seed) % 11 * 4;
		in.payload_size = packets_random(&seed) % 4;
		shift(&in, direction, &offsets, frame, &out);
		shift(&out, direction, &back, again, &out);
		assert_int_equal(out.seq, in.seq);
		assert_int_equal(out.ack, in.ack);
		assert_memory_equal(out.options, options, in.options_size);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_of_both_sides),
		cmocka_unit_test(what_there_and_back_was_done_is_undone),
		cmocka_unit_test(without_ack_nothing_is_repeated),
		cmocka_unit_test(options_by_hand),
		cmocka_unit_test(random_options),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
