/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The tracking of connections against a model of it (A1, A20). The model knows each side's stream
 * as a 64-bit position and says what the README and netfilter's table say, in words of its own: no
 * code, no table and no 32-bit comparison of the module is used. Random segments go through the
 * pipeline: valid ones, lost, repeated and late ones, blind ones, in every order.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "flow_offsets.h"
#include "rig.h"

/* --- the model --- */

enum phase { GONE, SENT, SENT2, RECV, OPEN, DONE, KILLED };
enum fin { NO_FIN, FIN_UNDER_WAY, FIN_THROUGH };

struct model {
	enum phase phase;
	int64_t end[2]; // where each side's stream ends, as far as it was seen
	int64_t ack[2]; // how far each side has acknowledged the other's; of the backend before its
			// answer where the client's SYN stands
	enum fin fin[2];
};

/* A segment with its numbers as positions. */
struct move {
	unsigned side;
	uint8_t flags;
	int64_t seq, ack;
	unsigned payload;
};

/* The distance from b to a on the circle of 2^32, as a receiver sees it. */
static int64_t distance(int64_t a, int64_t b)
{
	int64_t d = (a - b) % ((int64_t)1 << 32);

	if (d < 0)
		d += (int64_t)1 << 32;
	return d > (int64_t)1 << 31 ? d - ((int64_t)1 << 32) : d;
}

static bool same(int64_t a, int64_t b)
{
	return distance(a, b) == 0;
}

static enum tcp_state state_of(const struct model *m)
{
	unsigned seen = !!m->fin[0] + !!m->fin[1];
	unsigned through = (m->fin[0] == FIN_THROUGH) + (m->fin[1] == FIN_THROUGH);

	switch (m->phase) {
	case GONE:
		return TCP_NONE;
	case SENT:
		return TCP_SYN_SENT;
	case SENT2:
		return TCP_SYN_SENT2;
	case RECV:
		return TCP_SYN_RECV;
	case DONE:
		return TCP_TIME_WAIT;
	case KILLED:
		return TCP_CLOSE;
	default:
		return seen == 0    ? TCP_ESTABLISHED
			: seen == 2 ? TCP_LAST_ACK
			: through   ? TCP_CLOSE_WAIT
				    : TCP_FIN_WAIT;
	}
}

static void model_reset(struct model *m, const struct move *s)
{
	unsigned other = 1 - s->side;
	bool exact = same(s->seq, m->end[s->side]);

	if (m->phase == SENT && s->side == 1)
		exact = (s->flags & TCP_ACK) && same(s->ack, m->end[0]);
	if (m->phase == RECV && s->side == 0)
		exact |= same(s->seq, m->ack[1]);
	if (m->phase >= OPEN)
		exact |= same(s->seq, m->ack[other]);
	if ((m->phase == OPEN || m->phase == DONE) && m->fin[s->side] != NO_FIN)
		exact |= same(s->seq + 1, m->end[s->side]);
	if (exact) {
		m->phase = KILLED;
		m->fin[0] = m->fin[1] = NO_FIN;
	}
}

/* Is the acknowledgement one of the client's SYN, or of the data with it? */
static bool answers_syn(const struct model *m, const struct move *s)
{
	int64_t acked = distance(s->ack, m->ack[1]), sent = distance(m->end[0], m->ack[1]);

	return acked <= sent && (m->phase == RECV ? acked >= 0 : acked > 0);
}

static void model_syn(struct model *m, const struct move *s)
{
	if (m->phase != SENT)
		return;
	m->end[s->side] = s->seq + s->payload + 1;
	if (s->side == 0)
		m->ack[1] = s->seq;
	else
		m->phase = SENT2;
}

static void model_synack(struct model *m, const struct move *s)
{
	if (s->side == 0) {
		if (m->phase == SENT2 && same(s->ack, m->end[1]))
			m->phase = RECV;
	} else if ((m->phase == SENT || m->phase == SENT2 || m->phase == RECV) &&
		answers_syn(m, s)) {
		m->end[1] = s->seq + s->payload + 1;
		m->ack[1] = s->ack;
		m->phase = RECV;
	}
}

