/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Three scans. The first judges each record by itself and counts, so that the second knows for whom
 * there is room; that one moves records from beyond the table's end to free places and fills the
 * index; the third sees what is left. A kill at any point leaves a file that can be adopted: a
 * moved record is there twice for a moment, and free only when its copy is whole.
 */
#include "flow_adopt.h"

#include <rte_common.h>
#include <stdbool.h>
#include <string.h>

#include "flow_table.h"

#define BATCH 16                    // records whose index misses overlap
#define AGES 256                    // seconds; who is older is as old
#define AGE_MAX_MS (1u << 30)       // no flow stays half open for so long
#define VERSION_1_FIN_SEEN (1 << 2) // a flag

const char *const flow_adopt_drop_names[FLOW_ADOPT_DROPS] = {
	[FLOW_ADOPT_CONNECTING] = "connecting",
	[FLOW_ADOPT_EXPIRED] = "expired",
	[FLOW_ADOPT_DUPLICATE] = "duplicate",
	[FLOW_ADOPT_NO_BACKEND] = "no_backend",
	[FLOW_ADOPT_NO_ROOM] = "no_room",
	[FLOW_ADOPT_DAMAGED] = "damaged",
};

/* Who stays in a table that became too small. */
enum rank { RANK_ESTABLISHED, RANK_OPEN, RANK_CLOSED, RANKS };

struct adoption {
	struct flow_table *table;
	const struct flow_adopt_source *source;
	struct flow_adopt_result *result;
	uint32_t room[RANKS]; // flows of the rank that may stay yet
	uint32_t free_at;     // no record below is free
	struct flow *batch[BATCH];
	struct flow_hashes hashes[BATCH];
	uint32_t nb_batch;
	uint32_t by_age[AGES]; // half-open flows by seconds: a list's first record + 1
};

static enum rank rank_of(enum tcp_state state)
{
	if (state == TCP_ESTABLISHED)
		return RANK_ESTABLISHED;
	return tcp_state_closed(state) ? RANK_CLOSED : RANK_OPEN;
}

static void set_status(struct flow *flow, uint8_t status)
{
	// Release: a record is whole when it has a state.
	__atomic_store_n(&flow->status, status, __ATOMIC_RELEASE);
}

static void drop(struct adoption *adoption, struct flow *flow, enum flow_adopt_drop why)
{
	set_status(flow, TCP_NONE);
	adoption->result->dropped[why]++;
}

