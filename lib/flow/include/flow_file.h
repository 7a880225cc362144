/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file behind a flow table: what outlives the process. It holds a header and the records, and
 * nothing that could be derived from these: index, free records, queues and SNAT ports are made
 * anew by whoever adopts it (flow_adopt.h).
 *
 *     0      header      magic, version, sizes, boot, secrets; under a checksum
 *     2048   header      the same again: while one is written the other one is whole
 *     4032   alive       when its owner was last known to live
 *     4096   records     by number; in the order in which flow_table.c writes them each is whole or
 *                        free at every moment
 *
 * It lies in hugetlbfs; in a tmpfs when hugepages are off or all taken. Where others may write, as
 * in /dev/shm, it lies in a directory of its own, and only a file that is this user's alone is
 * taken (own_file.h). Whoever uses it holds a lock (flock), so two processes never map it at once,
 * and a killed one lets go by being killed. What can't be used is kept beside it under the name
 * NAME.refused, one of them.
 *
 * Records of version 1 are records of version 2, which gave meanings to bits that were 0; the
 * header says 2 before any of them is set, and a weir that knows version 1 alone refuses it. From
 * version 2 on the header has a word of features: who gives a meaning to another bit takes a
 * feature for it, sets that in the headers it writes, and whoever doesn't know it refuses the file.
 * So going back to an older weir loses the connections, and never translates them wrongly.
 *
 * Thread rule: control core. The records are the workers', as in flow_table.h.
 */
#ifndef WEIR_FLOW_FILE_H
#define WEIR_FLOW_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "flow_memory.h"
#include "hash.h"

#define FLOW_FILE_VERSION 2
#define FLOW_FILE_OLDEST 1
#define FLOW_FILE_FEATURES 0u // those that this weir knows
#define FLOW_FILE_HEADER 4096 // bytes before the first record
#define FLOW_FILE_PATH 256
#define FLOW_FILE_PARENT 112 // of a directory of its own
#define FLOW_FILE_MESSAGE 256

/* What must not change as long as flows live. */
struct flow_secrets {
	struct hash_key flows; // of the flow hash and of the schedulers'
	struct hash_key ports; // of the order in which SNAT ports are lent
};

/* A directory that may hold flow tables, and that nobody else may write to. */
struct flow_file_place {
	char directory[FLOW_FILE_PATH / 2]; // made when it is needed
	char former[FLOW_FILE_PARENT]; // everybody's, where earlier weirs had theirs; "" = none
	bool hugepages;
};
#define FLOW_FILE_PLACES 3

/* List the places of the table `name` in the order of preference, `hugepages` as configured.
 * Returns how many. */
unsigned flow_file_places(
	struct flow_file_place places[FLOW_FILE_PLACES], const char *name, bool hugepages);

struct flow_file {
	int fd; // -1 = not open
	char path[FLOW_FILE_PATH];
	struct flow_file_place place;
	bool is_former; // `path` is where an earlier weir had it
	struct flow_memory memory;
	size_t page_size;
	sa_family_t family;
	uint32_t found;    // records that it had, to be adopted; 0 = it is new
	uint32_t capacity; // records that it is to have, or can
	uint64_t alive_s;  // monotonic second in which the former owner was alive
	struct flow_secrets secrets;
	char refused[FLOW_FILE_MESSAGE]; // why what was there wasn't taken; "" = nothing was wrong
};

/*
 * Open or make the table `name` of the family in the place, lock and map it, with room for the
 * `flows` records that it is to have as well as for those that it has: if it can't be had for more,
 * as it is. A new one gets `secrets`. One that an earlier weir left where everybody may write stays
 * there until flow_file_settle().
 * Waits `wait_ms` at most for another process that holds it. 0; -EBUSY: another one has it; -errno.
 * On failure nothing is left behind but what was there.
 */
int flow_file_open(struct flow_file *file, const struct flow_file_place *place, const char *name,
	sa_family_t family, uint32_t flows, const struct flow_secrets *secrets, int numa_node,
	unsigned wait_ms);

/* Shrink the file to `capacity` records, which are adopted; the rest goes. `secrets` are those in
 * use now. 0 or -errno; the file is consistent in any case. */
int flow_file_finish(struct flow_file *file, const struct flow_secrets *secrets);

static inline void *flow_file_records(const struct flow_file *file)
{
	return (char *)file->memory.start + FLOW_FILE_HEADER;
}

/* Move a table from where everybody may write into the place's directory, once no earlier weir can
 * be asked to go on with it. 0 or -errno; it is in use in any case. */
int flow_file_settle(struct flow_file *file);

/* Write down that the file's owner lives; at least once a minute. */
void flow_file_alive(struct flow_file *file, uint64_t now_s);

/* Let go of the file; `remove` deletes it. Fine on one that isn't open (fd -1). */
void flow_file_close(struct flow_file *file, bool remove);

/* Tell whether a table of that name, of ours, is in the place, whichever process has it. */
bool flow_file_exists(const struct flow_file_place *place, const char *name);

/* Delete the table of that name in a place, and a refused one, unless a process has it: true when
 * nothing is left. What others have put where everybody may write stays. */
bool flow_file_remove(const struct flow_file_place *place, const char *name);

#endif
