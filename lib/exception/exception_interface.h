/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * weir0, the TAP device. The functions act on the network namespace of the calling thread, which
 * has entered weir0's before. Control core.
 */
#ifndef WEIR_EXCEPTION_INTERFACE_H
#define WEIR_EXCEPTION_INTERFACE_H

#include <stdbool.h>

#include "addr.h"

struct conf_port;
struct dev_port;
struct mnl_socket;

/*
 * Make weir0, down and without addresses. A left-over persistent one is replaced; or, with
 * `take_over`, taken as it is, which *taken_over says. Returns the non-blocking descriptor that
 * carries its frames (closing it removes the device, unless it is persistent), or -errno with
 * `message` (DEV_MESSAGE bytes); -EBUSY when another process holds it.
 */
int exception_interface_open(bool take_over, bool *taken_over, char *message);

/* Let the device outlive its descriptor, or not. 0 or -errno. */
int exception_interface_persist(int fd, bool persist);

/* Remove a persistent weir0 that nobody holds. 0, also when there is none, or -errno. */
int exception_interface_remove(void);

/*
 * Set MAC, MTU, stack settings, addresses and default routes, and the device up. `ours`: the
 * namespace is Weir's own, so settings that hold for all of it may be changed; `host`: it is the
 * host's, which gets no default route; `taken_over`: only what differs is changed, and addresses
 * and default routes that aren't configured go. `withdrawn`: by address of `conf`, those that are
 * not to be added, and then those that aren't there. 0, or -errno with `message`.
 */
int exception_interface_configure(const struct conf_port *conf, const struct dev_port *port,
	bool ours, bool host, bool taken_over, bool *withdrawn, char *message);

/* Add an address, or delete it; fine when it is so already. 0 or -errno. */
int exception_interface_address(const struct net_prefix *prefix, bool present);

/* Return weir0's index by a socket of its namespace; 0: it isn't there. */
unsigned exception_interface_index(int fd);
/* Tell whether weir0 is there and up, by a socket of its namespace. */
bool exception_interface_is_up(int fd);

#define EXCEPTION_ADDRESSES_MAX 256 // that a weir0 which is taken over may have

/* weir0's addresses of global scope. */
struct exception_addresses {
	int index; // of weir0
	unsigned count;
	struct net_prefix prefixes[EXCEPTION_ADDRESSES_MAX];
};

/* Read the addresses of weir0, whose index the caller has set. 0 or -errno. */
int exception_addresses_read(struct mnl_socket *socket, struct exception_addresses *addresses);

/* Add an address to the interface, or delete it. 0 or -errno. */
int exception_interface_change(
	struct mnl_socket *socket, int index, const struct net_prefix *prefix, bool present);
/* Add a default route out of weir0; `replace`: in place of one that is there. 0 or -errno. */
int exception_interface_default_route(
	struct mnl_socket *socket, int index, const struct net_addr *gateway, bool replace);

/* Set the device up. 0 or -errno. */
int exception_interface_up(struct mnl_socket *socket, int index);

/* Give the device an alias, a note that the kernel keeps with it. 0 or -errno. */
int exception_interface_set_alias(struct mnl_socket *socket, int index, const char *alias);
/* Tell whether it has that alias. */
bool exception_interface_has_alias(struct mnl_socket *socket, int index, const char *alias);

#endif
