/* SPDX-License-Identifier: BSD-3-Clause */
#include "candidates.h"

#include <errno.h>
#include <rte_common.h>
#include <stdlib.h>

#include "backends.h"
#include "clock.h"
#include "flow_side.h"
#include "hash.h"
#include "log.h"
#include "publish.h"
#include "service_access.h"
#include "timeouts.h"

_Static_assert(CONF_NAME_MAX == SERVICE_NAME_MAX, "names are copied whole");
_Static_assert(CONF_WEIGHT_MAX == SERVICE_WEIGHT_MAX, "weights are handed on as they are");
_Static_assert(CONF_TRIES_MAX == FLOW_SIDE_TRIES_MAX, "a side record has a place for each try");

/* The same on every balancer, so that all build the same table: no secret in it. */
static uint64_t backend_identity(const struct net_endpoint *endpoint)
{
	static const struct hash_key fixed;
	uint8_t bytes[sizeof(endpoint->addr.v6) + sizeof(endpoint->port)];

	memcpy(bytes, endpoint->addr.v6, sizeof(endpoint->addr.v6));
	memcpy(bytes + sizeof(endpoint->addr.v6), &endpoint->port, sizeof(endpoint->port));
	return hash_siphash(&fixed, bytes, sizeof(bytes));
}

void candidates_member(const struct control_backend *backend, struct service_member *member)
{
	*member = (struct service_member){
		.id = backend->id,
		.identity = backend_identity(&backend->conf.endpoint),
		.weight = control_backend_weight(backend),
		.max_conns = backend->conf.max_conns,
		.usable = control_backend_candidate(backend),
		.backup = backend->conf.backup,
		.slow_start_ms = backend->conf.slow_start_ms,
		.up_since_ms = RTE_MAX(backend->health.since_ms, backend->passive.back_ms),
	};
}

static int choose(struct control_service *service, struct publish_service *publish)
{
	// Those that were removed are never usable.
	struct service_member *members = calloc(service->nb_backends + 1, sizeof(*members));

	if (members == NULL)
		return -ENOMEM;
	for (uint32_t b = 0; b < service->nb_backends; b++) {
		candidates_member(service->backends[b], &members[b]);
		service->backends[b]->gathered = members[b].usable && members[b].weight != 0;
	}
	int err = service_choice_init(&publish->choice, members, service->nb_backends, clock_ms());
	free(members);
	return err;
}

/* The lists of clients, made once a configuration. */
static int update_access(struct control_service *service)
{
	const struct conf_prefixes *allow = &service->conf->allow, *deny = &service->conf->deny;

	if (service->access != NULL || allow->nb + deny->nb == 0)
		return 0;
	service->access = service_access_create(allow->list, allow->nb, deny->list, deny->nb);
	return service->access == NULL ? -ENOMEM : 0;
}

int candidates_collect(struct control_service *service, struct publish_service *publish)
{
	const struct conf_service *conf = service->conf;

	publish->index = service->index;
	memcpy(publish->name, service->name, sizeof(publish->name));
	if (choose(service, publish) < 0 || update_access(service) < 0)
		return -ENOMEM;
	publish->source = (struct service_source){
		.family = conf->family,
		.drop_when_down = conf->on_all_down == CONF_ALL_DOWN_DROP,
		.reset_when_idle = conf->on_idle == CONF_IDLE_RESET,
		.connect =
			{
				.timeout_ms = conf->connect_timeout_ms,
				.retry_percent = conf->retry_budget,
				.tries = conf->connect_tries,
			},
		.scheduler = scheduler_find(conf_scheduler_name(conf->scheduler)),
		.candidates = publish->choice.candidates,
		.backups = publish->choice.backups,
		.access = service_access_get(service->access),
	};
	timeouts_of_service(conf, publish->source.timeout_s);
	service->grows_ms = publish->choice.next_ms;
	if (publish->choice.on_backups != service->on_backups)
		log_info("service %s: %s", service->name,
			publish->choice.on_backups
				? "no other backend is up, the backups take over"
				: "the backups have no new connections any more");
	service->on_backups = publish->choice.on_backups;
	return 0;
}
