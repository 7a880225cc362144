/* SPDX-License-Identifier: BSD-3-Clause */
/* A flow changes only by what its receiver takes: FIN, RST, SYN and numbers, of whoever sends in an
 * end's name (W1, W10 to W12, W16, S5). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "rig.h"

enum { MIB = 1 << 20, MSS = 1400 };

/* A connection, and what its backend sees the client's numbers moved by. */
struct flowing {
	struct connection c;
	uint32_t moved;
	unsigned worker; // of the next packet
};

/* What is odd of a segment. */
struct odd {
	uint32_t seq, ack; // are added to its numbers
	unsigned payload;
	bool other_mac;
	bool wrong_sum;
	bool is_signed; // RFC 2385
};

static void say_odd(struct flowing *f, enum flow_direction direction, uint8_t flags, struct odd odd)
{
	struct segment in = connection_segment(&f->c, direction, flags);
	static const uint8_t md5[20] = {1, 1, 19, 18};
	uint8_t frame[PACKETS_SIZE_MAX];
	unsigned nb_workers = f->c.rig->options.nb_workers;

	in.seq += odd.seq;
	in.payload_size = odd.payload;
	if (flags & TCP_ACK)
		in.ack += odd.ack + (direction == BACKEND ? f->moved : 0);
	if (odd.is_signed) {
		in.options = md5;
		in.options_size = sizeof(md5);
	}
	if (odd.other_mac)
		in.from.bytes[5] ^= 0x80;
	unsigned size = packets_build(&in, frame);
	if (odd.wrong_sum)
		frame[size - 1] ^= 1; // of the payload, or of the urgent pointer
	const struct rig_packet *out = rig_run_frame(f->c.rig, f->worker, frame, size);
	assert_int_equal(out->fate, RIG_FORWARDED);
	f->worker = (f->worker + 1) % nb_workers;
}

/* As its end would send it; numbers move on. */
static void say(struct flowing *f, enum flow_direction direction, uint8_t flags, unsigned payload)
{
	say_odd(f, direction, flags, (struct odd){.payload = payload});
	f->c.seq[direction] += payload + !!(flags & TCP_SYN) + !!(flags & TCP_FIN);
}

/* The same, but it is lost on the way to the balancer. */
static void lose(struct flowing *f, enum flow_direction direction, unsigned payload)
{
	f->c.seq[direction] += payload;
}

static void say_many(struct flowing *f, enum flow_direction direction, unsigned bytes)
{
	for (unsigned sent = 0; sent < bytes; sent += MSS)
		say(f, direction, TCP_ACK, MSS);
}

static enum tcp_state state(const struct flowing *f)
{
	return connection_state(&f->c);
}

static uint32_t active(const struct flowing *f)
{
	uint64_t opened = 0, ended = 0;

	for (unsigned w = 0; w < f->c.rig->options.nb_workers; w++) {
		const struct stats_backend *counts =
			&f->c.rig->workers[w].backends[f->c.backend_id];
		opened += counts->opened;
		ended += counts->ended;
	}
	return opened - ended;
}

static void assert_open(const struct flowing *f, enum tcp_state wanted)
{
	assert_int_equal(state(f), wanted);
	assert_int_equal(rig_ports_used(f->c.rig), 1);
	assert_int_equal(active(f), 1);
}

static void assert_over(const struct flowing *f, enum tcp_state wanted)
{
	assert_int_equal(state(f), wanted);
	assert_int_equal(rig_ports_used(f->c.rig), 0);
	assert_int_equal(active(f), 0);
}

/* Both workers, either family, plain flows and those whose numbers are moved. */
struct world {
	sa_family_t family;
	bool is_moved;
	struct rig *rig;
};

#define FOR_EACH_WORLD(world)                                                                      \
	for (struct world world = {.family = AF_INET}; world_open(&world); world_close(&world))

static bool world_open(struct world *world)
{
	if (world->family == 0)
		return false;
	world->rig = rig_create(&(struct rig_options){
		.nb_workers = 2, .nb_backends = 1, .nb_ports = world->is_moved ? 1 : 1000});
	return true;
}

static void world_close(struct world *world)
{
	rig_destroy(world->rig);
	if (world->is_moved)
		world->family = world->family == AF_INET ? AF_INET6 : 0;
	world->is_moved = !world->is_moved;
}

