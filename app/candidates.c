/* SPDX-License-Identifier: BSD-3-Clause */
#include "candidates.h"

#include <errno.h>
#include <stdlib.h>

#include "backends.h"
#include "hash.h"
#include "publish.h"

/* The same on every balancer, so that all build the same table: no secret in it. */
static uint64_t backend_identity(const struct net_endpoint *endpoint)
{
	static const struct hash_key fixed;
	uint8_t bytes[sizeof(endpoint->addr.v6) + sizeof(endpoint->port)];

	memcpy(bytes, endpoint->addr.v6, sizeof(endpoint->addr.v6));
	memcpy(bytes + sizeof(endpoint->addr.v6), &endpoint->port, sizeof(endpoint->port));
	return hash_siphash(&fixed, bytes, sizeof(bytes));
}

static void candidate_add(struct publish_service *publish, const struct control_backend *backend)
{
	uint32_t at = publish->source.nb_candidates++;

	publish->candidates[at] = backend->id;
	publish->weights[at] = (struct scheduler_backend){
		.identity = backend_identity(&backend->conf.endpoint),
		.weight = control_backend_weight(backend),
	};
}

int candidates_collect(const struct control_service *service, struct publish_service *publish)
{
	const struct conf_service *conf = service->conf;

	publish->index = service->index;
	memcpy(publish->name, service->name, sizeof(publish->name));
	publish->candidates = calloc(service->nb_listed + 1, sizeof(*publish->candidates));
	publish->weights = calloc(service->nb_listed + 1, sizeof(*publish->weights));
	if (publish->candidates == NULL || publish->weights == NULL)
		return -ENOMEM;
	publish->source = (struct service_source){
		.family = conf->family,
		.drop_when_down = conf->on_all_down == CONF_ALL_DOWN_DROP,
		.scheduler = conf->scheduler == CONF_SCHEDULER_ROUND_ROBIN ? &scheduler_round_robin
									   : &scheduler_maglev,
	};
	for (uint32_t b = 0; b < service->nb_listed; b++)
		if (control_backend_usable(service->backends[b]))
			candidate_add(publish, service->backends[b]);
	return 0;
}
