/* SPDX-License-Identifier: BSD-3-Clause */
#include "kept_rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hash.h"

#define MAGIC "WeirKeep"
#define VERSION 2
#define LAYOUT_SINGLE 0 // of a version before this one
#define LAYOUT_COPIES 1
#define ROWS_AT 4096
#define BLOCK_SIZE (KEPT_BLOCK * (off_t)sizeof(struct kept_cell))
#define BOOT_ID_TEXT 36

struct header {
	char magic[8];
	uint32_t version;
	uint32_t row_size;
	char boot_id[BOOT_ID_TEXT];
	uint32_t layout; // behind what a version before this one compares
};

_Static_assert(sizeof(struct kept_backend) == KEPT_ROW_SIZE, "one after the other");
_Static_assert(sizeof(struct kept_service) == KEPT_ROW_SIZE, "one after the other");
_Static_assert(sizeof(struct kept_worker) == KEPT_WORKER_SIZE, "one after the other");
_Static_assert(offsetof(struct kept_backend, set_ms) == 88, "where nothing was before");
_Static_assert(offsetof(struct kept_backend, totals) == 128, "as it always was");
_Static_assert(offsetof(struct kept_backend, checksum) == 272, "as it always was");
_Static_assert(offsetof(struct kept_backend, whole) == KEPT_ROW_SIZE - 8, "nothing behind it");
_Static_assert(
	STATS_WORKERS_MAX * sizeof(struct kept_worker_cell) <= BLOCK_SIZE, "the first block");

static uint64_t checksum_of(const void *row, size_t size)
{
	static const struct hash_key key = {{0x77656972, 0x6b656570}};

	return hash_siphash(&key, row, size);
}

/* What the words of struct stats_counters count. */
static uint64_t fields_of_counters(void)
{
	uint64_t sum = sizeof(struct stats_counters);

	for (unsigned i = 0; i < STATS_DROPS_COUNT; i++)
		sum = sum * 31 + checksum_of(stats_drop_names[i], strlen(stats_drop_names[i]));
	for (unsigned i = 0; i < STATS_GAVE_WAYS_COUNT; i++)
		sum = sum * 31 +
			checksum_of(stats_gave_way_names[i], strlen(stats_gave_way_names[i]));
	return sum;
}

/* --- a row and its copy --- */

void kept_seal_backend(struct kept_cell *cell)
{
	struct kept_backend *row = &cell->copies[0].backend;

	row->checksum = checksum_of(row, offsetof(struct kept_backend, checksum));
	row->whole = checksum_of(row, offsetof(struct kept_backend, whole));
	cell->copies[1] = cell->copies[0];
}

void kept_seal_service(struct kept_cell *cell)
{
	struct kept_service *row = &cell->copies[0].service;

	row->whole = checksum_of(row, offsetof(struct kept_service, whole));
	cell->copies[1] = cell->copies[0];
}

void kept_seal_worker(struct kept_worker_cell *cell)
{
	struct kept_worker *row = &cell->copies[0];

	row->fields = fields_of_counters();
	row->whole = checksum_of(row, offsetof(struct kept_worker, whole));
	cell->copies[1] = cell->copies[0];
}

static bool is_blank(const uint8_t *row, size_t size)
{
	return row[0] == 0 && memcmp(row, row + 1, size - 1) == 0;
}

/* The checksum is a row's last word. */
static bool is_whole(const uint8_t *row, size_t size)
{
	uint64_t whole;

	memcpy(&whole, row + size - sizeof(whole), sizeof(whole));
	return whole == checksum_of(row, size - sizeof(whole));
}

/* A first copy that is blank was written so; one that is neither is half written. */
static const void *choose(const void *copies, size_t size)
{
	const uint8_t *first = copies, *second = first + size;

	if (is_blank(first, size))
		return NULL;
	if (is_whole(first, size))
		return first;
	return !is_blank(second, size) && is_whole(second, size) ? second : NULL;
}

const struct kept_backend *kept_backend_of(const struct kept_cell *cell)
{
	return choose(cell, KEPT_ROW_SIZE);
}

const struct kept_service *kept_service_of(const struct kept_cell *cell)
{
	return choose(cell, KEPT_ROW_SIZE);
}

const struct kept_worker *kept_worker_of(const struct kept_worker_cell *cell)
{
	return choose(cell, KEPT_WORKER_SIZE);
}

/* --- the file --- */

static bool make_header(struct header *header)
{
	memset(header, 0, sizeof(*header));
	memcpy(header->magic, MAGIC, sizeof(header->magic));
	header->version = VERSION;
	header->row_size = KEPT_ROW_SIZE;
	header->layout = LAYOUT_COPIES;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	bool known = fd >= 0 && read(fd, header->boot_id, BOOT_ID_TEXT) == BOOT_ID_TEXT;
	if (fd >= 0)
		close(fd);
	return known;
}

static int write_at(int fd, const void *data, size_t size, off_t at)
{
	ssize_t written = pwrite(fd, data, size, at);

	if (written == (ssize_t)size)
		return 0;
	return written < 0 ? -errno : -ENOSPC;
}