static void open_as(struct flowing *f)
{
	struct segment syn = connection_segment(&f->c, CLIENT, TCP_SYN);

	assert_true(connection_syn(&f->c, 0));
	const struct segment *out = &f->c.rig->workers[0].out[0].segment;
	f->moved = out->seq - syn.seq;
	say(f, BACKEND, TCP_SYN | TCP_ACK, 0);
	say(f, CLIENT, TCP_ACK, 0);
	assert_int_equal(state(f), TCP_ESTABLISHED);
}

/* One that has sent each way, all acknowledged. */
static struct flowing flowing(const struct world *world, unsigned number)
{
	struct flowing f = {.c = connection_of(world->rig, world->family, number)};

	if (world->is_moved) { // the port comes from one whose numbers were higher
		struct flowing before = {
			.c = connection_of(world->rig, world->family, number + 10000)};
		before.c.seq[CLIENT] = f.c.seq[CLIENT] + 0x10000000;
		open_as(&before);
		say(&before, BACKEND, TCP_FIN | TCP_ACK, 0);
		say(&before, CLIENT, TCP_FIN | TCP_ACK, 0);
		say(&before, BACKEND, TCP_ACK, 0);
		assert_over(&before, TCP_TIME_WAIT);
	}
	open_as(&f);
	assert_int_equal(f.moved != 0, world->is_moved);
	say(&f, CLIENT, TCP_ACK | TCP_PSH, 500);
	say(&f, BACKEND, TCP_ACK | TCP_PSH, 700);
	say(&f, CLIENT, TCP_ACK, 0);
	assert_open(&f, TCP_ESTABLISHED);
	return f;
}

static void close_both(struct flowing *f, enum flow_direction first)
{
	say(f, first, TCP_FIN | TCP_ACK, 0);
	say(f, 1 - first, TCP_FIN | TCP_ACK, 0);
	say(f, first, TCP_ACK, 0);
	assert_over(f, TCP_TIME_WAIT);
}

/* --- FIN --- */

static void a_repeated_fin_is_of_its_own_side(void **unused) // W1
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction first = 0; first < 2; first++) {
			struct flowing f = flowing(&world, first);

			say(&f, first, TCP_FIN | TCP_ACK, 0);
			assert_open(&f, TCP_FIN_WAIT);
			for (unsigned i = 0; i < 3; i++) { // tail loss probes
				say_odd(&f, first, TCP_FIN | TCP_ACK, (struct odd){.seq = -1});
				assert_open(&f, TCP_FIN_WAIT);
			}
			say(&f, 1 - first, TCP_ACK, 0);
			assert_open(&f, TCP_CLOSE_WAIT);
			say_odd(&f, first, TCP_FIN | TCP_ACK,
				(struct odd){.seq = -1}); // the ACK was lost
			say(&f, 1 - first, TCP_ACK, 0);
			for (unsigned i = 0; i < 100; i++) { // the answer
				say(&f, 1 - first, TCP_ACK, MSS);
				say(&f, first, TCP_ACK, 0);
				assert_open(&f, TCP_CLOSE_WAIT);
			}
			say(&f, 1 - first, TCP_FIN | TCP_ACK, MSS);
			say_odd(&f, 1 - first, TCP_FIN | TCP_ACK, (struct odd){.seq = -1});
			assert_open(&f, TCP_LAST_ACK);
			say(&f, first, TCP_ACK, 0);
			assert_over(&f, TCP_TIME_WAIT);
		}
}

static void a_fin_counts_when_all_is_acknowledged(void **unused) // W16
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction first = 0; first < 2; first++) {
			struct flowing f = flowing(&world, first);
			uint32_t begin = f.c.seq[first];

			say_many(&f, first, 4 * MIB); // 200 ms away
			say(&f, first, TCP_FIN | TCP_ACK, 77);
			assert_open(&f, TCP_FIN_WAIT);
			uint32_t size = f.c.seq[first] - begin;
			for (uint32_t acked = 0; acked < size; acked += 100 * MSS) {
				say_odd(&f, 1 - first, TCP_ACK, (struct odd){.ack = acked - size});
				assert_open(&f, TCP_FIN_WAIT);
			}
			say_odd(&f, 1 - first, TCP_ACK, (struct odd){.ack = -1}); // all but the FIN
			assert_open(&f, TCP_FIN_WAIT);
			say(&f, 1 - first, TCP_FIN | TCP_ACK, 0);
			assert_open(&f, TCP_LAST_ACK);
			say(&f, first, TCP_ACK, 0);
			assert_over(&f, TCP_TIME_WAIT);
		}
}

