/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_mbuf.h>

#include "flow_offsets.h"
#include "nat.h"
#include "packet.h"
#include "pipeline.h"
#include "snat.h"
#include "tcp_options.h"

#define PORT_TRIES 4 // other workers may take what was left

_Static_assert(FLOW_REMOVE_MAX <= PIPELINE_BURST, "a sweep's idle flows end in one go");
_Static_assert(SERVICE_ID_BITS == FLOW_BACKEND_ID_BITS, "a tag is what a flow holds");

/* Of a service: this worker is the only one that writes it. */
static void count_up(uint64_t *counter)
{
	__atomic_store_n(counter, *counter + 1, __ATOMIC_RELAXED);
}

/* A SYN that can't be served: RST at once, silence is never the default. */
static void refuse(struct pipeline *pipeline, struct packet *packet, uint64_t *counter)
{
	(*counter)++;
	pipeline_reset(pipeline, packet);
}

/* Which of the SNAT addresses it is; `count` = none. The few one by one: whether a hash finds its
 * place empty at once is a toss of a coin. */
static uint32_t snat_index(const struct service_snat *snat, sa_family_t family, const void *addr)
{
	uint32_t i = 0;

	// Constant sizes: compared without a call.
	while (i < snat->count &&
		(family == AF_INET6 ? memcmp(snat->addrs[i].v6, addr, 16)
				    : memcmp(snat->addrs[i].v6, addr, 4)) != 0)
		i++;
	return i;
}

/* A SNAT address and port towards the backend, into the flow. Addresses are taken by turns. */
static bool snat_get(struct pipeline *pipeline, const struct service_table *table,
	const struct service_backend *backend, struct flow *flow, uint64_t hash)
{
	const struct service_snat *snat = service_snat(table, backend->family);
	uint32_t first = (uint32_t)hash % snat->count;

	for (uint32_t i = 0; i < snat->count; i++) {
		uint32_t at = (first + i) % snat->count;
		uint16_t port = snat_pool_get(backend->pools[at], pipeline->worker);
		if (port == SNAT_NO_PORT)
			continue;
		memcpy(flow_addr(flow, backend->family, FLOW_SNAT), snat->addrs[at].v6,
			net_addr_size(backend->family));
		flow->port[FLOW_SNAT] = rte_cpu_to_be_16(port);
		return true;
	}
	return false;
}

static void snat_put(const struct service_table *table, struct flow *flow, sa_family_t family)
{
	uint32_t id = FLOW_BACKEND_ID(flow->backend);
	const struct service_backend *backend = &table->backends[id];

	// The pools of a backend that is gone are gone with it.
	if (id >= table->nb_backends ||
		backend->generation != FLOW_BACKEND_GENERATION(flow->backend))
		return;
	const struct service_snat *snat = service_snat(table, family);
	uint32_t i = snat_index(snat, family, flow_addr(flow, family, FLOW_SNAT));
	if (likely(i < snat->count)) // else it is from before the addresses changed
		snat_pool_put(backend->pools[i], rte_be_to_cpu_16(flow->port[FLOW_SNAT]));
}

bool pipeline_set_status(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, uint8_t from, uint8_t to)
{
	if (!flow_table_set_status(flows, pipeline->worker, flow, from, to))
		return false;
	if (tcp_state_closed(tcp_status_state(to)) && !tcp_state_closed(tcp_status_state(from))) {
		pipeline_count_ended(pipeline, FLOW_BACKEND_ID(flow->backend));
		snat_put(table, flow, flows->family);
	}
	return true;
}

/* A flow is out of the table, of the state that it had. */
static void give_back(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow, enum tcp_state state)
{
	uint32_t id = FLOW_BACKEND_ID(flow->backend);

	// A worker that found the flow before may still write there, of an answer: then the side
	// record is not to be had, and ends by its timer.
	if (state == TCP_SYN_SENT)
		pipeline_connect_end(pipeline, table, flows, flow,
			__atomic_load_n(&flow->side, __ATOMIC_RELAXED), false);
	if (!tcp_state_closed(state)) {
		pipeline_count_ended(pipeline, id);
		snat_put(table, flow, flows->family);
	}
	pipeline->backends[id].closed++;
}

uint32_t pipeline_end_flows(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow **ended, uint32_t count)
{
	struct flow_hashes hashes[PIPELINE_BURST];
	uint32_t nb_first = 0;

	for (uint32_t i = 0; i < count; i++) {
		flow_table_hashes(flows, ended[i], &hashes[i]);
		flow_table_prefetch(flows, ended[i], &hashes[i]);
	}
	for (uint32_t i = 0; i < count; i++) {
		enum tcp_state state =
			flow_table_remove(flows, pipeline->worker, ended[i], &hashes[i]);
		if (state == TCP_NONE)
			continue;
		give_back(pipeline, table, flows, ended[i], state);
		nb_first++;
	}
	return nb_first;
}

