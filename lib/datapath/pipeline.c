/* SPDX-License-Identifier: BSD-3-Clause */
#include "pipeline.h"

#include <rte_mbuf.h>

#include "nat.h"
#include "packet.h"

static const uint8_t drop_by_kind[] = {
	[PACKET_RUNT] = STATS_DROP_RUNT,
	[PACKET_WRONG_MAC] = STATS_DROP_WRONG_MAC,
	[PACKET_BAD_IP] = STATS_DROP_BAD_IP,
	[PACKET_BAD_TCP] = STATS_DROP_BAD_TCP,
	[PACKET_BAD_ADDRESS] = STATS_DROP_BAD_ADDRESS,
	[PACKET_FRAGMENT] = STATS_DROP_FRAGMENT,
	[PACKET_EXTENSION_HEADERS] = STATS_DROP_EXTENSION_HEADERS,
};

void pipeline_init(struct pipeline *pipeline)
{
	static const uint16_t defaults[TCP_STATES] = {
		[TCP_SYN_SENT] = 240, [TCP_SYN_RECV] = 240, [TCP_SYN_SENT2] = 240,
		[TCP_ESTABLISHED] = 7440,
		[TCP_FIN_WAIT] = 240, [TCP_CLOSE_WAIT] = 240, [TCP_LAST_ACK] = 240,
		[TCP_TIME_WAIT] = 60, [TCP_CLOSE] = 60,
	};

	memcpy(pipeline->timeout_s, defaults, sizeof(defaults));
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

void pipeline_punt(struct pipeline *pipeline, const struct service_table *table,
	const struct packet *packet)
{
	enum punt_class class = PUNT_REST;

	if (packet->kind == PACKET_ARP)
		class = PUNT_ARP;
	else if (packet->family != 0 && service_find(table, SERVICE_KEY_HOST, packet->family,
			packet_addrs(packet), 0) != SERVICE_NONE)
		class = PUNT_BACKEND;
	pipeline_out_add(&pipeline->punt[class], packet->mbuf);
}

/* --- tracking --- */

static void track_highest(uint32_t *highest, uint32_t value)
{
	if (tcp_seq_after(value, *highest))
		*highest = value;
}

/*
 * A RST counts only when the receiver will take it (RFC 5961): its number is what the receiver
 * acknowledged last, or where the sender's data ends; in SYN_SENT its acknowledgement is of the SYN
 * (RFC 9293, 3.10.7.3). After a FIN any will do: there is nothing left to protect.
 */
static bool reset_is_exact(const struct flow *flow, const struct packet *packet,
	enum flow_direction direction, enum tcp_state state)
{
	uint32_t seq = rte_be_to_cpu_32(packet->tcp->sent_seq);

	if (state == TCP_SYN_SENT && direction == FLOW_FROM_BACKEND)
		return (packet->flags & RTE_TCP_ACK_FLAG) &&
			rte_be_to_cpu_32(packet->tcp->recv_ack) == flow->end[FLOW_FROM_CLIENT];
	return seq == flow->ack[1 - direction] || seq == flow->end[direction] ||
		(flow->flags & FLOW_FIN_SEEN);
}

/* Segments that may change the state. */
static void track_state(struct pipeline *pipeline, struct flow *flow, const struct packet *packet,
	enum flow_direction direction, enum tcp_state state)
{
	enum tcp_event event = tcp_event(packet->flags);
	uint32_t seq = rte_be_to_cpu_32(packet->tcp->sent_seq);

	if (event == TCP_EVENT_RST && !reset_is_exact(flow, packet, direction, state))
		return;
	if (event == TCP_EVENT_FIN)
		flow->flags |= FLOW_FIN_SEEN;
	if (event == TCP_EVENT_SYN && direction == FLOW_FROM_CLIENT && state == TCP_SYN_SENT) {
		// A retransmission, or a new attempt with a number of its own.
		flow->end[FLOW_FROM_CLIENT] = seq + packet->payload + 1;
	}
	if (event == TCP_EVENT_SYNACK && direction == FLOW_FROM_BACKEND &&
		tcp_state_half_open(state)) {
		flow->end[FLOW_FROM_BACKEND] = seq + packet->payload + 1;
		flow->ack[FLOW_FROM_BACKEND] = rte_be_to_cpu_32(packet->tcp->recv_ack);
		flow->ack[FLOW_FROM_CLIENT] = seq;
		flow->flags |= FLOW_PINNED;
	}

	enum tcp_state next = tcp_next_state(direction, event, state);
	if (next != state)
		flow_table_set_state(pipeline_flows(pipeline, packet->family), pipeline->worker, flow,
			state, next);
}

static inline void track(struct pipeline *pipeline, struct flow *flow, const struct packet *packet,
	enum flow_direction direction)
{
	enum tcp_state state = flow_state(flow);
	uint8_t flags = packet->flags;

	if (unlikely(state != TCP_ESTABLISHED ||
		(flags & (RTE_TCP_SYN_FLAG | RTE_TCP_FIN_FLAG | RTE_TCP_RST_FLAG)))) {
		track_state(pipeline, flow, packet, direction, state);
		if (flags & (RTE_TCP_SYN_FLAG | RTE_TCP_RST_FLAG))
			goto seen; // their numbers are not of the stream
	}
	track_highest(&flow->end[direction], rte_be_to_cpu_32(packet->tcp->sent_seq) +
		packet->payload + (flags & RTE_TCP_FIN_FLAG));
	if (likely(flags & RTE_TCP_ACK_FLAG))
		track_highest(&flow->ack[direction], rte_be_to_cpu_32(packet->tcp->recv_ack));
seen:
	__atomic_store_n(&flow->last_seen, (uint16_t)pipeline->now_s, __ATOMIC_RELAXED);
}

/* --- known flows --- */

static inline void write_ether(struct rte_mbuf *mbuf, const struct net_mac *to,
	const struct net_mac *from)
{
	struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);

	memcpy(&ether->dst_addr, to, sizeof(*to));
	memcpy(&ether->src_addr, from, sizeof(*from));
}

