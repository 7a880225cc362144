/* SPDX-License-Identifier: BSD-3-Clause */
#include "trial.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "must.h"

enum { FIRST_PORT = 10000, PORTS_A_TRIAL = 2, TRIALS = 25000 };

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

static void put32(uint8_t *at, uint32_t number)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = number >> (24 - 8 * i);
}

/* --- frames --- */

/* The TSval, 0 = none. */
static uint32_t timestamp_of(const struct segment *segment)
{
	const uint8_t *options = segment->options;

	for (unsigned at = 0; at + 10 <= segment->options_size && options[at] != 0;
		at += options[at] == 1 ? 1 : options[at + 1])
		if (options[at] == 8)
			return get32(options + at + 2);
	return 0;
}

static bool is_of(const struct trial_end *end, const struct segment *segment)
{
	return segment->sport == end->tuple.local_port &&
		segment->dport == end->tuple.remote_port &&
		net_addr_equal(&segment->src, &end->tuple.local);
}

static void note(struct trial_end *end, const struct segment *segment)
{
	uint32_t behind = segment->seq + segment->payload_size + !!(segment->flags & TCP_SYN) +
		!!(segment->flags & TCP_FIN);
	uint32_t ts = timestamp_of(segment);

	if (segment->flags & TCP_RST)
		return;
	if (segment->flags & TCP_SYN) {
		end->first = segment->seq;
		end->next = behind;
	}
	if (tcp_seq_after(behind, end->next))
		end->next = behind;
	if ((segment->flags & TCP_ACK) &&
		(end->known == 0 || tcp_seq_after(segment->ack, end->known)))
		end->known = segment->ack;
	if (segment->flags & TCP_FIN)
		end->has_closed = true;
	if (ts != 0)
		end->ts = ts;
}

/* As packets_read(), whatever stands between the IP header and TCP. The bytes that the segment
 * points to are in `plain`. */
static bool read_segment(const uint8_t *frame, unsigned size, uint8_t plain[PACKETS_SIZE_MAX],
	struct segment *segment)
{
	uint8_t *ip = plain + PACKETS_IP_OFFSET;
	bool v6 = frame[12] == 0x86;
	unsigned between = v6 ? PACKETS_IP_OFFSET + 40 : PACKETS_IP_OFFSET + 20, extra = 0;

	memcpy(plain, frame, size);
	if (size < between + 20)
		return false;
	while (v6 && (ip[6] == IPPROTO_DSTOPTS || ip[6] == IPPROTO_ROUTING)) {
		const uint8_t *header = plain + between + extra;
		ip[6] = header[0];
		extra += header[1] * 8 + 8;
	}
	if (v6 && ip[6] == IPPROTO_AH) {
		ip[6] = plain[between + extra];
		extra += plain[between + extra + 1] * 4 + 8;
	} else if (!v6) {
		extra = (ip[0] & 0xf) * 4 - 20;
		ip[0] = 0x45;
	}
	unsigned length = (v6 ? ip[4] << 8 | ip[5] : ip[2] << 8 | ip[3]) - extra;
	ip[v6 ? 4 : 2] = length >> 8;
	ip[v6 ? 5 : 3] = length;
	memmove(plain + between, plain + between + extra, size - between - extra);
	return packets_read(plain, size - extra, segment);
}

/* An error about a packet that the host got: what a router or an end says of it. */
static bool is_icmp_error(const uint8_t *frame, unsigned size)
{
	if (size < 62)
		return false;
	if (frame[12] == 0x86)
		return frame[20] == IPPROTO_ICMPV6 && frame[54] >= 1 && frame[54] <= 4;
	return frame[23] == IPPROTO_ICMP &&
		(frame[34] == 3 || frame[34] == 4 || frame[34] == 11 || frame[34] == 12);
}

