/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which backend a SYN goes to, where more is to be minded than the flow's hash: the client's
 * address, the load of the backends, their limits.
 *
 * How many connections a backend has is the sum of what the workers counted, each for itself: no
 * counter is shared, so a service that asks for none of this pays nothing. A limit is compared with
 * that sum, one line a worker: w workers may together exceed it by w - 1, one keeps it exactly.
 * least_conn compares many backends at a SYN, so there a worker goes by a view of the sums: what it
 * opens and ends itself shows at once, what the others do is brought in once a millisecond.
 */
#include <rte_branch_prediction.h>
#include <rte_prefetch.h>

#include "packet.h"
#include "pipeline.h"
#include "service_access.h"

enum {
	MAX_REFRESHED = 128, // backends a millisecond and service
	MAX_PICKS = 8,       // by the scheduler, before any backend will do
	MAX_LOOKED = 1024,   // backends, then, before the SYN is refused
};

static uint32_t sum_active(const struct pipeline *pipeline, uint32_t id)
{
	uint64_t opened = 0, ended = 0;

	// Ended first: whatever was seen to end is then seen to have been opened.
	for (unsigned w = 0; w < pipeline->nb_peers; w++)
		ended += __atomic_load_n(&pipeline->peers[w][id].ended, __ATOMIC_ACQUIRE);
	for (unsigned w = 0; w < pipeline->nb_peers; w++)
		opened += __atomic_load_n(&pipeline->peers[w][id].opened, __ATOMIC_ACQUIRE);
	return opened > ended ? opened - ended : 0;
}

static void refresh(struct pipeline *pipeline, const struct service *service,
	struct scheduler_cursor *cursor, uint32_t now_ms)
{
	uint32_t count = RTE_MIN(service->nb_candidates, (uint32_t)MAX_REFRESHED);

	if (cursor->refreshed_ms == now_ms)
		return;
	cursor->refreshed_ms = now_ms;
	while (count-- > 0) {
		if (++cursor->refreshed >= service->nb_candidates)
			cursor->refreshed = 0;
		uint32_t id = service->candidates[cursor->refreshed];
		pipeline->active[id] = sum_active(pipeline, id);
	}
}

static bool is_full(struct pipeline *pipeline, const struct service *service, uint32_t index)
{
	uint32_t limit = service->limits[index], id = service->candidates[index];

	if (limit == 0)
		return false;
	pipeline->active[id] = sum_active(pipeline, id);
	return pipeline->active[id] >= limit;
}

/* Another hash of the same flow, and from that another: on each worker the same ones. */
static uint64_t hash_again(uint64_t hash)
{
	hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15;
	return hash ^ hash >> 29;
}

/* The scheduler's pick, and its next ones as long as they are full; then any that isn't. */
static uint32_t pick(struct pipeline *pipeline, const struct service *service,
	struct scheduler_cursor *cursor, uint64_t hash)
{
	const struct scheduler_ops *scheduler = service->scheduler;
	const struct scheduler_load load = {pipeline->active, service->candidates, service->limits};
	uint32_t index = 0, count = service->nb_candidates;

	for (unsigned picks = 0; picks < MAX_PICKS; picks++, hash = hash_again(hash)) {
		if (scheduler->pick_by_load != NULL)
			index = scheduler->pick_by_load(service->schedule, &load, cursor);
		else
			// NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): it has one
			index = scheduler->pick(service->schedule, hash, cursor);
		if (service->limits == NULL || !is_full(pipeline, service, index))
			return index;
	}
	for (uint32_t left = RTE_MIN(count, (uint32_t)MAX_LOOKED); left > 0; left--) {
		index = index + 1 < count ? index + 1 : 0;
		if (!is_full(pipeline, service, index))
			return index;
	}
	return SERVICE_NONE;
}

/* What the scheduler goes by. */
static uint64_t hash_of(const struct scheduler_ops *scheduler, const struct packet *packet)
{
	if (!scheduler->by_source)
		return packet->hash;
	return scheduler_source_hash(packet_addrs(packet), net_addr_size(packet->family));
}

void pipeline_prefetch_pick(const struct service *service, const struct packet *packet)
{
	const struct scheduler_ops *scheduler = service->scheduler;

	if (scheduler->prefetch != NULL && service->nb_candidates != 0)
		scheduler->prefetch(service->schedule, hash_of(scheduler, packet));
}

uint32_t pipeline_pick(struct pipeline *pipeline, const struct service *service,
	struct scheduler_cursor *cursor, const struct packet *packet, uint64_t now_ms)
{
	const struct scheduler_ops *scheduler = service->scheduler;
	uint64_t hash = hash_of(scheduler, packet);
	uint32_t index;

	if (scheduler->pick_by_load != NULL)
		refresh(pipeline, service, cursor, now_ms);
	if (likely(service->limits == NULL && scheduler->pick != NULL))
		index = scheduler->pick(service->schedule, hash, cursor);
	else
		index = pick(pipeline, service, cursor, hash);
	if (index == SERVICE_NONE)
		return SERVICE_NONE;
	uint32_t id = service->candidates[index];
	pipeline_count_opened(pipeline, id, 1);
	return id;
}

static bool is_among(uint32_t id, const uint32_t *tried, unsigned nb_tried)
{
	for (unsigned i = 0; i < nb_tried; i++)
		if (tried[i] == id)
			return true;
	return false;
}

uint32_t pipeline_pick_other(struct pipeline *pipeline, const struct service_table *table,
	const struct service *service, struct scheduler_cursor *cursor, const struct packet *packet,
	const uint32_t *tried, unsigned nb_tried, uint64_t now_ms)
{
	const struct scheduler_ops *scheduler = service->scheduler;
	const struct scheduler_load load = {pipeline->active, service->candidates, service->limits};
	uint32_t count = service->nb_candidates, index = 0, found = SERVICE_NONE;
	uint64_t hash = hash_of(scheduler, packet);

	if (count == 0)
		return SERVICE_NONE;
	if (scheduler->pick_by_load != NULL)
		refresh(pipeline, service, cursor, now_ms);
	// What the scheduler would choose next; behind its picks whoever comes first.
	for (uint32_t looked = 0; looked < MAX_PICKS + RTE_MIN(count, (uint32_t)MAX_LOOKED);
		looked++) {
		if (looked == 0 && scheduler->pick_by_load != NULL)
			index = scheduler->pick_by_load(service->schedule, &load, cursor);
		else if (looked < MAX_PICKS && scheduler->pick != NULL)
			index = scheduler->pick(service->schedule, hash = hash_again(hash), cursor);
		else
			index = looked <= MAX_PICKS ? hash_again(hash) % count
				: index + 1 < count ? index + 1
						    : 0;
		uint32_t id = service->candidates[index];
		if (is_among(id, tried, nb_tried) || !table->backends[id].resolved ||
			(service->limits != NULL && is_full(pipeline, service, index)))
			continue;
		// One that failed others lately is better than none.
		if (stats_connect_is_suspect(&pipeline->connects[id])) {
			found = found == SERVICE_NONE ? id : found;
			continue;
		}
		found = id;
		break;
	}
	if (found != SERVICE_NONE)
		pipeline_count_opened(pipeline, found, 1);
	return found;
}

bool pipeline_allows(const struct service *service, const struct packet *packet)
{
	return service->access == NULL ||
		service_access_allows(service->access, packet_addrs(packet));
}
