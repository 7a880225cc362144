/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_ethtool.h"

#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "log.h"

/*
 * Off in this order, on in the reverse: segmentation hangs on the checksums. A row's number is its
 * bit in what one process leaves to the next: new rows stand at the end.
 */
static const struct {
	const char *name;
	uint32_t get;
	uint32_t set;
	const char *feature; // as ethtool -k calls it, where there is no command for it alone
} offloads[] = {
	{"gro", ETHTOOL_GGRO, ETHTOOL_SGRO, NULL},
	{"lro", 0, 0, "rx-lro"},
	{"tso", ETHTOOL_GTSO, ETHTOOL_STSO, NULL},
	{"gso", ETHTOOL_GGSO, ETHTOOL_SGSO, NULL},
	{"tx", ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM, NULL},
	{"rx", ETHTOOL_GRXCSUM, ETHTOOL_SRXCSUM, NULL},
	{"rxvlan", 0, 0, "rx-vlan-hw-parse"},
	{"rx-vlan-stag-hw-parse", 0, 0, "rx-vlan-stag-hw-parse"},
};

#define NB_OFFLOADS (sizeof(offloads) / sizeof(offloads[0]))
#define FEATURES_MAX 512 // Linux 6.12 has 64

int dev_ethtool(int fd, const char *interface, void *command)
{
	struct ifreq ifr = {.ifr_data = command};

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
	return ioctl(fd, SIOCETHTOOL, &ifr) < 0 ? -errno : 0;
}

/* --- features, which the kernel numbers as it likes --- */

/* Return the number of a feature, and how many there are; -1 when the kernel doesn't know it. */
static int find_feature(int fd, const char *interface, const char *name, unsigned *count)
{
	struct {
		struct ethtool_sset_info info;
		uint32_t size;
	} sets = {.info = {.cmd = ETHTOOL_GSSET_INFO, .sset_mask = 1 << ETH_SS_FEATURES}};
	int found = -1;

	if (dev_ethtool(fd, interface, &sets) != 0 || sets.info.sset_mask == 0 ||
		sets.size > FEATURES_MAX)
		return -1;
	*count = sets.size;
	struct ethtool_gstrings *names = calloc(1, sizeof(*names) + *count * ETH_GSTRING_LEN);
	if (names == NULL)
		return -1;
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_FEATURES;
	names->len = *count;
	if (dev_ethtool(fd, interface, names) == 0)
		for (unsigned i = 0; i < *count && found < 0; i++)
			if (strncmp((char *)names->data + i * ETH_GSTRING_LEN, name,
				    ETH_GSTRING_LEN) == 0)
				found = i;
	free(names);
	return found;
}

static int get_feature(int fd, const char *interface, const char *name, bool *is_on)
{
	struct {
		struct ethtool_gfeatures header;
		struct ethtool_get_features_block blocks[FEATURES_MAX / 32];
	} features = {.header = {.cmd = ETHTOOL_GFEATURES, .size = FEATURES_MAX / 32}};
	unsigned count;
	int feature = find_feature(fd, interface, name, &count);

	if (feature < 0)
		return -ENOTSUP;
	int failed = dev_ethtool(fd, interface, &features);
	*is_on = features.blocks[feature / 32].active & 1u << feature % 32;
	return failed;
}

static int set_feature(int fd, const char *interface, const char *name, bool on)
{
	struct {
		struct ethtool_sfeatures header;
		struct ethtool_set_features_block blocks[FEATURES_MAX / 32];
	} features = {.header = {.cmd = ETHTOOL_SFEATURES}};
	unsigned count;
	int feature = find_feature(fd, interface, name, &count);

	if (feature < 0)
		return -ENOTSUP;
	features.header.size = (count + 31) / 32; // no other is taken
	features.blocks[feature / 32].valid = 1u << feature % 32;
	features.blocks[feature / 32].requested = on ? 1u << feature % 32 : 0;
	return dev_ethtool(fd, interface, &features);
}

/* --- all --- */

static int get(int fd, const char *interface, unsigned i, bool *is_on)
{
	struct ethtool_value value = {.cmd = offloads[i].get};

	if (offloads[i].feature != NULL)
		return get_feature(fd, interface, offloads[i].feature, is_on);
	int failed = dev_ethtool(fd, interface, &value);
	*is_on = value.data != 0;
	return failed;
}

/* Tell whether the offload was in the other state and could be changed. */
static bool set(int fd, const char *interface, unsigned i, bool on)
{
	struct ethtool_value value = {.cmd = offloads[i].set, .data = on};
	bool was_on;

	if (get(fd, interface, i, &was_on) != 0 || was_on == on)
		return false;
	if (offloads[i].feature != NULL)
		return set_feature(fd, interface, offloads[i].feature, on) == 0;
	return dev_ethtool(fd, interface, &value) == 0;
}

unsigned dev_ethtool_offloads_off(int fd, const char *interface)
{
	char names[128] = "";
	unsigned off = 0;

	for (unsigned i = 0; i < NB_OFFLOADS; i++) {
		if (!set(fd, interface, i, false))
			continue;
		off |= 1u << i;
		strcat(strcat(names, " "), offloads[i].name);
	}
	if (names[0] != '\0')
		log_info("%s: offloads turned off:%s", interface, names);
	return off;
}

void dev_ethtool_offloads_on(int fd, const char *interface, unsigned offloads_off)
{
	for (unsigned i = NB_OFFLOADS; i-- > 0;)
		if (offloads_off & 1u << i)
			set(fd, interface, i, true);
}
