/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rewrite of a packet of a known flow: addresses, ports, TTL and checksums in place. FullNAT
 * replaces the packet's tuple by the flow's other one, reversed; the family is switched here and
 * nowhere above.
 *
 * Runs on the worker that has the packet.
 */
#ifndef WEIR_NAT_H
#define WEIR_NAT_H

#include <rte_branch_prediction.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "checksum.h"
#include "flow.h"
#include "packet.h"

static inline uint64_t nat_reverse64(uint64_t pair)
{
	return pair << 32 | pair >> 32;
}

static inline uint32_t nat_reverse32(uint32_t pair)
{
	return pair << 16 | pair >> 16;
}

/* Return the delta of one hop less in the header's checksum: the 16-bit word of TTL and protocol
 * loses 1 in its first byte. */
static inline uint32_t nat_ttl_delta(void)
{
	return (uint16_t)~RTE_BE16(0x0100);
}

/* Rewrite the IPv4 header, and return the delta of the addresses, which the IP and
 * the TCP checksum share. */
static inline uint32_t nat_rewrite4(
	struct rte_ipv4_hdr *ip, const struct flow4 *record, enum flow_direction direction)
{
	uint64_t from, to;

	memcpy(&from, &ip->src_addr, sizeof(from));
	memcpy(&to, &record->addr[(1 - direction) * 2], sizeof(to));
	to = nat_reverse64(to);
	uint32_t delta = checksum_delta64(from, to);
	memcpy(&ip->src_addr, &to, sizeof(to));
	ip->time_to_live--;
	ip->hdr_checksum = checksum_apply(ip->hdr_checksum, delta + nat_ttl_delta());
	return delta;
}

/* Rewrite the IPv6 header. It has no checksum; that of TCP changes by the flow's delta. */
static inline void nat_rewrite6(
	struct rte_ipv6_hdr *ip, const struct flow6 *record, enum flow_direction direction)
{
	const uint8_t(*other)[16] = &record->addr[(1 - direction) * 2];

	memcpy(&ip->src_addr, other[1], sizeof(ip->src_addr));
	memcpy(&ip->dst_addr, other[0], sizeof(ip->dst_addr));
	ip->hop_limits--;
}

/* Translate a PACKET_TCP of that family that matched the flow in that direction. Its TTL must be
 * above 1. */
static __rte_always_inline void nat_fullnat(const struct packet *packet, struct flow *flow,
	enum flow_direction direction, sa_family_t family)
{
	struct rte_tcp_hdr *tcp = packet->tcp;
	uint32_t delta, ports;

	memcpy(&ports, &flow->port[(1 - direction) * 2], sizeof(ports));
	ports = nat_reverse32(ports);
	if (family == AF_INET) {
		delta = nat_rewrite4(packet->ip4, flow4_of(flow), direction) +
			checksum_delta32(packet->ports, ports);
	} else {
		nat_rewrite6(packet->ip6, flow6_of(flow), direction);
		delta = (uint16_t)(flow6_of(flow)->delta ^ -direction); // negative, of a backend's
	}
	memcpy(tcp, &ports, sizeof(ports));
	tcp->cksum = checksum_apply(tcp->cksum, delta);
}

/* Return the packet's TTL or hop limit. */
static inline uint8_t nat_ttl(const struct packet *packet, sa_family_t family)
{
	return family == AF_INET6 ? packet->ip6->hop_limits : packet->ip4->time_to_live;
}

#endif
