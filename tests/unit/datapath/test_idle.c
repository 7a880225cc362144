/* SPDX-License-Identifier: BSD-3-Clause */
/* Idle connections on the virtual clock (A15, A16): times of a service, and what ends with them. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_mbuf.h>
#include <string.h>

#include "flow_offsets.h"
#include "rig.h"

enum { SENT_MAX = 4096 };

/* What the ticks sent. */
static struct {
	unsigned nb;
	struct segment segments[SENT_MAX];
	unsigned nb_buffers; // that may be had
} sent;

static struct rte_mbuf *new_mbuf(void *context)
{
	static const uint8_t room[256];

	if (sent.nb_buffers == 0)
		return NULL;
	sent.nb_buffers--;
	struct rte_mbuf *mbuf = packets_mbuf(room, sizeof(room));
	mbuf->data_len = mbuf->pkt_len = 0;
	return mbuf;
}

static struct rig *rig_with(const struct rig_options *options, uint16_t established_s, bool reset)
{
	struct rig *rig = rig_create(options);

	rig->timeout_s[TCP_ESTABLISHED] = established_s;
	rig->reset_when_idle = reset;
	service_table_destroy((struct service_table *)rig_publish(rig));
	for (unsigned w = 0; w < rig->options.nb_workers; w++) {
		rig->workers[w].pipeline.new_mbuf = new_mbuf;
		if (established_s != 0)
			rig->workers[w].pipeline.least_timeout_s[TCP_ESTABLISHED] = established_s;
	}
	memset(&sent, 0, sizeof(sent));
	sent.nb_buffers = UINT_MAX;
	return rig;
}

/* As rig_wait(), for ticks that send. */
static void wait_ms(struct rig *rig, uint64_t ms, uint64_t step_ms)
{
	static uint8_t frames[SENT_MAX][128];

	for (uint64_t end = rig->now_ms + ms; rig->now_ms < end;) {
		rig->now_ms += RTE_MIN(end - rig->now_ms, step_ms);
		for (unsigned w = 0; w < rig->options.nb_workers; w++) {
			struct pipeline *pipeline = &rig->workers[w].pipeline;
			bool more;
			do {
				more = pipeline_tick(pipeline, rig->now_ms, UINT32_MAX);
				for (uint32_t i = 0; i < pipeline->reply.count; i++) {
					struct rte_mbuf *mbuf = pipeline->reply.mbufs[i];
					unsigned size = rte_pktmbuf_data_len(mbuf);
					assert_in_range(sent.nb, 0, SENT_MAX - 1);
					assert_in_range(size, 54, 128);
					memcpy(frames[sent.nb], rte_pktmbuf_mtod(mbuf, void *),
						size);
					assert_true(
						packets_checksums_right(frames[sent.nb], size, 0));
					assert_true(packets_read(
						frames[sent.nb], size, &sent.segments[sent.nb]));
					sent.nb++;
					packets_free(mbuf);
				}
				pipeline->reply.count = 0;
			} while (more);
		}
	}
}

static const struct stats_flows *counters(const struct rig *rig, sa_family_t family)
{
	return &rig->workers[0].stats->live.flows[stats_family(family)];
}

static void a_service_has_times_of_its_own(void **state) // A15
{
	static const uint16_t times[] = {1, 90, 7439, 7441, 64800};

	FOR_EACH_FAMILY(family)
		for (unsigned i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
			struct rig *rig = rig_with(NULL, times[i], false);
			struct connection c = connection_in_use(rig, family, i);
			rig->workers[0].pipeline.least_timeout_s[TCP_ESTABLISHED] =
				RTE_MIN(times[i], 7440);
			wait_ms(rig, (times[i] - 1) * 1000 + 999, times[i] > 1000 ? 500 : 1);
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
			wait_ms(rig, 1 + 2000, 1); // and one period of the sweep
			assert_int_equal(connection_state(&c), TCP_NONE);
			assert_int_equal(rig_ports_used(rig), 0);
			assert_int_equal(counters(rig, family)->expired, 1);
			assert_int_equal(sent.nb, 0);
			rig_destroy(rig);
		}
}

/* Whatever part of a second the last packet came in. */
static void none_ends_before_its_time(void **state) // A15
{
	static const unsigned parts_ms[] = {0, 1, 499, 999};

	for (unsigned i = 0; i < sizeof(parts_ms) / sizeof(parts_ms[0]); i++) {
		struct rig *rig = rig_with(NULL, 1, false);
		rig->now_ms += parts_ms[i];
		struct connection c = connection_in_use(rig, AF_INET, i);
		wait_ms(rig, 999, 1);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		wait_ms(rig, 1 + 999 + 2000, 1);
		assert_int_equal(connection_state(&c), TCP_NONE);
		rig_destroy(rig);
	}
}

