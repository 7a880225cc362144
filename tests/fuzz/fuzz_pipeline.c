/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The pipeline under libFuzzer (cases B21, B22): an input is a sequence of packets, time steps,
 * backends that come and go, and settings that change, against one balancer of two workers. rig.c
 * checks each packet: I1, I3, I4, and that what is dropped or punted is untouched; packets lie in
 * exact-size memory, so that AddressSanitizer sees over-reads. At the end of an input all flows
 * expire, and no record, port or connection may be left.
 *
 * The balancer lives on from input to input: it costs a millisecond to make. What stays is the
 * order of ports; which the inputs don't name, they say "the port that this connection got".
 */
#include <stdio.h>
#include <stdlib.h>

#include "log.h"
#include "rig.h"

enum { CONNECTIONS = 16, BACKENDS = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t size;
};

static struct rig *rig;
static struct connection connections[CONNECTIONS];

/* The next `count` bytes as a number; zeros behind the end. */
static uint32_t take(struct input *input, unsigned count)
{
	uint32_t number = 0;

	for (; count > 0; count--) {
		number = number << 8 | (input->size != 0 ? *input->data : 0);
		if (input->size != 0) {
			input->data++;
			input->size--;
		}
	}
	return number;
}

struct burst {
	uint8_t bytes[PIPELINE_BURST][PACKETS_SIZE_MAX];
	struct rig_frame frames[PIPELINE_BURST];
	unsigned of[PIPELINE_BURST]; // connection
	unsigned count;
};

static void add(struct burst *burst, unsigned of, unsigned size)
{
	burst->frames[burst->count] = (struct rig_frame){burst->bytes[burst->count], size};
	burst->of[burst->count++] = of;
}

static void run(struct burst *burst, unsigned worker)
{
	rig_run(rig, worker, burst->frames, burst->count);
	for (unsigned i = 0; i < burst->count; i++) {
		const struct rig_packet *out = &rig->workers[worker].out[i];
		struct connection *connection = &connections[burst->of[i]];
		if (out->fate != RIG_FORWARDED || !out->is_tcp ||
			out->segment.sport == RIG_VIP_PORT ||
			out->segment.src.family != connection->family)
			continue;
		connection->snat = out->segment.src;
		connection->snat_port = out->segment.sport;
		connection->backend = out->segment.dst;
		connection->backend_port = out->segment.dport;
	}
	burst->count = 0;
}

/* A whole handshake: what a connection may meet behind it is worth more than finding that again. */
static void open_connection(struct burst *burst, unsigned of, unsigned worker)
{
	static const struct {
		enum flow_direction from;
		uint8_t flags;
	} way[] = {{CLIENT, TCP_SYN}, {BACKEND, TCP_SYN | TCP_ACK}, {CLIENT, TCP_ACK}};
	struct connection *connection = &connections[of];

	for (unsigned i = 0; i < RTE_DIM(way); i++) {
		struct segment segment = connection_segment(connection, way[i].from, way[i].flags);
		connection->seq[way[i].from] += (way[i].flags & TCP_SYN) != 0;
		add(burst, of, packets_build(&segment, burst->bytes[burst->count]));
		run(burst, worker);
	}
}

/* A segment of a connection, as it should be or not quite. */
static void add_segment(struct burst *burst, struct input *input)
{
	static const uint32_t offsets[] = {0, 1, -1, 1000, -1000, 1u << 20, 1u << 31, 0xdeadbeef};
	uint32_t what = take(input, 2);
	unsigned of = what % CONNECTIONS;
	struct connection *connection = &connections[of];
	enum flow_direction direction = what >> 4 & 1;
	struct segment segment = connection_segment(connection, direction, take(input, 1));
	uint8_t options[40];

	if (what & 1 << 5) {
		segment.payload_size = take(input, 1) * 5;
		segment.options_size = segment.payload_size % 11 * 4;
		for (unsigned i = 0; i < segment.options_size; i++)
			options[i] = what * i;
		segment.options = options;
	}
	if (what & 1 << 6) {
		uint8_t which = take(input, 1);
		segment.seq += offsets[which & 7];
		segment.ack += offsets[which >> 3 & 7];
		segment.ttl = which >> 6;
	} else {
		connection->seq[direction] += segment.payload_size + !!(segment.flags & TCP_SYN) +
			!!(segment.flags & TCP_FIN);
	}
	uint8_t *frame = burst->bytes[burst->count];
	unsigned size = packets_build(&segment, frame);
	if (what & 1 << 7) { // damage: bytes, then the end
		uint8_t how = take(input, 1);
		for (unsigned i = 0; i < (how & 7u); i++) {
			uint32_t at = take(input, 1) % size;
			frame[at] = take(input, 1);
		}
		if (how & 8)
			packets_seal_ip4(frame, 20);
		if (how & 16)
			size = take(input, 2) % (size + 1);
	}
	add(burst, of, size);
}

/*
 * An ICMP error about a packet that went to one end of a connection, quoted as far as it may be;
 * with damage in the quote, its checksums right again or not.
 */
