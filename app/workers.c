/* SPDX-License-Identifier: BSD-3-Clause */
#include "workers.h"

#include <errno.h>
#include <rte_common.h>
#include <rte_mbuf.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backends.h"
#include "control.h"
#include "daemon.h"
#include "keep.h"
#include "log.h"
#include "macs.h"
#include "timeouts.h"

/* --- what is a worker's own of each backend and each service --- */

#define ARRAY(name)                                                                                \
	{                                                                                          \
		offsetof(struct pipeline, name), sizeof(*((struct pipeline *)NULL)->name)          \
	}

static const struct {
	size_t place, item; // of the pointer in the pipeline, bytes; of what it points to
} arrays[] = {
	ARRAY(backends),
	ARRAY(cursors),
	ARRAY(service_stats),
	ARRAY(active),
	ARRAY(connects),
	ARRAY(retries),
	ARRAY(handshakes),
};

static void **array(struct pipeline *pipeline, unsigned i)
{
	return (void **)((char *)pipeline + arrays[i].place);
}

/* Zeroed memory that the kernel gives where it is written first: by the worker, page by page. */
static bool arrays_create(struct pipeline *pipeline)
{
	for (unsigned i = 0; i < RTE_DIM(arrays); i++) {
		void *start = mmap(NULL, BACKENDS_IDS_MAX * arrays[i].item, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (start == MAP_FAILED)
			return false;
		*array(pipeline, i) = start;
	}
	return true;
}

static void arrays_destroy(struct pipeline *pipeline)
{
	for (unsigned i = 0; i < RTE_DIM(arrays); i++)
		if (*array(pipeline, i) != NULL)
			munmap(*array(pipeline, i), BACKENDS_IDS_MAX * arrays[i].item);
}

/* --- workers --- */

static struct rte_mbuf *new_mbuf(void *pool)
{
	return rte_pktmbuf_alloc(pool);
}

static int prepare(struct daemon *daemon, struct worker *worker, unsigned number)
{
	const struct conf *conf = daemon->conf;
	struct pipeline *pipeline = &worker->pipeline;

	pipeline_init(pipeline);
	pipeline->worker = number;
	pipeline->mac = daemon->port.mac;
	pipeline->flows4 = daemon->flows4;
	pipeline->flows6 = daemon->flows6;
	pipeline->hasher = daemon->flows4 ? &daemon->flows4->hasher : &daemon->flows6->hasher;
	pipeline->services = (const struct service_table *const *)&daemon->services;
	pipeline->stats = &worker->stats;
	pipeline->moves = macs_moves(daemon->macs);
	pipeline->probe_ports = &daemon->probe_ports;
	pipeline->new_mbuf = new_mbuf;
	pipeline->new_mbuf_context = daemon->port.pool;
	if (!arrays_create(pipeline))
		return -ENOMEM;
	daemon->counters[number] = pipeline->backends;
	daemon->fails[number] = &pipeline->fails;
	pipeline->peers = daemon->counters;
	pipeline->nb_peers = daemon->port.nb_workers;
	worker->port = &daemon->port;
	worker->exception = daemon->exception;
	worker->rcu = daemon->rcu;
	worker->idle_sleep_us = conf->cores.idle_sleep_us;
	worker->rss = &daemon->rss;
	worker->spray = daemon->spray;
	keep_worker_totals(daemon->keep, number, daemon->port.nb_workers, &worker->stats.live);
	stats_publish(&worker->stats);
	worker->times_loops = getenv("WEIR_TEST_LOOPS") != NULL;
	return 0;
}

int workers_create(struct daemon *daemon)
{
	size_t size = daemon->port.nb_workers * sizeof(*daemon->workers);
	unsigned least_s[CONF_TIMEOUTS];

	if (getenv("WEIR_TEST_SPRAY") != NULL) {
		log_warning("WEIR_TEST_SPRAY is set: packets are moved between workers, for tests");
		daemon->spray = worker_spray_create(daemon->port.nb_workers, daemon->conf->flows);
		if (daemon->spray == NULL)
			return -ENOMEM;
	}
	if (posix_memalign((void **)&daemon->workers, 64, size) != 0) {
		daemon->workers = NULL;
		workers_destroy(daemon);
		return -ENOMEM;
	}
	memset(daemon->workers, 0, size);
	for (unsigned w = 0; w < daemon->port.nb_workers; w++) {
		int err = prepare(daemon, &daemon->workers[w], w);
		if (err < 0) {
			workers_destroy(daemon);
			return err;
		}
	}
	backends_least_timeouts(control_backends(daemon->control), daemon->conf, least_s);
	timeouts_set(daemon->workers, daemon->port.nb_workers, daemon->conf, least_s, TIMEOUTS_ALL);
	return 0;
}

void workers_destroy(struct daemon *daemon)
{
	for (unsigned w = 0; daemon->workers != NULL && w < daemon->port.nb_workers; w++)
		arrays_destroy(&daemon->workers[w].pipeline);
	free(daemon->workers);
	daemon->workers = NULL;
	worker_spray_destroy(daemon->spray);
	daemon->spray = NULL;
}
