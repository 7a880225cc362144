/* SPDX-License-Identifier: BSD-3-Clause */
#include "icmp.h"

#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

#include "checksum.h"
#include "ip6.h"

static bool is_error(sa_family_t family, uint8_t type)
{
	if (family == AF_INET6)
		return type >= ICMP6_DST_UNREACH && type <= ICMP6_PARAM_PROB;
	return type == ICMP_UNREACH || type == ICMP_SOURCEQUENCH || type == ICMP_TIMXCEED ||
		type == ICMP_PARAMPROB;
}

/*
 * Bytes of the quoted packet among the `held` ones behind the ICMP header. RFC 4884, 4: a length
 * attribute, in words of the family, says where extensions begin; 0 where there are none.
 */
static uint32_t quoted_size(sa_family_t family, const uint8_t *icmp, uint32_t held)
{
	uint32_t size = 0;

	if (family == AF_INET6 && icmp[0] != ICMP6_PACKET_TOO_BIG && icmp[0] != ICMP6_PARAM_PROB)
		size = icmp[4] * 8;
	else if (family == AF_INET && icmp[0] != ICMP_SOURCEQUENCH)
		size = icmp[5] * 4;
	return size == 0 ? held : RTE_MIN(size, held);
}

/*
 * The quoted IP header, of which `size` bytes are there: where the TCP header begins, or 0; then
 * `kind` says what it is instead. Its length field can't say where the quote ends, but a packet
 * that had no room for TCP by it was none.
 */
static uint32_t quoted_tcp4(const uint8_t *quote, uint32_t size, uint8_t *kind)
{
	const struct rte_ipv4_hdr *ip = (const struct rte_ipv4_hdr *)quote;
	uint32_t header_size;

	if (size < sizeof(*ip))
		return 0;
	header_size = (ip->version_ihl & 0xf) * 4;
	if (ip->version_ihl >> 4 != 4 || header_size < sizeof(*ip) || header_size > size)
		return 0;
	if (ip->next_proto_id != IPPROTO_TCP) {
		*kind = PACKET_OTHER;
		return 0;
	}
	if ((ip->fragment_offset & RTE_BE16(RTE_IPV4_HDR_OFFSET_MASK)) ||
		rte_be_to_cpu_16(ip->total_length) < header_size + sizeof(struct rte_tcp_hdr) ||
		checksum_ip(ip, header_size) != 0)
		return 0;
	return header_size;
}

static uint32_t quoted_tcp6(const uint8_t *quote, uint32_t size, uint8_t *kind)
{
	const struct rte_ipv6_hdr *ip = (const struct rte_ipv6_hdr *)quote;
	struct ip6_payload payload = {.at = sizeof(*ip)};

	if (size < sizeof(*ip) || quote[0] >> 4 != 6)
		return 0;
	payload.protocol = ip->proto;
	if (!ip6_skip_extensions(quote, size, &payload))
		return 0;
	if (payload.protocol != IPPROTO_TCP) {
		*kind = PACKET_OTHER;
		return 0;
	}
	if (payload.is_fragment ||
		sizeof(*ip) + rte_be_to_cpu_16(ip->payload_len) <
			payload.at + sizeof(struct rte_tcp_hdr))
		return 0;
	return payload.at;
}

/* Of the message, and of an IPv4 header before it. */
static bool is_checksum_right(const struct packet *packet, const uint8_t *icmp, uint32_t size)
{
	if (packet->family == AF_INET6)
		return checksum_l4(AF_INET6, &packet->ip6->src_addr, &packet->ip6->dst_addr,
			       IPPROTO_ICMPV6, icmp, size) == 0;
	return checksum_ip(packet->l3, icmp - packet->l3) == 0 &&
		checksum_ip(icmp, size) == 0; // the same sum, without a pseudo header
}

/* A host quotes what it was sent, so the quote's source is whom it answers. */
static bool is_for_quoted_source(const struct packet *packet)
{
	unsigned size = net_addr_size(packet->family);

	return memcmp((const uint8_t *)packet_addrs(packet) + size, icmp_quote_addrs(packet),
		       size) == 0;
}

void icmp_parse(struct packet *packet, const uint8_t *frame, uint32_t size, uint32_t l4)
{
	uint32_t end = (packet->l3 - frame) + packet->ip_size;
	uint8_t *icmp = (uint8_t *)frame + l4;

	packet->kind = PACKET_OTHER;
	if (l4 + ICMP_HEADER_SIZE > size || l4 + ICMP_HEADER_SIZE > end ||
		!is_error(packet->family, icmp[0]))
		return;
	packet->kind = PACKET_BAD_ICMP;
	packet->icmp = icmp;
	uint32_t quoted =
		quoted_size(packet->family, icmp, RTE_MIN(size, end) - l4 - ICMP_HEADER_SIZE);
	const uint8_t *quote = icmp + ICMP_HEADER_SIZE;
	uint32_t tcp = packet->family == AF_INET6 ? quoted_tcp6(quote, quoted, &packet->kind)
						  : quoted_tcp4(quote, quoted, &packet->kind);
	if (tcp == 0 || tcp + ICMP_QUOTE_TCP_MIN > quoted || end > size ||
		!is_for_quoted_source(packet) || !is_checksum_right(packet, icmp, end - l4))
		return;
	packet->tcp = (struct rte_tcp_hdr *)(quote + tcp);
	memcpy(&packet->ports, packet->tcp, sizeof(packet->ports));
	packet->payload = quoted - tcp;
	packet->kind = PACKET_ICMP_ERROR;
}