/* A service without its own, beside one with shorter ones. */
static void the_others_keep_theirs(void **state) // A15
{
	struct rig *rig = rig_with(NULL, 0, false);
	struct connection c = connection_in_use(rig, AF_INET, 1);

	rig->workers[0].pipeline.least_timeout_s[TCP_ESTABLISHED] = 5;
	wait_ms(rig, 7439000, 500);
	assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
	wait_ms(rig, 3000, 1);
	assert_int_equal(connection_state(&c), TCP_NONE);
	rig_destroy(rig);
}

static void every_state_of_a_service(void **state) // A15
{
	static const uint8_t flags[] = {TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK, TCP_FIN | TCP_ACK,
		TCP_ACK, TCP_FIN | TCP_ACK, TCP_ACK, TCP_RST};
	static const enum tcp_state states[] = {TCP_SYN_SENT, TCP_SYN_RECV, TCP_ESTABLISHED,
		TCP_FIN_WAIT, TCP_CLOSE_WAIT, TCP_LAST_ACK, TCP_TIME_WAIT, TCP_CLOSE};

	for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		struct rig *rig = rig_with(NULL, 0, true);
		struct connection c = connection_of(rig, AF_INET, 1);
		uint16_t *least = rig->workers[0].pipeline.least_timeout_s;

		for (enum tcp_state s = TCP_SYN_SENT; s < TCP_STATES; s++)
			least[s] = rig->timeout_s[s] = 10 + s;
		service_table_destroy((struct service_table *)rig_publish(rig));
		assert_true(connection_syn(&c, 0));
		for (unsigned p = 1; p <= i; p++)
			connection_send(
				&c, 0, p == 1 || p == 4 || p == 5 ? BACKEND : CLIENT, flags[p], 0);
		assert_int_equal(connection_state(&c), states[i]);
		wait_ms(rig, (10 + states[i]) * 1000 - 1, 1);
		assert_int_equal(connection_state(&c), states[i]);
		wait_ms(rig, 2001, 1);
		assert_int_equal(connection_state(&c), TCP_NONE);
		assert_int_equal(
			sent.nb, states[i] == TCP_ESTABLISHED ? 2 : 0); // only those are reset
		rig_destroy(rig);
	}
}

/* RFC 5961: the number is the one that the receiver expects. */
static void both_sides_are_reset(void **state) // A15
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_with(NULL, 90, true);
		struct connection c = connection_in_use(rig, family, 1);

		wait_ms(rig, 89999, 100);
		assert_int_equal(sent.nb, 0);
		wait_ms(rig, 2001, 1);
		assert_int_equal(connection_state(&c), TCP_NONE);
		assert_int_equal(sent.nb, 2);
		for (unsigned i = 0; i < 2; i++) {
			enum flow_direction from = i == 0 ? BACKEND : CLIENT;
			struct segment at_end = connection_segment(&c, 1 - from, TCP_ACK);
			const struct segment *rst = &sent.segments[i];
			assert_int_equal(rst->flags, TCP_RST | TCP_ACK);
			assert_int_equal(rst->seq, c.seq[from]);
			assert_int_equal(rst->ack, c.seq[1 - from]);
			assert_true(net_addr_equal(&rst->dst, &at_end.src));
			assert_true(net_addr_equal(&rst->src, &at_end.dst));
			assert_int_equal(rst->sport, at_end.dport);
			assert_int_equal(rst->dport, at_end.sport);
			assert_true(net_mac_equal(&rst->to, &at_end.from));
		}
		assert_int_equal(counters(rig, family)->expired, 1);
		assert_int_equal(counters(rig, family)->expired_reset, 1);
		rig_destroy(rig);
	}
}

