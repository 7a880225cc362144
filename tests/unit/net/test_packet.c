/* SPDX-License-Identifier: BSD-3-Clause */
/* Parsing: cases B1 to B9 and B12 to B15, each packet in memory that ends where it ends. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "packet.h"
#include "packets.h"

static const struct net_mac own = {{2, 0, 0, 0, 0, 1}}, peer = {{2, 0, 0, 0, 0, 2}};

enum { IP = PACKETS_IP_OFFSET, TCP4 = IP + 20, TCP6 = IP + 40 };

static struct segment segment_of(sa_family_t family)
{
	return (struct segment){
		.from = peer,
		.to = own,
		.src = packets_addr(family == AF_INET6 ? "2001:db8::1" : "198.51.100.7"),
		.dst = packets_addr(family == AF_INET6 ? "2001:db8::80" : "192.0.2.80"),
		.sport = 40000,
		.dport = 80,
		.seq = 1000,
		.ack = 2000,
		.flags = TCP_ACK,
		.ttl = 64,
		.window = 1024,
	};
}

/* What the frame is, and that what is called TCP lies within it. */
static enum packet_kind parse_full(const void *frame, unsigned size, struct packet *packet)
{
	struct rte_mbuf *mbuf = packets_mbuf(frame, size);
	const uint8_t *start = rte_pktmbuf_mtod(mbuf, const uint8_t *);

	memset(packet, 0xa5, sizeof(*packet));
	packet_parse(packet, packet, mbuf, packet_own(&own));
	assert_ptr_equal(packet->mbuf, mbuf);
	if (packet->kind == PACKET_TCP) {
		const uint8_t *tcp = (const uint8_t *)packet->tcp;
		unsigned header = (tcp[12] >> 4) * 4;
		assert_true(packet->l3 == start + IP && tcp >= start + TCP4);
		assert_true(tcp + header <= start + size && header >= 20);
		assert_true(packet->l3 + packet->ip_size <= start + size);
		assert_ptr_equal(tcp + header + packet->payload, packet->l3 + packet->ip_size);
		assert_int_equal(packet->flags, tcp[13]);
		assert_memory_equal(&packet->ports, tcp, 4);
		assert_int_equal(packet->protocol, IPPROTO_TCP);
	}
	packets_free(mbuf);
	return packet->kind;
}

static enum packet_kind parse(const void *frame, unsigned size)
{
	struct packet packet;

	return parse_full(frame, size, &packet);
}

static void plain_tcp_of_both_families(void **state)
{
	uint8_t frame[PACKETS_SIZE_MAX];
	struct packet packet;

	for (unsigned payload = 0; payload < 1400; payload += 97) {
		struct segment segment = segment_of(AF_INET);
		segment.payload_size = payload;
		unsigned size = packets_build(&segment, frame);
		assert_int_equal(parse_full(frame, size, &packet), PACKET_TCP);
		assert_int_equal(packet.family, AF_INET);
		assert_int_equal(packet.payload, payload);
		assert_int_equal(packet.ip_size, 40 + payload);

		segment = segment_of(AF_INET6);
		segment.payload_size = payload;
		size = packets_build(&segment, frame);
		assert_int_equal(parse_full(frame, size, &packet), PACKET_TCP);
		assert_int_equal(packet.family, AF_INET6);
		assert_int_equal(packet.payload, payload);
		assert_int_equal(packet.ip_size, 60 + payload);
	}
}

static void frame_cut_at_each_byte(void **state) // B1-B6
{
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct segment segment = segment_of(v6 ? AF_INET6 : AF_INET);
		unsigned l4 = v6 ? TCP6 : TCP4;
		segment.payload_size = 30;
		unsigned size = packets_build(&segment, frame);
		for (unsigned cut = 0; cut < size; cut++)
			assert_int_equal(parse(frame, cut), cut < l4 ? PACKET_RUNT : PACKET_BAD_IP);
		assert_int_equal(parse(frame, size), PACKET_TCP);
	}
}

