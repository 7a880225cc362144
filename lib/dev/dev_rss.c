/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_rss.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include <rte_ethdev.h>

#include "dev.h"
#include "log.h"

#define KEY_BUFFER 256 // no driver writes more when it is asked for its key

static bool key_fits(unsigned size)
{
	return size >= RSS_KEY_MIN && size <= RSS_KEY_MAX;
}

/* Some drivers state none; it was 40 bytes for all once. */
static unsigned key_size(const struct rte_eth_dev_info *info)
{
	return info->hash_key_size != 0 ? info->hash_key_size : RSS_KEY_MIN;
}

static uint64_t types_of(const struct dev_rss *rss)
{
	return (rss->ip4 ? RTE_ETH_RSS_NONFRAG_IPV4_TCP : 0) |
		(rss->ip6 ? RTE_ETH_RSS_NONFRAG_IPV6_TCP : 0);
}

void dev_rss_choose(struct dev_port *port, const struct rte_eth_dev_info *info, uint64_t types,
	struct rte_eth_conf *config)
{
	struct dev_rss *rss = &port->rss_table;
	struct rte_eth_rss_conf *conf = &config->rx_adv_conf.rss_conf;

	config->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	conf->rss_hf = types;
	rss->ip4 = types & RTE_ETH_RSS_NONFRAG_IPV4_TCP;
	rss->ip6 = types & RTE_ETH_RSS_NONFRAG_IPV6_TCP;
	unsigned size = key_size(info);
	if (!key_fits(size) || getrandom(rss->key, size, 0) != (ssize_t)size)
		return;
	rss->key_size = size;
	conf->rss_key = rss->key;
	conf->rss_key_len = rss->key_size;
}

void dev_rss_take_back(struct dev_port *port, struct rte_eth_conf *config)
{
	port->rss_table.key_size = 0;
	config->rx_adv_conf.rss_conf.rss_key = NULL;
	config->rx_adv_conf.rss_conf.rss_key_len = 0;
}

/* The device's key; its size, 0 = it doesn't tell. */
static unsigned key_read(const struct dev_port *port, unsigned size, uint8_t key[KEY_BUFFER])
{
	static const uint8_t none[RSS_KEY_MIN];
	struct rte_eth_rss_conf conf = {.rss_key = key, .rss_key_len = size};

	memset(key, 0, KEY_BUFFER);
	if (rte_eth_dev_rss_hash_conf_get(port->port_id, &conf) != 0 ||
		!key_fits(conf.rss_key_len) || memcmp(key, none, sizeof(none)) == 0)
		return 0;
	return conf.rss_key_len;
}

static int key_write(const struct dev_port *port)
{
	struct dev_rss rss = port->rss_table;
	struct rte_eth_rss_conf conf = {
		.rss_key = rss.key,
		.rss_key_len = rss.key_size,
		.rss_hf = types_of(&rss),
	};

	return rte_eth_dev_rss_hash_update(port->port_id, &conf);
}

static int table_read(const struct dev_port *port, uint8_t queue[DEV_RETA_MAX])
{
	struct rte_eth_rss_reta_entry64 groups[DEV_RETA_MAX / RTE_ETH_RETA_GROUP_SIZE] = {0};
	uint16_t size = port->rss_table.reta_size;

	for (uint16_t i = 0; i < size; i++)
		groups[i / RTE_ETH_RETA_GROUP_SIZE].mask |= 1ull << i % RTE_ETH_RETA_GROUP_SIZE;
	int failed = rte_eth_dev_rss_reta_query(port->port_id, groups, size);
	for (uint16_t i = 0; i < size && failed == 0; i++) {
		uint16_t found =
			groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE];
		if (found >= port->nb_workers)
			return -ERANGE;
		queue[i] = found;
	}
	return failed;
}

static int table_write(const struct dev_port *port, const uint8_t queue[DEV_RETA_MAX])
{
	struct rte_eth_rss_reta_entry64 groups[DEV_RETA_MAX / RTE_ETH_RETA_GROUP_SIZE] = {0};
	uint16_t size = port->rss_table.reta_size;

	for (uint16_t i = 0; i < size; i++) {
		groups[i / RTE_ETH_RETA_GROUP_SIZE].mask |= 1ull << i % RTE_ETH_RETA_GROUP_SIZE;
		groups[i / RTE_ETH_RETA_GROUP_SIZE].reta[i % RTE_ETH_RETA_GROUP_SIZE] = queue[i];
	}
	return rte_eth_dev_rss_reta_update(port->port_id, groups, size);
}

void dev_rss_fit(struct dev_port *port, const struct rte_eth_dev_info *info)
{
	struct dev_rss *rss = &port->rss_table;
	uint8_t key[KEY_BUFFER];
	unsigned size = key_size(info);

	if (!port->rss || info->reta_size == 0 || info->reta_size > DEV_RETA_MAX ||
		!rte_is_power_of_2(info->reta_size))
		return;
	size = key_fits(size) ? key_read(port, size, key) : 0;
	// A refusal for now, by a driver that programs it at the start, leaves the one that is to
	// come.
	if (size != 0 &&
		(rss->key_size == 0 ||
			(memcmp(key, rss->key, size) != 0 && key_write(port) == -ENOTSUP))) {
		rss->key_size = size;
		memcpy(rss->key, key, size);
	}
	if (rss->key_size == 0)
		return;
	rss->reta_size = info->reta_size;
	for (uint16_t i = 0; i < rss->reta_size; i++)
		rss->queue[i] = i % port->nb_workers;
	rss->known = table_write(port, rss->queue) == 0 || table_read(port, rss->queue) == 0;
}

static bool key_confirm(const struct dev_port *port)
{
	const struct dev_rss *rss = &port->rss_table;
	uint8_t key[KEY_BUFFER];

	for (unsigned try = 0; try < 2; try++) {
		// A driver that doesn't tell is believed: the first packets will show.
		if (key_read(port, rss->key_size, key) == 0 ||
			memcmp(key, rss->key, rss->key_size) == 0)
			return true;
		if (key_write(port) != 0)
			return false;
	}
	return false;
}

static bool table_confirm(const struct dev_port *port)
{
	const struct dev_rss *rss = &port->rss_table;
	uint8_t queue[DEV_RETA_MAX];

	for (unsigned try = 0; try < 2; try++) {
		int failed = table_read(port, queue);
		if (failed == -ENOTSUP ||
			(failed == 0 && memcmp(queue, rss->queue, rss->reta_size) == 0))
			return true;
		if (table_write(port, rss->queue) != 0)
			return false;
	}
	return false;
}

void dev_rss_confirm(struct dev_port *port)
{
	if (!port->rss_table.known)
		return;
	port->rss_table.known = key_confirm(port) && table_confirm(port);
	if (!port->rss_table.known)
		log_info("%s: the driver keeps an RSS key or redirection table of its own",
			port->driver);
}