static void model_stream(struct model *m, const struct move *s)
{
	unsigned side = s->side, other = 1 - side;
	int64_t end = s->seq + s->payload;
	bool knows_other = same(s->ack, m->end[other]) || same(s->ack, m->ack[side]);
	bool reaches_on = distance(end, m->end[side]) > 0 &&
		distance(s->seq, m->end[side]) < (int64_t)1 << 30; // the largest window

	if (distance(s->ack, m->end[other]) > 0)
		return; // nobody has sent that
	// Its acknowledgement.
	if (m->fin[other] == FIN_UNDER_WAY && same(s->ack, m->end[other]))
		m->fin[other] = FIN_THROUGH;
	if (distance(s->ack, m->ack[side]) > 0)
		m->ack[side] = s->ack;
	// Its data and its FIN.
	if (m->fin[side] == FIN_THROUGH)
		return;
	if (reaches_on && (distance(s->seq, m->end[side]) <= 0 || knows_other)) {
		m->fin[side] = NO_FIN;
		m->end[side] = end;
	}
	if ((s->flags & TCP_FIN) && m->fin[side] == NO_FIN &&
		(same(end, m->end[side]) || same(end + 1, m->end[side]))) { // or overtaken
		m->fin[side] = FIN_UNDER_WAY;
		m->end[side] = end + 1;
	}
}

static void model_ack(struct model *m, const struct move *s)
{
	if (m->phase == RECV && s->side == 0 && same(s->ack, m->end[1])) {
		m->phase = OPEN;
		m->ack[0] = s->ack;
	}
	if (m->phase != OPEN)
		return;
	model_stream(m, s);
	if (m->fin[0] == FIN_THROUGH && m->fin[1] == FIN_THROUGH)
		m->phase = DONE;
}

/* What the segment changes. A client's SYN on what is over or gone is not for here: it makes a new
 * flow. */
static void model_step(struct model *m, const struct move *s)
{
	if (m->phase == GONE)
		return;
	if (s->flags & TCP_RST)
		model_reset(m, s);
	else if ((s->flags & TCP_SYN) && (s->flags & TCP_ACK))
		model_synack(m, s);
	else if (s->flags & TCP_SYN)
		model_syn(m, s);
	else if (s->flags & TCP_ACK)
		model_ack(m, s);
}

static bool starts_anew(const struct model *m, const struct move *s)
{
	return s->side == 0 && (s->flags & 0x3f) == TCP_SYN &&
		(m->phase == GONE || m->phase == DONE || m->phase == KILLED);
}

/* --- one connection of both --- */

enum { HISTORY = 16 };

struct pair {
	struct connection c;
	struct model m;
	int64_t next[2]; // where each side goes on, if it is honest
	uint32_t seq_moved;
	struct move history[HISTORY];
	unsigned nb_history;
};

static struct segment segment_of(const struct pair *p, const struct move *s)
{
	struct segment segment = connection_segment(&p->c, s->side, s->flags);

	segment.seq = s->seq;
	// The backend acknowledges what it saw.
	segment.ack = s->flags & TCP_ACK ? s->ack + (s->side == 1 ? p->seq_moved : 0) : 0;
	segment.payload_size = s->payload;
	return segment;
}

static void assert_numbers(const struct pair *p)
{
	const struct flow *flow = connection_flow(&p->c);

	for (unsigned side = 0; side < 2; side++) {
		assert_int_equal(flow->end[side], (uint32_t)p->m.end[side]);
		assert_int_equal(flow->ack[side], (uint32_t)p->m.ack[side]);
	}
}

/* Send it; both must come to the same. */
static void step(struct pair *p, const struct move *s)
{
	struct segment segment = segment_of(p, s);
	uint64_t created = rig_created(p->c.rig);

	if ((p->m.phase == DONE || p->m.phase == KILLED) && connection_flow(&p->c) == NULL)
		p->m.phase = GONE; // gave way to who got its port
	if (s->side == 1 && p->m.phase == GONE)
		return; // no tuple
	bool anew = starts_anew(&p->m, s);
	const struct rig_packet *out = rig_run_segment(p->c.rig, 0, &segment);
	if (anew && out->fate == RIG_FORWARDED) {
		p->c.snat = out->segment.src;
		p->c.snat_port = out->segment.sport;
		p->c.backend = out->segment.dst;
		p->c.backend_port = out->segment.dport;
		for (unsigned id = 0; id < 2 * p->c.rig->options.nb_backends; id++) {
			struct net_addr addr = rig_backend_addr(p->c.rig, id);
			if (net_addr_equal(&addr, &p->c.backend) &&
				rig_backend_port(p->c.rig, id) == p->c.backend_port)
				p->c.backend_id = id;
		}
		p->seq_moved = out->segment.seq - segment.seq;
		p->m = (struct model){.phase = SENT};
		p->m.end[0] = s->seq + s->payload + 1;
		p->m.ack[1] = s->seq;
		p->next[0] = p->m.end[0];
		p->next[1] = ((int64_t)1 << 40) + (p->next[0] * 77777 & UINT32_MAX);
		// What the backend hasn't said counts as zero.
		p->m.end[1] = p->m.ack[0] = 0;
		assert_int_equal(rig_created(p->c.rig), created + 1);
	} else {
		assert_true(p->m.phase == GONE || out->fate == RIG_FORWARDED);
		assert_int_equal(rig_created(p->c.rig), created);
		model_step(&p->m, s);
	}
	enum tcp_state state = connection_state(&p->c);
	if (state != state_of(&p->m))
		print_message("side %u flags %02x: %s, the model says %s\n", s->side, s->flags,
			tcp_state_names[state], tcp_state_names[state_of(&p->m)]);
	assert_int_equal(state, state_of(&p->m));
	if (p->m.phase == OPEN)
		assert_numbers(p);
}

