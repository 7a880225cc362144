/* SPDX-License-Identifier: BSD-3-Clause */
#include "rig.h"

#include <rte_mbuf.h>
#include <rte_rcu_qsbr.h>
#include <stdio.h>
#include <stdlib.h>

#include "service_choice.h"

static const struct hash_key key = {
	{0x0123456789abcdef, 0xfedcba9876543210, 0x1122334455667788, 42}};

#define check(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail(#condition, __LINE__);                                                \
	} while (0)

static void fail(const char *condition, int line)
{
	fprintf(stderr, "rig.c:%d: doesn't hold: %s\n", line, condition);
	abort();
}

/* --- who is who --- */

struct net_addr rig_vip(sa_family_t family)
{
	return packets_addr(family == AF_INET6 ? "2001:db8::80" : "192.0.2.80");
}

struct net_addr rig_snat_addr(sa_family_t family, unsigned index)
{
	struct net_addr addr = packets_addr(family == AF_INET6 ? "2001:db8::100" : "192.0.2.100");

	addr.v6[family == AF_INET6 ? 15 : 3] += index;
	return addr;
}

static sa_family_t family_of(const struct rig *rig, unsigned id)
{
	return id < rig->options.nb_backends ? AF_INET : AF_INET6;
}

struct net_addr rig_backend_addr(const struct rig *rig, unsigned id)
{
	bool v6 = family_of(rig, id) == AF_INET6;
	struct net_addr addr = packets_addr(v6 ? "2001:db8:1::1" : "10.0.0.1");

	// Two ports a host.
	addr.v6[v6 ? 15 : 3] += id % rig->options.nb_backends / 2;
	return addr;
}

uint16_t rig_backend_port(const struct rig *rig, unsigned id)
{
	return 8080 + id % rig->options.nb_backends % 2;
}

struct net_mac rig_mac(void)
{
	return (struct net_mac){{2, 0, 0, 0, 0, 1}};
}

struct net_mac rig_backend_mac(unsigned id)
{
	return (struct net_mac){{2, 0, 0, 0xb, 0, id}};
}

struct flow_table *rig_flows(const struct rig *rig, sa_family_t family)
{
	return family == AF_INET6 ? rig->flows6 : rig->flows4;
}

/* --- building --- */

static struct service *build_service(const struct rig *rig, sa_family_t family)
{
	struct service_member members[2 * RIG_BACKENDS] = {0};
	struct service_choice choice;
	struct service_source source = {
		.name = family == AF_INET6 ? "web6" : "web4",
		.family = family,
		.drop_when_down = rig->options.drop_when_down,
		.connect = rig->options.connect,
		.reset_when_idle = rig->reset_when_idle,
		.scheduler = rig->options.scheduler,
		.access = rig->access,
	};

	for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++)
		members[id] = (struct service_member){
			.id = id,
			.identity = id + 1,
			.weight = 1,
			.max_conns = rig->max_conns[id],
			.usable = family_of(rig, id) == family && rig->is_up[id] &&
				rig->is_resolved[id],
			.backup = rig->is_backup[id],
		};
	check(service_choice_init(&choice, members, 2 * rig->options.nb_backends, 0) == 0);
	source.candidates = choice.candidates;
	source.backups = choice.backups;
	memcpy(source.timeout_s, rig->timeout_s, sizeof(source.timeout_s));
	struct service *service = service_create(&source);
	service_choice_fini(&choice);
	return service;
}

const struct service_table *rig_publish(struct rig *rig)
{
	unsigned nb_backends = 2 * rig->options.nb_backends, nb_keys = 0;
	struct service *services[] = {build_service(rig, AF_INET), build_service(rig, AF_INET6)};
	struct service_backend backends[2 * RIG_BACKENDS] = {0};
	struct service_key keys[2 + 2 * 2 * RIG_BACKENDS + 2 * RIG_SNATS];
	struct net_addr snats[2][RIG_SNATS];

	for (unsigned i = 0; i < 2; i++) {
		sa_family_t family = i == 0 ? AF_INET : AF_INET6;
		struct net_addr vip = rig_vip(family);
		check(services[i] != NULL);
		service_key_set(&keys[nb_keys++], SERVICE_KEY_VIP, &vip, htons(RIG_VIP_PORT), i);
		for (unsigned n = 0; n < rig->options.nb_snats; n++) {
			snats[i][n] = rig_snat_addr(family, n);
			service_key_set(&keys[nb_keys++], SERVICE_KEY_SNAT, &snats[i][n], 0, n);
		}
	}
	for (unsigned id = 0; id < nb_backends; id++) {
		struct net_addr addr = rig_backend_addr(rig, id);
		uint16_t port = htons(rig_backend_port(rig, id));
		backends[id] = (struct service_backend){
			.generation = 7,
			.service = (addr.family == AF_INET6) != rig->are_swapped,
			.port = port,
			.next_hop = rig_backend_mac(id),
			.family = addr.family,
			.resolved = rig->is_resolved[id],
			.down = !rig->is_up[id],
			.pools = rig->pools[rig->options.shared_pools
					? id - id % rig->options.nb_backends
					: id],
		};
		memcpy(backends[id].addr, addr.v6, 16);
		service_key_set(&keys[nb_keys++], SERVICE_KEY_ENDPOINT, &addr, port, id);
		service_key_set(&keys[nb_keys++], SERVICE_KEY_HOST, &addr, 0, id);
	}
	struct service_table_source source = {
		.services = services,
		.nb_services = 2,
		.backends = backends,
		.nb_backends = nb_backends,
		.snat4 = {snats[0], rig->options.nb_snats},
		.snat6 = {snats[1], rig->options.nb_snats},
		.snat = rig->snat,
		.keys = keys,
		.nb_keys = nb_keys,
	};
	struct service_table *table = service_table_create(&source);
	check(table != NULL);
	service_put(services[0]);
	service_put(services[1]);
	return __atomic_exchange_n(&rig->table, table, __ATOMIC_ACQ_REL);
}

