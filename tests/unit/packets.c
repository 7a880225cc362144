/* SPDX-License-Identifier: BSD-3-Clause */
#include "packets.h"

#include <assert.h>
#include <rte_mbuf.h>
#include <stdlib.h>

#ifdef __SANITIZE_THREAD__
/* DPDK 22.11 reads acked_token of the RCU variable without an atomic; that is its own affair. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
	return "race:rte_rcu_qsbr_check\nrace:__rte_rcu_qsbr_check_selective\n";
}
#endif

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

static uint16_t get16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)get16(at) << 16 | get16(at + 2);
}

/* RFC 1071 as it is written: byte pairs in network order. */
static uint32_t sum(const uint8_t *bytes, unsigned size, uint32_t start)
{
	for (unsigned i = 0; i < size; i++) {
		start += i % 2 == 0 ? bytes[i] << 8 : bytes[i];
		start = (start & 0xffff) + (start >> 16);
	}
	return start;
}

static bool is_v6(const uint8_t *frame)
{
	return get16(frame + 12) == 0x86dd;
}

/* Of all behind the IP header, over the pseudo header of the family; 0 when it is right. */
static uint16_t l4_sum(const uint8_t *frame, unsigned l4, uint8_t protocol)
{
	const uint8_t *ip = frame + PACKETS_IP_OFFSET;
	unsigned addrs = is_v6(frame) ? 8 : 12, addrs_size = is_v6(frame) ? 32 : 8;
	unsigned end = is_v6(frame) ? 40 + get16(ip + 4) : get16(ip + 2);
	unsigned size = PACKETS_IP_OFFSET + end - l4;
	uint8_t pseudo[40] = {0};

	memcpy(pseudo, ip + addrs, addrs_size);
	put16(pseudo + addrs_size, protocol); // the sum is the same wherever a word stands
	put16(pseudo + addrs_size + 2, size);
	return ~sum(frame + l4, size, sum(pseudo, sizeof(pseudo), 0));
}

uint16_t packets_checksum(const void *bytes, unsigned size)
{
	return htons((uint16_t)~sum(bytes, size, 0));
}

uint16_t packets_tcp_checksum(const void *frame, unsigned l4_offset)
{
	uint8_t copy[PACKETS_SIZE_MAX];
	const uint8_t *ip = (const uint8_t *)frame + PACKETS_IP_OFFSET;
	unsigned end = is_v6(frame) ? 40 + get16(ip + 4) : get16(ip + 2);

	assert(PACKETS_IP_OFFSET + end <= sizeof(copy));
	memcpy(copy, frame, PACKETS_IP_OFFSET + end);
	put16(copy + l4_offset + 16, 0);
	return htons(l4_sum(copy, l4_offset, IPPROTO_TCP));
}

void packets_seal_ip4(void *frame, unsigned size)
{
	uint8_t *ip = (uint8_t *)frame + PACKETS_IP_OFFSET;

	put16(ip + 10, 0);
	put16(ip + 10, ~sum(ip, size, 0));
}

unsigned packets_make_fragment(void *frame, unsigned size, uint16_t field)
{
	uint8_t *ip = (uint8_t *)frame + PACKETS_IP_OFFSET, *l4 = ip + 40;

	if (ip[0] >> 4 == 4) {
		put16(ip + 6, field);
		packets_seal_ip4(frame, 20);
		return size;
	}
	memmove(l4 + 8, l4, size - PACKETS_IP_OFFSET - 40);
	memset(l4, 0, 8);
	l4[0] = ip[6];
	put16(l4 + 2, field);
	ip[6] = IPPROTO_FRAGMENT;
	put16(ip + 4, size - PACKETS_IP_OFFSET - 40 + 8);
	return size + 8;
}

