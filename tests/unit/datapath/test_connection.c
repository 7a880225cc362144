/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of connections: rig.c checks every packet (I1, I3, I4). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_rcu_qsbr.h>
#include <stdlib.h>

#include "rig.h"

static void ten_packets_from_end_to_end(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 1);

		assert_true(connection_syn(&c, 0));
		assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_SYN_RECV);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		connection_send(&c, 0, CLIENT, TCP_PSH | TCP_ACK, 333);
		connection_send(&c, 0, BACKEND, TCP_ACK, 0);
		connection_send(&c, 0, BACKEND, TCP_PSH | TCP_ACK, 1001);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		assert_int_equal(rig_ports_used(rig), 1);
		connection_send(&c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_FIN_WAIT);
		connection_send(&c, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_LAST_ACK);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_TIME_WAIT);
		assert_int_equal(rig_ports_used(rig), 0);

		struct stats_counters *live = &rig->workers[0].stats->live;
		assert_int_equal(live->received, 10);
		assert_int_equal(live->forwarded, 10);
		struct stats_backend *backend = &rig->workers[0].backends[c.backend_id];
		unsigned header = family == AF_INET6 ? 60 : 40;
		assert_int_equal(backend->packets[0], 6);
		assert_int_equal(backend->packets[1], 4);
		assert_int_equal(backend->bytes[0], 6 * header + 333);
		assert_int_equal(backend->bytes[1], 4 * header + 1001);
		assert_int_equal(backend->opened, 1);
		assert_int_equal(backend->closed, 0);
		rig_wait(rig, 59000, 1000);
		assert_int_equal(connection_state(&c), TCP_TIME_WAIT);
		rig_wait(rig, 3000, 1000);
		assert_int_equal(connection_state(&c), TCP_NONE);
		assert_int_equal(backend->closed, 1);
		assert_int_equal(rig_ports_used(rig), 0);
		rig_destroy(rig);
	}
}

static void syn_repeated_keeps_backend_and_port(void **state) // A2
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig =
			rig_create(&(struct rig_options){.scheduler = &scheduler_round_robin});
		struct connection c = connection_of(rig, family, 2), first;
		static const unsigned at_s[] = {1, 3, 7, 15, 31};
		uint64_t start_ms = rig->now_ms;

		assert_true(connection_syn(&c, 0));
		first = c;
		for (unsigned i = 0; i < 5; i++) {
			rig_wait(rig, start_ms + at_s[i] * 1000 - rig->now_ms, 500);
			c.seq[CLIENT] = first.seq[CLIENT] - 1;
			assert_true(connection_syn(&c, 0));
			assert_int_equal(c.snat_port, first.snat_port);
			assert_int_equal(c.backend_id, first.backend_id);
		}
		assert_int_equal(rig_created(rig), 1);
		assert_int_equal(flow_table_used(rig_flows(rig, family)), 1);
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		rig_destroy(rig);
	}
}

static void closes_from_either_side(void **state) // A10
{
	FOR_EACH_FAMILY(family)
		for (unsigned first = 0; first < 2; first++) {
			struct rig *rig = rig_create(NULL);
			struct connection c = connection_of(rig, family, 3);

			assert_true(connection_open(&c, 0));
			connection_send(&c, 0, first, TCP_FIN | TCP_ACK, 10);
			assert_int_equal(connection_state(&c), TCP_FIN_WAIT);
			connection_send(&c, 0, 1 - first, TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_CLOSE_WAIT);
			connection_send(&c, 0, 1 - first, TCP_ACK,
				500); // half closed: the other side goes on
			connection_send(&c, 0, first, TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_CLOSE_WAIT);
			connection_send(&c, 0, 1 - first, TCP_FIN | TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_LAST_ACK);
			c.seq[1 - first]--; // the last ACK was lost: the FIN again
			connection_send(&c, 0, 1 - first, TCP_FIN | TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_LAST_ACK);
			connection_send(&c, 0, first, TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_TIME_WAIT);
			rig_destroy(rig);
		}
}

