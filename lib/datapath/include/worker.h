/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The worker: a polling loop around the pipeline, one a CPU. It owns rx queue w and tx queue w of
 * the port, shares the flow tables, and reads the published service table.
 *
 * Thread rule: worker_launch() and worker_stop() on the control core; everything else of the struct
 * is the worker's own while it runs, but for what says otherwise.
 */
#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "pipeline.h"

struct dev_port;
struct exception;
struct rte_mbuf;
struct rss_check;
struct rte_rcu_qsbr;
struct worker_spray;

struct worker {
	struct pipeline pipeline;
	struct stats_worker stats; // worker: write; anybody: stats_read()
	uint32_t busy_percent;     // of the last second, loops with packets; worker: write; atomic

	// Set before the launch.
	const struct dev_port *port;
	struct exception *exception;
	struct rte_rcu_qsbr *rcu;   // registered under the worker's number
	struct rss_check *rss;      // of all workers
	unsigned idle_sleep_us;     // 0 = always poll
	struct worker_spray *spray; // tests only; NULL = packets stay where the device put them

	bool times_loops;         // measurements only: fill in the next
	uint64_t longest_loop_ns; // of its CPU time, since it was set to 0; worker: write; atomic

	bool stop; // control: write; atomic
} __attribute__((aligned(64)));

/* Run on the worker's lcore. 0 or -errno. */
int worker_launch(struct worker *worker);

/* Ask a worker to end, and wait until it has. */
void worker_stop(struct worker *worker);

/*
 * A hook in the distribution of packets, for tests: each packet of a flow goes to another worker
 * than the flow's last one. Nothing of it is in the pipeline.
 */
struct worker_spray *worker_spray_create(unsigned nb_workers, uint32_t flows);
void worker_spray_destroy(struct worker_spray *spray);

/* Pass on what the worker received, and take what is its own. Returns the new count of `mbufs`. */
uint32_t worker_spray(
	struct worker_spray *spray, struct worker *worker, struct rte_mbuf **mbufs, uint32_t count);

#endif
