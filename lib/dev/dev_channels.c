/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * net_af_xdp asks ethtool how many *combined* channels the interface has, takes "none" for one
 * queue, and refuses a second worker. A veth has its queues as separate rx and tx channels, which
 * AF_XDP serves just as well. No argument of the driver overrides this, so its question is answered
 * here: the program's ioctl() stands before the C library's for the driver, which is a shared
 * library.
 */
#include "dev_channels.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

// ioctl() has no argument to carry it; the main thread sets it while there is no other.
static bool combining;

void dev_channels_combine(bool combine)
{
	combining = combine;
}

static void combine_channels(struct ethtool_channels *channels)
{
	if (channels->cmd != ETHTOOL_GCHANNELS || channels->max_combined != 0)
		return;
	channels->max_combined =
		channels->max_rx < channels->max_tx ? channels->max_rx : channels->max_tx;
	channels->combined_count =
		channels->rx_count < channels->tx_count ? channels->rx_count : channels->tx_count;
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	va_list list;
	va_start(list, request);
	void *argument = va_arg(list, void *);
	va_end(list);

	int result = syscall(SYS_ioctl, fd, request, argument);
	if (combining && result == 0 && request == SIOCETHTOOL)
		combine_channels((void *)((struct ifreq *)argument)->ifr_data);
	return result;
}