static void both_close_at_once(void **state) // A10
{
	struct rig *rig = rig_create(NULL);
	struct connection c = connection_of(rig, AF_INET, 4);

	assert_true(connection_open(&c, 0));
	uint32_t numbers[] = {c.seq[0], c.seq[1]};
	connection_send(&c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
	c.seq[CLIENT] = numbers[0]; // the backend hasn't seen it
	connection_send(&c, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
	assert_int_equal(connection_state(&c), TCP_LAST_ACK);
	c.seq[CLIENT] = numbers[0] + 1;
	connection_send(&c, 0, CLIENT, TCP_ACK, 0);
	connection_send(&c, 0, BACKEND, TCP_ACK, 0);
	assert_int_equal(connection_state(&c), TCP_TIME_WAIT);
	rig_wait(rig, 63000, 1000);
	assert_int_equal(connection_state(&c), TCP_NONE);
	rig_destroy(rig);
}

static void keepalives_and_old_data_pass(void **state) // A8, conntrack_ack_loss_stall.pkt; A14
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 5);

		assert_true(connection_open(&c, 0));
		for (unsigned i = 0; i < 100; i++)
			connection_send(&c, 0, CLIENT, TCP_ACK, 1400);
		connection_send(&c, 0, BACKEND, TCP_ACK, 0);
		for (unsigned i = 0; i < 4; i++) { // a keepalive every two hours
			rig_wait(rig, 7200 * 1000, 2000);
			c.seq[i & 1]--;
			connection_send(&c, 0, i & 1, TCP_ACK, i >= 2);
			c.seq[i & 1] += i < 2;
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		}
		uint32_t seq = c.seq[CLIENT];
		static const int32_t offsets[] = {-66000, -140000, 66000, 1 << 30, INT32_MIN, -1};
		for (unsigned i = 0; i < 6; i++) {
			c.seq[CLIENT] = seq + offsets[i];
			connection_send(&c, 0, CLIENT, TCP_ACK, 1200);
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		}
		rig_destroy(rig);
	}
}

static void open_at_both_ends_at_once(void **state) // A9
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 6);

		assert_true(connection_syn(&c, 0));
		connection_send(&c, 0, BACKEND, TCP_SYN, 0);
		assert_int_equal(connection_state(&c), TCP_SYN_SENT2);
		c.seq[CLIENT]--;
		connection_send(&c, 0, CLIENT, TCP_SYN | TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_SYN_RECV);
		c.seq[BACKEND]--;
		connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
		connection_send(&c, 0, CLIENT, TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		connection_send(&c, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
		assert_int_equal(connection_state(&c), TCP_FIN_WAIT);
		assert_int_equal(rig_created(rig), 1);
		rig_destroy(rig);
	}
}

/* Bring a connection into the state. */
static void bring_to(struct connection *c, enum tcp_state state)
{
	assert_true(connection_syn(c, 0));
	if (state == TCP_SYN_SENT)
		return;
	connection_send(c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
	if (state == TCP_SYN_RECV)
		return;
	connection_send(c, 0, CLIENT, TCP_ACK, 0);
	if (state == TCP_ESTABLISHED)
		return;
	if (state == TCP_CLOSE) {
		connection_send(c, 0, BACKEND, TCP_RST, 0);
		return;
	}
	connection_send(c, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
	if (state == TCP_FIN_WAIT)
		return;
	connection_send(c, 0, CLIENT, TCP_ACK, 0);
	if (state == TCP_CLOSE_WAIT)
		return;
	connection_send(c, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
	if (state == TCP_LAST_ACK)
		return;
	connection_send(c, 0, BACKEND, TCP_ACK, 0);
	assert_int_equal(state, TCP_TIME_WAIT);
}

static void syn_on_a_closing_flow_makes_a_new_one(void **state) // A13
{
	FOR_EACH_FAMILY(family)
		for (enum tcp_state closing = TCP_FIN_WAIT; closing <= TCP_CLOSE; closing++) {
			struct rig *rig = rig_create(NULL);
			struct connection c = connection_of(rig, family, 7);

			bring_to(&c, closing);
			assert_int_equal(connection_state(&c), closing);
			struct flow *before = connection_flow(&c);
			unsigned old_backend = c.backend_id;
			rig_set_backend(rig, old_backend, false, true);
			c.seq[CLIENT] += 123456;
			assert_true(connection_syn(&c, 0));
			assert_int_not_equal(c.backend_id, old_backend);
			assert_int_equal(connection_state(&c), TCP_SYN_SENT);
			assert_ptr_not_equal(connection_flow(&c), before);
			assert_int_equal(rig_created(rig), 2);
			// The backend closed first: what it knows of the tuple is kept.
			assert_int_equal(flow_table_used(rig_flows(rig, family)),
				closing == TCP_CLOSE ? 1 : 2);
			assert_int_equal(rig_ports_used(rig), 1);
			connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
			connection_send(&c, 0, CLIENT, TCP_ACK, 0);
			assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
			rig_destroy(rig);
		}
}

static void reset_and_new_syn_in_one_burst(void **state) // A13
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 8);
		uint8_t bytes[4][PACKETS_SIZE_MAX];
		struct rig_frame frames[4];

		// SYN, RST, SYN, SYN: the second SYN makes a second flow, the third repeats it.
		for (unsigned i = 0; i < 4; i++) {
			struct segment segment =
				connection_segment(&c, CLIENT, i == 1 ? TCP_RST : TCP_SYN);
			segment.seq = i == 1 ? 1001 : i == 0 ? 1000 : 999999;
			frames[i] = (struct rig_frame){bytes[i], packets_build(&segment, bytes[i])};
		}
		rig_run(rig, 0, frames, 4);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(rig->workers[0].out[i].fate, RIG_FORWARDED);
		assert_int_equal(rig_created(rig), 2);
		assert_int_equal(
			rig->workers[0].out[0].segment.sport, rig->workers[0].out[1].segment.sport);
		assert_int_not_equal(
			rig->workers[0].out[1].segment.sport, rig->workers[0].out[2].segment.sport);
		assert_int_equal(
			rig->workers[0].out[2].segment.sport, rig->workers[0].out[3].segment.sport);
		assert_int_equal(connection_state(&c), TCP_SYN_SENT);
		rig_destroy(rig);
	}
}

