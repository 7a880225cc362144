/* SPDX-License-Identifier: BSD-3-Clause */
#include "pipeline.h"

#include <rte_mbuf.h>

#include "nat.h"
#include "nat_shift.h"
#include "packet.h"
#include "probe_ports.h"
#include "track.h"

#define STRIDE 8 // packets parsed before their buckets are asked for

static const uint8_t drop_by_kind[] = {
	[PACKET_RUNT] = STATS_DROP_RUNT,
	[PACKET_WRONG_MAC] = STATS_DROP_WRONG_MAC,
	[PACKET_BAD_IP] = STATS_DROP_BAD_IP,
	[PACKET_BAD_TCP] = STATS_DROP_BAD_TCP,
	[PACKET_FRAGMENT] = STATS_DROP_FRAGMENT,
	[PACKET_EXTENSION_HEADERS] = STATS_DROP_EXTENSION_HEADERS,
	[PACKET_BAD_ICMP] = STATS_DROP_BAD_ICMP,
	[PACKET_BAD_ND] = STATS_DROP_BAD_ND,
};

void pipeline_init(struct pipeline *pipeline)
{
	static const uint16_t defaults[TCP_STATES] = {
		[TCP_SYN_SENT] = 240,
		[TCP_SYN_RECV] = 240,
		[TCP_SYN_SENT2] = 240,
		[TCP_ESTABLISHED] = 7440,
		[TCP_FIN_WAIT] = 240,
		[TCP_CLOSE_WAIT] = 240,
		[TCP_LAST_ACK] = 240,
		[TCP_TIME_WAIT] = 60,
		[TCP_CLOSE] = 60,
	};

	memcpy(pipeline->timeout_s, defaults, sizeof(defaults));
	memcpy(pipeline->least_timeout_s, defaults, sizeof(defaults));
	pipeline->reset_rate.rate = 1000;
	pipeline->icmp_rate.rate = 100;
}

bool pipeline_rate_allows(struct pipeline_rate *rate, uint64_t now_ms)
{
	uint64_t due = (now_ms - rate->filled_ms) * rate->rate / 1000;

	if (due != 0) {
		rate->tokens = RTE_MIN(rate->tokens + due, (uint64_t)RTE_MAX(rate->rate / 10, 1u));
		rate->filled_ms = now_ms;
	}
	if (rate->tokens == 0)
		return false;
	rate->tokens--;
	return true;
}

/* Whether a packet for the kernel that comes from a backend's or gateway's address is the answer to
 * a probe. */
static bool answers_probe(const struct pipeline *pipeline, const struct packet *packet)
{
	return packet->kind == PACKET_TCP && pipeline->probe_ports != NULL &&
		probe_ports_has(pipeline->probe_ports, packet->tcp->dst_port);
}

void pipeline_punt(
	struct pipeline *pipeline, const struct service_table *table, const struct packet *packet)
{
	enum punt_class class = PUNT_REST;

	if (packet->kind == PACKET_ARP)
		class = PUNT_ARP;
	else if (packet->kind == PACKET_ND)
		class = PUNT_ND;
	else if (packet->family != 0 &&
		service_find(table, SERVICE_KEY_HOST, packet->family, packet_addrs(packet), 0) !=
			SERVICE_NONE)
		class = answers_probe(pipeline, packet) ? PUNT_PROBE : PUNT_BACKEND;
	pipeline_out_add(&pipeline->punt[class], packet->mbuf);
}

/* --- known flows --- */

/* The link header of a packet that goes out: 12 bytes by two stores. */
static inline void write_ether(uint8_t *frame, uint64_t to, const struct net_mac *from)
{
	uint16_t from_head;
	uint32_t from_tail;

	memcpy(&from_head, from->bytes, sizeof(from_head));
	memcpy(&from_tail, from->bytes + sizeof(from_head), sizeof(from_tail));
	to &= FLOW_MAC_OF_WORD;
#if RTE_BYTE_ORDER == RTE_LITTLE_ENDIAN
	to |= (uint64_t)from_head << 48;
#else
	to |= from_head;
#endif
	memcpy(frame, &to, sizeof(to));
	memcpy(frame + sizeof(to), &from_tail, sizeof(from_tail));
}