/* The link and IP headers in front of `l4_size` bytes; returns their size. */
static unsigned build_ip(uint8_t *frame, const struct net_mac *from, const struct net_mac *to,
	const struct net_addr *src, const struct net_addr *dst, uint8_t ttl, uint8_t protocol,
	unsigned l4_size)
{
	uint8_t *ip = frame + PACKETS_IP_OFFSET;
	bool v6 = src->family == AF_INET6;

	memcpy(frame, to, 6);
	memcpy(frame + 6, from, 6);
	put16(frame + 12, v6 ? 0x86dd : 0x0800);
	if (v6) {
		memset(ip, 0, 40);
		ip[0] = 0x60;
		put16(ip + 4, l4_size);
		ip[6] = protocol;
		ip[7] = ttl;
		memcpy(ip + 8, src->v6, 16);
		memcpy(ip + 24, dst->v6, 16);
		return PACKETS_IP_OFFSET + 40;
	}
	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, 20 + l4_size);
	put16(ip + 4, 0x1234);
	put16(ip + 6, 0x4000);
	ip[8] = ttl;
	ip[9] = protocol;
	memcpy(ip + 12, &src->v4, 4);
	memcpy(ip + 16, &dst->v4, 4);
	put16(ip + 10, ~sum(ip, 20, 0));
	return PACKETS_IP_OFFSET + 20;
}

unsigned packets_build(const struct segment *segment, void *bytes)
{
	uint8_t *frame = bytes;
	unsigned header = 20 + segment->options_size;
	unsigned tcp_size = header + segment->payload_size;

	unsigned l4 = build_ip(frame, &segment->from, &segment->to, &segment->src, &segment->dst,
		segment->ttl, IPPROTO_TCP, tcp_size);
	assert(l4 + tcp_size <= PACKETS_SIZE_MAX && segment->options_size % 4 == 0);

	uint8_t *tcp = frame + l4;
	put16(tcp, segment->sport);
	put16(tcp + 2, segment->dport);
	put32(tcp + 4, segment->seq);
	put32(tcp + 8, segment->ack);
	tcp[12] = header / 4 << 4;
	tcp[13] = segment->flags;
	put16(tcp + 14, segment->window);
	put16(tcp + 16, 0);
	put16(tcp + 18, segment->urgent);
	if (segment->options_size != 0)
		memcpy(tcp + 20, segment->options, segment->options_size);
	for (unsigned i = 0; i < segment->payload_size; i++)
		tcp[header + i] = segment->payload != NULL ? ((const uint8_t *)segment->payload)[i]
							   : (uint8_t)(segment->seq + i * 7);
	put16(tcp + 16, l4_sum(frame, l4, IPPROTO_TCP));
	return l4 + tcp_size;
}

unsigned packets_build_error(const struct icmp_error *error, void *bytes)
{
	uint8_t *frame = bytes;
	bool v6 = error->src.family == AF_INET6;
	unsigned l4 = build_ip(frame, &error->from, &error->to, &error->src, &error->dst,
		error->ttl, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP, 8 + error->quote_size);

	assert(l4 + 8 + error->quote_size <= PACKETS_SIZE_MAX);
	frame[l4] = error->type;
	frame[l4 + 1] = error->code;
	put32(frame + l4 + 4, error->rest);
	memcpy(frame + l4 + 8, error->quote, error->quote_size);
	packets_seal_icmp(frame, l4);
	return l4 + 8 + error->quote_size;
}

bool packets_read(const void *bytes, unsigned size, struct segment *segment)
{
	const uint8_t *frame = bytes, *ip = frame + PACKETS_IP_OFFSET;

	memset(segment, 0, sizeof(*segment));
	if (size < PACKETS_IP_OFFSET + 20)
		return false;
	bool v6 = is_v6(frame);
	unsigned l4 = PACKETS_IP_OFFSET + (v6 ? 40 : 20);
	if ((!v6 && get16(frame + 12) != 0x0800) || size < l4 + 20 || ip[0] >> 4 != (v6 ? 6 : 4) ||
		(!v6 && ip[0] != 0x45) || ip[v6 ? 6 : 9] != IPPROTO_TCP)
		return false;
	unsigned end = PACKETS_IP_OFFSET + (v6 ? 40 + get16(ip + 4) : get16(ip + 2));
	const uint8_t *tcp = frame + l4;
	unsigned header = (tcp[12] >> 4) * 4;
	if (end > size || header < 20 || l4 + header > end)
		return false;

	memcpy(&segment->to, frame, 6);
	memcpy(&segment->from, frame + 6, 6);
	segment->src.family = segment->dst.family = v6 ? AF_INET6 : AF_INET;
	memcpy(segment->src.v6, ip + (v6 ? 8 : 12), v6 ? 16 : 4);
	memcpy(segment->dst.v6, ip + (v6 ? 24 : 16), v6 ? 16 : 4);
	segment->ttl = ip[v6 ? 7 : 8];
	segment->sport = get16(tcp);
	segment->dport = get16(tcp + 2);
	segment->seq = get32(tcp + 4);
	segment->ack = get32(tcp + 8);
	segment->flags = tcp[13];
	segment->window = get16(tcp + 14);
	segment->urgent = get16(tcp + 18);
	segment->options = tcp + 20;
	segment->options_size = header - 20;
	segment->payload = tcp + header;
	segment->payload_size = end - l4 - header;
	return true;
}

