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

/* -EPERM when one of the capabilities that Weir needs is missing. */
int dev_machine_check_capabilities(char *message);
/* The same for a set of effective capabilities; bit n is capability n of <linux/capability.h>. */
int dev_machine_judge_capabilities(uint64_t effective, char *message);

/* -ENOMEM when fewer bytes are free in hugepages, or no hugetlbfs is mounted. */
int dev_machine_check_hugepages(size_t bytes, char *message);

/* The CPUs of a NUMA node. */
void dev_machine_node_cpus(int node, cpu_set_t *cpus);

/* The driver that a PCI device is bound to, "" = none; `driver` holds 32 bytes. -ENODEV. */
int dev_machine_pci_driver(const char *address, char *driver);

#endif
