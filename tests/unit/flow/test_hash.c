/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_hash_crc.h>
#include <stdlib.h>

#include "flow_table.h"
#include "packet.h"
#include "packets.h"

enum { NB_COLLIDING = 65536 };

static const struct hash_key key = {
	{0x0123456789abcdef, 0xfedcba9876543210, 0x1122334455667788, 42}};

struct tuple4 {
	uint32_t addrs[2];
	uint32_t ports;
} __attribute__((aligned(8)));

static uint32_t crc(const struct tuple4 *tuple, uint32_t seed)
{
	return rte_hash_crc(tuple, 12, seed);
}

/* Flip bit `i` of the source: 32 of the address, 16 of the port. */
static void flip(struct tuple4 *tuple, unsigned i)
{
	if (i < 32)
		tuple->addrs[0] ^= 1u << i;
	else
		((uint8_t *)&tuple->ports)[(i - 32) / 8] ^= 1 << i % 8;
}

/*
 * Sources that CRC32 can't tell apart. The CRC is linear: what a change of the source adds to it
 * does not depend on the rest. 48 bits of source over 32 of CRC leave 2^16 changes that add
 * nothing; elimination over GF(2) gives a base of them.
 */
static struct tuple4 *colliding_tuples(void)
{
	struct tuple4 start = {{0x0100000a, 0x0a0200c0}, 0x50000104};
	struct tuple4 *tuples = calloc(NB_COLLIDING, sizeof(*tuples));
	uint64_t pivots[32] = {0}, nulls[48]; // change << 0, its CRC beside
	uint32_t pivot_crcs[32] = {0};
	unsigned nb_nulls = 0;

	assert_non_null(tuples);
	for (unsigned i = 0; i < 48; i++) {
		struct tuple4 changed = start;
		flip(&changed, i);
		uint64_t change = 1ull << i;
		uint32_t difference = crc(&changed, 0) ^ crc(&start, 0);
		while (difference != 0) {
			unsigned top = 31 - __builtin_clz(difference);
			if (pivot_crcs[top] == 0) {
				pivot_crcs[top] = difference;
				pivots[top] = change;
				break;
			}
			difference ^= pivot_crcs[top];
			change ^= pivots[top];
		}
		if (difference == 0)
			nulls[nb_nulls++] = change;
	}
	assert_true(nb_nulls >= 16);
	for (unsigned n = 0; n < NB_COLLIDING; n++) {
		tuples[n] = start;
		for (unsigned b = 0; b < 16; b++)
			for (unsigned i = 0; (n >> b & 1) && i < 48; i++)
				if (nulls[b] >> i & 1)
					flip(&tuples[n], i);
	}
	return tuples;
}