bool trial_read(const struct trial *trial, const struct rig_packet *packet, struct trial_out *out)
{
	unsigned size = net_addr_size(trial->c.family);
	const uint8_t *destination =
		packet->frame + PACKETS_IP_OFFSET + (trial->c.family == AF_INET6 ? 24 : 16);
	uint8_t plain[PACKETS_SIZE_MAX];
	struct segment segment = {0};

	if (packet->fate == RIG_DROPPED || packet->fate >= RIG_PUNTED)
		return false;
	out->to = CLIENT;
	if (memcmp(destination, trial->c.client.v6, size) != 0)
		out->to = BACKEND;
	out->tuple = trial->end[out->to].tuple;
	if (memcmp(destination, out->tuple.local.v6, size) != 0)
		return false;
	out->is_tcp = read_segment(packet->frame, packet->size, plain, &segment);
	out->flags = segment.flags;
	if (out->is_tcp) {
		out->tuple.remote = segment.src;
		out->tuple.remote_port = segment.sport;
	}
	return true;
}

static void deliver(struct trial *trial, const struct rig_packet *packet)
{
	struct trial_out out;

	if (!trial_read(trial, packet, &out))
		return;
	trial->end[out.to].tuple = out.tuple;
	host_send(trial->end[out.to].host, packet->frame, packet->size);
}

/*
 * Before the client's SYN comes to Weir: somebody else had the only SNAT port, and the backend was
 * the first to close. `above`: where that client's numbers ended, above the SYN's, so that these
 * have to be moved.
 */
static void lend_before(struct trial *trial, uint32_t above, uint32_t ts)
{
	struct connection before = connection_of(trial->rig, trial->c.family, 7);
	uint8_t options[12] = {1, 1, 8, 10};
	struct segment last;

	before.seq[CLIENT] = above;
	must(connection_open(&before, 0));
	connection_send(&before, 0, BACKEND, TCP_FIN | TCP_ACK, 0);
	connection_send(&before, 0, CLIENT, TCP_FIN | TCP_ACK, 0);
	connection_send(&before, 0, BACKEND, TCP_ACK, 0);
	last = connection_segment(&before, CLIENT, TCP_ACK);
	if (ts != 0) {
		put32(options + 4, ts);
		last.options = options;
		last.options_size = sizeof(options);
	}
	rig_run_segment(trial->rig, 0, &last);
	must(tcp_state_closed(connection_state(&before)));
}

/* What Weir says of the client's SYN. */
static void learn_tuple(struct trial *trial, const struct segment *segment)
{
	trial->c.snat = segment->src;
	trial->c.snat_port = segment->sport;
	trial->c.backend = segment->dst;
	trial->c.backend_port = segment->dport;
}

unsigned trial_receive(struct trial *trial, enum flow_direction from, uint8_t *frame)
{
	struct trial_end *end = &trial->end[from];
	uint8_t plain[PACKETS_SIZE_MAX];
	struct segment segment;
	struct net_mac mac = from == CLIENT ? trial->c.mac : rig_backend_mac(trial->c.backend_id);
	unsigned size;
	bool is_tcp;

	do {
		size = host_receive(end->host, frame, PACKETS_SIZE_MAX);
		if (size == 0)
			return 0;
		is_tcp = read_segment(frame, size, plain, &segment);
	} while (is_tcp ? !is_of(end, &segment) : !is_icmp_error(frame, size));
	memcpy(frame + 6, &mac, sizeof(mac));
	if (is_tcp)
		note(end, &segment);
	return size;
}

enum loss { NOT_LOST, LOST_BEHIND_WEIR, LOST_BEFORE_WEIR };

/* The next frame of an end; false when there is none. */
static bool carry(struct trial *trial, enum flow_direction from, enum loss loss)
{
	uint8_t frame[PACKETS_SIZE_MAX];
	unsigned size = trial_receive(trial, from, frame);

	if (size == 0)
		return false;
	if (loss == LOST_BEFORE_WEIR)
		return true;
	const struct rig_packet *out = rig_run_frame(trial->rig, 0, frame, size);
	if (loss == NOT_LOST)
		deliver(trial, out);
	return true;
}

/* The client's first SYN makes the flow. */
static void carry_syn(struct trial *trial, enum loss loss)
{
	uint8_t frame[PACKETS_SIZE_MAX];
	unsigned size = trial_receive(trial, CLIENT, frame);
	const struct trial_end *client = &trial->end[CLIENT];

	must(size != 0);
	if (trial->is_moved)
		lend_before(trial, client->first + 1000000, trial->has_ts ? client->ts + 50000 : 0);
	const struct rig_packet *out = rig_run_frame(trial->rig, 0, frame, size);
	must(out->fate == RIG_FORWARDED);
	learn_tuple(trial, &out->segment);
	if (loss == NOT_LOST)
		deliver(trial, out);
}

