/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The keyed hash, for all that a stranger may choose the input of: without the key nobody can make
 * inputs that collide (cases C8, F1). SipHash-2-4 (Aumasson, Bernstein, 2012) is a pseudo-random
 * function, so initial sequence numbers and the like may come from it too. All safe in any thread.
 */
#ifndef WEIR_HASH_H
#define WEIR_HASH_H

#include <stddef.h>
#include <stdint.h>

/* A secret: never logged, never in an answer (case F6). */
struct hash_key {
	uint64_t k[4];
};

/* Take a fresh key from the kernel; waits for its entropy at boot. 0 or -errno. */
int hash_key_random(struct hash_key *key);

/* Return SipHash-2-4 of the bytes under k[0] and k[1], the same on machines of either byte order.
 * Hash structures field by field or packed: padding counts. */
uint64_t hash_siphash(const struct hash_key *key, const void *data, size_t size);

#endif
