/* SPDX-License-Identifier: BSD-3-Clause */
/* IPv6 extension headers (RFC 8200, 4). A pure function; any thread. */
#ifndef WEIR_IP6_H
#define WEIR_IP6_H

#include <stdbool.h>
#include <stdint.h>

#define IP6_EXTENSION_HEADERS_MAX 8 // case B15: a bounded walk

/* The first header that is none of the extension headers. */
struct ip6_payload {
	uint32_t at; // offset in the bytes
	uint8_t protocol;
	bool is_fragment; // a fragment header was passed
	bool is_refused;  // so was one that an end takes only by agreement: AH, a route yet to go
};

/*
 * Walk from the header at `payload->at`, whose kind is `payload->protocol`, to the payload. False
 * when there are too many headers, or one doesn't lie within the `size` bytes; the payload itself
 * may begin at their end.
 */
bool ip6_skip_extensions(const uint8_t *bytes, uint32_t size, struct ip6_payload *payload);

#endif
