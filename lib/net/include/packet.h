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
	PACKET_TCP,        // complete headers; look it up
	PACKET_ARP,        // for the kernel, as the next one
	PACKET_ND,         // IPv6 neighbour discovery, or a multicast router's query
	PACKET_ICMP_ERROR, // quotes a TCP packet: icmp.h
	PACKET_TAGGED,     // of a VLAN, which the kernel may know
	PACKET_OTHER,      // anything else the kernel may know: ICMP, UDP, LLDP, fragments of those
	// Below: to be dropped.
	PACKET_RUNT,
	PACKET_WRONG_MAC,
	PACKET_BAD_IP,
	PACKET_BAD_TCP,
	PACKET_FRAGMENT,
	PACKET_EXTENSION_HEADERS,
	PACKET_BAD_ICMP,
	PACKET_BAD_ND, // neighbour discovery from beyond the link
};

struct packet {
	struct rte_mbuf *mbuf;
	union {
		struct rte_ipv4_hdr *ip4;
		struct rte_ipv6_hdr *ip6;
		uint8_t *l3; // NULL when the frame isn't IP
	};
	struct rte_tcp_hdr *tcp; // PACKET_TCP; of a PACKET_ICMP_ERROR the quoted one
	union {
		uint64_t hash; // PACKET_TCP: of the tuple, filled in by flow_hash_burst()
		uint8_t *icmp; // PACKET_ICMP_ERROR: its header, the quoted packet behind it
	};
	uint32_t ports;   // source and destination, as in the TCP header
	uint16_t ip_size; // bytes of the IP packet by its own length field
	uint16_t payload; // bytes of TCP payload; of an error the bytes quoted from `tcp` on
	uint8_t kind;     // enum packet_kind
	uint8_t family;   // AF_INET or AF_INET6, 0 when the frame isn't IP
	uint8_t flags;    // TCP flags
	uint8_t protocol; // of the IP payload, behind extension headers
};

/* Return the source and destination addresses, one behind the other: 8 or 32 bytes. */
static inline const void *packet_addrs_of(const struct packet *packet, sa_family_t family)
{
	return family == AF_INET6 ? (const void *)&packet->ip6->src_addr
				  : (const void *)&packet->ip4->src_addr;
}

