/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ending the flows of a backend on its behalf, when the service table says so: both ends get a RST
 * that they take. RFC 5961: a RST counts when its number is the next one that the receiver expects.
 * That is where the sender's data ends, as far as it arrived, and else what the receiver
 * acknowledged last; where the two differ, both are sent. What hits neither is answered by a
 * challenge, which meets no flow here, and so an exact RST.
 *
 * Each worker walks its share of the records: at once and fast when there is a new backend to
 * reset, then at the sweep's pace, for what another worker made with an older table.
 */
#include <rte_mbuf.h>

#include "flow_offsets.h"
#include "nat.h"
#include "pipeline.h"
#include "segment.h"
#include "track.h"

#define WALK_PERIOD_MS 2000
#define PACKETS_A_FLOW 4

struct walk {
	struct pipeline *pipeline;
	const struct service_table *table;
	struct flow_table *flows;
};

/* Which of the flow's tuples a packet to one of its ends carries. */
struct end {
	enum flow_direction from; // whose place Weir takes
	enum flow_address source;
	enum flow_address destination;
};

static const struct end to_client = {FLOW_FROM_BACKEND, FLOW_VIP, FLOW_CLIENT};
static const struct end to_backend = {FLOW_FROM_CLIENT, FLOW_SNAT, FLOW_BACKEND};

/* What the end has sent; nothing as long as a backend hasn't answered the SYN. */
static uint32_t sent_by(const struct flow *flow, enum flow_direction direction)
{
	if (direction == FLOW_FROM_BACKEND && flow_state(flow) == TCP_SYN_SENT)
		return 0;
	return track_load(&flow->end[direction]);
}

static struct net_mac client_mac(const struct flow *flow)
{
	uint64_t word = __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);
	struct net_mac mac;

	memcpy(&mac, &word, sizeof(mac));
	return mac;
}

/* `flags`: RST, with ACK or without. False when there is no buffer. */
static bool send_reset(struct pipeline *pipeline, sa_family_t family, struct flow *flow,
	const struct end *end, const struct net_mac *to, uint32_t seq, uint8_t flags)
{
	struct rte_mbuf *mbuf = pipeline->new_mbuf(pipeline->new_mbuf_context);
	struct segment_fields fields = {
		.source = flow_addr(flow, family, end->source),
		.destination = flow_addr(flow, family, end->destination),
		.seq = rte_cpu_to_be_32(flow_seq_at_other(flow, end->from, seq)),
		.flags = flags,
	};

	if (mbuf == NULL)
		return false;
	if (flags & RTE_TCP_ACK_FLAG) // the receiver's stream, as it counts itself
		fields.ack = rte_cpu_to_be_32(sent_by(flow, 1 - end->from));
	const uint16_t ports[2] = {flow->port[end->source], flow->port[end->destination]};
	memcpy(&fields.ports, ports, sizeof(fields.ports));
	struct rte_ether_hdr *ether = (struct rte_ether_hdr *)rte_pktmbuf_append(
		mbuf, sizeof(*ether) + segment_size(family));
	memcpy(&ether->dst_addr, to, sizeof(*to));
	memcpy(&ether->src_addr, &pipeline->mac, sizeof(pipeline->mac));
	ether->ether_type =
		family == AF_INET6 ? RTE_BE16(RTE_ETHER_TYPE_IPV6) : RTE_BE16(RTE_ETHER_TYPE_IPV4);
	segment_write((uint8_t *)(ether + 1), family, &fields);
	pipeline_out_add(&pipeline->reply, mbuf);
	return true;
}

/*
 * A client that waits for an answer takes a RST only with an ACK of its SYN (RFC 9293, 3.10.7.3). A
 * backend that isn't known to have answered may have, by a number that isn't known: it takes one
 * without an ACK only.
 */
static uint8_t reset_flags(const struct end *end, enum tcp_state state)
{
	return end == &to_backend && state == TCP_SYN_SENT ? RTE_TCP_RST_FLAG
							   : RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG;
}

