/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Frames for tests: built and read without any code of the module under test, checksums by the
 * plain definition. packets_mbuf() puts a frame into malloc memory that ends where the frame ends,
 * so that AddressSanitizer sees every over-read; no EAL, no mempool.
 */
#ifndef WEIR_TEST_PACKETS_H
#define WEIR_TEST_PACKETS_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct rte_mbuf;

enum {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_PSH = 0x08,
	TCP_ACK = 0x10,
	TCP_URG = 0x20,
	TCP_ECE = 0x40,
	TCP_CWR = 0x80,
};

enum { PACKETS_SIZE_MAX = 2048, PACKETS_HEADROOM = 128, PACKETS_IP_OFFSET = 14 };

/* A TCP segment and what carries it. */
struct segment {
	struct net_mac from, to;
	struct net_addr src, dst;
	uint16_t sport, dport; // host byte order, as all numbers here
	uint32_t seq, ack;
	uint8_t flags, ttl;
	uint16_t window, urgent;
	const void *options;   // of TCP
	unsigned options_size; // a multiple of 4, at most 40
	const void *payload;   // NULL = a pattern
	unsigned payload_size;
};

/* Write the frame, checksums and all; returns its size. */
unsigned packets_build(const struct segment *segment, void *frame);

/* An ICMP error and what it quotes. */
struct icmp_error {
	struct net_mac from, to;
	struct net_addr src, dst;
	uint8_t type, code, ttl;
	uint32_t rest;     // of the ICMP header, host byte order: MTU, pointer, RFC 4884's length
	const void *quote; // an IP packet, and what else is to follow
	unsigned quote_size;
};

/* Write the frame, checksums and all; returns its size. */
unsigned packets_build_error(const struct icmp_error *error, void *frame);

/* What a frame says; `options` and `payload` point into it. False when it isn't TCP over IP, all
 * there. IPv4 options and IPv6 extension headers are refused. */
bool packets_read(const void *frame, unsigned size, struct segment *segment);

/* Whether all checksums of an IPv4 or IPv6 frame are right: of the IPv4 header, and of TCP, ICMP or
 * ICMPv6 when it is one of these. `l4_offset` 0 = right behind a plain IP header. */
bool packets_checksums_right(const void *frame, unsigned size, unsigned l4_offset);

/* Whether the sum of TCP, ICMP or ICMPv6 at that offset is right. */
bool packets_l4_right(const void *frame, unsigned l4_offset, uint8_t protocol);
/* Set the checksum of an ICMP or ICMPv6 message at that offset anew. */
void packets_seal_icmp(void *frame, unsigned l4_offset);

/* Make a frame without options or extension headers a fragment: offset and flags as its family has
 * them. Returns its size. */
unsigned packets_make_fragment(void *frame, unsigned size, uint16_t field);

/* The checksum of TCP over its pseudo header as it should be, network byte order. */
uint16_t packets_tcp_checksum(const void *frame, unsigned l4_offset);
/* RFC 1071's sum over the bytes, network byte order, complemented. */
uint16_t packets_checksum(const void *bytes, unsigned size);

/* Set the IPv4 header's checksum (of `size` bytes) anew. */
void packets_seal_ip4(void *frame, unsigned size);

/* A buffer of its own with a copy of the frame. packets_free() takes it back. */
struct rte_mbuf *packets_mbuf(const void *frame, unsigned size);
void packets_free(struct rte_mbuf *mbuf);

/* xorshift64*; the state must not be 0. */
uint64_t packets_random(uint64_t *state);

/* Addresses from text; the test ends when it is wrong. */
struct net_addr packets_addr(const char *text);

#endif
