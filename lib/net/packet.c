/* SPDX-License-Identifier: BSD-3-Clause */
#include "packet.h"

#include <netinet/icmp6.h>
#include <netinet/ip.h>

#include "checksum.h"
#include "icmp.h"
#include "ip6.h"
#include "tcp_options.h"

/* TCP behind an IP header at offset `l4` of the frame: by the checks of the common case. */
static void parse_tcp(struct packet *packet, uint8_t *frame, uint32_t size, uint32_t l4)
{
	uint32_t headers = l4 - (packet->l3 - frame);

	packet->kind = PACKET_BAD_TCP;
	if (l4 + sizeof(struct rte_tcp_hdr) <= size)
		packet_fill_plain(
			packet, packet->mbuf, frame, headers, packet->ip_size, packet->family);
}

static void parse_ip4(struct packet *packet, uint8_t *frame, uint32_t size, uint32_t l3)
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
		packet->ip_size < header_size ||
		l3 + packet->ip_size > rte_pktmbuf_pkt_len(packet->mbuf))
		return;
	bool fragment =
		ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK);
	if (packet->protocol == IPPROTO_ICMP && !fragment) {
		icmp_parse(packet, frame, size, l3 + header_size);
		return;
	}
	if (packet->protocol != IPPROTO_TCP) {
		packet->kind = PACKET_OTHER;
		return;
	}
	packet->kind = PACKET_FRAGMENT;
	if (fragment)
		return;
	parse_tcp(packet, frame, size, l3 + header_size);
}

static bool is_link_local(const struct rte_ipv6_hdr *ip)
{
	const uint8_t *source = (const uint8_t *)&ip->src_addr;

	return source[0] == 0xfe && (source[1] & 0xc0) == 0x80;
}

/*
 * ICMPv6 that means something on its own link only, and must prove that it comes from there:
 * neighbour discovery, which no router can have passed on (RFC 4861, 6.1 and 7.1), and the queries
 * of multicast routers (RFC 3810, 5.1.14), without whose answers a switch that listens in keeps
 * neighbour solicitations to itself. PACKET_OTHER when it is none of these.
 */
static enum packet_kind kind_on_link(
	const struct rte_ipv6_hdr *ip, const uint8_t *frame, uint32_t size, uint32_t l4)
{
	if (l4 >= size)
		return PACKET_OTHER;
	if (frame[l4] >= ND_ROUTER_SOLICIT && frame[l4] <= ND_REDIRECT)
		return l4 + 1 < size && frame[l4 + 1] == 0 && ip->hop_limits == UINT8_MAX
			? PACKET_ND
			: PACKET_BAD_ND;
	return frame[l4] == MLD_LISTENER_QUERY && ip->hop_limits == 1 && is_link_local(ip)
		? PACKET_ND
		: PACKET_OTHER;
}

static void parse_ip6(struct packet *packet, uint8_t *frame, uint32_t size, uint32_t l3)
{
	struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)(frame + l3);
	struct ip6_payload payload = {.at = l3 + sizeof(*ip)};

	if (payload.at > size) {
		packet->kind = PACKET_RUNT;
		return;
	}
	uint32_t ip_size = rte_be_to_cpu_16(ip->payload_len) + sizeof(*ip);
	packet->ip6 = ip;
	packet->ip_size = RTE_MIN(ip_size, (uint32_t)UINT16_MAX);
	packet->family = AF_INET6;
	packet->kind = PACKET_BAD_IP;
	if (rte_be_to_cpu_32(ip->vtc_flow) >> 28 != 6 ||
		l3 + ip_size > rte_pktmbuf_pkt_len(packet->mbuf))
		return;

	payload.protocol = ip->proto;
	bool whole = ip6_skip_extensions(frame, size, &payload);
	packet->protocol = payload.protocol;
	if (!whole) {
		packet->kind = PACKET_EXTENSION_HEADERS;
	} else if (payload.protocol == IPPROTO_TCP) {
		packet->kind = PACKET_FRAGMENT;
		if (!payload.is_fragment)
			parse_tcp(packet, frame, size, payload.at);
	} else if (payload.protocol != IPPROTO_ICMPV6 || payload.is_fragment) {
		packet->kind = PACKET_OTHER; // neighbour discovery is never fragmented (RFC 6980)
	} else {
		packet->kind = kind_on_link(ip, frame, size, payload.at);
		if (packet->kind == PACKET_OTHER)
			icmp_parse(packet, frame, size, payload.at);
	}
}

static bool is_tag(const uint8_t *frame)
{
	const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)frame;

	return ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_VLAN) ||
		ether->ether_type == RTE_BE16(RTE_ETHER_TYPE_QINQ);
}

/* Take off tags that give a priority and name no VLAN (IEEE 802.1Q, table 9-2: number 0): for the
 * kernel, too, such a frame is one without a tag. */
static void strip_priority_tags(struct rte_mbuf *mbuf)
{
	uint8_t *frame = rte_pktmbuf_mtod(mbuf, uint8_t *);

	while (rte_pktmbuf_data_len(mbuf) >= sizeof(struct rte_ether_hdr) + RTE_VLAN_HLEN &&
		is_tag(frame) && ((frame[14] & 0x0f) | frame[15]) == 0) {
		memmove(frame + RTE_VLAN_HLEN, frame, 2 * RTE_ETHER_ADDR_LEN);
		frame = (uint8_t *)rte_pktmbuf_adj(mbuf, RTE_VLAN_HLEN);
	}
}