/* Until both ends have nothing more to say. */
static void settle(struct trial *trial)
{
	bool more;

	do {
		more = carry(trial, CLIENT, NOT_LOST);
		more |= carry(trial, BACKEND, NOT_LOST);
	} while (more);
}

/* What an end has to say is lost. */
static void lose(struct trial *trial, enum flow_direction from, enum loss where)
{
	must(carry(trial, from, where));
	while (carry(trial, from, where))
		;
}

/* --- what the ends do --- */

static void send_bytes(struct trial *trial, enum flow_direction from, unsigned size)
{
	static const uint8_t bytes[1000];

	must(send(trial->end[from].fd, bytes, size, 0) == (ssize_t)size);
}

static void receive_bytes(struct trial *trial, enum flow_direction at, unsigned size)
{
	uint8_t bytes[1000];

	must(recv(trial->end[at].fd, bytes, sizeof(bytes), 0) == (ssize_t)size);
}

static void half_close(struct trial *trial, enum flow_direction side)
{
	must(shutdown(trial->end[side].fd, SHUT_WR) == 0);
}

static void abort_end(struct trial *trial, enum flow_direction side)
{
	struct linger linger = {.l_onoff = 1};
	int *fd = &trial->end[side].fd;

	must(setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)) == 0);
	close(*fd);
	*fd = -1;
}

/* --- the states --- */

static void begin_connect(const struct trial_end *end, const struct net_addr *to, uint16_t port)
{
	struct sockaddr_storage remote;
	socklen_t size = net_addr_sockaddr(to, htons(port), &remote);

	must(connect(end->fd, (struct sockaddr *)&remote, size) < 0 && errno == EINPROGRESS);
}

static void connect_client(struct trial *trial)
{
	begin_connect(&trial->end[CLIENT], &trial->end[CLIENT].tuple.remote, RIG_VIP_PORT);
	carry_syn(trial, NOT_LOST);
}

static void reach_syn_sent(struct trial *trial)
{
	connect_client(trial);
	lose(trial, BACKEND, LOST_BEFORE_WEIR);
}

/* Both open at once (RFC 9293, 3.5): the backend's SYN got there, the client's didn't, nor the
 * client's answer. */
static void reach_syn_sent2(struct trial *trial)
{
	struct trial_end *backend = &trial->end[BACKEND];

	begin_connect(&trial->end[CLIENT], &trial->end[CLIENT].tuple.remote, RIG_VIP_PORT);
	carry_syn(trial, LOST_BEHIND_WEIR);
	close(trial->listener);
	trial->listener = -1;
	backend->fd = host_socket(backend->host, trial->c.family, backend->tuple.local_port);
	backend->tuple.remote = trial->c.snat;
	backend->tuple.remote_port = trial->c.snat_port;
	begin_connect(backend, &trial->c.snat, trial->c.snat_port);
	must(carry(trial, BACKEND, NOT_LOST));
	lose(trial, CLIENT, LOST_BEFORE_WEIR);
	must(connection_state(&trial->c) == TCP_SYN_SENT2);
}

static void reach_syn_recv(struct trial *trial)
{
	connect_client(trial);
	must(carry(trial, BACKEND, NOT_LOST));
	lose(trial, CLIENT, LOST_BEFORE_WEIR);
}

static void reach_ack_lost(struct trial *trial)
{
	connect_client(trial);
	must(carry(trial, BACKEND, NOT_LOST));
	lose(trial, CLIENT, LOST_BEHIND_WEIR);
}

static void reach_established(struct trial *trial)
{
	connect_client(trial);
	settle(trial);
	trial->end[BACKEND].fd = accept4(trial->listener, NULL, NULL, SOCK_NONBLOCK);
	must(trial->end[BACKEND].fd >= 0);
	send_bytes(trial, CLIENT, 500);
	settle(trial);
	send_bytes(trial, BACKEND, 700);
	settle(trial);
	receive_bytes(trial, CLIENT, 700);
	receive_bytes(trial, BACKEND, 500);
	must(connection_state(&trial->c) == TCP_ESTABLISHED);
	must(!trial->is_moved || connection_flow(&trial->c)->flags & FLOW_TRANSLATED);
}

