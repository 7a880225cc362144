/* SPDX-License-Identifier: BSD-3-Clause */
#include "snat_shares.h"

#include <rte_byteorder.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"
#include "rss.h"

#define PORTS 65536

struct snat_shares {
	struct snat_rss rss;
	sa_family_t family;
	uint8_t key[RSS_KEY_MIN] __attribute__((aligned(4)));
	uint16_t port_share[PORTS];
	uint8_t queue[];
};

/* Of a backend's answer. `ports` as in the header. */
static uint16_t share(const struct snat_shares *shares, const void *addrs, uint32_t ports)
{
	return rss_hash(shares->key, shares->family, addrs, ports) & shares->rss.mask;
}

struct snat_shares *snat_shares_create(sa_family_t family, const uint8_t *key, const uint8_t *queue,
	uint16_t reta_size, unsigned nb_queues)
{
	static const uint8_t no_addrs[2 * sizeof(struct in6_addr)];
	struct snat_shares *shares = calloc(1, sizeof(*shares) + reta_size);

	if (shares == NULL)
		return NULL;
	shares->family = family;
	memcpy(shares->key, key, sizeof(shares->key));
	memcpy(shares->queue, queue, reta_size);
	shares->rss = (struct snat_rss){
		.port_share = shares->port_share,
		.queue = shares->queue,
		.mask = reta_size - 1,
		.nb_queues = nb_queues,
	};
	// The SNAT port is the answer's destination: the header's second half.
	for (uint32_t port = 0; port < PORTS; port++)
		shares->port_share[port] = share(shares, no_addrs, rte_cpu_to_be_32(port));
	return shares;
}

void snat_shares_destroy(struct snat_shares *shares)
{
	free(shares);
}

const struct snat_rss *snat_shares_rss(const struct snat_shares *shares)
{
	return shares == NULL ? NULL : &shares->rss;
}

uint16_t snat_shares_constant(const struct snat_shares *shares, const struct net_endpoint *backend,
	const struct net_addr *snat)
{
	uint8_t addrs[2 * sizeof(struct in6_addr)];
	uint32_t ports = 0;

	if (shares == NULL)
		return 0;
	unsigned size = net_addr_size(shares->family);
	memcpy(addrs, backend->addr.v6, size);
	memcpy(addrs + size, snat->v6, size);
	memcpy(&ports, &backend->port, sizeof(backend->port));
	return share(shares, addrs, ports);
}
