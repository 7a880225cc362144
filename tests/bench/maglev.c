/* SPDX-License-Identifier: BSD-3-Clause */
/* How long the control core takes to build a service's table. */
#include <rte_common.h>

#include "bench.h"
#include "clock.h"
#include "scheduler.h"

void bench_maglev(struct bench_rounds *rounds)
{
	static const uint32_t counts[] = {10, 100, 1000};
	static struct scheduler_backend backends[1000];

	for (unsigned i = 0; i < RTE_DIM(backends); i++)
		backends[i] = (struct scheduler_backend){
			.identity = (i + 1) * 0x9e3779b97f4a7c15, .weight = 1};
	while (bench_rounds_next(rounds)) {
		for (unsigned i = 0; i < RTE_DIM(counts); i++) {
			uint64_t start_ns = clock_thread_ns();
			void *state = scheduler_maglev.build(backends, counts[i]);
			uint64_t ns = clock_thread_ns() - start_ns;
			if (state == NULL)
				bench_fail("Maglev of %u backends failed", counts[i]);
			scheduler_maglev.destroy(state);
			bench_print("maglev", "\"backends\": %u, \"round\": %u, \"ms\": %.3f",
				counts[i], rounds->done - 1, ns / 1e6);
		}
	}
}
