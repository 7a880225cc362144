/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Token bucket of one punt class. Credit is kept in packets times 10^9, so a nanosecond earns
 * `rate` of it and nothing is rounded away, however often one looks. Exception thread only.
 */
#ifndef WEIR_EXCEPTION_BUDGET_H
#define WEIR_EXCEPTION_BUDGET_H

#include <stdint.h>

#define EXCEPTION_BUDGET_PACKET UINT64_C(1000000000) // credit that one packet costs
#define EXCEPTION_BUDGET_BURST_MIN 32 // packets; a budget may be low, a burst of ARP isn't

struct exception_budget {
	uint64_t rate;   // packets a second; 0 = none pass
	uint64_t credit; // never above `limit`
	uint64_t limit;  // a tenth of a second's packets, at least EXCEPTION_BUDGET_BURST_MIN
	uint64_t then;   // ns, of the last refill
};

static inline void exception_budget_init(
	struct exception_budget *budget, unsigned rate, uint64_t now)
{
	uint64_t burst = rate / 10;

	if (burst < EXCEPTION_BUDGET_BURST_MIN)
		burst = EXCEPTION_BUDGET_BURST_MIN;
	budget->rate = rate;
	budget->limit = rate == 0 ? 0 : burst * EXCEPTION_BUDGET_PACKET;
	budget->credit = budget->limit;
	budget->then = now;
}

static inline void exception_budget_refill(struct exception_budget *budget, uint64_t now)
{
	if (budget->rate == 0)
		return;
	// No more than fills it: else the product overflows after a long sleep.
	uint64_t longest = budget->limit / budget->rate + 1;
	uint64_t elapsed = now - budget->then;
	if (elapsed > longest)
		elapsed = longest;
	budget->credit += elapsed * budget->rate;
	if (budget->credit > budget->limit)
		budget->credit = budget->limit;
	budget->then = now;
}

/* Return how many whole packets may pass now. */
static inline uint64_t exception_budget_packets(const struct exception_budget *budget)
{
	return budget->credit / EXCEPTION_BUDGET_PACKET;
}

/* Take the credit of so many packets, at most exception_budget_packets(). */
static inline void exception_budget_take(struct exception_budget *budget, unsigned packets)
{
	budget->credit -= packets * EXCEPTION_BUDGET_PACKET;
}

/* Return the milliseconds until a packet may pass, rounded up; -1 = never (as poll(2) takes it). */
static inline int exception_budget_wait_ms(const struct exception_budget *budget)
{
	if (budget->rate == 0)
		return -1;
	if (budget->credit >= EXCEPTION_BUDGET_PACKET)
		return 0;
	uint64_t ns = (EXCEPTION_BUDGET_PACKET - budget->credit) / budget->rate;
	return (int)(ns / 1000000 + 1);
}

#endif
