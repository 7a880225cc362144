/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The clock: monotonic, so that a step of the wall clock ends no flow and no probe (case D16), and
 * the same for a process and its successor on one boot. Code that decides by time takes `now` as an
 * argument, so that its tests run on a virtual clock.
 */
#ifndef WEIR_CLOCK_H
#define WEIR_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline uint64_t clock_ms(void)
{
	return clock_ns() / 1000000;
}

/* Return the CPU time of the calling thread in nanoseconds: what a loop cost, whoever
 * else had the CPU. */
static inline uint64_t clock_thread_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
