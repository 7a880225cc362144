/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The benchmark of the packet path: what its parts share.
 *
 * It links the libraries that the daemon links and calls pipeline_run() and pipeline_tick() as the
 * worker does, over mbufs of a real mempool. Time is the TSC's, as in testpmd, read right before
 * and right after; nothing is subtracted. Not fenced: what a burst leaves in flight is paid for by
 * the next one, which starts a few instructions later.
 *
 * A figure is the median over many batches of 4,096 packets, so that one that was interrupted does
 * not count; whoever reads the lines takes the median of several rounds.
 */
#ifndef WEIR_BENCH_H
#define WEIR_BENCH_H

#include <rte_cycles.h>
#include <stdbool.h>
#include <stdint.h>

#define BENCH_BATCH 4096 // packets, each in an mbuf of its own
#define BENCH_BATCHES_MAX 1024

/* Round by round, so that a yardstick can be measured in between. */
struct bench_rounds {
	unsigned count;
	bool wait; // for a line on stdin before each round
	unsigned done;
	unsigned flows;  // the row to measure of part "established"; 0 = all
	unsigned family; // 4, 6; 0 = both
};

/* Whether there is another round to do; call before each. */
bool bench_rounds_next(struct bench_rounds *rounds);

/* Figures of the batches of one row. */
struct bench_samples {
	unsigned count;
	double value[BENCH_BATCHES_MAX];
};

static inline void bench_samples_add(struct bench_samples *samples, double value)
{
	if (samples->count < BENCH_BATCHES_MAX)
		samples->value[samples->count++] = value;
}

/* The median; sorts the samples and empties them. */
double bench_samples_take(struct bench_samples *samples);

/* Print one line of JSON: `fields` is a printf format of what stands between the braces. */
void bench_print(const char *row, const char *fields, ...) __attribute__((format(printf, 2, 3)));

/* End with a message: a benchmark that doesn't do what it says has no figures. */
void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* The parts. Each prints its rows. */
void bench_established(struct bench_rounds *rounds);
void bench_packet_path(struct bench_rounds *rounds);
void bench_connections(struct bench_rounds *rounds);
void bench_refused(struct bench_rounds *rounds);
void bench_expiry(struct bench_rounds *rounds);
void bench_maglev(struct bench_rounds *rounds);
void bench_workers(struct bench_rounds *rounds);

#endif