int kept_rows_begin(int fd)
{
	struct header header;

	return make_header(&header) ? write_at(fd, &header, sizeof(header), 0) : -EIO;
}

/* Behind the workers' block those of backends and of services take turns. */
static off_t block_at(enum kept_kind kind, uint32_t block)
{
	return ROWS_AT + BLOCK_SIZE * (1 + 2 * (off_t)block + kind);
}

int kept_rows_write(
	int fd, enum kept_kind kind, uint32_t first, const struct kept_cell *cells, uint32_t count)
{
	off_t at = block_at(kind, first / KEPT_BLOCK) + first % KEPT_BLOCK * (off_t)sizeof(*cells);

	return write_at(fd, cells, count * sizeof(*cells), at);
}

int kept_rows_write_worker(int fd, unsigned worker, const struct kept_worker_cell *cell)
{
	return write_at(fd, cell, sizeof(*cell), ROWS_AT + worker * (off_t)sizeof(*cell));
}

static bool backend_is_right(struct kept_backend *row)
{
	sa_family_t family = row->endpoint.addr.family;

	row->service[CONF_NAME_MAX] = row->reason[KEPT_REASON] = '\0';
	return row->service[0] != '\0' && (family == AF_INET || family == AF_INET6);
}

static void tell_backend(const struct kept_reader *reader, const struct kept_backend *found)
{
	if (found == NULL)
		return;
	struct kept_backend row = *found;
	if (backend_is_right(&row))
		reader->backend(reader->context, &row);
}

static void tell_service(const struct kept_reader *reader, const struct kept_service *found)
{
	if (found == NULL)
		return;
	struct kept_service row = *found;
	row.name[CONF_NAME_MAX] = '\0';
	if (row.name[0] != '\0')
		reader->service(reader->context, &row);
}

static void tell_worker(const struct kept_reader *reader, unsigned worker,
	const struct kept_worker_cell *cell, uint64_t fields)
{
	const struct kept_worker *found = kept_worker_of(cell);

	if (found != NULL && found->fields == fields)
		reader->worker(reader->context, worker, &found->counters);
}

/* A version before this one didn't tell apart what had moved away. */
static void read_single(int fd, const struct kept_reader *reader)
{
	struct kept_backend row;

	for (off_t at = ROWS_AT; pread(fd, &row, sizeof(row), at) == sizeof(row);
		at += sizeof(row)) {
		if (row.checksum != checksum_of(&row, offsetof(struct kept_backend, checksum)))
			continue;
		memset(row.reason_rest, 0,
			KEPT_ROW_SIZE - offsetof(struct kept_backend, reason_rest));
		row.connections = row.totals.opened;
		tell_backend(reader, &row);
	}
}

union block {
	struct kept_cell cells[KEPT_BLOCK];
	struct kept_worker_cell workers[STATS_WORKERS_MAX];
};

/* False: the file ends before it. What of the block isn't there is blank. */
static bool read_block(int fd, off_t at, union block *block)
{
	memset(block, 0, sizeof(*block));
	return pread(fd, block, sizeof(*block), at) > 0;
}

/* Where there is something next, in blocks; the file's end when it isn't known. */
static off_t next_block(int fd, off_t at)
{
	off_t data = lseek(fd, at, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? -1 : at;
	return data - (data - ROWS_AT) % BLOCK_SIZE;
}

static int read_copies(int fd, const struct kept_reader *reader)
{
	union block *block = aligned_alloc(_Alignof(union block), sizeof(*block));
	uint64_t fields = fields_of_counters();

	if (block == NULL)
		return -ENOMEM;
	if (read_block(fd, ROWS_AT, block))
		for (unsigned w = 0; w < STATS_WORKERS_MAX; w++)
			tell_worker(reader, w, &block->workers[w], fields);
	for (off_t at = ROWS_AT + BLOCK_SIZE;
		(at = next_block(fd, at)) >= 0 && read_block(fd, at, block); at += BLOCK_SIZE)
		for (unsigned i = 0; i < KEPT_BLOCK; i++)
			if (((at - ROWS_AT) / BLOCK_SIZE - 1) % 2 == KEPT_BACKENDS)
				tell_backend(reader, kept_backend_of(&block->cells[i]));
			else
				tell_service(reader, kept_service_of(&block->cells[i]));
	free(block);
	return 0;
}

int kept_rows_read(int fd, const struct kept_reader *reader)
{
	struct header header = {.layout = 0}, wanted;

	if (!make_header(&wanted) ||
		pread(fd, &header, sizeof(header), 0) < (ssize_t)offsetof(struct header, layout) ||
		memcmp(&header, &wanted, offsetof(struct header, layout)) != 0)
		return -EINVAL;
	switch (header.layout) {
	case LAYOUT_SINGLE:
		read_single(fd, reader);
		return 0;
	case LAYOUT_COPIES:
		return read_copies(fd, reader);
	default:
		return -EINVAL;
	}
}
