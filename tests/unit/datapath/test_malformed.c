/* SPDX-License-Identifier: BSD-3-Clause */
/* Malformed and evasive packets on their whole way (cases B9 to B14); parsing is in
 * net/test_packet.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

enum { IP = PACKETS_IP_OFFSET };

/* The ends judge options: whatever they say, they pass, and nobody loops over them. */
static void bad_options_pass(void **state) // B9
{
	static const uint8_t lists[][12] = {
		{8, 0},
		{8, 1},
		{8, 255},
		{8, 10},
		{5, 9},
		{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 8},
		{5, 0, 5, 0},
		{5, 1, 8, 0},
		{0, 8, 0, 1},
		{5, 2, 8, 2, 3, 0},
		{8, 9},
		{8, 11},
		{254, 254},
		{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		{2, 3, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8},
	};
	uint64_t seed = 9;

	FOR_EACH_FAMILY(family)
		for (unsigned moved = 0; moved < 2; moved++) {
			struct rig *rig = rig_create(NULL);
			struct connection c = connection_of(rig, family, 1);
			assert_true(connection_open(&c, 0));
			if (moved) { // then Weir looks for timestamps and SACK blocks itself
				struct flow *flow = connection_flow(&c);
				flow->seq_offset = 0x12345678;
				flow->ts_offset = 0x9abcdef0;
				flow->flags |= FLOW_TRANSLATED;
				rig->workers[0].stats->live.flows[family == AF_INET6].renumbered++;
			}
			for (unsigned i = 0; i < 20000; i++) {
				uint8_t options[40];
				struct segment segment = connection_segment(&c, i & 1, TCP_ACK);
				segment.options = options;
				segment.options_size = packets_random(&seed) % 11 * 4;
				for (unsigned at = 0; at < sizeof(options); at++)
					options[at] =
						packets_random(&seed) % (i % 3 == 0 ? 256 : 12);
				if (i / 2 < sizeof(lists) / sizeof(lists[0])) {
					memcpy(options, lists[i / 2], sizeof(lists[0]));
					segment.options_size = sizeof(lists[0]);
				}
				segment.payload_size = i % 5;
				assert_int_equal(
					rig_run_segment(rig, i % rig->options.nb_workers, &segment)
						->fate,
					RIG_FORWARDED);
			}
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
			rig_destroy(rig);
		}
}

/* Fragments are dropped one by one: nothing is kept of them, so none can fill anything. */
static void a_million_fragments_leave_nothing(void **state) // B10
{
	enum { FRAGMENTS = 1000000 };
	struct rig *rig = rig_create(NULL);
	uint64_t seed = 10;
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned i = 0; i < FRAGMENTS; i++) {
		sa_family_t family = i & 1 ? AF_INET6 : AF_INET;
		struct connection c = connection_of(rig, family, i % 200);
		struct segment segment =
			connection_segment(&c, CLIENT, i % 3 == 0 ? TCP_SYN : TCP_ACK);
		uint16_t field = packets_random(&seed); // overlapping, tiny, at 65,528, MF with DF
		segment.payload_size = 8;
		unsigned size = packets_build(&segment, frame);
		if (family == AF_INET && (field & 0x3fff) == 0)
			field = 0x6000; // no fragment else
		size = packets_make_fragment(frame, size, field);
		assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, RIG_DROPPED);
	}
	assert_int_equal(rig_dropped(rig, STATS_DROP_FRAGMENT), FRAGMENTS);
	assert_int_equal(flow_table_used(rig->flows4) + flow_table_used(rig->flows6), 0);
	assert_int_equal(rig_ports_used(rig), 0);
	rig_destroy(rig);
}

static void addresses_that_cannot_be_emit_nothing(void **state) // B12
{
	static const char *const bad[] = {"0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1",
		"239.1.2.3", "240.0.0.1", "255.255.255.255", "::", "::1", "ff02::1", "ff0e::1234"};
	static const uint8_t flags[] = {TCP_SYN, TCP_ACK, TCP_RST, TCP_FIN, TCP_SYN | TCP_ACK};
	struct rig *rig = rig_create(NULL);
	unsigned count = 0;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (unsigned f = 0; f < sizeof(flags); f++)
			for (unsigned port = 22; port <= RIG_VIP_PORT; port += RIG_VIP_PORT - 22) {
				struct net_addr src = packets_addr(bad[i]);
				struct connection c = connection_of(rig, src.family, i);
				struct segment segment = connection_segment(&c, CLIENT, flags[f]);
				segment.src = src;
				segment.dport = port; // another server's: the kernel's, too
				assert_int_equal(
					rig_run_segment(rig, 0, &segment)->fate, RIG_DROPPED);
				assert_int_equal(rig_dropped(rig, STATS_DROP_BAD_ADDRESS), ++count);
			}
	assert_int_equal(rig_created(rig), 0);
	rig_destroy(rig);
}

/* Of tags and of all that isn't IP the kernel is the judge, and gets it as it came, tag and all:
 * rig.c compares. A live flow's packet with a tag is no packet of the flow. */
