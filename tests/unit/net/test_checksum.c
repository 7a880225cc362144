/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"

enum { NB_PACKETS = 10000000 };

static uint64_t next_random(uint64_t *state) // xorshift64*
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}

static void fill_random(void *data, unsigned size, uint64_t *seed)
{
	uint8_t *bytes = data;

	for (unsigned i = 0; i < size; i++)
		bytes[i] = next_random(seed) >> 56;
}

/* RFC 1071's definition, byte by byte and in network order; `sum` continues an even part. */
static uint32_t plain_sum(const uint8_t *bytes, unsigned size, uint32_t sum)
{
	for (unsigned i = 0; i < size; i++) {
		sum += i % 2 == 0 ? bytes[i] << 8 : bytes[i];
		sum = (sum & 0xffff) + (sum >> 16);
	}
	return sum;
}

/* The pseudo headers as RFC 9293 and RFC 8200 draw them. */
static uint16_t plain_l4(sa_family_t family, const uint8_t *src, const uint8_t *dst, uint8_t proto,
	const uint8_t *l4, unsigned size)
{
	uint8_t pseudo[40] = {0};
	unsigned pseudo_size = family == AF_INET6 ? 40 : 12;
	unsigned addr_size = family == AF_INET6 ? 16 : 4;

	memcpy(pseudo, src, addr_size);
	memcpy(pseudo + addr_size, dst, addr_size);
	if (family == AF_INET6) {
		pseudo[32] = size >> 24;
		pseudo[33] = size >> 16;
		pseudo[34] = size >> 8;
		pseudo[35] = size;
		pseudo[39] = proto;
	} else {
		pseudo[9] = proto;
		pseudo[10] = size >> 8;
		pseudo[11] = size;
	}
	return htons((uint16_t)~plain_sum(l4, size, plain_sum(pseudo, pseudo_size, 0)));
}

