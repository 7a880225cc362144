/* SPDX-License-Identifier: BSD-3-Clause */
#include "ports.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "backends.h"
#include "log.h"
#include "snat.h"

#define HIGH_PERCENT 80
#define LOW_PERCENT 70
#define PERIOD_MS 1000
// Backends looked at in a row: no probe waits for longer than a look at so many takes.
#define SLICE 2048
#define SLICE_PAUSE_MS 5

struct ports {
	struct backends *backends;
	struct event *timer;
	uint32_t service, backend; // where the next look begins
};

const struct service_snat *ports_addresses(
	const struct backends *backends, const struct control_backend *backend)
{
	return backend->conf.endpoint.addr.family == AF_INET6 ? &backends->endpoints.snat6
							      : &backends->endpoints.snat4;
}

void ports_use(const struct backends *backends, const struct control_backend *backend,
	uint32_t index, struct ports_use *use)
{
	const struct snat_pool *pool = backend->endpoint->pools[index];

	use->used = snat_pool_used(pool);
	use->size = snat_pool_size(pool);
	use->percent = (uint64_t)use->used * 100 / use->size;
	use->is_high = use->percent >= HIGH_PERCENT ||
		(backend->endpoint->told[index].is_high && use->percent >= LOW_PERCENT);
}

/* What is new since the last look, of one of its pools. */
static void look_at_pool(const struct ports *ports, struct control_backend *backend, uint32_t index)
{
	struct endpoint_told *told = &backend->endpoint->told[index];
	char endpoint[NET_ENDPOINT_TEXT], address[NET_ADDR_TEXT];
	struct ports_use use;

	ports_use(ports->backends, backend, index, &use);
	if (use.is_high == told->is_high)
		return;
	net_endpoint_format(&backend->conf.endpoint, endpoint);
	net_addr_format(&ports_addresses(ports->backends, backend)->addrs[index], address);
	if (use.is_high)
		log_limited(LOG_LEVEL_WARNING,
			"service %s: backend %s %s: %u %% of the SNAT ports of %s are in use (%u "
			"of %u)",
			backend->service->name, backend->conf.name, endpoint, use.percent, address,
			use.used, use.size);
	else
		log_limited(LOG_LEVEL_INFO,
			"service %s: backend %s %s: %u %% of the SNAT ports of %s are in use again",
			backend->service->name, backend->conf.name, endpoint, use.percent, address);
	told->is_high = use.is_high;
}

static void look_at(const struct ports *ports, struct control_backend *backend)
{
	char endpoint[NET_ENDPOINT_TEXT];
	struct stats_backend sum;

	for (uint32_t i = 0; i < ports_addresses(ports->backends, backend)->count; i++)
		look_at_pool(ports, backend, i);
	control_backend_count(ports->backends, backend, &sum);
	if (sum.no_port == backend->no_port_told)
		return;
	log_limited(LOG_LEVEL_WARNING,
		"service %s: backend %s %s: no SNAT port was left, %lu times so far",
		backend->service->name, backend->conf.name,
		net_endpoint_format(&backend->conf.endpoint, endpoint), (unsigned long)sum.no_port);
	backend->no_port_told = sum.no_port;
}

static void look_due(evutil_socket_t fd, short what, void *context)
{
	struct ports *ports = context;
	struct backends *backends = ports->backends;
	unsigned pause_ms = PERIOD_MS;

	for (unsigned left = SLICE; ports->service < backends->nb_services; left--) {
		struct control_service *service = backends->services[ports->service];
		if (left == 0) {
			pause_ms = SLICE_PAUSE_MS;
			break;
		}
		if (ports->backend >= service->nb_backends) {
			ports->service++;
			ports->backend = 0;
			continue;
		}
		look_at(ports, service->backends[ports->backend++]);
	}
	if (pause_ms == PERIOD_MS)
		ports->service = ports->backend = 0;
	struct timeval pause = {.tv_sec = pause_ms / 1000, .tv_usec = pause_ms % 1000 * 1000};
	evtimer_add(ports->timer, &pause);
}

struct ports *ports_create(struct event_base *events, struct backends *backends)
{
	struct ports *ports = calloc(1, sizeof(*ports));

	if (ports == NULL)
		return NULL;
	ports->backends = backends;
	ports->timer = evtimer_new(events, look_due, ports);
	if (ports->timer != NULL &&
		evtimer_add(ports->timer, &(struct timeval){.tv_sec = PERIOD_MS / 1000}) == 0)
		return ports;
	ports_destroy(ports);
	errno = ENOMEM;
	return NULL;
}

void ports_destroy(struct ports *ports)
{
	if (ports == NULL)
		return;
	if (ports->timer != NULL)
		event_free(ports->timer);
	free(ports);
}
