/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Small numbers for things that come and go, and are named by others for longer than they live.
 * With each number goes a generation, which changes when the number is taken again: who kept the
 * pair can't mistake the new one for the old.
 *
 * Thread rule: one thread per pool.
 */
#ifndef WEIR_ID_POOL_H
#define WEIR_ID_POOL_H

#include <stdint.h>

struct id_pool;

#define ID_NONE UINT32_MAX
#define ID_GENERATION_BITS 12

/* Create a pool of the ids 0 to max - 1. NULL and errno on failure. */
struct id_pool *id_pool_create(uint32_t max);
void id_pool_destroy(struct id_pool *pool);

/* Take a free id, given back ones first, so that tables by id stay short; ID_NONE
 * when all are taken. */
uint32_t id_pool_get(struct id_pool *pool);
/* Give an id back; its generation changes. */
void id_pool_put(struct id_pool *pool, uint32_t id);

/* Return how often the id was given back, modulo 2^ID_GENERATION_BITS. */
uint32_t id_pool_generation(const struct id_pool *pool, uint32_t id);
/* Return one more than the highest id that was ever taken. */
uint32_t id_pool_end(const struct id_pool *pool);

#endif
