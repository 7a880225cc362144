/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's side of the port: the TAP device weir0 with the port's MAC, the configured addresses
 * and a network namespace of its own, and the exception thread that carries packets between it and
 * the workers.
 *
 * Thread rule: create, start and destroy on the control core; exception_punt() and exception_rx()
 * by worker `w` only, without a system call unless the thread sleeps.
 */
#ifndef WEIR_EXCEPTION_H
#define WEIR_EXCEPTION_H

#include <stdint.h>

#include "addr.h"
#include "conf.h"
#include "dev.h"

struct exception;
struct rte_mbuf;

#define EXCEPTION_INTERFACE "weir0"

/*
 * Make the namespace if it isn't there, weir0 in it (up, with addresses, default routes, MTU and
 * MAC), and the rings. `message` (DEV_MESSAGE bytes) says in one line what failed and what to do.
 * NULL and errno on failure, and then nothing is left.
 */
struct exception *exception_create(const struct conf *conf, const struct dev_port *port,
	char *message);

/* Start the thread, on the calling thread's CPU set. 0 or -errno. */
int exception_start(struct exception *exception);

/* Stop the thread, remove weir0, and the namespace if it was made by exception_create(). */
void exception_destroy(struct exception *exception);

/* Descriptor of weir0's namespace, owned by the exception; -1 = the host's. */
int exception_netns(const struct exception *exception);

/*
 * Hand packets of one class to the kernel. Returns how many were taken, the first ones; their
 * buffers belong to the exception then, the others stay the caller's.
 */
unsigned exception_punt(struct exception *exception, unsigned worker, enum conf_punt_class class,
	struct rte_mbuf **mbufs, unsigned count);

/* Packets of weir0 that this worker is to send. The buffers become the caller's. */
unsigned exception_rx(struct exception *exception, unsigned worker, struct rte_mbuf **mbufs,
	unsigned count);

/* Totals for telemetry; any thread. */
struct exception_totals {
	uint64_t to_kernel[CONF_PUNT_CLASSES];  // written to weir0
	uint64_t refused[CONF_PUNT_CLASSES];    // weir0 took them not
	uint64_t from_kernel;                   // read from weir0 and put on a ring
	uint64_t from_kernel_lost;              // no buffer, or the ring was full
};
void exception_totals(const struct exception *exception, struct exception_totals *totals);

/*
 * Make a kernel interface mute: its stack neither answers nor sees what the port receives (an nft
 * netdev-ingress drop, IPv6 off). It outlives the process; unmute undoes it, also what a killed
 * process left. -ENODEV and the like as -errno, with `message` (DEV_MESSAGE bytes).
 */
int exception_mute(const char *interface, char *message);
void exception_unmute(const char *interface);

#endif
