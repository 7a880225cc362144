/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From the client's SYN to the backend's answer. A backend that refuses the connection or is silent
 * costs the client nothing but time: the flow is given another backend, and the SYN that was kept
 * is sent on to that one.
 *
 *     SYN ─► begin: kept ─► SYN-ACK ─► end: from here on the flow has this backend
 *              │ ▲
 *              │ └──────────── move: another record, backend and SNAT tuple in the flow's place
 *              ├─ RST ───────────┘      none left: the client gets the RST
 *              ├─ silence ───────┘      within the retry budget; else the client's next SYN
 *              ├─ the client's SYN again, after silence
 *              └─ a challenge: the backend still holds a connection of the SNAT tuple, of which
 *                 Weir knows nothing (any more): it gets the RST that ends that one, and the SYN
 *                 again
 *
 * Silence is no answer within connect_timeout_ms, or twice the time that the backend takes on
 * average where that is longer: a backend that is far away is not dead. As long as nobody of the
 * service has answered this worker, it is about a second, after which a client sends its SYN again
 * (RFC 6298).
 *
 * A SYN that a backend may drop in silence though it is well (packet_is_odd(), or few hops left) is
 * sent on like any other, and that is all: it has no side record, is never moved, blames nobody and
 * counts for no budget. Nor has one that is too long to be kept. So what anybody can send says
 * nothing about a backend.
 *
 * Any worker may have the next packet: who decides about a flow claims its side record first, and
 * who changes its state first has decided.
 */
#include <rte_mbuf.h>

#include "flow_offsets.h"
#include "kept_syn.h"
#include "nat.h"
#include "packet.h"
#include "pipeline.h"
#include "track.h"

enum {
	UNKNOWN_MS = 900,   // how far the backends are: just before the client sends its SYN again
	LAST_TRY_MS = 1000, // the least for the last backend that may be tried
	KEPT_MS = 4000,     // a side record: clients send their SYN again after 1 s and after 3 s
	MOVES_A_TICK = 32,
	HOPS_TO_BACKEND = 16, // more than there are; a client sends with 64 at least
};

/* A flow, its side record claimed. */
struct connecting {
	struct pipeline *pipeline;
	const struct service_table *table;
	struct flow_table *flows;
	struct flow *flow;
	struct flow_side *side;
	uint32_t id;                   // of its backend
	uint32_t index;                // of the service; only when that isn't NULL:
	const struct service *service; // NULL: backend or service are not in the file any more
	uint64_t now_ms;
};

/* Whether a move is on the retry budget. */
enum price {
	FREE,
	FREE_IF_WELL, // when the next backend has answered lately: else it is one more in vain
	BUDGETED,
};

enum outcome {
	MOVED,
	STAYS, // and the side record is still claimed
	GONE,  // the flow ended, or was answered, in the meantime
};

static void forget_side(struct flow *flow)
{
	__atomic_fetch_and(&flow->flags, (uint8_t)~FLOW_SIDE, __ATOMIC_RELAXED);
}

/* What stands in place of the backend's number, as long as it hasn't answered: the index of a side
 * record, or 0 without one. */
