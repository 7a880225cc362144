/* SPDX-License-Identifier: BSD-3-Clause */
#include "snat.h"

#include <errno.h>
#include <rte_branch_prediction.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "flow_lock.h"

// Rings are carved out of mappings of so many, which the kernel fills in only where they are used.
#define RINGS_PER_SLAB 64
#define FEISTEL_ROUNDS 4

struct slab {
	struct slab *next;
	uint16_t *rings;
	size_t size; // bytes
};

struct snat {
	struct snat_range ranges[SNAT_RANGES_MAX];
	unsigned nb_ranges;
	uint32_t size;      // ports in all ranges
	unsigned half_bits; // of the permutation's domain, a power of four >= size
	uint64_t key[2];
	const struct snat_rss *rss;
	unsigned nb_classes;
	struct slab *slabs;
	uint16_t **free_rings;
	size_t nb_free_rings;
	size_t max_free_rings;
};

/* The ports of one class: those never used from `cursor` on, and a ring of those given back. */
struct snat_class {
	uint32_t lock;
	uint32_t cursor; // next place in the permutation, of all classes' ports
	uint32_t head;   // next to lend
	uint32_t tail;   // next free place
	uint32_t lent;   // by this class's own count: got here - put here, modulo 2^32
	uint16_t *ring;  // size + 1 places
} __attribute__((aligned(64)));

struct snat_pool {
	struct snat *snat;
	uint64_t key;   // of this pool's permutation
	uint8_t *taken; // by port, a bit each: passed over in the permutation; NULL = none
	uint16_t rss_constant;
	struct snat_class classes[];
};

struct snat *snat_create(const struct snat_range *ranges, unsigned nb_ranges, const uint64_t key[2],
	const struct snat_rss *rss)
{
	struct snat *snat = calloc(1, sizeof(*snat));

	if (snat == NULL)
		return NULL;
	for (unsigned i = 0; i < nb_ranges; i++) {
		snat->ranges[i] = ranges[i];
		snat->size += ranges[i].last - ranges[i].first + 1;
	}
	snat->nb_ranges = nb_ranges;
	while ((1u << 2 * snat->half_bits) < snat->size)
		snat->half_bits++;
	memcpy(snat->key, key, sizeof(snat->key));
	snat->rss = rss;
	snat->nb_classes = rss != NULL ? rss->nb_queues : 1;
	return snat;
}

void snat_destroy(struct snat *snat)
{
	if (snat == NULL)
		return;
	while (snat->slabs != NULL) {
		struct slab *slab = snat->slabs;
		snat->slabs = slab->next;
		munmap(slab->rings, slab->size);
		free(slab);
	}
	free(snat->free_rings);
	free(snat);
}

uint32_t snat_size(const struct snat *snat)
{
	return snat->size;
}

unsigned snat_classes(const struct snat *snat)
{
	return snat->nb_classes;
}

bool snat_contains(const struct snat *snat, uint16_t port)
{
	for (unsigned i = 0; i < snat->nb_ranges; i++)
		if (port >= snat->ranges[i].first && port <= snat->ranges[i].last)
			return true;
	return false;
}

/* --- rings --- */

static size_t ring_entries(const struct snat *snat)
{
	return snat->size + 1;
}

