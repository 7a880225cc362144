/* SPDX-License-Identifier: BSD-3-Clause */
#include "exception.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "clock.h"
#include "conf.h"
#include "exception_interface.h"
#include "exception_thread.h"
#include "dev.h"
#include "log.h"
#include "netlink.h"
#include "netns.h"

#define TO_KERNEL_SIZE 256 // slots of a ring; one stays free
#define FROM_KERNEL_SIZE 512
#define VLAN_TAG_SIZE 4

static struct rte_ring *create_ring(
	const char *direction, unsigned class, unsigned worker, unsigned size)
{
	char name[RTE_RING_NAMESIZE];

	snprintf(name, sizeof(name), EXCEPTION_INTERFACE "_%s_%u_%u", direction, class, worker);
	return rte_ring_create(name, size, SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
}

static int create_rings(struct exception *exception)
{
	for (unsigned worker = 0; worker < exception->nb_workers; worker++) {
		for (unsigned class = 0; class < PUNT_CLASSES; class ++) {
			exception->to_kernel[class][worker] =
				create_ring("to", class, worker, TO_KERNEL_SIZE);
			if (exception->to_kernel[class][worker] == NULL)
				return -rte_errno;
		}
		exception->from_kernel[worker] = create_ring("from", 0, worker, FROM_KERNEL_SIZE);
		if (exception->from_kernel[worker] == NULL)
			return -rte_errno;
	}
	return 0;
}

/* With the packets in it. */
static void free_ring(struct rte_ring *ring)
{
	void *mbuf;

	if (ring == NULL)
		return;
	while (rte_ring_sc_dequeue(ring, &mbuf) == 0)
		rte_pktmbuf_free(mbuf);
	rte_ring_free(ring);
}

static void free_rings(struct exception *exception)
{
	for (unsigned worker = 0; worker < exception->nb_workers; worker++) {
		for (unsigned class = 0; class < PUNT_CLASSES; class ++)
			free_ring(exception->to_kernel[class][worker]);
		free_ring(exception->from_kernel[worker]);
	}
}

/* weir0, made and set up within its namespace. */
static int create_interface(struct exception *exception, const struct conf *conf,
	const struct dev_port *port, bool *withdrawn, char *message)
{
	bool host = exception->netns.fd < 0;
	int previous = -1, err = 0;

	if (!host) {
		previous = netns_enter(exception->netns.fd);
		if (previous < 0) {
			snprintf(message, DEV_MESSAGE, "network namespace %s can't be entered: %s",
				exception->netns.name, strerror(-previous));
			return previous;
		}
	}
	exception->tun_fd =
		exception_interface_open(conf->flows_persist, &exception->taken_over, message);
	if (exception->tun_fd < 0)
		err = exception->tun_fd;
	else
		err = exception_interface_configure(&conf->port, port, exception->netns.ours, host,
			exception->taken_over, withdrawn, message);
	if (previous >= 0)
		netns_leave(previous);
	return err;
}

static struct exception *allocate(const struct conf *conf, const struct dev_port *port)
{
	struct exception *exception = aligned_alloc(_Alignof(struct exception), sizeof(*exception));

	if (exception == NULL)
		return NULL;
	memset(exception, 0, sizeof(*exception));
	exception->nb_workers = port->nb_workers;
	exception->frame_size = port->mtu + RTE_ETHER_HDR_LEN + VLAN_TAG_SIZE;
	exception->pool = port->pool;
	exception->event_fd = -1;
	exception->tun_fd = -1;
	exception->look_fd = -1;
	exception->netns.fd = -1;
	for (unsigned class = 0; class < PUNT_CLASSES; class ++)
		exception_budget_init(
			&exception->budgets[class], conf->port.punt_limit[class], clock_ns());
	return exception;
}

static int open_looks(struct exception *exception)
{
	exception->look_fd = netns_socket(exception->netns.fd, AF_INET, SOCK_DGRAM, 0);
	if (exception->look_fd < 0)
		return exception->look_fd;
	exception->requests = netlink_open(exception->netns.fd, 0);
	if (exception->requests == NULL)
		return -errno;
	exception->index = exception_interface_index(exception->look_fd);
	return 0;
}

/* `remove`: the namespace too, if Weir made it. */
static void release(struct exception *exception, bool remove)
{
	free_rings(exception);
	if (exception->tun_fd >= 0)
		close(exception->tun_fd); // weir0 goes with it
	if (exception->event_fd >= 0)
		close(exception->event_fd);
	if (exception->look_fd >= 0)
		close(exception->look_fd);
	if (exception->requests != NULL)
		mnl_socket_close(exception->requests);
	exception_namespace_close(&exception->netns, remove);
	free(exception);
}

struct exception *exception_create(
	const struct conf *conf, const struct dev_port *port, bool *withdrawn, char *message)
{
	struct exception *exception = allocate(conf, port);
	int err;

	if (exception == NULL) {
		snprintf(message, DEV_MESSAGE, "no memory for " EXCEPTION_INTERFACE);
		errno = ENOMEM;
		return NULL;
	}
	err = exception_namespace_open(&exception->netns, conf->port.netns, message);
	if (err < 0)
		goto failed;
	err = create_interface(exception, conf, port, withdrawn, message);
	if (err < 0)
		goto failed;
	exception->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	err = exception->event_fd < 0 ? -errno : create_rings(exception);
	if (err == 0)
		err = open_looks(exception);
	if (err < 0) {
		snprintf(message, DEV_MESSAGE, "queues of " EXCEPTION_INTERFACE ": %s",
			strerror(-err));
		goto failed;
	}
	// Last: what failed until here leaves nothing behind.
	if (conf->flows_persist && exception_interface_persist(exception->tun_fd, true) < 0)
		log_warning(EXCEPTION_INTERFACE " will go with this process: %s", strerror(errno));
	return exception;
failed:
	// One that was there stays: it may be in use by the process that holds weir0.
	release(exception, exception->netns.made);
	errno = -err;
	return NULL;
}

int exception_start(struct exception *exception)
{
	sigset_t all, previous;

	// Signals are for the event loop of the calling thread.
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &previous);
	int err = pthread_create(&exception->thread, NULL, exception_thread_run, exception);
	pthread_sigmask(SIG_SETMASK, &previous, NULL);
	if (err != 0)
		return -err;
	exception->running = true;
	pthread_setname_np(exception->thread, "weir-exception");
	return 0;
}