void rig_set_backend(struct rig *rig, unsigned id, bool is_up, bool is_resolved)
{
	rig->is_up[id] = is_up;
	rig->is_resolved[id] = is_resolved;
	service_table_destroy((struct service_table *)rig_publish(rig));
}

/* For what a pipeline makes by itself. */
static struct rte_mbuf *new_mbuf(void *context)
{
	static const uint8_t room[PACKETS_SIZE_MAX];
	const struct rig *rig = context;

	if (rig->has_no_buffers)
		return NULL;
	struct rte_mbuf *mbuf = packets_mbuf(room, 256);
	mbuf->data_len = mbuf->pkt_len = 0;
	return mbuf;
}

static void init_worker(struct rig *rig, unsigned worker)
{
	struct pipeline *pipeline = &rig->workers[worker].pipeline;

	check(posix_memalign(
		      (void **)&rig->workers[worker].stats, 64, sizeof(struct stats_worker)) == 0);
	memset(rig->workers[worker].stats, 0, sizeof(struct stats_worker));
	pipeline_init(pipeline);
	pipeline->worker = worker;
	pipeline->mac = rig_mac();
	pipeline->flows4 = rig->flows4;
	pipeline->flows6 = rig->flows6;
	pipeline->hasher = &rig->flows4->hasher;
	pipeline->services = &rig->table;
	pipeline->stats = rig->workers[worker].stats;
	pipeline->backends = rig->workers[worker].backends;
	pipeline->active = rig->workers[worker].active;
	rig->counters[worker] = pipeline->backends;
	pipeline->peers = rig->counters;
	pipeline->nb_peers = rig->options.nb_workers;
	pipeline->cursors = rig->workers[worker].cursors;
	pipeline->service_stats = rig->workers[worker].service_stats;
	pipeline->connects = rig->workers[worker].connects;
	pipeline->retries = rig->workers[worker].retries;
	pipeline->handshakes = rig->workers[worker].handshakes;
	pipeline->new_mbuf = new_mbuf;
	pipeline->new_mbuf_context = rig;
}

/* Even ports are of worker 0, odd ones of worker 1. */
static const struct snat_rss *by_turns(void)
{
	static uint16_t port_share[UINT16_MAX + 1];
	static const uint8_t queue[] = {0, 1};
	static const struct snat_rss rss = {port_share, queue, 1, 2};

	for (unsigned port = 0; port <= UINT16_MAX; port++)
		port_share[port] = port;
	return &rss;
}

struct rig *rig_create(const struct rig_options *options)
{
	static const uint64_t snat_key[2] = {3, 4};
	struct rig *rig;

	check(posix_memalign((void **)&rig, 64, sizeof(*rig)) == 0);
	memset(rig, 0, sizeof(*rig));
	if (options != NULL)
		rig->options = *options;
	struct rig_options *o = &rig->options;
	o->nb_workers = o->nb_workers != 0 ? o->nb_workers : 1;
	o->flows = o->flows != 0 ? o->flows : 1024;
	o->nb_backends = o->nb_backends != 0 ? o->nb_backends : 4;
	o->nb_ports = o->nb_ports != 0 ? o->nb_ports : 1000;
	o->first_port = o->first_port != 0 ? o->first_port : RIG_PORT;
	o->nb_snats = o->nb_snats != 0 ? o->nb_snats : 1;
	o->scheduler = o->scheduler != NULL ? o->scheduler : &scheduler_maglev;
	check(o->nb_workers <= RIG_WORKERS && o->nb_backends <= RIG_BACKENDS &&
		o->nb_snats <= RIG_SNATS);

	rig->now_ms = 1000000;
	check(posix_memalign((void **)&rig->rcu, 64, rte_rcu_qsbr_get_memsize(8)) == 0);
	check(rte_rcu_qsbr_init(rig->rcu, 8) == 0);
	struct snat_range range = {o->first_port, o->first_port + o->nb_ports - 1};
	rig->snat = snat_create(&range, 1, snat_key, o->has_rss ? by_turns() : NULL);
	check(rig->snat != NULL);
	for (unsigned id = 0; id < 2 * o->nb_backends; id++) {
		for (unsigned n = 0; n < o->nb_snats; n++)
			check((rig->pools[id][n] = snat_pool_create(rig->snat, 0)) != NULL);
		rig->is_up[id] = rig->is_resolved[id] = true;
	}
	rig->flows4 =
		flow_table_create(AF_INET, o->flows, o->nb_workers, &key, rig->rcu, -1, false);
	rig->flows6 =
		flow_table_create(AF_INET6, o->flows, o->nb_workers, &key, rig->rcu, -1, false);
	check(rig->flows4 != NULL && rig->flows6 != NULL);
	rig_publish(rig);
	for (unsigned worker = 0; worker < o->nb_workers; worker++)
		init_worker(rig, worker);
	return rig;
}

