/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_hash.h"

#include <string.h>

#include "hash.h"
#include "packet.h"

static uint64_t sip_one(
	const struct flow_hasher *hasher, sa_family_t family, const void *addrs, uint32_t ports)
{
	unsigned size = net_addr_size(family) * 2;
	uint8_t tuple[32 + sizeof(ports)];

	memcpy(tuple, addrs, size);
	memcpy(tuple + size, &ports, sizeof(ports));
	return hash_siphash(&hasher->key, tuple, size + sizeof(ports));
}

static inline void sip_burst(const struct flow_hasher *hasher, sa_family_t family,
	struct packet *packets, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		packets[i].hash = sip_one(
			hasher, family, packet_addrs_of(&packets[i], family), packets[i].ports);
}

static void sip_burst4(const struct flow_hasher *hasher, struct packet *packets, uint32_t count)
{
	sip_burst(hasher, AF_INET, packets, count);
}

static void sip_burst6(const struct flow_hasher *hasher, struct packet *packets, uint32_t count)
{
	sip_burst(hasher, AF_INET6, packets, count);
}

#ifdef __x86_64__
#include <immintrin.h>

#define AES __attribute__((target("aes,sse4.1")))

/* Four rounds diffuse every input bit over the block; the two keys alternate. */
AES static inline __m128i aes_mix(__m128i block, __m128i k0, __m128i k1)
{
	block = _mm_xor_si128(block, k0);
	block = _mm_aesenc_si128(block, k1);
	block = _mm_aesenc_si128(block, k0);
	block = _mm_aesenc_si128(block, k1);
	return _mm_aesenc_si128(block, k0);
}

AES static inline uint64_t aes_tuple(
	__m128i k0, __m128i k1, sa_family_t family, const void *addrs, uint32_t ports)
{
	if (likely(family == AF_INET)) {
		uint64_t pair;
		memcpy(&pair, addrs, 8);
		return _mm_cvtsi128_si64(aes_mix(_mm_set_epi64x(ports, pair), k0, k1));
	}
	__m128i source = _mm_loadu_si128(addrs);
	__m128i destination = _mm_loadu_si128((const __m128i *)addrs + 1);
	__m128i block = aes_mix(source, k0, k1);
	block = aes_mix(_mm_xor_si128(block, destination), k1, k0);
	return _mm_cvtsi128_si64(
		aes_mix(_mm_xor_si128(block, _mm_set_epi64x(1ull << 32 | ports, 0)), k0, k1));
}

AES static uint64_t aes_one(
	const struct flow_hasher *hasher, sa_family_t family, const void *addrs, uint32_t ports)
{
	const __m128i *key = (const __m128i *)hasher->key.k;

	return aes_tuple(key[0], key[1], family, addrs, ports);
}

AES static inline void aes_burst(const struct flow_hasher *hasher, sa_family_t family,
	struct packet *packets, uint32_t count)
{
	const __m128i *key = (const __m128i *)hasher->key.k;
	__m128i k0 = key[0], k1 = key[1];

	for (uint32_t i = 0; i < count; i++)
		packets[i].hash = aes_tuple(
			k0, k1, family, packet_addrs_of(&packets[i], family), packets[i].ports);
}

AES static void aes_burst4(const struct flow_hasher *hasher, struct packet *packets, uint32_t count)
{
	aes_burst(hasher, AF_INET, packets, count);
}

AES static void aes_burst6(const struct flow_hasher *hasher, struct packet *packets, uint32_t count)
{
	aes_burst(hasher, AF_INET6, packets, count);
}
#endif

void flow_hasher_init(struct flow_hasher *hasher, const struct hash_key *key, bool portable)
{
	hasher->key = *key;
	hasher->burst4 = sip_burst4;
	hasher->burst6 = sip_burst6;
	hasher->one = sip_one;
#ifdef __x86_64__
	if (!portable && __builtin_cpu_supports("aes")) {
		hasher->burst4 = aes_burst4;
		hasher->burst6 = aes_burst6;
		hasher->one = aes_one;
	}
#endif
}