void exception_destroy(struct exception *exception)
{
	if (exception == NULL)
		return;
	if (exception->running) {
		atomic_store_explicit(&exception->stop, true, memory_order_release);
		exception_thread_wake(exception);
		pthread_join(exception->thread, NULL);
	}
	if (!exception->is_kept)
		exception_interface_persist(exception->tun_fd, false);
	release(exception, !exception->is_kept);
}

void exception_keep(struct exception *exception)
{
	exception->is_kept = true;
}

bool exception_taken_over(const struct exception *exception)
{
	return exception->taken_over;
}

int exception_forget(const struct conf *conf, char *message)
{
	const char *name = conf->port.netns;
	struct exception_namespace ns = {.fd = -1};
	char path[128];
	int previous = -1, err;

	snprintf(path, sizeof(path), "/run/netns/%s", name);
	if (name[0] != '\0' && access(path, F_OK) < 0) {
		exception_namespace_forget(name);
		return 0;
	}
	err = exception_namespace_open(&ns, name, message);
	if (err == 0 && ns.fd >= 0) {
		previous = netns_enter(ns.fd);
		err = previous < 0 ? previous : 0;
	}
	if (err == 0)
		err = exception_interface_remove();
	if (previous >= 0)
		netns_leave(previous);
	if (err < 0)
		snprintf(message, DEV_MESSAGE, EXCEPTION_INTERFACE ": %s%s", strerror(-err),
			err == -EBUSY ? "; a process holds it" : "");
	else if (ns.fd >= 0 && !ns.ours)
		log_info("network namespace %s stays: Weir hasn't made it", name);
	exception_namespace_close(&ns, err == 0);
	return err;
}

int exception_netns(const struct exception *exception)
{
	return exception->netns.fd;
}

int exception_local_port_range(const struct exception *exception, uint16_t *first, uint16_t *last)
{
	int previous = -1, err = 0;

	if (exception->netns.fd >= 0) {
		previous = netns_enter(exception->netns.fd);
		if (previous < 0)
			return previous;
	}
	FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	if (file == NULL) {
		err = -errno;
	} else {
		if (fscanf(file, "%hu %hu", first, last) != 2)
			err = -EIO;
		fclose(file);
	}
	if (previous >= 0)
		netns_leave(previous);
	return err;
}

int exception_set_address(
	const struct exception *exception, const struct net_prefix *prefix, bool present)
{
	int previous = -1;

	if (exception->netns.fd >= 0) {
		previous = netns_enter(exception->netns.fd);
		if (previous < 0)
			return previous;
	}
	int err = exception_interface_address(prefix, present);
	if (previous >= 0)
		netns_leave(previous);
	return err;
}

unsigned exception_punt(struct exception *exception, unsigned worker, enum punt_class class,
	struct rte_mbuf **mbufs, unsigned count)
{
	struct rte_ring *ring = exception->to_kernel[class][worker];
	unsigned bit = 1u << class;

	count = rte_ring_sp_enqueue_burst(ring, (void **)mbufs, count, NULL);
	if (count == 0)
		return 0;
	// The packets must be in the ring before `sleeping` is read; pairs with sleep_until_work().
	atomic_thread_fence(memory_order_seq_cst);
	if ((atomic_load_explicit(&exception->sleeping, memory_order_relaxed) & bit) != 0 &&
		atomic_exchange_explicit(&exception->sleeping, 0, memory_order_relaxed) != 0)
		exception_thread_wake(exception);
	return count;
}

unsigned exception_rx(
	struct exception *exception, unsigned worker, struct rte_mbuf **mbufs, unsigned count)
{
	struct rte_ring *ring = exception->from_kernel[worker];

	return rte_ring_sc_dequeue_burst(ring, (void **)mbufs, count, NULL);
}

void exception_totals(const struct exception *exception, struct exception_totals *totals)
{
	const struct exception_counters *counters = &exception->counters;

	for (unsigned class = 0; class < PUNT_CLASSES; class ++) {
		totals->to_kernel[class] =
			atomic_load_explicit(&counters->to_kernel[class], memory_order_relaxed);
		totals->refused[class] =
			atomic_load_explicit(&counters->refused[class], memory_order_relaxed);
	}
	totals->from_kernel = atomic_load_explicit(&counters->from_kernel, memory_order_relaxed);
	totals->from_kernel_lost =
		atomic_load_explicit(&counters->from_kernel_lost, memory_order_relaxed);
}