enum tcp_state pipeline_end_half_open(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow)
{
	enum tcp_state state = flow_state(flow);
	struct flow_hashes hashes;

	flow_table_hashes(flows, flow, &hashes);
	flow_table_prefetch(flows, flow, &hashes);
	if (!tcp_state_half_open(state) ||
		!flow_table_remove_from(flows, pipeline->worker, flow, &hashes, state))
		return TCP_NONE;
	give_back(pipeline, table, flows, flow, state);
	return state;
}

void pipeline_leave_tuple(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct flow *flow)
{
	uint8_t status;

	if (!flow_has(flow, FLOW_LINGERS)) {
		pipeline_end_flows(pipeline, table, flows, &flow, 1);
		return;
	}
	flow_set_flag(flow, FLOW_DETACHED);
	do {
		status = flow_status(flow);
	} while (status != TCP_NONE && !tcp_state_closed(tcp_status_state(status)) &&
		!pipeline_set_status(pipeline, table, flows, flow, status, TCP_CLOSE));
	flow_table_detach(flows, flow);
}

static void fill(struct pipeline *pipeline, struct pipeline_syn *syn)
{
	const struct packet *packet = syn->packet;
	const struct service_backend *backend = syn->backend;
	struct flow *flow = syn->flow;
	sa_family_t family = packet->family;
	const struct rte_ether_hdr *ether = (const struct rte_ether_hdr *)packet->l3 - 1;

	// The state stays TCP_NONE and is not touched: sweeps of other workers read it, and
	// last_seen.
	memset(flow, 0, offsetof(struct flow, last_seen));
	__atomic_store_n(&flow->last_seen, (uint16_t)pipeline->now_s, __ATOMIC_RELAXED);
	flow->flags = 0;
	// Client and VIP stand side by side, as in the packet.
	memcpy(flow_addr(flow, family, FLOW_CLIENT), packet_addrs(packet),
		net_addr_size(family) * 2);
	memcpy(flow_addr(flow, family, FLOW_BACKEND), backend->addr, net_addr_size(family));
	memcpy(&flow->port[FLOW_CLIENT], &packet->ports, sizeof(packet->ports));
	flow->port[FLOW_BACKEND] = backend->port;
	memcpy(&flow->client_mac, &ether->src_addr, sizeof(flow->client_mac));
	flow->worker = pipeline->worker;
	flow->end[FLOW_FROM_CLIENT] = rte_be_to_cpu_32(packet->tcp->sent_seq) + packet->payload + 1;
	flow->ack[FLOW_FROM_BACKEND] = rte_be_to_cpu_32(packet->tcp->sent_seq);
	flow->since_ms = pipeline->now_us / 1000;
	flow->backend = backend->generation << FLOW_BACKEND_ID_BITS | syn->id;
}

/* Another backend, since the first choice has no place or no port left. */
static uint32_t pick_again(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct pipeline_syn *syn, uint64_t now_ms)
{
	return pipeline_pick_other(pipeline, table, flows, table->services[syn->service],
		&pipeline->cursors[syn->service], syn->packet, NULL, 0, now_ms);
}

/* Which backend, and a record. False: refused. */
static bool choose(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct pipeline_syn *syn, uint64_t now_ms)
{
	const struct service *service = table->services[syn->service];
	struct stats_flows *counters = &pipeline->stats->live.flows[stats_family(flows->family)];

	if (service->candidates.count == 0) {
		if (service->drop_when_down)
			pipeline_drop(pipeline, syn->packet->mbuf, STATS_DROP_NO_BACKEND);
		else
			refuse(pipeline, syn->packet, &counters->refused_no_backend);
		return false;
	}
	// Before a backend is looked for: a flood meets a full table.
	if (unlikely(flow_table_is_exhausted(flows))) {
		refuse(pipeline, syn->packet, &counters->refused_flows_full);
		return false;
	}
	syn->id = pipeline_pick(
		pipeline, service, &pipeline->cursors[syn->service], syn->packet, now_ms);
	if (unlikely(syn->id == SERVICE_NONE))
		syn->id = pick_again(pipeline, table, flows, syn, now_ms);
	if (unlikely(syn->id == SERVICE_NONE)) {
		refuse(pipeline, syn->packet, &counters->refused_max_conns);
		count_up(&pipeline->service_stats[syn->service].refused_max_conns);
		return false;
	}
	syn->flow = pipeline_record_get(pipeline, table, flows, now_ms);
	if (syn->flow == NULL) {
		pipeline_count_opened(pipeline, syn->id, -1);
		refuse(pipeline, syn->packet, &counters->refused_flows_full);
		return false;
	}
	syn->backend = &table->backends[syn->id];
	return true;
}