static void tcp_header_cut_with_agreeing_lengths(void **state) // B4, B8
{
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct segment segment = segment_of(v6 ? AF_INET6 : AF_INET);
		unsigned l4 = v6 ? TCP6 : TCP4;
		for (unsigned cut = 0; cut <= 20; cut++) {
			packets_build(&segment, frame);
			frame[IP + (v6 ? 5 : 3)] = v6 ? cut : 20 + cut;
			enum packet_kind kind = cut == 20 ? PACKET_TCP : PACKET_BAD_TCP;
			assert_int_equal(parse(frame, l4 + cut), kind);
			// The rest is in the frame, but not in the IP packet.
			assert_int_equal(parse(frame, l4 + 20), kind);
		}
	}
}

static void every_version_and_header_length(void **state) // B7
{
	struct segment segment = segment_of(AF_INET);
	uint8_t frame[PACKETS_SIZE_MAX], tcp[20];
	struct packet packet;

	packets_build(&segment, frame);
	memcpy(tcp, frame + TCP4, sizeof(tcp));
	for (unsigned vihl = 0; vihl < 256; vihl++) {
		unsigned header = (vihl & 15) * 4, size = IP + header + 20;
		bool good = vihl >> 4 == 4 && header >= 20;
		packets_build(&segment, frame);
		frame[IP] = vihl;
		memset(frame + TCP4, 1, 60); // NOPs
		if (header >= 20)
			memcpy(frame + IP + header, tcp, sizeof(tcp));
		frame[IP + 3] = header + 20;
		size = RTE_MAX(size, (unsigned)TCP4 + 20);
		assert_int_equal(
			parse_full(frame, size, &packet), good ? PACKET_TCP : PACKET_BAD_IP);
		if (good)
			assert_int_equal(packet.payload, 0);
		for (unsigned cut = TCP4; good && cut < size; cut++)
			assert_int_equal(parse(frame, cut), PACKET_BAD_IP);
	}
	for (unsigned version = 0; version < 16; version++) {
		segment = segment_of(AF_INET6);
		unsigned size = packets_build(&segment, frame);
		frame[IP] = version << 4;
		assert_int_equal(parse(frame, size), version == 6 ? PACKET_TCP : PACKET_BAD_IP);
	}
}

static void every_total_length(void **state) // B8
{
	struct segment segment = segment_of(AF_INET);
	uint8_t frame[PACKETS_SIZE_MAX];
	struct packet packet;

	segment.payload_size = 100;
	unsigned size = packets_build(&segment, frame);
	for (unsigned total = 0; total <= UINT16_MAX; total++) {
		frame[IP + 2] = total >> 8;
		frame[IP + 3] = total;
		enum packet_kind kind = parse_full(frame, size, &packet);
		if (total < 20 || total > size - IP)
			assert_int_equal(kind, PACKET_BAD_IP);
		else
			assert_int_equal(kind, total < 40 ? PACKET_BAD_TCP : PACKET_TCP);
		if (kind == PACKET_TCP) // the trailer is no payload
			assert_int_equal(packet.payload, total - 40);
	}
	segment = segment_of(AF_INET6);
	segment.payload_size = 100;
	size = packets_build(&segment, frame);
	for (unsigned length = 0; length <= UINT16_MAX; length++) {
		frame[IP + 4] = length >> 8;
		frame[IP + 5] = length;
		enum packet_kind kind = parse_full(frame, size, &packet);
		if (length + 40 > size - IP)
			assert_int_equal(kind, PACKET_BAD_IP);
		else
			assert_int_equal(kind, length < 20 ? PACKET_BAD_TCP : PACKET_TCP);
		if (kind == PACKET_TCP)
			assert_int_equal(packet.payload, length - 20);
	}
}

