/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A received frame, parsed. All bounds are checked here, once: what packet_parse() calls
 * PACKET_TCP has its whole IP and TCP headers in the first segment and lengths that agree, and the
 * later stages trust struct packet for it.
 *
 * Pure code on the frame; any thread.
 */
#ifndef WEIR_PACKET_H
#define WEIR_PACKET_H

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_prefetch.h>
#include <rte_tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "addr.h"

enum packet_kind {
	PACKET_TCP,            // complete headers; look it up
	PACKET_ARP,            // ARP or IPv6 neighbour discovery, for the kernel
	PACKET_OTHER,          // anything else the kernel may know: ICMP, UDP, LLDP, fragments of those
	// Below: to be dropped.
	PACKET_RUNT,
	PACKET_WRONG_MAC,
	PACKET_BAD_IP,
	PACKET_BAD_TCP,
	PACKET_BAD_ADDRESS,
	PACKET_FRAGMENT,
	PACKET_EXTENSION_HEADERS,
};

struct packet {
	struct rte_mbuf *mbuf;
	union {
		struct rte_ipv4_hdr *ip4;
		struct rte_ipv6_hdr *ip6;
		uint8_t *l3;       // NULL when the frame isn't IP
	};
	struct rte_tcp_hdr *tcp;   // PACKET_TCP only
	uint64_t hash;             // keyed hash of the tuple, filled in by flow_hash_burst()
	uint32_t ports;            // source and destination, as in the header
	uint16_t ip_size;          // bytes of the IP packet by its own length field
	uint16_t payload;          // bytes of TCP payload
	uint8_t kind;              // enum packet_kind
	uint8_t family;            // AF_INET or AF_INET6, 0 when the frame isn't IP
	uint8_t flags;             // TCP flags
	uint8_t protocol;          // of the IP payload, behind extension headers
};

/* The source and destination addresses, one behind the other: 8 or 32 bytes. */
static inline const void *packet_addrs(const struct packet *packet)
{
	return packet->family == AF_INET6 ? (const void *)packet->ip6->src_addr
					  : (const void *)&packet->ip4->src_addr;
}

static inline void packet_source(const struct packet *packet, struct net_addr *addr)
{
	memset(addr, 0, sizeof(*addr));
	addr->family = packet->family;
	memcpy(addr->v6, packet_addrs(packet), net_addr_size(packet->family));
}

static inline void packet_destination(const struct packet *packet, struct net_addr *addr)
{
	unsigned size = net_addr_size(packet->family);

	memset(addr, 0, sizeof(*addr));
	addr->family = packet->family;
	memcpy(addr->v6, (const uint8_t *)packet_addrs(packet) + size, size);
}

/* The other half of the parser: whatever packet_parse() doesn't decide on its own. */
struct packet *packet_parse_other(struct packet *packet, struct packet *packet6,
	struct rte_mbuf *mbuf, const struct net_mac *own);

/* Sources that no TCP packet may have, and LAND (case B12). IPv4, addresses in network order. */
static inline bool packet_bad_addrs4(uint32_t source, uint32_t destination)
{
	uint8_t first = source & 0xff; // the first byte on the wire, x86 and Arm alike
	return first == 0 || first == 127 || first >= 224 || source == destination;
}

/*
 * Parse the frame of `mbuf` into `packet`, or a TCP packet of IPv6 into `packet6`, which may be the
 * same; returns which. `own` is the port's MAC. The common case, an IPv4 TCP packet without options
 * or tag, is decided here.
 */
static inline struct packet *packet_parse(struct packet *packet, struct packet *packet6,
	struct rte_mbuf *mbuf, const struct net_mac *own)
{
	const uint8_t *frame = rte_pktmbuf_mtod(mbuf, const uint8_t *);
	const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)frame;
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(frame + sizeof(*ether));
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(ip + 1);
	uint32_t size = rte_pktmbuf_data_len(mbuf);
	uint64_t to, mine = 0;

	packet->mbuf = mbuf;
	if (unlikely(size < sizeof(*ether) + sizeof(*ip) + sizeof(*tcp)))
		goto other;
	memcpy(&to, frame, sizeof(to));
	memcpy(&mine, own, sizeof(*own));
	if (unlikely(((to ^ mine) << 16) != 0) || ether->ether_type != RTE_BE16(RTE_ETHER_TYPE_IPV4) ||
		ip->version_ihl != RTE_IPV4_VHL_DEF || ip->next_proto_id != IPPROTO_TCP ||
		(ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)))
		goto other;

	uint32_t ip_size = rte_be_to_cpu_16(ip->total_length);
	uint32_t tcp_size = (tcp->data_off >> 4) * 4;
	uint32_t headers = sizeof(*ip) + tcp_size;
	if (unlikely(ip_size > rte_pktmbuf_pkt_len(mbuf) - sizeof(*ether) || tcp_size < sizeof(*tcp) ||
		headers > ip_size || headers + sizeof(*ether) > size ||
		packet_bad_addrs4(ip->src_addr, ip->dst_addr) || tcp->src_port == 0 ||
		tcp->dst_port == 0))
		goto other;

	packet->ip4 = ip;
	packet->tcp = tcp;
	memcpy(&packet->ports, tcp, sizeof(packet->ports));
	packet->ip_size = ip_size;
	packet->payload = ip_size - headers;
	packet->kind = PACKET_TCP;
	packet->family = AF_INET;
	packet->flags = tcp->tcp_flags;
	packet->protocol = IPPROTO_TCP;
	return packet;
other:
	return packet_parse_other(packet, packet6, mbuf, own);
}

#endif
