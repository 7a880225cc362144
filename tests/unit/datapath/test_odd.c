/* SPDX-License-Identifier: BSD-3-Clause */
/* W7: SYNs that nobody answers say nothing about a backend. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

enum { IP = PACKETS_IP_OFFSET, TIMEOUT_MS = 250 };

enum oddity {
	SOURCE_ROUTE,
	NO_OPERATION,
	OPTIONS_HEADER,
	ROUTING_HEADER,
	AUTHENTICATION,
	MD5,
	AO,
	TWO_HOPS,
	FEW_HOPS,
	TOO_LONG,
	ODDITIES
};

static struct rig *create(unsigned nb_workers)
{
	return rig_create(&(struct rig_options){.nb_workers = nb_workers,
		.connect = {.timeout_ms = TIMEOUT_MS, .retry_percent = 20, .tries = 3}});
}

/* Eight bytes behind the IP header: options of IPv4, or an extension header of IPv6. */
static unsigned insert(
	uint8_t *frame, unsigned size, sa_family_t family, const uint8_t *bytes, uint8_t kind)
{
	unsigned l4 = IP + (family == AF_INET6 ? 40 : 20);

	memmove(frame + l4 + 8, frame + l4, size - l4);
	memcpy(frame + l4, bytes, 8);
	if (family == AF_INET6) {
		frame[IP + 5] += 8;
		frame[l4] = frame[IP + 6];
		frame[IP + 6] = kind;
	} else {
		frame[IP] += 2;
		frame[IP + 3] += 8;
		packets_seal_ip4(frame, 28);
	}
	return size + 8;
}

/* The client's SYN with that about it; 0 = not in the family. */
static unsigned build(const struct connection *c, enum oddity oddity, uint8_t *frame)
{
	static const uint8_t md5[20] = {19, 18, [18] = 1, 1}, ao[16] = {29, 16, 1, 1};
	static const uint8_t source_route[8] = {131, 7, 4, 10, 0, 0, 1, 0}, nothing[8] = {1, 1, 1};
	static const uint8_t header[8] = {0, 0, 1, 4};
	struct segment syn = connection_segment(c, CLIENT, TCP_SYN);
	bool v6 = c->family == AF_INET6;

	if (oddity == MD5 || oddity == AO) {
		syn.options = oddity == MD5 ? md5 : ao;
		syn.options_size = oddity == MD5 ? sizeof(md5) : sizeof(ao);
	}
	if (oddity == TWO_HOPS || oddity == FEW_HOPS)
		syn.ttl = oddity == TWO_HOPS ? 2 : 16;
	if (oddity == TOO_LONG)
		syn.payload_size = 1000;
	unsigned size = packets_build(&syn, frame);
	switch (oddity) {
	case SOURCE_ROUTE:
		return v6 ? 0 : insert(frame, size, c->family, source_route, 0);
	case NO_OPERATION:
		return v6 ? 0 : insert(frame, size, c->family, nothing, 0);
	case OPTIONS_HEADER:
		return v6 ? insert(frame, size, c->family, header, IPPROTO_DSTOPTS) : 0;
	case ROUTING_HEADER:
		return v6 ? insert(frame, size, c->family, header, IPPROTO_ROUTING) : 0;
	case AUTHENTICATION:
		return v6 ? insert(frame, size, c->family, header, IPPROTO_AH) : 0;
	default:
		return size;
	}
}

/* Nothing was learnt about any backend, and nothing is waited for. */
static void says_nothing(struct rig *rig, sa_family_t family)
{
	for (unsigned w = 0; w < rig->options.nb_workers; w++) {
		for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++) {
			const struct stats_connect *connect = rig_connects(rig, w, id);
			assert_int_equal(connect->timed_out + connect->fails, 0);
			assert_int_equal(connect->moved_away + connect->challenged, 0);
			assert_int_equal(stats_connect_answers(connect), 0);
			assert_int_equal(connect->answer_us, 0);
			assert_false(stats_connect_is_suspect(connect));
		}
		assert_int_equal(rig->workers[w].pipeline.fails.count, 0);
		assert_int_equal(rig->workers[w].nb_made, 0);
		assert_int_equal(rig->workers[w].retries[family == AF_INET6].moves, 0);
		assert_int_equal(rig->workers[w].retries[family == AF_INET6].answer_us, 0);
	}
	assert_int_equal(rig_side_records(rig, family), 0);
}

static void a_wrong_sum_makes_no_flow(void **state)
{
	uint8_t frame[PACKETS_SIZE_MAX];

	FOR_EACH_FAMILY(family)
		for (unsigned of_ip = 0; of_ip < (family == AF_INET ? 2 : 1); of_ip++) {
			struct rig *rig = create(1);
			unsigned at = of_ip ? IP + 10u : IP + (family == AF_INET6 ? 40u : 20u) + 16;
			for (unsigned bit = 0; bit < 16; bit++) {
				struct connection c = connection_of(rig, family, bit);
				struct segment syn = connection_segment(&c, CLIENT, TCP_SYN);
				syn.payload_size = bit;
				unsigned size = packets_build(&syn, frame);
				frame[at + bit / 8] ^= 1 << bit % 8;
				assert_int_equal(
					rig_run_frame(rig, 0, frame, size)->fate, RIG_DROPPED);
				assert_int_equal(rig_dropped(rig, STATS_DROP_BAD_SUM), bit + 1);
			}
			assert_int_equal(rig_created(rig), 0);
			assert_int_equal(rig_ports_used(rig), 0);
			says_nothing(rig, family);
			rig_destroy(rig);
		}
}