/* The same where the backend sees other numbers than the client has. */
static void moved_numbers_are_reset_right(void **state) // A12, A15
{
	struct rig *rig =
		rig_with(&(struct rig_options){.nb_backends = 1, .nb_ports = 1}, 90, true);
	struct connection c = connection_in_use(rig, AF_INET, 1),
			  next = connection_of(rig, AF_INET, 2);

	connection_send(&c, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
	connection_send(&c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
	connection_send(&c, 0, BACKEND, TCP_ACK, 0);
	next.seq[CLIENT] = c.seq[CLIENT] - 5000;
	uint32_t isn = next.seq[CLIENT];
	assert_true(connection_syn(&next, 0));
	struct flow *flow = connection_flow(&next);
	uint32_t moved = flow_seq_at_other(flow, FLOW_FROM_CLIENT, isn) - isn;
	assert_int_not_equal(moved, 0);
	struct segment segment = connection_segment(&next, BACKEND, TCP_SYN | TCP_ACK);
	segment.ack += moved;
	assert_int_equal(rig_run_segment(rig, 0, &segment)->segment.ack, next.seq[CLIENT]);
	next.seq[BACKEND]++;
	connection_send(&next, 0, CLIENT, TCP_ACK, 0);
	connection_send(&next, 0, CLIENT, TCP_ACK, 321);
	segment = connection_segment(&next, BACKEND, TCP_ACK);
	segment.ack += moved;
	rig_run_segment(rig, 0, &segment);
	assert_int_equal(connection_state(&next), TCP_ESTABLISHED);
	wait_ms(rig, 92000, 100);
	assert_int_equal(sent.nb, 2);
	assert_int_equal(sent.segments[0].seq, next.seq[BACKEND]); // to the client
	assert_int_equal(sent.segments[0].ack, next.seq[CLIENT]);
	assert_int_equal(sent.segments[1].seq, next.seq[CLIENT] + moved); // to the backend
	assert_int_equal(sent.segments[1].ack, next.seq[BACKEND]);
	rig_destroy(rig);
}

/* Data is under way: where the sender's ends and what the receiver expects differ. */
static void unacknowledged_data_takes_two_resets(void **state)
{
	struct rig *rig = rig_with(NULL, 90, true);
	struct connection c = connection_in_use(rig, AF_INET, 1);
	uint32_t expected = c.seq[CLIENT];

	connection_send(&c, 0, CLIENT, TCP_ACK, 1000); // lost behind us
	wait_ms(rig, 92000, 100);
	assert_int_equal(sent.nb, 3);
	assert_int_equal(sent.segments[1].seq, expected + 1000);
	assert_int_equal(sent.segments[2].seq, expected);
	rig_destroy(rig);
}

/* More than fit into one out burst; none is late by more than the sweep. */
static void many_are_reset_in_turn(void **state)
{
	enum { FLOWS = 800 };
	struct rig *rig = rig_with(NULL, 90, true);

	for (unsigned n = 0; n < FLOWS; n++)
		connection_in_use(rig, n & 1 ? AF_INET6 : AF_INET, n);
	wait_ms(rig, 92000, 500);
	assert_int_equal(sent.nb, 2 * FLOWS);
	assert_int_equal(flow_table_used(rig->flows4) + flow_table_used(rig->flows6), 0);
	rig_destroy(rig);
}

/* Without a buffer the flow goes all the same; what comes then is answered. */
static void no_buffer_is_no_reason_to_stay(void **state)
{
	struct rig *rig = rig_with(NULL, 90, true);
	struct connection c = connection_in_use(rig, AF_INET, 1);

	sent.nb_buffers = 0;
	wait_ms(rig, 92000, 100);
	assert_int_equal(connection_state(&c), TCP_NONE);
	struct segment segment = connection_segment(&c, CLIENT, TCP_ACK);
	assert_int_equal(rig_run_segment(rig, 0, &segment)->fate, RIG_ANSWERED);
	rig_destroy(rig);
}

/* Its backend has left the file, the service too: the times of all. */
static void flows_of_a_service_that_is_gone(void **state)
{
	struct rig *rig = rig_with(NULL, 90, true);
	struct connection c = connection_in_use(rig, AF_INET, 1);
	struct service_table *table = (struct service_table *)rig->table;

	table->backends[c.backend_id].service = SERVICE_NONE;
	wait_ms(rig, 7439000, 500);
	assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
	wait_ms(rig, 3000, 500);
	assert_int_equal(connection_state(&c), TCP_NONE);
	assert_int_equal(sent.nb, 0);
	rig_destroy(rig);
}

/* Times change while flows are there: from the next look on. */
static void times_change_in_place(void **state)
{
	struct rig *rig = rig_with(NULL, 90, false);
	struct connection c = connection_in_use(rig, AF_INET, 1);

	wait_ms(rig, 80000, 500);
	rig->timeout_s[TCP_ESTABLISHED] = 300;
	service_table_destroy((struct service_table *)rig_publish(rig));
	wait_ms(rig, 219000, 500);
	assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
	rig->timeout_s[TCP_ESTABLISHED] = 100;
	service_table_destroy((struct service_table *)rig_publish(rig));
	wait_ms(rig, 2000, 500);
	assert_int_equal(connection_state(&c), TCP_NONE);
	rig_destroy(rig);
}

/* A RST that doesn't count and another flow's packets don't; of ICMP errors test_icmp_error.c has
 * the same. */
static void only_its_own_packets_keep_it_alive(void **state) // A16
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_with(NULL, 90, false);
		struct connection c = connection_in_use(rig, family, 1),
				  other = connection_in_use(rig, family, 2);
		uint64_t start_ms = rig->now_ms;

		for (unsigned s = 10; s < 90; s += 10) {
			wait_ms(rig, start_ms + s * 1000 - rig->now_ms, 500);
			struct segment rst = connection_segment(&c, CLIENT, TCP_RST);
			rst.seq += 4711;
			rig_run_segment(rig, 0, &rst);
			rst = connection_segment(&c, BACKEND, TCP_RST);
			rst.seq -= 1;
			rig_run_segment(rig, 0, &rst);
			connection_send(&other, 0, CLIENT, TCP_ACK, 1);
		}
		wait_ms(rig, start_ms + 92000 - rig->now_ms, 500);
		assert_int_equal(connection_state(&c), TCP_NONE);
		assert_int_equal(connection_state(&other), TCP_ESTABLISHED);
		rig_destroy(rig);
	}
}

