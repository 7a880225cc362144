/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ICMP errors about packets that went through Weir (cases B16 to B18, A16; RFC 5508). What is
 * quoted is what came out of the rig, and what the other end must see in the quote is what went in.
 * rig.c looks at the rest: checksums, addresses outside and inside, that nothing else has changed.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "rig.h"

enum { IP = PACKETS_IP_OFFSET };

/* An IP packet as its sender sent it, and as whoever stands behind Weir has seen it. */
struct seen {
	uint8_t sent[PACKETS_SIZE_MAX];
	uint8_t quote[PACKETS_SIZE_MAX];
	unsigned size;
	unsigned tcp; // offset of its TCP header
};

static unsigned ip_size(sa_family_t family)
{
	return family == AF_INET6 ? 40 : 20;
}

/* Put `more` bytes behind the IP header: IPv4 options, or one IPv6
 * header of destination options. */
static void insert(uint8_t *frame, unsigned size, sa_family_t family, unsigned more)
{
	uint8_t *ip = frame + IP, *l4 = ip + ip_size(family);
	unsigned length = size - IP + more;

	memmove(l4 + more, l4, size - (l4 - frame));
	memset(l4, family == AF_INET6 ? 0 : 1, more);
	if (family == AF_INET6) {
		l4[0] = ip[6];
		l4[1] = more / 8 - 1;
		ip[6] = IPPROTO_DSTOPTS;
		ip[4] = (length - 40) >> 8;
		ip[5] = length - 40;
	} else {
		ip[0] = 0x40 | (20 + more) / 4;
		ip[2] = length >> 8;
		ip[3] = length;
		packets_seal_ip4(frame, 20 + more);
	}
}

/* Send a segment with `more` bytes behind the IP header, and see it come out. */
static void pass(const struct connection *c, enum flow_direction from, unsigned payload,
	unsigned more, struct seen *seen)
{
	static const uint8_t options[12] = {
		1, 1, 8, 10, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0};
	struct segment segment = connection_segment(c, from, TCP_ACK | TCP_PSH);
	uint8_t frame[PACKETS_SIZE_MAX];

	segment.payload_size = payload;
	segment.options = options;
	segment.options_size = sizeof(options);
	unsigned size = packets_build(&segment, frame);
	if (more != 0)
		insert(frame, size, c->family, more);
	const struct rig_packet *out = rig_run_frame(c->rig, 0, frame, size + more);
	assert_int_equal(out->fate, RIG_FORWARDED);
	seen->size = size + more - IP;
	seen->tcp = ip_size(c->family) + more;
	memcpy(seen->sent, frame + IP, seen->size);
	memcpy(seen->quote, out->frame + IP, seen->size);
}

/* An error about it, sent by `author`, or by the receiver itself. */
static struct icmp_error error_about(const struct connection *c, enum flow_direction direction,
	const struct seen *seen, unsigned quote_size, const struct net_addr *author)
{
	struct segment back = connection_segment(c, direction, TCP_ACK);

	return (struct icmp_error){
		.from = back.from,
		.to = back.to,
		.src = author == NULL ? back.src : *author,
		.dst = back.dst,
		.type = c->family == AF_INET6 ? 1 : 3,
		.code = 1,
		.ttl = 64,
		.quote = seen->quote,
		.quote_size = quote_size,
	};
}

static const struct rig_packet *run_error(
	const struct connection *c, const struct icmp_error *error)
{
	uint8_t frame[PACKETS_SIZE_MAX];

	return rig_run_frame(c->rig, 0, frame, packets_build_error(error, frame));
}

/* What came out quotes what was sent, but for the TTL, which had become one less. Half a TCP
 * checksum can't be mended. */
static void check_quote(
	const struct rig_packet *out, unsigned icmp, const struct seen *seen, unsigned size)
{
	uint8_t frame[PACKETS_SIZE_MAX], *expected = frame + IP;
	bool v6 = seen->sent[0] >> 4 == 6;

	memcpy(expected, seen->sent, seen->size);
	expected[v6 ? 7 : 8]--;
	if (!v6)
		packets_seal_ip4(frame, seen->tcp);
	assert_memory_equal(
		out->frame + icmp + 8, expected, size == seen->tcp + 17 ? size - 1 : size);
}

