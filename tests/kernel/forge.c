/* SPDX-License-Identifier: BSD-3-Clause */
#include "forge.h"

#include <string.h>

#include "flow_offsets.h"

const char *const forge_kind_names[FORGE_KINDS] = {
	"syn",
	"syn-ack",
	"fin",
	"rst",
	"rst-ack",
	"data",
	"ack",
	"probe",
	"keepalive",
	"no-flags",
	"unreachable",
	"too-big",
};

const char *const forge_oddity_names[FORGE_ODDITIES] = {
	"right",
	"in-window",
	"out-of-window",
	"old",
	"at-ack",
	"ack-ahead",
	"ack-old",
	"wrong-sum",
	"wrong-ip-sum",
	"md5",
	"ao",
	"old-timestamp",
	"ip-options",
	"source-route",
	"ah",
	"urgent",
	"with-data",
	"other-mac",
	"other-mac,wrong-sum",
};

static const uint8_t flags_of[FORGE_KINDS] = {
	[FORGE_SYN] = TCP_SYN,
	[FORGE_SYN_ACK] = TCP_SYN | TCP_ACK,
	[FORGE_FIN] = TCP_FIN | TCP_ACK,
	[FORGE_RST] = TCP_RST,
	[FORGE_RST_ACK] = TCP_RST | TCP_ACK,
	[FORGE_DATA] = TCP_ACK | TCP_PSH,
	[FORGE_ACK] = TCP_ACK,
	[FORGE_PROBE] = TCP_ACK,
	[FORGE_KEEPALIVE] = TCP_ACK,
};

enum { DATA = 100, MORE_DATA = 1000, LOW_MTU_4 = 1000, LOW_MTU_6 = 1280, AH_SIZE = 24 };

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

static bool is_icmp(enum forge_kind kind)
{
	return kind >= FORGE_UNREACHABLE;
}

static uint32_t odd_number(uint32_t number, enum forge_oddity odd)
{
	switch (odd) {
	case FORGE_IN_WINDOW:
		return number + 10;
	case FORGE_OUT_OF_WINDOW:
		return number + (1u << 30);
	case FORGE_OLD:
		return number - 1000;
	default:
		return number;
	}
}

/* All zero where the flow is gone. */
static struct flow_offsets offsets_of(const struct trial *trial)
{
	const struct flow *flow = connection_flow(&trial->c);

	return flow != NULL ? flow_offsets(flow) : (struct flow_offsets){0};
}

/* What the receiver has acknowledged, in the sender's numbers. */
static uint32_t at_ack(const struct trial *trial, enum flow_direction from)
{
	return trial->end[1 - from].known - offsets_of(trial).seq[from];
}

/* The receiver's first packet that isn't acknowledged, in the sender's numbers. */
static uint32_t first_unacked(const struct trial *trial, enum flow_direction from)
{
	const struct trial_end *sender = &trial->end[from], *receiver = &trial->end[1 - from];

	if (sender->known == 0 || receiver->known == 0) // the SYN
		return receiver->first + offsets_of(trial).seq[1 - from];
	return sender->known;
}

/* The number that a kind of segment has when nothing is odd about it. */
static uint32_t right_number(
	const struct trial *trial, enum flow_direction from, enum forge_kind kind)
{
	const struct trial_end *sender = &trial->end[from];

	switch (kind) {
	case FORGE_SYN:
		// Of a connection that is over, the next one's: above all of that.
		if (tcp_state_closed(connection_state(&trial->c)))
			return sender->next + 70000;
		return sender->first;
	case FORGE_SYN_ACK:
		return sender->first;
	case FORGE_FIN:
		return sender->next - sender->has_closed; // the same again
	case FORGE_PROBE:
	case FORGE_KEEPALIVE:
		return sender->next - 1;
	default:
		return sender->next;
	}
}

/* --- options --- */

static unsigned add_option(
	struct segment *segment, uint8_t *options, uint8_t kind, const void *body, unsigned size)
{
	uint8_t *at = options + segment->options_size;
	unsigned padding = -(size + 2) & 3;

	memset(at, 1, padding); // NOP
	at[padding] = kind;
	at[padding + 1] = size + 2;
	memcpy(at + padding + 2, body, size);
	segment->options = options;
	segment->options_size += padding + size + 2;
	return segment->options_size;
}

static void add_options(const struct trial *trial, struct segment *segment, uint8_t *options,
	enum flow_direction from, enum forge_oddity odd)
{
	static const uint8_t digest[18] = {1, 1, 0xd1, 0x9e, 0x57};
	uint8_t timestamps[8];

