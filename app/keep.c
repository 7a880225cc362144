/* SPDX-License-Identifier: BSD-3-Clause */
#include "keep.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backends.h"
#include "clock.h"
#include "dev.h"
#include "hash.h"
#include "id_pool.h"
#include "log.h"

#define DIRECTORY "/run/weir"
#define MAGIC "WeirKeep"
#define VERSION 2
#define ROWS_AT 4096
#define ROWS_A_SLICE 128 // written at once: under a tenth of a millisecond
#define ROUND_MS 1000
#define SLICE_MS 20
#define BOOT_ID_TEXT 36
#define REASON_TEXT 64 // what doesn't fit is cut off

struct header {
	char magic[8];
	uint32_t version;
	uint32_t row_size;
	char boot_id[BOOT_ID_TEXT];
};

/* In the machine's byte order; unused bytes are zero. */
struct row {
	char service[CONF_NAME_MAX + 1]; // "" = no row
	struct net_endpoint endpoint;    // with `service` the key
	struct stats_backend totals;
	uint64_t since_ms; // monotonic: good for one boot
	uint32_t health;   // enum health_state
	uint8_t connects;
	// Set by hand: one more than the value, as a row of before has 0 there; 0 = nothing.
	uint8_t hand_state;
	uint16_t hand_weight;
	char reason[REASON_TEXT];
	uint64_t checksum;       // of all before it
} __attribute__((aligned(512))); // on one page, so that no death tears it

_Static_assert(sizeof(struct row) == 512, "one after the other");

struct keep {
	char path[128];
	int fd;                         // -1 = nothing is written
	bool failed;                    // said so
	void *tree;                     // tsearch(3) of struct row: what the former process left
	uint32_t next;                  // backend of the next tick, by id
	struct row slice[ROWS_A_SLICE]; // being written
};

static uint64_t checksum_of(const struct row *row)
{
	static const struct hash_key key = {{0x77656972, 0x6b656570}};

	return hash_siphash(&key, row, offsetof(struct row, checksum));
}

static void make_path(const struct conf *conf, char path[128])
{
	char name[80];

	snprintf(path, 128, DIRECTORY "/%s.backends", dev_instance_name(conf, name));
}

static int compare(const void *a, const void *b)
{
	const struct row *first = a, *second = b;
	int order = strcmp(first->service, second->service);

	return order != 0 ? order : net_endpoint_compare(&first->endpoint, &second->endpoint);
}

static bool make_header(struct header *header)
{
	memset(header, 0, sizeof(*header));
	memcpy(header->magic, MAGIC, sizeof(header->magic));
	header->version = VERSION;
	header->row_size = sizeof(struct row);
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	bool known = fd >= 0 && read(fd, header->boot_id, BOOT_ID_TEXT) == BOOT_ID_TEXT;
	if (fd >= 0)
		close(fd);
	return known;
}

/* --- what was left --- */

static bool row_is_whole(struct row *row)
{
	sa_family_t family = row->endpoint.addr.family;

	row->service[CONF_NAME_MAX] = '\0';
	row->reason[sizeof(row->reason) - 1] = '\0';
	return row->service[0] != '\0' && row->checksum == checksum_of(row) &&
		row->health <= HEALTH_DOWN && (family == AF_INET || family == AF_INET6) &&
		row->since_ms <= clock_ms();
}

static void take_row(struct keep *keep, const struct row *row)
{
	struct row *copy = aligned_alloc(_Alignof(struct row), sizeof(*copy));

	if (copy == NULL)
		return;
	*copy = *row;
	void *found = tsearch(copy, &keep->tree, compare);
	if (found == NULL || *(struct row **)found != copy)
		free(copy);
}

static void read_rows(struct keep *keep, FILE *file)
{
	struct header header, wanted;
	struct row row;

	if (!make_header(&wanted) || fread(&header, sizeof(header), 1, file) != 1 ||
		memcmp(&header, &wanted, sizeof(header)) != 0) {
		log_warning("%s isn't taken: it is of another version or boot; backends are probed "
			    "anew",
			keep->path);
		return;
	}
	fseek(file, ROWS_AT, SEEK_SET);
	while (fread(&row, sizeof(row), 1, file) == 1)
		if (row_is_whole(&row))
			take_row(keep, &row);
}

struct keep *keep_create(const struct conf *conf, bool persist)
{
	struct keep *keep = aligned_alloc(_Alignof(struct keep), sizeof(*keep));

	if (keep == NULL)
		return NULL;
	memset(keep, 0, sizeof(*keep));
	keep->fd = -1;
	make_path(conf, keep->path);
	if (!persist) {
		unlink(keep->path);
		keep->path[0] = '\0';
		return keep;
	}
	FILE *file = fopen(keep->path, "re");
	if (file != NULL) {
		read_rows(keep, file);
		fclose(file);
	}
	return keep;
}

void keep_destroy(struct keep *keep, bool remove)
{
	if (keep == NULL)
		return;
	if (keep->fd >= 0) {
		close(keep->fd);
		if (remove)
			unlink(keep->path);
	}
	tdestroy(keep->tree, free);
	free(keep);
}

void keep_remove(const struct conf *conf)
{
	char path[128];

	make_path(conf, path);
	unlink(path);
}

static const struct row *find(const struct keep *keep, const struct control_backend *backend)
{
	struct row key = {.endpoint = backend->conf.endpoint};

	if (keep == NULL)
		return NULL;
	strcpy(key.service, backend->service->name);
	struct row **found = tfind(&key, &keep->tree, compare);
	return found == NULL ? NULL : *found;
}

