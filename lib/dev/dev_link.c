/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_link.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev_ethtool.h"
#include "log.h"
#include "own_file.h"

static int request(const struct dev_link *link, unsigned long number, struct ifreq *ifr)
{
	memcpy(ifr->ifr_name, link->name, sizeof(link->name));
	return ioctl(link->fd, number, ifr) < 0 ? -errno : 0;
}

/* --- across processes --- */

static void make_path(const struct dev_link *link, char path[128])
{
	struct stat netns = {0};

	// Names repeat between network namespaces.
	stat("/proc/self/ns/net", &netns);
	snprintf(path, 128, OWN_RUN_DIRECTORY "/link-%s-net%lu", link->name,
		(unsigned long)netns.st_ino);
}

void dev_link_remember(const struct dev_link *link)
{
	char path[128];

	make_path(link, path);
	FILE *file = own_file_begin(path);
	if (file == NULL)
		return;
	fprintf(file, "ifindex %u flags %u offloads %u mtu %u rx %u tx %u combined %u\n",
		if_nametoindex(link->name), link->flags_added, link->offloads_off, link->mtu,
		link->channels.rx, link->channels.tx, link->channels.combined);
	own_file_end(file, path);
}

bool dev_link_recall(struct dev_link *link)
{
	struct dev_link found = *link;
	unsigned index = 0;
	char path[128];

	link->is_owner = found.is_owner = true;
	make_path(link, path);
	FILE *file = own_file_read(path);
	if (file == NULL)
		return false;
	bool known = fscanf(file, "ifindex %u flags %u offloads %u mtu %u rx %u tx %u combined %u",
			     &index, &found.flags_added, &found.offloads_off, &found.mtu,
			     &found.channels.rx, &found.channels.tx, &found.channels.combined) == 7;
	fclose(file);
	// A new one of the name has settings of its own.
	if (known && index == if_nametoindex(link->name))
		*link = found;
	return known;
}

void dev_link_forget(const struct dev_link *link)
{
	char path[128];

	make_path(link, path);
	own_file_remove(path);
}

int dev_link_open(struct dev_link *link, const char *interface)
{
	*link = (struct dev_link){.fd = -1};
	snprintf(link->name, sizeof(link->name), "%s", interface);
	link->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (link->fd < 0)
		return -errno;

	struct ifreq ifr = {0};
	int failed = request(link, SIOCGIFHWADDR, &ifr);
	if (failed == 0 && ifr.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		failed = -ENOTSUP;
	if (failed) {
		close(link->fd);
		link->fd = -1;
	}
	return failed;
}

void dev_link_close(struct dev_link *link)
{
	if (link->fd < 0)
		return;
	dev_link_restore(link);
	close(link->fd);
	link->fd = -1;
}

unsigned dev_link_mtu(const struct dev_link *link)
{
	struct ifreq ifr = {0};
	return request(link, SIOCGIFMTU, &ifr) == 0 ? ifr.ifr_mtu : 1500;
}

unsigned dev_link_queues(const struct dev_link *link)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	if (dev_ethtool(link->fd, link->name, &channels) != 0)
		return 1;
	if (channels.combined_count > 0)
		return channels.combined_count;
	unsigned count =
		channels.rx_count < channels.tx_count ? channels.rx_count : channels.tx_count;
	return count > 0 ? count : 1;
}

unsigned dev_link_max_queues(const struct dev_link *link)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	if (dev_ethtool(link->fd, link->name, &channels) != 0)
		return 1;
	if (channels.max_combined > 0)
		return channels.max_combined;
	unsigned count = channels.max_rx < channels.max_tx ? channels.max_rx : channels.max_tx;
	return count > 0 ? count : 1;
}

void dev_link_driver(const struct dev_link *link, char *driver)
{
	struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
	driver[0] = '\0';
	if (dev_ethtool(link->fd, link->name, &info) == 0)
		snprintf(driver, 32, "%.31s", info.driver);
}

static unsigned get_flags(const struct dev_link *link)
{
	struct ifreq ifr = {0};
	return request(link, SIOCGIFFLAGS, &ifr) == 0 ? (unsigned short)ifr.ifr_flags : 0;
}

static int set_flags(const struct dev_link *link, unsigned flags)
{
	struct ifreq ifr = {.ifr_flags = (short)flags};
	return request(link, SIOCSIFFLAGS, &ifr);
}

unsigned dev_link_index(const struct dev_link *link)
{
	struct ifreq ifr = {0};
	return request(link, SIOCGIFINDEX, &ifr) == 0 ? (unsigned)ifr.ifr_ifindex : 0;
}

bool dev_link_running(const struct dev_link *link)
{
	unsigned wanted = IFF_UP | IFF_RUNNING;
	return (get_flags(link) & wanted) == wanted;
}

int dev_link_set_queues(struct dev_link *link, unsigned count)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	int failed = dev_ethtool(link->fd, link->name, &channels);
	if (failed)
		return failed;

	struct ethtool_channels found = channels;
	channels.cmd = ETHTOOL_SCHANNELS;
	if (channels.combined_count > 0)
		channels.combined_count = count;
	else
		channels.rx_count = channels.tx_count = count;
	failed = dev_ethtool(link->fd, link->name, &channels);
	if (failed)
		return failed;
	if (link->channels.rx + link->channels.tx + link->channels.combined != 0)
		return 0; // as it was before a former process
	link->channels.rx = found.rx_count;
	link->channels.tx = found.tx_count;
	link->channels.combined = found.combined_count;
	return 0;
}

int dev_link_set_mtu(struct dev_link *link, unsigned mtu)
{
	unsigned found = dev_link_mtu(link);
	if (found == mtu)
		return 0;
	struct ifreq ifr = {.ifr_mtu = mtu};
	int failed = request(link, SIOCSIFMTU, &ifr);
	if (failed == 0 && link->mtu == 0)
		link->mtu = found;
	return failed;
}

void dev_link_offloads_off(struct dev_link *link)
{
	link->offloads_off |= dev_ethtool_offloads_off(link->fd, link->name);
}

int dev_link_up(struct dev_link *link)
{
	unsigned flags = get_flags(link);
	unsigned missing = (IFF_UP | IFF_ALLMULTI) & ~flags;
	if (missing == 0)
		return 0;
	int failed = set_flags(link, flags | missing);
	if (failed)
		return failed;
	link->flags_added |= missing;
	if (missing & IFF_UP)
		log_info("%s: was down, set up", link->name);
	return 0;
}

static void restore_channels(struct dev_link *link)
{
	struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
	if (link->channels.rx + link->channels.tx + link->channels.combined == 0 ||
		dev_ethtool(link->fd, link->name, &channels) != 0)
		return;
	channels.cmd = ETHTOOL_SCHANNELS;
	channels.rx_count = link->channels.rx;
	channels.tx_count = link->channels.tx;
	channels.combined_count = link->channels.combined;
	dev_ethtool(link->fd, link->name, &channels);
	memset(&link->channels, 0, sizeof(link->channels));
}

void dev_link_restore(struct dev_link *link)
{
	if (link->is_kept)
		return;
	if (link->is_owner)
		dev_link_forget(link);
	dev_ethtool_offloads_on(link->fd, link->name, link->offloads_off);
	link->offloads_off = 0;
	if (link->mtu != 0) {
		struct ifreq ifr = {.ifr_mtu = link->mtu};
		request(link, SIOCSIFMTU, &ifr);
		link->mtu = 0;
	}
	restore_channels(link);
	if (link->flags_added != 0)
		set_flags(link, get_flags(link) & ~link->flags_added);
	link->flags_added = 0;
}