	if (trial->has_ts) {
		uint32_t echo = trial->end[1 - from].ts + offsets_of(trial).ts[1 - from];
		put32(timestamps, trial->end[from].ts - (odd == FORGE_OLD_TIMESTAMP ? 100000 : 0));
		put32(timestamps + 4, segment->flags & TCP_ACK ? echo : 0);
		add_option(segment, options, 8, timestamps, sizeof(timestamps));
	}
	if (odd == FORGE_MD5)
		add_option(segment, options, 19, digest, 16);
	if (odd == FORGE_AO)
		add_option(segment, options, 29, digest, 14);
}

/* --- around the segment --- */

/* Make room between the IP header and what follows; returns where it is. */
static uint8_t *insert(uint8_t *frame, unsigned *size, unsigned at, unsigned count)
{
	memmove(frame + at + count, frame + at, *size - at);
	memset(frame + at, 0, count);
	*size += count;
	return frame + at;
}

static void insert_options4(uint8_t *frame, unsigned *size, const void *options, unsigned count)
{
	uint8_t *ip = frame + PACKETS_IP_OFFSET;

	memcpy(insert(frame, size, PACKETS_IP_OFFSET + 20, count), options, count);
	ip[0] += count / 4;
	put16(ip + 2, *size - PACKETS_IP_OFFSET);
	packets_seal_ip4(frame, 20 + count);
}

/* An extension header of IPv6; its first byte becomes the next header. */
static void insert_header6(
	uint8_t *frame, unsigned *size, uint8_t type, const void *header, unsigned count)
{
	uint8_t *ip = frame + PACKETS_IP_OFFSET;
	uint8_t *at = insert(frame, size, PACKETS_IP_OFFSET + 40, count);

	memcpy(at, header, count);
	at[0] = ip[6];
	ip[6] = type;
	put16(ip + 4, *size - PACKETS_IP_OFFSET - 40);
}

/* An authentication header, without a proof of anything (RFC 4302). */
static void insert_ah(uint8_t *frame, unsigned *size, bool v6)
{
	uint8_t header[AH_SIZE] = {IPPROTO_TCP, AH_SIZE / 4 - 2, 0, 0, 0, 0, 1, 0};
	uint8_t *ip = frame + PACKETS_IP_OFFSET;

	if (v6) {
		insert_header6(frame, size, IPPROTO_AH, header, sizeof(header));
		return;
	}
	header[0] = ip[9];
	memcpy(insert(frame, size, PACKETS_IP_OFFSET + 20, AH_SIZE), header, AH_SIZE);
	ip[9] = IPPROTO_AH;
	put16(ip + 2, *size - PACKETS_IP_OFFSET);
	packets_seal_ip4(frame, 20);
}

/* Through another router yet to come (RFC 791 loose source route, RFC 2460 type 0). */
static void insert_source_route(uint8_t *frame, unsigned *size, bool v6)
{
	static const uint8_t option4[8] = {131, 7, 4, 203, 0, 113, 9, 0};
	uint8_t header6[24] = {0, 2, 0, 1, [8] = 0x20, 0x01, 0x0d, 0xb8, [23] = 9};

	if (v6)
		insert_header6(frame, size, IPPROTO_ROUTING, header6, sizeof(header6));
	else
		insert_options4(frame, size, option4, sizeof(option4));
}

static void insert_idle_options(uint8_t *frame, unsigned *size, bool v6)
{
	static const uint8_t options4[4] = {1, 1, 1, 0};
	static const uint8_t header6[8] = {0, 0, 1, 4}; // PadN

	if (v6)
		insert_header6(frame, size, IPPROTO_DSTOPTS, header6, sizeof(header6));
	else
		insert_options4(frame, size, options4, sizeof(options4));
}

/* What is odd about the bytes of a whole packet. */
static unsigned make_odd(uint8_t *frame, unsigned size, unsigned sum_at, enum forge_oddity odd)
{
	bool v6 = frame[12] == 0x86;

	switch (odd) {
	case FORGE_WRONG_SUM:
	case FORGE_OTHER_MAC_WRONG_SUM:
		frame[sum_at] ^= 0x55;
		break;
	case FORGE_WRONG_IP_SUM:
		frame[PACKETS_IP_OFFSET + 10] ^= 0x55;
		break;
	case FORGE_IP_OPTIONS:
		insert_idle_options(frame, &size, v6);
		break;
	case FORGE_SOURCE_ROUTE:
		insert_source_route(frame, &size, v6);
		break;
	case FORGE_AH:
		insert_ah(frame, &size, v6);
		break;
	default:
		break;
	}
	return size;
}

/* --- whole packets --- */

static struct net_mac mac_of(
	const struct trial *trial, enum flow_direction from, enum forge_oddity odd)
{
	struct net_mac mac = from == CLIENT ? trial->c.mac : rig_backend_mac(trial->c.backend_id);

	if (odd == FORGE_OTHER_MAC || odd == FORGE_OTHER_MAC_WRONG_SUM)
		mac.bytes[1] ^= 0x77;
	return mac;
}

