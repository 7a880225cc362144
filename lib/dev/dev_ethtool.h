/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What ethtool -k and ethtool -K do: what a kernel interface does to frames on their way. A port
 * must not see them merged or split, with open checksums, or without their VLAN tags. By ioctl on
 * the socket `fd`, in whose namespace the interface is. Control core only.
 */
#ifndef WEIR_DEV_ETHTOOL_H
#define WEIR_DEV_ETHTOOL_H

/* Give the kernel a command of <linux/ethtool.h>. 0 or -errno. */
int dev_ethtool(int fd, const char *interface, void *command);

/* Turn off all that is on and can be. Returns what dev_ethtool_offloads_on() takes, for one that is
 * turned on again: also in another process, and a newer version. */
unsigned dev_ethtool_offloads_off(int fd, const char *interface);
void dev_ethtool_offloads_on(int fd, const char *interface, unsigned offloads_off);

#endif