bool pipeline_fill(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct pipeline_syn *syn)
{
	fill(pipeline, syn);
	if (!snat_get(pipeline, table, syn->backend, syn->flow, syn->packet->hash))
		return false;
	syn->hashes.of[FLOW_FROM_CLIENT] = syn->packet->hash;
	syn->hashes.of[FLOW_FROM_BACKEND] = flow_table_hash(flows, syn->flow, FLOW_FROM_BACKEND);
	flow_table_prefetch(flows, syn->flow, &syn->hashes);
	return true;
}

void pipeline_unfill(const struct service_table *table, struct flow_table *flows, struct flow *flow)
{
	snat_put(table, flow, flows->family);
}

/* The SNAT address and port, and with it the whole record. False: refused. */
static bool complete(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct pipeline_syn *syn, uint64_t now_ms)
{
	for (unsigned i = 0; i < PORT_TRIES; i++) {
		if (likely(pipeline_fill(pipeline, table, flows, syn)))
			return true;
		pipeline->backends[syn->id].no_port++;
		pipeline_count_opened(pipeline, syn->id, -1);
		syn->id = pick_again(pipeline, table, flows, syn, now_ms);
		if (syn->id == SERVICE_NONE)
			break;
		syn->backend = &table->backends[syn->id];
	}
	if (syn->id != SERVICE_NONE)
		pipeline_count_opened(pipeline, syn->id, -1);
	flow_table_give_back(flows, pipeline->worker, syn->flow);
	refuse(pipeline, syn->packet,
		&pipeline->stats->live.flows[stats_family(flows->family)].refused_snat_full);
	return false;
}

/* What the new flow's SYN says, against what its tuple was last used with. */
static void take_over_numbers(
	struct pipeline *pipeline, struct pipeline_syn *syn, const struct flow *before)
{
	struct flow_syn said = {
		.seq = rte_be_to_cpu_32(syn->packet->tcp->sent_seq),
		.secret = syn->packet->hash,
	};

	said.has_ts = tcp_option_ts(syn->packet->tcp, &said.ts);
	if (flow_take_over(syn->flow, &said, before, pipeline->now_s))
		pipeline->stats->live.flows[stats_family(syn->packet->family)].renumbered++;
}

bool pipeline_take_over_tuple(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct pipeline_syn *syn)
{
	const void *addrs = flow_addr(syn->flow, flows->family, FLOW_BACKEND);
	uint32_t ports;

	memcpy(&ports, &syn->flow->port[FLOW_BACKEND], sizeof(ports));
	uint32_t entry = flow_table_find(flows, syn->hashes.of[FLOW_FROM_BACKEND], addrs, ports);
	if (likely(entry == FLOW_NOT_FOUND))
		return true;
	if (!flow_table_may_remove(flows, pipeline->worker))
		return false;
	struct flow *closed = flow_entry_flow(flows, entry);
	take_over_numbers(pipeline, syn, closed);
	pipeline->stats->live.flows[stats_family(flows->family)].evicted +=
		pipeline_end_flows(pipeline, table, flows, &closed, 1);
	return true;
}

/* Where ports are lent again soon, most are a closed flow's still: ask for its record, then for its
 * buckets. */
static void prefetch_closed(
	struct flow_table *flows, struct pipeline_syn *const *syns, uint32_t count)
{
	uint32_t entries[PIPELINE_BURST];

	for (uint32_t i = 0; i < count; i++) {
		entries[i] = flow_table_guess(flows, syns[i]->hashes.of[FLOW_FROM_BACKEND]);
		if (entries[i] != FLOW_NOT_FOUND)
			flow_entry_prefetch(flows, entries[i], flows->family);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (entries[i] == FLOW_NOT_FOUND)
			continue;
		struct flow_hashes hashes;
		struct flow *closed = flow_entry_flow(flows, entries[i]);
		flow_table_hashes(flows, closed, &hashes);
		flow_table_prefetch(flows, closed, &hashes);
	}
}

/* Into the table, and out to the backend. */
static void insert(struct pipeline *pipeline, const struct service_table *table,
	struct flow_table *flows, struct pipeline_syn *syn, uint64_t now_ms)
{
	struct stats_flows *counters = &pipeline->stats->live.flows[stats_family(flows->family)];
	struct flow *inserted = NULL;

	pipeline_connect_begin(pipeline, table, flows, syn, now_ms);
	if (likely(pipeline_take_over_tuple(pipeline, table, flows, syn)))
		inserted = flow_table_insert(
			flows, pipeline->worker, syn->flow, &syn->hashes, TCP_SYN_SENT);

