/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The thread goes round two passes, each bounded: workers -> weir0, by class in order of importance
 * and within its budget, and weir0 -> workers. When a round moved nothing it sleeps in poll().
 *
 * No wake-up may be lost, and none is to be made in vain, since each costs a worker a system call:
 *
 *     worker: enqueue; fence; read `sleeping`     thread: write `sleeping`; fence; look at rings
 *
 * With a full fence on both sides at least one of them sees what the other wrote. `sleeping` names
 * the classes that the thread waits for: a class whose budget is spent isn't among them, for the
 * thread wakes by itself when there is credit again, and a flood would else wake it per packet.
 */
#include "exception_thread.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <rte_mbuf.h>
#include <rte_ring.h>

#include "clock.h"
#include "exception.h"
#include "exception_spread.h"
#include "log.h"

#define WORKER_BATCH 16 // packets that one worker's ring gives in its turn
#define CLASS_BATCH 64  // packets of one class before a more important one is looked at again
#define KERNEL_BATCH 64 // packets from weir0 in one pass
#define SEGMENTS_MAX 32 // segments of a packet: more than any frame of a port needs

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	// One writer: no need for an atomic addition.
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
		memory_order_relaxed);
}

static void note_error(struct exception *exception, int err)
{
	exception->broken |= err == EBADFD;
}

/* Whether the kernel took the packet. */
static bool write_packet(struct exception *exception, const struct rte_mbuf *mbuf)
{
	struct iovec parts[SEGMENTS_MAX];
	int nb_parts = 0;

	for (; mbuf != NULL && nb_parts < SEGMENTS_MAX; mbuf = mbuf->next)
		parts[nb_parts++] = (struct iovec){
			.iov_base = rte_pktmbuf_mtod(mbuf, void *),
			.iov_len = rte_pktmbuf_data_len(mbuf),
		};
	if (mbuf != NULL)
		return false;
	if (writev(exception->tun_fd, parts, nb_parts) >= 0)
		return true;
	note_error(exception, errno);
	return false;
}

static void write_burst(
	struct exception *exception, enum punt_class class, struct rte_mbuf **mbufs, unsigned nb)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < nb; i++)
		// NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): a ring has filled them
		taken += write_packet(exception, mbufs[i]);
	rte_pktmbuf_free_bulk(mbufs, nb);
	count(&exception->counters.to_kernel[class], taken);
	count(&exception->counters.refused[class], nb - taken);
}

/* Packets of one class, round robin over the workers, as far as its budget goes. */
static unsigned serve_class(struct exception *exception, enum punt_class class, uint64_t now)
{
	struct exception_budget *budget = &exception->budgets[class];
	struct rte_mbuf *mbufs[WORKER_BATCH];
	unsigned moved = 0;

	exception_budget_refill(budget, now);
	unsigned first = exception->next_worker[class];
	for (unsigned i = 0; i < exception->nb_workers && moved < CLASS_BATCH; i++) {
		unsigned worker = (first + i) % exception->nb_workers;
		unsigned nb = RTE_MIN(exception_budget_packets(budget), (uint64_t)WORKER_BATCH);
		if (nb == 0)
			break;
		nb = rte_ring_sc_dequeue_burst(
			exception->to_kernel[class][worker], (void **)mbufs, nb, NULL);
		if (nb == 0)
			continue;
		exception_budget_take(budget, nb);
		write_burst(exception, class, mbufs, nb);
		moved += nb;
		exception->next_worker[class] = (worker + 1) % exception->nb_workers;
	}
	return moved;
}

/* An empty chain of buffers for the largest frame, or NULL. Data lengths are the segments' room. */
static struct rte_mbuf *make_chain(struct exception *exception)
{
	struct rte_mbuf *head = NULL, **tail = &head;
	unsigned room = 0, segments = 0;

	do {
		struct rte_mbuf *mbuf = rte_pktmbuf_alloc(exception->pool);
		if (mbuf == NULL || segments == SEGMENTS_MAX) {
			rte_pktmbuf_free(mbuf);
			rte_pktmbuf_free(head);
			return NULL;
		}
		mbuf->data_len = rte_pktmbuf_tailroom(mbuf);
		room += mbuf->data_len;
		segments++;
		*tail = mbuf;
		tail = &mbuf->next;
	} while (room < exception->frame_size);
	head->nb_segs = segments;
	return head;
}

/* Make the chain fit `length` bytes; what isn't needed is freed. */
static void trim_chain(struct rte_mbuf *head, unsigned length)
{
	struct rte_mbuf *mbuf = head;
	unsigned segments = 1, left = length;

	// NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what was read has room in the chain
	while (left > mbuf->data_len) {
		left -= mbuf->data_len;
		mbuf = mbuf->next;
		segments++;
	}
	mbuf->data_len = left;
	struct rte_mbuf *rest = mbuf->next;
	mbuf->next = NULL;
	head->nb_segs = segments;
	head->pkt_len = length;
	while (rest != NULL) {
		struct rte_mbuf *next = rest->next;
		rte_pktmbuf_free_seg(rest);
		rest = next;
	}
}

