/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Does the device spread TCP packets as its RSS key and redirection table say? Shown by the first
 * TCP packets that the workers receive, before the pipeline sees them.
 *
 * Correctness never depends on it, as any packet may arrive on any worker. SNAT ports are lent by
 * class in any case: where the device does otherwise, the classes merely part the ports among the
 * workers, which then have a lock each, and an answer may come by another worker than its flow's.
 *
 * Thread rule: rss_check_init() before the workers run; rss_check_burst() on any worker; the state
 * is read by anybody.
 */
#ifndef WEIR_RSS_CHECK_H
#define WEIR_RSS_CHECK_H

#include <rte_branch_prediction.h>
#include <stdint.h>

#include "addr.h"

struct dev_port;
struct rte_mbuf;

#define RSS_CHECK_PACKETS 64 // right ones, over all workers, to believe it

enum rss_state {
	RSS_OFF,     // one queue, or TCP connections aren't spread by the device
	RSS_UNKNOWN, // they are, but by what key or table it doesn't tell
	RSS_CHECKING,
	RSS_VERIFIED,
	RSS_MISMATCH,
};

struct rss_check {
	uint32_t state; // enum rss_state; atomic
	uint32_t right; // packets that came as foretold; atomic
	const struct dev_port *port;
} __attribute__((aligned(64)));

void rss_check_init(struct rss_check *check, const struct dev_port *port);

/* Return "off", "unknown", "checking", "verified" or "mismatch". */
const char *rss_check_text(const struct rss_check *check);

/* Do the slow half of rss_check_burst(). */
void rss_check_packets(
	struct rss_check *check, unsigned queue, struct rte_mbuf **mbufs, uint32_t count);

/* Look at what came by the queue. */
static inline void rss_check_burst(
	struct rss_check *check, unsigned queue, struct rte_mbuf **mbufs, uint32_t count)
{
	if (unlikely(__atomic_load_n(&check->state, __ATOMIC_RELAXED) == RSS_CHECKING))
		rss_check_packets(check, queue, mbufs, count);
}

#endif
