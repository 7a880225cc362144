/* SPDX-License-Identifier: BSD-3-Clause */
#include "kept_syn.h"

#include <rte_mbuf.h>
#include <rte_memcpy.h>

bool kept_syn_put(struct flow_side *side, const struct packet *packet)
{
	const uint8_t *frame = packet->l3 - sizeof(struct rte_ether_hdr);
	unsigned size = sizeof(struct rte_ether_hdr) + packet->ip_size;
	const uint8_t *end =
		rte_pktmbuf_mtod(packet->mbuf, uint8_t *) + rte_pktmbuf_data_len(packet->mbuf);

	kept_syn_forget(side);
	if (size > FLOW_SIDE_FRAME_MAX || frame + size > end)
		return false;
	rte_memcpy(side->frame, frame, size); // not `rep movs`, which takes its time to begin
	side->frame_size = size;
	side->tcp_at = (const uint8_t *)packet->tcp - frame;
	return true;
}

bool kept_syn_fits(const struct flow_side *side, const struct rte_mbuf *mbuf)
{
	return side->frame_size <= mbuf->buf_len;
}

void kept_syn_follow(struct flow_side *side, const struct flow *flow)
{
	struct rte_ether_hdr *ether = (struct rte_ether_hdr *)side->frame;
	uint64_t client = __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);

	memcpy(&ether->src_addr, &client, sizeof(ether->src_addr));
}

static void parse(const struct flow_side *side, const struct flow_table *flows, uint8_t *frame,
	struct packet *packet)
{
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(frame + side->tcp_at);

	*packet = (struct packet){
		.l3 = frame + sizeof(struct rte_ether_hdr),
		.tcp = tcp,
		.ip_size = side->frame_size - sizeof(struct rte_ether_hdr),
		.payload = side->frame_size - side->tcp_at - (tcp->data_off >> 4) * 4,
		.kind = PACKET_TCP,
		.family = flows->family,
		.flags = tcp->tcp_flags,
		.protocol = IPPROTO_TCP,
	};
	memcpy(&packet->ports, tcp, sizeof(packet->ports));
	packet->hash =
		flow_hash(&flows->hasher, packet->family, packet_addrs(packet), packet->ports);
}

void kept_syn_read(struct flow_side *side, const struct flow_table *flows, struct packet *packet)
{
	parse(side, flows, side->frame, packet);
}

void kept_syn_copy(const struct flow_side *side, const struct flow_table *flows,
	struct rte_mbuf *mbuf, struct packet *packet)
{
	unsigned size = side->frame_size;

	packet_cut_chain(mbuf);
	if (mbuf->data_off + size > mbuf->buf_len)
		mbuf->data_off = mbuf->buf_len - size;
	mbuf->data_len = mbuf->pkt_len = size;
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	rte_memcpy(frame, side->frame, size);
	parse(side, flows, frame, packet);
	packet->mbuf = mbuf;
}
