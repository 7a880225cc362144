/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_memory.h"

#include <errno.h>
#include <numa.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define PAGE 4096

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 // Linux 5.14
#endif

static void settle(struct flow_memory *memory, int numa_node)
{
	if (!memory->hugepages)
		madvise(memory->start, memory->size, MADV_HUGEPAGE);
	if (numa_node >= 0 && numa_available() >= 0)
		numa_tonode_memory(memory->start, memory->size, numa_node);
	// Touched here, so that no packet waits for the kernel to clear a page.
	if (madvise(memory->start, memory->size, MADV_POPULATE_WRITE) == 0)
		return;
	for (size_t at = 0; at < memory->size; at += PAGE) {
		volatile char *byte = (char *)memory->start + at;
		// cppcheck-suppress selfAssignment // a file's bytes stay
		*byte = *byte;
	}
}

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
	memory->start = start;
	memory->size = size;
	settle(memory, numa_node);
	return 0;
}

int flow_memory_map_file(
	struct flow_memory *memory, int fd, size_t size, int numa_node, bool hugepages)
{
	void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	memset(memory, 0, sizeof(*memory));
	if (start == MAP_FAILED)
		return -errno;
	memory->start = start;
	memory->size = size;
	memory->hugepages = hugepages;
	settle(memory, numa_node);
	return 0;
}

void flow_memory_unmap(struct flow_memory *memory)
{
	if (memory->start != NULL)
		munmap(memory->start, memory->size);
	memset(memory, 0, sizeof(*memory));
}

void flow_memory_shrink(struct flow_memory *memory, size_t size)
{
	if (size >= memory->size)
		return;
	munmap((char *)memory->start + size, memory->size - size);
	memory->size = size;
}
