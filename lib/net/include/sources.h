/* SPDX-License-Identifier: BSD-3-Clause */
/* The addresses that packets to backends come from: the kernel's own, as probes, take these, too.
 */
#ifndef WEIR_SOURCES_H
#define WEIR_SOURCES_H

#include "addr.h"

struct net_addr_list {
	const struct net_addr *addrs;
	unsigned count;
};

/* Towards each family; a list of none: whatever the kernel takes. */
struct net_sources {
	struct net_addr_list v4, v6;
};

/* Return the addresses towards a family. */
static inline const struct net_addr_list *net_sources_of(
	const struct net_sources *sources, sa_family_t family)
{
	return family == AF_INET6 ? &sources->v6 : &sources->v4;
}

#endif
