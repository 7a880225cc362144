/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_pool.h"

#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_mempool.h>

#include "log.h"

#define CACHE 256           // buffers an lcore keeps; it may hold half as many again
#define WORKER_BURSTS 1024  // in a worker's hands and on its ring from weir0
#define PUNT_QUEUES 4096    // on their way to the kernel, and the control core's cache
#define AF_XDP_RX 4096      // the kernel's fill ring, whatever the rx queue has
#define AF_XDP_TX 2048      // the completion ring's share
#define AF_XDP_HEADROOM 256 // the kernel's own, within a buffer (XDP_PACKET_HEADROOM)

void dev_pool_plan(struct dev_pool_plan *plan, const struct dev_device *device, unsigned nb_workers,
	unsigned rx_descriptors, unsigned tx_descriptors, unsigned mtu)
{
	unsigned rx = rx_descriptors, tx = tx_descriptors;
	unsigned frame = mtu + RTE_ETHER_HDR_LEN + 2 * RTE_VLAN_HLEN + RTE_ETHER_CRC_LEN;
	if (device->af_xdp) {
		rx += AF_XDP_RX;
		tx += AF_XDP_TX;
		frame += AF_XDP_HEADROOM;
	}
	frame = RTE_MAX(frame, dev_device_ring_frame(device, mtu));
	unsigned count = nb_workers * (rx + tx + CACHE + CACHE / 2 + WORKER_BURSTS) + PUNT_QUEUES;
	// A frame lies in one segment: headers are never split. A ring takes 2^n - 1 buffers best.
	plan->data_room =
		RTE_PKTMBUF_HEADROOM + RTE_ALIGN(RTE_MAX(frame, 2048u), RTE_CACHE_LINE_SIZE);
	plan->count = rte_align32pow2(count + 1) - 1;
	plan->bytes = (size_t)plan->count *
		(sizeof(struct rte_mbuf) + plan->data_room + 2 * RTE_CACHE_LINE_SIZE +
			sizeof(void *));
}

/* rte_pktmbuf_pool_create() with flags. */
static struct rte_mempool *create(const struct dev_pool_plan *plan, unsigned flags, int socket)
{
	struct rte_pktmbuf_pool_private private = {.mbuf_data_room_size = plan->data_room};
	struct rte_mempool *pool = rte_mempool_create_empty("weir", plan->count,
		sizeof(struct rte_mbuf) + plan->data_room, CACHE, sizeof(private), socket, flags);
	if (pool == NULL)
		return NULL;

	int result = rte_mempool_set_ops_byname(pool, rte_mbuf_best_mempool_ops(), NULL);
	if (result == 0) {
		rte_pktmbuf_pool_init(pool, &private);
		result = rte_mempool_populate_default(pool);
	}
	if (result < 0) {
		rte_mempool_free(pool);
		rte_errno = -result;
		return NULL;
	}
	rte_mempool_obj_iter(pool, rte_pktmbuf_init, NULL);
	return pool;
}

struct rte_mempool *dev_pool_create(
	const struct dev_pool_plan *plan, const struct dev_device *device, int numa_node)
{
	/*
	 * net_af_xdp hands the kernel count x size bytes from the first buffer on. Buffers that
	 * keep off page borders would leave gaps, and the last ones would lie outside.
	 */
	unsigned flags = device->af_xdp ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0;
	int socket = numa_node >= 0 ? numa_node : SOCKET_ID_ANY;
	struct rte_mempool *pool = create(plan, flags, socket);
	if (pool == NULL && socket != SOCKET_ID_ANY) {
		log_warning("NUMA node %d of the port has no room for %u packet buffers (%zu MB); "
			    "taking another",
			numa_node, plan->count, plan->bytes >> 20);
		pool = create(plan, flags, SOCKET_ID_ANY);
	}
	return pool;
}
