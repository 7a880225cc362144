/* SPDX-License-Identifier: BSD-3-Clause */
#include "bench_traffic.h"

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <string.h>

#include "checksum.h"

#define FRAME_SIZE 60 // 64 bytes on the wire with the checksum; IPv6 and TCP headers need 74
#define CLIENT_PORTS 64
#define CLIENT_SEQ(number) ((number)*0x9e3779b1u)
#define BACKEND_SEQ(number) ((number)*0x85ebca6bu)
#define DATA_SIZE 6 // what fits a frame of the smallest size

static const struct step {
	bool from_backend;
	uint8_t flags;
	uint8_t data;    // bytes of payload
	uint8_t sent[2]; // bytes that client and backend have sent before, SYN and FIN included
} steps[] = {
	[TRAFFIC_SYN] = {false, RTE_TCP_SYN_FLAG, 0, {0, 0}},
	[TRAFFIC_SYNACK] = {true, RTE_TCP_SYN_FLAG | RTE_TCP_ACK_FLAG, 0, {1, 0}},
	[TRAFFIC_ACK] = {false, RTE_TCP_ACK_FLAG, 0, {1, 1}},
	[TRAFFIC_REQUEST] = {false, RTE_TCP_ACK_FLAG, DATA_SIZE, {1, 1}},
	[TRAFFIC_RESPONSE] = {true, RTE_TCP_ACK_FLAG, DATA_SIZE, {1 + DATA_SIZE, 1}},
	[TRAFFIC_REQUEST2] = {false, RTE_TCP_ACK_FLAG, DATA_SIZE, {1 + DATA_SIZE, 1 + DATA_SIZE}},
	[TRAFFIC_RESPONSE2] = {true, RTE_TCP_ACK_FLAG, DATA_SIZE,
		{1 + 2 * DATA_SIZE, 1 + DATA_SIZE}},
	[TRAFFIC_FIN] = {false, RTE_TCP_FIN_FLAG | RTE_TCP_ACK_FLAG, 0,
		{1 + 2 * DATA_SIZE, 1 + 2 * DATA_SIZE}},
	[TRAFFIC_FINACK] = {true, RTE_TCP_FIN_FLAG | RTE_TCP_ACK_FLAG, 0,
		{2 + 2 * DATA_SIZE, 1 + 2 * DATA_SIZE}},
	[TRAFFIC_LAST_ACK] = {false, RTE_TCP_ACK_FLAG, 0, {2 + 2 * DATA_SIZE, 2 + 2 * DATA_SIZE}},
	[TRAFFIC_BACKEND_ACK] = {true, RTE_TCP_ACK_FLAG, 0, {1, 1}},
};

/* Client `number`: a 64th of an address. */
static void client_addr(const struct world *world, uint32_t number, uint8_t *addr)
{
	uint32_t host = rte_cpu_to_be_32(0x64000000 + number / CLIENT_PORTS);

	if (world->family == AF_INET6) {
		static const uint8_t prefix[12] = {0x20, 0x01, 0x0d, 0xb8, 0xff};
		memcpy(addr, prefix, sizeof(prefix));
		memcpy(addr + sizeof(prefix), &host, sizeof(host));
	} else {
		memcpy(addr, &host, sizeof(host));
	}
}

static uint16_t client_port(uint32_t number)
{
	return rte_cpu_to_be_16(1024 + number % CLIENT_PORTS * 997);
}

static void write_addrs(const struct world *world, uint8_t *addrs, struct rte_tcp_hdr *tcp,
	uint32_t number, bool from_backend)
{
	unsigned size = net_addr_size(world->family);

	if (from_backend) {
		const struct world_reply *reply = &world->replies[number % world->nb_replies];
		memcpy(addrs, world->backends[reply->backend].v6, size);
		memcpy(addrs + size, world->snats[reply->snat].v6, size);
		tcp->src_port = RTE_BE16(8080);
		tcp->dst_port = reply->snat_port;
	} else {
		client_addr(world, number, addrs);
		memcpy(addrs + size, world->vips[number % WORLD_SERVICES].v6, size);
		tcp->src_port = client_port(number);
		tcp->dst_port = RTE_BE16(80);
	}
}

