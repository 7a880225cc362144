/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine with a kernel of its own, as far as TCP goes: a network namespace with one TAP device,
 * whose other side is the test. What is sent to a host is through its stack when the call returns
 * (a TAP device takes a frame in within write(2)), and what it answered at once is there to be
 * received; nothing has to be waited for but the kernel's timers.
 *
 * The namespace and the device end with the host, or with the process.
 */
#ifndef WEIR_TEST_HOST_H
#define WEIR_TEST_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct host {
	const char *name;
	struct net_mac mac;
	struct net_addr addr[2]; // IPv4, IPv6
	int netns;
	int tap;
	int diag; // netlink socket of its namespace
};

/* False when this process may not, or the kernel can't; `why` says which. `gateway`: the MAC of
 * all that is not the host itself. */
bool host_init(struct host *host, const char *name, const char *addr4, const char *addr6,
	const struct net_mac *gateway, const char **why);

void host_fini(struct host *host);

/* A setting below /proc/sys/net. */
void host_set(const struct host *host, const char *key, const char *value);

/* TCP's socket options that set the key of a signature, by Linux's numbers. */
enum host_key {
	HOST_MD5 = 14, // TCP_MD5SIG, RFC 2385
	HOST_AO = 38,  // TCP_AO_ADD_KEY of Linux 6.7 on, RFC 5925
};

/* Whether the kernel knows such signatures, and drops segments that bear one though it has no key.
 */
bool host_knows(const struct host *host, enum host_key key);

/* A stream socket, non-blocking, bound to the host's address and that port. */
int host_socket(const struct host *host, sa_family_t family, uint16_t port);

/* To the host, whatever MAC address the frame names. */
void host_send(const struct host *host, const void *frame, unsigned size);
/* The next frame that the host has sent; its size, 0 = none. */
unsigned host_receive(const struct host *host, void *frame, unsigned size);

/* An end of a TCP connection. */
struct host_tuple {
	struct net_addr local, remote;
	uint16_t local_port, remote_port; // host byte order
};

/* As the kernel numbers them (<netinet/tcp.h>, whose names are Weir's, too). */
enum host_state {
	HOST_NONE, // no socket
	HOST_ESTABLISHED,
	HOST_SYN_SENT,
	HOST_SYN_RECV,
	HOST_FIN_WAIT1,
	HOST_FIN_WAIT2,
	HOST_TIME_WAIT,
	HOST_CLOSE,
	HOST_CLOSE_WAIT,
	HOST_LAST_ACK,
	HOST_LISTEN,
	HOST_CLOSING,
};

/* What its kernel says of it. The numbers are 0 of what isn't a whole socket: a request that was
 * answered by SYN-ACK, or a TIME_WAIT. */
struct host_view {
	enum host_state state;
	uint32_t unread;          // bytes for the application
	uint32_t ooo;             // segments that came out of order, so far
	uint32_t unacked;         // segments under way
	uint32_t window;          // of the other end
	uint64_t received, acked; // bytes
	int error;                // that the application is told of
	int events;               // poll's
};

/* `fd`: the socket, -1 = none is open. */
struct host_view host_look(const struct host *host, const struct host_tuple *tuple, int fd);

const char *host_state_name(enum host_state state);

#endif
