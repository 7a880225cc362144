/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The kernel's side of the port: the TAP device weir0 with the port's MAC, the configured addresses
 * and a network namespace of its own, and the exception thread that carries packets between it and
 * the workers.
 *
 * Thread rule: create, start and destroy on the control core; exception_punt() and exception_rx()
 * by worker `w` only, without a system call unless the thread sleeps and the class has budget.
 */
#ifndef WEIR_EXCEPTION_H
#define WEIR_EXCEPTION_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "punt.h"

struct conf;
struct conf_port;
struct dev_port;
struct exception;
struct rte_mbuf;

#define EXCEPTION_INTERFACE "weir0"

/*
 * Make the namespace if it isn't there, weir0 in it (up, with addresses, default routes, MTU and
 * MAC), and the rings. With flows.persist a weir0 that is there and nobody's is taken over: what
 * differs from the configuration is changed, all else stays. In the host's namespace (port.netns
 * "") no default route is set. Of `port` MAC, MTU, number of workers and pool are used; the port
 * need not be started.
 *
 * `withdrawn`: by address of the port, those that are left as they are: not added, and not removed
 * where a weir0 that is taken over has them. When this returns, those that weir0 hasn't.
 *
 * `message` (DEV_MESSAGE bytes) says in one line what failed and what to do. NULL and errno on
 * failure, and then nothing of this call is left; EBUSY when another process holds weir0. One per
 * process: the rings have names.
 */
struct exception *exception_create(
	const struct conf *conf, const struct dev_port *port, bool *withdrawn, char *message);

/* Tell whether weir0 was there already: addresses, routes and neighbours are those of before. */
bool exception_taken_over(const struct exception *exception);

enum exception_state {
	EXCEPTION_UP,
	EXCEPTION_DOWN,
	EXCEPTION_GONE, // deleted: it can't be had again but by a restart
};

/* Tell how weir0 is. Control core. */
enum exception_state exception_state(const struct exception *exception);

/*
 * Put back what somebody took from weir0: that it is up, its addresses, the default routes by
 * port.gateway where no other leads out. Says in the log what was missing. `withdrawn`: by address
 * of `conf`, those that it is not to have. Control core. 0, or -errno of what can't be put back.
 */
int exception_mend(
	const struct exception *exception, const struct conf_port *conf, const bool *withdrawn);

/* Tell whether the namespace of that name is still weir0's. Control core. */
bool exception_netns_is_named(const struct exception *exception);

/* Start the thread, on the calling thread's CPU set. 0 or -errno. */
int exception_start(struct exception *exception);

/* Let exception_destroy() leave weir0 and the namespace for the next start. They stay, too, when
 * the process is killed, with flows.persist. */
void exception_keep(struct exception *exception);

/* Remove the weir0 that an ended process left, and the namespace if Weir made it. -EBUSY: somebody
 * holds it; -errno with `message`. Fine when there is none. */
int exception_forget(const struct conf *conf, char *message);

/*
 * Stop the thread and remove weir0, and the namespace if Weir made it, in this run or in a killed
 * one. Packets in the rings are freed; the workers must have ended. NULL is fine.
 */
void exception_destroy(struct exception *exception);

/* Return the descriptor of weir0's namespace, owned by the exception; -1 = the host's. */
int exception_netns(const struct exception *exception);

/* Read the ports, both included, in host byte order, that the kernel takes for its own connections
 * from weir0's addresses (net.ipv4.ip_local_port_range, IPv6 too). 0 or -errno. */
int exception_local_port_range(const struct exception *exception, uint16_t *first, uint16_t *last);

/* Put one of the port's addresses on weir0, or take it off. Fine when it is so already. 0 or
 * -errno. */
int exception_set_address(
	const struct exception *exception, const struct net_prefix *prefix, bool present);

/*
 * Hand packets of one class to the kernel: whole frames from the Ethernet header on. Returns how
 * many were taken, the first ones; their buffers belong to the exception then, the others stay the
 * caller's. A class beyond its budget (port.punt) fills its ring and is refused here; the others
 * aren't affected.
 */
unsigned exception_punt(struct exception *exception, unsigned worker, enum punt_class class,
	struct rte_mbuf **mbufs, unsigned count);

/*
 * Take the packets of weir0 that this worker is to send, of port->pool, checksums complete; with an
 * MTU beyond a buffer's room they are chains. A flow keeps its worker. The buffers become the
 * caller's. Returns how many.
 */
unsigned exception_rx(
	struct exception *exception, unsigned worker, struct rte_mbuf **mbufs, unsigned count);

/* Totals for telemetry. */
struct exception_totals {
	uint64_t to_kernel[PUNT_CLASSES]; // written to weir0
	uint64_t refused[PUNT_CLASSES];   // weir0 didn't take them
	uint64_t from_kernel;             // read from weir0 and put on a ring
	uint64_t from_kernel_lost;        // no buffer, or the ring was full
};

/* Read the totals. Any thread. */
void exception_totals(const struct exception *exception, struct exception_totals *totals);

/*
 * Make a kernel interface mute: its stack neither answers nor sees what the port receives (an nft
 * netdev-ingress drop in a table weir_INTERFACE, IPv6 off). It outlives the process; unmute undoes
 * it, also what a killed process left, for the table's comment keeps what was there before. Muting
 * twice is fine. Both act in the calling thread's namespace; control core. libnftables.
 *
 * IPv4 addresses that the interface has stay, but the kernel doesn't hear on them any more; IPv6
 * ones go with IPv6, and only the link-local one comes back: a warning names them. 0; or -errno
 * with `message` (DEV_MESSAGE bytes): -ENODEV, and -EBUSY when a default route goes out of it, so
 * that muting would cut the machine off.
 */
int exception_mute(const char *interface, char *message);
/* Tell whether the interface is mute: somebody may have flushed nftables. Control core. */
bool exception_is_mute(const char *interface);
/* Undo exception_mute(), also what a killed process left: the table's comment keeps what was there
 * before. In the calling thread's namespace; control core. */
void exception_unmute(const char *interface);

#endif