static void reach_data_lost(struct trial *trial)
{
	reach_established(trial);
	for (enum flow_direction side = CLIENT; side <= BACKEND; side++) {
		send_bytes(trial, side, 300);
		lose(trial, side, LOST_BEHIND_WEIR);
	}
}

static void reach_fin_lost(struct trial *trial, enum flow_direction side)
{
	reach_established(trial);
	half_close(trial, side);
	lose(trial, side, LOST_BEHIND_WEIR);
}

static void reach_client_fin_lost(struct trial *trial)
{
	reach_fin_lost(trial, CLIENT);
}

static void reach_backend_fin_lost(struct trial *trial)
{
	reach_fin_lost(trial, BACKEND);
}

/* The FIN got there, its acknowledgement didn't. */
static void reach_fin_unacked(struct trial *trial, enum flow_direction side)
{
	reach_established(trial);
	half_close(trial, side);
	must(carry(trial, side, NOT_LOST));
	lose(trial, 1 - side, LOST_BEFORE_WEIR);
}

static void reach_client_fin(struct trial *trial)
{
	reach_fin_unacked(trial, CLIENT);
}

static void reach_backend_fin(struct trial *trial)
{
	reach_fin_unacked(trial, BACKEND);
}

static void reach_half_closed(struct trial *trial, enum flow_direction side)
{
	reach_established(trial);
	half_close(trial, side);
	settle(trial);
}

static void reach_client_closed(struct trial *trial)
{
	reach_half_closed(trial, CLIENT);
}

static void reach_backend_closed(struct trial *trial)
{
	reach_half_closed(trial, BACKEND);
}

/* Half-closed, and the other FIN has arrived; its acknowledgement is lost. */
static void reach_last_ack(struct trial *trial, enum flow_direction first, enum loss ack_lost)
{
	reach_half_closed(trial, first);
	half_close(trial, 1 - first);
	must(carry(trial, 1 - first, NOT_LOST));
	lose(trial, first, ack_lost);
}

static void reach_client_last_ack(struct trial *trial)
{
	reach_last_ack(trial, CLIENT, LOST_BEFORE_WEIR);
}

static void reach_backend_last_ack(struct trial *trial)
{
	reach_last_ack(trial, BACKEND, LOST_BEFORE_WEIR);
}

static void reach_client_last_ack_lost(struct trial *trial)
{
	reach_last_ack(trial, CLIENT, LOST_BEHIND_WEIR);
}

static void reach_backend_last_ack_lost(struct trial *trial)
{
	reach_last_ack(trial, BACKEND, LOST_BEHIND_WEIR);
}

/* Both close before they have heard of the other, and neither acknowledgement arrives. */
static void reach_closing(struct trial *trial)
{
	reach_established(trial);
	half_close(trial, CLIENT);
	half_close(trial, BACKEND);
	must(carry(trial, CLIENT, NOT_LOST));
	must(carry(trial, BACKEND, NOT_LOST));
	lose(trial, CLIENT, LOST_BEFORE_WEIR);
	lose(trial, BACKEND, LOST_BEFORE_WEIR);
}

static void reach_time_wait(struct trial *trial, enum flow_direction first)
{
	reach_half_closed(trial, first);
	half_close(trial, 1 - first);
	settle(trial);
	must(connection_state(&trial->c) == TCP_TIME_WAIT);
}

static void reach_client_time_wait(struct trial *trial)
{
	reach_time_wait(trial, CLIENT);
}

static void reach_backend_time_wait(struct trial *trial)
{
	reach_time_wait(trial, BACKEND);
}

static void reach_reset(struct trial *trial, enum flow_direction side)
{
	reach_established(trial);
	abort_end(trial, side);
	settle(trial);
	must(connection_state(&trial->c) == TCP_CLOSE);
}

static void reach_client_reset(struct trial *trial)
{
	reach_reset(trial, CLIENT);
}

static void reach_backend_reset(struct trial *trial)
{
	reach_reset(trial, BACKEND);
}