static void every_data_offset(void **state) // B9
{
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned v6 = 0; v6 < 2; v6++)
		for (unsigned payload = 0; payload <= 44; payload++)
			for (unsigned offset = 0; offset < 16; offset++) {
				struct segment segment = segment_of(v6 ? AF_INET6 : AF_INET);
				segment.payload_size = payload;
				unsigned size = packets_build(&segment, frame);
				frame[(v6 ? TCP6 : TCP4) + 12] = offset << 4;
				bool good = offset >= 5 && offset * 4 <= 20 + payload;
				assert_int_equal(
					parse(frame, size), good ? PACKET_TCP : PACKET_BAD_TCP);
			}
}

static void fragments_are_no_tcp(void **state) // B10
{
	struct segment segment = segment_of(AF_INET);
	uint8_t frame[PACKETS_SIZE_MAX];

	segment.payload_size = 64;
	unsigned size = packets_build(&segment, frame);
	for (unsigned field = 0; field <= UINT16_MAX; field++) {
		frame[IP + 6] = field >> 8;
		frame[IP + 7] = field;
		// All but "don't fragment" and the reserved bit.
		assert_int_equal(parse(frame, size), field & 0x3fff ? PACKET_FRAGMENT : PACKET_TCP);
		frame[IP + 9] = IPPROTO_UDP;
		assert_int_equal(parse(frame, size), PACKET_OTHER);
		frame[IP + 9] = IPPROTO_TCP;
	}
}

/* The frame with `count` extension headers of the type in front of TCP, each of 8 bytes: length 0,
 * the authentication header's (RFC 4302), too. */
static unsigned with_extensions(uint8_t *frame, uint8_t type, unsigned count)
{
	struct segment segment = segment_of(AF_INET6);
	unsigned size = packets_build(&segment, frame);

	memmove(frame + TCP6 + count * 8, frame + TCP6, size - TCP6);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *header = frame + TCP6 + i * 8;
		memset(header, 0, 8);
		header[0] = i + 1 < count ? type : IPPROTO_TCP;
	}
	if (count != 0)
		frame[IP + 6] = type;
	frame[IP + 4] = (20 + count * 8) >> 8;
	frame[IP + 5] = 20 + count * 8;
	return size + count * 8;
}

static void extension_headers_are_bounded(void **state) // B15
{
	static const uint8_t types[] = {
		IPPROTO_HOPOPTS, IPPROTO_ROUTING, IPPROTO_DSTOPTS, IPPROTO_AH};
	uint8_t frame[PACKETS_SIZE_MAX];
	struct packet packet;

	for (unsigned t = 0; t < sizeof(types); t++)
		for (unsigned count = 0; count <= 100; count++) {
			unsigned size = with_extensions(frame, types[t], count);
			enum packet_kind kind = parse_full(frame, size, &packet);
			assert_int_equal(kind, count <= 8 ? PACKET_TCP : PACKET_EXTENSION_HEADERS);
			if (count > 8)
				continue;
			assert_int_equal(packet.payload, 0);
			// Cut anywhere in the chain.
			for (unsigned cut = TCP6; cut < size; cut++) {
				kind = parse(frame, cut);
				assert_int_equal(kind, PACKET_BAD_IP);
			}
		}
}

static void extension_headers_cut_with_agreeing_lengths(void **state) // B15
{
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned length = 0; length < 64; length++) {
		with_extensions(frame, IPPROTO_DSTOPTS, 8);
		frame[IP + 5] = length;
		assert_int_equal(parse(frame, TCP6 + length), PACKET_EXTENSION_HEADERS);
	}
	for (unsigned length = 64; length < 84; length++) {
		frame[IP + 5] = length;
		assert_int_equal(parse(frame, TCP6 + length), PACKET_BAD_TCP);
	}
	// The longest header, and a frame that has less.
	unsigned size = with_extensions(frame, IPPROTO_HOPOPTS, 1);
	frame[TCP6 + 1] = 255;
	assert_int_equal(parse(frame, size), PACKET_EXTENSION_HEADERS);
	// It ends behind the packet but within the frame: what follows is a trailer.
	uint8_t *header = frame + TCP6;
	size = with_extensions(frame, IPPROTO_HOPOPTS, 1);
	memset(header + 8, 0, 100);
	header[1] = 3;
	header[32 + 12] = 5 << 4;
	assert_int_equal(parse(frame, TCP6 + 100), PACKET_BAD_TCP);
}

