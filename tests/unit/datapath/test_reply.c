/* SPDX-License-Identifier: BSD-3-Clause */
/* What Weir answers, drops and hands to the kernel. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <rte_mbuf.h>

#include "probe_ports.h"
#include "rig.h"

static unsigned ip_size(sa_family_t family)
{
	return family == AF_INET6 ? 40 : 20;
}

/* The counter that went up, and no other; STATS_DROPS_COUNT when none did. */
static unsigned drop_of(struct rig *rig, const void *frame, unsigned size)
{
	uint64_t before[STATS_DROPS_COUNT];
	unsigned reason = STATS_DROPS_COUNT;

	for (unsigned i = 0; i < STATS_DROPS_COUNT; i++)
		before[i] = rig_dropped(rig, i);
	bool dropped = rig_run_frame(rig, 0, frame, size)->fate == RIG_DROPPED;
	for (unsigned i = 0; i < STATS_DROPS_COUNT; i++)
		if (rig_dropped(rig, i) != before[i]) {
			assert_int_equal(reason, STATS_DROPS_COUNT);
			reason = i;
		}
	assert_int_equal(dropped, reason != STATS_DROPS_COUNT);
	return reason;
}

static unsigned drop_of_segment(struct rig *rig, const struct segment *segment)
{
	uint8_t frame[PACKETS_SIZE_MAX];

	return drop_of(rig, frame, packets_build(segment, frame));
}

static void segment_without_a_flow_is_reset(void **state) // A17
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 1);

		// With ACK: the number it expects, without one. Else: what it sent is acknowledged.
		for (unsigned flags = 0; flags < 256; flags++) {
			if ((flags & 0x3f) == TCP_SYN)
				continue;
			struct segment segment = connection_segment(&c, CLIENT, flags);
			segment.ack = 0x12345678;
			segment.payload_size = flags % 5;
			rig_wait(rig, 10, 10);
			const struct rig_packet *out = rig_run_segment(rig, 0, &segment);
			if (flags & TCP_RST) {
				assert_int_equal(out->fate, RIG_DROPPED);
				continue;
			}
			assert_int_equal(out->fate, RIG_ANSWERED);
			assert_true(out->is_tcp);
			if (flags & TCP_ACK) {
				assert_int_equal(out->segment.flags, TCP_RST);
				assert_int_equal(out->segment.seq, 0x12345678);
				assert_int_equal(out->segment.ack, 0);
			} else {
				assert_int_equal(out->segment.flags, TCP_RST | TCP_ACK);
				assert_int_equal(out->segment.seq, 0);
				assert_int_equal(out->segment.ack,
					segment.seq + segment.payload_size + !!(flags & TCP_SYN) +
						!!(flags & TCP_FIN));
			}
			assert_int_equal(out->segment.sport, RIG_VIP_PORT);
			assert_int_equal(out->segment.dport, c.client_port);
			assert_int_equal(out->segment.ttl, 64);
		}
		assert_int_equal(rig_created(rig), 0);
		assert_int_equal(rig_ports_used(rig), 0);
		assert_int_equal(rig_dropped(rig, STATS_DROP_NO_FLOW), 128);
		rig_destroy(rig);
	}
}

static void only_a_pure_syn_makes_a_flow(void **state) // B13
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		unsigned nb_made = 0;

		for (unsigned flags = 0; flags < 256; flags++) {
			struct connection c = connection_of(rig, family, flags);
			struct segment segment = connection_segment(&c, CLIENT, flags);
			rig_wait(rig, 10, 10);
			bool forwarded = rig_run_segment(rig, 0, &segment)->fate == RIG_FORWARDED;
			assert_int_equal(forwarded, (flags & ~(TCP_ECE | TCP_CWR)) == TCP_SYN);
			nb_made += forwarded;
			assert_int_equal(connection_flow(&c) != NULL, forwarded);
		}
		assert_int_equal(nb_made, 4);
		assert_int_equal(rig_created(rig), 4);
		rig_destroy(rig);
	}
}