	if (likely(inserted == syn->flow)) {
		counters->created++;
	} else {
		pipeline_connect_end(pipeline, table, flows, syn->flow, syn->flow->side, false);
		pipeline_count_opened(pipeline, syn->id, -1);
		snat_put(table, syn->flow, flows->family);
		flow_table_give_back(flows, pipeline->worker, syn->flow);
		if (inserted == NULL) {
			refuse(pipeline, syn->packet, &counters->refused_flows_full);
			return;
		}
	}
	pipeline_forward(pipeline, table, syn->packet, inserted, FLOW_FROM_CLIENT);
}

/* Stage by stage, so that the misses of a burst of SYNs overlap. */
void pipeline_admit(struct pipeline *pipeline, const struct service_table *table,
	sa_family_t family, uint64_t now_ms)
{
	struct flow_table *flows = pipeline_flows(pipeline, family);
	struct pipeline_syn *syns = pipeline->syns;
	struct pipeline_syn *chosen[PIPELINE_BURST], *completed[PIPELINE_BURST];
	uint32_t nb_syns = pipeline->nb_syns, nb_chosen = 0, nb_completed = 0;

	pipeline->nb_syns = 0;
	pipeline->look_again = true;
	if (likely(!flow_table_is_exhausted(flows)))
		for (uint32_t i = 0; i < nb_syns; i++)
			pipeline_prefetch_pick(table->services[syns[i].service], syns[i].packet);
	for (uint32_t i = 0; i < nb_syns; i++)
		if (choose(pipeline, table, flows, &syns[i], now_ms))
			chosen[nb_chosen++] = &syns[i];
	for (uint32_t i = 0; i < nb_chosen; i++)
		if (complete(pipeline, table, flows, chosen[i], now_ms))
			completed[nb_completed++] = chosen[i];
	prefetch_closed(flows, completed, nb_completed);
	for (uint32_t i = 0; i < nb_completed; i++)
		insert(pipeline, table, flows, completed[i], now_ms);
}

bool pipeline_is_lent(
	const struct service_table *table, sa_family_t family, const void *addrs, uint32_t ports)
{
	const uint8_t *source = addrs, *destination = source + net_addr_size(family);
	uint16_t port[2]; // source and destination

	memcpy(port, &ports, sizeof(port));
	return service_find(table, SERVICE_KEY_ENDPOINT, family, source, port[0]) != SERVICE_NONE &&
		service_find(table, SERVICE_KEY_SNAT, family, destination, 0) != SERVICE_NONE &&
		snat_contains(table->snat, rte_be_to_cpu_16(port[1]));
}

static void deny(struct pipeline *pipeline, struct packet *packet, uint32_t service)
{
	count_up(&pipeline->service_stats[service].denied);
	pipeline_drop(pipeline, packet->mbuf, STATS_DROP_DENIED);
}

void pipeline_new_flow(struct pipeline *pipeline, const struct service_table *table,
	struct packet *packet, uint64_t now_ms)
{
	const uint8_t *destination =
		(const uint8_t *)packet_addrs(packet) + net_addr_size(packet->family);
	const struct service_snat *snat = service_snat(table, packet->family);
	uint32_t service;

	if (unlikely(packet_bad_address(packet))) {
		pipeline_drop(pipeline, packet->mbuf, STATS_DROP_BAD_ADDRESS);
		return;
	}
	service = service_find(
		table, SERVICE_KEY_VIP, packet->family, destination, packet->tcp->dst_port);
	if (likely(service != SERVICE_NONE)) {
		if (unlikely(snat_index(snat, packet->family, packet_addrs(packet)) < snat->count))
			pipeline_drop(pipeline, packet->mbuf, STATS_DROP_BAD_ADDRESS); // our own
		else if (unlikely(!pipeline_is_first_syn(packet->flags)))
			pipeline_reset_limited(pipeline, packet, STATS_DROP_NO_FLOW, now_ms);
		else if (unlikely(!pipeline_allows(table->services[service], packet)))
			deny(pipeline, packet, service);
		else if (unlikely(!packet_sum_is_right(packet)))
			// No backend would take it: it is no reason to make a flow.
			pipeline_drop(pipeline, packet->mbuf, STATS_DROP_BAD_SUM);
		else if (unlikely(nat_ttl(packet, packet->family) <= 1))
			pipeline_time_exceeded(pipeline, packet, now_ms);
		else
			pipeline->syns[pipeline->nb_syns++] =
				(struct pipeline_syn){.packet = packet, .service = service};
	} else if (pipeline_is_lent(table, packet->family, packet_addrs(packet), packet->ports)) {
		if (packet->flags & RTE_TCP_ACK_FLAG)
			pipeline_reset_limited(pipeline, packet, STATS_DROP_STRAY_BACKEND, now_ms);
		else
			pipeline_drop(pipeline, packet->mbuf, STATS_DROP_STRAY_BACKEND);
	} else {
		pipeline_punt(pipeline, table, packet);
	}
}