static void what_is_behind_extension_headers(void **state) // B10, B15
{
	static const struct {
		uint8_t protocol;
		enum packet_kind kind;
	} cases[] = {
		{IPPROTO_ESP, PACKET_OTHER},
		{IPPROTO_NONE, PACKET_OTHER},
		{253, PACKET_OTHER},
		{IPPROTO_UDP, PACKET_OTHER},
		{IPPROTO_ICMPV6, PACKET_OTHER},
		{IPPROTO_TCP, PACKET_TCP},
		{255, PACKET_OTHER},
	};
	uint8_t frame[PACKETS_SIZE_MAX];
	struct packet packet;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned size = with_extensions(frame, IPPROTO_DSTOPTS, 1);
		frame[TCP6] = cases[i].protocol;
		assert_int_equal(parse_full(frame, size, &packet), cases[i].kind);
		assert_int_equal(packet.protocol, cases[i].protocol);
	}
	// Fragment headers: the first, the last, the atomic one (RFC 6946).
	static const uint8_t offsets[][2] = {{0, 1}, {1, 0}, {0, 0}, {0xff, 0xf8}};
	for (unsigned i = 0; i < 4; i++) {
		unsigned size = with_extensions(frame, IPPROTO_FRAGMENT, 1);
		memcpy(frame + TCP6 + 2, offsets[i], 2);
		assert_int_equal(parse(frame, size), PACKET_FRAGMENT);
	}
}

/* An ICMPv6 message behind `count` extension headers of one kind; returns its size. */
static unsigned build_icmp6(
	uint8_t *frame, uint8_t kind, unsigned count, uint8_t type, uint8_t code, uint8_t hops)
{
	unsigned size = with_extensions(frame, kind, count);
	unsigned next = count == 0 ? IP + 6u : TCP6 + (count - 1) * 8, icmp = TCP6 + count * 8;

	frame[next] = IPPROTO_ICMPV6;
	frame[IP + 7] = hops;
	frame[icmp] = type;
	frame[icmp + 1] = code;
	return size;
}

static void neighbour_discovery_comes_from_its_own_link(void **state) // W13
{
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned type = 0; type < 256; type++)
		for (unsigned code = 0; code < 3; code++)
			for (unsigned hops = 0; hops < 256; hops += 5) {
				bool is_discovery = type >= 133 && type <= 137;
				bool may_be = code == 0 && hops == 255;
				// Errors quote nothing here.
				enum packet_kind kind = type >= 1 && type <= 4 ? PACKET_BAD_ICMP
					: !is_discovery                        ? PACKET_OTHER
					: may_be                               ? PACKET_ND
									       : PACKET_BAD_ND;
				for (unsigned count = 0; count < 3; count++) {
					unsigned size = build_icmp6(
						frame, IPPROTO_DSTOPTS, count, type, code, hops);
					assert_int_equal(parse(frame, size), kind);
				}
			}
	// Nothing behind the type.
	build_icmp6(frame, 0, 0, 135, 0, 255);
	frame[IP + 4] = 0;
	frame[IP + 5] = 1;
	assert_int_equal(parse(frame, TCP6 + 1), PACKET_BAD_ND);
}

static void neighbour_discovery_is_never_a_fragment(void **state) // W13, RFC 6980
{
	static const uint8_t offsets[][2] = {{0, 1}, {1, 0}, {0, 0}, {0xff, 0xf8}};
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned i = 0; i < 4; i++) {
		unsigned size = build_icmp6(frame, IPPROTO_FRAGMENT, 1, 135, 0, 255);
		memcpy(frame + TCP6 + 2, offsets[i], 2);
		assert_int_equal(parse(frame, size), PACKET_OTHER);
	}
}

