/* SPDX-License-Identifier: BSD-3-Clause */
#include "rss.h"

#include <rte_byteorder.h>
#include <rte_thash.h>
#include <string.h>

#include "addr.h"

uint32_t rss_hash(const uint8_t *key, sa_family_t family, const void *addrs, uint32_t ports)
{
	uint32_t words[RTE_THASH_V6_L4_LEN];
	unsigned size = 2 * net_addr_size(family), count = size / sizeof(words[0]);

	memcpy(words, addrs, size);
	words[count++] = ports;
	// rte_softrss() reads each word from its highest bit on.
	for (unsigned i = 0; i < count; i++)
		words[i] = rte_be_to_cpu_32(words[i]);
	return rte_softrss(words, count, key);
}
