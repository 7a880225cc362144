/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The Internet checksum (RFC 1071): in full, and updated for changed fields only (RFC 1624).
 *
 * All words are summed as they lie in memory: one's-complement addition gives the right bytes in
 * either byte order (RFC 1071, 2 B), so nothing here swaps, and every uint16_t checksum is in
 * network byte order, ready to be stored. Packets may lie at any alignment.
 *
 * A rewrite adds up the deltas of all the fields it changes, once, and applies the sum to each
 * checksum that covers them. A wrong checksum stays wrong by the same difference (case B11).
 */
#ifndef WEIR_CHECKSUM_H
#define WEIR_CHECKSUM_H

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

/* Fold a 64-bit one's-complement sum of words into 32 bits. Added to itself with the halves
 * exchanged, its upper half is the sum of both with the carry brought round. */
static inline uint32_t checksum_fold64(uint64_t sum)
{
	return (sum + (sum << 32 | sum >> 32)) >> 32;
}

/* Fold a 32-bit sum into 16 bits, not complemented. */
static inline uint16_t checksum_fold(uint32_t sum)
{
	return (sum + (sum << 16 | sum >> 16)) >> 16;
}

/* Add four words to a 64-bit one's-complement sum: the carry is brought round. */
static inline uint64_t checksum_add64(uint64_t sum, uint64_t words)
{
	sum += words;
	return sum + (sum < words);
}

/* Sum up the bytes, on top of `start`: 0, or the sum of what lies before, which must have an even
 * size. An odd last byte counts as followed by a zero. */
static inline uint32_t checksum_sum(const void *data, unsigned size, uint32_t start)
{
	const uint8_t *bytes = data;
	uint64_t sum = start;
	unsigned i = 0;

	for (; i + 4 <= size; i += 4) {
		uint32_t word;

		memcpy(&word, bytes + i, 4);
		sum += word;
	}
	if (size & 2) {
		uint16_t word;

		memcpy(&word, bytes + i, 2);
		sum += word;
		i += 2;
	}
	if (size & 1) {
		uint16_t word = 0;

		memcpy(&word, bytes + i, 1);
		sum += word;
	}
	return checksum_fold64(sum);
}

/* Return the IPv4 header's checksum: to be stored when the field is 0, and 0 when
 * it is right already. */
static inline uint16_t checksum_ip(const void *header, unsigned size)
{
	return (uint16_t)~checksum_fold(checksum_sum(header, size, 0));
}

/*
 * Return the checksum of TCP, UDP or ICMPv6 with its pseudo header (RFC 9293, 8200): to be stored
 * when the field is 0, and 0 when it is right already. `src`, `dst`: 4 or 16 bytes, by `family`.
 * `l4_size` is what the IP header says of the payload, not what the frame has. UDP sends a 0 as
 * 0xffff; that is up to the caller.
 */
static inline uint16_t checksum_l4(sa_family_t family, const void *src, const void *dst,
	uint8_t proto, const void *l4, unsigned l4_size)
{
	unsigned size = family == AF_INET6 ? 16 : 4;
	// Zeros, protocol and length: laid out differently by the families, but of the same sum.
	uint32_t pseudo[2] = {htonl(l4_size), htonl(proto)};
	uint32_t sum = checksum_sum(pseudo, sizeof(pseudo), 0);

	sum = checksum_sum(src, size, sum);
	sum = checksum_sum(dst, size, sum);
	return (uint16_t)~checksum_fold(checksum_sum(l4, l4_size, sum));
}

/*
 * Return the delta of a change of a field, given as it lies in memory: what it adds to the sum,
 * ~from + to. The field must begin at an even offset of what the checksum covers. Deltas of any
 * width may be added to each other, up to 4,096 of them.
 */
static inline uint32_t checksum_delta16(uint16_t from, uint16_t to)
{
	return (uint32_t)(uint16_t)~from + to;
}

static inline uint32_t checksum_delta32(uint32_t from, uint32_t to)
{
	uint64_t sum = (uint64_t)(uint32_t)~from + to;

	return (uint32_t)((sum & 0xffff) + (sum >> 16)); // less than 2^18
}

static inline uint32_t checksum_delta64(uint64_t from, uint64_t to)
{
	uint32_t sum = checksum_fold64(checksum_add64(~from, to));

	return (sum & 0xffff) + (sum >> 16); // less than 2^17: room for more deltas
}

/* Return the delta of a change of 16 bytes: an IPv6 address. */
static inline uint32_t checksum_delta128(const void *from, const void *to)
{
	uint64_t a[2], b[2];

	memcpy(a, from, sizeof(a));
	memcpy(b, to, sizeof(b));
	return checksum_delta64(a[0], b[0]) + checksum_delta64(a[1], b[1]);
}

/*
 * Return the checksum after a change: HC' = ~(~HC + ~m + m') (RFC 1624, equation 3). Where a full
 * computation gives 0x0000 this does too, and not 0xffff as RFC 1141 did: it comes to 0xffff only
 * if HC was 0xffff, which no sender computes, and every changed word went from 0xffff to 0.
 */
static inline uint16_t checksum_apply(uint16_t checksum, uint32_t delta)
{
	return (uint16_t)~checksum_fold((uint32_t)(uint16_t)~checksum + delta);
}

#endif
