/* SPDX-License-Identifier: BSD-3-Clause */
/* The classes of packets handed to the kernel, each with a queue and a budget of its own. */
#ifndef WEIR_PUNT_H
#define WEIR_PUNT_H

enum punt_class {
	PUNT_ARP,
	PUNT_ND,      // IPv6 neighbour discovery, and queries of multicast routers
	PUNT_PROBE,   // answers to probes under way
	PUNT_BACKEND, // what else comes from backends and gateways: BGP, ICMP
	PUNT_REST,
	PUNT_CLASSES
};

#endif
