/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How long a service's clients take from SYN to ACK, as one worker sees it: a half-open flow that
 * is older than nearly all of them needed may give way to another client; a younger one is likely
 * to be a client, too.
 *
 * Each connection whose handshake completes counts in one of twelve steps. When there are so many
 * of them, all counts are halved, so that the latest weigh most.
 *
 * One worker's own, by service.
 */
#ifndef WEIR_HANDSHAKE_H
#define WEIR_HANDSHAKE_H

#include <stdint.h>

#define HANDSHAKE_STEPS 12
#define HANDSHAKE_KEPT 1024
#define HANDSHAKE_KNOWN 100 // from so many on there is a 99th percentile

struct handshakes {
	uint16_t total;
	uint16_t counts[HANDSHAKE_STEPS];
} __attribute__((aligned(32)));

/* Who takes longer counts for the last step: a stranger who dawdles raises it no further. */
static const uint16_t handshake_steps_ms[HANDSHAKE_STEPS] = {
	20, 30, 40, 60, 80, 120, 160, 240, 320, 480, 640, 1000};

/* A handshake is complete. */
static inline void handshake_done(struct handshakes *handshakes, uint32_t took_ms)
{
	unsigned step = 0;

	while (step < HANDSHAKE_STEPS - 1 && took_ms > handshake_steps_ms[step])
		step++;
	handshakes->counts[step]++;
	if (++handshakes->total < HANDSHAKE_KEPT)
		return;
	handshakes->total = 0;
	for (unsigned i = 0; i < HANDSHAKE_STEPS; i++)
		handshakes->total += handshakes->counts[i] /= 2;
}

/* What 99 % of them took at most, ms. */
static inline uint32_t handshake_usual_ms(const struct handshakes *handshakes)
{
	unsigned step = HANDSHAKE_STEPS - 1, longer = 0;

	if (handshakes->total < HANDSHAKE_KNOWN)
		return handshake_steps_ms[step];
	while (step > 0 && longer + handshakes->counts[step] <= handshakes->total / 100)
		longer += handshakes->counts[step--];
	return handshake_steps_ms[step];
}

#endif