/* Which are in the family, forwarded, in a row: then what `then` does to each. */
static void for_each_odd(
	void (*then)(struct connection *c, enum oddity oddity, const uint8_t *frame, unsigned size))
{
	FOR_EACH_FAMILY(family)
		for (enum oddity oddity = 0; oddity < ODDITIES; oddity++) {
			struct rig *rig = create(2);
			struct connection c = connection_of(rig, family, oddity);
			uint8_t frame[PACKETS_SIZE_MAX];
			unsigned size = build(&c, oddity, frame);

			if (size != 0) {
				assert_int_equal(
					rig_run_frame(rig, 0, frame, size)->fate, RIG_FORWARDED);
				assert_int_equal(connection_state(&c), TCP_SYN_SENT);
				then(&c, oddity, frame, size);
				says_nothing(rig, family);
				assert_int_equal(rig_created(rig), 1);
			}
			rig_destroy(rig);
		}
}

/* Where it went, from the record. */
static void learn(struct connection *c)
{
	struct flow *flow = connection_flow(c);

	c->backend_id = FLOW_BACKEND_ID(flow->backend);
	c->backend = rig_backend_addr(c->rig, c->backend_id);
	c->backend_port = rig_backend_port(c->rig, c->backend_id);
	c->snat = rig_snat_addr(c->family, 0);
	c->snat_port = ntohs(flow->port[FLOW_SNAT]);
	c->seq[CLIENT] = flow->end[CLIENT];
}

static void is_silent(struct connection *c, enum oddity oddity, const uint8_t *frame, unsigned size)
{
	for (unsigned n = 0; n < 3; n++) { // and sent again, as the client would
		rig_wait(c->rig, 1500, 1);
		assert_int_equal(rig_run_frame(c->rig, n % 2, frame, size)->fate, RIG_FORWARDED);
	}
	rig_wait(c->rig, 5000, 10);
	assert_int_equal(connection_state(c), TCP_SYN_SENT);
}

static void is_refused(
	struct connection *c, enum oddity oddity, const uint8_t *frame, unsigned size)
{
	learn(c);
	struct segment rst = connection_segment(c, BACKEND, TCP_RST | TCP_ACK);
	rst.seq = 0;
	assert_int_equal(rig_run_segment(c->rig, 1, &rst)->fate, RIG_FORWARDED);
	assert_int_equal(connection_state(c), TCP_CLOSE);
}

static void is_answered(
	struct connection *c, enum oddity oddity, const uint8_t *frame, unsigned size)
{
	learn(c);
	rig_wait(c->rig, 100, 1);
	connection_send(c, 1, BACKEND, TCP_SYN | TCP_ACK, 0);
	connection_send(c, 0, CLIENT, TCP_ACK, 0);
	assert_int_equal(connection_state(c), TCP_ESTABLISHED);
}

static void an_odd_one_that_is_not_answered_says_nothing(void **state)
{
	for_each_odd(is_silent);
}

static void nor_does_its_refusal(void **state)
{
	for_each_odd(is_refused);
}

static void nor_its_answer(void **state)
{
	for_each_odd(is_answered);
}

/* A plain SYN is kept, and what comes after it in the client's name changes nothing about that. */
static void one_that_comes_after_a_plain_one_changes_nothing(void **state)
{
	FOR_EACH_FAMILY(family)
		for (int oddity = -1; oddity < ODDITIES; oddity++) {
			struct rig *rig = create(1);
			struct connection c = connection_of(rig, family, 3);
			uint8_t frame[PACKETS_SIZE_MAX];
			unsigned size;

			if (oddity == TOO_LONG)
				goto next; // as a client's that has data now
			if (oddity >= 0) {
				size = build(&c, oddity, frame);
			} else {
				struct segment syn = connection_segment(&c, CLIENT, TCP_SYN);
				size = packets_build(&syn, frame);
				frame[size - 3] ^= 1; // the sum is wrong
			}
			for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++)
				stats_connect_answered(rig_connects(rig, 0, id), 1000);
			assert_true(connection_syn(&c, 0));
			for (unsigned ms = 0; size != 0 && ms < TIMEOUT_MS; ms++) {
				assert_int_equal(
					rig_run_frame(rig, 0, frame, size)->fate, RIG_FORWARDED);
				assert_int_equal(rig->workers[0].nb_made, 0);
				rig_wait(rig, 1, 1);
			}
			if (size == 0)
				rig_wait(rig, TIMEOUT_MS, 1);
			assert_int_equal(rig->workers[0].nb_made, 1); // at its time, as it came
			assert_int_equal(rig_last_made(rig, 0)->segment.flags, TCP_SYN);
			assert_int_equal(rig_last_made(rig, 0)->segment.options_size, 0);
			assert_true(packets_checksums_right(
				rig_last_made(rig, 0)->frame, rig_last_made(rig, 0)->size, 0));
		next:
			rig_destroy(rig);
		}
}

/* The most hops that are few, and one more. */
static void a_plain_one_is_waited_for(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = create(1);
		struct connection c = connection_of(rig, family, 4);

		c.ttl = 17;
		assert_true(connection_syn(&c, 0));
		assert_int_equal(rig_side_records(rig, family), 1);
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wrong_sum_makes_no_flow),
		cmocka_unit_test(an_odd_one_that_is_not_answered_says_nothing),
		cmocka_unit_test(nor_does_its_refusal),
		cmocka_unit_test(nor_its_answer),
		cmocka_unit_test(one_that_comes_after_a_plain_one_changes_nothing),
		cmocka_unit_test(a_plain_one_is_waited_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
