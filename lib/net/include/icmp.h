/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP errors that quote a TCP packet, of both families (RFC 792, RFC 4443).
 *
 * An error is for the sender of the packet that it quotes, as much of it as its own sender liked:
 * an IP header and 8 bytes at least, which hold the ports and the sequence number; with RFC 4884
 * something that isn't the packet may follow. All bounds and checksums are checked here, once: what
 * icmp_parse() calls PACKET_ICMP_ERROR
 *   - lies in the first segment, whole, and its checksum is right;
 *   - quotes an IP header that is all there (of IPv4: with a right checksum) and at least
 *     ICMP_QUOTE_TCP_MIN bytes of the TCP packet behind it (RFC 5508, REQ-3);
 *   - is sent to the source of what it quotes.
 *
 * Redirects are left to the kernel in both families: they are about the next hop on Weir's own
 * segment, which is nothing that the end of a connection could know.
 *
 * Pure code on the frame; any thread.
 */
#ifndef WEIR_ICMP_H
#define WEIR_ICMP_H

#include <stdint.h>

#include "packet.h"

#define ICMP_HEADER_SIZE 8
#define ICMP_QUOTE_TCP_MIN 8

/*
 * Parse the message at offset `l4` of the frame, whose first segment has `size` bytes; the
 * IP header is parsed, neither a fragment nor longer than the frame. Sets `kind`:
 * PACKET_OTHER for what is the kernel's, PACKET_BAD_ICMP, or PACKET_ICMP_ERROR with `icmp`,
 * `tcp`, `ports` and `payload`.
 */
void icmp_parse(struct packet *packet, const uint8_t *frame, uint32_t size, uint32_t l4);

/* Return the IP header that a PACKET_ICMP_ERROR quotes. */
static inline uint8_t *icmp_quote(const struct packet *packet)
{
	return packet->icmp + ICMP_HEADER_SIZE;
}

/* Return the quoted source and destination addresses, one behind the other: 8 or 32 bytes. */
static inline uint8_t *icmp_quote_addrs(const struct packet *packet)
{
	return icmp_quote(packet) +
		(packet->family == AF_INET6 ? offsetof(struct rte_ipv6_hdr, src_addr)
					    : offsetof(struct rte_ipv4_hdr, src_addr));
}

#endif
