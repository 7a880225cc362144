/* SPDX-License-Identifier: BSD-3-Clause */
#include "rss_check.h"

#include "dev.h"
#include "log.h"
#include "packet.h"
#include "rss.h"

void rss_check_init(struct rss_check *check, const struct dev_port *port)
{
	check->port = port;
	check->right = 0;
	check->state = RSS_OFF;
	if (port->rss)
		check->state = port->rss_table.known ? RSS_CHECKING : RSS_UNKNOWN;
	if (check->state == RSS_UNKNOWN)
		log_info("RSS: %s doesn't tell how it spreads connections; answers may come by "
			 "another worker than their connection's, which costs speed only",
			port->driver);
}

const char *rss_check_text(const struct rss_check *check)
{
	static const char *const texts[] = {
		[RSS_OFF] = "off",
		[RSS_UNKNOWN] = "unknown",
		[RSS_CHECKING] = "checking",
		[RSS_VERIFIED] = "verified",
		[RSS_MISMATCH] = "mismatch",
	};

	return texts[__atomic_load_n(&check->state, __ATOMIC_RELAXED)];
}

/* Whether the device hashes the packet with its ports, as all devices do: no options, no tag. */
static bool is_plain(const struct dev_rss *rss, const struct packet *packet)
{
	const uint8_t *frame = rte_pktmbuf_mtod(packet->mbuf, const uint8_t *);

	if (packet->kind != PACKET_TCP || packet->l3 != frame + sizeof(struct rte_ether_hdr))
		return false;
	if (packet->family == AF_INET6)
		return rss->ip6 && packet->ip6->proto == IPPROTO_TCP;
	return rss->ip4 && packet->ip4->version_ihl == RTE_IPV4_VHL_DEF;
}

/* The queue alone may be right by chance; the hash, where it is reported, hardly. */
static bool is_right(const struct dev_rss *rss, unsigned queue, const struct packet *packet)
{
	uint32_t hash = rss_hash(rss->key, packet->family, packet_addrs(packet), packet->ports);
	uint32_t mask = rss->reta_size - 1;

	if (rss->queue[hash & mask] != queue)
		return false;
	// Some devices report part of the hash; the table's index is what counts.
	return !(packet->mbuf->ol_flags & RTE_MBUF_F_RX_RSS_HASH) ||
		((packet->mbuf->hash.rss ^ hash) & mask) == 0;
}

/* The first to decide says so. */
static bool decide(struct rss_check *check, enum rss_state state)
{
	uint32_t checking = RSS_CHECKING;

	return __atomic_compare_exchange_n(
		&check->state, &checking, state, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void rss_check_packets(
	struct rss_check *check, unsigned queue, struct rte_mbuf **mbufs, uint32_t count)
{
	const struct dev_rss *rss = &check->port->rss_table;
	struct packet packet;

	for (uint32_t i = 0; i < count; i++) {
		packet_parse(&packet, &packet, mbufs[i], packet_own(&check->port->mac));
		if (!is_plain(rss, &packet))
			continue;
		if (!is_right(rss, queue, &packet)) {
			if (decide(check, RSS_MISMATCH))
				log_warning("RSS: a packet came by queue %u, which isn't what the "
					    "key and the redirection table of %s say: answers may "
					    "come by another worker than their connection's, which "
					    "costs speed only",
					queue, check->port->driver);
			return;
		}
		if (__atomic_add_fetch(&check->right, 1, __ATOMIC_RELAXED) < RSS_CHECK_PACKETS)
			continue;
		if (decide(check, RSS_VERIFIED))
			log_info("RSS verified by %u packets: backends' answers come by the worker "
				 "of their connection",
				RSS_CHECK_PACKETS);
		return;
	}
}