/* It came out at the end that `error` is to reach: addressed as one of the flow's own packets. */
static void check_translated(const struct connection *c, enum flow_direction direction,
	const struct icmp_error *error, const struct rig_packet *out, const struct seen *seen,
	unsigned size)
{
	struct segment at_other_end = connection_segment(c, 1 - direction, 0);
	const uint8_t *ip = out->frame + IP, *addrs = ip + (c->family == AF_INET6 ? 8 : 12);
	unsigned icmp = IP + ip_size(c->family), addr_size = net_addr_size(c->family);

	assert_int_equal(out->fate, RIG_FORWARDED);
	assert_memory_equal(out->frame, &at_other_end.from, 6);
	assert_memory_equal(addrs, at_other_end.dst.v6, addr_size);
	assert_memory_equal(addrs + addr_size, at_other_end.src.v6, addr_size);
	assert_int_equal(out->frame[icmp], error->type);
	assert_int_equal(out->frame[icmp + 1], error->code);
	uint32_t rest = htonl(error->rest);
	assert_memory_equal(out->frame + icmp + 4, &rest, 4);
	check_quote(out, icmp, seen, size);
}

#define FOR_EACH_DIRECTION(direction)                                                              \
	for (enum flow_direction direction = 0; direction < FLOW_DIRECTIONS; direction++)

static struct connection opened(struct rig *rig, sa_family_t family, uint32_t number)
{
	struct connection c = connection_of(rig, family, number);

	assert_true(connection_open(&c, 0));
	return c;
}

static void every_error_at_every_truncation(void **state) // B16
{
	static const struct {
		uint8_t type, codes;
		uint32_t rest;
	} kinds[2][4] = {
		{{3, 16, 1400}, {4, 1, 0}, {11, 2, 0}, {12, 3, 20u << 24}},
		{{1, 8, 0}, {2, 1, 1280}, {3, 2, 0}, {4, 3, 40}},
	};
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction)
			for (unsigned more = 0; more <= (family == AF_INET6 ? 64 : 40); more += 8) {
				struct rig *rig = rig_create(NULL);
				struct connection c = opened(rig, family, 1);
				pass(&c, 1 - direction, 1200, more, &seen);
				for (unsigned k = 0; k < 4; k++)
					for (unsigned code = 0;
						code < kinds[family == AF_INET6][k].codes; code++)
						for (unsigned size = seen.tcp + 8;
							size <= seen.size; size = size == seen.size
								? size + 1
								: RTE_MIN(size +
										  (size < 130 ? 4u
											      : 223u),
									  seen.size)) {
							struct icmp_error error = error_about(
								&c, direction, &seen, size, NULL);
							error.type =
								kinds[family == AF_INET6][k].type;
							error.code = code;
							error.rest =
								kinds[family == AF_INET6][k].rest;
							check_translated(&c, direction, &error,
								run_error(&c, &error), &seen, size);
						}
				// Not a whole number of words, byte by byte.
				for (unsigned size = seen.tcp; size <= seen.size; size++) {
					struct icmp_error error =
						error_about(&c, direction, &seen, size, NULL);
					const struct rig_packet *out = run_error(&c, &error);
					if (size >= seen.tcp + 8)
						check_translated(
							&c, direction, &error, out, &seen, size);
					else
						assert_int_equal(out->fate, RIG_DROPPED);
				}
				assert_int_equal(rig_dropped(rig, STATS_DROP_BAD_ICMP), 8);
				assert_int_equal(connection_state(&c), TCP_ESTABLISHED);
				rig_destroy(rig);
			}
}

/* 28, 36, 48 and 576 bytes are what senders are known to quote. */
static void the_usual_truncations(void **state) // B16
{
	static const unsigned sizes[] = {28, 36, 48, 576, 1240};
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction) {
			struct rig *rig = rig_create(NULL);
			struct connection c = opened(rig, family, 2);
			pass(&c, 1 - direction, 1240 - ip_size(family) - 32, 0, &seen);
			assert_int_equal(seen.size, 1240);
			for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
				struct icmp_error error =
					error_about(&c, direction, &seen, sizes[i], NULL);
				const struct rig_packet *out = run_error(&c, &error);
				if (sizes[i] >= ip_size(family) + 8)
					check_translated(
						&c, direction, &error, out, &seen, sizes[i]);
				else
					assert_int_equal(out->fate, RIG_DROPPED);
			}
			rig_destroy(rig);
		}
}