static void a_multicast_router_is_on_the_link(void **state) // W13, RFC 3810
{
	static const struct {
		const char *source;
		uint8_t type, hops;
		enum packet_kind kind;
	} cases[] = {
		{"fe80::1", 130, 1, PACKET_ND},
		{"febf:ffff::1", 130, 1, PACKET_ND},
		{"fe80::1", 130, 2, PACKET_OTHER},
		{"fe80::1", 130, 255, PACKET_OTHER},
		{"fec0::1", 130, 1, PACKET_OTHER},
		{"2001:db8::1", 130, 1, PACKET_OTHER},
		{"fe80::1", 131, 1, PACKET_OTHER}, // reports: for routers
		{"fe80::1", 143, 1, PACKET_OTHER},
		{"fe80::1", 128, 1, PACKET_OTHER},
	};
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (unsigned count = 0; count < 2; count++) { // the router alert
			struct net_addr source = packets_addr(cases[i].source);
			unsigned size = build_icmp6(
				frame, IPPROTO_HOPOPTS, count, cases[i].type, 0, cases[i].hops);
			memcpy(frame + IP + 8, source.v6, 16);
			assert_int_equal(parse(frame, size), cases[i].kind);
		}
}

static bool has_bad_address(const struct segment *segment)
{
	uint8_t frame[PACKETS_SIZE_MAX];
	struct packet packet;
	struct rte_mbuf *mbuf = packets_mbuf(frame, packets_build(segment, frame));

	packet_parse(&packet, &packet, mbuf, packet_own(&own));
	assert_int_equal(packet.kind, PACKET_TCP);
	bool bad = packet_bad_address(&packet);
	packets_free(mbuf);
	return bad;
}

static void addresses_and_ports_that_cannot_be(void **state) // B12
{
	static const char *const bad4[] = {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255",
		"224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255", "192.0.2.80"};
	static const char *const bad6[] = {"::", "::1", "ff02::1", "ff0e::1234", "2001:db8::80"};
	static const char *const good[] = {"1.0.0.1", "126.255.255.255", "128.0.0.1",
		"223.255.255.255", "::2", "fe80::1", "fd00::1"};

	for (unsigned i = 0; i < sizeof(bad4) / sizeof(bad4[0]); i++) {
		struct segment segment = segment_of(AF_INET);
		segment.src = packets_addr(bad4[i]);
		assert_true(has_bad_address(&segment));
	}
	for (unsigned i = 0; i < sizeof(bad6) / sizeof(bad6[0]); i++) {
		struct segment segment = segment_of(AF_INET6);
		segment.src = packets_addr(bad6[i]);
		assert_true(has_bad_address(&segment));
	}
	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct net_addr src = packets_addr(good[i]);
		struct segment segment = segment_of(src.family);
		segment.src = src;
		assert_false(has_bad_address(&segment));
	}
	for (unsigned i = 0; i < 6; i++) {
		struct segment segment = segment_of(i & 1 ? AF_INET6 : AF_INET);
		segment.sport = i >> 1 == 1 ? 40000 : 0;
		segment.dport = i >> 1 == 0 ? 80 : 0;
		assert_true(has_bad_address(&segment));
	}
}

static void frames_to_other_stations(void **state) // B12
{
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned i = 0; i < 48; i++) { // each bit of the address counts
		struct segment segment = segment_of(i & 1 ? AF_INET6 : AF_INET);
		segment.to.bytes[i / 8] ^= 1 << i % 8;
		assert_int_equal(parse(frame, packets_build(&segment, frame)), PACKET_WRONG_MAC);
	}
	struct segment segment = segment_of(AF_INET);
	memset(&segment.to, 0xff, 6);
	unsigned size = packets_build(&segment, frame);
	assert_int_equal(parse(frame, size), PACKET_WRONG_MAC);
	frame[IP + 9] = IPPROTO_UDP; // a broadcast for the kernel
	assert_int_equal(parse(frame, size), PACKET_OTHER);
}