static bool reset_end(struct pipeline *pipeline, sa_family_t family, struct flow *flow,
	const struct end *end, const struct net_mac *to)
{
	uint32_t sent = sent_by(flow, end->from), expected = track_load(&flow->ack[1 - end->from]);
	uint8_t flags = reset_flags(end, flow_state(flow));

	if (!send_reset(pipeline, family, flow, end, to, sent, flags))
		return false;
	return expected == sent || tcp_state_half_open(flow_state(flow)) ||
		!flow_keeps_ack(flow, 1 - end->from) ||
		send_reset(pipeline, family, flow, end, to, expected, flags);
}

bool pipeline_reset_client(struct pipeline *pipeline, struct flow_table *flows, struct flow *flow)
{
	const struct net_mac client = client_mac(flow);

	return pipeline->reply.count < RTE_DIM(pipeline->reply.mbufs) &&
		send_reset(pipeline, flows->family, flow, &to_client, &client,
			sent_by(flow, FLOW_FROM_BACKEND), RTE_TCP_RST_FLAG | RTE_TCP_ACK_FLAG);
}

bool pipeline_reset_backend(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, enum tcp_state state)
{
	uint32_t id = FLOW_BACKEND_ID(flow->backend);
	const struct service_backend *backend = &table->backends[id];

	// The rest of the burst's packets may still be answered, each by one.
	if (id >= table->nb_backends || backend->tag != flow->backend ||
		pipeline->new_mbuf == NULL || pipeline->reply.count >= PIPELINE_BURST)
		return false;
	return send_reset(pipeline, flows->family, flow, &to_backend, &backend->next_hop,
		track_load(&flow->end[FLOW_FROM_CLIENT]), reset_flags(&to_backend, state));
}

bool pipeline_reset_ends(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow)
{
	const struct service_backend *backend = &table->backends[FLOW_BACKEND_ID(flow->backend)];
	const struct net_mac client = client_mac(flow);

	if (pipeline->reply.count + PACKETS_A_FLOW > RTE_DIM(pipeline->reply.mbufs))
		return false;
	// If a buffer is lacking now, what either end sends next is answered.
	if (reset_end(pipeline, flows->family, flow, &to_client, &client) && backend->resolved)
		reset_end(pipeline, flows->family, flow, &to_backend, &backend->next_hop);
	return true;
}

/* False: no room for more now. */
static bool reset_flow(void *context, struct flow *flow)
{
	struct walk *walk = context;
	struct pipeline *pipeline = walk->pipeline;
	uint32_t id = FLOW_BACKEND_ID(flow->backend);
	const struct service_backend *backend = &walk->table->backends[id];

	if (likely(id >= walk->table->nb_backends || !backend->reset) ||
		backend->generation != FLOW_BACKEND_GENERATION(flow->backend) ||
		tcp_state_closed(flow_state(flow)))
		return true;
	if (!flow_table_may_remove(walk->flows, pipeline->worker) ||
		!pipeline_reset_ends(pipeline, walk->table, walk->flows, flow))
		return false;
	if (pipeline_end_flows(pipeline, walk->table, walk->flows, &flow, 1) == 1)
		pipeline->stats->live.flows[stats_family(walk->flows->family)].reset++;
	return true;
}

bool pipeline_reset_flows(struct pipeline *pipeline, uint64_t now_ms, uint32_t budget)
{
	const struct service_table *table = __atomic_load_n(pipeline->services, __ATOMIC_ACQUIRE);
	struct flow_table *tables[] = {pipeline->flows4, pipeline->flows6};
	uint64_t elapsed_ms = RTE_MIN(now_ms - pipeline->resets_ms, (uint64_t)WALK_PERIOD_MS);
	bool more = false;

	pipeline->resets_ms = now_ms;
	if (likely(table == NULL || !table->has_resets) || pipeline->new_mbuf == NULL)
		return false;
	for (unsigned i = 0; i < RTE_DIM(tables); i++) {
		struct walk walk = {pipeline, table, tables[i]};
		if (tables[i] == NULL)
			continue;
		uint64_t share = flow_table_share(tables[i], pipeline->worker);
		pipeline_walk_begin(pipeline, &pipeline->resets, i, table->reset_round);
		more |= pipeline_walk_on(pipeline, &pipeline->resets, i, budget,
			share * elapsed_ms / WALK_PERIOD_MS, reset_flow, &walk);
	}
	return more;
}
