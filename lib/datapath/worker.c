/* SPDX-License-Identifier: BSD-3-Clause */
#include "worker.h"

#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_rcu_qsbr.h>
#include <sys/prctl.h>
#include <time.h>

#include "clock.h"
#include "dev.h"
#include "exception.h"
#include "log.h"
#include "rss_check.h"
#include "tsan.h"

#define IDLE_BEFORE_SLEEP_MS 10
// Records the sweep may look at in one loop: some tens of microseconds.
#define TICK_BUDGET 512

_Static_assert(DEV_WORKERS_MAX == STATS_WORKERS_MAX, "each of the port's workers counts");

static const enum stats_drop punt_drop[PUNT_CLASSES] = {
	[PUNT_ARP] = STATS_DROP_PUNT_ARP_FULL,
	[PUNT_ND] = STATS_DROP_PUNT_ND_FULL,
	[PUNT_PROBE] = STATS_DROP_PUNT_PROBE_FULL,
	[PUNT_BACKEND] = STATS_DROP_PUNT_BACKEND_FULL,
	[PUNT_REST] = STATS_DROP_PUNT_REST_FULL,
};

/*
 * Returns how many the port took; the others are freed. Two tries: a driver may first have to be
 * told to clean up behind what it sent, and no worker waits for a peer that doesn't drain (C6).
 */
static uint32_t transmit(struct worker *worker, struct rte_mbuf **mbufs, uint32_t count)
{
	uint16_t port = worker->port->port_id, queue = worker->pipeline.worker;
	uint32_t sent = rte_eth_tx_burst(port, queue, mbufs, count);

	if (unlikely(sent < count))
		sent += rte_eth_tx_burst(port, queue, mbufs + sent, count - sent);
	if (unlikely(sent < count))
		rte_pktmbuf_free_bulk(mbufs + sent, count - sent);
	return sent;
}

/* Empty the pipeline's out bursts. */
static void flush(struct worker *worker)
{
	struct pipeline *pipeline = &worker->pipeline;
	struct stats_counters *counters = &worker->stats.live;
	uint32_t count, taken;

	if ((count = pipeline->forward.count) != 0) {
		taken = transmit(worker, pipeline->forward.mbufs, count);
		counters->forwarded += taken;
		counters->drops[STATS_DROP_TX_FULL] += count - taken;
		pipeline->forward.count = 0;
	}
	if ((count = pipeline->reply.count) != 0) {
		taken = transmit(worker, pipeline->reply.mbufs, count);
		counters->generated += taken;
		counters->generated_lost += count - taken;
		pipeline->reply.count = 0;
	}
	for (enum punt_class class = 0; class < PUNT_CLASSES; class ++) {
		struct pipeline_out *punt = &pipeline->punt[class];
		if ((count = punt->count) == 0)
			continue;
		taken = exception_punt(
			worker->exception, pipeline->worker, class, punt->mbufs, count);
		counters->punted += taken;
		counters->drops[punt_drop[class]] += count - taken;
		rte_pktmbuf_free_bulk(punt->mbufs + taken, count - taken);
		punt->count = 0;
	}
	if ((count = pipeline->drop.count) != 0) {
		rte_pktmbuf_free_bulk(pipeline->drop.mbufs, count);
		pipeline->drop.count = 0;
	}
}

static uint32_t send_from_kernel(struct worker *worker)
{
	struct stats_counters *counters = &worker->stats.live;
	struct rte_mbuf *mbufs[PIPELINE_BURST];
	uint32_t count =
		exception_rx(worker->exception, worker->pipeline.worker, mbufs, PIPELINE_BURST);

	if (count != 0) {
		uint32_t taken = transmit(worker, mbufs, count);
		counters->from_kernel += taken;
		counters->from_kernel_lost += count - taken;
	}
	return count;
}

/* Sleep without holding up anybody's grace period. */
static void idle_sleep(struct worker *worker)
{
	struct timespec pause = {.tv_sec = worker->idle_sleep_us / 1000000,
		.tv_nsec = worker->idle_sleep_us % 1000000 * 1000L};

	tsan_release(worker->rcu);
	rte_rcu_qsbr_thread_offline(worker->rcu, worker->pipeline.worker);
	nanosleep(&pause, NULL);
	rte_rcu_qsbr_thread_online(worker->rcu, worker->pipeline.worker);
}