const struct trial_state trial_states[] = {
	{"syn-sent", reach_syn_sent},
	{"syn-sent2", reach_syn_sent2},
	{"syn-recv", reach_syn_recv},
	{"established", reach_established},
	{"established:ack-lost", reach_ack_lost},
	{"established:data-lost", reach_data_lost},
	{"fin-wait:client", reach_client_fin},
	{"fin-wait:backend", reach_backend_fin},
	{"fin-wait:client-lost", reach_client_fin_lost},
	{"fin-wait:backend-lost", reach_backend_fin_lost},
	{"close-wait:client", reach_client_closed},
	{"close-wait:backend", reach_backend_closed},
	{"closing", reach_closing},
	{"last-ack:client-first", reach_client_last_ack},
	{"last-ack:backend-first", reach_backend_last_ack},
	{"time-wait:client-first", reach_client_time_wait},
	{"time-wait:backend-first", reach_backend_time_wait},
	{"time-wait:client-first,lost", reach_client_last_ack_lost},
	{"time-wait:backend-first,lost", reach_backend_last_ack_lost},
	{"close:client-reset", reach_client_reset},
	{"close:backend-reset", reach_backend_reset},
};
const unsigned trial_nb_states = sizeof(trial_states) / sizeof(trial_states[0]);

/* --- from nothing to nothing --- */

static void init_ends(struct trial *trial, const struct host hosts[2], uint16_t port)
{
	struct connection *c = &trial->c;
	bool v6 = c->family == AF_INET6;

	c->client = hosts[CLIENT].addr[v6];
	c->client_port = port;
	c->backend_id = v6 ? trial->rig->options.nb_backends : 0;
	trial->end[CLIENT] = (struct trial_end){
		.host = &hosts[CLIENT],
		.tuple = {c->client, rig_vip(c->family), port, RIG_VIP_PORT},
		.fd = host_socket(&hosts[CLIENT], c->family, port),
	};
	uint16_t backend_port = rig_backend_port(trial->rig, c->backend_id);
	trial->end[BACKEND] = (struct trial_end){
		.host = &hosts[BACKEND],
		.tuple = {.local = hosts[BACKEND].addr[v6], .local_port = backend_port},
		.fd = -1,
	};
	trial->listener = host_socket(&hosts[BACKEND], c->family, backend_port);
	must(listen(trial->listener, 16) == 0);
}

struct trial *trial_create(const struct host hosts[2], const struct trial_mode *mode,
	uint32_t number, const struct trial_state *state)
{
	struct trial *trial = calloc(1, sizeof(*trial));
	uint16_t port = FIRST_PORT + number % TRIALS * PORTS_A_TRIAL;

	must(trial != NULL);
	// One backend a family. A SNAT port of its own for each trial: the backend's kernel still
	// knows those of the trials before.
	struct rig_options options = {.flows = 64,
		.nb_backends = 1,
		.first_port = port,
		.nb_ports = mode->is_moved ? 1 : PORTS_A_TRIAL,
		.scheduler = &scheduler_round_robin, // quick to build
		.connect = {.timeout_ms = 250, .retry_percent = 20, .tries = 3}};
	trial->started_ms = clock_ms();
	trial->rig = rig_create(&options);
	trial->c = connection_of(trial->rig, mode->family, 1);
	trial->has_ts = mode->has_ts;
	trial->is_moved = mode->is_moved;
	init_ends(trial, hosts, port);
	state->reach(trial);
	for (enum flow_direction side = CLIENT; side <= BACKEND; side++) {
		const struct trial_end *end = &trial->end[side];
		host_look(end->host, &end->tuple, end->fd); // an error is told but once
	}
	return trial;
}

bool trial_destroy(struct trial *trial)
{
	uint8_t frame[PACKETS_SIZE_MAX];
	uint64_t took_ms = clock_ms() - trial->started_ms;

	if (trial->listener >= 0)
		close(trial->listener);
	for (enum flow_direction side = CLIENT; side <= BACKEND; side++)
		if (trial->end[side].fd >= 0)
			abort_end(trial, side);
	for (enum flow_direction side = CLIENT; side <= BACKEND; side++)
		while (host_receive(trial->end[side].host, frame, sizeof(frame)) != 0)
			;
	rig_destroy(trial->rig);
	free(trial);
	return took_ms <= TRIAL_PATIENCE_MS;
}
