/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Settings of the kernel's IP stack, in the namespace of the calling thread:
 * /proc/sys/net shows the reader's own. Control core.
 */
#ifndef WEIR_EXCEPTION_SYSCTL_H
#define WEIR_EXCEPTION_SYSCTL_H

#define EXCEPTION_SYSCTL_TEXT 16 // room for a value

/*
 * Set /proc/sys/net/FAMILY/conf/DEVICE/KEY, or with device NULL FAMILY/KEY. 0 or -errno; -ENOENT
 * when the kernel, or a device with an MTU below 1280, has no IPv6.
 */
int exception_sysctl_set(
	const char *family, const char *device, const char *key, const char *value);

/* Read what exception_sysctl_set() sets, without the line's end. 0 or -errno. */
int exception_sysctl_get(
	const char *family, const char *device, const char *key, char value[EXCEPTION_SYSCTL_TEXT]);

#endif