void rig_destroy(struct rig *rig)
{
	service_table_destroy((struct service_table *)rig->table);
	for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++)
		for (unsigned n = 0; n < rig->options.nb_snats; n++)
			snat_pool_destroy(rig->pools[id][n]);
	snat_destroy(rig->snat);
	flow_table_destroy(rig->flows4);
	flow_table_destroy(rig->flows6);
	for (unsigned worker = 0; worker < rig->options.nb_workers; worker++)
		free(rig->workers[worker].stats);
	free(rig->rcu);
	free(rig);
}

/* --- what must hold --- */

static bool is_snat(const struct rig *rig, const uint8_t *addr, sa_family_t family, uint16_t port)
{
	for (unsigned n = 0; n < rig->options.nb_snats; n++) {
		struct net_addr snat = rig_snat_addr(family, n);
		if (memcmp(addr, snat.v6, net_addr_size(family)) == 0)
			return snat_contains(rig->snat, port);
	}
	return false;
}

static bool is_backend(
	const struct rig *rig, const uint8_t *addr, sa_family_t family, uint16_t port)
{
	for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++) {
		struct net_addr backend = rig_backend_addr(rig, id);
		if (backend.family == family && rig_backend_port(rig, id) == port &&
			memcmp(addr, backend.v6, net_addr_size(family)) == 0)
			return true;
	}
	return false;
}

static bool is_vip(const uint8_t *addr, sa_family_t family, uint16_t port)
{
	struct net_addr vip = rig_vip(family);

	return memcmp(addr, vip.v6, net_addr_size(family)) == 0 && port == RIG_VIP_PORT;
}

static bool is_ip6(const uint8_t *frame)
{
	return frame[12] == 0x86 && frame[13] == 0xdd;
}

/* Where the payload of an IP packet begins, behind options and extension headers,
 * and what it is. */
static unsigned payload_of(const uint8_t *ip, uint8_t *protocol)
{
	unsigned at = 40;

	*protocol = ip[0] >> 4 == 4 ? ip[9] : ip[6];
	if (ip[0] >> 4 == 4)
		return (ip[0] & 0xf) * 4;
	while (*protocol != IPPROTO_TCP && *protocol != IPPROTO_ICMPV6) {
		unsigned size =
			*protocol == IPPROTO_AH ? (ip[at + 1] + 2) * 4 : (ip[at + 1] + 1) * 8;
		*protocol = ip[at];
		at += size;
	}
	return at;
}

/* How far a checksum is from what it should be, in one's complement. */
static unsigned error_of(uint16_t is, uint16_t should)
{
	return (ntohs(is) + 0xffffu - ntohs(should)) % 0xffff;
}

static unsigned tcp_error(const uint8_t *frame, unsigned l4)
{
	uint16_t is;

	memcpy(&is, frame + l4 + 16, 2);
	return error_of(is, packets_tcp_checksum(frame, l4));
}

static unsigned ip4_error(const uint8_t *frame)
{
	uint8_t copy[60];
	unsigned size = (frame[PACKETS_IP_OFFSET] & 0xf) * 4;
	uint16_t is;

	memcpy(copy, frame + PACKETS_IP_OFFSET, size);
	memcpy(&is, copy + 10, 2);
	memset(copy + 10, 0, 2);
	return error_of(is, packets_checksum(copy, size));
}

/* An IP header's source and destination, with the ports if there are any. */
struct tuple {
	const uint8_t *src, *dst;
	uint16_t sport, dport;
};

static struct tuple tuple_of(const uint8_t *ip, const uint8_t *tcp)
{
	bool v6 = ip[0] >> 4 == 6;
	const uint8_t *addrs = ip + (v6 ? 8 : 12);

	return (struct tuple){
		addrs, addrs + (v6 ? 16 : 4), tcp[0] << 8 | tcp[1], tcp[2] << 8 | tcp[3]};
}

/* What both sides' packets have in common: link header, addresses, TTL, and the IPv4 header's
 * checksum. `masked` is the outgoing frame, in which all that may change is set back. */
static void check_and_mask_ip(const uint8_t *before, const uint8_t *after, uint8_t *masked)
{
	bool v6 = is_ip6(after);
	unsigned addrs_at = PACKETS_IP_OFFSET + (v6 ? 8 : 12),
		 ttl_at = PACKETS_IP_OFFSET + (v6 ? 7 : 8);
	struct net_mac mac = rig_mac();

	check(memcmp(after + 6, &mac, 6) == 0);
	memcpy(masked, before, 12);
	memcpy(masked + addrs_at, before + addrs_at, v6 ? 32 : 8);
	check(before[ttl_at] > 1 && after[ttl_at] == before[ttl_at] - 1);
	masked[ttl_at] = before[ttl_at];
	if (!v6) {
		memcpy(masked + PACKETS_IP_OFFSET + 10, before + PACKETS_IP_OFFSET + 10, 2);
		check(ip4_error(after) == ip4_error(before)); // I4, B11
	}
}

