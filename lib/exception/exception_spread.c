/* SPDX-License-Identifier: BSD-3-Clause */
#include "exception_spread.h"

#include <netinet/in.h>
#include <rte_ether.h>
#include <rte_ip.h>
#include <string.h>

#include "hash.h"

#define PORTS_SIZE 4 // source and destination, first in both headers

/* What tells flows apart, gathered from the frame. */
struct flow_bytes {
	uint8_t bytes[2 * 16 + PORTS_SIZE];
	unsigned size;
};

static void add(struct flow_bytes *flow, const void *data, unsigned size)
{
	memcpy(flow->bytes + flow->size, data, size);
	flow->size += size;
}

static void add_ports(struct flow_bytes *flow, uint8_t protocol, const uint8_t *l4, unsigned length)
{
	if ((protocol == IPPROTO_TCP || protocol == IPPROTO_UDP) && length >= PORTS_SIZE)
		add(flow, l4, PORTS_SIZE);
}

static void add_ipv4(struct flow_bytes *flow, const uint8_t *packet, unsigned length)
{
	const struct rte_ipv4_hdr *ip = (const void *)packet;
	unsigned header = rte_ipv4_hdr_len(ip);

	add(flow, &ip->src_addr, 2 * sizeof(ip->src_addr));
	// Only a first fragment has ports, and all must go the same way.
	if ((ip->fragment_offset &
		    rte_cpu_to_be_16(RTE_IPV4_HDR_OFFSET_MASK | RTE_IPV4_HDR_MF_FLAG)) == 0 &&
		header <= length)
		add_ports(flow, ip->next_proto_id, packet + header, length - header);
}

static void add_ipv6(struct flow_bytes *flow, const uint8_t *packet, unsigned length)
{
	const struct rte_ipv6_hdr *ip = (const void *)packet;

	add(flow, &ip->src_addr, sizeof(ip->src_addr) + sizeof(ip->dst_addr));
	add_ports(flow, ip->proto, packet + sizeof(*ip), length - sizeof(*ip));
}

uint32_t exception_spread_hash(const uint8_t *frame, unsigned length)
{
	static const struct hash_key no_secret;
	const struct rte_ether_hdr *ether = (const void *)frame;
	struct flow_bytes flow = {.size = 0};

	if (length < sizeof(*ether))
		return 0;
	const uint8_t *packet = frame + sizeof(*ether);
	length -= sizeof(*ether);
	if (ether->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) &&
		length >= sizeof(struct rte_ipv4_hdr))
		add_ipv4(&flow, packet, length);
	else if (ether->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV6) &&
		length >= sizeof(struct rte_ipv6_hdr))
		add_ipv6(&flow, packet, length);
	else
		add(&flow, &ether->dst_addr, sizeof(ether->dst_addr));
	return hash_siphash(&no_secret, flow.bytes, flow.size);
}