static void tags_and_other_frames_are_never_ip(void **state) // B14
{
	// The ethertype that the parser sees; an IPv4 TCP packet lies behind 0 to 12 more bytes.
	static const uint16_t types[] = {0x8100, 0x88a8, 0x9100, 0x8808, 0x8847, 0x8848, 0x88cc,
		0x0805, 0x0026, 0x05dc, 0x0600, 0x0000, 0xffff, 0x8864, 0x22f0};
	uint8_t frame[PACKETS_SIZE_MAX], tagged[PACKETS_SIZE_MAX];
	struct packet packet;

	for (unsigned t = 0; t < sizeof(types) / sizeof(types[0]); t++)
		for (unsigned more = 0; more <= 12; more += 2) {
			struct segment segment = segment_of(t & 1 ? AF_INET6 : AF_INET);
			unsigned size = packets_build(&segment, frame);
			memcpy(tagged, frame, 12);
			memcpy(tagged + 12, frame + 12, more);
			memcpy(tagged + 12 + more, frame + 12, size - 12);
			tagged[12] = types[t] >> 8;
			tagged[13] = types[t];
			bool is_tag = t < 2;
			tagged[15] |= is_tag; // by VLAN 0 nothing changes
			for (unsigned cut = 14; cut <= size + more; cut++) {
				assert_int_equal(parse_full(tagged, cut, &packet),
					is_tag ? PACKET_TAGGED : PACKET_OTHER);
				assert_int_equal(packet.family, 0);
				assert_null(packet.l3);
			}
		}
	uint8_t arp[42] = {[12] = 0x08, [13] = 0x06};
	memset(arp, 0xff, 6);
	assert_int_equal(parse(arp, sizeof(arp)), PACKET_ARP);
	// An IP version under the other's ethertype.
	struct segment segment = segment_of(AF_INET);
	unsigned size = packets_build(&segment, frame);
	frame[12] = 0x86;
	frame[13] = 0xdd;
	assert_int_equal(parse(frame, size), PACKET_BAD_IP);
	segment = segment_of(AF_INET6);
	size = packets_build(&segment, frame);
	frame[12] = 0x08;
	frame[13] = 0x00;
	assert_int_equal(parse(frame, size), PACKET_BAD_IP);
}

static void headers_must_lie_in_the_first_segment(void **state)
{
	struct segment segment = segment_of(AF_INET);
	uint8_t frame[PACKETS_SIZE_MAX], options[40] = {[0 ... 39] = 1};
	struct packet packet;

	segment.options = options;
	segment.options_size = sizeof(options);
	segment.payload_size = 200;
	unsigned size = packets_build(&segment, frame);
	for (unsigned first = 0; first <= size; first++) {
		struct rte_mbuf *mbuf = packets_mbuf(frame, first);
		mbuf->pkt_len = size; // the rest is in a next segment
		packet_parse(&packet, &packet, mbuf, packet_own(&own));
		if (first < TCP4)
			assert_int_equal(packet.kind, PACKET_RUNT);
		else
			assert_int_equal(
				packet.kind, first < TCP4 + 60 ? PACKET_BAD_TCP : PACKET_TCP);
		if (packet.kind == PACKET_TCP)
			assert_int_equal(packet.payload, 200);
		packets_free(mbuf);
	}
}

