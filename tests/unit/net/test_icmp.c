/* SPDX-License-Identifier: BSD-3-Clause */
/* Parsing of ICMP errors (cases B16, B17), each in memory that ends where the packet ends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "icmp.h"
#include "packets.h"

static const struct net_mac own = {{2, 0, 0, 0, 0, 1}}, peer = {{2, 0, 0, 0, 0, 2}};

enum { IP = PACKETS_IP_OFFSET, QUOTED = 600 };

#define FOR_EACH_FAMILY(family)                                                                    \
	for (sa_family_t family = AF_INET; family != 0; family = family == AF_INET ? AF_INET6 : 0)

static unsigned ip_size(sa_family_t family)
{
	return family == AF_INET6 ? 40 : 20;
}

static unsigned icmp_at(sa_family_t family)
{
	return IP + ip_size(family);
}

static struct net_addr addr_of(sa_family_t family, unsigned last)
{
	struct net_addr addr = packets_addr(family == AF_INET6 ? "2001:db8::" : "192.0.2.0");

	addr.v6[family == AF_INET6 ? 15 : 3] = last;
	return addr;
}

/* The packet that is quoted: from 80 to 7. Returns its size, QUOTED. */
static unsigned build_quote(sa_family_t family, uint8_t *quote)
{
	struct segment segment = {
		.src = addr_of(family, 80),
		.dst = addr_of(family, 7),
		.sport = 80,
		.dport = 40000,
		.seq = 1000,
		.ack = 2000,
		.flags = TCP_ACK,
		.ttl = 63,
		.window = 1024,
		.payload_size = QUOTED - ip_size(family) - 20,
	};
	uint8_t frame[PACKETS_SIZE_MAX];

	packets_build(&segment, frame);
	memcpy(quote, frame + IP, QUOTED);
	return QUOTED;
}

static struct icmp_error error_of(sa_family_t family, const void *quote, unsigned quote_size)
{
	return (struct icmp_error){
		.from = peer,
		.to = own,
		.src = addr_of(family, 1),
		.dst = addr_of(family, 80),
		.type = family == AF_INET6 ? 2 : 3,
		.code = family == AF_INET6 ? 0 : 4,
		.ttl = 64,
		.rest = 1280,
		.quote = quote,
		.quote_size = quote_size,
	};
}

/* What the frame is, and that what is called an error lies within it. */
static enum packet_kind parse_full(const void *frame, unsigned size, struct packet *packet)
{
	struct rte_mbuf *mbuf = packets_mbuf(frame, size);
	const uint8_t *start = rte_pktmbuf_mtod(mbuf, const uint8_t *);

	memset(packet, 0xa5, sizeof(*packet));
	packet_parse(packet, packet, mbuf, packet_own(&own));
	if (packet->kind == PACKET_ICMP_ERROR) {
		const uint8_t *tcp = (const uint8_t *)packet->tcp,
			      *end = packet->l3 + packet->ip_size;
		assert_true(packet->l3 == start + IP && end <= start + size);
		assert_true(packet->icmp >= packet->l3 + ip_size(packet->family));
		assert_true(tcp >= icmp_quote(packet) + ip_size(packet->family));
		assert_true(packet->payload >= 8 && tcp + packet->payload <= end);
		assert_memory_equal(&packet->ports, tcp, 4);
	}
	packets_free(mbuf);
	return packet->kind;
}

static enum packet_kind parse(const void *frame, unsigned size)
{
	struct packet packet;

	return parse_full(frame, size, &packet);
}

static enum packet_kind parse_error(const struct icmp_error *error)
{
	uint8_t frame[PACKETS_SIZE_MAX];

	return parse(frame, packets_build_error(error, frame));
}

/* An error that quotes these bytes, its own checksums right. */
static enum packet_kind parse_quote(sa_family_t family, const void *quote, unsigned size)
{
	struct icmp_error error = error_of(family, quote, size);

	return parse_error(&error);
}

static void reseal_quote4(uint8_t *quote)
{
	uint8_t frame[IP + 60];
	unsigned size = (quote[0] & 0xf) * 4;

	memcpy(frame + IP, quote, size);
	packets_seal_ip4(frame, size);
	memcpy(quote, frame + IP, size);
}

static void quote_cut_at_each_byte(void **state) // B16, B17
{
	uint8_t quote[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];
	struct packet packet;

	FOR_EACH_FAMILY(family) {
		build_quote(family, quote);
		for (unsigned cut = 0; cut <= QUOTED; cut++) {
			struct icmp_error error = error_of(family, quote, cut);
			unsigned size = packets_build_error(&error, frame);
			bool enough = cut >= ip_size(family) + 8;
			assert_int_equal(parse_full(frame, size, &packet),
				enough ? PACKET_ICMP_ERROR : PACKET_BAD_ICMP);
			if (enough)
				assert_int_equal(packet.payload, cut - ip_size(family));
			// Ethernet padding is no part of it.
			memset(frame + size, 0, 18);
			assert_int_equal(parse_full(frame, size + 18, &packet),
				enough ? PACKET_ICMP_ERROR : PACKET_BAD_ICMP);
			if (enough)
				assert_int_equal(packet.payload, cut - ip_size(family));
		}
	}
}