static void whole_connection_in_one_burst(void **state)
{
	struct rig *rig = rig_create(NULL);
	struct connection c = connection_of(rig, AF_INET, 9);
	uint8_t bytes[8][PACKETS_SIZE_MAX];
	struct rig_frame frames[8];

	for (unsigned i = 0; i < 8; i++) {
		struct segment segment = connection_segment(&c, CLIENT, i ? TCP_ACK : TCP_SYN);
		segment.seq += i ? 1 : 0;
		segment.payload_size = i * 10;
		frames[i] = (struct rig_frame){bytes[i], packets_build(&segment, bytes[i])};
	}
	rig_run(rig, 0, frames, 8);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(rig->workers[0].out[i].fate, RIG_FORWARDED);
		assert_int_equal(
			rig->workers[0].out[i].segment.sport, rig->workers[0].out[0].segment.sport);
	}
	assert_int_equal(rig_created(rig), 1);
	rig_destroy(rig);
}

static void a_burst_leaves_in_the_order_it_came(void **state)
{
	struct rig *rig = rig_create(NULL);
	struct connection c[] = {connection_of(rig, AF_INET, 30), connection_of(rig, AF_INET6, 31)};
	static uint8_t bytes[PIPELINE_BURST][PACKETS_SIZE_MAX];
	struct rig_frame frames[PIPELINE_BURST];
	unsigned last_place[2] = {0};

	assert_true(connection_open(&c[0], 0) && connection_open(&c[1], 0));
	for (unsigned i = 0; i < PIPELINE_BURST; i++) {
		struct segment segment = connection_segment(&c[i & 1], CLIENT, TCP_ACK);
		segment.payload_size = 100;
		c[i & 1].seq[CLIENT] += 100;
		frames[i] = (struct rig_frame){bytes[i], packets_build(&segment, bytes[i])};
	}
	rig_run(rig, 0, frames, PIPELINE_BURST);
	for (unsigned i = 0; i < PIPELINE_BURST; i++) {
		assert_int_equal(rig->workers[0].out[i].fate, RIG_FORWARDED);
		assert_true(i < 2 || rig->workers[0].out[i].place > last_place[i & 1]);
		last_place[i & 1] = rig->workers[0].out[i].place;
	}
	rig_destroy(rig);
}

