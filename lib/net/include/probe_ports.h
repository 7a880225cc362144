/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The local ports of the probes under way. Packets for them have a class of their own on the way to
 * the kernel: the address that a packet comes from can be anybody's, but which of some ten thousand
 * ports is in use for some milliseconds isn't known to a stranger.
 *
 * Thread rule: one thread adds and removes, any thread asks.
 */
#ifndef WEIR_PROBE_PORTS_H
#define WEIR_PROBE_PORTS_H

#include <stdbool.h>
#include <stdint.h>

struct probe_ports {
	uint16_t count[UINT16_MAX + 1]; // probes, by port in network byte order; atomic
};

/* Note that one more probe uses the port, which is in network byte order. */
static inline void probe_ports_add(struct probe_ports *ports, uint16_t port)
{
	__atomic_store_n(&ports->count[port], ports->count[port] + 1, __ATOMIC_RELAXED);
}

/* Note that one of the port's probes has ended. */
static inline void probe_ports_remove(struct probe_ports *ports, uint16_t port)
{
	__atomic_store_n(&ports->count[port], ports->count[port] - 1, __ATOMIC_RELAXED);
}

/* Tell whether a probe uses the port. */
static inline bool probe_ports_has(const struct probe_ports *ports, uint16_t port)
{
	return __atomic_load_n(&ports->count[port], __ATOMIC_RELAXED) != 0;
}

#endif
