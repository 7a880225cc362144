/* SPDX-License-Identifier: BSD-3-Clause */
#include "ip6.h"

#include <netinet/in.h>

bool ip6_skip_extensions(const uint8_t *bytes, uint32_t size, struct ip6_payload *payload)
{
	for (unsigned walked = 0;; walked++) {
		uint32_t at = payload->at, header_size;
		switch (payload->protocol) {
		case IPPROTO_ROUTING:
			// Segments left (RFC 8200, 4.4).
			payload->is_refused |= at + 4 <= size && bytes[at + 3] != 0;
			// fall through
		case IPPROTO_HOPOPTS:
		case IPPROTO_DSTOPTS:
			header_size = at + 2 <= size ? (bytes[at + 1] + 1) * 8 : 0;
			break;
		case IPPROTO_FRAGMENT:
			header_size = 8;
			payload->is_fragment = true;
			break;
		case IPPROTO_AH:
			payload->is_refused = true;
			header_size = at + 2 <= size ? (bytes[at + 1] + 2) * 4 : 0;
			break;
		default:
			return true;
		}
		if (walked == IP6_EXTENSION_HEADERS_MAX || header_size == 0 ||
			at + header_size > size)
			return false;
		payload->protocol = bytes[at];
		payload->at = at + header_size;
	}
}
