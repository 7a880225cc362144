/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The options of a TCP header whose whole length lies in memory, as packet_parse() has checked.
 * Any thread.
 */
#ifndef WEIR_TCP_OPTIONS_H
#define WEIR_TCP_OPTIONS_H

#include <rte_byteorder.h>
#include <rte_tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum tcp_option_kind {
	TCP_OPTION_END = 0,
	TCP_OPTION_NOP = 1,
	TCP_OPTION_SACK = 5,      // RFC 2018: blocks of two sequence numbers
	TCP_OPTION_TIMESTAMP = 8, // RFC 7323: TSval, TSecr
	TCP_OPTION_MD5 = 19,      // RFC 2385
	TCP_OPTION_AO = 29,       // RFC 5925
};

#define TCP_OPTION_TIMESTAMP_SIZE 10
#define TCP_OPTION_SACK_BLOCK 8

struct tcp_options {
	uint8_t *at, *end;
};

static inline struct tcp_options tcp_options_of(struct rte_tcp_hdr *tcp)
{
	return (struct tcp_options){
		(uint8_t *)(tcp + 1), (uint8_t *)tcp + (tcp->data_off >> 4) * 4};
}

/* Return the next option but NOP: kind, its length with both, what it holds. NULL at the end, or
 * where the list is broken; what lies behind is nobody's then. */
static inline uint8_t *tcp_option_next(struct tcp_options *options)
{
	while (options->at < options->end && *options->at == TCP_OPTION_NOP)
		options->at++;
	uint8_t *option = options->at;
	if (options->end - option < 2 || *option == TCP_OPTION_END || option[1] < 2 ||
		option[1] > options->end - option)
		return NULL;
	options->at += option[1];
	return option;
}

/* Read the header's TSval, host byte order; false when it has none. */
static inline bool tcp_option_ts(struct rte_tcp_hdr *tcp, uint32_t *ts)
{
	struct tcp_options options = tcp_options_of(tcp);

	for (uint8_t *option; (option = tcp_option_next(&options)) != NULL;) {
		if (option[0] != TCP_OPTION_TIMESTAMP || option[1] != TCP_OPTION_TIMESTAMP_SIZE)
			continue;
		memcpy(ts, option + 2, sizeof(*ts));
		*ts = rte_be_to_cpu_32(*ts);
		return true;
	}
	return false;
}

/* Tell whether the header is signed. Who has no key for it drops the segment without a word. */
static inline bool tcp_option_signs(struct rte_tcp_hdr *tcp)
{
	struct tcp_options options = tcp_options_of(tcp);

	for (uint8_t *option; (option = tcp_option_next(&options)) != NULL;)
		if (option[0] == TCP_OPTION_MD5 || option[0] == TCP_OPTION_AO)
			return true;
	return false;
}

#endif