static void frame_cut_at_each_byte(void **state) // B17
{
	uint8_t quote[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];

	FOR_EACH_FAMILY(family) {
		build_quote(family, quote);
		struct icmp_error error = error_of(family, quote, 100);
		unsigned size = packets_build_error(&error, frame), icmp = icmp_at(family);
		for (unsigned cut = 0; cut < size; cut++)
			assert_int_equal(
				parse(frame, cut), cut < icmp ? PACKET_RUNT : PACKET_BAD_IP);
		// With an IP length that agrees, within the ICMP header: the kernel's to judge.
		for (unsigned cut = 0; cut < 8; cut++) {
			frame[IP + (family == AF_INET6 ? 5 : 3)] =
				family == AF_INET6 ? cut : 20 + cut;
			if (family == AF_INET)
				packets_seal_ip4(frame, 20);
			assert_int_equal(parse(frame, icmp + cut), PACKET_OTHER);
			assert_int_equal(parse(frame, size), PACKET_OTHER);
		}
	}
}

static void every_type(void **state) // B16
{
	uint8_t quote[PACKETS_SIZE_MAX];

	FOR_EACH_FAMILY(family) {
		build_quote(family, quote);
		for (unsigned type = 0; type < 256; type++)
			for (unsigned code = 0; code < 256; code += code < 16 ? 1 : 60) {
				struct icmp_error error = error_of(family, quote, 200);
				error.type = type;
				error.code = code;
				error.rest = 0;
				enum packet_kind kind = PACKET_OTHER;
				if (family == AF_INET6 ? type >= 1 && type <= 4
						       : type == 3 || type == 4 || type == 11 ||
							type == 12)
					kind = PACKET_ICMP_ERROR;
				else if (family == AF_INET6 && type >= 133 && type <= 137)
					kind = PACKET_BAD_ND; // not of hop limit 255
				assert_int_equal(parse_error(&error), kind);
			}
	}
}

static void every_bit_is_under_the_checksum(void **state) // B17, RFC 5508 REQ-3
{
	uint8_t quote[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];

	FOR_EACH_FAMILY(family) {
		build_quote(family, quote);
		struct icmp_error error = error_of(family, quote, 60);
		unsigned size = packets_build_error(&error, frame);
		assert_int_equal(parse(frame, size), PACKET_ICMP_ERROR);
		for (unsigned bit = icmp_at(family) * 8; bit < size * 8; bit++) {
			frame[bit / 8] ^= 1 << bit % 8;
			enum packet_kind kind = parse(frame, size);
			// Another type or protocol is the kernel's.
			assert_true(kind == PACKET_BAD_ICMP || kind == PACKET_OTHER);
			frame[bit / 8] ^= 1 << bit % 8;
		}
		if (family == AF_INET6)
			continue;
		for (unsigned bit = 0; bit < 16; bit++) { // of the header's own
			frame[PACKETS_IP_OFFSET + 10 + bit / 8] ^= 1 << bit % 8;
			assert_int_equal(parse(frame, size), PACKET_BAD_ICMP);
			frame[PACKETS_IP_OFFSET + 10 + bit / 8] ^= 1 << bit % 8;
		}
	}
}

static void quoted_header_is_checked(void **state) // B17, RFC 5508 REQ-3 a and b
{
	uint8_t quote[PACKETS_SIZE_MAX];

	for (unsigned vihl = 0; vihl < 256; vihl++) {
		unsigned header = (vihl & 15) * 4;
		build_quote(AF_INET, quote);
		if (header > 20) {
			memmove(quote + header, quote + 20, 100);
			memset(quote + 20, 1, header - 20); // NOPs
		}
		quote[0] = vihl;
		if (header >= 20)
			reseal_quote4(quote);
		bool good = vihl >> 4 == 4 && header >= 20;
		for (unsigned size = 20; size < 100; size++)
			assert_int_equal(parse_quote(AF_INET, quote, size),
				good && size >= header + 8 ? PACKET_ICMP_ERROR : PACKET_BAD_ICMP);
	}
	for (unsigned bit = 0; bit < 160; bit++) { // the quoted IP header's own checksum
		build_quote(AF_INET, quote);
		quote[bit / 8] ^= 1 << bit % 8;
		enum packet_kind kind = parse_quote(AF_INET, quote, 100);
		assert_int_equal(kind, bit / 8 == 9 ? PACKET_OTHER : PACKET_BAD_ICMP);
	}
	for (unsigned version = 0; version < 16; version++) {
		build_quote(AF_INET6, quote);
		quote[0] = version << 4;
		assert_int_equal(parse_quote(AF_INET6, quote, 100),
			version == 6 ? PACKET_ICMP_ERROR : PACKET_BAD_ICMP);
	}
}