/* Whoever the author is, the receiver sees the flow's own address. */
static void routers_are_not_seen(void **state) // B16, RFC 5508 REQ-5
{
	static const char *const routers[2][3] = {{"203.0.113.1", "10.9.9.9", "192.0.2.80"},
		{"2001:db8:9::1", "fe80::1", "2001:db8::80"}};
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction)
			for (unsigned i = 0; i < 3; i++) {
				struct rig *rig = rig_create(NULL);
				struct connection c = opened(rig, family, 3);
				struct net_addr router =
					packets_addr(routers[family == AF_INET6][i]);
				pass(&c, 1 - direction, 100, 0, &seen);
				struct icmp_error error =
					error_about(&c, direction, &seen, seen.size, &router);
				error.from = (struct net_mac){{2, 9, 9, 9, 9, i}};
				check_translated(&c, direction, &error, run_error(&c, &error),
					&seen, seen.size);
				// The client's MAC is still that of its own packets.
				connection_send(&c, 0, BACKEND, TCP_ACK, 1);
				rig_destroy(rig);
			}
}

static void behind_options_and_extension_headers(void **state) // B16
{
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction)
			for (unsigned more = 8; more <= 40; more += 8) {
				struct rig *rig = rig_create(NULL);
				struct connection c = opened(rig, family, 4);
				uint8_t frame[PACKETS_SIZE_MAX];
				pass(&c, 1 - direction, 100, 0, &seen);
				struct icmp_error error =
					error_about(&c, direction, &seen, 100, NULL);
				unsigned size = packets_build_error(&error, frame);
				insert(frame, size, family, more);
				const struct rig_packet *out =
					rig_run_frame(rig, 0, frame, size + more);
				assert_int_equal(out->fate, RIG_FORWARDED);
				check_quote(out, IP + ip_size(family) + more, &seen, 100);
				rig_destroy(rig);
			}
}

/* What follows the quoted packet is passed on, be it padding or an extension. */
static void with_extensions(void **state) // B16, RFC 4884
{
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction)
			for (unsigned words = 1; words < 255; words++) {
				struct rig *rig = rig_create(NULL);
				struct connection c = opened(rig, family, 5);
				uint8_t quote[PACKETS_SIZE_MAX];
				bool v6 = family == AF_INET6;
				unsigned quoted = words * (v6 ? 8 : 4);
				if (quoted > 1400)
					quoted = 1400;
				pass(&c, 1 - direction, words % 2 * 700, 0, &seen);
				// A shorter packet is padded by zeros; behind it an MPLS label
				// stack (RFC 4950).
				memset(quote, 0, quoted);
				memcpy(quote, seen.quote, RTE_MIN(quoted, seen.size));
				static const uint8_t extension[] = {
					0x20, 0, 0x12, 0x34, 0, 8, 1, 1, 0xab, 0xcd, 0x11, 0xff};
				memcpy(quote + quoted, extension, sizeof(extension));
				struct icmp_error error =
					error_about(&c, direction, &seen, 0, NULL);
				error.quote = quote;
				error.quote_size = quoted + sizeof(extension);
				error.rest = words << (v6 ? 24 : 16);
				const struct rig_packet *out = run_error(&c, &error);
				if (quoted < ip_size(family) + 8)
					assert_int_equal(out->fate, RIG_DROPPED);
				else
					check_translated(&c, direction, &error, out, &seen,
						RTE_MIN(quoted, seen.size));
				rig_destroy(rig);
			}
}

/* The counter that went up. */
static enum stats_drop drop_of(const struct connection *c, const struct icmp_error *error)
{
	uint64_t before[STATS_DROPS_COUNT];

	for (unsigned i = 0; i < STATS_DROPS_COUNT; i++)
		before[i] = rig_dropped(c->rig, i);
	assert_int_equal(run_error(c, error)->fate, RIG_DROPPED);
	for (unsigned i = 0; i < STATS_DROPS_COUNT; i++)
		if (rig_dropped(c->rig, i) != before[i])
			return i;
	return STATS_DROPS_COUNT;
}

