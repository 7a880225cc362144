/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The port's RSS: key and redirection table, so that it can be told which queue a packet comes by.
 * The key is Weir's own random one wherever the driver takes it: who knew it could send all
 * connections to one worker. Some drivers program either only when the port starts, some then
 * overwrite what was set before; so both are set before and looked at again after.
 *
 * Control core only.
 */
#ifndef WEIR_DEV_RSS_H
#define WEIR_DEV_RSS_H

#include <stdint.h>

struct dev_port;
struct rte_eth_conf;
struct rte_eth_dev_info;

/* Choose the RSS types and a random key, before the port is configured. */
void dev_rss_choose(struct dev_port *port, const struct rte_eth_dev_info *info, uint64_t types,
	struct rte_eth_conf *config);
/* Take the key out of a configuration that the port has refused. */
void dev_rss_take_back(struct dev_port *port, struct rte_eth_conf *config);

/* Set the redirection table of a configured port round robin, and learn what the driver doesn't let
 * set. From here port->rss_table may be known. */
void dev_rss_fit(struct dev_port *port, const struct rte_eth_dev_info *info);

/* Look at a port that has started: what differs is set again; what still differs
 * makes the table unknown. */
void dev_rss_confirm(struct dev_port *port);

#endif