static void quoted_lengths_may_lie_but_for_room(void **state) // B17
{
	uint8_t quote[PACKETS_SIZE_MAX];

	FOR_EACH_FAMILY(family)
		for (unsigned length = 0; length <= UINT16_MAX; length += length < 200 ? 1 : 111) {
			unsigned at = family == AF_INET6 ? 4 : 2;
			build_quote(family, quote);
			quote[at] = length >> 8;
			quote[at + 1] = length;
			if (family == AF_INET)
				reseal_quote4(quote);
			bool room = length >= (family == AF_INET6 ? 20 : 40);
			assert_int_equal(parse_quote(family, quote, 80),
				room ? PACKET_ICMP_ERROR : PACKET_BAD_ICMP);
		}
}

static void other_quoted_protocols_are_the_kernels(void **state) // B17
{
	uint8_t quote[PACKETS_SIZE_MAX];

	FOR_EACH_FAMILY(family)
		for (unsigned protocol = 0; protocol < 256; protocol++) {
			static const uint8_t walked[] = {IPPROTO_HOPOPTS, IPPROTO_ROUTING,
				IPPROTO_FRAGMENT, IPPROTO_DSTOPTS, IPPROTO_AH};
			build_quote(family, quote);
			quote[family == AF_INET6 ? 6 : 9] = protocol;
			if (family == AF_INET)
				reseal_quote4(quote);
			enum packet_kind kind = parse_quote(family, quote, 48);
			if (protocol == IPPROTO_TCP)
				assert_int_equal(kind, PACKET_ICMP_ERROR);
			else if (family == AF_INET ||
				memchr(walked, protocol, sizeof(walked)) == NULL)
				assert_int_equal(kind, PACKET_OTHER);
			else
				assert_true(kind == PACKET_OTHER || kind == PACKET_BAD_ICMP);
		}
}

static void quoted_fragments(void **state) // B17
{
	uint8_t quote[PACKETS_SIZE_MAX];

	// A router may have cut it on the way: then only the first one has the ports.
	for (unsigned field = 0; field <= UINT16_MAX; field += 7) {
		build_quote(AF_INET, quote);
		quote[6] = field >> 8;
		quote[7] = field;
		reseal_quote4(quote);
		assert_int_equal(parse_quote(AF_INET, quote, 48),
			field & 0x1fff ? PACKET_BAD_ICMP : PACKET_ICMP_ERROR);
	}
	build_quote(AF_INET6, quote);
	memmove(quote + 48, quote + 40, 100);
	memset(quote + 40, 0, 8);
	quote[40] = IPPROTO_TCP;
	quote[6] = IPPROTO_FRAGMENT;
	assert_int_equal(parse_quote(AF_INET6, quote, 100), PACKET_BAD_ICMP);
}

static void quoted_extension_headers_are_bounded(void **state) // B15, B17
{
	uint8_t quote[PACKETS_SIZE_MAX];

	for (unsigned count = 0; count <= 20; count++) {
		build_quote(AF_INET6, quote);
		memmove(quote + 40 + count * 8, quote + 40, 100);
		memset(quote + 40, 0, count * 8);
		for (unsigned i = 0; i < count; i++)
			quote[40 + i * 8] = i + 1 < count ? IPPROTO_DSTOPTS : IPPROTO_TCP;
		if (count != 0)
			quote[6] = IPPROTO_DSTOPTS;
		for (unsigned cut = 0; cut < 300; cut++)
			assert_int_equal(parse_quote(AF_INET6, quote, cut),
				count <= 8 && cut >= 40 + count * 8 + 8 ? PACKET_ICMP_ERROR
									: PACKET_BAD_ICMP);
	}
}

static void extensions_are_not_the_packet(void **state) // B16, RFC 4884
{
	uint8_t quote[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];
	static const uint8_t types[2][5] = {{3, 11, 12, 4}, {1, 3, 2, 4}};
	static const bool have_length[2][4] = {
		{true, true, true, false}, {true, true, false, false}};
	struct packet packet;

	FOR_EACH_FAMILY(family)
		for (unsigned t = 0; t < 4; t++)
			for (unsigned words = 0; words < 256; words++) {
				bool v6 = family == AF_INET6;
				unsigned held = 200, claimed = words * (v6 ? 8 : 4);
				build_quote(family, quote);
				struct icmp_error error = error_of(family, quote, held);
				error.type = types[v6][t];
				error.rest = words << (v6 ? 24 : 16) | 0x1234;
				unsigned size = packets_build_error(&error, frame);
				unsigned quoted =
					!have_length[v6][t] || words == 0 || claimed > held
					? held
					: claimed;
				bool enough = quoted >= ip_size(family) + 8;
				assert_int_equal(parse_full(frame, size, &packet),
					enough ? PACKET_ICMP_ERROR : PACKET_BAD_ICMP);
				if (enough)
					assert_int_equal(packet.payload, quoted - ip_size(family));
			}
}