static int slab_add(struct snat *snat)
{
	struct slab *slab = malloc(sizeof(*slab));
	uint16_t **rings =
		realloc(snat->free_rings, (snat->max_free_rings + RINGS_PER_SLAB) * sizeof(*rings));

	if (rings != NULL)
		snat->free_rings = rings;
	if (slab == NULL || rings == NULL)
		goto fail;
	slab->size = RINGS_PER_SLAB * ring_entries(snat) * sizeof(uint16_t);
	slab->rings = mmap(NULL, slab->size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (slab->rings == MAP_FAILED)
		goto fail;
	snat->max_free_rings += RINGS_PER_SLAB;
	for (unsigned i = 0; i < RINGS_PER_SLAB; i++)
		snat->free_rings[snat->nb_free_rings++] = slab->rings + i * ring_entries(snat);
	slab->next = snat->slabs;
	snat->slabs = slab;
	return 0;
fail:
	free(slab);
	return -ENOMEM;
}

static uint16_t *ring_get(struct snat *snat)
{
	if (snat->nb_free_rings == 0 && slab_add(snat) < 0)
		return NULL;
	return snat->free_rings[--snat->nb_free_rings];
}

/* --- the permutation --- */

static uint64_t mix(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93;
	return x ^ x >> 32;
}

/* A balanced Feistel network over the domain; walked on until the image lies in the range. */
static uint32_t permute(const struct snat *snat, uint64_t key, uint32_t place)
{
	uint32_t mask = (1u << snat->half_bits) - 1;

	do {
		uint32_t left = place >> snat->half_bits, right = place & mask;
		for (unsigned round = 0; round < FEISTEL_ROUNDS; round++) {
			uint32_t next = left ^ (mix(key ^ (uint64_t)round << 32 ^ right) & mask);
			left = right;
			right = next;
		}
		place = left << snat->half_bits | right;
	} while (place >= snat->size);
	return place;
}

static uint16_t port_at(const struct snat *snat, uint32_t place)
{
	for (unsigned i = 0;; i++) {
		uint32_t count = snat->ranges[i].last - snat->ranges[i].first + 1;
		if (place < count)
			return snat->ranges[i].first + place;
		place -= count;
	}
}

/* --- pools --- */

struct snat_pool *snat_pool_create(struct snat *snat, uint16_t rss_constant)
{
	struct snat_pool *pool;
	size_t size = sizeof(*pool) + snat->nb_classes * sizeof(pool->classes[0]);

	if (posix_memalign((void **)&pool, 64, size) != 0) {
		errno = ENOMEM;
		return NULL;
	}
	memset(pool, 0, size);
	pool->snat = snat;
	pool->rss_constant = rss_constant;
	// Each pool walks in an order of its own.
	snat->key[1]++;
	pool->key = mix(snat->key[0] ^ mix(snat->key[1]));
	for (unsigned c = 0; c < snat->nb_classes; c++) {
		pool->classes[c].ring = ring_get(snat);
		if (pool->classes[c].ring == NULL) {
			snat_pool_destroy(pool);
			errno = ENOMEM;
			return NULL;
		}
	}
	return pool;
}

void snat_pool_destroy(struct snat_pool *pool)
{
	if (pool == NULL)
		return;
	struct snat *snat = pool->snat;
	for (unsigned c = 0; c < snat->nb_classes; c++)
		if (pool->classes[c].ring != NULL)
			snat->free_rings[snat->nb_free_rings++] = pool->classes[c].ring;
	free(pool->taken);
	free(pool);
}

static unsigned class_of(const struct snat_pool *pool, uint16_t port)
{
	const struct snat_rss *rss = pool->snat->rss;

	if (rss == NULL)
		return 0;
	return rss->queue[(rss->port_share[port] ^ pool->rss_constant) & rss->mask];
}

static uint32_t next_place(const struct snat *snat, uint32_t place)
{
	return place == snat->size ? 0 : place + 1;
}

static bool is_taken(const struct snat_pool *pool, uint16_t port)
{
	return pool->taken != NULL && (pool->taken[port / 8] & 1 << port % 8) != 0;
}

/* Whether there is none, as far as can be seen without the lock: then nobody need take it. */
static bool class_is_empty(const struct snat *snat, const struct snat_class *class)
{
	return __atomic_load_n(&class->cursor, __ATOMIC_RELAXED) == snat->size &&
		__atomic_load_n(&class->head, __ATOMIC_RELAXED) ==
		__atomic_load_n(&class->tail, __ATOMIC_RELAXED);
}

/* Written under the lock, read without. */
static void class_set(uint32_t *field, uint32_t value)
{
	__atomic_store_n(field, value, __ATOMIC_RELAXED);
}

static uint16_t class_get(struct snat_pool *pool, unsigned c)
{
	struct snat *snat = pool->snat;
	struct snat_class *class = &pool->classes[c];
	uint16_t port = SNAT_NO_PORT;

	if (unlikely(class_is_empty(snat, class)))
		return SNAT_NO_PORT;
	flow_lock_take(&class->lock);
	while (class->cursor < snat->size && port == SNAT_NO_PORT) {
		port = port_at(snat, permute(snat, pool->key, class->cursor));
		class_set(&class->cursor, class->cursor + 1);
		if (class_of(pool, port) != c || is_taken(pool, port))
			port = SNAT_NO_PORT;
	}
	if (port == SNAT_NO_PORT && class->head != class->tail) {
		port = class->ring[class->head];
		class_set(&class->head, next_place(snat, class->head));
	}
	if (port != SNAT_NO_PORT)
		class_set(&class->lent, class->lent + 1);
	flow_lock_release(&class->lock);
	return port;
}

uint16_t snat_pool_get(struct snat_pool *pool, unsigned class)
{
	unsigned nb_classes = pool->snat->nb_classes;
	unsigned own = class < nb_classes ? class : 0;
	uint16_t port = class_get(pool, own);

	for (unsigned c = 0; c < nb_classes && port == SNAT_NO_PORT; c++)
		if (c != own)
			port = class_get(pool, c);
	return port;
}

void snat_pool_put(struct snat_pool *pool, uint16_t port)
{
	struct snat_class *class = &pool->classes[class_of(pool, port)];

	if (unlikely(!snat_contains(pool->snat, port)))
		return;
	flow_lock_take(&class->lock);
	class->ring[class->tail] = port;
	class_set(&class->tail, next_place(pool->snat, class->tail));
	class_set(&class->lent, class->lent - 1);
	flow_lock_release(&class->lock);
}

bool snat_pool_take(struct snat_pool *pool, uint16_t port)
{
	if (!snat_contains(pool->snat, port) || is_taken(pool, port))
		return false;
	if (pool->taken == NULL)
		pool->taken = calloc(1, (UINT16_MAX + 1) / 8);
	if (pool->taken == NULL)
		return false;
	pool->taken[port / 8] |= 1 << port % 8;
	pool->classes[class_of(pool, port)].lent++;
	return true;
}

uint32_t snat_pool_used(const struct snat_pool *pool)
{
	uint32_t used = 0;

	for (unsigned c = 0; c < pool->snat->nb_classes; c++)
		used += __atomic_load_n(&pool->classes[c].lent, __ATOMIC_RELAXED);
	return used;
}

uint32_t snat_pool_size(const struct snat_pool *pool)
{
	return pool->snat->size;
}