/* From one end to the other, by the end's own addresses and numbers. */
static struct segment segment_of(const struct trial *trial, enum flow_direction from)
{
	const struct trial_end *end = &trial->end[from];

	return (struct segment){
		.to = rig_mac(),
		.src = end->tuple.local,
		.dst = end->tuple.remote,
		.sport = end->tuple.local_port,
		.dport = end->tuple.remote_port,
		.ttl = 57,
		.window = 500,
	};
}

static unsigned forge_segment(const struct trial *trial, enum flow_direction from,
	enum forge_kind kind, enum forge_oddity odd, uint8_t *frame)
{
	struct segment segment = segment_of(trial, from);
	uint8_t options[40];

	segment.from = mac_of(trial, from, odd);
	segment.flags = flags_of[kind];
	segment.seq = odd == FORGE_AT_ACK ? at_ack(trial, from)
					  : odd_number(right_number(trial, from, kind), odd);
	if (segment.flags & TCP_ACK)
		segment.ack = trial->end[from].known;
	if (odd == FORGE_ACK_AHEAD)
		segment.ack += 100000;
	else if (odd == FORGE_ACK_OLD)
		segment.ack -= 100000;
	if (odd == FORGE_URGENT) {
		segment.flags |= TCP_URG;
		segment.urgent = 1;
	}
	if (kind == FORGE_DATA || kind == FORGE_NO_FLAGS)
		segment.payload_size = DATA;
	else if (kind == FORGE_KEEPALIVE)
		segment.payload_size = 1;
	if (odd == FORGE_WITH_DATA)
		segment.payload_size += MORE_DATA;
	add_options(trial, &segment, options, from, odd);
	unsigned size = packets_build(&segment, frame);
	return make_odd(
		frame, size, PACKETS_IP_OFFSET + (trial->c.family == AF_INET6 ? 56 : 36), odd);
}

/* An error about a packet of the receiver's, as it came to the sender. */
static unsigned forge_error(const struct trial *trial, enum flow_direction from,
	enum forge_kind kind, enum forge_oddity odd, uint8_t *frame)
{
	const struct trial_end *sender = &trial->end[from];
	bool v6 = trial->c.family == AF_INET6, is_too_big = kind == FORGE_TOO_BIG;
	struct segment quoted = segment_of(trial, 1 - from);
	uint8_t quote[PACKETS_SIZE_MAX];

	quoted.src = sender->tuple.remote;
	quoted.dst = sender->tuple.local;
	quoted.sport = sender->tuple.remote_port;
	quoted.dport = sender->tuple.local_port;
	quoted.seq = odd_number(first_unacked(trial, from), odd);
	quoted.flags = TCP_ACK;
	struct icmp_error error = {
		.from = mac_of(trial, from, odd),
		.to = rig_mac(),
		.src = sender->tuple.local,
		.dst = sender->tuple.remote,
		.type = v6 ? (is_too_big ? 2 : 1) : 3,
		.code = v6 ? (is_too_big ? 0 : 4) : (is_too_big ? 4 : 3),
		.ttl = 57,
		.rest = !is_too_big ? 0
			: v6        ? LOW_MTU_6
				    : LOW_MTU_4,
		.quote = quote + PACKETS_IP_OFFSET,
	};
	error.quote_size = packets_build(&quoted, quote) - PACKETS_IP_OFFSET;
	unsigned size = packets_build_error(&error, frame);
	return make_odd(frame, size, PACKETS_IP_OFFSET + (v6 ? 42 : 22), odd);
}

/* Whether a packet of that kind can be odd like that. */
static bool there_is(const struct trial *trial, enum flow_direction from, enum forge_kind kind,
	enum forge_oddity odd)
{
	switch (odd) {
	case FORGE_AT_ACK:
		return !is_icmp(kind) && trial->end[1 - from].known != 0 &&
			at_ack(trial, from) != trial->end[from].next;
	case FORGE_ACK_AHEAD:
	case FORGE_ACK_OLD:
		return flags_of[kind] & TCP_ACK;
	case FORGE_WRONG_IP_SUM:
		return trial->c.family == AF_INET;
	case FORGE_OLD_TIMESTAMP:
		return trial->has_ts && !is_icmp(kind);
	case FORGE_MD5:
	case FORGE_AO:
	case FORGE_URGENT:
	case FORGE_WITH_DATA:
		return !is_icmp(kind);
	default:
		return true;
	}
}

unsigned forge(const struct trial *trial, enum flow_direction from, enum forge_kind kind,
	enum forge_oddity odd, uint8_t *frame)
{
	if (!there_is(trial, from, kind, odd))
		return 0;
	return is_icmp(kind) ? forge_error(trial, from, kind, odd, frame)
			     : forge_segment(trial, from, kind, odd, frame);
}