static void wrong_ones_are_dropped(void **state) // B17, RFC 5508 REQ-3
{
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction) {
			struct rig *rig = rig_create(NULL);
			struct connection c = opened(rig, family, 6);
			uint8_t frame[PACKETS_SIZE_MAX];
			pass(&c, 1 - direction, 100, 0, &seen);
			struct icmp_error error = error_about(&c, direction, &seen, 100, NULL);
			unsigned size = packets_build_error(&error, frame);
			frame[size - 1] ^= 1;
			assert_int_equal(rig_run_frame(rig, 0, frame, size)->fate, RIG_DROPPED);
			assert_int_equal(rig_dropped(rig, STATS_DROP_BAD_ICMP), 1);
			if (family == AF_INET) {
				seen.quote[4] ^= 1; // under the quoted header's checksum
				assert_int_equal(drop_of(&c, &error), STATS_DROP_BAD_ICMP);
				seen.quote[4] ^= 1;
			}
			// To an address that sent no such packet.
			struct icmp_error other = error;
			other.dst.v6[net_addr_size(family) - 1] ^= 1;
			assert_int_equal(drop_of(&c, &other), STATS_DROP_BAD_ICMP);
			// The quoted packet goes the wrong way: as it was sent to Weir.
			other = error;
			other.quote = seen.sent;
			assert_int_equal(drop_of(&c, &other), STATS_DROP_BAD_ICMP);
			// No error answers an error.
			for (unsigned ttl = 0; ttl < 2; ttl++) {
				other = error;
				other.ttl = ttl;
				assert_int_equal(drop_of(&c, &other), STATS_DROP_TTL);
			}
			// Right in the end.
			check_translated(&c, direction, &error, run_error(&c, &error), &seen, 100);
			rig_destroy(rig);
		}
}

static void without_a_flow(void **state) // B17, RFC 5508 REQ-4 and REQ-5
{
	static struct seen seen;

	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c = opened(rig, family, 7);
		unsigned tcp = ip_size(family);

		// Of a service to a client that has none; from a lent port that is free.
		pass(&c, BACKEND, 100, 0, &seen);
		struct icmp_error error = error_about(&c, CLIENT, &seen, 60, NULL);
		seen.quote[tcp + 3] ^= 1;
		assert_int_equal(drop_of(&c, &error), STATS_DROP_ICMP_NO_FLOW);
		pass(&c, CLIENT, 100, 0, &seen);
		error = error_about(&c, BACKEND, &seen, 60, NULL);
		seen.quote[tcp + 1] ^= 1;
		assert_int_equal(drop_of(&c, &error), STATS_DROP_ICMP_NO_FLOW);
		// The kernel's own connections: a port that isn't lent (a probe's), another host or
		// port.
		seen.quote[tcp] = 0xff;
		assert_int_equal(run_error(&c, &error)->fate, RIG_PUNTED + PUNT_BACKEND);
		pass(&c, CLIENT, 100, 0, &seen);
		seen.quote[tcp + 2] ^= 1;
		assert_int_equal(run_error(&c, &error)->fate, RIG_PUNTED + PUNT_BACKEND);
		error.src = packets_addr(family == AF_INET6 ? "2001:db8:9::1" : "203.0.113.1");
		assert_int_equal(run_error(&c, &error)->fate, RIG_PUNTED + PUNT_REST);
		pass(&c, BACKEND, 100, 0, &seen);
		error = error_about(&c, CLIENT, &seen, 60, NULL);
		seen.quote[tcp + 1] = 22; // another server on the virtual address
		assert_int_equal(run_error(&c, &error)->fate, RIG_PUNTED + PUNT_REST);
		rig_destroy(rig);
	}
}

static void other_protocols_and_redirects_are_the_kernels(void **state) // B17
{
	static const uint8_t protocols[] = {IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_GRE,
		IPPROTO_IPIP, IPPROTO_IPV6, IPPROTO_ESP, 132, 253, 255};
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction) {
			struct rig *rig = rig_create(NULL);
			struct connection c = opened(rig, family, 8);
			enum rig_fate fate =
				RIG_PUNTED + (direction == BACKEND ? PUNT_BACKEND : PUNT_REST);
			for (unsigned i = 0; i < sizeof(protocols); i++)
				for (unsigned size = 0; size < 100; size++) {
					uint8_t frame[PACKETS_SIZE_MAX];
					pass(&c, 1 - direction, 100, 0, &seen);
					memcpy(frame + IP, seen.quote, seen.size);
					frame[IP + (family == AF_INET6 ? 6 : 9)] = protocols[i];
					if (family == AF_INET)
						packets_seal_ip4(frame, 20);
					struct icmp_error error =
						error_about(&c, direction, &seen, size, NULL);
					error.quote = frame + IP;
					assert_int_equal(run_error(&c, &error)->fate,
						size < ip_size(family) ? RIG_DROPPED : fate);
				}
			if (family == AF_INET) {
				struct icmp_error error =
					error_about(&c, direction, &seen, 60, NULL);
				error.type = 5;
				assert_int_equal(run_error(&c, &error)->fate, fate);
			}
			rig_destroy(rig);
		}
}

