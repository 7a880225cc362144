/* SPDX-License-Identifier: BSD-3-Clause */
#include "endpoints.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>

#include "conf.h"
#include "daemon.h"
#include "exception.h"
#include "snat.h"

int endpoints_snat_create(struct daemon *daemon)
{
	const struct conf_snat *conf = &daemon->conf->snat;
	struct snat_range ranges[SNAT_RANGES_MAX];
	unsigned nb_ranges = 0;

	for (; nb_ranges < conf->nb_ranges; nb_ranges++)
		ranges[nb_ranges] = (struct snat_range){conf->ranges[nb_ranges].first,
			conf->ranges[nb_ranges].last};
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
	daemon->snat = snat_create(ranges, nb_ranges, daemon->key.k, NULL);
	return daemon->snat == NULL ? -errno : 0;
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

int endpoints_init(struct endpoints *endpoints, const struct conf *conf, struct snat *snat)
{
	memset(endpoints, 0, sizeof(*endpoints));
	endpoints->snat = snat;
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
	for (uint32_t i = 0; i < count; i++) {
		endpoint->pools[i] = snat_pool_create(endpoints->snat, 0);
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
