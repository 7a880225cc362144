/* SPDX-License-Identifier: BSD-3-Clause */
/* Addresses of both families, as values. No function here keeps state; all are safe anywhere. */
#ifndef WEIR_ADDR_H
#define WEIR_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct net_mac {
	uint8_t bytes[6];
};

/* An address; bytes beyond the family's length are zero, so memcmp and hashes work on the whole. */
struct net_addr {
	sa_family_t family; // AF_INET or AF_INET6; AF_UNSPEC = none
	union {
		uint32_t v4; // network byte order
		uint8_t v6[16];
	};
};

struct net_prefix {
	struct net_addr addr;
	uint8_t length; // bits
};

/* An address and a TCP port. */
struct net_endpoint {
	struct net_addr addr;
	uint16_t port; // network byte order
};

#define NET_ADDR_TEXT 48     // room for an address or a prefix as text
#define NET_ENDPOINT_TEXT 56 // room for "[address]:port"

/* Return the bytes of an address of the family: 4 or 16. */
static inline unsigned net_addr_size(sa_family_t family)
{
	return family == AF_INET6 ? 16 : 4;
}

static inline bool net_addr_equal(const struct net_addr *a, const struct net_addr *b)
{
	return a->family == b->family && memcmp(a->v6, b->v6, sizeof(a->v6)) == 0;
}

static inline bool net_endpoint_equal(const struct net_endpoint *a, const struct net_endpoint *b)
{
	return a->port == b->port && net_addr_equal(&a->addr, &b->addr);
}

static inline bool net_mac_equal(const struct net_mac *a, const struct net_mac *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* Order addresses, for tsearch(3) and qsort(3): of struct net_addr, or of what starts with one. */
int net_addr_compare(const void *a, const void *b);
/* Order endpoints, for tsearch(3) and qsort(3): of struct net_endpoint, or of
 * what starts with one. */
int net_endpoint_compare(const void *a, const void *b);

/* Parse "192.0.2.1" or "2001:db8::1". 0, or -EINVAL. */
int net_addr_parse(struct net_addr *addr, const char *text);

/* Parse "192.0.2.0/24"; without a length it is the whole address. 0, or -EINVAL. Host bits stay. */
int net_prefix_parse(struct net_prefix *prefix, const char *text);

/* Parse "192.0.2.1:80" or "[2001:db8::1]:80". 0, -EINVAL (form, address) or -ERANGE (a port not
 * within 1 to 65535). */
int net_endpoint_parse(struct net_endpoint *endpoint, const char *text);

/* Tell whether the prefix covers the address. */
bool net_prefix_contains(const struct net_prefix *prefix, const struct net_addr *addr);

/* Write the text form into `text`, which has room for NET_ADDR_TEXT or NET_ENDPOINT_TEXT
 * bytes, and return it. */
const char *net_addr_format(const struct net_addr *addr, char *text);
const char *net_prefix_format(const struct net_prefix *prefix, char *text);
const char *net_endpoint_format(const struct net_endpoint *endpoint, char *text);
const char *net_mac_format(const struct net_mac *mac, char text[18]);

/* Fill in the address as the kernel's socket calls take it, and return its length.
 * `port`: network byte order. */
socklen_t net_addr_sockaddr(
	const struct net_addr *addr, uint16_t port, struct sockaddr_storage *out);

#endif