static uint32_t number_at(const uint8_t *field)
{
	return (uint32_t)field[0] << 24 | field[1] << 16 | field[2] << 8 | field[3];
}

static void number_add(uint8_t *field, uint32_t by)
{
	uint32_t number = number_at(field) + by;

	for (unsigned i = 0; i < 4; i++)
		field[i] = number >> (24 - 8 * i);
}

/* The option of that kind and size (0 = any) from `at` on; 0 = none. */
static unsigned option_at(const uint8_t *tcp, unsigned at, uint8_t kind, uint8_t size)
{
	unsigned end = (tcp[12] >> 4) * 4;

	for (; at + 1 < end && tcp[at] != 0; at += tcp[at] == 1 ? 1 : tcp[at + 1]) {
		if (tcp[at] != 1 && (tcp[at + 1] < 2 || at + tcp[at + 1] > end))
			break;
		if (tcp[at] == kind && (size == 0 || tcp[at + 1] == size))
			return at;
	}
	return 0;
}

/* Whether there has been a flow whose numbers are moved. Another worker may be counting: a look at
 * its counter, old or new, is enough here. */
static __attribute__((no_sanitize("thread"))) bool moves_numbers(const struct rig *rig)
{
	uint64_t renumbered = 0;

	for (unsigned w = 0; w < rig->options.nb_workers; w++)
		renumbered += rig->workers[w].stats->live.flows[0].renumbered +
			rig->workers[w].stats->live.flows[1].renumbered;
	return renumbered != 0;
}

/*
 * Undo in a packet that came out what was done to the client's numbers: all of them moved by the
 * same, nothing else.
 */
static void move_back(const struct rig *rig, uint8_t *tcp, const uint8_t *before, bool to_backend)
{
	bool has_ack = before[13] & TCP_ACK;
	unsigned number = to_backend ? 4 : 8, ts = to_backend ? 2 : 6;
	unsigned first = option_at(before, 20, 8, 10);
	uint32_t seq_by = number_at(before + number) - number_at(tcp + number), ts_by = 0;

	if (first != 0)
		ts_by = number_at(before + first + ts) - number_at(tcp + first + ts);
	check((seq_by == 0 && ts_by == 0) || (moves_numbers(rig) && (to_backend || has_ack)));
	number_add(tcp + number, seq_by);
	for (unsigned at = first; at != 0; at = option_at(before, at + 10, 8, 10))
		number_add(tcp + at + ts, ts_by);
	for (unsigned at = option_at(before, 20, 5, 0); at != 0 && !to_backend;
		at = option_at(before, at + before[at + 1], 5, 0))
		for (unsigned edge = 0; edge < (before[at + 1] - 2u) / 8 * 2; edge++)
			number_add(tcp + at + 2 + edge * 4, seq_by);
}

static void check_forwarded(const struct rig *rig, const uint8_t *before, const uint8_t *after,
	unsigned size, unsigned l4)
{
	sa_family_t family = is_ip6(after) ? AF_INET6 : AF_INET;
	struct tuple tuple = tuple_of(after + PACKETS_IP_OFFSET, after + l4);
	uint8_t masked[PACKETS_SIZE_MAX];

	// I3: the tuple is that of one side.
	bool to_backend = is_snat(rig, tuple.src, family, tuple.sport) &&
		is_backend(rig, tuple.dst, family, tuple.dport);
	bool to_client = is_vip(tuple.src, family, tuple.sport) &&
		!is_snat(rig, tuple.dst, family, tuple.dport);
	check(to_backend != to_client);
	// All but link header, addresses, ports, TTL and checksums is as it was.
	memcpy(masked, after, size);
	check_and_mask_ip(before, after, masked);
	memcpy(masked + l4, before + l4, 4);
	memcpy(masked + l4 + 16, before + l4 + 16, 2);
	move_back(rig, masked + l4, before + l4, to_backend);
	check(memcmp(masked, before, size) == 0);
	check(tcp_error(after, l4) == tcp_error(before, l4)); // I4, B11
}

/* The sum that a quoted TCP checksum is about, over as much of the packet as is there. */
static uint16_t quoted_sum(const uint8_t *ip, unsigned tcp, unsigned size)
{
	uint8_t copy[PACKETS_SIZE_MAX];
	unsigned addrs_size = ip[0] >> 4 == 6 ? 32 : 8;

	memcpy(copy, ip + (ip[0] >> 4 == 6 ? 8 : 12), addrs_size);
	memcpy(copy + addrs_size, ip + tcp, size - tcp);
	return packets_checksum(copy, addrs_size + size - tcp);
}