static inline const void *packet_addrs(const struct packet *packet)
{
	return packet_addrs_of(packet, packet->family);
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

/* Return the first 8 bytes of a frame to this MAC address, as
 * packet_parse_plain() compares them. */
static inline uint64_t packet_own(const struct net_mac *mac)
{
	uint64_t own = 0;

	memcpy(&own, mac, sizeof(*mac));
#if RTE_BYTE_ORDER == RTE_LITTLE_ENDIAN
	return own << 16;
#else
	return own >> 16;
#endif
}

static inline bool packet_is_to(const uint8_t *frame, uint64_t own)
{
	uint64_t to;

	memcpy(&to, frame, sizeof(to));
#if RTE_BYTE_ORDER == RTE_LITTLE_ENDIAN
	return to << 16 == own;
#else
	return to >> 16 == own;
#endif
}

/* Cut a chain to its first segment: what Weir writes in a received packet's
 * place has room there. */
static inline void packet_cut_chain(struct rte_mbuf *mbuf)
{
	if (likely(mbuf->next == NULL))
		return;
	rte_pktmbuf_free(mbuf->next);
	mbuf->next = NULL;
	mbuf->nb_segs = 1;
}

/*
 * Fill in a TCP packet whose header lies right behind an IP header of `ip_header` bytes, in a frame
 * that holds a TCP header of the smallest size. All lengths are checked by their differences'
 * signs, in one branch. False when one is wrong.
 */
static __rte_always_inline bool packet_fill_plain(struct packet *packet, struct rte_mbuf *mbuf,
	uint8_t *frame, int32_t ip_header, int32_t ip_size, sa_family_t family)
{
	uint8_t *l3 = frame + sizeof(struct rte_ether_hdr);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(l3 + ip_header);
	int32_t tcp_size = tcp->data_off >> 2 & 0x3c;
	int32_t payload = ip_size - ip_header - tcp_size;
	int32_t in_segment = rte_pktmbuf_data_len(mbuf) - sizeof(struct rte_ether_hdr) - ip_header;
	int32_t in_frame = rte_pktmbuf_pkt_len(mbuf) - sizeof(struct rte_ether_hdr);

	// Only the length of an IPv6 packet can come to more than 16 bits.
	int32_t too_long = family == AF_INET6 ? UINT16_MAX - ip_size : 0;

	if (unlikely(((tcp_size - (int32_t)sizeof(*tcp)) | payload | (in_segment - tcp_size) |
			     (in_frame - ip_size) | too_long) < 0))
		return false;
	packet->mbuf = mbuf;
	packet->l3 = l3;
	packet->tcp = tcp;
	memcpy(&packet->ports, tcp, sizeof(packet->ports));
	packet->ip_size = ip_size;
	packet->payload = payload;
	packet->kind = PACKET_TCP;
	packet->family = family;
	packet->flags = tcp->tcp_flags;
	packet->protocol = IPPROTO_TCP;
	return true;
}

/*
 * Parse the common case: an IPv4 TCP packet without options into `packet4`, or an IPv6 one without
 * extension headers into `packet6`, untagged and to the MAC of `own`. Returns its family; 0 when
 * the frame isn't plainly that, and packet_parse_other() is to say what it is.
 */
static __rte_always_inline sa_family_t packet_parse_plain(
	struct packet *packet4, struct packet *packet6, struct rte_mbuf *mbuf, uint64_t own)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);
	struct rte_ipv4_hdr *ip4 = (struct rte_ipv4_hdr *)(frame + sizeof(struct rte_ether_hdr));
	struct rte_ipv6_hdr *ip6 = (struct rte_ipv6_hdr *)ip4;
	unsigned size = rte_pktmbuf_data_len(mbuf);
	uint32_t type, fragment;

	if (unlikely(size < sizeof(struct rte_ether_hdr) + sizeof(*ip4) +
				    sizeof(struct rte_tcp_hdr) ||
		    !packet_is_to(frame, own)))
		return 0;
	// Type, version and header length of IPv4; then fragment offset and protocol, the TTL
	// between.
	memcpy(&type, frame + 12, sizeof(type));
	memcpy(&fragment, &ip4->fragment_offset, sizeof(fragment));
	if (likely((type & RTE_BE32(0xffffff00)) == RTE_BE32(0x08004500)))
		return (fragment & RTE_BE32(0x3fff00ff)) == RTE_BE32(IPPROTO_TCP) &&
				packet_fill_plain(packet4, mbuf, frame, sizeof(*ip4),
					rte_be_to_cpu_16(ip4->total_length), AF_INET)
			? AF_INET
			: 0;
	return (type & RTE_BE32(0xfffff000)) == RTE_BE32(0x86dd6000) && ip6->proto == IPPROTO_TCP &&
			size >= sizeof(struct rte_ether_hdr) + sizeof(*ip6) +
					sizeof(struct rte_tcp_hdr) &&
			packet_fill_plain(packet6, mbuf, frame, sizeof(*ip6),
				rte_be_to_cpu_16(ip6->payload_len) + sizeof(*ip6), AF_INET6)
		? AF_INET6
		: 0;
}

/* Parse any frame that packet_parse_plain() doesn't decide, without its priority tags, which are
 * taken off. A TCP packet of IPv6 goes into `packet6`, anything else into `packet4`, which may be
 * the same; returns which. */
struct packet *packet_parse_other(
	struct packet *packet4, struct packet *packet6, struct rte_mbuf *mbuf, uint64_t own);

/* Parse any frame. `own`: packet_own() of the port's MAC. Returns the packet that was
 * filled in, see packet_parse_other(). */
static inline struct packet *packet_parse(
	struct packet *packet4, struct packet *packet6, struct rte_mbuf *mbuf, uint64_t own)
{
	sa_family_t family = packet_parse_plain(packet4, packet6, mbuf, own);

	if (likely(family != 0))
		return family == AF_INET ? packet4 : packet6;
	return packet_parse_other(packet4, packet6, mbuf, own);
}

/*
 * Tell whether a PACKET_TCP comes from an address or port that can't be, or from where it goes
 * (LAND): case B12. To be asked before a packet makes a flow or leaves as the kernel's; a flow's
 * own packets have its addresses.
 */
bool packet_bad_address(const struct packet *packet);

/* Tell whether the checksums of a PACKET_TCP are right, of TCP and of an IPv4 header. Reads all of
 * the payload, so not for every packet. */
bool packet_sum_is_right(const struct packet *packet);

/*
 * Tell whether the receiver of a PACKET_TCP may take it, whatever its numbers are: the checksums
 * are right, and there is nothing that a host drops unless it was told otherwise: a signature,
 * which covers the addresses and so is never right behind a translation, an authentication header,
 * a source route. As dear as packet_sum_is_right().
 */
bool packet_may_be_taken(const struct packet *packet);

/*
 * Tell whether a PACKET_TCP carries what hosts and routers drop in silence however well they are:
 * IP options, extension headers, a signature. That nobody answers it says nothing.
 */
bool packet_is_odd(const struct packet *packet);

#endif
