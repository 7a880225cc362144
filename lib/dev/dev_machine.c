/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_machine.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <mntent.h>
#include <numa.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "dev.h"

int dev_machine_judge_capabilities(uint64_t effective, bool is_root, char *message)
{
	static const struct {
		unsigned bit;
		const char *name;
		bool by_root; // too
	} needed[] = {
		{CAP_NET_ADMIN, " CAP_NET_ADMIN", true},
		{CAP_NET_RAW, " CAP_NET_RAW", true},
		{CAP_IPC_LOCK, " CAP_IPC_LOCK", true},
		{CAP_SYS_ADMIN, " CAP_SYS_ADMIN", true},
		// Its places in /run and /dev are root's.
		{CAP_DAC_OVERRIDE, " CAP_DAC_OVERRIDE", false},
	};
	char missing[96] = "";
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if ((effective >> needed[i].bit & 1) == 0 && (needed[i].by_root || !is_root))
			strcat(missing, needed[i].name);
	}
	if (missing[0] == '\0')
		return 0;
	snprintf(message, DEV_MESSAGE, "no permission: run as root, or grant%s", missing);
	return -EPERM;
}

int dev_machine_check_capabilities(char *message)
{
	uint64_t effective = 0;
	char line[128];
	FILE *file = fopen("/proc/self/status", "re");
	if (file != NULL) {
		while (fgets(line, sizeof(line), file) != NULL &&
			sscanf(line, "CapEff: %" SCNx64, &effective) != 1)
			;
		fclose(file);
	}
	return dev_machine_judge_capabilities(effective, geteuid() == 0, message);
}

static size_t free_hugepage_bytes(void)
{
	size_t bytes = 0;
	DIR *directory = opendir("/sys/kernel/mm/hugepages");
	if (directory == NULL)
		return 0;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		size_t size_kb, count;
		if (sscanf(entry->d_name, "hugepages-%zukB", &size_kb) != 1)
			continue;
		char path[384];
		snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/%s/free_hugepages",
			entry->d_name);
		FILE *file = fopen(path, "re");
		if (file == NULL)
			continue;
		if (fscanf(file, "%zu", &count) == 1)
			bytes += count * size_kb * 1024;
		fclose(file);
	}
	closedir(directory);
	return bytes;
}

static bool hugetlbfs_mounted(void)
{
	FILE *file = setmntent("/proc/mounts", "re");
	if (file == NULL)
		return false;
	bool found = false;
	for (struct mntent *entry; !found && (entry = getmntent(file)) != NULL;)
		found = strcmp(entry->mnt_type, "hugetlbfs") == 0;
	endmntent(file);
	return found;
}

int dev_machine_check_hugepages(size_t bytes, char *message)
{
	size_t available = free_hugepage_bytes();
	if (available < bytes) {
		size_t pages = bytes / (2u << 20) + 1;
		snprintf(message, DEV_MESSAGE,
			"no hugepages: %zu MB are free, %zu MB needed: "
			"echo %zu > /proc/sys/vm/nr_hugepages, or port.hugepages = false",
			available >> 20, bytes >> 20, pages < 512 ? 512 : pages);
		return -ENOMEM;
	}
	if (!hugetlbfs_mounted()) {
		snprintf(message, DEV_MESSAGE,
			"no hugetlbfs is mounted: mkdir -p /dev/hugepages; "
			"mount -t hugetlbfs none /dev/hugepages, or port.hugepages = false");
		return -ENOMEM;
	}
	return 0;
}

int dev_machine_check_descriptors(unsigned long count, char *message)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= count)
		return 0;
	snprintf(message, DEV_MESSAGE,
		"no more than %lu files may be open, and %lu are needed: ulimit -n, or "
		"LimitNOFILE= in "
		"the unit",
		(unsigned long)limit.rlim_cur, count);
	return -EMFILE;
}

void dev_machine_node_cpus(int node, cpu_set_t *cpus)
{
	CPU_ZERO(cpus);
	if (numa_available() < 0)
		return;
	struct bitmask *mask = numa_allocate_cpumask();
	if (numa_node_to_cpus(node, mask) == 0) {
		for (unsigned cpu = 0; cpu < CPU_SETSIZE && cpu < mask->size; cpu++) {
			if (numa_bitmask_isbitset(mask, cpu))
				CPU_SET(cpu, cpus);
		}
	}
	numa_free_cpumask(mask);
}

int dev_machine_pci_driver(const char *address, char *driver)
{
	char path[128], target[256];

	driver[0] = '\0';
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
	if (access(path, F_OK) < 0)
		return -ENODEV;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	if (length > 0) {
		target[length] = '\0';
		const char *slash = strrchr(target, '/');
		snprintf(driver, 32, "%.31s", slash != NULL ? slash + 1 : target);
	}
	return 0;
}