/* What was lost before it came here leaves a gap, and the receiver has all that is behind it. */
static void a_fin_behind_a_gap_counts(void **unused) // W16
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction first = 0; first < 2; first++)
			for (unsigned behind = 0; behind < 2; behind++) { // data, or the FIN alone
				struct flowing f = flowing(&world, first * 2 + behind);

				say_many(&f, first, MIB);
				uint32_t gap = f.c.seq[first];
				lose(&f, first, MSS);
				say_many(&f, first, behind * MIB);
				say(&f, first, TCP_FIN | TCP_ACK, 0);
				uint32_t size = f.c.seq[first] - gap;
				for (unsigned i = 0; i < 10; i++) // duplicate acknowledgements
					say_odd(&f, 1 - first, TCP_ACK, (struct odd){.ack = -size});
				assert_open(&f, TCP_FIN_WAIT);
				say_odd(&f, first, TCP_ACK,
					(struct odd){.seq = -size, .payload = MSS});
				say(&f, 1 - first, TCP_ACK, 0);
				assert_open(&f, TCP_CLOSE_WAIT);
				say(&f, 1 - first, TCP_FIN | TCP_ACK, 0);
				say(&f, first, TCP_ACK, 0);
				assert_over(&f, TCP_TIME_WAIT);
			}
}

/* Packets overtake each other on their way here: the answer to the other side's FIN comes before
 * the FIN that was sent before it, and has the number behind it. */
static void a_fin_that_was_overtaken_counts(void **unused)
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction first = 0; first < 2; first++)
			for (unsigned payload = 0; payload <= MSS; payload += MSS) {
				struct flowing f = flowing(&world, first * 2 + !payload);

				say(&f, first, TCP_FIN | TCP_ACK, 0);
				lose(&f, 1 - first, payload + 1);
				say(&f, 1 - first, TCP_ACK, 0);
				assert_open(&f, TCP_CLOSE_WAIT);
				say_odd(&f, 1 - first, TCP_FIN | TCP_ACK,
					(struct odd){.seq = -payload - 1, .payload = payload});
				assert_open(&f, TCP_LAST_ACK);
				say(&f, first, TCP_ACK, 0);
				assert_over(&f, TCP_TIME_WAIT);
			}
}

/* Anybody who knows where a stream ends may forge a FIN there, which its receiver ignores for its
 * acknowledgement; then the stream goes on. */
static void a_forged_fin_is_forgotten_when_data_pass_it(void **unused)
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct flowing f = flowing(&world, side);

			say_odd(&f, side, TCP_FIN | TCP_ACK, (struct odd){.ack = -(1 << 30)});
			assert_open(&f, TCP_FIN_WAIT);
			say(&f, 1 - side, TCP_ACK, 0); // the challenge
			assert_open(&f, TCP_FIN_WAIT);
			for (unsigned i = 0; i < 10 * MIB / MSS; i++) {
				say(&f, side, TCP_ACK, MSS);
				if (i % 2 == 0)
					say(&f, 1 - side, TCP_ACK, 0);
				assert_open(&f, TCP_ESTABLISHED);
			}
			say(&f, 1 - side, TCP_ACK, 0);
			close_both(&f, side);
		}
}

static void a_fin_to_a_dead_backend_has_the_closing_time(void **unused)
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct flowing f = flowing(&world, side);

			say(&f, side, TCP_FIN | TCP_ACK, 0);
			uint64_t start_ms = world.rig->now_ms;
			for (unsigned i = 0; i < 5; i++) { // nobody answers
				rig_wait(world.rig, 1000 << i, 500);
				say_odd(&f, side, TCP_FIN | TCP_ACK, (struct odd){.seq = -1});
			}
			assert_int_equal(world.rig->now_ms - start_ms, 31000);
			rig_wait(world.rig, 239000, 500);
			assert_open(&f, TCP_FIN_WAIT);
			rig_wait(world.rig, 1000 + 1000 + 2000,
				500); // rounded up, and the sweep's period
			assert_over(&f, TCP_NONE);
		}
}