/* A segment whose last byte is damaged: it goes on as it is. */
static void send_damaged(const struct connection *c, enum flow_direction from, uint8_t flags)
{
	struct segment segment = connection_segment(c, from, flags);
	uint8_t frame[PACKETS_SIZE_MAX];

	segment.payload_size = flags & TCP_SYN ? 0 : 11;
	unsigned size = packets_build(&segment, frame);
	frame[size - 1] ^= 1;
	const struct rig_packet *out = rig_run_frame(c->rig, 0, frame, size);
	assert_int_equal(out->fate, RIG_FORWARDED);
	assert_false(packets_checksums_right(out->frame, out->size, 0));
}

static void a_wrong_checksum_does_not_keep_it_alive(void **state) // A16
{
	FOR_EACH_FAMILY(family)
		for (enum flow_direction from = CLIENT; from <= BACKEND; from++) {
			struct rig *rig = rig_with(NULL, 90, false);
			struct connection c = connection_in_use(rig, family, 1),
					  other = connection_in_use(rig, family, 2);
			uint64_t start_ms = rig->now_ms;

			for (unsigned s = 10; s < 90; s += 10) {
				wait_ms(rig, start_ms + s * 1000 - rig->now_ms, 500);
				send_damaged(&c, from, TCP_ACK);
				send_damaged(&other, from, TCP_ACK);
				connection_send(&other, 0, from, TCP_ACK, 1);
			}
			wait_ms(rig, start_ms + 92000 - rig->now_ms, 500);
			assert_int_equal(connection_state(&c), TCP_NONE);
			assert_int_equal(connection_state(&other), TCP_ESTABLISHED);
			rig_destroy(rig);
		}
}

static void a_wrong_checksum_changes_no_state(void **state)
{
	FOR_EACH_FAMILY(family)
		for (enum flow_direction from = CLIENT; from <= BACKEND; from++) {
			struct rig *rig = rig_with(NULL, 90, false);
			struct connection c = connection_in_use(rig, family, 1),
					  opening = connection_of(rig, family, 2);

			send_damaged(&c, from, TCP_FIN | TCP_ACK);
			send_damaged(&c, from, TCP_RST);
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
			assert_true(connection_syn(&opening, 0));
			send_damaged(&opening, BACKEND, TCP_RST | TCP_ACK);
			send_damaged(&opening, BACKEND, TCP_SYN | TCP_ACK);
			assert_int_equal(connection_state(&opening), TCP_SYN_SENT);
			connection_send(&c, 0, from, TCP_FIN | TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_FIN_WAIT);
			rig_destroy(rig);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_service_has_times_of_its_own),
		cmocka_unit_test(none_ends_before_its_time),
		cmocka_unit_test(the_others_keep_theirs),
		cmocka_unit_test(every_state_of_a_service),
		cmocka_unit_test(both_sides_are_reset),
		cmocka_unit_test(moved_numbers_are_reset_right),
		cmocka_unit_test(unacknowledged_data_takes_two_resets),
		cmocka_unit_test(many_are_reset_in_turn),
		cmocka_unit_test(no_buffer_is_no_reason_to_stay),
		cmocka_unit_test(flows_of_a_service_that_is_gone),
		cmocka_unit_test(times_change_in_place),
		cmocka_unit_test(only_its_own_packets_keep_it_alive),
		cmocka_unit_test(a_wrong_checksum_does_not_keep_it_alive),
		cmocka_unit_test(a_wrong_checksum_changes_no_state),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