static void the_attack_works_against_crc32(void **state) // C8
{
	struct tuple4 *tuples = colliding_tuples();

	for (unsigned n = 1; n < NB_COLLIDING; n++) {
		assert_int_equal(crc(&tuples[n], 0), crc(&tuples[0], 0));
		assert_int_equal(crc(&tuples[n], 0x5eed), crc(&tuples[0], 0x5eed));
		assert_true(memcmp(&tuples[n], &tuples[n - 1], 12) != 0);
	}
	free(tuples);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* What the index sees of a set of tuples: keys in the fullest bucket, pairs in one bucket, pairs
 * that also share the signature (these cost a look at a record). */
struct load {
	unsigned fullest;
	uint64_t pairs;
	uint64_t signature_pairs;
};

static struct load load_of(const struct flow_hasher *hasher, const struct tuple4 *tuples)
{
	enum { BUCKETS = NB_COLLIDING * 2 * 2 / 13 };
	uint64_t *places = calloc(NB_COLLIDING, sizeof(*places));
	struct load load = {0};
	unsigned run = 0, signature_run = 0;

	for (unsigned i = 0; i < NB_COLLIDING; i++) {
		uint64_t hash = flow_hash(hasher, AF_INET, tuples[i].addrs, tuples[i].ports);
		places[i] = (uint64_t)flow_hash_primary(BUCKETS, hash) << 16 |
			flow_hash_signature(hash);
	}
	qsort(places, NB_COLLIDING, sizeof(*places), compare);
	for (unsigned i = 0; i < NB_COLLIDING; i++) {
		run = i > 0 && places[i] >> 16 == places[i - 1] >> 16 ? run + 1 : 0;
		signature_run = i > 0 && places[i] == places[i - 1] ? signature_run + 1 : 0;
		load.pairs += run;
		load.signature_pairs += signature_run;
		load.fullest = run + 1 > load.fullest ? run + 1 : load.fullest;
	}
	free(places);
	return load;
}

static void colliding_tuples_load_the_index_as_random_ones(void **state) // C8
{
	struct tuple4 *colliding = colliding_tuples();
	struct tuple4 *random = calloc(NB_COLLIDING, sizeof(*random));
	uint64_t seed = 8;

	for (unsigned i = 0; i < NB_COLLIDING; i++) {
		random[i] = colliding[0];
		random[i].addrs[0] = packets_random(&seed) >> 32;
		random[i].ports ^= (packets_random(&seed) >> 48) << (i & 1 ? 0 : 16);
	}
	for (unsigned portable = 0; portable < 2; portable++) {
		struct flow_hasher hasher;
		flow_hasher_init(&hasher, &key, portable);
		struct load attack = load_of(&hasher, colliding), usual = load_of(&hasher, random);
		print_message("%s: fullest %u / %u, pairs %lu / %lu, with signature %lu / %lu\n",
			portable ? "SipHash" : "default", attack.fullest, usual.fullest,
			attack.pairs, usual.pairs, attack.signature_pairs, usual.signature_pairs);
		assert_true(attack.fullest <= 2 * usual.fullest);
		assert_true(attack.pairs * 10 <= usual.pairs * 11);
		assert_true(attack.signature_pairs <= 2 * usual.signature_pairs + 20);
	}
	free(colliding);
	free(random);
}

static void packets_hash_as_their_tuples(void **state)
{
	static const struct net_mac mac = {{2, 0, 0, 0, 0, 1}};
	struct rte_mbuf *mbufs[33];
	struct packet packets[33];
	uint8_t frame[PACKETS_SIZE_MAX];
	uint64_t seed = 3;

	for (unsigned portable = 0; portable < 2; portable++) {
		struct flow_hasher hasher;
		flow_hasher_init(&hasher, &key, portable);
		for (unsigned i = 0; i < 33; i++) {
			struct segment segment = {
				.from = mac,
				.to = mac,
				.src = packets_addr(i % 3 ? "198.51.100.1" : "2001:db8::1"),
				.dst = packets_addr(i % 3 ? "192.0.2.1" : "2001:db8::2"),
				.sport = packets_random(&seed) | 1,
				.dport = 80,
				.ttl = 9,
			};
			mbufs[i] = packets_mbuf(frame, packets_build(&segment, frame));
			packet_parse(&packets[i], &packets[i], mbufs[i], packet_own(&mac));
			assert_int_equal(packets[i].kind, PACKET_TCP);
			packets[i].hash = 0;
		}
		for (unsigned i = 0; i < 33; i += 3) { // every third is of IPv6
			flow_hash_burst(&hasher, AF_INET6, &packets[i], 1);
			flow_hash_burst(&hasher, AF_INET, &packets[i + 1], 2);
		}
		for (unsigned i = 0; i < 33; i++) {
			uint64_t hash = flow_hash(&hasher, packets[i].family,
				packet_addrs(&packets[i]), packets[i].ports);
			assert_true(packets[i].hash == hash);
			packets_free(mbufs[i]);
		}
	}
}

/* Each bit of the tuple and of the key's halves that are used turns about half of the hash. */
static void every_bit_of_the_tuple_counts(void **state)
{
	uint64_t seed = 5;

	for (unsigned portable = 0; portable < 2; portable++) {
		struct flow_hasher hasher;
		flow_hasher_init(&hasher, &key, portable);
		for (unsigned v6 = 0; v6 < 2; v6++)
			for (unsigned bit = 0; bit < (v6 ? 288 : 96); bit++) {
				unsigned turned = 0, size = v6 ? 32 : 8;
				for (unsigned round = 0; round < 256; round++) {
					uint8_t tuple[36];
					uint64_t hash[2];
					for (unsigned i = 0; i < sizeof(tuple); i++)
						tuple[i] = packets_random(&seed) >> 56;
					for (unsigned k = 0; k < 2; k++) {
						uint32_t ports;
						memcpy(&ports, tuple + size, 4);
						hash[k] = flow_hash(&hasher,
							v6 ? AF_INET6 : AF_INET, tuple, ports);
						tuple[bit / 8] ^= 1 << bit % 8;
					}
					turned += __builtin_popcountll(hash[0] ^ hash[1]);
				}
				assert_in_range(turned, 256 * 30, 256 * 34);
			}
	}
}

static void the_key_decides(void **state) // F1
{
	struct tuple4 tuple = {{1, 2}, 3};

	for (unsigned portable = 0; portable < 2; portable++)
		for (unsigned bit = 0; bit < (portable ? 128 : 256); bit++) {
			struct flow_hasher a, b;
			struct hash_key other = key;
			other.k[bit / 64] ^= 1ull << bit % 64;
			flow_hasher_init(&a, &key, portable);
			flow_hasher_init(&b, &other, portable);
			if (!portable && a.one == b.one && bit >= 128 &&
				!__builtin_cpu_supports("aes"))
				continue;
			assert_true(flow_hash(&a, AF_INET, tuple.addrs, tuple.ports) !=
				flow_hash(&b, AF_INET, tuple.addrs, tuple.ports));
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_attack_works_against_crc32),
		cmocka_unit_test(colliding_tuples_load_the_index_as_random_ones),
		cmocka_unit_test(packets_hash_as_their_tuples),
		cmocka_unit_test(every_bit_of_the_tuple_counts),
		cmocka_unit_test(the_key_decides),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