static void resets_are_rate_limited(void **state) // A17, F9
{
	struct rig *rig = rig_create(NULL);
	struct connection c = connection_of(rig, AF_INET, 1);
	struct segment segment = connection_segment(&c, CLIENT, TCP_ACK);
	unsigned nb_answered = 0;

	for (unsigned i = 0; i < 100000; i++) { // 10,000 a second for ten seconds
		nb_answered += rig_run_segment(rig, 0, &segment)->fate == RIG_ANSWERED;
		if (i % 10 == 9)
			rig_wait(rig, 1, 1);
	}
	assert_in_range(nb_answered, 9900, 10100);
	assert_int_equal(rig_dropped(rig, STATS_DROP_NO_FLOW), 100000 - nb_answered);
	rig_destroy(rig);
}

static void segment_with_options_is_reset_without(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 2);
		uint8_t options[40] = {[0 ... 39] = 1}, frame[PACKETS_SIZE_MAX];
		struct segment segment = connection_segment(&c, CLIENT, TCP_ACK);
		segment.options = options;
		segment.options_size = 40;
		segment.payload_size = 1000;
		assert_int_equal(
			rig_run_segment(rig, 0, &segment)->fate, RIG_ANSWERED); // rig.c checks
		// IPv4 options and IPv6 extension headers don't come back either.
		unsigned size = packets_build(&segment, frame), more = family == AF_INET6 ? 16 : 40;
		uint8_t *ip = frame + PACKETS_IP_OFFSET, *l4 = ip + ip_size(family);
		memmove(l4 + more, l4, size - PACKETS_IP_OFFSET - ip_size(family));
		memset(l4, family == AF_INET6 ? 0 : 1, more);
		if (family == AF_INET6) {
			ip[6] = IPPROTO_HOPOPTS;
			l4[0] = IPPROTO_DSTOPTS;
			l4[8] = IPPROTO_TCP;
			ip[5] += more;
		} else {
			ip[0] = 0x4f;
			ip[3] += more;
			packets_seal_ip4(frame, 60);
		}
		const struct rig_packet *out = rig_run_frame(rig, 0, frame, size + more);
		assert_int_equal(out->fate, RIG_ANSWERED);
		assert_true(out->is_tcp);
		assert_int_equal(out->segment.seq, segment.ack);
		rig_destroy(rig);
	}
}

static void no_backend_resets_or_keeps_silent(void **state) // D6
{
	FOR_EACH_FAMILY(family)
		for (unsigned silent = 0; silent < 2; silent++) {
			struct rig *rig =
				rig_create(&(struct rig_options){.drop_when_down = silent});
			struct connection c = connection_of(rig, family, 3);

			for (unsigned id = 0; id < 8; id++)
				rig_set_backend(rig, id, false, true);
			for (unsigned i = 0; i < 1000; i++) { // no rate limit here
				struct segment segment = connection_segment(&c, CLIENT, TCP_SYN);
				segment.payload_size = i % 3;
				if (silent) {
					assert_int_equal(drop_of_segment(rig, &segment),
						STATS_DROP_NO_BACKEND);
					continue;
				}
				const struct rig_packet *out = rig_run_segment(rig, 0, &segment);
				assert_int_equal(out->fate, RIG_ANSWERED);
				assert_int_equal(out->segment.flags, TCP_RST | TCP_ACK);
				assert_int_equal(out->segment.ack, segment.seq + 1 + i % 3);
			}
			unsigned refused = rig->workers[0]
						   .stats->live.flows[family == AF_INET6]
						   .refused_no_backend;
			assert_int_equal(refused, silent ? 0 : 1000);
			rig_set_backend(rig, 0, true, true);
			rig_set_backend(rig, 4, true, true);
			assert_true(connection_open(&c, 0));
			rig_destroy(rig);
		}
}