/* An ICMP error: B16. */
static void check_forwarded_error(const struct rig *rig, const uint8_t *before,
	const uint8_t *after, unsigned size, unsigned icmp)
{
	bool v6 = is_ip6(after);
	sa_family_t family = v6 ? AF_INET6 : AF_INET;
	const uint8_t *ip = after + PACKETS_IP_OFFSET;
	unsigned quote = icmp + 8, addrs_at = quote + (v6 ? 8 : 12),
		 addr_size = net_addr_size(family);
	unsigned end = PACKETS_IP_OFFSET + (v6 ? 40 + (ip[4] << 8 | ip[5]) : ip[2] << 8 | ip[3]);
	uint8_t protocol, masked[PACKETS_SIZE_MAX];
	unsigned tcp = quote + payload_of(after + quote, &protocol);

	check(protocol == IPPROTO_TCP && tcp + 8 <= end && end <= size);
	// I3: outside and inside it is all of one side.
	struct tuple outer = tuple_of(ip, after + tcp);
	struct tuple inner = tuple_of(after + quote, after + tcp);
	bool to_backend = is_backend(rig, inner.src, family, inner.sport) &&
		is_snat(rig, inner.dst, family, inner.dport);
	bool to_client = is_vip(inner.dst, family, inner.dport) &&
		!is_snat(rig, inner.src, family, inner.sport);
	check(to_backend != to_client);
	check(memcmp(outer.src, inner.dst, addr_size) == 0);
	check(memcmp(outer.dst, inner.src, addr_size) == 0);
	// I4: of the message, of the quoted IP header, and of quoted TCP if it is there.
	check(packets_l4_right(after, icmp, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP));
	check(v6 || packets_checksum(after + quote, (after[quote] & 0xf) * 4) == 0);
	// RFC 4884: where the packet ends and extensions begin.
	unsigned words = v6 ? (after[icmp] == 1 || after[icmp] == 3 ? after[icmp + 4] * 8 : 0)
			    : (after[icmp] != 4 ? after[icmp + 5] * 4 : 0);
	if (words != 0 && quote + words < end)
		end = quote + words;
	check(tcp + 8 <= end);
	memcpy(masked, after, size);
	check_and_mask_ip(before, after, masked);
	memcpy(masked + icmp + 2, before + icmp + 2, 2);
	if (!v6)
		memcpy(masked + quote + 10, before + quote + 10, 2);
	memcpy(masked + addrs_at, before + addrs_at, addr_size * 2);
	memcpy(masked + tcp, before + tcp, 4);
	if (tcp + 20 <= end && tcp + (after[tcp + 12] >> 4) * 4 <= end)
		move_back(rig, masked + tcp, before + tcp, to_client);
	else if (moves_numbers(rig))
		memcpy(masked + tcp + 4, before + tcp + 4, tcp + 12 <= end ? 8 : 4);
	if (tcp + 18 <= end) {
		memcpy(masked + tcp + 16, before + tcp + 16, 2);
		check(error_of(quoted_sum(after + quote, tcp - quote, end - quote),
			      quoted_sum(before + quote, tcp - quote, end - quote)) == 0);
	}
	check(memcmp(masked, before, size) == 0);
}

static void check_sent_on(
	const struct rig *rig, const struct rig_frame *in, const struct rig_packet *out)
{
	uint8_t protocol;
	unsigned l4 = PACKETS_IP_OFFSET + payload_of(out->frame + PACKETS_IP_OFFSET, &protocol);

	check(out->size == in->size);
	if (protocol == IPPROTO_TCP)
		check_forwarded(rig, in->bytes, out->frame, out->size, l4);
	else
		check_forwarded_error(rig, in->bytes, out->frame, out->size, l4);
}

static void check_answered(const struct rig_frame *in, const struct rig_packet *out)
{
	const uint8_t *before = in->bytes;
	bool v6 = is_ip6(out->frame);
	unsigned addrs = PACKETS_IP_OFFSET + (v6 ? 8 : 12), size = v6 ? 16 : 4;
	struct net_mac mac = rig_mac();

	check(packets_checksums_right(out->frame, out->size, 0)); // I4
	check(memcmp(out->frame, before + 6, 6) == 0);
	check(memcmp(out->frame + 6, &mac, 6) == 0);
	check(memcmp(out->frame + addrs, before + addrs + size, size) == 0);
	check(memcmp(out->frame + addrs + size, before + addrs, size) == 0);
	uint8_t protocol = out->frame[PACKETS_IP_OFFSET + (v6 ? 6 : 9)];
	check(protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 ||
		out->segment.flags & TCP_RST);
	check(out->size <= 1280 + PACKETS_IP_OFFSET);
	if (protocol == IPPROTO_TCP) { // F9
		check(out->size <= in->size);
		check(out->segment.options_size == 0 && out->segment.payload_size == 0);
	}
}

/* A client's SYN that Weir sends on by itself: to a backend, whole. */
static void check_moved_syn(const struct rig *rig, const struct rig_packet *out)
{
	const struct segment *syn = &out->segment;
	struct net_mac mac = rig_mac();

	check(is_snat(rig, syn->src.v6, syn->src.family, syn->sport)); // I3
	check(is_backend(rig, syn->dst.v6, syn->dst.family, syn->dport));
	check((syn->flags & 0x3f) == TCP_SYN && syn->ttl > 0);
	check(memcmp(out->frame + 6, &mac, 6) == 0);
}

