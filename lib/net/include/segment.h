/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A TCP segment of Weir's own, without options or payload, behind a plain IP header: a RST. Written
 * word by word with its checksums summed on the way, never read back: a load of a word across the
 * narrower stores that made it waits for all of them.
 *
 * Pure code on the frame; any thread.
 */
#ifndef WEIR_SEGMENT_H
#define WEIR_SEGMENT_H

#include <rte_ip.h>
#include <rte_tcp.h>
#include <stdint.h>
#include <string.h>

#include "addr.h"
#include "checksum.h"

#define SEGMENT_TTL 64

struct segment_fields {
	const uint8_t *source; // 4 or 16 bytes, by the family; may lie where it is written to
	const uint8_t *destination;
	uint32_t ports; // source and destination, as in the header
	uint32_t seq;   // network byte order
	uint32_t ack;
	uint8_t flags;
};

/* Return the size of the IP packet: both headers. */
static inline unsigned segment_size(sa_family_t family)
{
	return (family == AF_INET6 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr)) +
		sizeof(struct rte_tcp_hdr);
}

static inline uint64_t segment_word64(const uint8_t *bytes)
{
	uint64_t word;

	memcpy(&word, bytes, sizeof(word));
	return word;
}

static inline uint32_t segment_word32(const uint8_t *bytes)
{
	uint32_t word;

	memcpy(&word, bytes, sizeof(word));
	return word;
}

/* Write the IPv4 header, and return the 64-bit sum of the addresses. */
static inline uint64_t segment_write_ip4(
	struct rte_ipv4_hdr *ip, const struct segment_fields *fields)
{
	uint32_t source = segment_word32(fields->source);
	uint32_t destination = segment_word32(fields->destination);
	const uint32_t size = RTE_BE32(0x45000000 | (sizeof(*ip) + sizeof(struct rte_tcp_hdr)));
	const uint32_t fragment = RTE_BE32(RTE_IPV4_HDR_DF_FLAG);
	const uint32_t hops = RTE_BE32(SEGMENT_TTL << 24 | IPPROTO_TCP << 16);
	uint64_t addrs = (uint64_t)source + destination;

	memcpy(ip, &size, 4);
	memcpy(&ip->packet_id, &fragment, 4);
	memcpy(&ip->time_to_live, &hops, 4);
	ip->hdr_checksum =
		~checksum_fold(checksum_fold64((uint64_t)size + fragment + hops + addrs));
	ip->src_addr = source;
	ip->dst_addr = destination;
	return addrs;
}

/* Write the IPv6 header, and return the 64-bit sum of the addresses. */
static inline uint64_t segment_write_ip6(
	struct rte_ipv6_hdr *ip, const struct segment_fields *fields)
{
	uint64_t source[2] = {segment_word64(fields->source), segment_word64(fields->source + 8)};
	uint64_t destination[2] = {
		segment_word64(fields->destination), segment_word64(fields->destination + 8)};
	const uint64_t head = RTE_BE64(
		0x60ull << 56 | sizeof(struct rte_tcp_hdr) << 16 | IPPROTO_TCP << 8 | SEGMENT_TTL);

	memcpy(ip, &head, sizeof(head));
	memcpy(&ip->src_addr, source, sizeof(source));
	memcpy(&ip->dst_addr, destination, sizeof(destination));
	return checksum_add64(checksum_add64(source[0], source[1]),
		checksum_add64(destination[0], destination[1]));
}

/* Write IP and TCP headers at `l3`, where segment_size() bytes are free. */
static inline void segment_write(
	uint8_t *l3, sa_family_t family, const struct segment_fields *fields)
{
	uint8_t *tcp = l3 + segment_size(family) - sizeof(struct rte_tcp_hdr);
	uint32_t ports = fields->ports, seq = fields->seq, ack = fields->ack;
	const uint32_t flags = rte_cpu_to_be_32(
		(sizeof(struct rte_tcp_hdr) / 4u) << 28 | (uint32_t)fields->flags << 16);
	const uint64_t pseudo =
		RTE_BE32(IPPROTO_TCP) + (uint64_t)RTE_BE32(sizeof(struct rte_tcp_hdr));
	uint64_t sum = family == AF_INET6 ? segment_write_ip6((struct rte_ipv6_hdr *)l3, fields)
					  : segment_write_ip4((struct rte_ipv4_hdr *)l3, fields);

	sum = checksum_add64(sum, pseudo + ports + seq + ack + flags);
	memcpy(tcp, &ports, 4);
	memcpy(tcp + 4, &seq, 4);
	memcpy(tcp + 8, &ack, 4);
	memcpy(tcp + 12, &flags, 4);
	const uint16_t last[2] = {~checksum_fold(checksum_fold64(sum)), 0}; // no urgent pointer
	memcpy(tcp + 16, last, sizeof(last));
}

#endif