/* The packet's sender, and the bytes behind it. */
static inline uint64_t sender_word(const struct packet *packet)
{
	uint64_t word;

	memcpy(&word, packet->l3 - sizeof(struct rte_ether_hdr) + RTE_ETHER_ADDR_LEN, sizeof(word));
	return word;
}

static bool is_from_known_mac(const struct packet *packet, const struct flow *flow)
{
	uint64_t known = __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);

	return ((sender_word(packet) ^ known) & FLOW_MAC_OF_WORD) == 0;
}

static void learn_client_mac(const struct packet *packet, struct flow *flow)
{
	uint64_t known = __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);

	__atomic_store_n(&flow->client_word,
		(sender_word(packet) & FLOW_MAC_OF_WORD) | (known & ~FLOW_MAC_OF_WORD),
		__ATOMIC_RELAXED);
}

/*
 * Rewrite, count and put out. Which direction a packet goes can't be foreseen, so nothing here
 * branches by it: the next hop is picked by a conditional move.
 */
static inline void put_out(struct pipeline *pipeline, const struct packet *packet,
	struct flow *flow, enum flow_direction direction, uint32_t id,
	const struct service_backend *backend, sa_family_t family)
{
	uint8_t *frame = packet->l3 - sizeof(struct rte_ether_hdr);
	uint64_t client = __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);
	uint64_t next_hop; // and what lies behind it

	memcpy(&next_hop, &backend->next_hop, sizeof(next_hop));
	nat_fullnat(packet, flow, direction, family);
	write_ether(frame, direction == FLOW_FROM_CLIENT ? next_hop : client, &pipeline->mac);

	struct stats_backend *counters = &pipeline->backends[id];
	counters->packets[direction]++;
	counters->bytes[direction] += packet->ip_size;
	pipeline_out_add(&pipeline->forward, packet->mbuf);
}

/* The handshake is complete: how long the client took counts for its service. */
static void note_handshake(
	struct pipeline *pipeline, const struct service_table *table, const struct flow *flow)
{
	uint32_t service = table->backends[FLOW_BACKEND_ID(flow->backend)].service;

	if (service < table->nb_services)
		handshake_done(&pipeline->handshakes[service],
			flow_half_open_ms(flow, pipeline->now_us / 1000));
}

/*
 * What a segment changes. Whether its receiver takes it is a question of its checksum, too; that is
 * worth a look only where it changes more than how far its sender is. False: the flow is over, and
 * its record nobody's.
 */
static bool track(struct pipeline *pipeline, const struct service_table *table,
	const struct packet *packet, struct flow *flow, enum flow_direction direction)
{
	struct flow_table *flows = pipeline_flows(pipeline, packet->family);
	uint32_t side = __atomic_load_n(&flow->side, __ATOMIC_RELAXED);
	bool learns = direction == FLOW_FROM_CLIENT && !is_from_known_mac(packet, flow);
	bool is_sound = !(packet->flags & TRACK_STATE_FLAGS) && !learns &&
		track_is_seen(flow, pipeline->now_s);
	struct track track;

	track_begin(&track, flow, packet, direction);
	do { // again when another worker changed it in the meantime
		track_decide(&track, flow_status(flow));
		if (!track.counts)
			return track.status != TCP_NONE;
		is_sound = (is_sound && track.next == track.status) || packet_may_be_taken(packet);
		if (!is_sound)
			return true;
		track_before(&track);
	} while (track.next != track.status &&
		!pipeline_set_status(pipeline, table, flows, flow, track.status, track.next));
	if (track.status == TCP_SYN_SENT && track.next != track.status)
		pipeline_connect_end(pipeline, table, flows, flow, side,
			direction == FLOW_FROM_BACKEND && track.next != TCP_CLOSE);
	if (track.status == TCP_SYN_RECV && tcp_state_open(tcp_status_state(track.next)))
		note_handshake(pipeline, table, flow); // before its place is an acknowledgement's
	track_behind(&track);
	if (learns)
		learn_client_mac(packet, flow);
	track_seen(flow, pipeline->now_s);
	return true;
}

void pipeline_forward(struct pipeline *pipeline, const struct service_table *table,
	struct packet *packet, struct flow *flow, enum flow_direction direction)
{
	uint32_t id = FLOW_BACKEND_ID(flow->backend);

