/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_memory.h"

#include <errno.h>
#include <numa.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)

int flow_memory_map(struct flow_memory *memory, size_t size, int numa_node, bool hugepages)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	void *start = MAP_FAILED;

	memset(memory, 0, sizeof(*memory));
	size = (size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	if (hugepages) {
		start = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_HUGETLB, -1, 0);
		memory->hugepages = start != MAP_FAILED;
	}
	if (start == MAP_FAILED)
		start = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (start == MAP_FAILED)
		return -errno;
	if (!memory->hugepages)
		madvise(start, size, MADV_HUGEPAGE);
	if (numa_node >= 0 && numa_available() >= 0)
		numa_tonode_memory(start, size, numa_node);
	// Touched here, so that no packet waits for the kernel to clear a page.
	for (size_t at = 0; at < size; at += 4096)
		((volatile char *)start)[at] = 0;
	memory->start = start;
	memory->size = size;
	return 0;
}

void flow_memory_unmap(struct flow_memory *memory)
{
	if (memory->start != NULL)
		munmap(memory->start, memory->size);
	memset(memory, 0, sizeof(*memory));
}
