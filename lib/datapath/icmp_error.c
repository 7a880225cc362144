/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP errors about packets that Weir has sent on. They are for whoever sent the packet at first:
 * without them a path with a smaller MTU is a black hole. To the flow they mean nothing: anybody
 * can forge one, so it neither ends nor moves a flow nor keeps it alive (RFC 5382 REQ-10, RFC 5508
 * REQ-6), and the ends judge it by the sequence number that it quotes (RFC 5927).
 *
 * But for a connection that the backend hasn't answered yet: there the client would give up at
 * once, though another backend would take it. A firewall that rejects, or a router that doesn't
 * find the host, refuses the connection as a RST does, and must prove itself likewise: only who saw
 * the SYN knows its number and the SNAT port.
 */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <rte_mbuf.h>

#include "flow_offsets.h"

#include "icmp.h"
#include "nat.h"
#include "nat_icmp.h"
#include "packet.h"
#include "pipeline.h"
#include "track.h"

/* A TCP tuple as a packet would come with it. */
struct tuple {
	uint8_t addrs[32];
	uint32_t ports;
};

/* The answer to the quoted packet has this one; by it a flow is found, and its direction is that of
 * the error. */
static void reverse_of_quote(const struct packet *packet, struct tuple *tuple)
{
	unsigned size = net_addr_size(packet->family);
	const uint8_t *addrs = icmp_quote_addrs(packet);

	memcpy(tuple->addrs, addrs + size, size);
	memcpy(tuple->addrs + size, addrs, size);
	tuple->ports = nat_reverse32(packet->ports);
}

static uint32_t find(const struct pipeline *pipeline, sa_family_t family, const struct tuple *tuple)
{
	const struct flow_table *flows = pipeline_flows(pipeline, family);

	if (flows == NULL)
		return FLOW_NOT_FOUND;
	return flow_table_find(flows,
		flow_hash(pipeline->hasher, family, tuple->addrs, tuple->ports), tuple->addrs,
		tuple->ports);
}

/* Quotes a packet that only a flow could have sent: of a service, or from a lent port to a backend.
 * All else is about the kernel's own connections, probes for one. */
static bool is_balanced(
	const struct service_table *table, sa_family_t family, const struct tuple *tuple)
{
	uint16_t port[2];

	memcpy(port, &tuple->ports, sizeof(port));
	return service_find(table, SERVICE_KEY_VIP, family, tuple->addrs + net_addr_size(family),
		       port[1]) != SERVICE_NONE ||
		pipeline_is_lent(table, family, tuple->addrs, tuple->ports);
}

/* Any unreachable but "too big", which the client has to hear. */
static bool is_unreachable(const struct packet *packet)
{
	const uint8_t *icmp = packet->icmp; // type, code

	if (packet->family == AF_INET6)
		return icmp[0] == ICMP6_DST_UNREACH;
	return icmp[0] == ICMP_UNREACH && icmp[1] != ICMP_UNREACH_NEEDFRAG;
}

static bool refuses_connection(
	const struct packet *packet, const struct flow *flow, enum flow_direction direction)
{
	return direction == FLOW_FROM_BACKEND && flow_state(flow) == TCP_SYN_SENT &&
		is_unreachable(packet) &&
		flow_seq_at_sender(
			flow, FLOW_FROM_CLIENT, rte_be_to_cpu_32(packet->tcp->sent_seq)) ==
		track_load(&flow->ack[FLOW_FROM_BACKEND]); // as its SYN was noted
}

static void forward(struct pipeline *pipeline, const struct service_table *table,
	const struct packet *packet, struct flow *flow, enum flow_direction direction)
{
	uint32_t id = FLOW_BACKEND_ID(flow->backend);
	struct rte_ether_hdr *ether = rte_pktmbuf_mtod(packet->mbuf, struct rte_ether_hdr *);
	uint64_t client = __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);

	if (nat_ttl(packet, packet->family) <= 1) { // no error answers an error (RFC 1122, 3.2.2)
		pipeline_drop(pipeline, packet->mbuf, STATS_DROP_TTL);
		return;
	}
	if (id >= table->nb_backends ||
		(direction == FLOW_FROM_CLIENT && table->backends[id].tag != flow->backend)) {
		pipeline_drop(pipeline, packet->mbuf, STATS_DROP_NO_NEIGHBOUR);
		return;
	}
	nat_icmp_error(packet, flow, direction);
	memcpy(&ether->dst_addr,
		direction == FLOW_FROM_CLIENT ? (const void *)&table->backends[id].next_hop
					      : (const void *)&client,
		sizeof(ether->dst_addr));
	memcpy(&ether->src_addr, &pipeline->mac, sizeof(ether->src_addr));
	pipeline->backends[id].packets[direction]++;
	pipeline->backends[id].bytes[direction] += packet->ip_size;
	pipeline_out_add(&pipeline->forward, packet->mbuf);
}

void pipeline_icmp_error(
	struct pipeline *pipeline, const struct service_table *table, const struct packet *packet)
{
	struct flow_table *flows = pipeline_flows(pipeline, packet->family);
	struct tuple tuple;

	reverse_of_quote(packet, &tuple);
	uint32_t entry = find(pipeline, packet->family, &tuple);
	struct flow *flow = entry == FLOW_NOT_FOUND ? NULL : flow_entry_flow(flows, entry);
	// The client of a detached flow has another one by that tuple: it is told nothing of this
	// one.
	if (flow != NULL && !flow_has(flow, FLOW_DETACHED)) {
		enum flow_direction direction = flow_entry_direction(entry);
		if (!refuses_connection(packet, flow, direction) ||
			!pipeline_connect_unreachable(pipeline, table, flows, packet->mbuf, flow))
			forward(pipeline, table, packet, flow, direction);
	} else if (is_balanced(table, packet->family, &tuple)) {
		pipeline_drop(pipeline, packet->mbuf, STATS_DROP_ICMP_NO_FLOW);
	} else {
		pipeline_punt(pipeline, table, packet);
	}
}
