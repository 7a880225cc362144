/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <rte_mbuf.h>
#include <rte_ring.h>
#include <stdio.h>
#include <stdlib.h>

#include "packet.h"
#include "worker.h"

#define SPRAY_RING 1024

_Static_assert(STATS_WORKERS_MAX <= FLOW_WORKER_MASK + 1, "a flow names its worker");

struct worker_spray {
	unsigned nb_workers;
	struct rte_ring *rings[STATS_WORKERS_MAX]; // by the worker that is to run the packet
	uint8_t last[];                            // by record: worker of the flow's last packet
};

struct worker_spray *worker_spray_create(unsigned nb_workers, uint32_t flows)
{
	struct worker_spray *spray = calloc(1, sizeof(*spray) + flows);

	if (spray == NULL)
		return NULL;
	spray->nb_workers = nb_workers;
	for (unsigned w = 0; w < nb_workers; w++) {
		char name[RTE_RING_NAMESIZE];
		snprintf(name, sizeof(name), "spray-%u", w);
		spray->rings[w] = rte_ring_create(name, SPRAY_RING, SOCKET_ID_ANY, RING_F_SC_DEQ);
		if (spray->rings[w] == NULL) {
			worker_spray_destroy(spray);
			errno = ENOMEM;
			return NULL;
		}
	}
	return spray;
}

void worker_spray_destroy(struct worker_spray *spray)
{
	if (spray == NULL)
		return;
	for (unsigned w = 0; w < spray->nb_workers; w++)
		rte_ring_free(spray->rings[w]);
	free(spray);
}

/* Another worker than the flow's last; the receiver's neighbour when there is no flow yet. */
static unsigned next_worker(
	struct worker_spray *spray, struct worker *worker, struct rte_mbuf *mbuf)
{
	const struct pipeline *pipeline = &worker->pipeline;
	unsigned other = (pipeline->worker + 1) % spray->nb_workers;
	struct packet packet;

	packet_parse(&packet, &packet, mbuf, packet_own(&pipeline->mac));
	const struct flow_table *flows = pipeline_flows(pipeline, packet.family);
	if (packet.kind != PACKET_TCP || flows == NULL)
		return other;
	uint64_t hash =
		flow_hash(pipeline->hasher, packet.family, packet_addrs(&packet), packet.ports);
	uint32_t entry = flow_table_find(flows, hash, packet_addrs(&packet), packet.ports);
	if (entry == FLOW_NOT_FOUND)
		return other;
	struct flow *flow = flow_entry_flow(flows, entry);
	uint8_t *last = &spray->last[flow_table_number(flows, flow)];
	if (flow_state(flow) == TCP_SYN_SENT)
		*last = flow_worker(flow); // the SYN ran where the flow was made
	*last = (*last + 1) % spray->nb_workers;
	return *last;
}

uint32_t worker_spray(
	struct worker_spray *spray, struct worker *worker, struct rte_mbuf **mbufs, uint32_t count)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < count; i++) {
		unsigned to = next_worker(spray, worker, mbufs[i]);
		if (rte_ring_mp_enqueue(spray->rings[to], mbufs[i]) != 0)
			mbufs[kept++] = mbufs[i]; // no room there: it stays
	}
	return kept +
		rte_ring_sc_dequeue_burst(spray->rings[worker->pipeline.worker],
			(void **)mbufs + kept, PIPELINE_BURST - kept, NULL);
}
