/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two workers with a packet each of one connection that is being made: what the second one's does
 * in the middle of the first one's. The linker puts functions of this file in place of some that
 * the first one calls (--wrap): there the second one's packet comes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "flow_offsets.h"
#include "rig.h"

enum { TIMEOUT_MS = 250 };

/* Where the backend's answer comes to worker 1; once. */
enum place { NOWHERE, SIDE_GOT, SIDE_OWNED, FLOW_ENDED };

static enum place armed;
static struct connection *answered;

static void answer_at(enum place place)
{
	if (armed != place)
		return;
	armed = NOWHERE;
	connection_send(answered, 1, BACKEND, TCP_SYN | TCP_ACK, 0);
}

struct flow_side *__real_flow_side_get(struct flow_sides *sides, unsigned worker);
struct flow_side *__wrap_flow_side_get(struct flow_sides *sides, unsigned worker);
void __real_flow_side_own(
	struct flow_sides *sides, struct flow_side *side, uint32_t owner, uint64_t due_ms);
void __wrap_flow_side_own(
	struct flow_sides *sides, struct flow_side *side, uint32_t owner, uint64_t due_ms);
bool __real_pipeline_set_status(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, uint8_t from, uint8_t to);
bool __wrap_pipeline_set_status(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, uint8_t from, uint8_t to);
uint32_t __real_pipeline_end_flows(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow **ended, uint32_t count);
uint32_t __wrap_pipeline_end_flows(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow **ended, uint32_t count);

struct flow_side *__wrap_flow_side_get(struct flow_sides *sides, unsigned worker)
{
	struct flow_side *side = __real_flow_side_get(sides, worker);

	answer_at(SIDE_GOT);
	return side;
}

void __wrap_flow_side_own(
	struct flow_sides *sides, struct flow_side *side, uint32_t owner, uint64_t due_ms)
{
	answer_at(SIDE_OWNED);
	__real_flow_side_own(sides, side, owner, due_ms);
}

bool __wrap_pipeline_set_status(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, uint8_t from, uint8_t to)
{
	if (pipeline->worker == 0)
		answer_at(FLOW_ENDED);
	return __real_pipeline_set_status(pipeline, table, flows, flow, from, to);
}

uint32_t __wrap_pipeline_end_flows(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow **ended, uint32_t count)
{
	if (count != 0)
		answer_at(FLOW_ENDED);
	return __real_pipeline_end_flows(pipeline, table, flows, ended, count);
}

static struct rig *create(unsigned tries)
{
	return rig_create(&(struct rig_options){.nb_workers = 2,
		.connect = {.timeout_ms = TIMEOUT_MS, .retry_percent = 20, .tries = tries}});
}

/* What is answered meanwhile is the SYN, this one or the first. */
static void syn_again(struct connection *c, unsigned worker)
{
	struct segment syn = connection_segment(c, CLIENT, TCP_SYN);

	syn.seq--;
	assert_int_equal(rig_run_segment(c->rig, worker, &syn)->fate, RIG_FORWARDED);
}

/* As it would be if nobody had been in between. */
static void is_open(struct connection *c)
{
	struct flow *flow = connection_flow(c);

	assert_non_null(flow);
	assert_int_equal(flow->end[BACKEND], c->seq[BACKEND]);
	assert_false(flow_has(flow, FLOW_SIDE));
	assert_int_equal(rig_side_records(c->rig, c->family), 0);
	connection_send(c, 0, CLIENT, TCP_ACK, 0);
	connection_send(c, 0, CLIENT, TCP_ACK | TCP_PSH, 100);
	connection_send(c, 1, BACKEND, TCP_ACK | TCP_PSH, 100);
	assert_int_equal(connection_state(c), TCP_ESTABLISHED);
	assert_int_equal(flow->end[BACKEND], c->seq[BACKEND]);
	rig_wait(c->rig, 5000, 1);
	assert_int_equal(connection_state(c), TCP_ESTABLISHED);
	assert_int_equal(c->rig->workers[0].nb_made, 0);
}

/* The client's SYN comes again when its side record has gone: it gets another one while the backend
 * answers, whose numbers stand where the record's index would. */
static void an_answer_while_the_syn_is_kept_again(void **state) // S2
{
	static const enum place places[] = {SIDE_GOT, SIDE_OWNED};

	FOR_EACH_FAMILY(family)
		for (unsigned p = 0; p < 2; p++) {
			struct rig *rig = create(1);
			struct connection c = connection_of(rig, family, 1);

			assert_true(connection_syn(&c, 0));
			rig_wait(rig, 4500, 1);
			assert_int_equal(rig_side_records(rig, family), 0);
			assert_int_equal(connection_state(&c), TCP_SYN_SENT);
			answered = &c;
			armed = places[p];
			syn_again(&c, 0);
			assert_int_equal(armed, NOWHERE);
			is_open(&c);
			rig_destroy(rig);
		}
}

/* As many backends as may be tried were silent: just when the client is to be told so, the last one
 * answers. */
static void an_answer_while_it_is_given_up(void **state) // S4
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create(2);
		struct connection c = connection_of(rig, family, 2);

		assert_true(connection_syn(&c, 0));
		while (rig->workers[0].nb_made == 0)
			rig_wait(rig, 1, 1);
		const struct rig_packet *moved = rig_last_made(rig, 0);
		assert_int_equal(moved->segment.flags, TCP_SYN);
		c.seq[CLIENT]--;
		assert_true(connection_syn(&c, 0)); // says where it went; the same flow
		rig->workers[0].nb_made = 0;
		answered = &c;
		armed = FLOW_ENDED;
		for (unsigned ms = 0; armed == FLOW_ENDED; ms++) {
			assert_in_range(ms, 0, 3000);
			rig_wait(rig, 1, 1);
		}
		is_open(&c);
		assert_int_equal(rig->workers[0].stats->live.flows[family == AF_INET6].given_up, 0);
		assert_int_equal(rig_ports_used(rig), 1);
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_while_the_syn_is_kept_again),
		cmocka_unit_test(an_answer_while_it_is_given_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
