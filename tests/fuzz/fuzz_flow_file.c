/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a former process left, whatever it is: the input is the file of a flow table. It is opened,
 * adopted by a table of some size, and closed; nothing it holds may do any harm. The first byte
 * says how: the family, the workers, and whether the header is sealed with a right checksum and
 * this boot's id, so that the records behind it are reached.
 */
#include <rte_rcu_qsbr.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "flow_adopt.h"
#include "flow_file.h"
#include "flow_table.h"

#define SIZE_MAX_BYTES (1 << 16)
#define HEADER 120 // bytes of a header with its checksum

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct flow_file_place place;
static const struct flow_secrets secrets = {{{1}}, {{2}}};
static const uint16_t timeouts[TCP_STATES] = {240, 240, 240, 240, 240, 240, 240, 240, 240, 240};

static void remove_place(void)
{
	flow_file_remove(&place, "t");
	rmdir(place.directory);
}

static const uint16_t *resolve(void *context, struct flow *flow)
{
	flow->backend = flow->port[FLOW_BACKEND] & 7;
	return flow->port[FLOW_BACKEND] != 9 ? timeouts : NULL;
}

static void adopted(void *context, struct flow *flow, enum tcp_state state)
{
	++*(uint32_t *)context;
}

/* A header that this process would write for a table of so many flows. */
static void seal(uint8_t *bytes, sa_family_t family, uint32_t flows)
{
	struct flow_file file;
	uint8_t header[HEADER];

	flow_file_remove(&place, "t");
	if (flow_file_open(&file, &place, "t", family, flows, &secrets, -1, 0) < 0)
		abort();
	memcpy(header, file.memory.start, sizeof(header));
	flow_file_close(&file, true);
	memcpy(bytes, header, sizeof(header));
}

static void leave(const uint8_t *bytes, size_t size)
{
	char path[FLOW_FILE_PATH];

	snprintf(path, sizeof(path), "%s/t", place.directory);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, bytes, size) != (ssize_t)size)
		abort();
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[SIZE_MAX_BYTES];
	struct flow_file file;
	struct rte_rcu_qsbr *rcu;

	if (place.directory[0] == '\0') {
		strcpy(place.directory, "/dev/shm/weir-fuzz-XXXXXX");
		if (mkdtemp(place.directory) == NULL)
			abort();
		atexit(remove_place);
	}
	if (size < 2 || size > SIZE_MAX_BYTES / 2)
		return 0;
	uint8_t how = data[0];
	uint32_t flows = data[1] % 64 + 1, nb_seen = 0;
	sa_family_t family = how & 1 ? AF_INET6 : AF_INET;
	size_t record = family == AF_INET6 ? sizeof(struct flow6) : sizeof(struct flow4);
	data += 2;
	size -= 2;
	memset(bytes, 0, sizeof(bytes));
	if (how & 2) {
		uint32_t found = size / record + 1;
		seal(bytes, family, found);
		memcpy(bytes + FLOW_FILE_HEADER, data, size);
		size = FLOW_FILE_HEADER + found * record;
	} else {
		memcpy(bytes, data, size);
	}
	leave(bytes, size);
	if (flow_file_open(&file, &place, "t", family, flows, &secrets, -1, 0) < 0)
		return 0;
	if (posix_memalign((void **)&rcu, 64, rte_rcu_qsbr_get_memsize(4)) != 0)
		abort();
	rte_rcu_qsbr_init(rcu, 4);
	struct flow_table *table = flow_table_create_over(flow_file_records(&file), family, flows,
		1 + (how >> 2) % 4, &file.secrets.flows, rcu, -1, false);
	struct flow_adopt_result result;
	flow_table_adopt(table,
		&(struct flow_adopt_source){
			.found = file.found,
			.now_s = 100000,
			.alive_s = 100000 - (how >> 4),
			.resolve = resolve,
			.adopted = adopted,
			.context = &nb_seen,
		},
		&result);
	if (nb_seen != result.adopted || result.adopted > table->limit ||
		flow_file_finish(&file, &secrets) < 0)
		abort();
	flow_table_destroy(table);
	free(rcu);
	flow_file_close(&file, false);
	// What it became can be adopted by anybody.
	if (flow_file_open(&file, &place, "t", family, flows, &secrets, -1, 0) < 0 ||
		file.refused[0] != '\0' || file.found != flows)
		abort();
	flow_file_close(&file, true);
	return 0;
}
