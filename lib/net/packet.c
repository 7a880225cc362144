/* SPDX-License-Identifier: BSD-3-Clause */
#include "packet.h"

#include <netinet/icmp6.h>
#include <rte_arp.h>

#define EXTENSION_HEADERS_MAX 8 // case B15: a bounded walk

/* TCP behind an IP header at offset `l4` of the frame: the checks of packet_parse(), for any family. */
static void parse_tcp(struct packet *packet, const uint8_t *frame, uint32_t size, uint32_t l4)
{
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(frame + l4);
	uint32_t ip_end = (packet->l3 - frame) + packet->ip_size;

	packet->kind = PACKET_BAD_TCP;
	if (l4 + sizeof(*tcp) > size || l4 + sizeof(*tcp) > ip_end)
		return;
	uint32_t tcp_size = (tcp->data_off >> 4) * 4;
	if (tcp_size < sizeof(*tcp) || l4 + tcp_size > ip_end || l4 + tcp_size > size)
		return;
	packet->kind = PACKET_BAD_ADDRESS;
	if (tcp->src_port == 0 || tcp->dst_port == 0)
		return;
	packet->tcp = tcp;
	memcpy(&packet->ports, tcp, sizeof(packet->ports));
	packet->payload = ip_end - l4 - tcp_size;
	packet->flags = tcp->tcp_flags;
	packet->kind = PACKET_TCP;
}

static void parse_ip4(struct packet *packet, const uint8_t *frame, uint32_t size, uint32_t l3)
{
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + l3);

	if (l3 + sizeof(*ip) > size) {
		packet->kind = PACKET_RUNT;
		return;
	}
	uint32_t header_size = (ip->version_ihl & 0xf) * 4;
	packet->ip4 = ip;
	packet->ip_size = rte_be_to_cpu_16(ip->total_length);
	packet->family = AF_INET;
	packet->protocol = ip->next_proto_id;
	packet->kind = PACKET_BAD_IP;
	if (ip->version_ihl >> 4 != 4 || header_size < sizeof(*ip) || l3 + header_size > size ||
		packet->ip_size < header_size || l3 + packet->ip_size > rte_pktmbuf_pkt_len(packet->mbuf))
		return;
	if (packet->protocol != IPPROTO_TCP) {
		packet->kind = PACKET_OTHER;
		return;
	}
	packet->kind = PACKET_FRAGMENT;
	if (ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK))
		return;
	packet->kind = PACKET_BAD_ADDRESS;
	if (packet_bad_addrs4(ip->src_addr, ip->dst_addr))
		return;
	parse_tcp(packet, frame, size, l3 + header_size);
}

static bool bad_addrs6(const struct rte_ipv6_hdr *ip)
{
	uint64_t from[2], to[2];

	memcpy(from, ip->src_addr, sizeof(from));
	memcpy(to, ip->dst_addr, sizeof(to));
	return ip->src_addr[0] == 0xff || ((from[0] ^ to[0]) | (from[1] ^ to[1])) == 0 ||
		(from[0] == 0 && (from[1] == 0 || from[1] == RTE_BE64(1))); // ::, ::1
}

static bool is_neighbour_discovery(const uint8_t *frame, uint32_t size, uint32_t l4)
{
	return l4 < size && frame[l4] >= ND_ROUTER_SOLICIT && frame[l4] <= ND_REDIRECT;
}

/* RFC 8200, 4: the chain of extension headers, no further than TCP, the first segment or the bound. */
static void parse_ip6(struct packet *packet, const uint8_t *frame, uint32_t size, uint32_t l3)
{
	struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(frame + l3);
	uint32_t l4 = l3 + sizeof(*ip);
	bool fragment = false;

	if (l4 > size) {
		packet->kind = PACKET_RUNT;
		return;
	}
	uint32_t ip_size = rte_be_to_cpu_16(ip->payload_len) + sizeof(*ip);
	packet->ip6 = ip;
	packet->ip_size = RTE_MIN(ip_size, (uint32_t)UINT16_MAX);
	packet->family = AF_INET6;
	packet->protocol = ip->proto;
	packet->kind = PACKET_BAD_IP;
	if (rte_be_to_cpu_32(ip->vtc_flow) >> 28 != 6 || l3 + ip_size > rte_pktmbuf_pkt_len(packet->mbuf))
		return;

	for (unsigned walked = 0;; walked++) {
		uint32_t header_size;
		switch (packet->protocol) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			header_size = l4 + 2 <= size ? (frame[l4 + 1] + 1) * 8 : 0;
			break;
		case IPPROTO_FRAGMENT:
			header_size = 8;
			fragment = true;
			break;
		case IPPROTO_AH:
			header_size = l4 + 2 <= size ? (frame[l4 + 1] + 2) * 4 : 0;
			break;
		case IPPROTO_TCP:
			packet->kind = fragment ? PACKET_FRAGMENT : PACKET_BAD_ADDRESS;
			if (!fragment && !bad_addrs6(ip))
				parse_tcp(packet, frame, size, l4);
			return;
		case IPPROTO_ICMPV6:
			packet->kind = is_neighbour_discovery(frame, size, l4) ? PACKET_ARP : PACKET_OTHER;
			return;
		default:
			packet->kind = PACKET_OTHER;
			return;
		}
		packet->kind = PACKET_EXTENSION_HEADERS;
		if (walked == EXTENSION_HEADERS_MAX || header_size == 0 || l4 + header_size > size)
			return;
		packet->protocol = frame[l4];
		l4 += header_size;
	}
}

