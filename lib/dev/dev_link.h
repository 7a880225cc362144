/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A kernel interface as a port: what it is, and what must be changed on it for the time of the run.
 * All by ioctl on one socket, so that it goes on meaning the namespace that it was opened in.
 * Control core only.
 */
#ifndef WEIR_DEV_LINK_H
#define WEIR_DEV_LINK_H

#include <stdbool.h>
#include <stdint.h>

struct dev_link {
	char name[16];
	int fd;        // -1 = not open
	bool is_owner; // what /run/weir says of the interface is this process's
	bool is_kept;  // dev_link_restore() leaves all as it is
	// What dev_link_restore() puts back; 0 = unchanged
	unsigned flags_added;  // IFF_UP, IFF_ALLMULTI
	unsigned offloads_off; // for dev_ethtool_offloads_on()
	unsigned mtu;
	struct {
		unsigned rx, tx, combined;
	} channels;
};

/* Open the interface. 0, -ENODEV (no such interface), -ENOTSUP (not Ethernet) or another -errno. */
int dev_link_open(struct dev_link *link, const char *interface);
/* Restore the interface, unless it is kept, and close it. Fine on one that isn't open. */
void dev_link_close(struct dev_link *link);

unsigned dev_link_mtu(const struct dev_link *link);
/* Return how many pairs of rx and tx queues there are. */
unsigned dev_link_queues(const struct dev_link *link);
/* Return how many there can be. */
unsigned dev_link_max_queues(const struct dev_link *link);
/* Read the driver's name ("veth") into `driver`, which holds 32 bytes; "" = not known. */
void dev_link_driver(const struct dev_link *link, char *driver);
/* Return the index of the interface of that name; 0: it is gone. */
unsigned dev_link_index(const struct dev_link *link);
/* Tell whether the interface is up with a carrier, as the kernel sees it. */
bool dev_link_running(const struct dev_link *link);

/* Set the number of queue pairs; dev_link_restore() sets it back. 0 or -errno. */
int dev_link_set_queues(struct dev_link *link, unsigned count);
/* Set the MTU; dev_link_restore() sets it back. 0 or -errno. */
int dev_link_set_mtu(struct dev_link *link, unsigned mtu);
/* Turn off what changes frames on their way; dev_link_restore() turns it on. */
void dev_link_offloads_off(struct dev_link *link);
/* Set the interface up, and open for all multicast: IPv6 neighbour discovery of addresses that are
 * weir0's. dev_link_restore() undoes it. 0 or -errno. */
int dev_link_up(struct dev_link *link);

/* Put back what the functions above have changed. */
void dev_link_restore(struct dev_link *link);

/*
 * Write down what dev_link_restore() puts back, in /run/weir, for a process after this one, which
 * recalls it once it owns the port; so that restoring leads to how the interface was before the
 * first one. Recalling tells whether something was known.
 */
void dev_link_remember(const struct dev_link *link);
bool dev_link_recall(struct dev_link *link);
/* Remove what was written down. Of `link` only the name counts. */
void dev_link_forget(const struct dev_link *link);

#endif
