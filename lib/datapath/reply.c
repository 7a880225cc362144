/* SPDX-License-Identifier: BSD-3-Clause */
/* Answers that Weir gives itself, each made in the buffer of the packet it answers. */
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <rte_icmp.h>
#include <rte_mbuf.h>

#include "checksum.h"
#include "packet.h"
#include "pipeline.h"
#include "segment.h"

/* The link addresses of an answer: back to the sender. */
static void turn_link(struct pipeline *pipeline, struct rte_ether_hdr *ether)
{
	memcpy(&ether->dst_addr, &ether->src_addr, sizeof(ether->dst_addr));
	memcpy(&ether->src_addr, &pipeline->mac, sizeof(ether->src_addr));
}

static void turn_addrs(struct packet *packet)
{
	uint8_t *addrs = (uint8_t *)packet_addrs(packet);
	unsigned size = net_addr_size(packet->family);
	uint8_t source[16];

	memcpy(source, addrs, size);
	memcpy(addrs, addrs + size, size);
	memcpy(addrs + size, source, size);
}

/* Make the frame its Ethernet header and `ip_size` bytes long, and put it out. */
static void send_answer(struct pipeline *pipeline, struct packet *packet, uint16_t ip_size)
{
	struct rte_mbuf *mbuf = packet->mbuf;
	uint32_t size = packet->l3 - rte_pktmbuf_mtod(mbuf, uint8_t *) + ip_size;

	packet_cut_chain(mbuf);
	mbuf->data_len = size;
	mbuf->pkt_len = size;
	pipeline->stats->live.answered++;
	pipeline_out_add(&pipeline->reply, mbuf);
}

static void write_ip(struct packet *packet, uint16_t ip_size, uint8_t protocol)
{
	if (packet->family == AF_INET6) {
		struct rte_ipv6_hdr *ip = packet->ip6;
		ip->vtc_flow = RTE_BE32(0x60000000);
		ip->payload_len = rte_cpu_to_be_16(ip_size - sizeof(*ip));
		ip->proto = protocol;
		ip->hop_limits = SEGMENT_TTL;
		return;
	}
	struct rte_ipv4_hdr *ip = packet->ip4;
	ip->version_ihl = RTE_IPV4_VHL_DEF;
	ip->type_of_service = 0;
	ip->total_length = rte_cpu_to_be_16(ip_size);
	ip->packet_id = 0;
	ip->fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG);
	ip->time_to_live = SEGMENT_TTL;
	ip->next_proto_id = protocol;
	ip->hdr_checksum = 0;
	ip->hdr_checksum = checksum_ip(ip, sizeof(*ip));
}

static unsigned ip_header_size(const struct packet *packet)
{
	return packet->family == AF_INET6 ? sizeof(struct rte_ipv6_hdr)
					  : sizeof(struct rte_ipv4_hdr);
}

void pipeline_reset(struct pipeline *pipeline, struct packet *packet)
{
	const uint8_t *addrs = packet_addrs(packet);
	const struct rte_tcp_hdr *tcp = packet->tcp;
	struct segment_fields fields = {
		.source = addrs + net_addr_size(packet->family),
		.destination = addrs,
		.ports = packet->ports << 16 | packet->ports >> 16,
		.flags = RTE_TCP_RST_FLAG,
	};

	if (packet->flags & RTE_TCP_ACK_FLAG) {
		fields.seq = tcp->recv_ack;
	} else {
		fields.flags |= RTE_TCP_ACK_FLAG;
		fields.ack = rte_cpu_to_be_32(rte_be_to_cpu_32(tcp->sent_seq) + packet->payload +
			!!(packet->flags & RTE_TCP_SYN_FLAG) +
			!!(packet->flags & RTE_TCP_FIN_FLAG));
	}
	// Options and extension headers go: the TCP header moves up behind the plain IP header.
	segment_write(packet->l3, packet->family, &fields);
	turn_link(pipeline, rte_pktmbuf_mtod(packet->mbuf, struct rte_ether_hdr *));
	send_answer(pipeline, packet, segment_size(packet->family));
}

void pipeline_reset_limited(
	struct pipeline *pipeline, struct packet *packet, enum stats_drop reason, uint64_t now_ms)
{
	if (!(packet->flags & RTE_TCP_RST_FLAG) &&
		pipeline_rate_allows(&pipeline->reset_rate, now_ms))
		pipeline_reset(pipeline, packet);
	else
		pipeline_drop(pipeline, packet->mbuf, reason);
}

/* What an error quotes: the IP header and 8 bytes (RFC 792), or as much as
 * fits 1,280 (RFC 4443). */
static unsigned quoted_size(const struct packet *packet, unsigned space)
{
	unsigned to_tcp = (uint8_t *)packet->tcp - packet->l3;
	unsigned held = rte_pktmbuf_data_len(packet->mbuf) -
		(packet->l3 - rte_pktmbuf_mtod(packet->mbuf, uint8_t *));

	if (packet->family == AF_INET)
		return to_tcp + 8;
	return RTE_MIN(RTE_MIN((unsigned)packet->ip_size, held), 1280 - space);
}

void pipeline_time_exceeded(struct pipeline *pipeline, struct packet *packet, uint64_t now_ms)
{
	struct rte_mbuf *mbuf = packet->mbuf;
	bool v6 = packet->family == AF_INET6;
	unsigned header = ip_header_size(packet);
	unsigned space = header + 8; // IP and ICMP headers go in front of the quoted packet
	unsigned quote = quoted_size(packet, space);
	struct rte_ether_hdr ether;

	if (!pipeline_rate_allows(&pipeline->icmp_rate, now_ms) ||
		rte_pktmbuf_headroom(mbuf) < space) {
		pipeline_drop(pipeline, mbuf, STATS_DROP_TTL);
		return;
	}
	memcpy(&ether, rte_pktmbuf_mtod(mbuf, void *), sizeof(ether));
	uint8_t *quoted = packet->l3;
	uint8_t addrs[32];
	unsigned size = net_addr_size(packet->family);
	memcpy(addrs, packet_addrs(packet), size * 2);

	rte_pktmbuf_prepend(mbuf, space);
	memcpy(rte_pktmbuf_mtod(mbuf, void *), &ether, sizeof(ether));
	packet->l3 = quoted - space;
	memset(packet->l3, 0, space);
	memcpy((uint8_t *)packet_addrs(packet), addrs, size * 2);
	turn_link(pipeline, rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *));
	turn_addrs(packet);
	write_ip(packet, space + quote, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

	uint8_t *icmp = packet->l3 + header; // type, code, checksum, four unused bytes
	uint16_t checksum;
	icmp[0] = v6 ? ICMP6_TIME_EXCEEDED : ICMP_TIME_EXCEEDED;
	const uint8_t *own = packet_addrs(packet);
	checksum = v6 ? checksum_l4(AF_INET6, own, own + size, IPPROTO_ICMPV6, icmp, 8 + quote)
		      : checksum_ip(icmp, 8 + quote);
	memcpy(icmp + 2, &checksum, sizeof(checksum));
	send_answer(pipeline, packet, space + quote);
}
