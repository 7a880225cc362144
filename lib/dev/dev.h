/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * EAL, port, queues, cores and buffers. Worker w owns rx queue w and tx queue w.
 *
 * Thread rule: the functions run on the control core; struct dev_port is read-only once open.
 */
#ifndef WEIR_DEV_H
#define WEIR_DEV_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "conf.h"

#define DEV_MESSAGE 512

struct rte_mempool;

struct dev_port {
	uint16_t port_id;
	unsigned nb_workers;    // = rx queues = tx queues
	unsigned worker_lcore[CONF_WORKERS_MAX]; // lcore of each worker
	unsigned mtu;           // bytes of the IP packet
	int numa_node;          // -1 = none
	bool rss;               // TCP 4-tuples are spread over the queues by the device
	char driver[32];        // "net_af_xdp"
	char name[64];          // DPDK's name of the device
	char interface[16];     // kernel interface behind it, "" = none
	struct net_mac mac;
	struct rte_mempool *pool; // for rx, for weir0's packets and for those that Weir makes
};

/*
 * Start EAL from the file and from what followed "--" on the command line. The calling thread
 * becomes the control core's. On failure `message` (DEV_MESSAGE bytes) says in one line what to do.
 * 0 or -errno.
 */
int dev_eal_init(const struct conf *conf, int argc, char **argv, char *message);
void dev_eal_fini(void);

/* The file prefix: "weir", or "weir-b" with instance "b". `name` holds 80 bytes. */
const char *dev_instance_name(const struct conf *conf, char *name);

/*
 * Open and configure the port, but start no queue. On failure `message` says in one line what to
 * do, nothing is left open. 0 or -errno.
 */
int dev_port_open(struct dev_port *port, const struct conf *conf, char *message);
/* Queues run from here. 0 or -errno. */
int dev_port_start(struct dev_port *port, char *message);
/* Stops and closes; workers must have ended. */
void dev_port_close(struct dev_port *port);

bool dev_port_link_up(const struct dev_port *port);

#endif
