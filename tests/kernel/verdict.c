/* SPDX-License-Identifier: BSD-3-Clause */
#include "verdict.h"

#include <stdio.h>
#include <string.h>

const char *const deviation_names[DEVIATIONS] = {
	[DEVIATION_LIVES_ON] = "lives on though ignored",
	[DEVIATION_NUMBERS] = "numbers change though ignored",
	[DEVIATION_STATE] = "state changes though the socket's didn't",
	[DEVIATION_STAYS] = "state stays though the socket's changed",
};

static bool sockets_differ(const struct host_view *a, const struct host_view *b)
{
	return a->state != b->state || a->unread != b->unread || a->ooo != b->ooo ||
		a->unacked != b->unacked || a->window != b->window || a->received != b->received ||
		a->acked != b->acked || a->error != b->error || a->events != b->events;
}

static bool moves_socket(const struct passage *p)
{
	return p->socket[0].state != p->socket[1].state;
}

/* Whether Weir's record has come to where the receiver of a packet is. */
static bool follows(const struct passage *p, const struct record *first, const struct record *last)
{
	enum host_state state = p->socket[1].state;
	bool is_over = !last->is_there || tcp_state_closed(last->state);

	if (state == HOST_NONE || state == HOST_CLOSE)
		return is_over;
	return (state == HOST_ESTABLISHED && last->is_there && tcp_state_open(last->state)) ||
		record_diff(first, last, NULL, 0) & RECORD_STATE;
}

/*
 * The packet may change what its receiver took. An answer may, too, what the receiver of the packet
 * took: the other end knows nothing of what was sent in its name, and can't judge that.
 */
static void judge(struct verdict *v)
{
	const struct passage *packet = &v->passages[0];
	const struct record *first = &packet->record[0];
	const struct record *last = &v->passages[v->nb_passages - 1].record[1];

	for (const struct passage *p = packet; p < packet + v->nb_passages; p++) {
		unsigned changes = record_diff(&p->record[0], &p->record[1], NULL, 0);
		if (p == packet && !p->is_taken && changes & RECORD_IDLE)
			v->deviates[DEVIATION_LIVES_ON] = true;
		if (!packet->is_taken && !p->is_taken && changes & RECORD_NUMBERS)
			v->deviates[DEVIATION_NUMBERS] = true;
		if (!moves_socket(packet) && !moves_socket(p) && changes & RECORD_STATE)
			v->deviates[DEVIATION_STATE] = true;
		if (moves_socket(p) && !follows(p, first, last))
			v->deviates[DEVIATION_STAYS] = true;
	}
	// Who changes the state may as well change the numbers, and keep the flow alive by that.
	if (v->deviates[DEVIATION_STATE])
		v->deviates[DEVIATION_NUMBERS] = false;
	if (v->deviates[DEVIATION_STATE] || v->deviates[DEVIATION_NUMBERS])
		v->deviates[DEVIATION_LIVES_ON] = false;
}

/* Past Weir, and to the other end. */
static void pass(struct trial *trial, enum flow_direction from, const void *frame, unsigned size,
	struct passage *p)
{
	p->record[0] = record_of(trial);
	const struct rig_packet *packet = rig_run_frame(trial->rig, 0, frame, size);
	p->record[1] = record_of(trial);
	p->fate = packet->fate;
	p->is_delivered = trial_read(trial, packet, &p->out) && p->out.to != from;
	if (!p->is_delivered)
		return;
	struct trial_end *end = &trial->end[p->out.to];
	end->tuple = p->out.tuple;
	p->socket[0] = host_look(end->host, &end->tuple, end->fd);
	host_send(end->host, packet->frame, packet->size);
	p->socket[1] = host_look(end->host, &end->tuple, end->fd);
	p->is_taken = sockets_differ(&p->socket[0], &p->socket[1]);
}

void verdict_reach(struct verdict *v, struct trial *trial, enum flow_direction from,
	const void *frame, unsigned size)
{
	uint8_t answer[PACKETS_SIZE_MAX];

	memset(v, 0, sizeof(*v));
	pass(trial, from, frame, size, &v->passages[v->nb_passages++]);
	while (v->nb_passages < VERDICT_PASSAGES_MAX &&
		(size = trial_receive(trial, 1 - from, answer)) != 0)
		pass(trial, 1 - from, answer, size, &v->passages[v->nb_passages++]);
	judge(v);
}

static void print_flags(const struct trial_out *out)
{
	static const char letters[] = "FSRPAUEC";

	printf(", %s ", out->is_tcp ? "TCP" : "not TCP");
	for (unsigned i = 0; i < 8; i++)
		if (out->is_tcp && out->flags >> i & 1)
			putchar(letters[i]);
}

static void print_socket(const struct passage *p)
{
	static const char *const fates[] = {"forwards it", "answers", "drops it", "punts it"};
	const struct host_view *s = p->socket;

	if (!p->is_delivered) {
		printf("    kernel: gets nothing, Weir %s\n",
			fates[p->fate < RIG_PUNTED ? p->fate : RIG_PUNTED]);
		return;
	}
	printf("    kernel: %s, %s", p->is_taken ? "takes it" : "ignores it",
		host_state_name(s[0].state));
	if (moves_socket(p))
		printf(" -> %s", host_state_name(s[1].state));
#define NUMBER(name)                                                                               \
	if (s[0].name != s[1].name)                                                                \
	printf(", " #name " %lld -> %lld", (long long)s[0].name, (long long)s[1].name)
	NUMBER(unread);
	NUMBER(ooo);
	NUMBER(unacked);
	NUMBER(window);
	NUMBER(received);
	NUMBER(acked);
	NUMBER(error);
	NUMBER(events);
#undef NUMBER
	printf("\n");
}

void verdict_print(const struct verdict *v)
{
	for (unsigned i = 0; i < v->nb_passages; i++) {
		const struct passage *p = &v->passages[i];
		char text[512];
		unsigned changes = record_diff(&p->record[0], &p->record[1], text, sizeof(text));
		printf("  %s", i == 0 ? "the packet" : "an answer");
		if (p->is_delivered)
			print_flags(&p->out);
		printf("\n    Weir: %s; %s\n",
			tcp_state_names[p->record[0].is_there ? p->record[0].state : TCP_NONE],
			changes != 0 ? text : "nothing changes");
		print_socket(p);
	}
}