static void stray_of_a_backend(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 4);

		c.backend_id = family == AF_INET6 ? 4 : 0;
		c.backend = rig_backend_addr(rig, c.backend_id);
		c.backend_port = rig_backend_port(rig, c.backend_id);
		c.snat = rig_snat_addr(family, 0);
		c.snat_port = RIG_PORT + 77;
		rig_wait(rig, 1000, 1000);
		struct segment segment = connection_segment(&c, BACKEND, TCP_ACK | TCP_FIN);
		const struct rig_packet *out = rig_run_segment(rig, 0, &segment);
		assert_int_equal(out->fate, RIG_ANSWERED);
		assert_int_equal(out->segment.flags, TCP_RST);
		assert_int_equal(out->segment.seq, segment.ack);
		segment.flags = TCP_SYN; // RFC 5382 REQ-4: not answered
		assert_int_equal(drop_of_segment(rig, &segment), STATS_DROP_STRAY_BACKEND);
		segment.flags = 0;
		assert_int_equal(drop_of_segment(rig, &segment), STATS_DROP_STRAY_BACKEND);
		segment.flags = TCP_RST | TCP_ACK;
		assert_int_equal(drop_of_segment(rig, &segment), STATS_DROP_STRAY_BACKEND);
		// Another port of ours, or of the backend's: the kernel's own connections.
		segment.flags = TCP_ACK;
		segment.dport = RIG_PORT - 1;
		assert_int_equal(
			rig_run_segment(rig, 0, &segment)->fate, RIG_PUNTED + PUNT_BACKEND);
		segment.dport = c.snat_port;
		segment.sport++;
		segment.sport++;
		assert_int_equal(
			rig_run_segment(rig, 0, &segment)->fate, RIG_PUNTED + PUNT_BACKEND);
		// From anybody else to a SNAT port.
		segment.src = c.client;
		segment.sport = c.backend_port;
		assert_int_equal(rig_run_segment(rig, 0, &segment)->fate, RIG_PUNTED + PUNT_REST);
		assert_int_equal(rig_created(rig), 0);
		rig_destroy(rig);
	}
}

static void spoofed_answer_of_another_backend(void **state) // RFC 5382 REQ-3, F4
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 5);

		assert_true(connection_open(&c, 0));
		rig_wait(rig, 1000, 1000);
		unsigned first = family == AF_INET6 ? 4 : 0;
		for (unsigned id = first; id < first + 4; id++) {
			if (id == c.backend_id)
				continue;
			struct segment segment = connection_segment(&c, BACKEND, TCP_ACK);
			segment.src = rig_backend_addr(rig, id);
			segment.sport = rig_backend_port(rig, id);
			assert_int_equal(rig_run_segment(rig, 0, &segment)->fate, RIG_ANSWERED);
		}
		struct segment segment = connection_segment(&c, BACKEND, TCP_ACK);
		segment.src = c.client;
		assert_int_equal(rig_run_segment(rig, 0, &segment)->fate, RIG_PUNTED + PUNT_REST);
		assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
		rig_destroy(rig);
	}
}

/* The error's quote is the packet as it came, as much of it as the family's rule says. */
static void check_time_exceeded(
	const struct rig_packet *out, const uint8_t *in, unsigned size, sa_family_t family)
{
	bool v6 = family == AF_INET6;
	const uint8_t *icmp = out->frame + PACKETS_IP_OFFSET + ip_size(family);
	unsigned header = (in[PACKETS_IP_OFFSET] & 15) * 4;
	unsigned quote = v6 ? size - PACKETS_IP_OFFSET : header + 8;

	if (v6 && quote > 1280 - 48)
		quote = 1280 - 48;
	assert_int_equal(out->fate, RIG_ANSWERED);
	assert_int_equal(
		out->frame[PACKETS_IP_OFFSET + (v6 ? 6 : 9)], v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
	assert_int_equal(icmp[0], v6 ? 3 : 11);
	assert_int_equal(icmp[1], 0);
	assert_memory_equal(icmp + 4, ((uint8_t[4]){0}), 4);
	assert_int_equal(out->size, PACKETS_IP_OFFSET + ip_size(family) + 8 + quote);
	assert_memory_equal(icmp + 8, in + PACKETS_IP_OFFSET, quote);
}

static void last_hop_is_answered_by_time_exceeded(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 6);
		uint8_t frame[PACKETS_SIZE_MAX];

		assert_true(connection_open(&c, 0));
		uint64_t created = rig_created(rig);
		for (unsigned i = 0; i < 400; i++) {
			struct connection other = connection_of(rig, family, 100 + i);
			struct segment segment = i % 4 == 0
				? connection_segment(&other, CLIENT, TCP_SYN)
				: connection_segment(
					  &c, i % 2, TCP_ACK | (i % 4 == 3 ? TCP_FIN : 0));
			segment.ttl = i / 4 % 2;
			segment.payload_size = i % 4 == 0 ? 0 : i * 4 + i / 8 % 4;
			if (segment.payload_size > 1440)
				segment.payload_size = 1440;
			unsigned size = packets_build(&segment, frame);
			rig_wait(rig, 100, 100);
			check_time_exceeded(
				rig_run_frame(rig, 0, frame, size), frame, size, family);
		}
		assert_int_equal(rig_created(rig), created);
		assert_int_equal(
			connection_state(&c), TCP_ESTABLISHED); // the FINs weren't forwarded
		rig_destroy(rig);
	}
}

