/* SPDX-License-Identifier: BSD-3-Clause */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int net_addr_compare(const void *a, const void *b)
{
	const struct net_addr *left = a, *right = b;

	if (left->family != right->family)
		return left->family < right->family ? -1 : 1;
	return memcmp(left->v6, right->v6, sizeof(left->v6));
}

int net_endpoint_compare(const void *a, const void *b)
{
	const struct net_endpoint *left = a, *right = b;

	if (left->port != right->port)
		return left->port < right->port ? -1 : 1;
	return net_addr_compare(&left->addr, &right->addr);
}

int net_addr_parse(struct net_addr *addr, const char *text)
{
	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, text, &addr->v4) == 1)
		addr->family = AF_INET;
	else if (inet_pton(AF_INET6, text, addr->v6) == 1)
		addr->family = AF_INET6;
	else
		return -EINVAL;
	return 0;
}

/* A decimal number of at most `max`, nothing else around it. */
static int parse_number(const char *text, unsigned long max, unsigned long *value)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return -EINVAL;
	errno = 0;
	*value = strtoul(text, &end, 10);
	if (*end != '\0')
		return -EINVAL;
	return errno != 0 || *value > max ? -ERANGE : 0;
}

/* The part of `text` before `end`, as a string of its own. */
static int copy_part(char *part, size_t size, const char *text, const char *end)
{
	size_t length = end - text;

	if (length >= size)
		return -EINVAL;
	memcpy(part, text, length);
	part[length] = '\0';
	return 0;
}

int net_prefix_parse(struct net_prefix *prefix, const char *text)
{
	char part[NET_ADDR_TEXT];
	const char *slash = strchr(text, '/');
	unsigned long length;

	if (copy_part(part, sizeof(part), text, slash ? slash : text + strlen(text)) < 0 ||
		net_addr_parse(&prefix->addr, part) < 0)
		return -EINVAL;
	length = net_addr_size(prefix->addr.family) * 8;
	if (slash != NULL && parse_number(slash + 1, length, &length) < 0)
		return -EINVAL;
	prefix->length = length;
	return 0;
}

int net_endpoint_parse(struct net_endpoint *endpoint, const char *text)
{
	char part[NET_ADDR_TEXT];
	const char *colon = strrchr(text, ':');
	bool bracket = text[0] == '[';
	unsigned long port;
	int err;

	if (colon == NULL || colon == text || (bracket && colon[-1] != ']'))
		return -EINVAL;
	if (copy_part(part, sizeof(part), text + bracket, colon - bracket) < 0 ||
		net_addr_parse(&endpoint->addr, part) < 0)
		return -EINVAL;
	if ((endpoint->addr.family == AF_INET6) != bracket)
		return -EINVAL;
	err = parse_number(colon + 1, 65535, &port);
	if (err < 0 || port == 0)
		return err < 0 ? err : -ERANGE;
	endpoint->port = htons(port);
	return 0;
}

bool net_prefix_contains(const struct net_prefix *prefix, const struct net_addr *addr)
{
	if (prefix->addr.family != addr->family)
		return false;

	unsigned whole = prefix->length / 8, rest = prefix->length % 8;
	if (memcmp(prefix->addr.v6, addr->v6, whole) != 0)
		return false;
	uint8_t mask = 0xff00 >> rest;
	return rest == 0 || ((prefix->addr.v6[whole] ^ addr->v6[whole]) & mask) == 0;
}

const char *net_addr_format(const struct net_addr *addr, char *text)
{
	if (inet_ntop(addr->family, addr->v6, text, NET_ADDR_TEXT) == NULL)
		strcpy(text, "none");
	return text;
}

const char *net_prefix_format(const struct net_prefix *prefix, char *text)
{
	net_addr_format(&prefix->addr, text);
	sprintf(text + strlen(text), "/%u", prefix->length);
	return text;
}

const char *net_endpoint_format(const struct net_endpoint *endpoint, char *text)
{
	char addr[NET_ADDR_TEXT];
	bool v6 = endpoint->addr.family == AF_INET6;

	net_addr_format(&endpoint->addr, addr);
	sprintf(text, "%s%s%s:%u", v6 ? "[" : "", addr, v6 ? "]" : "", ntohs(endpoint->port));
	return text;
}

const char *net_mac_format(const struct net_mac *mac, char text[18])
{
	const uint8_t *b = mac->bytes;

	sprintf(text, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5]);
	return text;
}

socklen_t net_addr_sockaddr(
	const struct net_addr *addr, uint16_t port, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (addr->family == AF_INET6) {
		struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)out;
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = port;
		memcpy(&sin6->sin6_addr, addr->v6, 16);
		return sizeof(*sin6);
	}

	struct sockaddr_in *sin = (struct sockaddr_in *)out;
	sin->sin_family = AF_INET;
	sin->sin_port = port;
	sin->sin_addr.s_addr = addr->v4;
	return sizeof(*sin);
}
