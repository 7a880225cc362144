/* SPDX-License-Identifier: BSD-3-Clause */
/* Large zeroed memory: on hugepages and on a NUMA node when it can be had, touched before use. */
#ifndef WEIR_FLOW_MEMORY_H
#define WEIR_FLOW_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct flow_memory {
	void *start;
	size_t size;    // bytes mapped, a multiple of the page size
	bool hugepages; // hugetlbfs pages; else ordinary ones with a hint for transparent ones
};

/* `numa_node` -1 = any. 0 or -errno. Control core. */
int flow_memory_map(struct flow_memory *memory, size_t size, int numa_node, bool hugepages);
void flow_memory_unmap(struct flow_memory *memory);

#endif
