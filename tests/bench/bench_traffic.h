/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Packets for the pipeline: the frames of numbered connections, written into the mbufs of a worker
 * a batch ahead of the measurement. What is written touches packets only, never a flow's lines.
 */
#ifndef WEIR_BENCH_TRAFFIC_H
#define WEIR_BENCH_TRAFFIC_H

#include <stdint.h>

#include "bench_world.h"

/* The packets of a connection. */
enum traffic_step {
	TRAFFIC_SYN,
	TRAFFIC_SYNACK,
	TRAFFIC_ACK,
	TRAFFIC_REQUEST,
	TRAFFIC_RESPONSE,
	TRAFFIC_REQUEST2,
	TRAFFIC_RESPONSE2,
	TRAFFIC_FIN,
	TRAFFIC_FINACK,
	TRAFFIC_LAST_ACK,
	TRAFFIC_STEPS,
	TRAFFIC_BACKEND_ACK = TRAFFIC_STEPS, // an ACK without data, the other way
};

/* Write the frame of one step of connection `number` into the mbuf. */
void traffic_write(
	const struct world *world, struct rte_mbuf *mbuf, uint32_t number, enum traffic_step step);

/* Learn from the translated SYN what answers must carry. */
void traffic_learn(struct world *world, const struct rte_mbuf *mbuf, uint32_t number);

/* Establish `count` connections from `first` on, by their three packets, on that worker. */
void traffic_establish(struct world *world, unsigned worker, uint32_t first, uint32_t count);

/* Run the first `count` mbufs of the worker through its pipeline. All must be forwarded. Returns
 * the cycles spent in pipeline_run(). */
uint64_t traffic_run(struct world *world, unsigned worker, uint32_t count);

/*
 * All numbers below a power of two in an order that can't be predicted, each once in a period, and
 * in another order in the next period: a bijection of a counter, keyed by the period.
 */
struct traffic_order {
	unsigned bits;
	uint64_t next;
};

uint32_t traffic_order_next(struct traffic_order *order);

#endif