	if (id >= table->nb_backends ||
		(direction == FLOW_FROM_CLIENT && table->backends[id].tag != flow->backend)) {
		pipeline_drop(pipeline, packet->mbuf, STATS_DROP_NO_NEIGHBOUR);
		return;
	}
	if (unlikely(!track(pipeline, table, packet, flow, direction) &&
		    direction == FLOW_FROM_BACKEND)) {
		// Moved to another backend since it was found: this one's answer is no client's.
		pipeline_new_flow(pipeline, table, packet, pipeline->now_us / 1000);
		return;
	}
	if (flow_has(flow, FLOW_TRANSLATED)) {
		struct flow_offsets offsets = flow_offsets(flow);
		nat_shift(packet, direction, &offsets);
	}
	put_out(pipeline, packet, flow, direction, id, &table->backends[id], packet->family);
}

/*
 * Whether a client's SYN takes the place of its flow: of one that is over; and of one that is open
 * when its backend can't answer it, for else that one says whether it has the connection yet.
 */
static bool starts_anew(const struct service_table *table, const struct packet *packet,
	const struct flow *flow, enum flow_direction direction)
{
	uint32_t id = FLOW_BACKEND_ID(flow->backend);
	enum tcp_state state = flow_state(flow);

	if (direction != FLOW_FROM_CLIENT || !pipeline_is_first_syn(packet->flags))
		return false;
	bool is_dead = id >= table->nb_backends || table->backends[id].tag != flow->backend ||
		table->backends[id].down;
	return (tcp_state_closed(state) || (tcp_state_open(state) && is_dead)) &&
		packet_may_be_taken(packet);
}

/*
 * Whatever isn't an established flow's plain segment. `entry` is the one with the packet's
 * signature, or none; unless it `matches` the tuple may be another's.
 */
static __attribute__((noinline)) void process_other(struct pipeline *pipeline,
	const struct service_table *table, struct packet *packet, uint32_t entry, bool matches,
	uint64_t now_ms)
{
	struct flow_table *flows = pipeline_flows(pipeline, packet->family);

	// No bucket carries the signature: no need to look again, but for flows that are made or
	// moved meanwhile.
	if (pipeline->nb_syns != 0 && !(packet->flags & RTE_TCP_SYN_FLAG))
		pipeline_admit(pipeline, table, packet->family, now_ms);
	// A flow whose tuple was seen to match is known, unless it is gone, or a SYN took its
	// place.
	else if (matches && flow_state(flow_entry_flow(flows, entry)) != TCP_NONE)
		goto known;
	if (entry != FLOW_NOT_FOUND || pipeline->look_again)
		entry = flow_table_find(flows, packet->hash, packet_addrs(packet), packet->ports);
known:
	// Who holds on to a connection that its client has given up meets no flow.
	if (entry == FLOW_NOT_FOUND || flow_has(flow_entry_flow(flows, entry), FLOW_DETACHED)) {
		pipeline_new_flow(pipeline, table, packet, now_ms);
		return;
	}

	struct flow *flow = flow_entry_flow(flows, entry);
	enum flow_direction direction = flow_entry_direction(entry);
	if (nat_ttl(packet, packet->family) <= 1) {
		pipeline_time_exceeded(pipeline, packet, now_ms);
	} else if (starts_anew(table, packet, flow, direction) &&
		flow_table_may_remove(flows, pipeline->worker)) {
		pipeline_leave_tuple(pipeline, table, flows, flow);
		pipeline_new_flow(pipeline, table, packet, now_ms);
	} else if (flow_state(flow) != TCP_SYN_SENT ||
		!pipeline_connect_packet(pipeline, table, flows, packet, flow, direction, now_ms)) {
		pipeline_forward(pipeline, table, packet, flow, direction);
	}
}

