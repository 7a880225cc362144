/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What net_af_xdp leaves to its user: sockets that nobody closes, and queues that another process
 * has just closed. Control core only.
 */
#ifndef WEIR_DEV_XDP_H
#define WEIR_DEV_XDP_H

/* Close this process's AF_XDP sockets, and unmap their rings: net_af_xdp (22.11) leaves some of
 * either when the port is closed, and with them the queues are taken. No other socket of the
 * process may have a mapping. */
void dev_xdp_close_sockets(void);

/*
 * Wait until the kernel has let go of the first `nb_queues` queues of an interface that is up: it
 * frees a queue a moment after the last descriptor of it was closed, in a thread of its own.
 *
 * To be called before net_af_xdp takes them. It may not be asked twice for a queue: its fill ring
 * keeps the place that the attempt that failed had reached (xsk_ring_prod.cached_prod), so the
 * kernel is handed buffers at address 0, and what comes in them is no mbuf.
 *
 * 0; -EBUSY when `wait_ms` passed, with the queue in *queue; -errno (no AF_XDP here, no
 * permission).
 */
int dev_xdp_wait_free(const char *interface, unsigned nb_queues, unsigned wait_ms, unsigned *queue);

/* Take the program off an interface that an ended process left there. 0 or -errno. */
int dev_xdp_detach(const char *interface);

#endif
