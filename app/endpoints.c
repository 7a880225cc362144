/* SPDX-License-Identifier: BSD-3-Clause */
#include "endpoints.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>

#include "conf.h"
#include "daemon.h"
#include "exception.h"
#include "log.h"
#include "snat.h"
#include "snat_shares.h"
#include "stats.h"

_Static_assert(CONF_SNAT_RANGES_MAX == SNAT_RANGES_MAX, "the file's ranges are copied");

static int ports_create(struct snat_ports *ports, sa_family_t family, const struct daemon *daemon,
	const struct snat_range *ranges, unsigned nb_ranges)
{
	const struct dev_rss *rss = &daemon->port.rss_table;

	if (rss->known && (family == AF_INET6 ? rss->ip6 : rss->ip4)) {
		ports->shares = snat_shares_create(
			family, rss->key, rss->queue, rss->reta_size, daemon->port.nb_workers);
		if (ports->shares == NULL)
			return -ENOMEM;
	}
	// Who sees one family's ports is not to guess the other's.
	const struct hash_key *ports_key = &daemon->secrets.ports;
	const uint64_t key[2] = {ports_key->k[0], ports_key->k[1] ^ (uint64_t)family << 32};
	ports->snat = snat_create(ranges, nb_ranges, key, snat_shares_rss(ports->shares));
	return ports->snat == NULL ? -ENOMEM : 0;
}

/* The kernel's own connections from SNAT addresses, the probes, are to have other ports. */
static void warn_of_shared_ports(
	const struct daemon *daemon, const struct snat_range *ranges, unsigned nb_ranges)
{
	uint16_t first, last;

	if (exception_local_port_range(daemon->exception, &first, &last) < 0)
		return;
	for (unsigned i = 0; i < nb_ranges; i++)
		if (ranges[i].first <= last && first <= ranges[i].last)
			log_warning(
				"snat.ports %u-%u and the kernel's own ports overlap: probes from "
				"these find no answer; set net.ipv4.ip_local_port_range (%u-%u) in "
				"the namespace of " EXCEPTION_INTERFACE " to others",
				ranges[i].first, ranges[i].last, first, last);
}

int endpoints_ports_create(struct daemon *daemon)
{
	const struct conf_snat *conf = &daemon->conf->snat;
	struct snat_range ranges[SNAT_RANGES_MAX];
	unsigned nb_ranges = 0;

	for (; nb_ranges < conf->nb_ranges; nb_ranges++)
		ranges[nb_ranges] = (struct snat_range){
			conf->ranges[nb_ranges].first, conf->ranges[nb_ranges].last};
	warn_of_shared_ports(daemon, ranges, nb_ranges);
	if (nb_ranges == 0) {
		// What the kernel takes for its own connections stays the kernel's.
		uint16_t first, last;
		int err = exception_local_port_range(daemon->exception, &first, &last);
		if (err < 0)
			return err;
		if (first > 1024)
			ranges[nb_ranges++] = (struct snat_range){1024, first - 1};
		if (last < UINT16_MAX)
			ranges[nb_ranges++] = (struct snat_range){last + 1, UINT16_MAX};
		if (nb_ranges == 0)
			return -ENOSPC;
	}
	int err = ports_create(
		&daemon->snat_ports[stats_family(AF_INET)], AF_INET, daemon, ranges, nb_ranges);
	return err < 0 ? err
		       : ports_create(&daemon->snat_ports[stats_family(AF_INET6)], AF_INET6, daemon,
				 ranges, nb_ranges);
}

void endpoints_ports_destroy(struct daemon *daemon)
{
	for (unsigned f = 0; f < 2; f++) {
		snat_destroy(daemon->snat_ports[f].snat);
		snat_shares_destroy(daemon->snat_ports[f].shares);
	}
}

/* The addresses used towards backends of a family: those of the file, or the port's first. */
static int collect_addresses(struct service_snat *snat, const struct conf *conf, sa_family_t family)
{
	snat->addrs = calloc(conf->snat.nb_addresses + 1, sizeof(*snat->addrs));
	if (snat->addrs == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < conf->snat.nb_addresses; i++)
		if (conf->snat.addresses[i].family == family)
			snat->addrs[snat->count++] = conf->snat.addresses[i];
	for (unsigned i = 0; i < conf->port.nb_addresses && snat->count == 0; i++)
		if (conf->port.addresses[i].addr.family == family)
			snat->addrs[snat->count++] = conf->port.addresses[i].addr;
	return 0;
}

int endpoints_init(
	struct endpoints *endpoints, const struct conf *conf, const struct snat_ports ports[2])
{
	memset(endpoints, 0, sizeof(*endpoints));
	endpoints->ports = ports;
	int err = collect_addresses(&endpoints->snat4, conf, AF_INET);
	return err < 0 ? err : collect_addresses(&endpoints->snat6, conf, AF_INET6);
}

static uint32_t nb_pools(const struct endpoints *endpoints, const struct net_endpoint *key)
{
	return key->addr.family == AF_INET6 ? endpoints->snat6.count : endpoints->snat4.count;
}

static void destroy(struct endpoints *endpoints, struct control_endpoint *endpoint)
{
	for (uint32_t i = 0; i < nb_pools(endpoints, &endpoint->endpoint); i++)
		snat_pool_destroy(endpoint->pools[i]);
	free(endpoint->told);
	free(endpoint);
}

static int compare(const void *a, const void *b)
{
	return net_endpoint_compare(a, b);
}

void endpoints_fini(struct endpoints *endpoints)
{
	while (endpoints->tree != NULL) {
		struct control_endpoint *endpoint = *(struct control_endpoint **)endpoints->tree;
		tdelete(endpoint, &endpoints->tree, compare);
		destroy(endpoints, endpoint);
	}
	free(endpoints->snat4.addrs);
	free(endpoints->snat6.addrs);
}

void endpoints_put(struct endpoints *endpoints, struct control_endpoint *endpoint)
{
	if (endpoint == NULL || --endpoint->references != 0)
		return;
	tdelete(endpoint, &endpoints->tree, compare);
	destroy(endpoints, endpoint);
}

struct control_endpoint *endpoints_get(struct endpoints *endpoints, const struct net_endpoint *key)
{
	struct control_endpoint **found = tfind(key, &endpoints->tree, compare);
	uint32_t count = nb_pools(endpoints, key);
	const struct snat_ports *ports = &endpoints->ports[stats_family(key->addr.family)];
	const struct net_addr *addrs =
		(key->addr.family == AF_INET6 ? &endpoints->snat6 : &endpoints->snat4)->addrs;

	if (found != NULL) {
		(*found)->references++;
		return *found;
	}
	struct control_endpoint *endpoint =
		calloc(1, sizeof(*endpoint) + count * sizeof(endpoint->pools[0]));
	if (endpoint == NULL)
		return NULL;
	endpoint->endpoint = *key;
	endpoint->references = 1;
	endpoint->told = calloc(count + 1, sizeof(*endpoint->told));
	if (endpoint->told == NULL)
		goto fail;
	for (uint32_t i = 0; i < count; i++) {
		endpoint->pools[i] = snat_pool_create(
			ports->snat, snat_shares_constant(ports->shares, key, &addrs[i]));
		if (endpoint->pools[i] == NULL)
			goto fail;
	}
	if (tsearch(endpoint, &endpoints->tree, compare) != NULL)
		return endpoint;
fail:
	destroy(endpoints, endpoint);
	errno = ENOMEM;
	return NULL;
}