static void parse_any(struct packet *packet, const uint8_t *frame, uint32_t size,
	const struct net_mac *own)
{
	const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)frame;

	packet->l3 = NULL;
	packet->tcp = NULL;
	packet->ports = 0;
	packet->ip_size = 0;
	packet->payload = 0;
	packet->family = 0;
	packet->flags = 0;
	packet->protocol = 0;
	packet->kind = PACKET_RUNT;
	if (size < sizeof(*ether))
		return;
	switch (ether->ether_type) {
	case RTE_BE16(RTE_ETHER_TYPE_IPV4):
		parse_ip4(packet, frame, size, sizeof(*ether));
		break;
	case RTE_BE16(RTE_ETHER_TYPE_IPV6):
		parse_ip6(packet, frame, size, sizeof(*ether));
		break;
	case RTE_BE16(RTE_ETHER_TYPE_ARP):
		packet->kind = PACKET_ARP;
		break;
	default:
		packet->kind = PACKET_OTHER; // tagged and non-IP frames are the kernel's
	}

	// The port may be promiscuous, and no TCP goes to a group address (case B12).
	bool group = frame[0] & 1;
	if ((!group && memcmp(frame, own, sizeof(*own)) != 0) ||
		(group && packet->kind == PACKET_TCP))
		packet->kind = PACKET_WRONG_MAC;
}

/* The common IPv6 case: TCP right behind the IP header. False when it isn't plainly that. */
static bool parse_plain_ip6(struct packet *packet, struct rte_mbuf *mbuf, const struct net_mac *own)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)frame;
	struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(frame + sizeof(*ether));
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);
	uint32_t size = rte_pktmbuf_data_len(mbuf);

	if (size < sizeof(*ether) + sizeof(*ip) + sizeof(*tcp) ||
		ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV6) ||
		memcmp(frame, own, sizeof(*own)) != 0 ||
		(ip->vtc_flow & RTE_BE32(0xf0000000)) != RTE_BE32(0x60000000) ||
		ip->proto != IPPROTO_TCP || bad_addrs6(ip))
		return false;
	uint32_t ip_size = rte_be_to_cpu_16(ip->payload_len) + sizeof(*ip);
	uint32_t tcp_size = (tcp->data_off >> 4) * 4, headers = sizeof(*ip) + tcp_size;
	if (ip_size > rte_pktmbuf_pkt_len(mbuf) - sizeof(*ether) || tcp_size < sizeof(*tcp) ||
		headers > ip_size || headers + sizeof(*ether) > size || tcp->src_port == 0 ||
		tcp->dst_port == 0)
		return false;
	packet->mbuf = mbuf;
	packet->ip6 = ip;
	packet->tcp = tcp;
	memcpy(&packet->ports, tcp, sizeof(packet->ports));
	packet->ip_size = RTE_MIN(ip_size, (uint32_t)UINT16_MAX);
	packet->payload = ip_size - headers;
	packet->kind = PACKET_TCP;
	packet->family = AF_INET6;
	packet->flags = tcp->tcp_flags;
	packet->protocol = IPPROTO_TCP;
	return true;
}

struct packet *packet_parse_other(struct packet *packet, struct packet *packet6,
	struct rte_mbuf *mbuf, const struct net_mac *own)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);

	if (parse_plain_ip6(packet6, mbuf, own))
		return packet6;
	packet->mbuf = mbuf;
	parse_any(packet, frame, rte_pktmbuf_data_len(mbuf), own);
	if (packet->kind != PACKET_TCP || packet->family != AF_INET6)
		return packet;
	*packet6 = *packet;
	return packet6;
}
