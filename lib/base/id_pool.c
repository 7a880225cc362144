/* SPDX-License-Identifier: BSD-3-Clause */
#include "id_pool.h"

#include <stdlib.h>

struct id_pool {
	uint32_t max;
	uint32_t end;     // ids from here on were never taken
	uint32_t nb_free; // given back ones
	uint32_t *free;   // a stack
	uint16_t *generations;
};

struct id_pool *id_pool_create(uint32_t max)
{
	struct id_pool *pool = calloc(1, sizeof(*pool));

	if (pool == NULL)
		return NULL;
	pool->max = max;
	pool->free = calloc(max, sizeof(*pool->free));
	pool->generations = calloc(max, sizeof(*pool->generations));
	if (pool->free != NULL && pool->generations != NULL)
		return pool;
	id_pool_destroy(pool);
	return NULL;
}

void id_pool_destroy(struct id_pool *pool)
{
	if (pool == NULL)
		return;
	free(pool->free);
	free(pool->generations);
	free(pool);
}

uint32_t id_pool_get(struct id_pool *pool)
{
	if (pool->nb_free != 0)
		return pool->free[--pool->nb_free];
	return pool->end < pool->max ? pool->end++ : ID_NONE;
}

void id_pool_put(struct id_pool *pool, uint32_t id)
{
	pool->generations[id] = (pool->generations[id] + 1) & ((1 << ID_GENERATION_BITS) - 1);
	pool->free[pool->nb_free++] = id;
}

uint32_t id_pool_generation(const struct id_pool *pool, uint32_t id)
{
	return pool->generations[id];
}

uint32_t id_pool_end(const struct id_pool *pool)
{
	return pool->end;
}