static void tags_and_other_frames_are_the_kernels(void **state) // B14
{
	// 802.1Q, QinQ in both ways, a length in the tag, MAC control, LLC, MPLS, others.
	static const uint8_t heads[][8] = {
		{0x81, 0, 0, 5},
		{0x88, 0xa8, 0, 5, 0x81, 0, 0, 6},
		{0x81, 0, 0, 5, 0x81, 0, 0, 6},
		{0x81, 0, 0, 5, 0, 46},
		{0x88, 0x08},
		{0, 46, 0x42, 0x42},
		{0x88, 0x47, 0, 1, 0x01, 0xff},
		{0x88, 0x48, 0, 1, 0x01, 0xff},
		{0x22, 0xf0},
		{0xff, 0xff},
	};
	static const unsigned sizes[] = {4, 8, 8, 4, 2, 4, 6, 6, 2, 2};

	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 14);
		assert_true(connection_open(&c, 0));
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			for (enum flow_direction side = 0; side < 2; side++) {
				struct segment segment =
					connection_segment(&c, side, TCP_FIN | TCP_ACK);
				uint8_t plain[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];
				unsigned size = packets_build(&segment, plain);
				memcpy(frame, plain, 12);
				memcpy(frame + 12, heads[i], sizes[i]);
				memcpy(frame + 12 + sizes[i], plain + 12, size - 12);
				for (unsigned cut = 14; cut <= size + sizes[i]; cut++)
					assert_int_equal(rig_run_frame(rig, 0, frame, cut)->fate,
						RIG_PUNTED + PUNT_REST);
			}
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		rig_destroy(rig);
	}
}

/* A priority tag names no VLAN: the packet is the flow's, and goes out without it. Behind it there
 * may be another tag, which counts. */
static void a_priority_tag_changes_nothing(void **state) // E17
{
	static const uint8_t tags[][8] = {{0x81, 0}, {0x81, 0, 0xe0}, {0x88, 0xa8, 0x20},
		{0x81, 0, 0xe0, 0, 0x81, 0}, {0x88, 0xa8, 0, 0, 0x81, 0, 0, 5}};
	static const unsigned sizes[] = {4, 4, 4, 8, 8};

	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 14);
		assert_true(connection_open(&c, 0));
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
			for (enum flow_direction side = 0; side < 2; side++) {
				struct segment segment = connection_segment(&c, side, TCP_ACK);
				uint8_t plain[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];
				unsigned size = packets_build(&segment, plain);
				memcpy(frame, plain, 12);
				memcpy(frame + 12, tags[i], sizes[i]);
				memcpy(frame + 12 + sizes[i], plain + 12, size - 12);
				const struct rig_packet *out =
					rig_run_frame(rig, 0, frame, size + sizes[i]);
				bool is_tagged = tags[i][7] != 0;
				assert_int_equal(out->fate,
					is_tagged ? RIG_PUNTED + PUNT_REST : RIG_FORWARDED);
				assert_int_equal(out->size, is_tagged ? size + 4 : size);
			}
		assert_int_equal(rig->workers[0].stats->live.tagged, 2);
		rig_destroy(rig);
	}
}

/* From beyond the link it is forged, and of those on it it has a class of its own beside ARP. */
static void neighbour_discovery_by_its_hop_limit(void **state) // W13
{
	static const uint8_t arp[60] = {
		[0] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 2, 0x08, 0x06};
	struct rig *rig = rig_create(NULL);
	struct icmp_error message = {.from = {{2, 0, 0, 0, 0, 2}},
		.to = rig_mac(),
		.src = packets_addr("fe80::1"),
		.dst = rig_vip(AF_INET6),
		.quote = arp,
		.quote_size = 16};
	uint8_t frame[PACKETS_SIZE_MAX];
	unsigned nb_dropped = 0;

	assert_int_equal(rig_run_frame(rig, 0, arp, sizeof(arp))->fate, RIG_PUNTED + PUNT_ARP);
	for (unsigned type = 133; type <= 137; type++)
		for (unsigned ttl = 1; ttl < 256; ttl++) {
			message.type = type;
			message.ttl = ttl;
			unsigned size = packets_build_error(&message, frame);
			const struct rig_packet *out = rig_run_frame(rig, 0, frame, size);
			assert_int_equal(
				out->fate, ttl == 255 ? RIG_PUNTED + PUNT_ND : RIG_DROPPED);
			nb_dropped += ttl != 255;
			assert_int_equal(rig_dropped(rig, STATS_DROP_BAD_ND), nb_dropped);
		}
	rig_destroy(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_options_pass),
		cmocka_unit_test(a_million_fragments_leave_nothing),
		cmocka_unit_test(addresses_that_cannot_be_emit_nothing),
		cmocka_unit_test(tags_and_other_frames_are_the_kernels),
		cmocka_unit_test(a_priority_tag_changes_nothing),
		cmocka_unit_test(neighbour_discovery_by_its_hop_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