static void is_for_the_quoted_source_only(void **state) // B17
{
	uint8_t quote[PACKETS_SIZE_MAX];

	FOR_EACH_FAMILY(family) {
		build_quote(family, quote);
		for (unsigned last = 1; last < 255; last++) {
			struct icmp_error error = error_of(family, quote, 100);
			error.dst = addr_of(family, last);
			assert_int_equal(parse_error(&error),
				last == 80 ? PACKET_ICMP_ERROR : PACKET_BAD_ICMP);
		}
		struct icmp_error error = error_of(family, quote, 100);
		memset(&error.to, 0xff, sizeof(error.to));
		assert_int_equal(parse_error(&error), PACKET_WRONG_MAC);
		error.to = peer;
		assert_int_equal(parse_error(&error), PACKET_WRONG_MAC);
	}
}

static void fragments_are_the_kernels(void **state) // B10
{
	uint8_t quote[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];

	build_quote(AF_INET, quote);
	struct icmp_error error = error_of(AF_INET, quote, 100);
	unsigned size = packets_build_error(&error, frame);
	for (unsigned field = 0; field <= UINT16_MAX; field += 3) {
		frame[IP + 6] = field >> 8;
		frame[IP + 7] = field;
		packets_seal_ip4(frame, 20);
		assert_int_equal(
			parse(frame, size), field & 0x3fff ? PACKET_OTHER : PACKET_ICMP_ERROR);
	}
}

static void lies_in_the_first_segment(void **state)
{
	uint8_t quote[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];
	struct packet packet;

	FOR_EACH_FAMILY(family) {
		build_quote(family, quote);
		struct icmp_error error = error_of(family, quote, 120);
		unsigned size = packets_build_error(&error, frame);
		for (unsigned first = icmp_at(family) + 8; first <= size; first++) {
			struct rte_mbuf *mbuf = packets_mbuf(frame, first);
			mbuf->pkt_len = size; // the rest is in a next segment
			packet_parse(&packet, &packet, mbuf, packet_own(&own));
			assert_int_equal(
				packet.kind, first < size ? PACKET_BAD_ICMP : PACKET_ICMP_ERROR);
			packets_free(mbuf);
		}
	}
}

/* Damage behind right checksums; AddressSanitizer looks on. */
static void damaged_errors_are_read_within_bounds(void **state) // B17
{
	uint64_t seed = 17;
	uint8_t quote[PACKETS_SIZE_MAX], frame[PACKETS_SIZE_MAX];
	unsigned nb_good = 0;

	for (unsigned i = 0; i < 1000000; i++) {
		sa_family_t family = i & 1 ? AF_INET6 : AF_INET;
		build_quote(family, quote);
		for (unsigned n = packets_random(&seed) % 4; n > 0; n--) {
			uint64_t random = packets_random(&seed);
			quote[random % 64] = random >> 32;
		}
		if (family == AF_INET && (quote[0] & 0xf) >= 5)
			reseal_quote4(quote);
		struct icmp_error error = error_of(family, quote, packets_random(&seed) % 128);
		error.rest = i % 8 < 2 ? packets_random(&seed) : 0;
		error.type = i % 8 < 4 ? packets_random(&seed) % 13 : error.type;
		nb_good += parse(frame, packets_build_error(&error, frame)) == PACKET_ICMP_ERROR;
	}
	assert_in_range(nb_good, 100000, 900000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(quote_cut_at_each_byte),
		cmocka_unit_test(frame_cut_at_each_byte),
		cmocka_unit_test(every_type),
		cmocka_unit_test(every_bit_is_under_the_checksum),
		cmocka_unit_test(quoted_header_is_checked),
		cmocka_unit_test(quoted_lengths_may_lie_but_for_room),
		cmocka_unit_test(other_quoted_protocols_are_the_kernels),
		cmocka_unit_test(quoted_fragments),
		cmocka_unit_test(quoted_extension_headers_are_bounded),
		cmocka_unit_test(extensions_are_not_the_packet),
		cmocka_unit_test(is_for_the_quoted_source_only),
		cmocka_unit_test(fragments_are_the_kernels),
		cmocka_unit_test(lies_in_the_first_segment),
		cmocka_unit_test(damaged_errors_are_read_within_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