/* The fast half decides as the slow half would: on 2,000,000 damaged frames. */
static void both_halves_agree(void **state)
{
	uint64_t seed = 7;
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned i = 0; i < 2000000; i++) {
		struct segment segment = segment_of(i % 4 == 3 ? AF_INET6 : AF_INET);
		segment.payload_size = packets_random(&seed) % 40;
		unsigned size = packets_build(&segment, frame);
		for (unsigned n = packets_random(&seed) % 4; n > 0; n--) {
			uint64_t random = packets_random(&seed);
			frame[random % RTE_MIN(size, 60u)] = random >> 32;
		}
		if (i % 8 == 0)
			size = packets_random(&seed) % (size + 1);
		struct rte_mbuf *mbuf = packets_mbuf(frame, size);
		struct packet fast, slow;
		memset(&fast, 0, sizeof(fast));
		memset(&slow, 0, sizeof(slow));
		packet_parse(&fast, &fast, mbuf, packet_own(&own));
		slow.mbuf = mbuf;
		packet_parse_other(&slow, &slow, mbuf, packet_own(&own));
		assert_int_equal(fast.kind, slow.kind);
		if (fast.kind == PACKET_TCP)
			assert_memory_equal(&fast, &slow, sizeof(fast));
		packets_free(mbuf);
	}
}

static bool may_be_taken(const uint8_t *frame, unsigned size)
{
	struct rte_mbuf *mbuf = packets_mbuf(frame, size);
	struct packet packet;

	packet_parse(&packet, &packet, mbuf, packet_own(&own));
	assert_int_equal(packet.kind, PACKET_TCP);
	bool may = packet_may_be_taken(&packet);
	packets_free(mbuf);
	return may;
}

static void what_ip_options_a_receiver_takes(void **state)
{
	static const struct {
		uint8_t options[8];
		bool may;
	} cases[] = {
		{{1, 1, 1, 1, 1, 1, 1, 1}, true},
		{{148, 4, 0, 0, 1, 1, 1, 0}, true}, // router alert
		{{131, 7, 4, 10, 0, 0, 1, 0}, false},
		{{137, 7, 4, 10, 0, 0, 1, 0}, false},
		{{1, 131, 7, 8, 10, 0, 0, 1}, false}, // the route is behind it
		{{0, 131, 7, 4, 10, 0, 0, 1}, true},  // behind the last
		{{7, 1, 1, 1, 1, 1, 1, 1}, false},    // has no end
		{{1, 1, 1, 1, 1, 1, 1, 7}, false},
	};
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct segment segment = segment_of(AF_INET);
		unsigned size = packets_build(&segment, frame);
		memmove(frame + TCP4 + 8, frame + TCP4, size - TCP4);
		memcpy(frame + TCP4, cases[i].options, 8);
		frame[IP] += 2;
		frame[IP + 3] += 8;
		packets_seal_ip4(frame, 28);
		assert_int_equal(may_be_taken(frame, size + 8), cases[i].may);
		frame[IP + 10] ^= 1;
		assert_false(may_be_taken(frame, size + 8));
	}
}

static void what_extension_headers_a_receiver_takes(void **state)
{
	static const uint8_t types[] = {
		IPPROTO_HOPOPTS, IPPROTO_DSTOPTS, IPPROTO_ROUTING, IPPROTO_AH};
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned t = 0; t < sizeof(types); t++)
		for (unsigned count = 1; count <= 3; count++) {
			unsigned size = with_extensions(frame, types[t], count);
			assert_int_equal(may_be_taken(frame, size), types[t] != IPPROTO_AH);
			frame[TCP6 + (count - 1) * 8 + 3] = 1; // segments left, of a route
			assert_int_equal(may_be_taken(frame, size),
				types[t] != IPPROTO_AH && types[t] != IPPROTO_ROUTING);
		}
}

static void what_is_signed_no_receiver_takes(void **state) // RFC 2385, RFC 5925
{
	static const uint8_t signs[] = {19, 29};
	uint8_t frame[PACKETS_SIZE_MAX], options[20] = {1, 1, 0, 18};

	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct segment segment = segment_of(v6 ? AF_INET6 : AF_INET);
		assert_true(may_be_taken(frame, packets_build(&segment, frame)));
		segment.options = options;
		segment.options_size = sizeof(options);
		for (unsigned i = 0; i < 2; i++) {
			options[2] = signs[i];
			assert_false(may_be_taken(frame, packets_build(&segment, frame)));
		}
		options[2] = 254; // an experiment's
		assert_true(may_be_taken(frame, packets_build(&segment, frame)));
		frame[v6 ? TCP6 + 16 : TCP4 + 16] ^= 1;
		assert_false(may_be_taken(frame, (v6 ? TCP6 : TCP4) + 40));
	}
}