/* Ends a client's or a backend's waiting: of the service, and right. */
static void check_reset(const struct rig *rig, const struct rig_packet *out)
{
	const struct segment *rst = &out->segment;
	sa_family_t family = rst->src.family;
	struct net_mac mac = rig_mac();

	check(is_vip(rst->src.v6, family, rst->sport) ||
		(is_snat(rig, rst->src.v6, family, rst->sport) &&
			is_backend(rig, rst->dst.v6, family, rst->dport))); // I3

	check(packets_checksums_right(out->frame, out->size, 0)); // I4
	check(out->segment.flags & TCP_RST);
	check(memcmp(out->frame + 6, &mac, 6) == 0);
}

static bool is_moved_syn(const struct rig_packet *out)
{
	return out->is_tcp && out->segment.flags & TCP_SYN;
}

static void keep(struct rig_packet *out, const struct rte_mbuf *mbuf, enum rig_fate fate)
{
	check(out->fate == RIG_PUNTED + PUNT_CLASSES); // in no burst before
	out->fate = fate;
	out->size = rte_pktmbuf_data_len(mbuf);
	check(out->size <= sizeof(out->frame) && rte_pktmbuf_pkt_len(mbuf) == out->size);
	memcpy(out->frame, rte_pktmbuf_mtod(mbuf, const void *), out->size);
	out->is_tcp = packets_read(out->frame, out->size, &out->segment);
}

static void take(struct rig_packet *out, struct pipeline_out *burst, enum rig_fate fate,
	struct rte_mbuf *const *mbufs, unsigned count)
{
	for (uint32_t i = 0; i < burst->count; i++) {
		unsigned at = 0;
		while (at < count && mbufs[at] != burst->mbufs[i])
			at++;
		check(at < count);
		keep(&out[at], mbufs[at], fate);
		out[at].place = i;
	}
	burst->count = 0;
}

static void count_out(struct rig *rig, unsigned worker)
{
	struct pipeline *pipeline = &rig->workers[worker].pipeline;
	struct stats_counters *live = &pipeline->stats->live;

	// As the worker does: who sends counts; answers and drops are counted already.
	live->forwarded += pipeline->forward.count;
	for (unsigned class = 0; class < PUNT_CLASSES; class ++)
		live->punted += pipeline->punt[class].count;
}

/* What a frame is for all behind the parser: one without tags of VLAN 0. */
static struct rig_frame untagged(const struct rig_frame *frame, uint8_t bytes[PACKETS_SIZE_MAX])
{
	unsigned size = frame->size;

	check(size <= PACKETS_SIZE_MAX);
	memcpy(bytes, frame->bytes, size);
	while (size >= 18 &&
		(memcmp(bytes + 12, "\x81\x00", 2) == 0 ||
			memcmp(bytes + 12, "\x88\xa8", 2) == 0) &&
		bytes[14] % 16 == 0 && bytes[15] == 0) {
		size -= 4;
		memmove(bytes + 12, bytes + 16, size - 12);
	}
	return (struct rig_frame){bytes, size};
}

/* A packet that the pipeline has made itself. */
static void take_made(struct rig *rig, unsigned worker, struct rte_mbuf *mbuf)
{
	struct rig_worker *own = &rig->workers[worker];
	struct rig_packet *out = &own->made[own->nb_made++ % RIG_MADE];

	out->fate = RIG_PUNTED + PUNT_CLASSES;
	keep(out, mbuf, RIG_ANSWERED);
	check(out->is_tcp);
	if (is_moved_syn(out))
		check_moved_syn(rig, out);
	else
		check_reset(rig, out);
	packets_free(mbuf);
}

/* Resets to backends, among the answers to what came in. */
static void take_resets(
	struct rig *rig, unsigned worker, struct rte_mbuf *const *mbufs, unsigned count)
{
	struct pipeline_out *reply = &rig->workers[worker].pipeline.reply;
	uint32_t nb_left = 0;

	for (uint32_t i = 0; i < reply->count; i++) {
		unsigned at = 0;
		while (at < count && mbufs[at] != reply->mbufs[i])
			at++;
		if (at < count)
			reply->mbufs[nb_left++] = reply->mbufs[i];
		else
			take_made(rig, worker, reply->mbufs[i]);
	}
	reply->count = nb_left;
}