static void every_packet_on_another_worker(void **state)
{
	enum { CONNECTIONS = 1000 };
	struct rig *rig = rig_create(&(struct rig_options){.nb_workers = 2, .flows = 4096});
	struct connection *c = calloc(CONNECTIONS * 2, sizeof(*c));

	for (unsigned n = 0; n < CONNECTIONS * 2; n++) {
		c[n] = connection_of(rig, n % 2 ? AF_INET6 : AF_INET, n);
		assert_true(connection_syn(&c[n], n / 2 % 2));
	}
	for (unsigned step = 0; step < 9; step++) {
		static const struct {
			enum flow_direction direction;
			uint8_t flags;
			unsigned payload;
		} steps[] = {
			{BACKEND, TCP_SYN | TCP_ACK, 0},
			{CLIENT, TCP_ACK, 0},
			{CLIENT, TCP_ACK | TCP_PSH, 100},
			{BACKEND, TCP_ACK, 0},
			{BACKEND, TCP_ACK | TCP_PSH, 200},
			{CLIENT, TCP_ACK, 0},
			{CLIENT, TCP_FIN | TCP_ACK, 0},
			{BACKEND, TCP_FIN | TCP_ACK, 0},
			{CLIENT, TCP_ACK, 0},
		};
		for (unsigned n = 0; n < CONNECTIONS * 2; n++)
			connection_send(&c[n], (n / 2 + step + 1) % 2, steps[step].direction,
				steps[step].flags, steps[step].payload);
		rig_wait(rig, 100, 10);
	}
	for (unsigned n = 0; n < CONNECTIONS * 2; n++)
		assert_int_equal(connection_state(&c[n]), TCP_TIME_WAIT);
	assert_int_equal(rig_created(rig), CONNECTIONS * 2);
	assert_int_equal(rig_ports_used(rig), 0);
	rig_wait(rig, 63000, 1000);
	assert_int_equal(flow_table_used(rig->flows4) + flow_table_used(rig->flows6), 0);
	rig_destroy(rig);
	free(c);
}

static void client_is_answered_where_its_latest_packet_came_from(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 10);

		assert_true(connection_open(&c, 0));
		for (unsigned i = 0; i < 10; i++) {
			c.mac.bytes[i % 6] += 2;
			connection_send(&c, 0, CLIENT, TCP_ACK, 1);
			connection_send(&c, 0, BACKEND, TCP_ACK, 1); // checks the MAC
		}
		rig_destroy(rig);
	}
}

static void options_and_payload_pass_untouched(void **state) // A18
{
	static const uint8_t options[][40] = {
		{2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7,
			8}, // MSS, WS, SACK, TS
		{1, 1, 5, 26, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 9, 1, 2, 3, 4, 9, 8, 7,
			6},
		{34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1},                                // TFO cookie
		{19, 18, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 1}, // MD5
		{254, 6, 0xf9, 0x89, 1, 2, 253, 2}, // unknown kinds
		{2, 0, 2, 1, 3, 255, 77, 99},       // lengths 0, 1, too far
		{1, 1, 1, 1},
	};
	static const unsigned sizes[] = {20, 28, 12, 20, 8, 8, 40};

	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			struct connection c = connection_of(rig, family, 20 + i);
			struct segment segment = connection_segment(&c, CLIENT, TCP_SYN);
			segment.options = options[i];
			segment.options_size = sizes[i];
			segment.payload_size = i * 111; // SYN with data
			segment.urgent = i;
			const struct rig_packet *out = rig_run_segment(rig, 0, &segment);
			assert_int_equal(out->fate, RIG_FORWARDED);
			assert_int_equal(out->segment.options_size, sizes[i]);
			assert_memory_equal(out->segment.options, options[i], sizes[i]);
			assert_int_equal(out->segment.payload_size, i * 111);
			assert_int_equal(out->segment.urgent, i);
		}
		rig_destroy(rig);
	}
}

static void wrong_checksums_stay_wrong(void **state) // B11
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 40);
		uint8_t frame[PACKETS_SIZE_MAX];
		uint64_t seed = 11;

		assert_true(connection_open(&c, 0));
		for (unsigned i = 0; i < 20000; i++) { // rig.c compares how wrong they are
			struct segment segment = connection_segment(&c, i & 1, TCP_ACK);
			segment.payload_size = packets_random(&seed) % 20;
			unsigned size = packets_build(&segment, frame);
			unsigned l4 = PACKETS_IP_OFFSET + (family == AF_INET6 ? 40 : 20);
			uint16_t wrong =
				i < 100 ? (i % 3 == 0 ? 0 : 0xffff) : packets_random(&seed);
			memcpy(frame + l4 + 16, &wrong, 2);
			if (family == AF_INET && i % 4 == 0)
				memcpy(frame + PACKETS_IP_OFFSET + 10, &wrong, 2);
			assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, RIG_FORWARDED);
		}
		rig_destroy(rig);
	}
}

