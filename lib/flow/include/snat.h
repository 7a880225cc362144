/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SNAT ports. A pool lends the ports of one SNAT address towards one backend address and port, so
 * each backend gets the full range.
 *
 * First come ports that were never used, in the order of a keyed permutation (RFC 6056: nobody can
 * guess them; nothing is listed in advance); then those given back, longest free first, so that the
 * backend's TIME_WAIT has the best chance to be over. Both are O(1).
 *
 * Classes: a port belongs to the worker to which the device's RSS sends the backend's answer. RSS
 * hashes are linear, so the class is a fixed share of the port, moved by a constant of the pool
 * (Toeplitz: H(a ^ b) = H(a) ^ H(b)). Where RSS isn't known there is one class. A worker takes from
 * its own class first, then from any, so exhaustion is exact.
 *
 * Thread rule: get and put from any worker; a class has a lock of its own, taken for a few dozen
 * cycles. The rest on the control core.
 */
#ifndef WEIR_SNAT_H
#define WEIR_SNAT_H

#include <stdbool.h>
#include <stdint.h>

struct snat;
struct snat_pool;

#define SNAT_RANGES_MAX 4
#define SNAT_NO_PORT 0

struct snat_range {
	uint16_t first; // host byte order, both ends included
	uint16_t last;
};

/* What is known of the device's RSS. */
struct snat_rss {
	const uint16_t *port_share; // of the hash, by port (host byte order); 65,536 of them
	const uint8_t *queue;       // the redirection table: queue by the hash's low bits
	uint16_t mask;              // size of the redirection table - 1
	unsigned nb_queues;
};

/* Create the ports of a family. `rss` NULL = unknown; else it is copied by reference and outlives
 * the snat. NULL and errno on failure. */
struct snat *snat_create(const struct snat_range *ranges, unsigned nb_ranges, const uint64_t key[2],
	const struct snat_rss *rss);
/* Free the ports; all pools must be gone. */
void snat_destroy(struct snat *snat);

/* Return how many ports a pool has. */
uint32_t snat_size(const struct snat *snat);
/* Tell whether the port (host byte order) lies in the ranges. */
bool snat_contains(const struct snat *snat, uint16_t port);
/* Return how many classes a pool has: 1 when RSS isn't known. */
unsigned snat_classes(const struct snat *snat);

/* Create a pool. `rss_constant`: the share of the pool's addresses and the backend's port. NULL
 * and errno on failure. */
struct snat_pool *snat_pool_create(struct snat *snat, uint16_t rss_constant);
void snat_pool_destroy(struct snat_pool *pool);

/* Lend a free port (host byte order), of the class if it has one left; SNAT_NO_PORT
 * when none is left. */
uint16_t snat_pool_get(struct snat_pool *pool, unsigned class);
/* Give a port back. One outside the ranges, of a flow from before they changed,
 * is nobody's: nothing happens. */
void snat_pool_put(struct snat_pool *pool, uint16_t port);
/*
 * Lend this very port, to a flow that has it already. Before any other is lent. False, and nothing
 * happened: it lies outside the ranges, is lent already, or there is no memory to remember it.
 */
bool snat_pool_take(struct snat_pool *pool, uint16_t port);
/* Return how many ports are lent now. */
uint32_t snat_pool_used(const struct snat_pool *pool);
/* Return how many ports the pool has. */
uint32_t snat_pool_size(const struct snat_pool *pool);

#endif
