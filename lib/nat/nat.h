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

/* One hop less, in the header's checksum, too: the 16-bit word of TTL and protocol loses 1 in its
 * first byte. */
static inline uint32_t nat_ttl_delta(void)
{
	return (uint16_t)~RTE_BE16(0x0100);
}

/* Return the 64-bit sum of the addresses' change. */
static inline uint64_t nat_rewrite4(struct rte_ipv4_hdr *ip, const struct flow4 *record,
	enum flow_direction direction)
{
	uint64_t from, to;

	memcpy(&from, &ip->src_addr, sizeof(from));
	memcpy(&to, &record->addr[(1 - direction) * 2], sizeof(to));
	to = nat_reverse64(to);
	uint64_t sum = checksum_add64(~from, to);
	memcpy(&ip->src_addr, &to, sizeof(to));
	ip->time_to_live--;
	ip->hdr_checksum =
		checksum_apply64(ip->hdr_checksum, checksum_add64(sum, nat_ttl_delta()));
	return sum;
}

/* Replace an address; word by word, so that none goes through memory. Returns `sum` with the change. */
static inline uint64_t nat_replace16(uint8_t *field, const uint8_t *address, uint64_t sum)
{
	for (unsigned i = 0; i < 16; i += 8) {
		uint64_t from, to;
		memcpy(&from, field + i, sizeof(from));
		memcpy(&to, address + i, sizeof(to));
		sum = checksum_add64(checksum_add64(sum, ~from), to);
		memcpy(field + i, &to, sizeof(to));
	}
	return sum;
}

static inline uint64_t nat_rewrite6(struct rte_ipv6_hdr *ip, const struct flow6 *record,
	enum flow_direction direction)
{
	const uint8_t(*other)[16] = &record->addr[(1 - direction) * 2];
	uint64_t sum = 0;

	sum = nat_replace16((uint8_t *)&ip->src_addr, other[1], sum);
	sum = nat_replace16((uint8_t *)&ip->dst_addr, other[0], sum);
	ip->hop_limits--;
	return sum;
}

/* Translate a PACKET_TCP of that family that matched the flow in that direction. Its TTL must be
 * above 1. */
static __rte_always_inline void nat_fullnat(const struct packet *packet, struct flow *flow,
	enum flow_direction direction, sa_family_t family)
{
	struct rte_tcp_hdr *tcp = packet->tcp;
	uint64_t sum;
	uint32_t ports;

	if (family == AF_INET)
		sum = nat_rewrite4(packet->ip4, flow4_of(flow), direction);
	else
		sum = nat_rewrite6(packet->ip6, flow6_of(flow), direction);
	memcpy(&ports, &flow->port[(1 - direction) * 2], sizeof(ports));
	ports = nat_reverse32(ports);
	sum = checksum_add64(sum, (uint64_t)(uint32_t)~packet->ports + ports);
	memcpy(tcp, &ports, sizeof(ports));
	tcp->cksum = checksum_apply64(tcp->cksum, sum);
}

/* The packet's TTL or hop limit. */
static inline uint8_t nat_ttl(const struct packet *packet, sa_family_t family)
{
	return family == AF_INET6 ? packet->ip6->hop_limits : packet->ip4->time_to_live;
}

#endif
