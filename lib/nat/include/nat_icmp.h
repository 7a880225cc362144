/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The rewrite of an ICMP error about a packet of a known flow, outside and inside (RFC 5508, REQ-4
 * and REQ-5).
 *
 * Outside it gets the addresses that the flow's own packets have on that side, whoever sent it: one
 * from the client's side comes from the SNAT address, one from the backend's side from the virtual
 * address, even when a router on the way is its author. So a client learns nothing of the network
 * behind, no router or filter on either side sees a source that it has no route to, and netfilter
 * does the same. Inside it quotes what the receiver sent: the other tuple of the flow, in order.
 *
 * Runs on the worker that has the packet.
 */
#ifndef WEIR_NAT_ICMP_H
#define WEIR_NAT_ICMP_H

#include "flow.h"
#include "packet.h"

/*
 * Translate a PACKET_ICMP_ERROR whose quoted tuple, reversed, is the flow's of that direction: the
 * error goes that way, as what it is about went the other. Its TTL must be above 1. The flow isn't
 * changed.
 */
void nat_icmp_error(const struct packet *packet, struct flow *flow, enum flow_direction direction);

#endif