static inline void learn_client_mac(struct flow *flow, const struct packet *packet)
{
	const struct rte_ether_hdr *ether =
		rte_pktmbuf_mtod(packet->mbuf, const struct rte_ether_hdr *);

	if (unlikely(memcmp(&flow->client_mac, &ether->src_addr, sizeof(flow->client_mac)) != 0))
		memcpy(&flow->client_mac, &ether->src_addr, sizeof(flow->client_mac));
}

void pipeline_forward(struct pipeline *pipeline, const struct service_table *table,
	struct packet *packet, struct flow *flow, enum flow_direction direction)
{
	uint32_t id = FLOW_BACKEND_ID(flow->backend);
	const struct net_mac *to = &flow->client_mac;

	if (direction == FLOW_FROM_CLIENT) {
		const struct service_backend *backend = &table->backends[id];
		if (unlikely(id >= table->nb_backends || !backend->resolved ||
			backend->generation != FLOW_BACKEND_GENERATION(flow->backend))) {
			pipeline_drop(pipeline, packet->mbuf, STATS_DROP_NO_NEIGHBOUR);
			return;
		}
		to = &backend->next_hop;
		learn_client_mac(flow, packet);
	}
	track(pipeline, flow, packet, direction);
	nat_fullnat(packet, flow, direction);
	write_ether(packet->mbuf, to, &pipeline->mac);

	struct stats_backend *counters = &pipeline->backends[id];
	counters->packets[direction]++;
	counters->bytes[direction] += packet->ip_size;
	pipeline_out_add(&pipeline->forward, packet->mbuf);
}

/* The exact look-up, for what the passes didn't settle: a signature shared by two tuples, or none. */
static void look_again(struct pipeline *pipeline, const struct service_table *table,
	struct packet *packet, uint64_t now_ms)
{
	struct flow_table *flows = pipeline_flows(pipeline, packet->family);
	uint32_t entry = flows == NULL ? FLOW_NOT_FOUND
				       : flow_table_find(flows, packet->hash, packet_addrs(packet),
						 packet->ports);

	if (entry == FLOW_NOT_FOUND) {
		pipeline_new_flow(pipeline, table, packet, now_ms);
		return;
	}
	if (nat_ttl(packet) <= 1) {
		pipeline_time_exceeded(pipeline, packet, now_ms);
		return;
	}
	pipeline_forward(pipeline, table, packet, flow_entry_flow(flows, entry),
		flow_entry_direction(entry));
}

/* A client's SYN on a flow that is closing starts a new connection at once. */
static inline bool starts_anew(const struct packet *packet, const struct flow *flow,
	enum flow_direction direction)
{
	return (packet->flags & (RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG | RTE_TCP_FIN_FLAG |
			RTE_TCP_RST_FLAG)) == RTE_TCP_SYN_FLAG &&
		direction == FLOW_FROM_CLIENT && tcp_state_closing(flow_state(flow));
}

