/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Questions for the addresses of names, by c-ares on the event loop: the hosts file first, then DNS
 * with EDNS, and by TCP what doesn't fit. The servers are asked in their order, each for a second,
 * then each for two.
 *
 * Thread rule: on the control core's event loop, whose thread is in the host's network namespace.
 */
#ifndef WEIR_DNS_H
#define WEIR_DNS_H

#include <stdint.h>

#include "addr.h"

struct dns;
struct event_base;

struct dns_answer {
	const char *error;      // NULL: there is an answer
	struct net_addr *addrs; // in the order of the answer
	uint32_t nb_addrs;
	uint32_t ttl_s; // the shortest of its records; 0 for the hosts file
};

/* Called once for each question; not by dns_destroy(). The answer is its own no longer than the
 * call, in which no other function of this module may be called. */
typedef void (*dns_answered_fn)(void *context, const struct dns_answer *answer);

/* Create a client of these servers, in this order; none: those of resolv.conf as it is now. NULL
 * and errno on failure. */
struct dns *dns_create(
	struct event_base *events, const struct net_endpoint *servers, unsigned nb_servers);
/* Drop all questions, and free the client. dns_destroy(NULL) is fine. */
void dns_destroy(struct dns *dns);

/* Ask for the addresses of a family. A name without a dot is looked for in the domains of
 * resolv.conf, another one is whole. The answer may come within the call. */
void dns_ask(struct dns *dns, const char *host, sa_family_t family, dns_answered_fn answered,
	void *context);

/* Return the path of the hosts file, which is read at each question. */
const char *dns_hosts_path(void);

#endif
