/* SPDX-License-Identifier: BSD-3-Clause */
/* The exception thread and what it shares with the workers. Of this module only. */
#ifndef WEIR_EXCEPTION_THREAD_H
#define WEIR_EXCEPTION_THREAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "conf.h"
#include "exception_budget.h"
#include "exception_namespace.h"

struct mnl_socket;
struct rte_mempool;
struct rte_ring;

#define EXCEPTION_ALL_CLASSES ((1u << PUNT_CLASSES) - 1)

/* Written by the thread alone, relaxed; read by anybody. */
struct exception_counters {
	_Atomic uint64_t to_kernel[PUNT_CLASSES];
	_Atomic uint64_t refused[PUNT_CLASSES];
	_Atomic uint64_t from_kernel;
	_Atomic uint64_t from_kernel_lost;
};

struct exception {
	// Read by all, written before the thread and the workers start.
	struct rte_ring *to_kernel[PUNT_CLASSES][CONF_WORKERS_MAX]; // worker w -> thread
	struct rte_ring *from_kernel[CONF_WORKERS_MAX];             // thread -> worker w
	unsigned nb_workers;
	unsigned frame_size; // bytes of the largest frame that weir0 sends
	struct rte_mempool *pool;
	bool taken_over; // weir0 was there at the start
	bool is_kept;    // weir0 stays at the end
	int event_fd;    // wakes the thread
	pthread_t thread;
	_Atomic bool stop;

	/*
	 * The classes, one bit each, for whose packets the thread wants to be woken; 0 = it is
	 * awake. Thread: set before it sleeps, 0 after. Worker: 0 when it wakes the thread.
	 */
	_Alignas(64) _Atomic unsigned sleeping;

	// Thread only, once it runs.
	_Alignas(64) int tun_fd;
	bool broken; // weir0 was deleted by somebody: its descriptor says EBADFD for good
	struct exception_budget budgets[PUNT_CLASSES];
	unsigned next_worker[PUNT_CLASSES]; // whose turn it is
	struct exception_counters counters;

	// Control core only.
	bool running;
	// Of weir0's namespace, to ask about it.
	int look_fd;
	struct mnl_socket *requests;
	unsigned index; // of weir0
	struct exception_namespace netns;
};

/* Run the thread, on a struct exception; ends when `stop` is set and event_fd written. */
void *exception_thread_run(void *exception);

/* Make the thread leave poll(). Any thread. */
void exception_thread_wake(struct exception *exception);

#endif