/* Whether the TCP checksum of a frame is right, whose first segment ends at `first`. */
static bool sum_is_right(const uint8_t *frame, unsigned size, unsigned first)
{
	struct rte_mbuf *mbuf = packets_mbuf(frame, first);
	struct rte_mbuf *rest = first < size ? packets_mbuf(frame + first, size - first) : NULL;
	struct packet packet;

	mbuf->next = rest;
	mbuf->pkt_len = size;
	packet_parse(&packet, &packet, mbuf, packet_own(&own));
	assert_int_equal(packet.kind, PACKET_TCP);
	bool is_right = packet_sum_is_right(&packet);
	mbuf->next = NULL;
	packets_free(mbuf);
	if (rest != NULL)
		packets_free(rest);
	return is_right;
}

static void sums_cover_the_whole_segment_and_no_more(void **state)
{
	static const uint8_t options[] = {8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1};
	uint8_t frame[PACKETS_SIZE_MAX];

	for (sa_family_t family = AF_INET;; family = AF_INET6) {
		unsigned tcp = family == AF_INET6 ? TCP6 : TCP4;
		for (unsigned payload = 0; payload < 40; payload++) {
			struct segment segment = segment_of(family);
			segment.options = options;
			segment.options_size = sizeof(options);
			segment.payload_size = payload;
			unsigned size = packets_build(&segment, frame);
			memset(frame + size, 0xee, 7); // padding
			for (unsigned first = tcp + 32; first <= size; first++)
				assert_true(sum_is_right(frame, size + 7, first));
			assert_true(sum_is_right(frame, size + 7, size + 7));
			for (unsigned at = tcp; at < size; at++) {
				if (at == tcp + 12)
					continue; // the header's length: another packet
				frame[at] ^= 0x10;
				assert_false(sum_is_right(frame, size, size));
				assert_false(sum_is_right(frame, size, tcp + 32));
				frame[at] ^= 0x10;
			}
			frame[tcp - 1] ^= 0x10; // the pseudo header's
			assert_false(sum_is_right(frame, size, size));
			assert_false(sum_is_right(frame, size, tcp + 32));
		}
		if (family == AF_INET6)
			break;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_tcp_of_both_families),
		cmocka_unit_test(frame_cut_at_each_byte),
		cmocka_unit_test(tcp_header_cut_with_agreeing_lengths),
		cmocka_unit_test(every_version_and_header_length),
		cmocka_unit_test(every_total_length),
		cmocka_unit_test(every_data_offset),
		cmocka_unit_test(fragments_are_no_tcp),
		cmocka_unit_test(extension_headers_are_bounded),
		cmocka_unit_test(extension_headers_cut_with_agreeing_lengths),
		cmocka_unit_test(what_is_behind_extension_headers),
		cmocka_unit_test(what_ip_options_a_receiver_takes),
		cmocka_unit_test(what_extension_headers_a_receiver_takes),
		cmocka_unit_test(what_is_signed_no_receiver_takes),
		cmocka_unit_test(neighbour_discovery_comes_from_its_own_link),
		cmocka_unit_test(neighbour_discovery_is_never_a_fragment),
		cmocka_unit_test(a_multicast_router_is_on_the_link),
		cmocka_unit_test(addresses_and_ports_that_cannot_be),
		cmocka_unit_test(frames_to_other_stations),
		cmocka_unit_test(tags_and_other_frames_are_never_ip),
		cmocka_unit_test(headers_must_lie_in_the_first_segment),
		cmocka_unit_test(both_halves_agree),
		cmocka_unit_test(sums_cover_the_whole_segment_and_no_more),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
