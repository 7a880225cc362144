/* SPDX-License-Identifier: BSD-3-Clause */
/* SipHash-2-4: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012, section 2. */
#include "hash.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

int hash_key_random(struct hash_key *key)
{
	ssize_t size;

	// Up to 256 bytes come whole or not at all; only the wait at boot can be interrupted.
	do {
		size = getrandom(key, sizeof(*key), 0);
	} while (size < 0 && errno == EINTR);
	return size == sizeof(*key) ? 0 : size < 0 ? -errno : -EIO;
}

static inline uint64_t rotate_left(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_rounds(uint64_t v[4], unsigned rounds)
{
	while (rounds-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = rotate_left(v[1], 13) ^ v[0];
		v[3] = rotate_left(v[3], 16) ^ v[2];
		v[0] = rotate_left(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = rotate_left(v[1], 17) ^ v[2];
		v[3] = rotate_left(v[3], 21) ^ v[0];
		v[2] = rotate_left(v[2], 32);
	}
}

static inline void sip_compress(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_rounds(v, 2);
	v[0] ^= word;
}

uint64_t hash_siphash(const struct hash_key *key, const void *data, size_t size)
{
	const uint8_t *bytes = data;
	// "somepseudorandomlygeneratedbytes"
	uint64_t v[4] = {
		key->k[0] ^ 0x736f6d6570736575,
		key->k[1] ^ 0x646f72616e646f6d,
		key->k[0] ^ 0x6c7967656e657261,
		key->k[1] ^ 0x7465646279746573,
	};
	uint64_t word;
	size_t left = size;

	for (; left >= 8; left -= 8, bytes += 8) {
		memcpy(&word, bytes, 8);
		sip_compress(v, le64toh(word));
	}
	word = 0;
	if (left > 0)
		memcpy(&word, bytes, left);
	sip_compress(v, le64toh(word) | (uint64_t)size << 56);
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
