/* SPDX-License-Identifier: BSD-3-Clause */
#include "record.h"

#include <stdio.h>
#include <string.h>

#include "flow_offsets.h"

static void read_flow(struct record *record, const struct trial *trial)
{
	const struct flow *flow = connection_flow(&trial->c);

	if (flow == NULL)
		return;
	record->is_there = true;
	record->state = flow_state(flow);
	for (enum flow_direction side = CLIENT; side <= BACKEND; side++)
		record->fins[side] = tcp_status_fin(flow->status, side);
	record->flags = flow->flags;
	record->last_seen = flow->last_seen;
	record->number = flow_table_number(rig_flows(trial->rig, trial->c.family), flow);
	memcpy(record->end, flow->end, sizeof(record->end));
	record->ack[BACKEND] = flow->ack[BACKEND];
	// The client's last timestamp, which may stand there, moves with the real clock.
	if (flow_keeps_ack(flow, CLIENT))
		record->ack[CLIENT] = flow->ack[CLIENT];
	record->seq_offset = flow_offsets(flow).seq[CLIENT];
	record->ts_offset = flow_offsets(flow).ts[CLIENT];
	record->client_mac = flow->client_word & FLOW_MAC_OF_WORD;
}

struct record record_of(const struct trial *trial)
{
	struct rig *rig = trial->rig;
	unsigned id = trial->c.backend_id;
	const struct rig_worker *worker = &rig->workers[0];
	const struct stats_connect *connect = rig_connects(rig, 0, id);
	struct record record = {
		.flows = flow_table_used(rig_flows(rig, trial->c.family)),
		.sides = rig_side_records(rig, trial->c.family),
		.ports = rig_ports_used(rig),
		.active = worker->active[id],
		.opened = worker->backends[id].opened,
		.ended = worker->backends[id].ended,
		.closed = worker->backends[id].closed,
		.refused = connect->refused,
		.timed_out = connect->timed_out,
		.challenged = connect->challenged,
		.fails = connect->fails,
		.moves = worker->retries[trial->c.family == AF_INET6].moves,
	};

	read_flow(&record, trial);
	return record;
}

struct diff {
	char *text;
	unsigned size, used;
	unsigned changes;
};

static void say(struct diff *diff, const char *name, const char *before, const char *after)
{
	if (diff->text != NULL && diff->used < diff->size)
		diff->used += snprintf(diff->text + diff->used, diff->size - diff->used,
			"%s%s %s -> %s", diff->used != 0 ? ", " : "", name, before, after);
}

static void compare(struct diff *diff, enum record_change kind, const char *name, uint64_t before,
	uint64_t after)
{
	char texts[2][24];

	if (before == after)
		return;
	diff->changes |= kind;
	snprintf(texts[0], sizeof(texts[0]), "%#llx", (unsigned long long)before);
	snprintf(texts[1], sizeof(texts[1]), "%#llx", (unsigned long long)after);
	say(diff, name, texts[0], texts[1]);
}

static const char *state_name(const struct record *record)
{
	return tcp_state_names[record->is_there ? record->state : TCP_NONE];
}

/* Closed is closed: there, states differ by their idle time. A FIN that is only seen sets the idle
 * time, too, and nothing else. */
static unsigned state_that_counts(const struct record *record)
{
	enum tcp_fin fins[2] = {record->fins[CLIENT], record->fins[BACKEND]};

	if (!record->is_there)
		return TCP_NONE;
	if (!tcp_state_open(record->state))
		return tcp_state_closed(record->state) ? TCP_CLOSE : record->state;
	for (enum flow_direction side = CLIENT; side <= BACKEND; side++)
		if (fins[side] == TCP_FIN_SENT)
			fins[side] = TCP_FIN_NONE;
	return tcp_status(fins);
}

unsigned record_diff(
	const struct record *before, const struct record *after, char *text, unsigned size)
{
	struct diff diff = {.text = text, .size = size};

#define FIELD(kind, name) compare(&diff, kind, #name, before->name, after->name)
	if (text != NULL)
		*text = '\0';
	if (before->is_there != after->is_there || before->state != after->state)
		say(&diff, "state", state_name(before), state_name(after));
	if (state_that_counts(before) != state_that_counts(after))
		diff.changes |= RECORD_STATE;
	FIELD(RECORD_STATE, number);
	FIELD(RECORD_STATE, flows);
	FIELD(RECORD_STATE, ports);
	FIELD(RECORD_STATE, sides);
	FIELD(RECORD_STATE, active);
	FIELD(RECORD_STATE, opened);
	FIELD(RECORD_STATE, ended);
	FIELD(RECORD_STATE, closed);
	FIELD(RECORD_STATE, refused);
	FIELD(RECORD_STATE, timed_out);
	FIELD(RECORD_STATE, challenged);
	FIELD(RECORD_STATE, fails);
	FIELD(RECORD_STATE, moves);
	FIELD(RECORD_NUMBERS, fins[CLIENT]);
	FIELD(RECORD_NUMBERS, fins[BACKEND]);
	FIELD(RECORD_NUMBERS, flags);
	FIELD(RECORD_NUMBERS, end[CLIENT]);
	FIELD(RECORD_NUMBERS, end[BACKEND]);
	FIELD(RECORD_NUMBERS, ack[CLIENT]);
	FIELD(RECORD_NUMBERS, ack[BACKEND]);
	FIELD(RECORD_NUMBERS, seq_offset);
	FIELD(RECORD_NUMBERS, ts_offset);
	FIELD(RECORD_NUMBERS, client_mac);
	FIELD(RECORD_IDLE, last_seen);
#undef FIELD
	return diff.changes;
}
