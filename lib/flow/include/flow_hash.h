/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The keyed hash of tuples. Four AES rounds a 16-byte block where the CPU has them, SipHash-2-4
 * elsewhere, chosen when the key is set: one binary runs everywhere. The key is secret, so nobody
 * can choose tuples that share a bucket (case C8); CRC32 would not do: its collisions don't depend
 * on the seed.
 *
 * A hasher is read-only once made; any thread.
 */
#ifndef WEIR_FLOW_HASH_H
#define WEIR_FLOW_HASH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "hash.h"

struct packet;

struct flow_hasher {
	struct hash_key key __attribute__((aligned(16)));
	void (*burst4)(const struct flow_hasher *hasher, struct packet *packets, uint32_t count);
	void (*burst6)(const struct flow_hasher *hasher, struct packet *packets, uint32_t count);
	uint64_t (*one)(const struct flow_hasher *hasher, sa_family_t family, const void *addrs,
		uint32_t ports);
};

/* Choose the function and expand the key, which is secret. `portable` takes SipHash
 * whatever the CPU has. */
void flow_hasher_init(struct flow_hasher *hasher, const struct hash_key *key, bool portable);

/* Hash each packet, all of kind PACKET_TCP and of that family, into its field `hash`. */
static inline void flow_hash_burst(const struct flow_hasher *hasher, sa_family_t family,
	struct packet *packets, uint32_t count)
{
	(family == AF_INET6 ? hasher->burst6 : hasher->burst4)(hasher, packets, count);
}

/* Hash one tuple: source and destination address (8 or 32 bytes), source and destination port as
 * they stand in the header. */
static inline uint64_t flow_hash(
	const struct flow_hasher *hasher, sa_family_t family, const void *addrs, uint32_t ports)
{
	return hasher->one(hasher, family, addrs, ports);
}

#endif
