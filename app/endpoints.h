/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SNAT addresses and the ports they lend: one pool for each SNAT address towards each address and
 * port that backends have, whatever services they stand in.
 *
 * Thread rule: on the control core's event loop. The pools themselves are the workers'.
 */
#ifndef WEIR_ENDPOINTS_H
#define WEIR_ENDPOINTS_H

#include "service.h"

struct conf;
struct daemon;
struct snat;
struct snat_shares;

/* The local ports that SNAT addresses of a family lend. Both families have the same; the workers'
 * classes of them differ. */
struct snat_ports {
	struct snat *snat;
	struct snat_shares *shares; // NULL = RSS isn't known, one class
};

struct endpoints {
	const struct snat_ports *ports;   // by stats_family()
	struct service_snat snat4, snat6; // addresses used towards backends, by family
	void *tree;                       // tsearch(3) of struct control_endpoint
};

/* What the log says of a pool. */
struct endpoint_told {
	bool is_high;
};

struct control_endpoint {
	struct net_endpoint endpoint; // the key; must stay first
	uint32_t references;
	struct endpoint_told *told; // by SNAT address, as the pools
	struct snat_pool *pools[];  // by SNAT address of the family
};

/* Make the list of endpoints, of which there are none yet. 0 or -errno; endpoints_fini()
 * is fine after either. */
int endpoints_init(
	struct endpoints *endpoints, const struct conf *conf, const struct snat_ports ports[2]);
/* Free all endpoints that are left. */
void endpoints_fini(struct endpoints *endpoints);

/* Return the endpoint, counted. NULL and errno on failure. */
struct control_endpoint *endpoints_get(struct endpoints *endpoints, const struct net_endpoint *key);
/* Give an endpoint back. No worker may use its pools any more when the last one is
 * put. put(NULL) is fine. */
void endpoints_put(struct endpoints *endpoints, struct control_endpoint *endpoint);

/* Make the daemon's snat_ports, from the file or the kernel's leftovers, in the classes that the
 * port's RSS gives. 0 or -errno. */
int endpoints_ports_create(struct daemon *daemon);
void endpoints_ports_destroy(struct daemon *daemon);

#endif