static void a_forged_fin_costs_no_idle_time_when_it_is_blind(void **unused) // W10
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct flowing f = flowing(&world, side);
			static const uint32_t offsets[] = {
				1, -1, 2, -2, 1000, -1000, 65535, MIB, -MIB, 1u << 31};

			for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
				for (unsigned k = 0; k < 4; k++) {
					struct odd odd = {.seq = offsets[i],
						.ack = k & 1 ? offsets[i] * 3 + 7 : 1 << 30,
						.payload = k & 2 ? 1 : 0};
					if (odd.seq + odd.payload == 0)
						continue;
					say_odd(&f, side, TCP_FIN | TCP_ACK, odd);
					assert_open(&f, TCP_ESTABLISHED);
				}
			say_odd(&f, side, TCP_FIN,
				(struct odd){0}); // no receiver takes one without ACK
			assert_open(&f, TCP_ESTABLISHED);
			close_both(&f, side);
		}
}

/* --- numbers --- */

static void forged_fins_at_4096_numbers_and_a_syn(void **unused) // W10
{
	FOR_EACH_WORLD(world) {
		struct flowing f = flowing(&world, 1);

		for (uint32_t i = 0; i <= 4096; i++) {
			struct odd odd = {.seq = (i << 20) + 1, .ack = i * 9999999 + 1};
			say_odd(&f, CLIENT, TCP_FIN | TCP_ACK, odd);
		}
		say_odd(&f, CLIENT, TCP_SYN, (struct odd){.seq = 4711});
		assert_open(&f, TCP_ESTABLISHED);
		assert_int_equal(rig_created(world.rig), world.is_moved ? 2 : 1);
		close_both(&f, CLIENT);
	}
}

/* What moves what is known of a stream makes a RST exact. */
static void pairs_of_a_forged_segment_and_a_reset(void **unused) // W10, W12
{
	static const uint8_t first[] = {TCP_ACK, TCP_ACK | TCP_PSH, TCP_FIN | TCP_ACK, TCP_SYN,
		TCP_SYN | TCP_ACK, TCP_RST, TCP_RST | TCP_ACK, 0};

	FOR_EACH_WORLD(world)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct flowing f = flowing(&world, side);
			uint64_t seed = 10 + side;

			for (unsigned i = 0; i < 8 * 5000; i++) {
				uint64_t random = packets_random(&seed);
				struct odd odd = {
					.seq = random, .ack = random >> 32, .other_mac = i & 1};
				odd.payload = random % 3 == 0 ? MSS : 0;
				if (odd.seq + odd.payload + 1 < 2 * MSS) // as if it knew
					continue;
				say_odd(&f, side, first[i % 8], odd);
				odd.seq += odd.payload;
				odd.payload = 0;
				say_odd(&f, side, TCP_RST, odd);
				odd.seq++;
				say_odd(&f, side, TCP_RST, odd);
			}
			assert_open(&f, TCP_ESTABLISHED);
			say(&f, CLIENT, TCP_ACK, 100);
			say(&f, BACKEND, TCP_ACK, 100);
			say(&f, side, TCP_RST, 0); // tracked still
			assert_over(&f, TCP_CLOSE);
		}
}

/* An acknowledgement makes one exact, too: of the other side. */
static void a_forged_acknowledgement_makes_no_reset_exact(void **unused)
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct flowing f = flowing(&world, side);

			for (uint32_t i = 1; i <= 4096; i++) {
				say_odd(&f, side, TCP_ACK, (struct odd){.seq = 3, .ack = i << 12});
				say_odd(&f, 1 - side, TCP_RST, (struct odd){.seq = i << 12});
				assert_open(&f, TCP_ESTABLISHED);
			}
			close_both(&f, side);
		}
}

static void a_reset_behind_a_flight_is_exact(void **unused) // W16
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction side = 0; side < 2; side++)
			for (unsigned gap = 0; gap < 2; gap++) {
				struct flowing f = flowing(&world, side * 2 + gap);

				say_many(&f, side, 3 * MIB);
				lose(&f, side, gap * MSS);
				say_many(&f, side, 3 * MIB);
				say_odd(&f, side, TCP_RST, (struct odd){.seq = MIB});
				assert_open(&f, TCP_ESTABLISHED);
				say(&f, side, TCP_RST, 0);
				assert_over(&f, TCP_CLOSE);
			}
}