/* What a loop costs the worker itself, whatever else has the CPU meanwhile: a system call, so not
 * for every day. */
static void time_loop(struct worker *worker, uint64_t *last_ns)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	uint64_t now_ns = now.tv_sec * 1000000000ULL + now.tv_nsec, took_ns = now_ns - *last_ns;
	if (*last_ns != 0 && took_ns > __atomic_load_n(&worker->longest_loop_ns, __ATOMIC_RELAXED))
		__atomic_store_n(&worker->longest_loop_ns, took_ns, __ATOMIC_RELAXED);
	*last_ns = now_ns;
}

static int worker_main(void *argument)
{
	struct worker *worker = argument;
	struct pipeline *pipeline = &worker->pipeline;
	struct stats_counters *counters = &worker->stats.live;
	struct rte_mbuf *mbufs[PIPELINE_BURST];
	uint64_t now_ns = clock_ns(), last_packet_ms = now_ns / 1000000, last_ms = last_packet_ms;
	uint64_t second_ns = now_ns, second_busy_ns = counters->busy_ns;
	uint64_t loop_cpu_ns = 0;
	bool busy = false, tick_again = false;

	prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0); // the sleep is as long as it says
	rte_rcu_qsbr_thread_register(worker->rcu, pipeline->worker);
	rte_rcu_qsbr_thread_online(worker->rcu, pipeline->worker);
	while (!__atomic_load_n(&worker->stop, __ATOMIC_RELAXED)) {
		uint64_t before_ns = now_ns;
		now_ns = clock_ns();
		uint64_t now_ms = now_ns / 1000000;
		if (busy)
			counters->busy_ns += now_ns - before_ns;
		if (now_ns - second_ns >= 1000000000) {
			__atomic_store_n(&worker->busy_percent,
				(counters->busy_ns - second_busy_ns) * 100 / (now_ns - second_ns),
				__ATOMIC_RELAXED);
			second_ns = now_ns;
			second_busy_ns = counters->busy_ns;
		}

		uint32_t count = rte_eth_rx_burst(
			worker->port->port_id, pipeline->worker, mbufs, PIPELINE_BURST);
		rss_check_burst(worker->rss, pipeline->worker, mbufs, count);
		if (unlikely(worker->spray != NULL))
			count = worker_spray(worker->spray, worker, mbufs, count);
		pipeline->now_part_us = now_ns / 1000 - now_ms * 1000;
		if (count != 0)
			pipeline_run(pipeline, mbufs, count, now_ms);
		flush(worker);
		busy = count + send_from_kernel(worker) != 0;
		counters->loops++;
		counters->busy_loops += busy;

		if (now_ms != last_ms || tick_again) {
			tick_again = pipeline_tick(pipeline, now_ms, TICK_BUDGET);
			flush(worker); // resets
		}
		if (now_ms != last_ms) {
			last_ms = now_ms;
			stats_publish(&worker->stats);
		}
		// All references into the tables are gone: the burst is done.
		tsan_release(worker->rcu);
		rte_rcu_qsbr_quiescent(worker->rcu, pipeline->worker);
		if (unlikely(worker->times_loops))
			time_loop(worker, &loop_cpu_ns);
		if (busy)
			last_packet_ms = now_ms;
		else if (worker->idle_sleep_us != 0 &&
			now_ms - last_packet_ms >= IDLE_BEFORE_SLEEP_MS)
			idle_sleep(worker);
	}
	stats_publish(&worker->stats);
	tsan_release(worker->rcu);
	rte_rcu_qsbr_thread_offline(worker->rcu, pipeline->worker);
	rte_rcu_qsbr_thread_unregister(worker->rcu, pipeline->worker);
	return 0;
}

int worker_launch(struct worker *worker)
{
	__atomic_store_n(&worker->stop, false, __ATOMIC_RELAXED);
	return rte_eal_remote_launch(
		worker_main, worker, worker->port->worker_lcore[worker->pipeline.worker]);
}

void worker_stop(struct worker *worker)
{
	__atomic_store_n(&worker->stop, true, __ATOMIC_RELAXED);
	rte_eal_wait_lcore(worker->port->worker_lcore[worker->pipeline.worker]);
}