/* IPv4 options, IPv6 extension headers and an Ethernet trailer go along. */
static void headers_between_pass_untouched(void **state) // B7, B8, B15
{
	struct rig *rig = rig_create(NULL);
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned words = 1; words <= 10; words++) {
		struct connection c = connection_of(rig, AF_INET, 50 + words);
		struct segment segment = connection_segment(&c, CLIENT, TCP_SYN);
		unsigned size = packets_build(&segment, frame);
		uint8_t *ip = frame + PACKETS_IP_OFFSET;
		memmove(ip + 20 + words * 4, ip + 20, size - PACKETS_IP_OFFSET - 20);
		memset(ip + 20, 1, words * 4);
		ip[0] = 0x45 + words;
		ip[3] += words * 4;
		packets_seal_ip4(frame, 20 + words * 4);
		memset(frame + size + words * 4, 0xee, 6); // trailer
		assert_int_equal(
			rig_run_frame(rig, 0, frame, size + words * 4 + 6)->fate, RIG_FORWARDED);
	}
	for (unsigned count = 1; count <= 8; count++) {
		struct connection c = connection_of(rig, AF_INET6, 70 + count);
		struct segment segment = connection_segment(&c, CLIENT, TCP_SYN);
		unsigned size = packets_build(&segment, frame);
		uint8_t *ip = frame + PACKETS_IP_OFFSET;
		memmove(ip + 40 + count * 8, ip + 40, 20);
		memset(ip + 40, 0, count * 8);
		for (unsigned i = 0; i < count; i++)
			ip[40 + i * 8] = i + 1 < count ? IPPROTO_DSTOPTS : IPPROTO_TCP;
		ip[6] = IPPROTO_DSTOPTS;
		ip[5] += count * 8;
		assert_int_equal(
			rig_run_frame(rig, 0, frame, size + count * 8)->fate, RIG_FORWARDED);
	}
	assert_int_equal(rig_created(rig), 18);
	rig_destroy(rig);
}

static void flows_of_a_backend_that_went_down_go_on(void **state) // D4
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 90);

		assert_true(connection_open(&c, 0));
		rig_set_backend(rig, c.backend_id, false, true);
		connection_send(&c, 0, CLIENT, TCP_ACK, 10);
		connection_send(&c, 0, BACKEND, TCP_ACK, 10);
		for (unsigned n = 0; n < 50; n++) {
			struct connection other = connection_of(rig, family, 100 + n);
			assert_true(connection_syn(&other, 0));
			assert_int_not_equal(other.backend_id, c.backend_id);
		}
		rig_destroy(rig);
	}
}

/* Two tuples in one bucket under one signature: the first that is met is not
 * always the right one. */