/* Linux and macOS: the RST behind a FIN has the FIN's number, or the next. */
static void a_reset_behind_a_fin_is_exact_or_nothing(void **unused) // W11, A7
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction side = 0; side < 2; side++)
			for (unsigned acked = 0; acked < 2; acked++)
				for (unsigned number = 0; number < 2; number++) {
					struct flowing f =
						flowing(&world, side * 4 + acked * 2 + number);
					enum tcp_state now = acked ? TCP_CLOSE_WAIT : TCP_FIN_WAIT;

					say(&f, side, TCP_FIN | TCP_ACK, 0);
					if (acked)
						say(&f, 1 - side, TCP_ACK, 0);
					for (uint32_t i = 1; i < 100; i++) {
						say_odd(&f, side, TCP_RST,
							(struct odd){.seq = i * 7});
						say_odd(&f, 1 - side, TCP_RST,
							(struct odd){.seq = i * 12345});
						assert_open(&f, now);
					}
					say_odd(&f, side, TCP_RST, (struct odd){.seq = -number});
					assert_over(&f, TCP_CLOSE);
				}
}

/* --- SYN --- */

static void bring_to(struct flowing *f, enum tcp_state wanted)
{
	if (wanted == TCP_ESTABLISHED)
		return;
	if (wanted == TCP_CLOSE) {
		say(f, BACKEND, TCP_RST, 0);
		return;
	}
	say(f, CLIENT, TCP_FIN | TCP_ACK, 0);
	if (wanted == TCP_FIN_WAIT)
		return;
	say(f, BACKEND, TCP_ACK, 0);
	if (wanted == TCP_CLOSE_WAIT)
		return;
	say(f, BACKEND, TCP_FIN | TCP_ACK, 0);
	if (wanted == TCP_LAST_ACK)
		return;
	say(f, CLIENT, TCP_ACK, 0);
}

static void a_syn_changes_nothing_while_the_backend_may_answer(void **unused) // W11
{
	FOR_EACH_WORLD(world)
		for (enum tcp_state open = TCP_ESTABLISHED; open <= TCP_LAST_ACK; open++) {
			struct flowing f = flowing(&world, open);

			bring_to(&f, open);
			uint64_t created = rig_created(world.rig);
			for (unsigned i = 0; i < 100; i++) {
				struct odd odd = {.seq = i * 7777777, .wrong_sum = i & 1};
				say_odd(&f, CLIENT, i & 2 ? TCP_SYN : TCP_SYN | TCP_ECE | TCP_CWR,
					odd);
				assert_open(&f, open);
			}
			assert_int_equal(rig_created(world.rig), created);
			// Who has forgotten the connection is told so, and ends it.
			say(&f, BACKEND, TCP_ACK, 0);
			say_odd(&f, CLIENT, TCP_RST, (struct odd){0});
			assert_over(&f, TCP_CLOSE);
		}
}

/* The flow is of another backend, or of another port than it was. */
static void a_syn_starts_anew(void **unused) // A13
{
	FOR_EACH_FAMILY(family)
		for (unsigned why = 0; why < 3; why++) // over; down; its next hop unknown
			for (enum tcp_state at = TCP_ESTABLISHED; at <= TCP_CLOSE; at++) {
				struct world world = {.family = family,
					.rig = rig_create(&(struct rig_options){0})};
				struct flowing f = flowing(&world, at);
				uint16_t port = f.c.snat_port;
				unsigned backend = f.c.backend_id;

				bring_to(&f, at);
				if ((why == 0) != (at >= TCP_TIME_WAIT)) {
					rig_destroy(world.rig);
					continue;
				}
				if (why != 0)
					rig_set_backend(world.rig, backend, why != 1, why != 2);
				if (why != 2) { // else it goes nowhere
					say_odd(&f, CLIENT, TCP_SYN,
						(struct odd){.wrong_sum = true});
					assert_int_equal(state(&f), at);
				}
				f.c.seq[CLIENT] -= 1000000; // any number
				assert_true(connection_syn(&f.c, 0));
				assert_int_equal(state(&f), TCP_SYN_SENT);
				assert_int_equal(rig_created(world.rig), 2);
				assert_true(f.c.snat_port != port || f.c.backend_id != backend);
				assert_int_equal(f.c.backend_id != backend, why != 0);
				say(&f, BACKEND, TCP_SYN | TCP_ACK, 0);
				say(&f, CLIENT, TCP_ACK, 0);
				assert_open(&f, TCP_ESTABLISHED);
				rig_destroy(world.rig);
			}
}