/* What an end might send next, or what comes late or blind. */
static struct move choose(struct pair *p, uint64_t *seed)
{
	static const uint8_t usual[] = {TCP_ACK, TCP_ACK, TCP_ACK | TCP_PSH, TCP_ACK,
		TCP_FIN | TCP_ACK, TCP_SYN, TCP_SYN | TCP_ACK, TCP_RST, TCP_RST | TCP_ACK, TCP_FIN,
		0, TCP_SYN | TCP_RST};
	uint64_t random = packets_random(seed);
	struct move s = {.side = random & 1};

	// Now and then both ends are where they were seen, whatever was done in their name.
	if (p->m.phase == RECV || (p->m.phase == OPEN && (random >> 56) % 16 == 0))
		for (unsigned side = 0; side < 2; side++)
			p->next[side] = p->m.end[side];
	if ((random >> 1) % 8 == 0 && p->nb_history != 0) // again, as it was: repeated or late
		return p->history[(random >> 8) %
			(p->nb_history < HISTORY ? p->nb_history : HISTORY)];
	if (p->m.phase == GONE || p->m.phase == SENT || p->m.phase == RECV) { // likely what opens
		s.side = p->m.phase == SENT;
		s.flags = p->m.phase == GONE ? TCP_SYN
			: p->m.phase == SENT ? TCP_SYN | TCP_ACK
					     : TCP_ACK;
	}
	if (s.flags == 0 || (random >> 4) % 4 == 0) {
		s.side = random & 1;
		s.flags = usual[(random >> 16) % (sizeof(usual))];
	}
	s.seq = p->next[s.side];
	s.ack = p->next[1 - s.side];
	if (s.flags & TCP_SYN && p->m.phase != GONE)
		s.seq--; // the SYN again; of the backend: its first
	if (s.flags == (TCP_SYN | TCP_ACK) && p->m.phase == SENT && s.side == 1)
		s.seq = p->next[1]++;
	if ((random >> 24) % 4 == 0)
		s.payload = (random >> 32) % 1400;
	if (p->m.phase == OPEN && p->m.fin[s.side] != NO_FIN && (random >> 60) != 0) {
		s.payload = 0; // who has closed says nothing more, as a rule
		s.flags &= ~TCP_FIN;
	}
	switch ((random >> 28) % 8) { // not as it should be
	case 0:
		s.seq += (int64_t)((random >> 40) % 3) - 1;
		break;
	case 1:
		s.ack += (int64_t)((random >> 40) % 3) - 1;
		break;
	case 2:
		s.seq += (int64_t)(packets_random(seed) >> 32) - ((int64_t)1 << 31);
		break;
	case 3:
		s.ack += (int64_t)(packets_random(seed) >> 32) - ((int64_t)1 << 31);
		break;
	default:
		if (!(s.flags & (TCP_SYN | TCP_RST)) && p->m.phase != GONE)
			p->next[s.side] += s.payload + !!(s.flags & TCP_FIN);
		break;
	}
	p->history[p->nb_history++ % HISTORY] = s;
	return s;
}