static void time_exceeded_is_rate_limited_and_needs_room(void **state) // F9
{
	struct rig *rig = rig_create(NULL);
	struct connection c = connection_of(rig, AF_INET, 7);
	uint8_t frame[PACKETS_SIZE_MAX];
	unsigned nb_answered = 0;

	c.ttl = 1;
	struct segment segment = connection_segment(&c, CLIENT, TCP_SYN);
	unsigned size = packets_build(&segment, frame);
	for (unsigned i = 0; i < 10000; i++) { // ten seconds
		nb_answered += rig_run_frame(rig, 0, frame, size)->fate == RIG_ANSWERED;
		rig_wait(rig, 1, 1);
	}
	assert_in_range(nb_answered, 990, 1020);
	assert_int_equal(rig_dropped(rig, STATS_DROP_TTL), 10000 - nb_answered);
	// A buffer without room in front: dropped, not overrun.
	struct rte_mbuf *mbuf = packets_mbuf(frame, size);
	memmove((uint8_t *)mbuf->buf_addr + 8, frame, size);
	mbuf->data_off = 8;
	rig_wait(rig, 1000, 1000);
	struct pipeline *pipeline = &rig->workers[0].pipeline;
	pipeline_run(pipeline, &mbuf, 1, rig->now_ms);
	assert_int_equal(pipeline->drop.count, 1);
	pipeline->drop.count = 0;
	packets_free(mbuf);
	rig_destroy(rig);
}

static void fragments_are_dropped(void **state) // B10
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 8);
		uint8_t frame[PACKETS_SIZE_MAX];

		for (unsigned i = 0; i < 4; i++) {
			static const uint16_t fields[] = {0x2000, 0x2001, 0x0001, 0x1fff};
			struct segment segment = connection_segment(&c, CLIENT, TCP_SYN);
			segment.payload_size = 16;
			unsigned size = packets_build(&segment, frame);
			// IPv6 has the offset in front.
			size = packets_make_fragment(frame, size,
				family == AF_INET6 ? fields[i] << 3 | fields[i] >> 13 : fields[i]);
			assert_int_equal(drop_of(rig, frame, size), STATS_DROP_FRAGMENT);
		}
		rig_destroy(rig);
	}
}

