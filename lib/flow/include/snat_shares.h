/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which SNAT port brings a backend's answer to which queue, from the device's RSS key and
 * redirection table: what snat.h needs for its classes. One a family, as the ports stand behind
 * addresses of another length.
 *
 * Thread rule: made once on the control core, read-only then.
 */
#ifndef WEIR_SNAT_SHARES_H
#define WEIR_SNAT_SHARES_H

#include <stdint.h>
#include <sys/socket.h>

#include "snat.h"

struct net_addr;
struct net_endpoint;
struct snat_shares;

/*
 * Work out the shares. `key` as for rss_hash(), RSS_KEY_MIN bytes of it matter.
 * `queue`: `reta_size` (a power of two) entries below `nb_queues`. Both are copied.
 * NULL and errno on failure.
 */
struct snat_shares *snat_shares_create(sa_family_t family, const uint8_t *key, const uint8_t *queue,
	uint16_t reta_size, unsigned nb_queues);
void snat_shares_destroy(struct snat_shares *shares);

/* Return what snat_create() takes, valid as long as the shares live. NULL for NULL. */
const struct snat_rss *snat_shares_rss(const struct snat_shares *shares);

/* Return what snat_pool_create() takes: the share of what the pool's ports have in
 * common. 0 for NULL. */
uint16_t snat_shares_constant(const struct snat_shares *shares, const struct net_endpoint *backend,
	const struct net_addr *snat);

#endif
