/* SPDX-License-Identifier: BSD-3-Clause */
/* What port.device names: the form tells the kind. Pure, but for dev_device_numa_node(). */
#ifndef WEIR_DEV_DEVICE_H
#define WEIR_DEV_DEVICE_H

#include <stdbool.h>

#include "conf.h"

enum dev_kind { DEV_KIND_PCI, DEV_KIND_INTERFACE, DEV_KIND_VDEV };

struct dev_device {
	enum dev_kind kind;
	bool af_xdp;        // its driver is net_af_xdp
	char name[64];      // DPDK's name: "0000:03:00.0", "net_af_xdp0", "net_tap0"
	char interface[16]; // kernel interface whose traffic it takes, "" = none
};

/*
 * Tell the kind of port.device: a string with a comma or beginning with "net_" is a DPDK device
 * (PCI when its head is a PCI address), a PCI address is PCI, all else is a kernel interface. 0, or
 * -EINVAL with `message` (DEV_MESSAGE bytes).
 */
int dev_device_parse(struct dev_device *device, const struct conf_port *port, char *message);

/* Return the bytes of a frame in the rings that net_af_packet shares with the kernel, for a kernel
 * interface with this driver; 0 for all else. A packet buffer must hold one. */
unsigned dev_device_ring_frame(const struct dev_device *device, unsigned mtu);

/* Read the NUMA node from sysfs, -1 = none or not known. */
int dev_device_numa_node(const struct dev_device *device);

#endif