/* The common case, an established flow's plain segment; everything else goes to process_other(). */
static __rte_always_inline void process(struct pipeline *pipeline,
	const struct service_table *table, const struct flow_table *flows, struct packet *packet,
	uint32_t entry, sa_family_t family, uint64_t now_ms)
{
	bool matches = false;

	if (unlikely(entry == FLOW_NOT_FOUND))
		goto other;
	struct flow *flow = flow_entry_flow_of(flows, entry, family);
	enum flow_direction direction = flow_entry_direction(entry);
	matches = flow_matches(
		flow, direction, family, packet_addrs_of(packet, family), packet->ports);
	if (unlikely(!matches || !flow_is_plain(flow) || !track_is_plain(packet) ||
		    nat_ttl(packet, family) <= 1))
		goto other;
	uint32_t id = FLOW_BACKEND_ID(flow->backend);
	const struct service_backend *backend = &table->backends[id];
	if (unlikely(id >= table->nb_backends || backend->tag != flow->backend))
		goto other;
	// A client's packet must come from the MAC that is known; the mask spares a branch that is
	// taken as often as not.
	uint64_t from_client = (uint64_t)direction - 1;
	uint64_t differs =
		sender_word(packet) ^ __atomic_load_n(&flow->client_word, __ATOMIC_RELAXED);
	if (unlikely((differs & FLOW_MAC_OF_WORD & from_client) != 0))
		goto other;
	// What its receiver drops keeps no flow alive (case A16): the first one of a second is
	// summed.
	if (unlikely(!track_is_seen(flow, pipeline->now_s))) {
		if (unlikely(!packet_may_be_taken(packet)))
			goto other;
		track_seen(flow, pipeline->now_s);
	}
	track_numbers(flow, packet, direction);
	put_out(pipeline, packet, flow, direction, id, backend, family);
	return;
other:
	process_other(pipeline, table, packet, entry, matches, now_ms);
}

/* The TCP packets of one family in a burst, in the order they came. */
struct burst {
	struct packet packets[PIPELINE_BURST];
	const struct flow_bucket *buckets[PIPELINE_BURST]; // where each is looked up first
	uint32_t count;
	uint32_t hashed;      // so many of them have their hash, and their bucket was asked for
	union flow_span span; // of the index, when the first was looked up
};

/* Hash what has been parsed since, and ask for the buckets. */
static __rte_always_inline void hash_parsed(struct pipeline *pipeline,
	const struct flow_table *flows, struct burst *burst, sa_family_t family)
{
	if (burst->hashed == burst->count || unlikely(flows == NULL))
		return;
	if (burst->hashed == 0)
		burst->span = flow_index_span(&flows->index);
	flow_hash_burst(pipeline->hasher, family, burst->packets + burst->hashed,
		burst->count - burst->hashed);
	for (uint32_t i = burst->hashed; i < burst->count; i++) {
		burst->buckets[i] = &flows->index.buckets[flow_hash_primary(
			burst->span.settled, burst->packets[i].hash)];
		rte_prefetch0(burst->buckets[i]);
	}
	burst->hashed = burst->count;
}

/* The look-up: each pass asks for what the next one reads, so that the misses of the whole burst
 * overlap. */
static __rte_always_inline void run_family(struct pipeline *pipeline,
	const struct service_table *table, struct burst *burst, sa_family_t family, uint64_t now_ms)
{
	const struct flow_table *flows = pipeline_flows(pipeline, family);
	struct packet *packets = burst->packets;
	uint32_t entries[PIPELINE_BURST];
	uint32_t count = burst->count, missing = 0;

	if (count == 0)
		return;
	if (unlikely(flows == NULL)) {
		for (uint32_t i = 0; i < count; i++)
			pipeline_new_flow(pipeline, table, &packets[i], now_ms);
		return;
	}

	// While the index grows, a flow that isn't where it is looked for first may be elsewhere.
	pipeline->look_again = flow_span_is_growing(burst->span);
	const struct flow_bucket *buckets = flows->index.buckets;
	uint32_t nb_buckets = burst->span.settled;
	for (uint32_t i = 0; i < count; i++) {
		entries[i] = flow_bucket_candidate(
			burst->buckets[i], flow_hash_signature(packets[i].hash));
		if (likely(entries[i] != FLOW_NOT_FOUND)) {
			flow_entry_prefetch(flows, entries[i], family);
		} else {
			missing++;
			rte_prefetch0(&buckets[flow_hash_secondary(nb_buckets, packets[i].hash)]);
		}
	}
	for (uint32_t i = 0; missing != 0; i++) {
		if (entries[i] != FLOW_NOT_FOUND)
			continue;
		missing--;
		entries[i] = flow_bucket_candidate(
			&buckets[flow_hash_secondary(nb_buckets, packets[i].hash)],
			flow_hash_signature(packets[i].hash));
		if (entries[i] != FLOW_NOT_FOUND)
			flow_entry_prefetch(flows, entries[i], family);
	}
	for (uint32_t i = 0; i < count; i++)
		process(pipeline, table, flows, &packets[i], entries[i], family, now_ms);
	if (unlikely(pipeline->nb_syns != 0))
		pipeline_admit(pipeline, table, family, now_ms);
}