/* In any state, and to a closed flow too; with the backend gone there is nowhere to go. */
static void in_any_state(void **state)
{
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction) {
			struct rig *rig = rig_create(NULL);
			struct connection c = opened(rig, family, 9);
			pass(&c, 1 - direction, 0, 0, &seen);
			struct icmp_error error =
				error_about(&c, direction, &seen, seen.size, NULL);
			for (enum tcp_state s = TCP_SYN_SENT; s < TCP_STATES; s++) {
				connection_flow(&c)->status = s;
				check_translated(&c, direction, &error, run_error(&c, &error),
					&seen, seen.size);
				assert_int_equal(connection_state(&c), s);
			}
			rig_set_backend(rig, c.backend_id, true, false);
			if (direction == CLIENT)
				assert_int_equal(drop_of(&c, &error), STATS_DROP_NO_NEIGHBOUR);
			else
				check_translated(&c, direction, &error, run_error(&c, &error),
					&seen, seen.size);
			rig_destroy(rig);
		}
}

/* Forged: any error, any MTU, any number; from the client's side, where anybody may stand. The
 * records are what they were, byte for byte. */
static void forged_ones_change_nothing(void **state) // B18, A16, RFC 5382 REQ-10, RFC 5508 REQ-6
{
	enum { FLOWS = 100, FORGED = 10000 };
	static const uint32_t mtus[] = {0, 1, 68, 575, 576, 1280, 1500, 65535};
	static const uint8_t types[2][4] = {{3, 4, 11, 12}, {1, 2, 3, 4}};
	static struct seen seen[FLOWS];
	uint64_t seed = 18;

	FOR_EACH_FAMILY(family) {
		struct rig *rig = rig_create(NULL);
		struct connection c[FLOWS];
		struct flow before[FLOWS];
		for (unsigned n = 0; n < FLOWS; n++) {
			c[n] = opened(rig, family, n);
			pass(&c[n], BACKEND, 500, 0, &seen[n]);
			before[n] = *connection_flow(&c[n]);
		}
		rig_wait(rig, 5000, 1000);
		for (unsigned i = 0; i < FORGED; i++) {
			struct seen *about = &seen[i % FLOWS];
			uint32_t number = packets_random(&seed);
			memcpy(about->quote + about->tcp + 4, &number, 4);
			struct icmp_error error = error_about(&c[i % FLOWS], CLIENT, about,
				about->tcp + 8 + packets_random(&seed) % 9, NULL);
			error.type = types[family == AF_INET6][i % 4];
			error.code = i % 4 == 0 && i % 8 == 0 ? 4 : packets_random(&seed) % 16;
			error.rest = mtus[packets_random(&seed) % 8];
			assert_int_equal(run_error(&c[i % FLOWS], &error)->fate, RIG_FORWARDED);
		}
		for (unsigned n = 0; n < FLOWS; n++) {
			assert_memory_equal(connection_flow(&c[n]), &before[n], sizeof(before[n]));
			assert_int_equal(connection_state(&c[n]), TCP_ESTABLISHED);
			c[n].seq[BACKEND] += 500;
			connection_send(&c[n], 0, CLIENT, TCP_ACK, 10);
			connection_send(&c[n], 0, BACKEND, TCP_ACK, 10);
		}
		rig_destroy(rig);
	}
}

static void a_flow_of_errors_only_expires(void **state) // A16
{
	static struct seen seen;

	FOR_EACH_FAMILY(family)
		FOR_EACH_DIRECTION(direction) {
			struct rig *rig = rig_create(NULL);
			struct connection c = opened(rig, family, 10);
			pass(&c, 1 - direction, 0, 0, &seen);
			struct icmp_error error =
				error_about(&c, direction, &seen, seen.size, NULL);
			for (unsigned s = 0; s < 7439; s++) {
				rig_wait(rig, 1000, 1000);
				assert_int_equal(run_error(&c, &error)->fate, RIG_FORWARDED);
			}
			rig_wait(rig, 3000, 500);
			assert_int_equal(connection_state(&c), TCP_NONE);
			assert_int_equal(drop_of(&c, &error), STATS_DROP_ICMP_NO_FLOW);
			rig_destroy(rig);
		}
}

