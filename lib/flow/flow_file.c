/* SPDX-License-Identifier: BSD-3-Clause */
#include "flow_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "clock.h"
#include "flow.h"
#include "log.h"
#include "own_file.h"

#define MAGIC "WeirFlow"
#define COPY_AT 2048 // of the header's second copy
#define ALIVE_AT 4032
#define LOCK_STEP_US 2000
#define BOOT_ID_SIZE 16
#define OWN_NAME "weir"  // of a directory in one that is everybody's
#define BESIDE ".XXXXXX" // behind it, where somebody else has the name
#define REFUSED ".refused"
#define BLOCK 512 // bytes: of st_blocks

/* In the byte order of the machine: it never leaves it. */
struct header {
	char magic[8];
	uint32_t version;
	uint32_t header_size; // bytes before the first record
	uint32_t record_size;
	uint32_t capacity;
	uint32_t family;
	uint32_t features; // what its records may use beyond the version; 0 in version 1
	uint8_t boot_id[BOOT_ID_SIZE];
	struct flow_secrets secrets;
	uint64_t checksum; // of all before it
};

_Static_assert(sizeof(struct header) <= COPY_AT, "two copies");

static size_t record_size(sa_family_t family)
{
	return family == AF_INET6 ? sizeof(struct flow6) : sizeof(struct flow4);
}

/* --- places --- */