static void impossible_packets_emit_nothing(void **state) // B12
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(&(struct rig_options){.nb_snats = 3});
		struct connection c = connection_of(rig, family, 9);
		uint8_t flags[] = {TCP_SYN, TCP_ACK, TCP_RST, TCP_SYN | TCP_ACK};

		for (unsigned f = 0; f < sizeof(flags); f++) {
			struct segment land = connection_segment(&c, CLIENT, flags[f]);
			land.src = land.dst;
			assert_int_equal(drop_of_segment(rig, &land), STATS_DROP_BAD_ADDRESS);
			land.sport = land.dport;
			assert_int_equal(drop_of_segment(rig, &land), STATS_DROP_BAD_ADDRESS);
			for (unsigned n = 0; n < 3; n++) {
				struct segment own = connection_segment(&c, CLIENT, flags[f]);
				own.src = rig_snat_addr(family, n);
				assert_int_equal(
					drop_of_segment(rig, &own), STATS_DROP_BAD_ADDRESS);
			}
			struct segment port = connection_segment(&c, CLIENT, flags[f]);
			port.sport = 0;
			assert_int_equal(drop_of_segment(rig, &port), STATS_DROP_BAD_ADDRESS);
			struct segment group = connection_segment(&c, CLIENT, flags[f]);
			memset(&group.to, 0xff, 6);
			assert_int_equal(drop_of_segment(rig, &group), STATS_DROP_WRONG_MAC);
			group.to = rig_backend_mac(3);
			assert_int_equal(drop_of_segment(rig, &group), STATS_DROP_WRONG_MAC);
		}
		assert_int_equal(rig_created(rig), 0);
		rig_destroy(rig);
	}
}

static void classes_of_what_is_the_kernels(void **state)
{
	struct rig *rig = rig_create(NULL);
	uint8_t frame[PACKETS_SIZE_MAX];

	uint8_t arp[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [12] = 0x08, [13] = 0x06};
	assert_int_equal(rig_run_frame(rig, 0, arp, sizeof(arp))->fate, RIG_PUNTED + PUNT_ARP);
	FOR_EACH_FAMILY(family) {
		struct connection c = connection_of(rig, family, 10);
		for (unsigned from_backend = 0; from_backend < 2; from_backend++) {
			struct segment segment = connection_segment(&c, CLIENT, TCP_SYN);
			if (from_backend)
				segment.src = rig_backend_addr(rig, family == AF_INET6 ? 5 : 1);
			enum rig_fate fate = RIG_PUNTED + (from_backend ? PUNT_BACKEND : PUNT_REST);
			segment.dport = 22; // another server on the VIP
			unsigned size = packets_build(&segment, frame);
			assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, fate);
			uint8_t *protocol =
				frame + PACKETS_IP_OFFSET + (family == AF_INET6 ? 6 : 9);
			static const uint8_t protocols[] = {
				IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_GRE, 132, 0xfd};
			for (unsigned i = 0; i < sizeof(protocols); i++) {
				*protocol = protocols[i];
				if (protocols[i] == IPPROTO_ICMP) // an echo request
					frame[PACKETS_IP_OFFSET + ip_size(family)] = 8;
				assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, fate);
			}
			if (family == AF_INET)
				continue;
			*protocol = IPPROTO_ICMPV6;
			for (unsigned type = 0; type < 256; type++) {
				frame[PACKETS_IP_OFFSET + 40] = type;
				assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate,
					type >= 133 && type <= 137
						? RIG_DROPPED // not of hop limit 255
						: type >= 1 && type <= 4 ? RIG_DROPPED
									 : fate);
			}
		}
	}
	uint8_t tagged[60] = {
		2, 0, 0, 0, 0, 1, [12] = 0x81}; // of the port's own VLANs the kernel knows
	assert_int_equal(
		rig_run_frame(rig, 0, tagged, sizeof(tagged))->fate, RIG_PUNTED + PUNT_REST);
	rig_destroy(rig);
}

static void only_answers_to_probes_are_in_their_class(void **state) // S1
{
	static struct probe_ports ports;
	uint8_t frame[PACKETS_SIZE_MAX];

	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 10);
		struct segment segment = connection_segment(&c, CLIENT, TCP_SYN | TCP_ACK);

		rig->workers[0].pipeline.probe_ports = &ports;
		segment.dport = 40000;
		for (unsigned from_backend = 0; from_backend < 2; from_backend++) {
			enum rig_fate fate = RIG_PUNTED + (from_backend ? PUNT_BACKEND : PUNT_REST);
			if (from_backend)
				segment.src = rig_backend_addr(rig, family == AF_INET6 ? 5 : 1);
			unsigned size = packets_build(&segment, frame);
			assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, fate);
			probe_ports_add(&ports, htons(40000));
			probe_ports_add(&ports, htons(40000)); // to another backend
			probe_ports_remove(&ports, htons(40000));
			assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate,
				from_backend ? RIG_PUNTED + PUNT_PROBE : fate);
			frame[PACKETS_IP_OFFSET + (family == AF_INET6 ? 6 : 9)] = IPPROTO_UDP;
			assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, fate);
			segment.dport++;
			size = packets_build(&segment, frame);
			assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, fate);
			segment.dport--;
			probe_ports_remove(&ports, htons(40000));
			size = packets_build(&segment, frame);
			assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, fate);
		}
		rig_destroy(rig);
	}
}