/* What a firewall or router on the backend's side says of the SYN, as a RST would. */
static const struct rig_packet *reject(
	const struct connection *c, uint32_t seq, uint8_t type, uint8_t code)
{
	struct segment syn = connection_segment(c, BACKEND, 0);
	struct seen seen;
	uint8_t frame[PACKETS_SIZE_MAX];

	struct segment quoted = syn;
	quoted.src = syn.dst;
	quoted.dst = syn.src;
	quoted.sport = syn.dport;
	quoted.dport = syn.sport;
	quoted.seq = seq;
	quoted.flags = TCP_SYN;
	seen.size = packets_build(&quoted, frame) - IP;
	memcpy(seen.quote, frame + IP, seen.size);
	struct icmp_error error = error_about(c, BACKEND, &seen, seen.size, NULL);
	error.type = type;
	error.code = code;
	return run_error(c, &error);
}

static void a_rejected_connect_goes_to_the_next_backend(void **state)
{
	static const struct service_connect connect = {
		.timeout_ms = 250, .retry_percent = 20, .tries = 3};

	FOR_EACH_FAMILY(family)
		for (uint8_t code = 0; code < 16; code++) {
			struct rig *rig = rig_create(&(struct rig_options){.connect = connect});
			struct connection c = connection_of(rig, family, 20 + code);
			uint8_t type = family == AF_INET6 ? 1 : 3;
			assert_true(connection_syn(&c, 0));
			uint32_t isn = c.seq[CLIENT] - 1;
			// Whoever doesn't know the number says nothing to us; the client judges.
			for (uint32_t off = 1; off < 5; off++)
				assert_int_equal(
					reject(&c, isn + off, type, code)->fate, RIG_FORWARDED);
			assert_int_equal(connection_state(&c), TCP_SYN_SENT);
			if (family == AF_INET && code == 4) { // too big: for the client
				assert_int_equal(reject(&c, isn, type, code)->fate, RIG_FORWARDED);
				rig_destroy(rig);
				continue;
			}
			unsigned tried[3] = {c.backend_id};
			struct connection last = c;
			for (unsigned n = 1; n < 3; n++) {
				const struct rig_packet *out = reject(&last, isn, type, code);
				assert_int_equal(out->fate, RIG_ANSWERED);
				assert_true(out->is_tcp);
				assert_int_equal(out->segment.flags, TCP_SYN);
				assert_int_equal(out->segment.seq, isn);
				assert_int_equal(connection_state(&c), TCP_SYN_SENT);
				struct connection old = last;
				last.snat = out->segment.src;
				last.snat_port = out->segment.sport;
				last.backend = out->segment.dst;
				last.backend_port = out->segment.dport;
				tried[n] = FLOW_BACKEND_ID(connection_flow(&c)->backend);
				last.backend_id = tried[n];
				for (unsigned i = 0; i < n; i++)
					assert_int_not_equal(tried[n], tried[i]);
				// Of the backend that it left nothing more is heard.
				assert_int_equal(reject(&old, isn, type, code)->fate, RIG_DROPPED);
			}
			// No more tries: the client is told, and the flow stays for its next SYN.
			assert_int_equal(reject(&last, isn, type, code)->fate, RIG_FORWARDED);
			assert_int_equal(connection_state(&c), TCP_SYN_SENT);
			assert_int_equal(reject(&last, isn, type, code)->fate, RIG_FORWARDED);
			assert_int_equal(rig->workers[0].connects[tried[0]].refused, 1);
			assert_int_equal(rig->workers[0].connects[tried[1]].refused, 1);
			// Once the backend has answered, it is an error like any other.
			c = last;
			connection_send(&c, 0, BACKEND, TCP_SYN | TCP_ACK, 0);
			assert_int_equal(reject(&c, isn, type, code)->fate, RIG_FORWARDED);
			assert_int_equal(connection_state(&c), TCP_SYN_RECV);
			rig_destroy(rig);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_error_at_every_truncation),
		cmocka_unit_test(the_usual_truncations),
		cmocka_unit_test(routers_are_not_seen),
		cmocka_unit_test(behind_options_and_extension_headers),
		cmocka_unit_test(with_extensions),
		cmocka_unit_test(wrong_ones_are_dropped),
		cmocka_unit_test(without_a_flow),
		cmocka_unit_test(other_protocols_and_redirects_are_the_kernels),
		cmocka_unit_test(in_any_state),
		cmocka_unit_test(forged_ones_change_nothing),
		cmocka_unit_test(a_flow_of_errors_only_expires),
		cmocka_unit_test(a_rejected_connect_goes_to_the_next_backend),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
