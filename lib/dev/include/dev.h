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
#include "rss.h"

#define DEV_MESSAGE 512
#define DEV_WORKERS_MAX 64

struct conf;
struct dev_link;
struct rte_mempool;

/* How the device spreads TCP connections: by rss_hash(), whose low bits choose the queue. */
#define DEV_RETA_MAX 512
struct dev_rss {
	bool known;
	bool ip4, ip6; // families that are hashed with their ports
	uint8_t key_size;
	uint16_t reta_size; // a power of two
	uint8_t key[RSS_KEY_MAX] __attribute__((aligned(4)));
	uint8_t queue[DEV_RETA_MAX];
};

struct dev_port {
	uint16_t port_id;
	unsigned nb_workers;                    // = rx queues = tx queues
	unsigned worker_lcore[DEV_WORKERS_MAX]; // lcore of each worker
	unsigned mtu;                           // bytes of the IP packet
	int numa_node;                          // -1 = none
	bool rss;                 // TCP 4-tuples are spread over the queues by the device
	struct dev_rss rss_table; // how; known from dev_port_open() on, but see dev_port_start()
	char driver[32];          // "net_af_xdp"
	char name[64];            // DPDK's name of the device
	char interface[16];       // kernel interface behind it, "" = none
	struct net_mac mac;
	struct dev_link *link;    // the kernel interface, dev_eal_init()'s own; NULL = none
	struct rte_mempool *pool; // for rx, for weir0's packets and for those that Weir makes
};

/*
 * Start EAL from the file and from what followed "--" on the command line (argv[0] is its first
 * word). The calling thread becomes the control core's, pinned to its CPU; there is no other thread
 * yet. What the machine lacks is found before EAL starts: devices, permission, CPUs, hugepages, and
 * another process with this file prefix or port (-EBUSY; that one isn't touched). lcore 0 is the
 * control core's, lcore w + 1 worker w's. Once per process, as EAL itself. On failure `message`
 * (DEV_MESSAGE bytes) says in one line what to do. 0 or -errno.
 */
int dev_eal_init(const struct conf *conf, int argc, char **argv, char *message);
/*
 * Start EAL as dev_eal_init() does, but while another process has the port: under a file prefix of
 * its own ("weir.1"), without the port, and without excluding others. dev_eal_take_port() makes up
 * for that when the other one has let go of it. The telemetry socket then has to be found under its
 * usual path: dev_eal_own_name(), once the other process has ended.
 */
int dev_eal_init_beside(const struct conf *conf, int argc, char **argv, char *message);
/* Take the port that dev_eal_init_beside() left out, and exclude others from it and from the usual
 * file prefix. 0, or -errno with `message` (DEV_MESSAGE bytes). */
int dev_eal_take_port(const struct conf *conf, char *message);
/* Let the telemetry socket be found under its usual path, after dev_eal_init_beside(). */
void dev_eal_own_name(const struct conf *conf);

/* Let another process take the port from here on, with what was changed on a
 * kernel interface. Behind dev_port_close(). */
void dev_eal_let_go(void);

/* End EAL, and leave nothing behind: no file, no hugepage, no lock. Fine
 * after a failed dev_eal_init(). */
void dev_eal_fini(void);

/* Return the kernel interface that the port will take over, "" = none: to be made mute before
 * dev_port_open() sets it up. */
const char *dev_eal_interface(void);

/* Keep what dev_port_open() changes on the kernel interface when the process ends. */
void dev_eal_keep_interface(void);

/* Put back what an ended process changed on the interface of the file, whose name `interface` (16
 * bytes) gets, and remove its lock and EAL's files; "" = it has none, or another weir has it now.
 * 0; 1: nothing says how the interface was before; -errno with `message`, -EBUSY: it hasn't ended.
 */
int dev_interface_forget(const struct conf *conf, char *interface, char *message);
/* Take away the XDP program that an ended process left on the interface, if it had one. */
void dev_interface_detach(const struct conf *conf);

/* Put back what an ended process changed on an interface that is nobody's port now, and call also()
 * while nobody can take it. 0 or -errno; -EBUSY: it is somebody's port. */
int dev_interface_return(const char *interface, void (*also)(const char *interface));

/* Write the file prefix into `name`, which holds 80 bytes: "weir", or "weir-b"
 * with instance "b". Returned. */
const char *dev_instance_name(const struct conf *conf, char *name);

/*
 * Open and configure the port, but start no queue. A kernel interface is set up, its offloads are
 * turned off; dev_port_close() puts it back as it was. On failure `message` says in one line what
 * to do, nothing is left open. 0 or -errno.
 */
int dev_port_open(struct dev_port *port, const struct conf *conf, char *message);
/* Start the queues. rss_table becomes unknown when the device, now that it runs, says that it does
 * otherwise. 0 or -errno. */
int dev_port_start(struct dev_port *port, char *message);
/* Stop and close the port; the workers must have ended. */
void dev_port_close(struct dev_port *port);

/* Tell whether the link is up. Asks the kernel for its interfaces, whose DPDK
 * drivers say "up" always. */
bool dev_port_link_up(const struct dev_port *port);

/* Return the index of the kernel interface behind the port; 0: it is gone, or there is none. */
unsigned dev_port_index(const struct dev_port *port);

/* The device's own totals since the start. What it lost stands apart from Weir's accounting. */
struct dev_port_stats {
	uint64_t ipackets;
	uint64_t opackets;
	uint64_t imissed; // lost for want of descriptors
	uint64_t ierrors;
	uint64_t rx_nombuf; // lost for want of buffers
};

/* Read the device's totals. Any thread. */
void dev_port_stats(const struct dev_port *port, struct dev_port_stats *stats);

#endif