static void add_error(struct burst *burst, struct input *input)
{
	uint32_t what = take(input, 2);
	unsigned of = what % CONNECTIONS;
	const struct connection *connection = &connections[of];
	enum flow_direction direction = what >> 4 & 1;
	struct segment back = connection_segment(connection, direction, TCP_ACK), quoted = back;
	uint8_t quote[PACKETS_SIZE_MAX];
	bool v6 = connection->family == AF_INET6;

	quoted.src = back.dst;
	quoted.dst = back.src;
	quoted.sport = back.dport;
	quoted.dport = back.sport;
	quoted.payload_size = what >> 5 & 63;
	unsigned size = packets_build(&quoted, quote) - PACKETS_IP_OFFSET;
	struct icmp_error error = {
		.from = back.from,
		.to = back.to,
		.src = back.src,
		.dst = back.dst,
		.ttl = back.ttl,
		.type = v6 ? 1 : 3,
		.quote = quote + PACKETS_IP_OFFSET,
		.quote_size = size,
	};
	if (what & 1 << 12) {
		error.type = take(input, 1);
		error.code = error.type >> 4;
		error.rest = take(input, 4);
	}
	if (what & 1 << 13)
		error.quote_size = take(input, 1) * 2 % (size + 1);
	if (what & 1 << 14) {
		for (unsigned n = take(input, 1) & 3; n > 0; n--) {
			uint32_t at = take(input, 1) % size;
			quote[PACKETS_IP_OFFSET + at] = take(input, 1);
		}
		if (!v6 && (quote[PACKETS_IP_OFFSET] & 15) >= 5)
			packets_seal_ip4(quote, (quote[PACKETS_IP_OFFSET] & 15) * 4);
	}
	uint8_t *frame = burst->bytes[burst->count];
	size = packets_build_error(&error, frame);
	if (what & 1 << 15) {
		uint32_t at = take(input, 1) % size;
		frame[at] = take(input, 1);
		size = RTE_MIN(size, take(input, 1) * 2);
	}
	add(burst, of, size);
}

/* Any bytes, behind the port's address or not. */
static void add_raw(struct burst *burst, struct input *input)
{
	struct net_mac mac = rig_mac();
	uint8_t *frame = burst->bytes[burst->count];
	unsigned size = take(input, 1) * 2;

	for (unsigned i = 0; i < size; i++)
		frame[i] = take(input, 1);
	if (size & 2 && size >= sizeof(mac))
		memcpy(frame, &mac, sizeof(mac));
	add(burst, 0, size);
}

static void expire_all(void)
{
	struct stats_backend sum[2 * BACKENDS] = {0};

	for (unsigned i = 0; i < 4; i++)
		rig_wait(rig, 7500 * 1000 / 4, 7500 * 1000 / 4);
	rig_wait(rig, 3000, 1000);
	for (unsigned id = 0; id < 2 * BACKENDS; id++) {
		for (unsigned worker = 0; worker < 2; worker++) {
			sum[id].opened += rig->workers[worker].backends[id].opened;
			sum[id].ended += rig->workers[worker].backends[id].ended;
			sum[id].closed += rig->workers[worker].backends[id].closed;
		}
		if (sum[id].opened != sum[id].ended || sum[id].opened != sum[id].closed) {
			fprintf(stderr, "backend %u: %lu opened, %lu ended, %lu closed\n", id,
				sum[id].opened, sum[id].ended, sum[id].closed);
			abort();
		}
	}
	if (flow_table_used(rig->flows4) != 0 || flow_table_used(rig->flows6) != 0 ||
		rig_ports_used(rig) != 0) {
		fprintf(stderr, "left: %u and %u flows, %u ports\n", flow_table_used(rig->flows4),
			flow_table_used(rig->flows6), rig_ports_used(rig));
		abort();
	}
}

/* Whether an unanswered connect is moved, and idle connections are reset. */
static void set_service(bool moves, bool reset_when_idle)
{
	static const struct service_connect on = {
		.timeout_ms = 250, .retry_percent = 20, .tries = 3};

	if (moves == (rig->options.connect.tries != 0) && reset_when_idle == rig->reset_when_idle)
		return;
	rig->options.connect = moves ? on : (struct service_connect){0};
	rig->reset_when_idle = reset_when_idle;
	service_table_destroy((struct service_table *)rig_publish(rig));
}

static void reset(void)
{
	set_service(false, false);
	for (unsigned n = 0; n < CONNECTIONS; n++)
		connections[n] = connection_of(rig, n & 1 ? AF_INET6 : AF_INET, n);
	for (unsigned id = 0; id < 2 * BACKENDS; id++)
		if (!rig->is_up[id] || !rig->is_resolved[id])
			rig_set_backend(rig, id, true, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct burst burst;
	struct input input = {data, size};

	if (rig == NULL) {
		log_set_level(LOG_LEVEL_ERROR);
		// Ports and records that run out, too.
		rig = rig_create(&(struct rig_options){.nb_workers = 2,
			.flows = 12,
			.nb_ports = 3,
			.nb_snats = 2,
			.nb_backends = BACKENDS,
			.scheduler = &scheduler_round_robin}); // quick to build
	}
	reset();
	while (input.size != 0) {
		uint8_t op = take(&input, 1);
		if ((op & 15) == 0) {
			run(&burst, op >> 4 & 1);
			rig_wait(rig, (uint64_t)take(&input, 1) << (op >> 5), 1u << (op >> 5));
		} else if ((op & 15) == 1) {
			run(&burst, op >> 4 & 1);
			rig_set_backend(rig, (op >> 4) % (2 * BACKENDS), op >> 6 & 1, op >> 7);
		} else if ((op & 15) == 4) {
			run(&burst, op >> 4 & 1);
			set_service(op >> 5 & 1, op >> 6 & 1);
		} else if ((op & 15) == 5) {
			run(&burst, op >> 4 & 1);
			open_connection(&burst, take(&input, 1) % CONNECTIONS, op >> 4 & 1);
		} else if ((op & 15) == 2) {
			add_raw(&burst, &input);
		} else if ((op & 15) == 3) {
			add_error(&burst, &input);
		} else {
			add_segment(&burst, &input);
		}
		if (burst.count == PIPELINE_BURST || op & 128)
			run(&burst, op >> 6 & 1);
	}
	run(&burst, 0);
	expire_all();
	return 0;
}