static ssize_t read_chain(struct exception *exception, struct rte_mbuf *head)
{
	struct iovec parts[SEGMENTS_MAX];
	int nb_parts = 0;

	for (struct rte_mbuf *mbuf = head; mbuf != NULL; mbuf = mbuf->next)
		parts[nb_parts++] = (struct iovec){
			.iov_base = rte_pktmbuf_mtod(mbuf, void *),
			.iov_len = mbuf->data_len,
		};
	return readv(exception->tun_fd, parts, nb_parts);
}

/* Without a buffer the packet is taken off all the same: weir0 would keep poll() awake. */
static bool discard(struct exception *exception)
{
	char byte;

	if (read(exception->tun_fd, &byte, sizeof(byte)) < 0) {
		note_error(exception, errno);
		return false;
	}
	count(&exception->counters.from_kernel_lost, 1);
	return true;
}

/* One packet from weir0 to a worker's ring. False when there is none. */
static bool serve_packet(struct exception *exception)
{
	struct rte_mbuf *mbuf = make_chain(exception);

	if (mbuf == NULL)
		return discard(exception);
	ssize_t length = read_chain(exception, mbuf);
	if (length <= 0) {
		if (length < 0)
			note_error(exception, errno);
		rte_pktmbuf_free(mbuf);
		return false;
	}
	trim_chain(mbuf, length);

	unsigned worker = exception_spread_hash(rte_pktmbuf_mtod(mbuf, uint8_t *), mbuf->data_len) %
		exception->nb_workers;
	// Longer than the MTU allows: somebody changed weir0's; it may have been cut off.
	if (length > exception->frame_size ||
		rte_ring_sp_enqueue(exception->from_kernel[worker], mbuf) != 0) {
		rte_pktmbuf_free(mbuf);
		count(&exception->counters.from_kernel_lost, 1);
		return true;
	}
	count(&exception->counters.from_kernel, 1);
	return true;
}

static unsigned serve_kernel(struct exception *exception)
{
	unsigned moved = 0;

	while (!exception->broken && moved < KERNEL_BATCH && serve_packet(exception))
		moved++;
	return moved;
}

static bool class_waits(const struct exception *exception, unsigned class)
{
	for (unsigned worker = 0; worker < exception->nb_workers; worker++)
		if (!rte_ring_empty(exception->to_kernel[class][worker]))
			return true;
	return false;
}

/* Sleep until there is a packet that may be moved. */
static void sleep_until_work(struct exception *exception)
{
	struct pollfd fds[2] = {
		{.fd = exception->event_fd, .events = POLLIN},
		{.fd = exception->broken ? -1 : exception->tun_fd, .events = POLLIN},
	};
	unsigned wanted = EXCEPTION_ALL_CLASSES;
	int timeout_ms = -1;

	for (unsigned class = 0; class < PUNT_CLASSES; class ++) {
		int wait_ms = exception_budget_wait_ms(&exception->budgets[class]);
		if (wait_ms == 0)
			continue;
		// No credit: no packet of it can be helped sooner, so none is to wake the thread.
		wanted &= ~(1u << class);
		if (wait_ms > 0 && (timeout_ms < 0 || wait_ms < timeout_ms))
			timeout_ms = wait_ms;
	}

	atomic_store_explicit(&exception->sleeping, wanted, memory_order_relaxed);
	// The store must be seen before the rings are looked at; pairs with exception_punt().
	atomic_thread_fence(memory_order_seq_cst);
	bool work = atomic_load_explicit(&exception->stop, memory_order_relaxed);
	for (unsigned class = 0; class < PUNT_CLASSES; class ++)
		work |= (wanted & (1u << class)) != 0 && class_waits(exception, class);
	if (!work)
		poll(fds, 2, timeout_ms);
	atomic_store_explicit(&exception->sleeping, 0, memory_order_relaxed);

	uint64_t events;
	if ((fds[0].revents & POLLIN) != 0 &&
		read(exception->event_fd, &events, sizeof(events)) < 0 && errno != EAGAIN)
		log_limited(LOG_LEVEL_ERROR, "eventfd: %s", strerror(errno));
	// A deleted weir0 reads as POLLERR; the next read tells why.
}

void *exception_thread_run(void *context)
{
	struct exception *exception = context;

	while (!atomic_load_explicit(&exception->stop, memory_order_acquire)) {
		uint64_t now = clock_ns();
		unsigned moved = 0;
		for (unsigned class = 0; class < PUNT_CLASSES; class ++)
			moved += serve_class(exception, class, now);
		moved += serve_kernel(exception);
		if (moved == 0)
			sleep_until_work(exception);
	}
	return NULL;
}

void exception_thread_wake(struct exception *exception)
{
	uint64_t one = 1;

	if (write(exception->event_fd, &one, sizeof(one)) < 0)
		log_limited(LOG_LEVEL_ERROR, "eventfd: %s", strerror(errno));
}