/* Clients whose frames have a tag meet a kernel that doesn't serve them: who looks for the reason
 * finds this number. */
static void punt_tagged(
	struct pipeline *pipeline, const struct service_table *table, const struct packet *packet)
{
	pipeline->stats->live.tagged++;
	pipeline_punt(pipeline, table, packet);
}

/* What isn't plainly TCP. */
static __attribute__((noinline)) void sort_other(struct pipeline *pipeline,
	const struct service_table *table, struct burst *ip4, struct burst *ip6,
	struct rte_mbuf *mbuf, uint64_t own)
{
	struct packet *packet =
		packet_parse_other(&ip4->packets[ip4->count], &ip6->packets[ip6->count], mbuf, own);

	if (packet->kind == PACKET_TCP && packet->family == AF_INET)
		ip4->count++;
	else if (packet->kind == PACKET_TCP)
		ip6->count++;
	else if (packet->kind == PACKET_ARP || packet->kind == PACKET_ND ||
		packet->kind == PACKET_OTHER)
		pipeline_punt(pipeline, table, packet);
	else if (packet->kind == PACKET_ICMP_ERROR)
		pipeline_icmp_error(pipeline, table, packet);
	else if (packet->kind == PACKET_TAGGED)
		punt_tagged(pipeline, table, packet);
	else
		pipeline_drop(pipeline, packet->mbuf, drop_by_kind[packet->kind]);
}

/* Ask for the headers of the next packets. */
static __rte_always_inline void prefetch_headers(
	struct rte_mbuf *const *mbufs, uint32_t count, bool long_headers)
{
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], const uint8_t *);
		rte_prefetch0(frame);
		if (long_headers)
			rte_prefetch0(frame + RTE_CACHE_LINE_SIZE);
	}
}

void pipeline_run(
	struct pipeline *pipeline, struct rte_mbuf **mbufs, uint32_t count, uint64_t now_ms)
{
	// Acquire: the table is seen as it was before it was published.
	const struct service_table *table = __atomic_load_n(pipeline->services, __ATOMIC_ACQUIRE);
	uint64_t own = packet_own(&pipeline->mac);
	bool ip6_seen = pipeline->ip6_seen; // their headers reach into a second line
	struct burst ip4, ip6;

	ip4.count = ip4.hashed = ip6.count = ip6.hashed = 0;
	pipeline->now_s = pipeline_second(now_ms);
	pipeline->now_us = now_ms * 1000 + pipeline->now_part_us;
	pipeline->stats->live.received += count;
	for (uint32_t i = 0; i < count; i++)
		rte_prefetch0(mbufs[i]);
	prefetch_headers(mbufs, RTE_MIN(count, (uint32_t)STRIDE), ip6_seen);
	// A stride's buckets are on their way while the next stride is parsed.
	for (uint32_t at = 0; at < count; at += STRIDE) {
		uint32_t end = RTE_MIN(at + STRIDE, count);
		prefetch_headers(mbufs + end, RTE_MIN(count - end, (uint32_t)STRIDE), ip6_seen);
		for (uint32_t i = at; i < end; i++) {
			sa_family_t family = packet_parse_plain(
				&ip4.packets[ip4.count], &ip6.packets[ip6.count], mbufs[i], own);
			if (likely(family == AF_INET))
				ip4.count++;
			else if (likely(family == AF_INET6))
				ip6.count++;
			else
				sort_other(pipeline, table, &ip4, &ip6, mbufs[i], own);
		}
		hash_parsed(pipeline, pipeline->flows4, &ip4, AF_INET);
		hash_parsed(pipeline, pipeline->flows6, &ip6, AF_INET6);
	}
	pipeline->ip6_seen = ip6.count != 0;
	run_family(pipeline, table, &ip4, AF_INET, now_ms);
	run_family(pipeline, table, &ip6, AF_INET6, now_ms);
}
