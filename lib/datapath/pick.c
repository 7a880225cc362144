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
#include "snat.h"

enum {
	MAX_REFRESHED = 128,     // backends a millisecond and service
	MAX_PICKS = 8,           // by the scheduler, before any backend will do
	MAX_LOOKED = 1024,       // backends, then, before the SYN is refused,
	MAX_LOOKED_FURTHER = 64, // or a half-open flow gives way to it
	MAX_SIBLINGS = 4096,     // backends of one address and port, in other services
	MAX_GIVE_WAY = 4,        // half-open flows to one SYN
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

static void refresh(struct pipeline *pipeline, const struct service_set *set,
	struct scheduler_cursor *cursor, uint32_t now_ms)
{
	uint32_t count = RTE_MIN(set->count, (uint32_t)MAX_REFRESHED);

	if (cursor->refreshed_ms == now_ms)
		return;
	cursor->refreshed_ms = now_ms;
	while (count-- > 0) {
		if (++cursor->refreshed >= set->count)
			cursor->refreshed = 0;
		uint32_t id = set->ids[cursor->refreshed];
		pipeline->active[id] = sum_active(pipeline, id);
	}
}

static bool is_full(struct pipeline *pipeline, const struct service_set *set, uint32_t index)
{
	uint32_t limit = set->limits[index], id = set->ids[index];

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
static uint32_t pick_with_room(struct pipeline *pipeline, const struct scheduler_ops *scheduler,
	const struct service_set *set, struct scheduler_cursor *cursor, uint64_t hash)
{
	const struct scheduler_load load = {pipeline->active, set->ids, set->limits};
	uint32_t index = 0, count = set->count;

	for (unsigned picks = 0; picks < MAX_PICKS; picks++, hash = hash_again(hash)) {
		if (scheduler->pick_by_load != NULL)
			index = scheduler->pick_by_load(set->schedule, &load, cursor);
		else
			// NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): it has one
			index = scheduler->pick(set->schedule, hash, cursor);
		if (set->limits == NULL || !is_full(pipeline, set, index))
			return set->ids[index];
	}
	for (uint32_t left = RTE_MIN(count, (uint32_t)MAX_LOOKED); left > 0; left--) {
		index = index + 1 < count ? index + 1 : 0;
		if (!is_full(pipeline, set, index))
			return set->ids[index];
	}
	return SERVICE_NONE;
}

/* The id of the scheduler's choice, SERVICE_NONE when all are full. */
static uint32_t pick(struct pipeline *pipeline, const struct scheduler_ops *scheduler,
	const struct service_set *set, struct scheduler_cursor *cursor, uint64_t hash,
	uint64_t now_ms)
{
	if (scheduler->pick_by_load != NULL)
		refresh(pipeline, set, cursor, now_ms);
	if (likely(set->limits == NULL && scheduler->pick != NULL))
		return set->ids[scheduler->pick(set->schedule, hash, cursor)];
	return pick_with_room(pipeline, scheduler, set, cursor, hash);
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

	if (scheduler->prefetch != NULL && service->candidates.count != 0)
		scheduler->prefetch(service->candidates.schedule, hash_of(scheduler, packet));
}

uint32_t pipeline_pick(struct pipeline *pipeline, const struct service *service,
	struct service_cursors *cursors, const struct packet *packet, uint64_t now_ms)
{
	const struct scheduler_ops *scheduler = service->scheduler;
	uint64_t hash = hash_of(scheduler, packet);
	uint32_t id =
		pick(pipeline, scheduler, &service->candidates, &cursors->candidates, hash, now_ms);

	if (unlikely(id == SERVICE_NONE && service->backups.count != 0))
		id = pick(pipeline, scheduler, &service->backups, &cursors->backups, hash, now_ms);
	if (id != SERVICE_NONE)
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

/* A place in a set. */
struct place {
	const struct service_set *set;
	uint32_t index;
};

static uint32_t id_at(const struct place *place)
{
	return place->set->ids[place->index];
}

/* Backends that are looked at in place of the first choice: what the scheduler would choose next;
 * behind its picks whoever comes first. */
struct look {
	struct pipeline *pipeline;
	const struct service_table *table;
	struct flow_table *flows;
	const struct scheduler_ops *scheduler;
	uint64_t now_ms;
	const uint32_t *tried;
	unsigned nb_tried;

	// In the set at hand.
	struct place at;
	struct scheduler_cursor *cursor;
	uint64_t hash; // that the next pick goes by
	uint32_t nb_looked;
	uint64_t seen; // of its first 64, a bit each

	uint32_t suspect;          // has room, but failed others lately; SERVICE_NONE = none
	struct flow *oldest;       // may give way if none has room; NULL = nobody may,
	struct place oldest_place; // at this one,
	enum stats_gave_way why;
};

static bool next(struct look *look)
{
	const struct scheduler_ops *scheduler = look->scheduler;
	const struct service_set *set = look->at.set;
	const struct scheduler_load load = {look->pipeline->active, set->ids, set->limits};
	// With a flow at hand that may give way it isn't worth a look at all of many.
	uint32_t most = look->oldest == NULL ? MAX_LOOKED : MAX_LOOKED_FURTHER;
	uint32_t index = look->at.index, count = set->count;

	while (look->nb_looked < MAX_PICKS + RTE_MIN(count, most)) {
		uint32_t n = look->nb_looked++;
		if (n == 0 && scheduler->pick_by_load != NULL) {
			index = scheduler->pick_by_load(set->schedule, &load, look->cursor);
		} else if (n < MAX_PICKS && scheduler->pick != NULL) {
			index = scheduler->pick(set->schedule, look->hash, look->cursor);
			look->hash = hash_again(look->hash);
		} else {
			index = n <= MAX_PICKS      ? look->hash % count
				: index + 1 < count ? index + 1
						    : 0;
		}
		look->at.index = index;
		uint64_t bit = index < 64 ? 1ULL << index : 0;
		if ((look->seen & bit) != 0)
			continue;
		look->seen |= bit;
		return true;
	}
	return false;
}

static bool has_port(const struct service_table *table, const struct service_backend *backend)
{
	uint32_t count = service_snat(table, backend->family)->count;

	for (uint32_t i = 0; i < count; i++)
		if (snat_pool_used(backend->pools[i]) < snat_pool_size(backend->pools[i]))
			return true;
	return false;
}

/* The flow, unless it is younger than that or may not give way yet. */
static struct flow *older(const struct look *look, struct flow *flow, struct flow *than)
{
	if (flow == NULL || !pipeline_may_give_way(look->pipeline, look->table, flow, look->now_ms))
		return than;
	return than == NULL ||
			flow_half_open_ms(flow, look->now_ms) >
				flow_half_open_ms(than, look->now_ms)
		? flow
		: than;
}

/* The oldest half-open flow that may give way to one that is to go to the backend: a place is that
 * backend's, a port is anybody's who has the same address and port. */
static struct flow *oldest_at(const struct look *look, uint32_t id, enum stats_gave_way why)
{
	struct flow *oldest = older(look, flow_table_half_open_of(look->flows, id), NULL);
	uint32_t other = look->table->backends[id].sibling;

	if (why == STATS_GAVE_WAY_PLACE)
		return oldest;
	for (unsigned i = 0; other != id && i < MAX_SIBLINGS; i++) {
		oldest = older(look, flow_table_half_open_of(look->flows, other), oldest);
		other = look->table->backends[other].sibling;
	}
	return oldest;
}

/* Whether a connection may go to the one at hand; else what would have to give way. */
static bool has_room(struct look *look)
{
	const struct service_set *set = look->at.set;
	uint32_t id = id_at(&look->at);
	enum stats_gave_way why;

	if (set->limits != NULL && is_full(look->pipeline, set, look->at.index))
		why = STATS_GAVE_WAY_PLACE;
	else if (!has_port(look->table, &look->table->backends[id]))
		why = STATS_GAVE_WAY_PORT;
	else
		return true;
	if (look->oldest == NULL) {
		look->oldest = oldest_at(look, id, why);
		look->oldest_place = look->at;
		look->why = why;
	}
	return false;
}

static bool is_a_choice(const struct look *look)
{
	uint32_t id = id_at(&look->at);

	return !is_among(id, look->tried, look->nb_tried) && look->table->backends[id].resolved;
}

/* One of the set that has room and is well; SERVICE_NONE = none. `hash`: of the first pick. */
static uint32_t look_around(struct look *look, const struct service_set *set,
	struct scheduler_cursor *cursor, uint64_t hash)
{
	if (set->count == 0)
		return SERVICE_NONE;
	if (look->scheduler->pick_by_load != NULL)
		refresh(look->pipeline, set, cursor, look->now_ms);
	look->at = (struct place){.set = set};
	look->cursor = cursor;
	look->hash = hash;
	look->nb_looked = 0;
	look->seen = 0;
	while (next(look)) {
		uint32_t id = id_at(&look->at);
		if (!is_a_choice(look) || !has_room(look))
			continue;
		if (!stats_connect_is_suspect(&look->pipeline->connects[id]))
			return id;
		look->suspect = look->suspect == SERVICE_NONE ? id : look->suspect;
	}
	return SERVICE_NONE;
}

/* One that has room, by force. */
static uint32_t make_room(struct look *look)
{
	for (unsigned i = 0; i < MAX_GIVE_WAY && look->oldest != NULL; i++) {
		if (!flow_table_may_remove(look->flows, look->pipeline->worker))
			return SERVICE_NONE;
		pipeline_give_way(
			look->pipeline, look->table, look->flows, look->oldest, look->why);
		// Another worker may have taken what it left.
		look->oldest = NULL;
		look->at = look->oldest_place;
		if (has_room(look))
			return id_at(&look->at);
	}
	return SERVICE_NONE;
}

uint32_t pipeline_pick_other(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, const struct service *service, struct service_cursors *cursors,
	const struct packet *packet, const uint32_t *tried, unsigned nb_tried, uint64_t now_ms)
{
	struct look look = {
		.pipeline = pipeline,
		.table = table,
		.flows = flows,
		.scheduler = service->scheduler,
		.now_ms = now_ms,
		.tried = tried,
		.nb_tried = nb_tried,
		.suspect = SERVICE_NONE,
	};
	uint64_t hash = hash_of(service->scheduler, packet);
	// By that hash itself the first choice was made; of the backups none was.
	uint32_t id =
		look_around(&look, &service->candidates, &cursors->candidates, hash_again(hash));

	if (id == SERVICE_NONE)
		id = look_around(&look, &service->backups, &cursors->backups, hash);
	if (id == SERVICE_NONE)
		id = look.suspect; // better than none
	if (id == SERVICE_NONE)
		id = make_room(&look);
	if (id != SERVICE_NONE)
		pipeline_count_opened(pipeline, id, 1);
	return id;
}

bool pipeline_allows(const struct service *service, const struct packet *packet)
{
	return service->access == NULL ||
		service_access_allows(service->access, packet_addrs(packet));
}
