/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The hash by which devices spread TCP connections over their queues: Toeplitz, as in Microsoft's
 * RSS specification. Pure functions.
 */
#ifndef WEIR_RSS_H
#define WEIR_RSS_H

#include <stdint.h>
#include <sys/socket.h>

// Bytes of a key: what the ports of an IPv6 packet need, and the longest of a device.
#define RSS_KEY_MIN 40
#define RSS_KEY_MAX 52

/* Hash a packet's addresses, source and destination one behind the other, and its ports, source and
 * destination; all as in the headers. `key` has RSS_KEY_MIN bytes or more, aligned to 4. */
uint32_t rss_hash(const uint8_t *key, sa_family_t family, const void *addrs, uint32_t ports);

#endif