static void walk(uint64_t seed, unsigned steps)
{
	enum { CONNECTIONS = 8 };
	struct rig *rig = rig_create(&(struct rig_options){.flows = 4096, .nb_ports = 20});
	struct pair *pairs = calloc(CONNECTIONS, sizeof(*pairs));
	unsigned visits[TCP_STATES] = {0};

	for (unsigned n = 0; n < CONNECTIONS; n++) {
		pairs[n].c = connection_of(rig, n & 1 ? AF_INET6 : AF_INET, n);
		pairs[n].next[0] = ((int64_t)1 << 40) + (int64_t)(packets_random(&seed) >> 32);
	}
	for (unsigned i = 0; i < steps; i++) {
		struct pair *p = &pairs[packets_random(&seed) % CONNECTIONS];
		struct move s = choose(p, &seed);
		if (packets_random(&seed) % 16 == 0)
			continue; // lost before it came here
		step(p, &s);
		visits[state_of(&p->m)]++;
		if (i % 1024 == 0) // short against all timeouts: nothing expires
			rig_wait(rig, 1, 1);
		if (packets_random(&seed) % 64 == 0) { // and one that was forgotten
			struct flow *flow = connection_flow(&p->c);
			if (flow == NULL)
				continue;
			__atomic_store_n(&flow->last_seen, (uint16_t)(rig->now_ms / 1000 - 30000),
				__ATOMIC_RELAXED);
			rig_wait(rig, 2001, 2001);
			p->m = (struct model){.phase = GONE};
			assert_int_equal(connection_state(&p->c), TCP_NONE);
		}
	}
	for (enum tcp_state s = TCP_SYN_SENT; s < TCP_STATES; s++) {
		print_message("%u steps in %s\n", visits[s], tcp_state_names[s]);
		assert_true(visits[s] > steps / 5000); // each was there, often
	}
	const struct stats_flows *flows = rig->workers[0].stats->live.flows;
	print_message("%lu flows, the numbers of %lu moved\n", flows[0].created + flows[1].created,
		flows[0].renumbered + flows[1].renumbered);
	assert_true(flows[0].renumbered != 0 && flows[1].renumbered != 0);
	rig_destroy(rig);
	free(pairs);
}

static void random_segments_agree_with_the_model(void **state) // A20
{
	const char *seeds = getenv("WEIR_MODEL_SEEDS"); // 100 for the whole of A20
	unsigned nb_seeds = seeds != NULL ? atoi(seeds) : 2;

	for (unsigned seed = 1; seed <= nb_seeds; seed++)
		walk(seed * 0x9e3779b97f4a7c15, 1000000);
}

/* --- all cells of the table, through the pipeline --- */

/* Bring a new connection into the state. */
static void bring_to(struct pair *p, enum tcp_state wanted)
{
	static const struct {
		uint8_t side, flags;
	} way[] = {{0, TCP_SYN}, {1, TCP_SYN | TCP_ACK}, {0, TCP_ACK}, {1, TCP_FIN | TCP_ACK},
		{0, TCP_ACK}, {0, TCP_FIN | TCP_ACK}, {1, TCP_ACK}};

	for (unsigned i = 0; i < sizeof(way) / sizeof(way[0]); i++) {
		if (state_of(&p->m) == wanted)
			return;
		unsigned side = way[i].side;
		uint8_t flags = way[i].flags;
		if (wanted == TCP_SYN_SENT2 && i == 1)
			flags = TCP_SYN;
		if (wanted == TCP_CLOSE && i == 3)
			flags = TCP_RST;
		struct move s = {side, flags, p->next[side], p->next[1 - side], 0};
		step(p, &s);
		if (i != 0)
			p->next[side] += !!(flags & (TCP_SYN | TCP_FIN));
	}
	assert_int_equal(state_of(&p->m), wanted);
}

/* Each kind of segment from either side in each state, credible and not, in both families. */
static void every_cell_in_both_families(void **state) // A1
{
	static const uint8_t kinds[] = {
		TCP_SYN, TCP_SYN | TCP_ACK, TCP_FIN | TCP_ACK, TCP_ACK, TCP_RST, 0};
	static const int64_t offsets[] = {0, 1, -1, 100000, -100000, (int64_t)1 << 31, 3000000};
	unsigned cells = 0;

	FOR_EACH_FAMILY(family)
		for (enum tcp_state s = TCP_NONE; s < TCP_STATES; s++)
			for (unsigned side = 0; side < 2; side++)
				for (unsigned k = 0; k < sizeof(kinds); k++, cells++)
					for (unsigned o = 0;
						o < sizeof(offsets) / sizeof(offsets[0]); o++) {
						struct rig *rig = rig_create(&(struct rig_options){
							.flows = 64,
							.nb_ports = 64,
							.nb_backends = 1,
							.scheduler = &scheduler_round_robin});
						struct pair p = {
							.c = connection_of(rig, family, k)};
						p.next[0] = ((int64_t)1 << 40) + 0xffffff00;
						bring_to(&p, s);
						struct move m = {side, kinds[k],
							p.next[side] + offsets[o],
							p.next[1 - side] + (o & 1 ? 0 : offsets[o]),
							0};
						step(&p, &m);
						rig_destroy(rig);
					}
	assert_int_equal(cells, 240);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_cell_in_both_families),
		cmocka_unit_test(random_segments_agree_with_the_model),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