/* Who doesn't see the answer can't acknowledge it. */
static void a_handshake_is_exact(void **unused)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct flowing f = {.c = connection_of(rig, family, 1)};
		static const uint32_t offsets[] = {1, -1, 100, -100, 65535, -65535, 1u << 31};

		assert_true(connection_syn(&f.c, 0));
		for (unsigned i = 0; i < 7; i++) {
			struct odd odd = {.ack = offsets[i]};
			say_odd(&f, BACKEND, TCP_SYN | TCP_ACK, odd);
			assert_int_equal(state(&f), TCP_SYN_SENT);
		}
		say(&f, BACKEND, TCP_SYN | TCP_ACK, 0);
		for (unsigned i = 0; i < 7; i++) {
			struct odd odd = {.ack = offsets[i], .payload = i % 2};
			say_odd(&f, CLIENT, i & 2 ? TCP_ACK : TCP_FIN | TCP_ACK, odd);
			say_odd(&f, CLIENT, TCP_SYN, (struct odd){.seq = offsets[i] * 7777});
			assert_int_equal(state(&f), TCP_SYN_RECV);
		}
		say_odd(&f, CLIENT, TCP_SYN, (struct odd){.seq = -1}); // the answer was lost
		say_odd(&f, BACKEND, TCP_SYN | TCP_ACK, (struct odd){.seq = -1});
		assert_int_equal(state(&f), TCP_SYN_RECV);
		say(&f, CLIENT, TCP_ACK, 0);
		close_both(&f, CLIENT);
		rig_destroy(rig);
	}
}

/* --- where it comes from --- */

/* A router's frames bear another MAC than it answers to (VRRP): such a backend is none the worse.
 */
static void all_from_another_mac(void **unused)
{
	FOR_EACH_WORLD(world)
		for (unsigned end = 0; end < 3; end++) {
			struct flowing f = {.c = connection_of(world.rig, world.family, end)};
			const struct odd other = {.other_mac = true};

			if (world.is_moved)
				continue;
			assert_true(connection_syn(&f.c, 0));
			say_odd(&f, BACKEND, TCP_SYN | TCP_ACK, other);
			f.c.seq[BACKEND]++;
			say(&f, CLIENT, TCP_ACK, 0);
			assert_open(&f, TCP_ESTABLISHED);
			say(&f, CLIENT, TCP_ACK, 300);
			for (unsigned i = 0; i < 1000; i++) {
				struct odd data = {.other_mac = true, .payload = MSS};
				if (i % 100 != 50) // else it is lost between the backend and here
					say_odd(&f, BACKEND, TCP_ACK, data);
				f.c.seq[BACKEND] += MSS;
			}
			lose(&f, CLIENT, 200); // and between the client and here
			say(&f, CLIENT, TCP_ACK, 300);
			say_odd(&f, BACKEND, TCP_ACK, other);
			if (end == 0) {
				say_odd(&f, BACKEND, TCP_RST, other);
				assert_over(&f, TCP_CLOSE);
				continue;
			}
			if (end == 1)
				say(&f, CLIENT, TCP_FIN | TCP_ACK, 0);
			say_odd(&f, BACKEND, TCP_FIN | TCP_ACK, other);
			f.c.seq[BACKEND]++;
			if (end == 2) {
				say(&f, CLIENT, TCP_FIN | TCP_ACK, 0);
				say_odd(&f, BACKEND, TCP_ACK, other);
			} else {
				say(&f, CLIENT, TCP_ACK, 0);
			}
			assert_over(&f, TCP_TIME_WAIT);
		}
}

/* A FIN and a RST to each SNAT port, as if from the backend. */
static void forged_in_the_name_of_a_backend(void **unused) // W12
{
	FOR_EACH_WORLD(world)
		for (unsigned other_mac = 0; other_mac < 2; other_mac++) {
			struct flowing f = flowing(&world, other_mac);
			static const uint8_t flags[] = {TCP_FIN, TCP_FIN | TCP_ACK, TCP_RST,
				TCP_RST | TCP_ACK, TCP_SYN, TCP_SYN | TCP_ACK, TCP_ACK};

			for (unsigned i = 0; i < 7 * 7; i++) { // in each order
				struct odd odd = {.seq = 123456789 + i % 7,
					.ack = 987654321,
					.other_mac = other_mac};
				say_odd(&f, BACKEND, flags[i % 7], odd);
				odd.seq++;
				say_odd(&f, BACKEND, flags[i / 7], odd);
				assert_open(&f, TCP_ESTABLISHED);
			}
			close_both(&f, BACKEND);
		}
}