void rig_run(struct rig *rig, unsigned worker, const struct rig_frame *frames, unsigned count)
{
	struct pipeline *pipeline = &rig->workers[worker].pipeline;
	struct stats_counters *live = &pipeline->stats->live;
	struct rig_packet *results = rig->workers[worker].out;
	struct rte_mbuf *mbufs[PIPELINE_BURST];

	check(count <= PIPELINE_BURST);
	for (unsigned i = 0; i < count; i++) {
		mbufs[i] = packets_mbuf(frames[i].bytes, frames[i].size);
		results[i].fate = RIG_PUNTED + PUNT_CLASSES;
	}
	uint64_t answered = live->answered, dropped = stats_dropped(live);
	pipeline_run(pipeline, mbufs, count, __atomic_load_n(&rig->now_ms, __ATOMIC_RELAXED));
	take_resets(rig, worker, mbufs, count);
	check(live->answered - answered == pipeline->reply.count);
	check(stats_dropped(live) - dropped == pipeline->drop.count);
	count_out(rig, worker);
	check(live->received ==
		live->forwarded + live->answered + live->punted + stats_dropped(live)); // I1
	take(results, &pipeline->forward, RIG_FORWARDED, mbufs, count);
	take(results, &pipeline->reply, RIG_ANSWERED, mbufs, count);
	take(results, &pipeline->drop, RIG_DROPPED, mbufs, count);
	for (unsigned class = 0; class < PUNT_CLASSES; class ++)
		take(results, &pipeline->punt[class], RIG_PUNTED + class, mbufs, count);
	for (unsigned i = 0; i < count; i++) {
		const struct rig_packet *out = &results[i];
		uint8_t bytes[PACKETS_SIZE_MAX];
		struct rig_frame frame = untagged(&frames[i], bytes);
		check(out->fate < RIG_PUNTED + PUNT_CLASSES);
		if (out->fate == RIG_FORWARDED)
			check_sent_on(rig, &frame, out);
		else if (out->fate == RIG_ANSWERED && is_moved_syn(out))
			check_moved_syn(rig, out);
		else if (out->fate == RIG_ANSWERED)
			check_answered(&frame, out);
		else
			check(out->size == frame.size &&
				memcmp(out->frame, frame.bytes, out->size) == 0);
		packets_free(mbufs[i]);
	}
}

const struct rig_packet *rig_run_frame(
	struct rig *rig, unsigned worker, const void *frame, unsigned size)
{
	rig_run(rig, worker, &(struct rig_frame){frame, size}, 1);
	return &rig->workers[worker].out[0];
}

const struct rig_packet *rig_run_segment(
	struct rig *rig, unsigned worker, const struct segment *segment)
{
	uint8_t frame[PACKETS_SIZE_MAX];

	return rig_run_frame(rig, worker, frame, packets_build(segment, frame));
}

bool rig_tick(struct rig *rig, unsigned worker, uint64_t now_ms, uint32_t budget)
{
	struct pipeline *pipeline = &rig->workers[worker].pipeline;
	bool more = pipeline_tick(pipeline, now_ms, budget);

	check(pipeline->forward.count == 0);
	for (uint32_t i = 0; i < pipeline->reply.count; i++)
		take_made(rig, worker, pipeline->reply.mbufs[i]);
	for (uint32_t i = 0; i < pipeline->drop.count; i++)
		packets_free(pipeline->drop.mbufs[i]);
	pipeline->reply.count = pipeline->drop.count = 0;
	return more;
}

void rig_wait(struct rig *rig, uint64_t ms, uint64_t step_ms)
{
	for (uint64_t end = rig->now_ms + ms; rig->now_ms < end;) {
		rig->now_ms += end - rig->now_ms < step_ms ? end - rig->now_ms : step_ms;
		for (unsigned worker = 0; worker < rig->options.nb_workers; worker++)
			while (rig_tick(rig, worker, rig->now_ms, UINT32_MAX))
				;
	}
}

uint64_t rig_dropped(const struct rig *rig, enum stats_drop reason)
{
	uint64_t sum = 0;

	for (unsigned worker = 0; worker < rig->options.nb_workers; worker++)
		sum += rig->workers[worker].stats->live.drops[reason];
	return sum;
}

uint64_t rig_created(const struct rig *rig)
{
	uint64_t sum = 0;

	for (unsigned worker = 0; worker < rig->options.nb_workers; worker++)
		sum += rig->workers[worker].stats->live.flows[0].created +
			rig->workers[worker].stats->live.flows[1].created;
	return sum;
}

uint32_t rig_ports_used(const struct rig *rig)
{
	uint32_t sum = 0;

	for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++)
		for (unsigned n = 0; n < rig->options.nb_snats; n++)
			sum += snat_pool_used(rig->pools[id][n]);
	return sum;
}

unsigned rig_side_records(const struct rig *rig, sa_family_t family)
{
	const struct flow_sides *sides = rig_flows(rig, family)->sides;
	unsigned used = 0;

	for (uint32_t i = 0; i < sides->count; i++)
		used += sides->records[i].owner != 0;
	return used;
}

struct stats_connect *rig_connects(struct rig *rig, unsigned worker, unsigned id)
{
	return &rig->workers[worker].connects[id];
}

const struct rig_packet *rig_last_made(const struct rig *rig, unsigned worker)
{
	const struct rig_worker *own = &rig->workers[worker];

	return own->nb_made == 0 ? NULL : &own->made[(own->nb_made - 1) % RIG_MADE];
}

/* --- a connection --- */

struct connection connection_of(struct rig *rig, sa_family_t family, uint32_t number)
{
	struct connection connection = {
		.rig = rig,
		.family = family,
		.ttl = 57,
		.mac = {{2, 0, 0, 0xc, number >> 8, number}},
		.client = packets_addr(family == AF_INET6 ? "2001:db8:2::" : "198.51.0.0"),
		.client_port = 1024 + number % 60000,
		.seq = {0xfffffff0u + number * 77777, 0x80000000u - number * 33333},
	};
	unsigned at = net_addr_size(family);