bool keep_health(const struct keep *keep, const struct control_backend *backend,
	struct health_status *status)
{
	const struct row *row = find(keep, backend);

	if (row == NULL || row->health == HEALTH_UNKNOWN)
		return false;
	*status = (struct health_status){
		.state = row->health, .since_ms = row->since_ms, .connects = row->connects};
	strcpy(status->reason, row->reason);
	return true;
}

bool keep_totals(const struct keep *keep, const struct control_backend *backend,
	struct stats_backend *totals)
{
	const struct row *row = find(keep, backend);

	if (row != NULL)
		*totals = row->totals;
	return row != NULL;
}

void keep_by_hand(
	const struct keep *keep, const struct control_backend *backend, int *state, int *weight)
{
	const struct row *row = find(keep, backend);

	*state =
		row == NULL || row->hand_state > CONF_STATE_DISABLED + 1 ? -1 : row->hand_state - 1;
	*weight = row == NULL || row->hand_weight > CONF_WEIGHT_MAX + 1 ? -1 : row->hand_weight - 1;
}

/* --- what runs now --- */

/* The rows of so many ids. */
static void put(struct keep *keep, uint32_t id, const struct row *rows, uint32_t count)
{
	off_t at = ROWS_AT + (off_t)id * sizeof(*rows);
	ssize_t size = count * sizeof(*rows);

	if (keep->fd < 0 || pwrite(keep->fd, rows, size, at) == size || keep->failed)
		return;
	keep->failed = true;
	log_warning("%s: %s; what the probes know won't survive a restart", keep->path,
		strerror(errno));
}

/* backend NULL: a row that says that there is none. */
static void fill(
	struct row *row, const struct backends *backends, const struct control_backend *backend)
{
	memset(row, 0, sizeof(*row)); // what lies between the fields, too
	if (backend == NULL)
		return;
	strcpy(row->service, backend->service->name);
	row->endpoint.addr.family = backend->conf.endpoint.addr.family;
	memcpy(row->endpoint.addr.v6, backend->conf.endpoint.addr.v6,
		net_addr_size(row->endpoint.addr.family));
	row->endpoint.port = backend->conf.endpoint.port;
	control_backend_count(backends, backend, &row->totals);
	row->since_ms = backend->health.since_ms;
	row->health = backend->health.state;
	row->connects = backend->health.connects;
	row->hand_state = backend->temporary_state + 1;
	row->hand_weight = backend->temporary_weight + 1;
	memcpy(row->reason, backend->health.reason,
		strnlen(backend->health.reason, sizeof(row->reason) - 1));
	row->checksum = checksum_of(row);
}

void keep_write(
	struct keep *keep, const struct backends *backends, const struct control_backend *backend)
{
	if (keep == NULL || keep->fd < 0)
		return;
	fill(&keep->slice[0], backends, backend);
	put(keep, backend->id, &keep->slice[0], 1);
}

void keep_erase(struct keep *keep, const struct control_backend *backend)
{
	static const struct row none;

	if (keep != NULL)
		put(keep, backend->id, &none, 1);
}

/* Rows from `first` on, as many as there are and a slice has. Returns how many. */
static uint32_t write_slice(struct keep *keep, const struct backends *backends, uint32_t first)
{
	uint32_t end = id_pool_end(backends->ids);
	uint32_t count = end - first < ROWS_A_SLICE ? end - first : ROWS_A_SLICE;

	for (uint32_t i = 0; i < count; i++)
		fill(&keep->slice[i], backends, backends->by_id[first + i]);
	put(keep, first, keep->slice, count);
	return count;
}

void keep_all(struct keep *keep, const struct backends *backends)
{
	if (keep == NULL || keep->fd < 0)
		return;
	for (uint32_t id = 0; id < id_pool_end(backends->ids);)
		id += write_slice(keep, backends, id);
}

void keep_begin(struct keep *keep, const struct backends *backends)
{
	char fresh[sizeof(keep->path) + 8];
	struct header header;

	if (keep == NULL || keep->path[0] == '\0' || !make_header(&header))
		return;
	// Beside the old one, which counts until the new one is whole.
	snprintf(fresh, sizeof(fresh), "%s.new", keep->path);
	mkdir(DIRECTORY, 0755);
	unlink(fresh);
	keep->fd = open(fresh, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (keep->fd < 0 || pwrite(keep->fd, &header, sizeof(header), 0) != sizeof(header))
		goto fail;
	keep_all(keep, backends);
	if (rename(fresh, keep->path) == 0)
		return;
fail:
	log_warning("%s: %s; what the probes know won't survive a restart", fresh, strerror(errno));
	if (keep->fd >= 0)
		close(keep->fd);
	unlink(fresh);
	keep->fd = -1;
}

unsigned keep_tick(struct keep *keep, const struct backends *backends)
{
	uint32_t end = id_pool_end(backends->ids);
	uint32_t slices = (end + ROWS_A_SLICE - 1) / ROWS_A_SLICE;

	if (keep == NULL || keep->fd < 0 || end == 0)
		return ROUND_MS;
	if (keep->next >= end)
		keep->next = 0;
	keep->next += write_slice(keep, backends, keep->next);
	return ROUND_MS / slices > SLICE_MS ? ROUND_MS / slices : SLICE_MS;
}
