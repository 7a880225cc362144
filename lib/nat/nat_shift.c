/* SPDX-License-Identifier: BSD-3-Clause */
#include "nat_shift.h"

#include "checksum.h"
#include "packet.h"
#include "tcp_options.h"

/*
 * Add to a number of 32 bits in the header; returns the delta of the checksum. Options begin at any
 * byte: a field at an odd one has its bytes in the other halves of the sum's words (RFC 1071, 2 B).
 */
static uint32_t add(uint8_t *field, bool is_odd, uint32_t by)
{
	uint32_t from, to;

	memcpy(&from, field, sizeof(from));
	to = rte_cpu_to_be_32(rte_be_to_cpu_32(from) + by);
	memcpy(field, &to, sizeof(to));
	uint32_t delta = checksum_delta32(from, to);
	return is_odd ? rte_bswap16(checksum_fold(delta)) : delta;
}

static uint32_t shift_sack(uint8_t *option, bool is_odd, uint32_t by)
{
	uint32_t delta = 0;

	for (unsigned at = 2; at + TCP_OPTION_SACK_BLOCK <= option[1]; at += TCP_OPTION_SACK_BLOCK)
		delta += add(option + at, is_odd, by) + add(option + at + 4, is_odd, by);
	return delta;
}

void nat_shift(const struct packet *packet, enum flow_direction direction,
	const struct flow_offsets *offsets)
{
	struct rte_tcp_hdr *tcp = packet->tcp;
	struct tcp_options options = tcp_options_of(tcp);
	bool has_ack = packet->flags & RTE_TCP_ACK_FLAG; // else the numbers it repeats mean nothing
	uint32_t delta = add((uint8_t *)&tcp->sent_seq, false, offsets->seq[direction]);

	if (has_ack)
		delta += add((uint8_t *)&tcp->recv_ack, false, -offsets->seq[1 - direction]);
	for (uint8_t *option; (option = tcp_option_next(&options)) != NULL;) {
		bool is_odd = (option - (uint8_t *)tcp) & 1;
		if (option[0] == TCP_OPTION_SACK && has_ack) {
			delta += shift_sack(option, is_odd, -offsets->seq[1 - direction]);
		} else if (option[0] == TCP_OPTION_TIMESTAMP &&
			option[1] == TCP_OPTION_TIMESTAMP_SIZE) {
			delta += add(option + 2, is_odd, offsets->ts[direction]);
			if (has_ack)
				delta += add(option + 6, is_odd, -offsets->ts[1 - direction]);
		}
	}
	tcp->cksum = checksum_apply(tcp->cksum, delta);
}