/* IPv4's has no pseudo header. */
static uint16_t icmp4_sum(const uint8_t *frame, unsigned l4)
{
	unsigned end = PACKETS_IP_OFFSET + get16(frame + PACKETS_IP_OFFSET + 2);

	return ~sum(frame + l4, end - l4, 0);
}

bool packets_l4_right(const void *frame, unsigned l4_offset, uint8_t protocol)
{
	if (protocol == IPPROTO_ICMP)
		return icmp4_sum(frame, l4_offset) == 0;
	return l4_sum(frame, l4_offset, protocol) == 0;
}

void packets_seal_icmp(void *bytes, unsigned l4_offset)
{
	uint8_t *frame = bytes;

	put16(frame + l4_offset + 2, 0);
	put16(frame + l4_offset + 2,
		is_v6(frame) ? l4_sum(frame, l4_offset, IPPROTO_ICMPV6)
			     : icmp4_sum(frame, l4_offset));
}

bool packets_checksums_right(const void *bytes, unsigned size, unsigned l4_offset)
{
	const uint8_t *frame = bytes, *ip = frame + PACKETS_IP_OFFSET;
	bool v6 = is_v6(frame);
	uint8_t protocol = ip[v6 ? 6 : 9];
	unsigned header = v6 ? 40 : (ip[0] & 0xf) * 4;
	unsigned l4 = l4_offset != 0 ? l4_offset : PACKETS_IP_OFFSET + header;
	unsigned end = PACKETS_IP_OFFSET + (v6 ? 40 + get16(ip + 4) : get16(ip + 2));

	if (end > size || l4 > end || (!v6 && (uint16_t)~sum(ip, header, 0) != 0))
		return false;
	if (l4_offset != 0)
		protocol = IPPROTO_TCP;
	if (protocol == IPPROTO_ICMP || protocol == IPPROTO_TCP || protocol == IPPROTO_ICMPV6)
		return packets_l4_right(frame, l4, protocol);
	return true;
}

struct rte_mbuf *packets_mbuf(const void *frame, unsigned size)
{
	struct rte_mbuf *mbuf;

	if (posix_memalign((void **)&mbuf, 64, sizeof(*mbuf)) != 0)
		abort();
	memset(mbuf, 0, sizeof(*mbuf));
	mbuf->buf_addr = malloc(PACKETS_HEADROOM + size);
	if (mbuf->buf_addr == NULL)
		abort();
	mbuf->buf_len = PACKETS_HEADROOM + size;
	mbuf->data_off = PACKETS_HEADROOM;
	mbuf->data_len = size;
	mbuf->pkt_len = size;
	mbuf->nb_segs = 1;
	rte_mbuf_refcnt_set(mbuf, 1);
	if (size != 0)
		memcpy(rte_pktmbuf_mtod(mbuf, void *), frame, size);
	return mbuf;
}

void packets_free(struct rte_mbuf *mbuf)
{
	free(mbuf->buf_addr);
	free(mbuf);
}

uint64_t packets_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1d;
}

struct net_addr packets_addr(const char *text)
{
	struct net_addr addr;

	memset(&addr, 0, sizeof(addr));
	if (net_addr_parse(&addr, text) != 0)
		abort();
	return addr;
}