static uint8_t *write_ip(const struct world *world, uint8_t *l3, uint16_t tcp_size)
{
	if (world->family == AF_INET6) {
		struct rte_ipv6_hdr *ip = (struct rte_ipv6_hdr *)l3;
		ip->vtc_flow = RTE_BE32(0x60000000);
		ip->payload_len = rte_cpu_to_be_16(tcp_size);
		ip->proto = IPPROTO_TCP;
		ip->hop_limits = 64;
		return (uint8_t *)&ip->src_addr;
	}
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)l3;
	*ip = (struct rte_ipv4_hdr){
		.version_ihl = RTE_IPV4_VHL_DEF,
		.total_length = rte_cpu_to_be_16(sizeof(*ip) + tcp_size),
		.fragment_offset = RTE_BE16(RTE_IPV4_HDR_DF_FLAG),
		.time_to_live = 64,
		.next_proto_id = IPPROTO_TCP,
	};
	return (uint8_t *)&ip->src_addr;
}

void traffic_write(
	const struct world *world, struct rte_mbuf *mbuf, uint32_t number, enum traffic_step which)
{
	const struct step *step = &steps[which];
	bool v6 = world->family == AF_INET6;
	unsigned ip_size = v6 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr);
	unsigned tcp_size = sizeof(struct rte_tcp_hdr) + step->data;
	unsigned frame_size = sizeof(struct rte_ether_hdr) + ip_size + tcp_size;
	static const struct rte_ether_hdr ether = {
		.dst_addr = {{0x02, 0, 0, 0, 0, 1}}, .src_addr = {{0x02, 0, 0, 0, 0, 2}}};

	rte_pktmbuf_reset(mbuf);
	mbuf->data_len = RTE_MAX(frame_size, (unsigned)FRAME_SIZE);
	mbuf->pkt_len = mbuf->data_len;
	struct rte_ether_hdr *frame = rte_pktmbuf_mtod(mbuf, struct rte_ether_hdr *);
	*frame = ether;
	frame->ether_type = v6 ? RTE_BE16(RTE_ETHER_TYPE_IPV6) : RTE_BE16(RTE_ETHER_TYPE_IPV4);

	uint8_t *l3 = (uint8_t *)(frame + 1), *addrs = write_ip(world, l3, tcp_size);
	struct rte_tcp_hdr *tcp = (struct rte_tcp_hdr *)(l3 + ip_size);
	uint32_t from_client = CLIENT_SEQ(number) + step->sent[FLOW_FROM_CLIENT];
	uint32_t from_backend = BACKEND_SEQ(number) + step->sent[FLOW_FROM_BACKEND];
	memset(tcp, 0, tcp_size);
	write_addrs(world, addrs, tcp, number, step->from_backend);
	tcp->sent_seq = rte_cpu_to_be_32(step->from_backend ? from_backend : from_client);
	if (step->flags & RTE_TCP_ACK_FLAG)
		tcp->recv_ack = rte_cpu_to_be_32(step->from_backend ? from_client : from_backend);
	tcp->data_off = sizeof(*tcp) / 4 << 4;
	tcp->tcp_flags = step->flags;
	tcp->rx_win = RTE_BE16(512);
	if (!v6)
		((struct rte_ipv4_hdr *)l3)->hdr_checksum = checksum_ip(l3, ip_size);
	tcp->cksum = checksum_l4(world->family, addrs, addrs + net_addr_size(world->family),
		IPPROTO_TCP, tcp, tcp_size);
}

