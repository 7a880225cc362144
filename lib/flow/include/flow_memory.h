/* SPDX-License-Identifier: BSD-3-Clause */
/* Large memory: on hugepages and on a NUMA node when it can be had, touched before use. */
#ifndef WEIR_FLOW_MEMORY_H
#define WEIR_FLOW_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct flow_memory {
	void *start;
	size_t size;    // bytes mapped, a multiple of the page size
	bool hugepages; // hugetlbfs pages; else ordinary ones with a hint for transparent ones
};

/* Map zeroed memory of this process. `numa_node` -1 = any. 0 or -errno. Control core. */
int flow_memory_map(struct flow_memory *memory, size_t size, int numa_node, bool hugepages);

/*
 * Map the first `size` bytes of a file, shared with it: `size` is a multiple of its
 * page size, and there is room for all of them. `hugepages`: the file lies in
 * hugetlbfs. 0 or -errno. Control core.
 */
int flow_memory_map_file(
	struct flow_memory *memory, int fd, size_t size, int numa_node, bool hugepages);

void flow_memory_unmap(struct flow_memory *memory);

/* Give back what lies behind `size` bytes, a multiple of the page size. */
void flow_memory_shrink(struct flow_memory *memory, size_t size);

#endif