static void sum_of_rfc_1071(void **state)
{
	static const uint8_t data[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	assert_int_equal(checksum_fold(checksum_sum(data, sizeof(data), 0)), htons(0xddf2));
	// In two parts, and at another alignment.
	uint8_t shifted[9];
	memcpy(shifted + 1, data, 8);
	uint32_t sum = checksum_sum(shifted + 1, 6, 0);
	assert_int_equal(checksum_fold(checksum_sum(shifted + 7, 2, sum)), htons(0xddf2));
}

static void sum_equals_the_definition_at_every_size(void **state)
{
	uint8_t data[2048];
	uint64_t seed = 1;

	fill_random(data, sizeof(data), &seed);
	memset(data, 0xff, 128); // carries everywhere
	for (unsigned size = 0; size < sizeof(data); size++)
		assert_int_equal(checksum_fold(checksum_sum(data, size, 0)),
			htons(plain_sum(data, size, 0)));
	assert_int_equal(checksum_fold(checksum_sum(data, 10, 0xffffffff)), 0xffff);
}

static void ip_header_from_a_capture(void **state)
{
	// The example of "IPv4 header checksum" in Wikipedia: 192.168.0.1 to 192.168.0.199, UDP.
	uint8_t header[] = {0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0x00, 0x00,
		0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7};
	uint16_t checksum = checksum_ip(header, sizeof(header));

	assert_int_equal(checksum, htons(0xb861));
	memcpy(header + 10, &checksum, 2);
	assert_int_equal(checksum_ip(header, sizeof(header)), 0);
	header[8]--;
	assert_int_not_equal(checksum_ip(header, sizeof(header)), 0);
}

static void l4_equals_the_definition_for_both_families(void **state)
{
	uint8_t src[16], dst[16], l4[1500];
	uint64_t seed = 2;

	for (unsigned i = 0; i < 10000; i++) {
		sa_family_t family = i % 2 ? AF_INET6 : AF_INET;
		unsigned size = 20 + next_random(&seed) % (sizeof(l4) - 20);

		fill_random(src, sizeof(src), &seed);
		fill_random(dst, sizeof(dst), &seed);
		fill_random(l4, 64, &seed);
		uint16_t checksum = checksum_l4(family, src, dst, IPPROTO_TCP, l4, size);
		assert_int_equal(checksum, plain_l4(family, src, dst, IPPROTO_TCP, l4, size));
		memset(l4 + 16, 0, 2);
		checksum = checksum_l4(family, src, dst, IPPROTO_TCP, l4, size);
		memcpy(l4 + 16, &checksum, 2);
		assert_int_equal(checksum_l4(family, src, dst, IPPROTO_TCP, l4, size), 0);
	}
	// More than 65,535 bytes: the upper half of IPv6's length counts.
	static uint8_t jumbo[0x12345];
	assert_int_equal(checksum_l4(AF_INET6, src, dst, IPPROTO_TCP, jumbo, sizeof(jumbo)),
		plain_l4(AF_INET6, src, dst, IPPROTO_TCP, jumbo, sizeof(jumbo)));
}

static void update_of_rfc_1624(void **state)
{
	// Section 4: the update that RFC 1141 got wrong, to 0xffff.
	assert_int_equal(
		checksum_apply(htons(0xdd2f), checksum_delta16(htons(0x5555), htons(0x3285))),
		htons(0x0000));
}

static void unchanged_field_leaves_the_checksum(void **state)
{
	for (unsigned checksum = 0; checksum < 0xffff; checksum++) {
		uint16_t word = checksum * 7919;

		assert_int_equal(checksum_apply(checksum, checksum_delta16(word, word)), checksum);
		assert_int_equal(checksum_apply(checksum, checksum_delta16(0, 0)), checksum);
		assert_int_equal(checksum_apply(checksum, checksum_delta64(-1, -1)), checksum);
	}
	// 0xffff says the same as 0x0000, which is what a sender computes.
	assert_int_equal(checksum_apply(0xffff, checksum_delta16(1, 1)), 0);
}

/* Every pair of words, under a partner that makes the sum meet each edge. */
static void edges_equal_a_full_computation(void **state)
{
	static const uint16_t edges[] = {0, 1, 2, 0x7fff, 0x8000, 0xfffd, 0xfffe, 0xffff};
	enum { NB = sizeof(edges) / sizeof(edges[0]) };

	for (unsigned i = 0; i < NB * NB; i++) {
		for (unsigned other = 1; other <= 0xffff; other++) { // some data besides is not 0
			uint16_t from[2] = {edges[i / NB], other};
			uint16_t to[2] = {edges[i % NB], other};

			assert_int_equal(checksum_apply(checksum_ip(from, 4),
						 checksum_delta16(from[0], to[0])),
				checksum_ip(to, 4));
		}
	}
}

struct packet {
	sa_family_t family;
	uint8_t src[16];
	uint8_t dst[16];
	uint8_t tcp[60];
};

static uint16_t packet_checksum(const struct packet *packet)
{
	return checksum_l4(packet->family, packet->src, packet->dst, IPPROTO_TCP, packet->tcp,
		sizeof(packet->tcp));
}

/* Give the packet a right checksum. */
static void packet_seal(struct packet *packet)
{
	memset(packet->tcp + 16, 0, 2);
	uint16_t checksum = packet_checksum(packet);
	memcpy(packet->tcp + 16, &checksum, 2);
}

static uint32_t address_delta(sa_family_t family, const uint8_t *from, const uint8_t *to)
{
	uint32_t a, b;

	if (family == AF_INET6)
		return checksum_delta128(from, to);
	memcpy(&a, from, 4);
	memcpy(&b, to, 4);
	return checksum_delta32(a, b);
}

/* Random FullNAT rewrite of addresses, ports, sequence and ACK number; the sum of its deltas. */
static uint32_t packet_rewrite(const struct packet *from, struct packet *to, uint64_t *seed)
{
	uint32_t ports[2];
	uint64_t numbers[2];

	*to = *from;
	fill_random(to->src, sizeof(to->src), seed);
	fill_random(to->dst, sizeof(to->dst), seed);
	fill_random(to->tcp, 12, seed);
	memcpy(&ports[0], from->tcp, 4);
	memcpy(&ports[1], to->tcp, 4);
	memcpy(&numbers[0], from->tcp + 4, 8);
	memcpy(&numbers[1], to->tcp + 4, 8);
	return address_delta(from->family, from->src, to->src) +
		address_delta(from->family, from->dst, to->dst) +
		checksum_delta32(ports[0], ports[1]) + checksum_delta64(numbers[0], numbers[1]);
}

static void incremental_equals_full_in_ten_million_packets(void **state) // case B11
{
	uint64_t seed = 3;
	struct packet from, to;
	unsigned nb_wrong = 0;

	for (unsigned i = 0; i < NB_PACKETS; i++) {
		from.family = i % 2 ? AF_INET6 : AF_INET;
		fill_random(&from.src, sizeof(from) - offsetof(struct packet, src), &seed);
		packet_seal(&from);
		uint32_t delta = packet_rewrite(&from, &to, &seed);
		uint16_t before, after;

		memcpy(&before, from.tcp + 16, 2);
		packet_seal(&to);
		memcpy(&after, to.tcp + 16, 2);
		nb_wrong += checksum_apply(before, delta) != after;
	}
	assert_int_equal(nb_wrong, 0);
}

/* a - b in one's complement: from 0 to 0xfffe. */
static unsigned difference(uint16_t a, uint16_t b)
{
	return (a + 0xffffu - b) % 0xffff;
}

static void wrong_checksum_stays_wrong_by_the_same_difference(void **state) // case B11
{
	uint64_t seed = 4;
	struct packet from, to;
	unsigned nb_wrong = 0;

	for (unsigned i = 0; i < NB_PACKETS / 4; i++) {
		from.family = i % 2 ? AF_INET6 : AF_INET;
		fill_random(&from.src, sizeof(from) - offsetof(struct packet, src), &seed);
		packet_seal(&from);
		uint32_t delta = packet_rewrite(&from, &to, &seed);
		uint16_t right, bad = next_random(&seed) >> 48;

		memcpy(&right, from.tcp + 16, 2);
		unsigned before = difference(bad, right);
		packet_seal(&to);
		memcpy(&right, to.tcp + 16, 2);
		uint16_t out = checksum_apply(bad, delta);
		nb_wrong += difference(out, right) != before;
		// And so to a receiver: right only if it was.
		memcpy(to.tcp + 16, &out, 2);
		nb_wrong += (packet_checksum(&to) == 0) != (before == 0);
	}
	assert_int_equal(nb_wrong, 0);
}

static void ttl_decrement_updates_the_ip_header(void **state)
{
	uint8_t header[20];
	uint64_t seed = 5;

	for (unsigned i = 0; i < 100000; i++) {
		uint16_t checksum, from, to;

		fill_random(header, sizeof(header), &seed);
		header[8] |= 1;
		memset(header + 10, 0, 2);
		checksum = checksum_ip(header, sizeof(header));
		memcpy(&from, header + 8, 2);
		header[8]--;
		memcpy(&to, header + 8, 2);
		assert_int_equal(checksum_apply(checksum, checksum_delta16(from, to)),
			checksum_ip(header, sizeof(header)));
	}
}

static void deltas_add_up_without_overflow(void **state)
{
	static const uint8_t zeros[16], ones[16] = {[0 ... 15] = 0xff};
	uint16_t one_by_one = 0x1234;
	uint32_t delta = 0;

	for (unsigned i = 0; i < 4096; i++) {
		delta += checksum_delta128(zeros, ones);
		one_by_one = checksum_apply(one_by_one, checksum_delta128(zeros, ones));
	}
	assert_int_equal(checksum_apply(0x1234, delta), one_by_one);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sum_of_rfc_1071),
		cmocka_unit_test(sum_equals_the_definition_at_every_size),
		cmocka_unit_test(ip_header_from_a_capture),
		cmocka_unit_test(l4_equals_the_definition_for_both_families),
		cmocka_unit_test(update_of_rfc_1624),
		cmocka_unit_test(unchanged_field_leaves_the_checksum),
		cmocka_unit_test(edges_equal_a_full_computation),
		cmocka_unit_test(incremental_equals_full_in_ten_million_packets),
		cmocka_unit_test(wrong_checksum_stays_wrong_by_the_same_difference),
		cmocka_unit_test(ttl_decrement_updates_the_ip_header),
		cmocka_unit_test(deltas_add_up_without_overflow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
