/* SPDX-License-Identifier: BSD-3-Clause */
/* The packet buffers: how many, how large, and their pool. */
#ifndef WEIR_DEV_POOL_H
#define WEIR_DEV_POOL_H

#include <stddef.h>

#include "dev_device.h"

#define DEV_DESCRIPTORS 1024 // of an rx or tx queue, as far as the device has them

struct rte_mempool;

struct dev_pool_plan {
	unsigned count;
	unsigned data_room; // with the headroom
	size_t bytes;       // of memory, all in
};

/* Plan the pool for the device's queues and frames. Pure. */
void dev_pool_plan(struct dev_pool_plan *plan, const struct dev_device *device, unsigned nb_workers,
	unsigned rx_descriptors, unsigned tx_descriptors, unsigned mtu);

/* Create the pool on the NUMA node, or on any when that has no room. NULL
 * and rte_errno on failure. */
struct rte_mempool *dev_pool_create(
	const struct dev_pool_plan *plan, const struct dev_device *device, int numa_node);

#endif