static void unresolved_next_hop(void **state)
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 11);

		assert_true(connection_open(&c, 0));
		rig_set_backend(rig, c.backend_id, true, false);
		struct segment segment = connection_segment(&c, CLIENT, TCP_ACK);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(drop_of_segment(rig, &segment), STATS_DROP_NO_NEIGHBOUR);
		connection_send(&c, 0, BACKEND, TCP_ACK, 5); // the way back is known
		for (unsigned n = 0; n < 50; n++) {          // and it isn't chosen
			struct connection other = connection_of(rig, family, 100 + n);
			assert_true(connection_syn(&other, 0));
			assert_int_not_equal(other.backend_id, c.backend_id);
		}
		rig_set_backend(rig, c.backend_id, true, true);
		connection_send(&c, 0, CLIENT, TCP_ACK, 5);
		rig_destroy(rig);
	}
}

static void damaged_headers_have_their_counters(void **state) // B1-B9
{
	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = connection_of(rig, family, 12);
		struct segment segment = connection_segment(&c, CLIENT, TCP_SYN);
		uint8_t frame[PACKETS_SIZE_MAX];
		unsigned size = packets_build(&segment, frame),
			 l4 = PACKETS_IP_OFFSET + ip_size(family);

		for (unsigned cut = 0; cut < size; cut++)
			assert_int_equal(drop_of(rig, frame, cut),
				cut < l4 ? STATS_DROP_RUNT : STATS_DROP_BAD_IP);
		frame[PACKETS_IP_OFFSET] ^= 0x30;
		assert_int_equal(drop_of(rig, frame, size), STATS_DROP_BAD_IP);
		frame[PACKETS_IP_OFFSET] ^= 0x30;
		frame[l4 + 12] = 4 << 4;
		assert_int_equal(drop_of(rig, frame, size), STATS_DROP_BAD_TCP);
		frame[l4 + 12] = 6 << 4;
		assert_int_equal(drop_of(rig, frame, size), STATS_DROP_BAD_TCP);
		if (family == AF_INET6) {
			frame[PACKETS_IP_OFFSET + 6] = IPPROTO_HOPOPTS;
			frame[l4 + 1] = 200;
			assert_int_equal(drop_of(rig, frame, size), STATS_DROP_EXTENSION_HEADERS);
		}
		rig_destroy(rig);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(segment_without_a_flow_is_reset),
		cmocka_unit_test(only_a_pure_syn_makes_a_flow),
		cmocka_unit_test(resets_are_rate_limited),
		cmocka_unit_test(segment_with_options_is_reset_without),
		cmocka_unit_test(no_backend_resets_or_keeps_silent),
		cmocka_unit_test(stray_of_a_backend),
		cmocka_unit_test(spoofed_answer_of_another_backend),
		cmocka_unit_test(last_hop_is_answered_by_time_exceeded),
		cmocka_unit_test(time_exceeded_is_rate_limited_and_needs_room),
		cmocka_unit_test(fragments_are_dropped),
		cmocka_unit_test(impossible_packets_emit_nothing),
		cmocka_unit_test(classes_of_what_is_the_kernels),
		cmocka_unit_test(only_answers_to_probes_are_in_their_class),
		cmocka_unit_test(unresolved_next_hop),
		cmocka_unit_test(damaged_headers_have_their_counters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