static bool is_zero(const uint8_t *bytes, unsigned size)
{
	for (unsigned i = 0; i < size; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

static bool status_is_sane(uint8_t status)
{
	enum tcp_fin fins[] = {tcp_status_fin(status, FLOW_FROM_CLIENT),
		tcp_status_fin(status, FLOW_FROM_BACKEND)};
	bool has_fins = fins[FLOW_FROM_CLIENT] != 0 || fins[FLOW_FROM_BACKEND] != 0;

	return tcp_status_state(status) < TCP_STATES && (!has_fins || tcp_status(fins) == status);
}

static bool is_sane(const struct flow_table *table, struct flow *flow)
{
	unsigned size = net_addr_size(table->family);

	if (!status_is_sane(flow->status) || flow->kind != 0)
		return false;
	for (unsigned a = 0; a < FLOW_ADDRESSES; a++)
		if (flow->port[a] == 0 || is_zero(flow_addr(flow, table->family, a), size))
			return false;
	return true;
}

/* Seconds without a packet, those without a process among them. */
static uint64_t idle_s(const struct flow_adopt_source *source, const struct flow *flow)
{
	uint16_t before = source->alive_s - flow->last_seen;

	// Its owner said that it lives once a second; the packet may be the later one.
	if (before > UINT16_MAX - FLOW_CLOCK_SLACK_S)
		before = 0;
	return source->now_s - source->alive_s + before;
}

/*
 * Version 1 knew that a FIN was seen, and by FLOW_LINGERS whose the first one was. Of the second it
 * knows less than enough to believe it: a repeated one counted as the other side's.
 */
static void learn_fins(struct flow *flow)
{
	bool lingers = flow->flags & FLOW_LINGERS;
	enum flow_direction first = lingers ? FLOW_FROM_BACKEND : FLOW_FROM_CLIENT;
	enum tcp_fin fins[FLOW_DIRECTIONS] = {0};

	if (flow->status < TCP_FIN_WAIT || flow->status > TCP_LAST_ACK)
		return;
	fins[first] = flow->ack[1 - first] == flow->end[first] ? TCP_FIN_ACKED : TCP_FIN_SENT;
	set_status(flow, tcp_status(fins));
}

static void judge(struct adoption *adoption, struct flow *flow, uint32_t count[RANKS])
{
	const struct flow_adopt_source *source = adoption->source;
	enum tcp_state state = flow_state(flow);
	const uint16_t *timeout_s;

	if (!is_sane(adoption->table, flow)) {
		drop(adoption, flow, FLOW_ADOPT_DAMAGED);
	} else if (state == TCP_SYN_SENT) {
		drop(adoption, flow, FLOW_ADOPT_CONNECTING);
	} else if ((timeout_s = source->resolve(source->context, flow)) == NULL) {
		drop(adoption, flow, FLOW_ADOPT_NO_BACKEND);
	} else if (idle_s(source, flow) >= timeout_s[state]) {
		drop(adoption, flow, FLOW_ADOPT_EXPIRED);
	} else {
		// Side records are gone with the process; a flow with an answer needs none.
		flow->flags &= ~(FLOW_SIDE | VERSION_1_FIN_SEEN);
		learn_fins(flow);
		flow->worker = flow_worker(flow) % adoption->table->nb_workers;
		count[rank_of(state)]++;
	}
}

static void share_room(struct adoption *adoption, const uint32_t count[RANKS])
{
	struct flow_table *table = adoption->table;
	uint32_t room = table->limit;

	for (unsigned rank = 0; rank < RANKS; rank++) {
		adoption->room[rank] = RTE_MIN(room, count[rank]);
		room -= adoption->room[rank];
	}
	flow_index_fit(&table->index, table->limit - room);
}

/* A flow from beyond the end gets a free record; there is one, since it has room. */
static struct flow *move(struct adoption *adoption, struct flow *flow)
{
	struct flow_table *table = adoption->table;
	uint8_t status = flow->status;
	struct flow *to;

	do
		to = flow_table_record(table, adoption->free_at++);
	while (flow_state(to) != TCP_NONE);
	uint8_t *from_record = (uint8_t *)flow - table->flow_offset;
	uint8_t *to_record = (uint8_t *)to - table->flow_offset;
	uint32_t status_at = table->flow_offset + offsetof(struct flow, status);
	memcpy(to_record, from_record, status_at);
	memcpy(to_record + status_at + 1, from_record + status_at + 1,
		table->record_size - status_at - 1);
	set_status(to, status);
	set_status(flow, TCP_NONE);
	return to;
}

/* The flow that has the tuple of this direction already, or NULL. */
static struct flow *find_other(const struct flow_table *table, struct flow *flow, uint64_t hash,
	enum flow_direction direction)
{
	uint32_t ports;

	memcpy(&ports, &flow->port[direction * 2], sizeof(ports));
	uint32_t entry =
		flow_table_find(table, hash, flow_addr(flow, table->family, direction * 2), ports);
	return entry == FLOW_NOT_FOUND ? NULL : flow_entry_flow(table, entry);
}

static bool wins(const struct adoption *adoption, const struct flow *flow, const struct flow *other)
{
	bool closed = tcp_state_closed(flow_state(flow));

	if (closed != tcp_state_closed(flow_state(other)))
		return !closed;
	return idle_s(adoption->source, flow) > idle_s(adoption->source, other);
}

static void place(struct adoption *adoption, struct flow *flow, const struct flow_hashes *hashes)
{
	struct flow_table *table = adoption->table;

	bool detached = flow->flags & FLOW_DETACHED; // another flow may have the client's tuple

	for (unsigned d = detached ? FLOW_FROM_BACKEND : 0; d < FLOW_DIRECTIONS; d++) {
		struct flow *other = find_other(table, flow, hashes->of[d], d);
		if (other == NULL)
			continue;
		if (!wins(adoption, flow, other)) {
			drop(adoption, flow, FLOW_ADOPT_DUPLICATE);
			return;
		}
		struct flow_hashes others;
		flow_table_hashes(table, other, &others);
		flow_table_unplace(table, other, &others);
		drop(adoption, other, FLOW_ADOPT_DUPLICATE);
	}
	if (!flow_table_place(table, flow, hashes))
		drop(adoption, flow, FLOW_ADOPT_NO_ROOM);
	else if (detached)
		flow_table_detach(table, flow);
}

static void place_batch(struct adoption *adoption)
{
	for (uint32_t i = 0; i < adoption->nb_batch; i++) {
		flow_table_hashes(adoption->table, adoption->batch[i], &adoption->hashes[i]);
		flow_table_prefetch(adoption->table, adoption->batch[i], &adoption->hashes[i]);
	}
	for (uint32_t i = 0; i < adoption->nb_batch; i++)
		place(adoption, adoption->batch[i], &adoption->hashes[i]);
	adoption->nb_batch = 0;
}

static void place_all(struct adoption *adoption)
{
	struct flow_table *table = adoption->table;

	for (uint32_t r = 0; r < adoption->source->found; r++) {
		struct flow *flow = flow_table_record(table, r);
		enum tcp_state state = flow_state(flow);
		if (state == TCP_NONE)
			continue;
		if (adoption->room[rank_of(state)] == 0) {
			drop(adoption, flow, FLOW_ADOPT_NO_ROOM);
			continue;
		}
		adoption->room[rank_of(state)]--;
		// Those behind it that have no room are still in the way of none: all records
		// within the table were looked at before the first one beyond it.
		if (r >= table->capacity)
			flow = move(adoption, flow);
		adoption->batch[adoption->nb_batch++] = flow;
		if (adoption->nb_batch == BATCH)
			place_batch(adoption);
	}
	place_batch(adoption);
}

/* Half-open flows are queued by age, to the second. The links that the queues are going to use hold
 * them meanwhile. */
static void sort_in(struct adoption *adoption, struct flow *flow)
{
	uint32_t next_second_ms = (adoption->source->now_s + 1) * 1000;
	uint32_t age_ms = next_second_ms - flow_since_ms(flow);

	if (age_ms > AGE_MAX_MS) { // version 1 had another number there
		age_ms = AGE_MAX_MS;
		flow->since_ms = next_second_ms - age_ms;
	}
	uint32_t *first = &adoption->by_age[RTE_MIN(age_ms / 1000, (uint32_t)AGES - 1)];
	uint32_t record = flow_table_number(adoption->table, flow);

	adoption->table->links[record].next = *first;
	*first = record + 1;
}

static void queue_half_open(struct adoption *adoption)
{
	struct flow_table *table = adoption->table;

	for (uint32_t age_s = AGES; age_s-- > 0;) {
		for (uint32_t at = adoption->by_age[age_s], next; at != 0; at = next) {
			struct flow *flow = flow_table_record(table, at - 1);
			next = table->links[at - 1].next;
			flow_table_settle(table, flow, TCP_NONE, flow_state(flow));
		}
	}
}

/* Free records, queues and counts from what is left. */
static void take_stock(struct adoption *adoption)
{
	struct flow_table *table = adoption->table;
	const struct flow_adopt_source *source = adoption->source;

	for (uint32_t r = 0; r < RTE_MIN(source->found, table->capacity) || r < adoption->free_at;
		r++)
		if (flow_state(flow_table_record(table, r)) != TCP_NONE)
			table->fresh = r + 1;
	// The lowest are lent first: the stack is filled from the top.
	for (uint32_t r = table->fresh; r-- > 0;)
		if (flow_state(flow_table_record(table, r)) == TCP_NONE)
			flow_table_free(table, r);
	for (uint32_t r = 0; r < table->fresh; r++) {
		struct flow *flow = flow_table_record(table, r);
		enum tcp_state state = flow_state(flow);
		if (state == TCP_NONE)
			continue;
		table->used++;
		if (tcp_state_half_open(state))
			sort_in(adoption, flow);
		else
			flow_table_settle(table, flow, TCP_NONE, state);
		source->adopted(source->context, flow, state);
	}
	queue_half_open(adoption);
	adoption->result->adopted = table->used;
}

void flow_table_adopt(struct flow_table *table, const struct flow_adopt_source *source,
	struct flow_adopt_result *result)
{
	struct adoption adoption = {.table = table, .source = source, .result = result};
	uint32_t count[RANKS] = {0};

	memset(result, 0, sizeof(*result));
	for (uint32_t r = 0; r < source->found; r++) {
		struct flow *flow = flow_table_record(table, r);
		if (flow_state(flow) != TCP_NONE)
			judge(&adoption, flow, count);
	}
	share_room(&adoption, count);
	place_all(&adoption);
	take_stock(&adoption);
}