/* The mount with the smallest pages: the table is rounded up to them. */
static bool find_hugetlbfs(char directory[FLOW_FILE_PARENT])
{
	FILE *mounts = setmntent("/proc/mounts", "re");
	struct mntent *mount;
	struct statfs fs;
	long smallest = 0;

	while (mounts != NULL && (mount = getmntent(mounts)) != NULL) {
		if (strcmp(mount->mnt_type, "hugetlbfs") != 0 ||
			strlen(mount->mnt_dir) >= FLOW_FILE_PARENT ||
			statfs(mount->mnt_dir, &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC)
			continue;
		if (smallest != 0 && fs.f_bsize >= smallest)
			continue;
		smallest = fs.f_bsize;
		strcpy(directory, mount->mnt_dir);
	}
	if (mounts != NULL)
		endmntent(mounts);
	return smallest != 0;
}

static bool is_table(const char *directory, const char *name)
{
	char path[FLOW_FILE_PATH];
	struct stat status;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return lstat(path, &status) == 0 && own_file_is(&status, true);
}

static bool is_own_table(const char *directory, const char *name)
{
	return own_directory_is(directory) && is_table(directory, name);
}

/* Find our directory in one that is everybody's: the one with the table, should somebody have had
 * its usual name for a time. */
static void find_own(struct flow_file_place *place, const char *name)
{
	DIR *directory = opendir(place->former);
	char path[sizeof(place->directory)];
	struct dirent *entry;

	snprintf(place->directory, sizeof(place->directory), "%s/" OWN_NAME, place->former);
	while (directory != NULL && !is_own_table(place->directory, name) &&
		(entry = readdir(directory)) != NULL) {
		if (strncmp(entry->d_name, OWN_NAME ".", strlen(OWN_NAME ".")) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%.11s", place->former, entry->d_name);
		if (is_own_table(path, name) ||
			(own_directory_is(path) && !own_directory_is(place->directory)))
			strcpy(place->directory, path);
	}
	if (directory != NULL)
		closedir(directory);
}

/* The place that a directory offers: itself, if nobody else may write there. */
static void set_place(struct flow_file_place *place, const char *directory, const char *name)
{
	if (own_directory_is(directory)) {
		snprintf(place->directory, sizeof(place->directory), "%s", directory);
		return;
	}
	snprintf(place->former, sizeof(place->former), "%s", directory);
	find_own(place, name);
}

unsigned flow_file_places(
	struct flow_file_place places[FLOW_FILE_PLACES], const char *name, bool hugepages)
{
	static const char *const memory[] = {OWN_RUN_DIRECTORY, "/dev/shm"};
	char mounted[FLOW_FILE_PARENT];
	struct statfs fs;
	unsigned count = 0;

	memset(places, 0, FLOW_FILE_PLACES * sizeof(*places));
	if (hugepages && find_hugetlbfs(mounted)) {
		places[count].hugepages = true;
		set_place(&places[count++], mounted, name);
	}
	own_directory_make(OWN_RUN_DIRECTORY, 0755); // whose it is was looked at
	for (unsigned i = 0; i < 2; i++)
		if (statfs(memory[i], &fs) == 0 && fs.f_type == TMPFS_MAGIC)
			set_place(&places[count++], memory[i], name);
	return count;
}

/* --- the header --- */

static int read_boot_id(uint8_t id[BOOT_ID_SIZE])
{
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
	unsigned done = 0, byte;

	if (file == NULL)
		return -errno;
	for (; done < BOOT_ID_SIZE; done++) {
		int c = fgetc(file);
		if (c != '-')
			ungetc(c, file);
		if (fscanf(file, "%2x", &byte) != 1)
			break;
		id[done] = byte;
	}
	fclose(file);
	return done == BOOT_ID_SIZE ? 0 : -EIO;
}

/* Against damage, not against malice: the key is nobody's secret. */
static uint64_t checksum_of(const struct header *header)
{
	static const struct hash_key key = {{0x77656972, 0x666c6f77}};

	return hash_siphash(&key, header, offsetof(struct header, checksum));
}

static int write_header(struct flow_file *file, uint32_t capacity)
{
	struct header header = {
		.version = FLOW_FILE_VERSION,
		.header_size = FLOW_FILE_HEADER,
		.record_size = record_size(file->family),
		.capacity = capacity,
		.family = file->family,
		.features = FLOW_FILE_FEATURES,
		.secrets = file->secrets,
	};
	int err = read_boot_id(header.boot_id);

	if (err < 0)
		return err;
	memcpy(header.magic, MAGIC, sizeof(header.magic));
	header.checksum = checksum_of(&header);
	memcpy(file->memory.start, &header, sizeof(header));
	// The second copy not before the first one is whole, whenever the process ends.
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	memcpy((char *)file->memory.start + COPY_AT, &header, sizeof(header));
	return 0;
}

static bool is_boot(const uint8_t id[BOOT_ID_SIZE])
{
	uint8_t now[BOOT_ID_SIZE];

	return read_boot_id(now) == 0 && memcmp(now, id, BOOT_ID_SIZE) == 0;
}

/* Why a header can't be used, or NULL. */
static const char *judge(
	const struct header *header, const struct flow_file *file, size_t size, char *message)
{
	if (memcmp(header->magic, MAGIC, sizeof(header->magic)) != 0)
		return "it is no flow table";
	if (header->version < FLOW_FILE_OLDEST || header->version > FLOW_FILE_VERSION) {
		snprintf(message, FLOW_FILE_MESSAGE,
			"it has version %u of the layout, this weir %u", header->version,
			FLOW_FILE_VERSION);
		return message;
	}
	if (header->checksum != checksum_of(header))
		return "its header is damaged";
	if ((header->features & ~FLOW_FILE_FEATURES) != 0) {
		snprintf(message, FLOW_FILE_MESSAGE,
			"it uses features that this weir doesn't know (%#x)",
			header->features & ~FLOW_FILE_FEATURES);
		return message;
	}
	if (!is_boot(header->boot_id))
		return "it is of another boot";
	if (header->family != file->family)
		return "it is of the other address family";
	if (header->header_size != FLOW_FILE_HEADER ||
		header->record_size != record_size(file->family) || header->capacity == 0)
		return "its records have another size";
	if ((size - FLOW_FILE_HEADER) / header->record_size < header->capacity)
		return "it is cut short";
	return NULL;
}

/* Take in the header of what is there, from one copy or the other. False: `refused` says why. */
static bool read_header(struct flow_file *file, size_t size)
{
	size_t mapped = size < file->page_size ? size : file->page_size;
	char message[FLOW_FILE_MESSAGE];
	struct header header;

	if (size < FLOW_FILE_HEADER) {
		strcpy(file->refused, "it is cut short");
		return false;
	}
	const char *start = mmap(NULL, mapped, PROT_READ, MAP_SHARED, file->fd, 0);
	if (start == MAP_FAILED) {
		snprintf(file->refused, sizeof(file->refused), "it can't be mapped: %s",
			strerror(errno));
		return false;
	}
	for (unsigned copy = 0; copy < 2; copy++) {
		memcpy(&header, start + copy * COPY_AT, sizeof(header));
		const char *why = judge(&header, file, size, message);
		if (why == NULL) {
			file->refused[0] = '\0';
			file->found = header.capacity;
			file->secrets = header.secrets;
			memcpy(&file->alive_s, start + ALIVE_AT, sizeof(file->alive_s));
			break;
		}
		if (copy == 0) // the copy that is written first says it best
			snprintf(file->refused, sizeof(file->refused), "%s", why);
	}
	munmap((void *)start, mapped);
	return file->found != 0;
}

/* --- open --- */

/* Open and lock. A name whose file was moved away meanwhile is opened anew. */
static int open_locked(const char *path, int flags, unsigned wait_ms)
{
	uint64_t deadline_ms = clock_ms() + wait_ms;

	for (;;) {
		int fd = own_file_open(path, O_RDWR | flags, true);
		struct stat held, named;
		if (fd < 0)
			return fd;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
			int err = errno == EWOULDBLOCK ? -EBUSY : -errno;
			close(fd);
			if (err != -EBUSY || clock_ms() >= deadline_ms)
				return err;
			usleep(LOCK_STEP_US);
			continue;
		}
		if (fstat(fd, &held) == 0 && stat(path, &named) == 0 && held.st_ino == named.st_ino)
			return fd;
		close(fd);
		if (clock_ms() >= deadline_ms + 1000)
			return -EINVAL;
	}
}

/* Make the directory; where somebody else has its name, another one beside it. */
static int make_directory(struct flow_file_place *place)
{
	int err = own_directory_make(place->directory, 0700);

	if (err != -EPERM || place->former[0] == '\0')
		return err;
	log_warning("%s isn't this weir's: the flow table lies beside it", place->directory);
	snprintf(place->directory, sizeof(place->directory), "%s/" OWN_NAME BESIDE, place->former);
	return mkdtemp(place->directory) == NULL ? -errno : 0;
}

/* What makes a file somebody else's. */
static void tell_owner(const char *path, char text[FLOW_FILE_MESSAGE])
{
	struct stat status = {0};

	lstat(path, &status);
	snprintf(text, FLOW_FILE_MESSAGE,
		"it isn't this weir's alone (user %u, mode %04o, %lu name%s)", status.st_uid,
		status.st_mode & 07777, (unsigned long)status.st_nlink,
		status.st_nlink == 1 ? "" : "s");
}

/* Open what an earlier weir left where everybody may write. -ENOENT: it left nothing. */
static int open_former(struct flow_file *file, const char *name, unsigned wait_ms)
{
	char owner[FLOW_FILE_MESSAGE];

	if (file->place.former[0] == '\0')
		return -ENOENT;
	snprintf(file->path, sizeof(file->path), "%s/%s", file->place.former, name);
	int fd = open_locked(file->path, 0, wait_ms);
	file->is_former = fd >= 0;
	if (fd != -EPERM)
		return fd;
	tell_owner(file->path, owner);
	log_warning("%s isn't taken for the flow table: %s; it is left alone", file->path, owner);
	return -ENOENT;
}

static int open_own(struct flow_file *file, const char *name, unsigned wait_ms)
{
	int fd;

	do {
		fd = make_directory(&file->place);
		snprintf(file->path, sizeof(file->path), "%s/%s", file->place.directory, name);
		if (fd == 0)
			fd = open_locked(file->path, O_CREAT, wait_ms);
	} while (fd == -ENOENT); // another weir, at its end, took the empty directory away
	return fd;
}

/* Keep what can't be used beside the place of the table, and open a new one there. */
static int set_aside(struct flow_file *file, const char *name, unsigned wait_ms)
{
	char aside[FLOW_FILE_PATH];
	int err = make_directory(&file->place);

	if (err < 0)
		return err;
	snprintf(aside, sizeof(aside), "%s/%s" REFUSED, file->place.directory, name);
	if (rename(file->path, aside) < 0 && unlink(file->path) < 0)
		return -errno;
	if (file->fd >= 0)
		close(file->fd);
	file->is_former = false;
	file->fd = open_own(file, name, wait_ms);
	return file->fd < 0 ? file->fd : 0;
}

static size_t size_for(const struct flow_file *file, uint32_t capacity)
{
	size_t size = FLOW_FILE_HEADER + (size_t)capacity * record_size(file->family);

	return (size + file->page_size - 1) / file->page_size * file->page_size;
}

/* Make the file that long at least, with memory behind all of it: a page that is missing when it is
 * first written to would end the process. */
static int reserve(const struct flow_file *file, size_t size, bool hugepages)
{
	struct stat status;

	if (fstat(file->fd, &status) < 0)
		return -errno;
	if ((size_t)status.st_size < size && ftruncate(file->fd, size) < 0)
		return -errno;
	// In hugetlbfs it is the mapping that reserves.
	if (!hugepages && (size_t)status.st_blocks * BLOCK < size &&
		fallocate(file->fd, 0, 0, size) < 0 && errno != EOPNOTSUPP)
		return -errno;
	return 0;
}

static int map_records(struct flow_file *file, uint32_t count, off_t size_now, int numa_node)
{
	bool hugepages = file->place.hugepages;
	size_t size = size_for(file, count);
	int err = reserve(file, size, hugepages);

	if (err == 0)
		err = flow_memory_map_file(&file->memory, file->fd, size, numa_node, hugepages);
	if (err < 0 && file->found != 0 && ftruncate(file->fd, size_now) < 0)
		return -errno;
	return err;
}

static int map(struct flow_file *file, off_t size_now, int numa_node)
{
	uint32_t most = file->found > file->capacity ? file->found : file->capacity;
	int err = map_records(file, most, size_now, numa_node);

	if (err == 0 || file->found == 0 || most == file->found)
		return err;
	// What it holds is worth more than room for others.
	file->capacity = file->found;
	return map_records(file, file->found, size_now, numa_node);
}

static void give_up(struct flow_file *file, bool remove)
{
	flow_memory_unmap(&file->memory);
	if (file->fd < 0)
		return;
	if (remove)
		unlink(file->path); // before the lock goes: see open_locked()
	if (remove && file->place.former[0] != '\0')
		rmdir(file->place.directory); // fails as long as something else is in it
	close(file->fd);
	file->fd = -1;
}

int flow_file_open(struct flow_file *file, const struct flow_file_place *place, const char *name,
	sa_family_t family, uint32_t flows, const struct flow_secrets *secrets, int numa_node,
	unsigned wait_ms)
{
	struct stat status = {0};
	struct statfs fs;
	int err = 0;

	memset(file, 0, sizeof(*file));
	file->family = family;
	file->capacity = flows;
	file->place = *place;
	file->fd = open_former(file, name, wait_ms);
	if (file->fd == -ENOENT)
		file->fd = open_own(file, name, wait_ms);
	if (file->fd == -EPERM) {
		tell_owner(file->path, file->refused);
		err = set_aside(file, name, wait_ms);
	}
	if (file->fd < 0)
		return err < 0 ? err : file->fd;
	err = fstat(file->fd, &status) < 0 || fstatfs(file->fd, &fs) < 0 ? -errno : 0;
	if (err < 0)
		goto fail;
	// NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): fstatfs() has set it
	file->page_size = fs.f_bsize;
	if (status.st_size != 0 && !read_header(file, status.st_size)) {
		err = set_aside(file, name, wait_ms);
		status.st_size = 0;
	}
	if (err == 0)
		err = map(file, status.st_size, numa_node);
	if (err < 0)
		goto fail;
	if (file->found != 0)
		return 0;
	file->secrets = *secrets;
	flow_file_alive(file, clock_ms() / 1000);
	err = write_header(file, flows);
	if (err == 0)
		return 0;
fail:
	give_up(file, file->found == 0);
	return err;
}

int flow_file_finish(struct flow_file *file, const struct flow_secrets *secrets)
{
	size_t size = size_for(file, file->capacity);
	int err;

	file->secrets = *secrets;
	err = write_header(file, file->capacity);
	// First what it says, then what it has: too long is no harm.
	if (err == 0 && size < file->memory.size) {
		flow_memory_shrink(&file->memory, size);
		if (ftruncate(file->fd, size) < 0)
			err = -errno;
	}
	file->found = file->capacity;
	return err;
}

int flow_file_settle(struct flow_file *file)
{
	char path[FLOW_FILE_PATH];

	if (file->fd < 0 || !file->is_former)
		return 0;
	int err = make_directory(&file->place);
	if (err < 0)
		return err;
	snprintf(path, sizeof(path), "%s%s", file->place.directory, strrchr(file->path, '/'));
	if (rename(file->path, path) < 0)
		return -errno;
	strcpy(file->path, path);
	file->is_former = false;
	return 0;
}

void flow_file_alive(struct flow_file *file, uint64_t now_s)
{
	if (file->memory.start != NULL)
		__atomic_store_n((uint64_t *)((char *)file->memory.start + ALIVE_AT), now_s,
			__ATOMIC_RELAXED);
}

void flow_file_close(struct flow_file *file, bool remove)
{
	give_up(file, remove);
}

bool flow_file_exists(const struct flow_file_place *place, const char *name)
{
	return (place->former[0] != '\0' && is_table(place->former, name)) ||
		is_own_table(place->directory, name);
}

/* Delete a table that nobody has; what isn't ours, only where nobody else may write. */
static bool remove_from(const char *directory, const char *name, bool is_own)
{
	char path[FLOW_FILE_PATH];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	int fd = own_file_open(path, O_RDWR, true);
	if (fd == -EPERM && is_own)
		remove(path); // it may be a directory
	if (fd < 0)
		return fd == -ENOENT || fd == -EPERM;
	bool mine = flock(fd, LOCK_EX | LOCK_NB) == 0;
	if (mine)
		unlink(path);
	close(fd);
	return mine;
}

bool flow_file_remove(const struct flow_file_place *place, const char *name)
{
	char refused[FLOW_FILE_PATH];

	snprintf(refused, sizeof(refused), "%s" REFUSED, name);
	bool all = true;
	if (own_directory_is(place->directory)) {
		all = remove_from(place->directory, name, true);
		remove_from(place->directory, refused, true);
		if (place->former[0] != '\0')
			rmdir(place->directory); // fails as long as something else is in it
	}
	if (place->former[0] != '\0') {
		all &= remove_from(place->former, name, false);
		remove_from(place->former, refused, false);
	}
	return all;
}