static inline void process(struct pipeline *pipeline, const struct service_table *table,
	struct packet *packet, uint32_t entry, uint64_t now_ms)
{
	if (unlikely(packet->kind != PACKET_TCP)) {
		if (packet->kind == PACKET_ARP || packet->kind == PACKET_OTHER)
			pipeline_punt(pipeline, table, packet);
		else
			pipeline_drop(pipeline, packet->mbuf, drop_by_kind[packet->kind]);
		return;
	}
	if (unlikely(entry == FLOW_NOT_FOUND)) {
		look_again(pipeline, table, packet, now_ms);
		return;
	}

	struct flow_table *flows = pipeline_flows(pipeline, packet->family);
	struct flow *flow = flow_entry_flow(flows, entry);
	enum flow_direction direction = flow_entry_direction(entry);
	if (unlikely(!flow_matches(flow, direction, packet->family, packet_addrs(packet),
			packet->ports) || flow_state(flow) == TCP_NONE)) {
		look_again(pipeline, table, packet, now_ms);
		return;
	}
	if (unlikely(nat_ttl(packet) <= 1)) {
		pipeline_time_exceeded(pipeline, packet, now_ms);
		return;
	}
	if (unlikely(packet->flags & RTE_TCP_SYN_FLAG) && starts_anew(packet, flow, direction)) {
		if (flow_table_may_remove(flows, pipeline->worker))
			pipeline_end_flow(pipeline, table, flows, flow);
		look_again(pipeline, table, packet, now_ms);
		return;
	}
	pipeline_forward(pipeline, table, packet, flow, direction);
}

void pipeline_run(struct pipeline *pipeline, struct rte_mbuf **mbufs, uint32_t count,
	uint64_t now_ms)
{
	// Acquire: the table is seen as it was before it was published.
	const struct service_table *table =
		__atomic_load_n(pipeline->services, __ATOMIC_ACQUIRE);
	struct packet packets[PIPELINE_BURST];
	const struct flow_bucket *buckets[PIPELINE_BURST];
	uint32_t entries[PIPELINE_BURST];

	pipeline->now_s = now_ms / 1000;
	pipeline->stats->live.received += count;
	for (uint32_t i = 0; i < count; i++)
		rte_prefetch0(mbufs[i]);
	for (uint32_t i = 0; i < count; i++)
		rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
	for (uint32_t i = 0; i < count; i++)
		packet_parse(&packets[i], mbufs[i], &pipeline->mac);

	flow_hash_burst(pipeline->hasher, packets, count);

	for (uint32_t i = 0; i < count; i++) {
		const struct flow_table *flows = pipeline_flows(pipeline, packets[i].family);
		buckets[i] = NULL;
		if (unlikely(packets[i].kind != PACKET_TCP || flows == NULL))
			continue;
		buckets[i] = &flows->buckets[flow_hash_primary(flows, packets[i].hash)];
		rte_prefetch0(buckets[i]);
	}
	for (uint32_t i = 0; i < count; i++) {
		entries[i] = FLOW_NOT_FOUND;
		if (unlikely(buckets[i] == NULL))
			continue;
		const struct flow_table *flows = pipeline_flows(pipeline, packets[i].family);
		entries[i] = flow_bucket_candidate(buckets[i], flow_hash_signature(packets[i].hash));
		if (likely(entries[i] != FLOW_NOT_FOUND)) {
			uint8_t *flow = (uint8_t *)flow_entry_flow(flows, entries[i]);
			rte_prefetch0(flow);
			if (packets[i].family == AF_INET6)
				rte_prefetch0(flow - 64);
		} else {
			buckets[i] = &flows->buckets[flow_hash_secondary(flows, packets[i].hash)];
			rte_prefetch0(buckets[i]);
		}
	}
	for (uint32_t i = 0; i < count; i++) {
		if (likely(entries[i] != FLOW_NOT_FOUND) || buckets[i] == NULL)
			continue;
		const struct flow_table *flows = pipeline_flows(pipeline, packets[i].family);
		entries[i] = flow_bucket_candidate(buckets[i], flow_hash_signature(packets[i].hash));
		if (entries[i] != FLOW_NOT_FOUND)
			rte_prefetch0(flow_entry_flow(flows, entries[i]));
	}
	for (uint32_t i = 0; i < count; i++)
		process(pipeline, table, &packets[i], entries[i], now_ms);
}
