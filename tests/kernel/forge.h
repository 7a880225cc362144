/* SPDX-License-Identifier: BSD-3-Clause */
/* One packet in the name of an end of a connection: what it is, and what is odd about it. */
#ifndef WEIR_TEST_FORGE_H
#define WEIR_TEST_FORGE_H

#include <stdbool.h>
#include <stdint.h>

#include "trial.h"

enum forge_kind {
	FORGE_SYN,
	FORGE_SYN_ACK,
	FORGE_FIN,
	FORGE_RST,
	FORGE_RST_ACK,
	FORGE_DATA,
	FORGE_ACK,
	FORGE_PROBE,       // of a shut window, as Linux has it: nothing, at a number of before
	FORGE_KEEPALIVE,   // with a byte, at a number of before (RFC 9293, 3.8.4)
	FORGE_NO_FLAGS,    // data without ACK
	FORGE_UNREACHABLE, // ICMP: the port
	FORGE_TOO_BIG,     // ICMP
	FORGE_KINDS
};

enum forge_oddity {
	FORGE_RIGHT, // what its sender would send
	// Its sequence number; of an ICMP error the one that it quotes.
	FORGE_IN_WINDOW,
	FORGE_OUT_OF_WINDOW,
	FORGE_OLD,
	FORGE_AT_ACK, // what the receiver acknowledged last, where more was sent
	// Its acknowledgement.
	FORGE_ACK_AHEAD, // of what was never sent
	FORGE_ACK_OLD,
	FORGE_WRONG_SUM,
	FORGE_WRONG_IP_SUM,
	FORGE_MD5, // RFC 2385
	FORGE_AO,  // RFC 5925
	FORGE_OLD_TIMESTAMP,
	FORGE_IP_OPTIONS, // that mean nothing: of IPv6 a header of destination options
	FORGE_SOURCE_ROUTE,
	FORGE_AH,
	FORGE_URGENT,
	FORGE_WITH_DATA,
	FORGE_OTHER_MAC, // by another router
	FORGE_OTHER_MAC_WRONG_SUM,
	FORGE_ODDITIES
};

extern const char *const forge_kind_names[FORGE_KINDS];
extern const char *const forge_oddity_names[FORGE_ODDITIES];

/* Write the frame; returns its size, 0 when there is no such packet: IPv6 has no header checksum, a
 * bare RST no acknowledgement. */
unsigned forge(const struct trial *trial, enum flow_direction from, enum forge_kind kind,
	enum forge_oddity oddity, uint8_t *frame);

#endif
