/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_endpoint.h"

#include <arpa/inet.h>
#include <errno.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* What a DNS name may consist of. */
static size_t name_length(const char *text)
{
	return strspn(text, LETTERS "0123456789-_.");
}

static bool is_port(const char *text)
{
	return text[0] != '\0' && strspn(text, "0123456789") == strlen(text);
}

/* "010.0.0.1": octal for some, decimal for others. */
static bool has_leading_zero(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (*p == '0' && (p == text || p[-1] == '.') && p[1] >= '0' && p[1] <= '9')
			return strspn(text, "0123456789.:") == strlen(text);
	return false;
}

/* What is no address and no name either, but is often written in its place. */
static const char *foreign_fault(const char *text)
{
	if (text[0] != '\0' && (text[0] == ' ' || text[strlen(text) - 1] == ' '))
		return "begins or ends with a blank; remove it";
	if (strstr(text, "://") != NULL)
		return "is a URL; expected \"address:port\", as in \"10.0.0.11:8080\"";
	if (strncmp(text, "unix:", 5) == 0)
		return "is a Unix socket, and weir sends packets; let the server listen on an "
		       "address and port, as in \"10.0.0.11:8080\"";
	if (strchr(text, '%') != NULL)
		return "has a zone, and weir0 is the only one; write the address without it";
	if (has_leading_zero(text))
		return "has numbers with leading zeros; write them without";
	return NULL;
}

/* What net_endpoint_parse() didn't like, as far as the form tells. */
static const char *endpoint_fault(const char *text)
{
	const char *colon = strrchr(text, ':');
	struct net_addr addr;

	if (text[0] == '\0')
		return "is empty; expected \"address:port\", as in \"10.0.0.11:8080\"";
	if (foreign_fault(text) != NULL)
		return foreign_fault(text);
	if (strchr(text, ' ') != NULL)
		return "has more than address and port; a backend's keys stand in a group, as in "
		       "{ address = \"10.0.0.11:8080\"; weight = 3; }";
	if (strchr(text, '/') != NULL)
		return "has a /; expected \"address:port\", as in \"10.0.0.11:8080\"";
	if (net_addr_parse(&addr, text) == 0)
		return addr.family == AF_INET6
			? "lacks its port or its brackets; expected \"[2001:db8::1]:8080\""
			: "lacks its port; expected \"address:port\", as in \"10.0.0.11:8080\"";
	if (colon != NULL && strchr(text, ':') != colon && text[0] != '[')
		return "is no address and port; expected IPv6 in brackets, as in "
		       "\"[2001:db8::1]:8080\"";
	if (strpbrk(text, LETTERS) != NULL)
		return "is a name; give an address and port, as in \"10.0.0.11:8080\" (backends "
		       "may have names)";
	if (colon == NULL || !is_port(colon + 1))
		return "lacks its port; expected \"address:port\", as in \"10.0.0.11:8080\"";
	return "is no address; expected \"address:port\", as in \"10.0.0.11:8080\"";
}

const char *conf_endpoint_parse(struct net_endpoint *endpoint, const char *text)
{
	int err = net_endpoint_parse(endpoint, text);

	if (err == -ERANGE)
		return "has a port out of range; expected 1 to 65535";
	return err < 0 ? endpoint_fault(text) : NULL;
}

bool conf_endpoint_is_name(const char *text)
{
	size_t length = name_length(text);

	return text[length] == ':' && length >= 1 && length <= 253 && text[0] != '.' &&
		text[0] != '-' && strcspn(text, LETTERS) < length && strstr(text, "..") == NULL;
}

const char *conf_endpoint_name_fault(const char *text)
{
	size_t length = name_length(text);

	if (foreign_fault(text) != NULL)
		return foreign_fault(text);
	if (strcspn(text, LETTERS) >= length)
		return NULL; // no name
	if (text[length] == '\0')
		return "lacks its port; expected \"name:port\", as in \"app.example.org:8080\"";
	if (text[length] != ':' || strchr(text + length + 1, ':') != NULL)
		return NULL;
	if (!conf_endpoint_is_name(text))
		return "is no name that DNS can have; expected one as in \"app.example.org:8080\"";
	if (!is_port(text + length + 1))
		return "has no number as its port; expected one as in \"app.example.org:8080\"";
	if (strncasecmp(text, "localhost:", 10) == 0)
		return "is the balancer itself, which can't send to itself; publish the container "
		       "on the host's other address";
	return NULL;
}

const char *conf_endpoint_parse_port(struct net_endpoint *endpoint, const char *text)
{
	unsigned long port = 0;

	memset(endpoint, 0, sizeof(*endpoint));
	if (!is_port(text + 1))
		return "is no port; expected \":port\", as in \":80\"";
	for (const char *p = text + 1; *p != '\0' && port <= 65535; p++)
		port = port * 10 + (*p - '0');
	if (port < 1 || port > 65535)
		return "has a port out of range; expected 1 to 65535";
	endpoint->port = htons(port);
	return NULL;
}

const char *conf_addr_fault(const struct net_addr *addr)
{
	uint32_t v4 = ntohl(addr->v4);
	const struct in6_addr *v6 = (const struct in6_addr *)addr->v6;

	if (addr->family == AF_INET) {
		if (v4 >> 24 == 0)
			return "an address of no host";
		if (v4 >> 24 == 127)
			return "a loopback address";
		if (v4 >> 28 == 14)
			return "a multicast address";
		return v4 == INADDR_BROADCAST ? "the broadcast address" : NULL;
	}
	if (IN6_IS_ADDR_UNSPECIFIED(v6))
		return "an address of no host";
	if (IN6_IS_ADDR_LOOPBACK(v6))
		return "a loopback address";
	if (IN6_IS_ADDR_MULTICAST(v6))
		return "a multicast address";
	return IN6_IS_ADDR_V4MAPPED(v6) ? "an IPv4 address mapped into IPv6" : NULL;
}

/* Whether the bits behind the prefix's length are all 0, or all 1. */
static bool host_bits_are(const struct net_addr *addr, unsigned length, bool ones)
{
	for (unsigned bit = length; bit < net_addr_size(addr->family) * 8; bit++)
		if ((addr->v6[bit / 8] >> (7 - bit % 8) & 1) != ones)
			return false;
	return true;
}

const char *conf_addr_fault_in(const struct net_addr *addr, const struct net_prefix *prefix)
{
	/* Two addresses, or one, have no room for either (RFC 3021, RFC 6164). */
	if (!net_prefix_contains(prefix, addr) ||
		prefix->length + 2u > net_addr_size(addr->family) * 8)
		return NULL;
	if (host_bits_are(addr, prefix->length, false))
		return "the network's own address";
	if (addr->family == AF_INET && host_bits_are(addr, prefix->length, true))
		return "the network's broadcast address";
	return NULL;
}
