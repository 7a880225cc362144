/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * By the client's address: all connections of one client go to one backend. It is Maglev's table,
 * looked up by a hash of the address alone, so a backend that goes moves its own clients and a
 * trace of the others, and a backend that comes takes no more than its share.
 *
 * The hash has no secret in it: a client must find its backend again after a restart, and behind
 * another balancer. Nothing is given away by that. Whoever wants to load one backend under this
 * scheduler need only connect from one address many times.
 */
#include "scheduler.h"

#include <endian.h>
#include <string.h>

uint64_t scheduler_source_hash(const void *addr, size_t size)
{
	uint64_t hash = 0;

	for (size_t at = 0; at < size; at += sizeof(uint32_t)) {
		uint32_t word;

		memcpy(&word, (const uint8_t *)addr + at, sizeof(word));
		// SplitMix64's finalizer, a round a word: every bit of the address moves every
		// slot.
		hash = (hash ^ be32toh(word)) + 0x9e3779b97f4a7c15;
		hash = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9;
		hash = (hash ^ (hash >> 27)) * 0x94d049bb133111eb;
		hash ^= hash >> 31;
	}
	return hash;
}

static void *source_build(const struct scheduler_backend *backends, uint32_t count)
{
	return scheduler_maglev.build(backends, count);
}

static uint32_t source_pick(const void *state, uint64_t hash, struct scheduler_cursor *cursor)
{
	return scheduler_maglev.pick(state, hash, cursor);
}

static void source_destroy(void *state)
{
	scheduler_maglev.destroy(state);
}

const struct scheduler_ops scheduler_source = {
	.name = "source",
	.by_source = true,
	.build = source_build,
	.pick = source_pick,
	.destroy = source_destroy,
};
