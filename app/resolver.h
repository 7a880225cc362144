/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Backends by DNS name: asked for again and again (dns.h); the last good addresses stay when that
 * fails. When they change, the services that use the name are brought in line. The system's files
 * are looked at each second: another hosts file, or resolv.conf where its servers are asked, has
 * all names asked for anew.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_RESOLVER_H
#define WEIR_RESOLVER_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct conf;
struct daemon;
struct resolver;

/* Create the resolver, which knows the addresses that the former process knew; they hold until
 * there is an answer. NULL for want of memory. */
struct resolver *resolver_create(struct daemon *daemon);
/* Free the resolver; resolver_destroy(NULL) is fine. */
void resolver_destroy(struct resolver *resolver);

/* Follow the names of this configuration, which runs from now on, and no others. */
void resolver_follow(struct resolver *resolver, const struct conf *conf);

/* Give the last good addresses of a name, in order, and return how many. `resolver` NULL: none. */
uint32_t resolver_addresses(const struct resolver *resolver, const char *host, sa_family_t family,
	const struct net_addr **addrs);

/* Tell whether a name has no address yet, and its first answer is to come. `resolver` NULL: no. */
bool resolver_awaits(const struct resolver *resolver, const char *host, sa_family_t family);

#endif
