/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the machine must give before EAL starts, asked in advance because EAL's own words for a lack
 * of it don't say what to do. All return 0, or -errno with `message` (DEV_MESSAGE bytes).
 */
#ifndef WEIR_DEV_MACHINE_H
#define WEIR_DEV_MACHINE_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Check that the process has the capabilities that Weir needs: -EPERM when one is missing. */
int dev_machine_check_capabilities(char *message);
/* Check a set of effective capabilities, as dev_machine_check_capabilities() checks those of the
 * process; bit n is capability n of <linux/capability.h>. */
int dev_machine_judge_capabilities(uint64_t effective, bool is_root, char *message);

/* Check for so many free bytes in hugepages: -ENOMEM when there are fewer, or
 * no hugetlbfs is mounted. */
int dev_machine_check_hugepages(size_t bytes, char *message);

/* Check that so many files may be open at once: -EMFILE. */
int dev_machine_check_descriptors(unsigned long count, char *message);

/* Read which CPUs a NUMA node has. */
void dev_machine_node_cpus(int node, cpu_set_t *cpus);

/* Read the driver that a PCI device is bound to, "" = none, into `driver`, which holds 32
 * bytes. 0 or -ENODEV. */
int dev_machine_pci_driver(const char *address, char *driver);

#endif