	connection.client.v6[at - 1] = 1 + number % 250;
	connection.client.v6[at - 2] = number / 250;
	return connection;
}

struct segment connection_segment(
	const struct connection *connection, enum flow_direction direction, uint8_t flags)
{
	bool from_client = direction == FLOW_FROM_CLIENT;

	return (struct segment){
		.from = from_client ? connection->mac : rig_backend_mac(connection->backend_id),
		.to = rig_mac(),
		.src = from_client ? connection->client : connection->backend,
		.dst = from_client ? rig_vip(connection->family) : connection->snat,
		.sport = from_client ? connection->client_port : connection->backend_port,
		.dport = from_client ? RIG_VIP_PORT : connection->snat_port,
		.seq = connection->seq[direction],
		.ack = flags & TCP_ACK ? connection->seq[1 - direction] : 0,
		.flags = flags,
		.ttl = connection->ttl,
		.window = 5000,
	};
}

/* What was forwarded to a backend says who it is. */
static void learn(struct connection *connection, const struct segment *segment)
{
	struct rig *rig = connection->rig;

	connection->snat = segment->src;
	connection->snat_port = segment->sport;
	connection->backend = segment->dst;
	connection->backend_port = segment->dport;
	for (unsigned id = 0; id < 2 * rig->options.nb_backends; id++) {
		struct net_addr addr = rig_backend_addr(rig, id);
		if (net_addr_equal(&addr, &segment->dst) &&
			rig_backend_port(rig, id) == segment->dport)
			connection->backend_id = id;
	}
	struct net_mac mac = rig_backend_mac(connection->backend_id);
	check(net_mac_equal(&segment->to, &mac));
}

bool connection_syn(struct connection *connection, unsigned worker)
{
	struct segment segment = connection_segment(connection, FLOW_FROM_CLIENT, TCP_SYN);
	const struct rig_packet *out = rig_run_segment(connection->rig, worker, &segment);

	if (out->fate != RIG_FORWARDED)
		return false;
	check(out->is_tcp);
	learn(connection, &out->segment);
	connection->seq[FLOW_FROM_CLIENT] = segment.seq + 1;
	return true;
}

void connection_send(struct connection *connection, unsigned worker, enum flow_direction direction,
	uint8_t flags, unsigned payload)
{
	struct segment in = connection_segment(connection, direction, flags);

	in.payload_size = payload;
	const struct rig_packet *out = rig_run_segment(connection->rig, worker, &in);
	check(out->fate == RIG_FORWARDED && out->is_tcp);
	struct segment at_other_end = connection_segment(connection, 1 - direction, 0);
	check(net_addr_equal(&out->segment.src, &at_other_end.dst));
	check(net_addr_equal(&out->segment.dst, &at_other_end.src));
	check(out->segment.sport == at_other_end.dport && out->segment.dport == at_other_end.sport);
	check(net_mac_equal(&out->segment.to, &at_other_end.from));
	check(out->segment.ttl == in.ttl - 1);
	connection->seq[direction] += payload + !!(flags & TCP_SYN) + !!(flags & TCP_FIN);
}

bool connection_open(struct connection *connection, unsigned worker)
{
	if (!connection_syn(connection, worker))
		return false;
	connection_send(connection, worker, FLOW_FROM_BACKEND, TCP_SYN | TCP_ACK, 0);
	connection_send(connection, worker, FLOW_FROM_CLIENT, TCP_ACK, 0);
	return true;
}

struct connection connection_in_use(struct rig *rig, sa_family_t family, uint32_t number)
{
	struct connection connection = connection_of(rig, family, number);

	check(connection_open(&connection, 0));
	connection_send(&connection, 0, CLIENT, TCP_ACK | TCP_PSH, 500);
	connection_send(&connection, 0, BACKEND, TCP_ACK | TCP_PSH, 700);
	connection_send(&connection, 0, CLIENT, TCP_ACK, 0);
	check(connection_state(&connection) == TCP_ESTABLISHED);
	return connection;
}

struct flow *connection_flow(const struct connection *connection)
{
	struct flow_table *flows = rig_flows(connection->rig, connection->family);
	unsigned size = net_addr_size(connection->family);
	struct net_addr vip = rig_vip(connection->family);
	uint16_t port_pair[] = {htons(connection->client_port), htons(RIG_VIP_PORT)};
	uint8_t addrs[32];
	uint32_t ports;

	memcpy(addrs, connection->client.v6, size);
	memcpy(addrs + size, vip.v6, size);
	memcpy(&ports, port_pair, sizeof(ports));
	uint32_t entry = flow_table_find(
		flows, flow_hash(&flows->hasher, connection->family, addrs, ports), addrs, ports);
	return entry == FLOW_NOT_FOUND ? NULL : flow_entry_flow(flows, entry);
}

enum tcp_state connection_state(const struct connection *connection)
{
	struct flow *flow = connection_flow(connection);

	return flow == NULL ? TCP_NONE : flow_state(flow);
}