static void parse_any(struct packet *packet, uint8_t *frame, uint32_t size, uint64_t own)
{
	const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)frame;

	packet->l3 = NULL;
	packet->tcp = NULL;
	packet->icmp = NULL;
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
		packet->kind = is_tag(frame) ? PACKET_TAGGED : PACKET_OTHER; // the kernel's
	}

	// The port may be promiscuous, and neither TCP nor an error about it goes to a group
	// address (case B12).
	bool group = frame[0] & 1;
	if ((!group && !packet_is_to(frame, own)) ||
		(group && (packet->kind == PACKET_TCP || packet->kind == PACKET_ICMP_ERROR)))
		packet->kind = PACKET_WRONG_MAC;
}

struct packet *packet_parse_other(
	struct packet *packet4, struct packet *packet6, struct rte_mbuf *mbuf, uint64_t own)
{
	strip_priority_tags(mbuf);
	packet4->mbuf = mbuf;
	parse_any(packet4, rte_pktmbuf_mtod(mbuf, uint8_t *), rte_pktmbuf_data_len(mbuf), own);
	if (packet4->kind != PACKET_TCP || packet4->family != AF_INET6)
		return packet4;
	*packet6 = *packet4;
	return packet6;
}

static bool bad_addrs4(const struct rte_ipv4_hdr *ip)
{
	uint8_t first = ip->src_addr & 0xff; // the first byte on the wire, x86 and Arm alike

	return first == 0 || first == 127 || first >= 224 || ip->src_addr == ip->dst_addr;
}

static bool bad_addrs6(const struct rte_ipv6_hdr *ip)
{
	uint64_t from[2], to[2];

	memcpy(from, &ip->src_addr, sizeof(from));
	memcpy(to, &ip->dst_addr, sizeof(to));
	return *(const uint8_t *)&ip->src_addr == 0xff ||
		((from[0] ^ to[0]) | (from[1] ^ to[1])) == 0 ||
		(from[0] == 0 && (from[1] == 0 || from[1] == RTE_BE64(1))); // ::, ::1
}

bool packet_bad_address(const struct packet *packet)
{
	return packet->tcp->src_port == 0 || packet->tcp->dst_port == 0 ||
		(packet->family == AF_INET6 ? bad_addrs6(packet->ip6) : bad_addrs4(packet->ip4));
}

/* The sum of `size` bytes from `at` on, wherever segments end. (rte_raw_cksum_mbuf() of DPDK 22.11
 * loses a carry behind a segment of odd size.) */
static uint16_t sum_chain(const struct rte_mbuf *mbuf, uint32_t at, uint32_t size)
{
	uint32_t sum = 0;
	bool is_odd = false; // so many bytes have been summed

	for (; size != 0; mbuf = mbuf->next, at = 0) {
		uint32_t here = RTE_MIN(size, rte_pktmbuf_data_len(mbuf) - at);
		uint16_t part = checksum_fold(
			checksum_sum(rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, at), here, 0));
		sum += is_odd ? rte_bswap16(part) : part;
		is_odd ^= here & 1;
		size -= here;
	}
	return checksum_fold(sum);
}

bool packet_is_odd(const struct packet *packet)
{
	size_t plain = packet->family == AF_INET6 ? sizeof(struct rte_ipv6_hdr)
						  : sizeof(struct rte_ipv4_hdr);

	return (size_t)((const uint8_t *)packet->tcp - packet->l3) != plain ||
		tcp_option_signs(packet->tcp);
}

/* A source route among the options of an IPv4 header, or no end of them. */
static bool has_source_route(const uint8_t *option, const uint8_t *end)
{
	while (option < end && *option != IPOPT_EOL) {
		if (*option == IPOPT_LSRR || *option == IPOPT_SSRR)
			return true;
		if (*option == IPOPT_NOP)
			option++;
		else if (end - option < 2 || option[1] < 2)
			return true;
		else
			option += option[1];
	}
	return false;
}

/* What a receiver drops for its headers, unless it was told to take such. */
static bool is_refused(const struct packet *packet)
{
	const uint8_t *tcp = (const uint8_t *)packet->tcp;
	struct ip6_payload payload = {.at = sizeof(*packet->ip6)};

	if (tcp_option_signs(packet->tcp))
		return true;
	if (packet->family == AF_INET)
		return has_source_route(packet->l3 + sizeof(*packet->ip4), tcp);
	payload.protocol = packet->ip6->proto;
	ip6_skip_extensions(packet->l3, tcp - packet->l3, &payload);
	return payload.is_refused;
}

bool packet_may_be_taken(const struct packet *packet)
{
	return packet_sum_is_right(packet) && !(packet_is_odd(packet) && is_refused(packet));
}

bool packet_sum_is_right(const struct packet *packet)
{
	const uint8_t *addrs = packet_addrs(packet), *tcp = (const uint8_t *)packet->tcp;
	const uint8_t *destination = addrs + net_addr_size(packet->family);
	uint32_t at = tcp - rte_pktmbuf_mtod(packet->mbuf, const uint8_t *);
	uint32_t size = packet->ip_size - (tcp - packet->l3);

	if (packet->family == AF_INET && unlikely(checksum_ip(packet->l3, tcp - packet->l3) != 0))
		return false;
	if (likely(at + size <= rte_pktmbuf_data_len(packet->mbuf)))
		return checksum_l4(packet->family, addrs, destination, IPPROTO_TCP, tcp, size) == 0;
	uint16_t pseudo = ~checksum_l4(packet->family, addrs, destination, IPPROTO_TCP, NULL, 0);
	return checksum_fold(pseudo + htons(size) + sum_chain(packet->mbuf, at, size)) ==
		UINT16_MAX;
}