static void tuples_of_one_signature_are_told_apart(void **state)
{
	enum { TUPLES = 60000 };
	struct rig *rig = rig_create(&(struct rig_options){.nb_ports = 30000});
	struct place {
		uint64_t place;
		uint32_t number;
	} *places = calloc(TUPLES, sizeof(*places));
	struct flow_table *flows = rig->flows4;
	unsigned nb_pairs = 0;

	for (uint32_t n = 0; n < TUPLES; n++) {
		struct connection c = connection_of(rig, AF_INET, n);
		struct net_addr vip = rig_vip(AF_INET);
		uint32_t addrs[2] = {c.client.v4, vip.v4}, ports;
		uint16_t port_pair[2] = {htons(c.client_port), htons(RIG_VIP_PORT)};
		memcpy(&ports, port_pair, 4);
		uint64_t hash = flow_hash(&flows->hasher, AF_INET, addrs, ports);
		places[n].place =
			(uint64_t)flow_hash_primary(flow_index_span(&flows->index).settled, hash)
				<< 16 |
			flow_hash_signature(hash);
		places[n].number = n;
	}
	for (uint32_t gap = TUPLES / 2; gap > 0; gap /= 2) // Shell's sort
		for (uint32_t i = gap; i < TUPLES; i++)
			for (uint32_t k = i; k >= gap && places[k].place < places[k - gap].place;
				k -= gap) {
				struct place swap = places[k];
				places[k] = places[k - gap];
				places[k - gap] = swap;
			}
	for (uint32_t i = 1; i < TUPLES && nb_pairs < 20; i++) {
		if (places[i].place != places[i - 1].place)
			continue;
		struct connection a = connection_of(rig, AF_INET, places[i].number);
		struct connection b = connection_of(rig, AF_INET, places[i - 1].number);
		assert_true(connection_open(&a, 0));
		assert_true(connection_open(&b, 0));
		for (unsigned n = 0; n < 3; n++) {
			connection_send(&a, 0, n & 1, TCP_ACK, 10);
			connection_send(&b, 0, n & 1, TCP_ACK, 20);
		}
		assert_ptr_not_equal(connection_flow(&a), connection_flow(&b));
		// And a new connection in place of the one that isn't met first.
		connection_send(&b, 0, BACKEND, TCP_RST, 0);
		uint64_t created = rig_created(rig);
		assert_true(connection_syn(&b, 0));
		assert_int_equal(rig_created(rig), created + 1);
		nb_pairs++;
	}
	print_message("%u pairs\n", nb_pairs);
	assert_true(nb_pairs >= 5);
	free(places);
	rig_destroy(rig);
}

/* While entries of the index are on the move, no packet of a flow that is known goes astray. */
static void connections_outlast_an_index_that_grows(void **state)
{
	enum { CONNECTIONS = 3000 };

	FOR_EACH_FAMILY(family) {
		struct rig *rig =
			rig_create(&(struct rig_options){.flows = 16384, .nb_ports = 4000});
		struct flow_table *flows = rig_flows(rig, family);
		struct connection *all = calloc(CONNECTIONS, sizeof(*all));
		unsigned nb_moving = 0;
		uint64_t seed = 7;

		rte_rcu_qsbr_thread_register(rig->rcu, 5); // another worker, slow
		rte_rcu_qsbr_thread_online(rig->rcu, 5);
		flow_index_use(&flows->index, 64);
		for (uint32_t n = 0; n < CONNECTIONS; n++) {
			all[n] = connection_of(rig, family, n);
			assert_true(connection_open(&all[n], 0));
			for (unsigned i = 0; i < 8; i++) {
				uint64_t random = packets_random(&seed);
				connection_send(&all[random % (n + 1)], 0, random >> 32 & 1,
					TCP_ACK, random >> 33 & 63);
			}
			if (n % 16 == 0)
				rte_rcu_qsbr_quiescent(rig->rcu, 5);
			if (n % 8 == 0)
				rig_tick(rig, 0, rig->now_ms, 512);
			nb_moving += flows->index.growth == FLOW_GROWTH_MOVES;
		}
		assert_int_equal(rig_created(rig), CONNECTIONS);
		assert_true(nb_moving > 200);
		assert_true(flow_index_span(&flows->index).settled >= 1024);
		free(all);
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ten_packets_from_end_to_end),
		cmocka_unit_test(syn_repeated_keeps_backend_and_port),
		cmocka_unit_test(closes_from_either_side),
		cmocka_unit_test(both_close_at_once),
		cmocka_unit_test(keepalives_and_old_data_pass),
		cmocka_unit_test(open_at_both_ends_at_once),
		cmocka_unit_test(syn_on_a_closing_flow_makes_a_new_one),
		cmocka_unit_test(reset_and_new_syn_in_one_burst),
		cmocka_unit_test(whole_connection_in_one_burst),
		cmocka_unit_test(a_burst_leaves_in_the_order_it_came),
		cmocka_unit_test(every_packet_on_another_worker),
		cmocka_unit_test(client_is_answered_where_its_latest_packet_came_from),
		cmocka_unit_test(options_and_payload_pass_untouched),
		cmocka_unit_test(wrong_checksums_stay_wrong),
		cmocka_unit_test(headers_between_pass_untouched),
		cmocka_unit_test(flows_of_a_backend_that_went_down_go_on),
		cmocka_unit_test(tuples_of_one_signature_are_told_apart),
		cmocka_unit_test(connections_outlast_an_index_that_grows),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