/* A kernel that has no key for a signature drops what bears one, without a word. */
static void a_signed_segment_changes_nothing(void **unused)
{
	FOR_EACH_WORLD(world)
		for (enum flow_direction side = 0; side < 2; side++) {
			struct flowing f = flowing(&world, side);
			const struct odd odd = {.is_signed = true};

			say_odd(&f, side, TCP_FIN | TCP_ACK, odd);
			say_odd(&f, side, TCP_RST, odd);
			assert_open(&f, TCP_ESTABLISHED);
			say(&f, side, TCP_FIN | TCP_ACK, 0);
			say_odd(&f, 1 - side, TCP_ACK, odd);
			assert_open(&f, TCP_FIN_WAIT);
			say(&f, 1 - side, TCP_FIN | TCP_ACK, 0);
			say(&f, side, TCP_ACK, 0);
			assert_over(&f, TCP_TIME_WAIT);
			say_odd(&f, CLIENT, TCP_SYN, odd);
			assert_over(&f, TCP_TIME_WAIT);
		}
}

/* What the client's receiver drops doesn't say where the client is. */
static void answers_follow_only_what_is_taken(void **unused) // S5
{
	FOR_EACH_WORLD(world) {
		struct flowing f = flowing(&world, 5);
		static const struct odd odds[] = {
			{.wrong_sum = true, .other_mac = true},
			{.wrong_sum = true, .other_mac = true, .payload = 100},
		};

		for (unsigned i = 0; i < 2; i++)
			for (unsigned k = 0; k < 2; k++) {
				say_odd(&f, CLIENT, k ? TCP_ACK : TCP_FIN | TCP_ACK, odds[i]);
				connection_send(&f.c, 0, CLIENT, TCP_ACK, 0);
				f.c.seq[CLIENT] += f.moved; // as the backend has it
				connection_send(&f.c, 0, BACKEND, TCP_ACK, 10); // checks the MAC
				f.c.seq[CLIENT] -= f.moved;
			}
		// A RST or SYN that is none changes nothing either.
		say_odd(&f, CLIENT, TCP_RST, (struct odd){.seq = 999, .other_mac = true});
		say_odd(&f, CLIENT, TCP_SYN, (struct odd){.seq = 999, .other_mac = true});
		f.c.seq[CLIENT] += f.moved;
		connection_send(&f.c, 0, BACKEND, TCP_ACK, 10);
		rig_wait(world.rig, 1000, 1000);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_repeated_fin_is_of_its_own_side),
		cmocka_unit_test(a_fin_counts_when_all_is_acknowledged),
		cmocka_unit_test(a_fin_behind_a_gap_counts),
		cmocka_unit_test(a_fin_that_was_overtaken_counts),
		cmocka_unit_test(a_forged_fin_is_forgotten_when_data_pass_it),
		cmocka_unit_test(a_fin_to_a_dead_backend_has_the_closing_time),
		cmocka_unit_test(a_forged_fin_costs_no_idle_time_when_it_is_blind),
		cmocka_unit_test(forged_fins_at_4096_numbers_and_a_syn),
		cmocka_unit_test(pairs_of_a_forged_segment_and_a_reset),
		cmocka_unit_test(a_forged_acknowledgement_makes_no_reset_exact),
		cmocka_unit_test(a_reset_behind_a_flight_is_exact),
		cmocka_unit_test(a_reset_behind_a_fin_is_exact_or_nothing),
		cmocka_unit_test(a_syn_changes_nothing_while_the_backend_may_answer),
		cmocka_unit_test(a_syn_starts_anew),
		cmocka_unit_test(a_handshake_is_exact),
		cmocka_unit_test(all_from_another_mac),
		cmocka_unit_test(forged_in_the_name_of_a_backend),
		cmocka_unit_test(a_signed_segment_changes_nothing),
		cmocka_unit_test(answers_follow_only_what_is_taken),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