void traffic_learn(struct world *world, const struct rte_mbuf *mbuf, uint32_t number)
{
	const uint8_t *l3 =
		rte_pktmbuf_mtod_offset(mbuf, const uint8_t *, sizeof(struct rte_ether_hdr));
	unsigned size = net_addr_size(world->family);
	unsigned ip_size = size == 16 ? sizeof(struct rte_ipv6_hdr) : sizeof(struct rte_ipv4_hdr);
	const uint8_t *source = l3 + ip_size - 2 * size, *destination = source + size;
	struct world_reply *reply = &world->replies[number % world->nb_replies];

	reply->snat = source[size - 1] - 100;
	reply->backend = destination[size - 1] - 1;
	memcpy(&reply->snat_port, l3 + ip_size, sizeof(reply->snat_port));
	if (reply->snat >= world->nb_snat || reply->backend >= WORLD_BACKENDS)
		bench_fail("a SYN wasn't translated");
}

uint64_t traffic_run(struct world *world, unsigned w, uint32_t count)
{
	struct world_worker *worker = world->workers[w];
	struct pipeline *pipeline = &worker->pipeline;
	uint64_t now_ms = world->now_ms, cycles = 0;
	const struct stats_counters *counters = &worker->stats.live;
	const struct stats_flows *flows = &counters->flows[stats_family(world->family)];
	uint32_t forwarded = 0;

	for (uint32_t at = 0; at < count; at += PIPELINE_BURST) {
		uint64_t start = rte_rdtsc();
		pipeline_run(pipeline, worker->mbufs + at, PIPELINE_BURST, now_ms);
		cycles += rte_rdtsc() - start;
		forwarded += pipeline->forward.count;
		pipeline->forward.count = 0;
	}
	world_quiescent(world, w);
	if (forwarded != count)
		bench_fail("%u of %u packets weren't forwarded: %lu SYN refused for want of a "
			   "flow, %lu of "
			   "a SNAT port, %lu answered, %lu dropped; %u of %u flows",
			count - forwarded, count, flows->refused_flows_full,
			flows->refused_snat_full, counters->answered, stats_dropped(counters),
			flow_table_used(world->table), world->table->limit);
	return cycles;
}

void traffic_establish(struct world *world, unsigned w, uint32_t first, uint32_t count)
{
	static const enum traffic_step handshake[] = {TRAFFIC_SYN, TRAFFIC_SYNACK, TRAFFIC_ACK};
	struct rte_mbuf **mbufs = world->workers[w]->mbufs;

	for (uint32_t end = first + count; first < end; first += BENCH_BATCH) {
		uint32_t batch = RTE_MIN(end - first, (uint32_t)BENCH_BATCH);
		// Whole bursts: the last flow's packets are repeated.
		uint32_t whole = RTE_ALIGN_CEIL(batch, (uint32_t)PIPELINE_BURST);
		for (unsigned s = 0; s < RTE_DIM(handshake); s++) {
			for (uint32_t i = 0; i < whole; i++)
				traffic_write(world, mbufs[i], first + RTE_MIN(i, batch - 1),
					handshake[s]);
			traffic_run(world, w, whole);
			for (uint32_t i = 0; handshake[s] == TRAFFIC_SYN && i < batch; i++)
				traffic_learn(world, mbufs[i], first + i);
		}
		world_settle(world); // the index grows
	}
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

uint32_t traffic_order_next(struct traffic_order *order)
{
	uint32_t mask = (1ull << order->bits) - 1, at = order->next & mask;
	// Never 0, which would be no key at all.
	uint64_t key = mix((order->next++ >> order->bits) + 0x9e3779b97f4a7c15);

	// Each step is a bijection below 2^bits: adding, an odd factor, a shifted exclusive or.
	for (unsigned round = 0; round < 4; round++, key = mix(key)) {
		at = (at + (uint32_t)key) * ((uint32_t)(key >> 32) | 1) & mask;
		at ^= at >> (order->bits / 2 + 1);
	}
	return at;
}