static bool side_change(struct flow *flow, uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(
		&flow->side, &from, to, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static uint32_t number(const struct connecting *c)
{
	return flow_table_number(c->flows, c->flow);
}

static void look_up_service(struct connecting *c)
{
	const struct service_table *table = c->table;
	uint32_t id = FLOW_BACKEND_ID(c->flow->backend);

	c->id = id;
	c->service = NULL;
	if (id >= table->nb_backends ||
		table->backends[id].generation != FLOW_BACKEND_GENERATION(c->flow->backend) ||
		table->backends[id].service >= table->nb_services)
		return;
	c->index = table->backends[id].service;
	c->service = table->services[c->index];
	// Its backend has left, and the others are of the other family now: none is for this flow.
	if (c->service != NULL && c->service->family != c->flows->family)
		c->service = NULL;
}

/* --- time --- */

static uint64_t sent_ms(const struct flow_side *side)
{
	return side->sent_us / 1000;
}

/* How long the flow's backend may be silent, ms. */
static uint32_t patience_ms(const struct connecting *c)
{
	uint32_t answer_us = c->pipeline->connects[c->id].answer_us;

	if (answer_us == 0)
		answer_us = c->pipeline->retries[c->index].answer_us;
	uint32_t usual_ms = answer_us == 0 ? UNKNOWN_MS : answer_us / 1000 * 2;
	return RTE_MAX(usual_ms, c->service->connect.timeout_ms);
}

/* When the timer is to go off for a SYN that is sent now. */
static uint64_t first_due_ms(const struct service *service, uint64_t now_ms)
{
	return now_ms + (service->connect.timeout_ms != 0 ? service->connect.timeout_ms : KEPT_MS);
}

/* The flow's backend is sent the SYN for the first time: another one of those that were tried. */
static void start_waiting(
	struct flow_side *side, uint32_t id, const struct service_backend *backend, uint64_t now_us)
{
	side->tried[side->nb_tried++] = id;
	side->epoch = backend->epoch;
	side->repeats = 0;
	side->is_late = side->is_challenged = side->is_to_be_sent = false;
	side->sent_us = now_us;
}

/* Whether its answer, or none, tells how the backend is. */
static bool tells(const struct packet *packet)
{
	return nat_ttl(packet, packet->family) > HOPS_TO_BACKEND && !packet_is_odd(packet);
}

/* A new side record. False: the SYN ought to be kept and can't be. */
static bool start(struct flow_side *side, const struct service *service,
	const struct packet *packet, uint32_t id, const struct service_backend *backend,
	uint64_t now_us)
{
	bool is_kept = true;

	kept_syn_forget(side);
	if (service->connect.tries > 1)
		is_kept = kept_syn_put(side, packet);
	side->nb_tried = 0;
	start_waiting(side, id, backend, now_us);
	return is_kept;
}

/* Give the side record back to its flow. */
static void wait_until(struct connecting *c, uint64_t due_ms)
{
	uint32_t index = flow_side_index(c->flows->sides, c->side);

	flow_side_own(c->flows->sides, c->side, number(c), due_ms);
	// Whoever ended the flow while it was claimed, or was answered, could not free it.
	if (unlikely(flow_state(c->flow) != TCP_SYN_SENT)) {
		forget_side(c->flow);
		c->side = flow_side_claim(c->flows->sides, index, number(c));
		if (c->side != NULL)
			flow_side_put(c->flows->sides, c->side);
	}
}

static void drop_side(struct connecting *c)
{
	forget_side(c->flow);
	side_change(c->flow, flow_side_index(c->flows->sides, c->side), 0);
	flow_side_put(c->flows->sides, c->side);
}

/* Send the kept SYN to the flow's backend in a buffer that is not a client's packet: among the
 * replies. */
static void send_kept(struct connecting *c, struct rte_mbuf *mbuf)
{
	struct pipeline *pipeline = c->pipeline;
	struct packet packet;

	kept_syn_follow(c->side, c->flow);
	kept_syn_copy(c->side, c->flows, mbuf, &packet);
	pipeline_forward(pipeline, c->table, &packet, c->flow, FLOW_FROM_CLIENT);
	pipeline_out_add(&pipeline->reply, pipeline->forward.mbufs[--pipeline->forward.count]);
}

/* --- moving --- */

/* What becomes of the flow's counts and port when another record takes its place. */
static void count_moved(struct connecting *c, struct flow *old)
{
	struct pipeline *pipeline = c->pipeline;

	pipeline_count_ended(pipeline, c->id);
	pipeline->backends[c->id].closed++;
	pipeline->connects[c->id].moved_away++;
	pipeline_unfill(c->table, c->flows, old);
	pipeline->stats->live.flows[stats_family(c->flows->family)].moved++;
}

/* The next backend that has a SNAT port left, and the record for it. */
static bool choose(struct connecting *c, struct pipeline_syn *syn)
{
	struct pipeline *pipeline = c->pipeline;
	struct flow_side *side = c->side;

	while (side->nb_tried < c->service->connect.tries) {
		syn->id = pipeline_pick_other(pipeline, c->table, c->flows, c->service,
			&pipeline->cursors[c->index], syn->packet, side->tried, side->nb_tried,
			c->now_ms);
		if (syn->id == SERVICE_NONE)
			return false;
		syn->backend = &c->table->backends[syn->id];
		if (pipeline_fill(pipeline, c->table, c->flows, syn))
			return true;
		pipeline_count_opened(pipeline, syn->id, -1);
		side->tried[side->nb_tried++] = syn->id;
	}
	return false;
}

/*
 * Give the flow another backend: c->flow is then the record that took its place, and the side
 * record is claimed; the SYN is still to be sent. `packet`: the client's SYN.
 */
static enum outcome move(struct connecting *c, struct packet *packet, enum price price)
{
	struct pipeline *pipeline = c->pipeline;
	struct flow *old = c->flow;
	struct pipeline_syn syn = {.packet = packet, .service = c->index};

	if (c->service == NULL || c->side->nb_tried >= c->service->connect.tries ||
		!flow_table_may_remove(c->flows, pipeline->worker))
		return STAYS;
	syn.flow = flow_table_alloc_spare(c->flows, pipeline->worker);
	if (syn.flow == NULL)
		return STAYS;
	if (!choose(c, &syn)) {
		flow_table_give_back_spare(c->flows, pipeline->worker, syn.flow);
		return STAYS;
	}
	if (price == FREE_IF_WELL)
		price = stats_connect_is_suspect(&pipeline->connects[syn.id]) ? BUDGETED : FREE;
	if (price == BUDGETED &&
		!retry_take(&pipeline->retries[c->index], c->now_ms,
			c->service->connect.retry_percent, RTE_MAX(pipeline->nb_peers, 1u))) {
		pipeline->stats->live.flows[stats_family(c->flows->family)].over_budget++;
		goto stays;
	}
	syn.flow->side = flow_side_index(c->flows->sides, c->side);
	syn.flow->flags |= FLOW_SIDE;
	if (!pipeline_take_over_tuple(pipeline, c->table, c->flows, &syn) ||
		!flow_table_replace(
			c->flows, pipeline->worker, old, syn.flow, &syn.hashes, TCP_SYN_SENT))
		goto stays;
	count_moved(c, old);
	c->flow = syn.flow;
	c->id = syn.id;
	start_waiting(c->side, syn.id, syn.backend, pipeline->now_us);
	return MOVED;
stays:
	pipeline_unfill(c->table, c->flows, syn.flow);
	flow_table_give_back_spare(c->flows, pipeline->worker, syn.flow);
	pipeline_count_opened(pipeline, syn.id, -1);
	if (flow_state(old) == TCP_SYN_SENT)
		return STAYS;
	flow_side_put(c->flows->sides, c->side);
	return GONE;
}

/* Move it, and send the kept SYN in that buffer, which is the caller's if it doesn't move. */
static enum outcome move_kept(struct connecting *c, struct rte_mbuf *mbuf, enum price price)
{
	struct packet kept;

	kept_syn_follow(c->side, c->flow);
	kept_syn_read(c->side, c->flows, &kept);
	enum outcome outcome = move(c, &kept, price);
	if (outcome == MOVED) {
		send_kept(c, mbuf);
		wait_until(c, first_due_ms(c->service, c->now_ms));
	}
	return outcome;
}

/* --- failures --- */

/* For the control core: one more of a backend that has connections, and had when it was asked. */
static void note_failure(struct connecting *c)
{
	struct pipeline_fails *fails = &c->pipeline->fails;

	uint32_t *in_row = &c->pipeline->connects[c->id].in_row;

	__atomic_store_n(in_row, *in_row + 1, __ATOMIC_RELAXED);
	if (c->service == NULL || c->side->epoch != c->table->backends[c->id].epoch)
		return;
	c->pipeline->connects[c->id].fails++;
	__atomic_store_n(&fails->ids[fails->count % PIPELINE_FAILS], c->id, __ATOMIC_RELAXED);
	// Release: whoever sees the count sees the id, and what was counted for it.
	__atomic_store_n(&fails->count, fails->count + 1, __ATOMIC_RELEASE);
}

static void note_silence(struct connecting *c)
{
	if (c->side->is_late)
		return;
	c->side->is_late = true;
	c->pipeline->connects[c->id].timed_out++;
	// A backend that has answered since it was asked is there: this SYN was lost on the way.
	if (c->pipeline->connects[c->id].answered_us <= c->side->sent_us)
		note_failure(c);
}

/* The backend answered by a RST: the next one, and the RST's buffer carries the SYN there. True: so
 * it was done. */
static bool refused(struct connecting *c, struct rte_mbuf *mbuf)
{
	enum outcome outcome = STAYS;

	note_failure(c);
	if (kept_syn_is_there(c->side) && kept_syn_fits(c->side, mbuf))
		outcome = move_kept(c, mbuf, FREE);
	if (outcome == MOVED)
		c->pipeline->stats->live.answered++;
	if (outcome == STAYS)
		drop_side(c); // the RST goes to the client
	return outcome == MOVED;
}

/*
 * The backend has answered by a challenge: the RST that the client would send goes there in the
 * challenge's buffer, and the tick sends the SYN again, once for each that came from the client.
 * True: so it was done.
 */
static bool challenged(struct connecting *c, struct packet *packet)
{
	struct flow_side *side = c->side;

	if (c->service == NULL || !kept_syn_is_there(side)) {
		wait_until(c,
			c->service != NULL ? first_due_ms(c->service, c->now_ms)
					   : c->now_ms + KEPT_MS);
		return false; // it goes to the client, who does the same
	}
	pipeline_reset(c->pipeline, packet);
	if (!side->is_challenged)
		c->pipeline->connects[c->id].challenged++;
	side->is_to_be_sent |= !side->is_challenged;
	side->is_challenged = true;
	wait_until(c, side->is_to_be_sent ? c->now_ms : first_due_ms(c->service, c->now_ms));
	return true;
}

/* The client sends its SYN again. True: it went to another backend. */
static bool repeated(struct connecting *c, struct packet *packet)
{
	const struct service *service = c->service;
	bool has_timeout = service != NULL && service->connect.timeout_ms != 0;
	enum outcome outcome = STAYS;

	c->side->is_challenged = c->side->is_to_be_sent = false;
	// The latest one is as good, or of another attempt.
	if (service != NULL && service->connect.tries > 1)
		kept_syn_put(c->side, packet);
	if (has_timeout &&
		(!c->table->backends[c->id].resolved ||
			c->now_ms >= sent_ms(c->side) + patience_ms(c))) {
		note_silence(c);
		// It is the client's own SYN, wherever it goes; but a first time, wait a while.
		outcome = move(c, packet, c->side->repeats == 0 ? BUDGETED : FREE_IF_WELL);
	}
	if (outcome == GONE)
		return false;
	if (outcome == STAYS && c->side->repeats < FLOW_SIDE_REPEATS_MAX)
		c->side->repeats++;
	if (service == NULL)
		drop_side(c);
	else if (outcome == STAYS)
		wait_until(c, first_due_ms(service, c->now_ms));
	if (outcome != MOVED)
		return false;
	pipeline_forward(c->pipeline, c->table, packet, c->flow, FLOW_FROM_CLIENT);
	wait_until(c, first_due_ms(service, c->now_ms));
	return true;
}

/* As many backends as may be tried have failed: the client is told, and not left waiting. */
static void give_up(struct connecting *c)
{
	struct pipeline *pipeline = c->pipeline;
	// An answer that another worker has now is in time.
	bool is_over =
		pipeline_set_status(pipeline, c->table, c->flows, c->flow, TCP_SYN_SENT, TCP_CLOSE);

	drop_side(c);
	if (unlikely(!is_over))
		return;
	// The flow goes even if a buffer is lacking now: the client's next SYN makes another one.
	pipeline_reset_client(pipeline, c->flows, c->flow);
	if (pipeline_end_flows(pipeline, c->table, c->flows, &c->flow, 1) == 1)
		pipeline->stats->live.flows[stats_family(c->flows->family)].given_up++;
}

/* Send the SYN to the same backend, which ought to take it now. */
static void send_again(struct connecting *c)
{
	struct pipeline *pipeline = c->pipeline;
	struct rte_mbuf *mbuf = NULL;

	c->side->is_to_be_sent = false;
	if (c->table->backends[c->id].tag == c->flow->backend && pipeline->new_mbuf != NULL)
		mbuf = pipeline->new_mbuf(pipeline->new_mbuf_context);
	if (mbuf != NULL) {
		c->side->sent_us = pipeline->now_us;
		send_kept(c, mbuf);
	}
	wait_until(c, first_due_ms(c->service, c->now_ms));
}

/* Its time has come without an answer. */
static void silent(struct connecting *c)
{
	struct pipeline *pipeline = c->pipeline;
	const struct service *service = c->service;
	uint64_t patient_until_ms, kept_until_ms = sent_ms(c->side) + KEPT_MS;
	struct rte_mbuf *mbuf;

	if (service == NULL || c->now_ms >= kept_until_ms) {
		drop_side(c);
		return;
	}
	if (c->side->is_to_be_sent) {
		send_again(c);
		return;
	}
	if (service->connect.timeout_ms == 0) {
		wait_until(c, kept_until_ms);
		return;
	}
	bool is_last = c->side->nb_tried > 1 && c->side->nb_tried >= service->connect.tries;
	patient_until_ms = sent_ms(c->side) + patience_ms(c);
	if (c->table->backends[c->id].resolved && c->now_ms < patient_until_ms) {
		wait_until(c, patient_until_ms);
		return;
	}
	note_silence(c);
	if (is_last) {
		patient_until_ms = RTE_MAX(patient_until_ms, sent_ms(c->side) + LAST_TRY_MS);
		if (c->now_ms < patient_until_ms ||
			!flow_table_may_remove(c->flows, pipeline->worker))
			wait_until(c, RTE_MAX(patient_until_ms, c->now_ms + 1));
		else
			give_up(c);
		return;
	}
	enum outcome outcome = STAYS;
	mbuf = kept_syn_is_there(c->side) && pipeline->new_mbuf != NULL
		? pipeline->new_mbuf(pipeline->new_mbuf_context)
		: NULL;
	if (mbuf != NULL)
		outcome = move_kept(c, mbuf, BUDGETED);
	if (mbuf != NULL && outcome != MOVED)
		pipeline_out_add(&pipeline->drop, mbuf); // it was no packet yet
	if (outcome == STAYS)
		wait_until(c, kept_until_ms);
}

/* --- from outside --- */

void pipeline_connect_begin(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, const struct pipeline_syn *syn, uint64_t now_ms)
{
	const struct service *service = table->services[syn->service];
	struct flow_side *side;

	if (unlikely(!tells(syn->packet)))
		return;
	retry_connect(&pipeline->retries[syn->service], now_ms);
	side = flow_side_get(flows->sides, pipeline->worker);
	if (likely(side != NULL) &&
		unlikely(!start(
			side, service, syn->packet, syn->id, syn->backend, pipeline->now_us))) {
		flow_side_put(flows->sides, side);
		side = NULL;
	}
	if (unlikely(side == NULL)) {
		pipeline->connects[syn->id].syn_not_kept++;
		return;
	}
	syn->flow->side = flow_side_index(flows->sides, side);
	syn->flow->flags |= FLOW_SIDE;
	flow_side_own(flows->sides, side, flow_table_number(flows, syn->flow),
		first_due_ms(service, now_ms));
}

void pipeline_connect_end(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, uint32_t side, bool answered)
{
	struct connecting c = {.pipeline = pipeline, .table = table, .flows = flows, .flow = flow};

	if (!flow_has(flow, FLOW_SIDE))
		return;
	forget_side(flow);
	c.side = flow_side_claim(flows->sides, side, number(&c));
	if (unlikely(c.side == NULL))
		return; // who has claimed it, or its timer, sees that the flow is over
	if (likely(answered)) {
		struct stats_connect *connect = &pipeline->connects[FLOW_BACKEND_ID(flow->backend)];
		__atomic_store_n(&connect->in_row, 0, __ATOMIC_RELAXED);
		connect->answered_us = pipeline->now_us;
	}
	// Of a SYN that was sent again it isn't known which one was answered (Karn's algorithm).
	if (likely(answered && c.side->repeats == 0)) {
		// Another worker's clock may have been read a little later than ours.
		uint64_t us = pipeline->now_us - RTE_MIN(c.side->sent_us, pipeline->now_us);
		look_up_service(&c);
		stats_connect_answered(&pipeline->connects[c.id], us);
		if (c.service != NULL) {
			struct retry *retry = &pipeline->retries[c.index];
			retry->answer_us = stats_connect_smooth(retry->answer_us, us);
		}
	}
	flow_side_put(flows->sides, c.side);
}

/* A flow whose SYN was not kept, or not any more: from now on it is again. */
static void keep_again(struct connecting *c, const struct packet *packet)
{
	if (c->service != NULL)
		c->side = flow_side_get(c->flows->sides, c->pipeline->worker);
	if (c->side == NULL)
		return;
	bool is_kept = start(c->side, c->service, packet, c->id, &c->table->backends[c->id],
		c->pipeline->now_us);
	c->side->repeats = 1;
	// Not where the backend's number stands by now, that another worker has the answer with.
	if (is_kept && side_change(c->flow, 0, flow_side_index(c->flows->sides, c->side))) {
		flow_set_flag(c->flow, FLOW_SIDE);
		wait_until(c, first_due_ms(c->service, c->now_ms));
	} else {
		flow_side_put(c->flows->sides, c->side);
	}
	c->side = NULL;
}

bool pipeline_connect_packet(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct packet *packet, struct flow *flow,
	enum flow_direction direction, uint64_t now_ms)
{
	struct connecting c = {.pipeline = pipeline,
		.table = table,
		.flows = flows,
		.flow = flow,
		.now_ms = now_ms};
	bool from_client = direction == FLOW_FROM_CLIENT, refuses = false;

	if (from_client) {
		if (!pipeline_is_first_syn(packet->flags) || !tells(packet) ||
			!packet_sum_is_right(packet))
			return false;
	} else if (packet->flags & RTE_TCP_RST_FLAG) {
		if (!(refuses = track_refuses(flow, packet)) || !packet_may_be_taken(packet))
			return false;
	} else if (!track_challenges(flow, packet) || !packet_may_be_taken(packet)) {
		return false;
	}
	look_up_service(&c);
	pipeline->connects[c.id].refused += refuses;
	if (flow_has(flow, FLOW_SIDE))
		c.side = flow_side_claim(
			flows->sides, __atomic_load_n(&flow->side, __ATOMIC_RELAXED), number(&c));
	else if (from_client)
		keep_again(&c, packet);
	if (c.side == NULL)
		return false;
	if (from_client)
		return repeated(&c, packet);
	return refuses ? refused(&c, packet->mbuf) : challenged(&c, packet);
}

bool pipeline_connect_unreachable(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct rte_mbuf *mbuf, struct flow *flow)
{
	struct connecting c = {.pipeline = pipeline,
		.table = table,
		.flows = flows,
		.flow = flow,
		.now_ms = pipeline->now_us / 1000};

	look_up_service(&c);
	pipeline->connects[c.id].refused++;
	if (!flow_has(flow, FLOW_SIDE))
		return false;
	c.side = flow_side_claim(
		flows->sides, __atomic_load_n(&flow->side, __ATOMIC_RELAXED), number(&c));
	if (c.side != NULL && refused(&c, mbuf))
		return true;
	// Nobody else can help the client while its flow is here, and not claimed by another
	// worker.
	if (c.side != NULL && flow_state(flow) == TCP_SYN_SENT)
		return false;
	pipeline_drop(pipeline, mbuf, STATS_DROP_ICMP_NO_FLOW);
	return true;
}

static bool tick_table(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, uint64_t now_ms)
{
	struct connecting c = {
		.pipeline = pipeline, .table = table, .flows = flows, .now_ms = now_ms};
	uint32_t owner;

	for (unsigned i = 0; i < MOVES_A_TICK; i++) {
		// Each may send one packet, and a reset of flows wants room, too.
		if (pipeline->reply.count >= RTE_DIM(pipeline->reply.mbufs) / 2)
			return true;
		c.side = flow_side_due(flows->sides, pipeline->worker, now_ms, &owner);
		if (c.side == NULL)
			return false;
		c.flow = flow_table_record(flows, owner);
		if (flow_state(c.flow) != TCP_SYN_SENT || !flow_has(c.flow, FLOW_SIDE) ||
			__atomic_load_n(&c.flow->side, __ATOMIC_RELAXED) !=
				flow_side_index(flows->sides, c.side)) {
			flow_side_put(flows->sides, c.side);
			continue;
		}
		look_up_service(&c);
		silent(&c);
	}
	return true;
}

bool pipeline_connect_tick(struct pipeline *pipeline, uint64_t now_ms)
{
	const struct service_table *table = __atomic_load_n(pipeline->services, __ATOMIC_ACQUIRE);
	struct flow_table *tables[] = {pipeline->flows4, pipeline->flows6};
	bool more = false;

	for (unsigned i = 0; table != NULL && i < RTE_DIM(tables); i++)
		if (tables[i] != NULL)
			more |= tick_table(pipeline, table, tables[i], now_ms);
	return more;
}
