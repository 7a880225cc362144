/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flow_file.h"
#include "flow_offsets.h"
#include "flow_table.h"

#define FLOWS 1000
#define SIZE 69632 // of a file for these: 4096 + 1000 * 64, in pages of 4096 bytes

static struct flow_file_place place; // a directory of this process
static const struct flow_secrets secrets = {{{1, 2, 3, 4}}, {{5, 6, 7, 8}}};

static char *path_of(const char *suffix)
{
	static char path[FLOW_FILE_PATH];

	snprintf(path, sizeof(path), "%s/t%s", place.directory, suffix);
	return path;
}

static bool exists(const char *suffix)
{
	return access(path_of(suffix), F_OK) == 0;
}

static int open_table(struct flow_file *file, uint32_t flows)
{
	static const struct flow_secrets fresh = {{{21}}, {{22}}};

	return flow_file_open(file, &place, "t", AF_INET, flows, &fresh, -1, 0);
}

/* A table that a process left, flow `n` in record n. */
static void leave_table(void)
{
	struct flow_file file;

	flow_file_remove(&place, "t");
	assert_int_equal(flow_file_open(&file, &place, "t", AF_INET, FLOWS, &secrets, -1, 0), 0);
	assert_int_equal(file.found, 0);
	assert_int_equal(flow_file_finish(&file, &secrets), 0);
	struct flow4 *records = flow_file_records(&file);
	for (uint32_t r = 0; r < FLOWS; r++)
		records[r].addr[0] = r;
	flow_file_alive(&file, 12345);
	flow_file_close(&file, false);
}

static void assert_all_there(const struct flow_file *file, uint32_t count)
{
	const struct flow4 *records = flow_file_records(file);

	for (uint32_t r = 0; r < count; r++)
		assert_int_equal(records[r].addr[0], r);
}

static void change(off_t at, const void *bytes, size_t size)
{
	int fd = open(path_of(""), O_RDWR);

	assert_int_equal(pwrite(fd, bytes, size, at), size);
	close(fd);
}

static void records_secrets_and_life_are_found_again(void **state)
{
	struct flow_file file;
	struct stat status;

	leave_table();
	assert_int_equal(stat(path_of(""), &status), 0);
	assert_int_equal(status.st_size, SIZE);
	assert_int_equal(status.st_mode & 07777, 0600);
	assert_int_equal(open_table(&file, FLOWS), 0);
	assert_int_equal(file.found, FLOWS);
	assert_int_equal(file.alive_s, 12345);
	assert_memory_equal(&file.secrets, &secrets, sizeof(secrets));
	assert_string_equal(file.refused, "");
	assert_all_there(&file, FLOWS);
	flow_file_close(&file, true);
	assert_false(exists(""));
}

static void one_process_at_a_time(void **state)
{
	struct flow_file file, other;

	leave_table();
	assert_int_equal(open_table(&file, FLOWS), 0);
	assert_int_equal(open_table(&other, FLOWS), -EBUSY);
	assert_false(flow_file_remove(&place, "t"));
	assert_true(exists(""));
	flow_file_close(&file, false);
	assert_int_equal(open_table(&other, FLOWS), 0);
	flow_file_close(&other, true);
}

static void a_killed_process_lets_go(void **state)
{
	struct flow_file file;
	int ready[2];

	assert_int_equal(pipe(ready), 0);
	leave_table();
	pid_t pid = fork();
	if (pid == 0) {
		if (open_table(&file, FLOWS) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		pause();
	}
	char byte;
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(open_table(&file, FLOWS), -EBUSY);
	kill(pid, SIGKILL);
	assert_int_equal(flow_file_open(&file, &place, "t", AF_INET, FLOWS, &secrets, -1, 5000), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(file.found, FLOWS);
	flow_file_close(&file, true);
	close(ready[0]);
	close(ready[1]);
}

static void it_grows(void **state)
{
	struct flow_file file;

	leave_table();
	assert_int_equal(open_table(&file, FLOWS * 3), 0);
	assert_int_equal(file.found, FLOWS);
	struct flow4 *records = flow_file_records(&file);
	assert_int_equal(records[FLOWS * 3 - 1].flow.status, 0);
	// As if killed here: it is still the smaller one.
	flow_file_close(&file, false);
	assert_int_equal(open_table(&file, FLOWS * 3), 0);
	assert_int_equal(file.found, FLOWS);
	assert_int_equal(flow_file_finish(&file, &secrets), 0);
	flow_file_close(&file, false);
	assert_int_equal(open_table(&file, FLOWS * 3), 0);
	assert_int_equal(file.found, FLOWS * 3);
	assert_all_there(&file, FLOWS);
	flow_file_close(&file, true);
}

/* A larger flows.size finds no room: what it holds stays (E12). */
static void it_stays_as_it_is_where_it_cannot_grow(void **state)
{
	struct rlimit limit, no_more;
	struct flow_file file;

	leave_table();
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	no_more = (struct rlimit){SIZE, limit.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &no_more), 0);
	int err = open_table(&file, FLOWS * 3);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(err, 0);
	assert_int_equal(file.found, FLOWS);
	assert_int_equal(file.capacity, FLOWS);
	assert_int_equal(flow_file_finish(&file, &secrets), 0);
	assert_all_there(&file, FLOWS);
	flow_file_close(&file, true);
}

static void it_shrinks_when_it_is_adopted(void **state)
{
	struct flow_file file;
	struct stat status;

	leave_table();
	assert_int_equal(open_table(&file, FLOWS / 2), 0);
	assert_int_equal(file.found, FLOWS);
	assert_all_there(&file, FLOWS);
	assert_int_equal(flow_file_finish(&file, &secrets), 0);
	assert_all_there(&file, FLOWS / 2);
	flow_file_close(&file, false);
	assert_int_equal(stat(path_of(""), &status), 0);
	assert_true(status.st_size < SIZE);
	assert_int_equal(open_table(&file, FLOWS / 2), 0);
	assert_int_equal(file.found, FLOWS / 2);
	flow_file_close(&file, true);
}

/* What stands there is refused, kept beside, and a new table is made in its place. */
static void assert_refused(const char *why)
{
	struct flow_file file;

	assert_int_equal(open_table(&file, FLOWS), 0);
	assert_non_null(strstr(file.refused, why));
	assert_int_equal(file.found, 0);
	assert_int_equal(file.secrets.flows.k[0], 21);
	assert_true(exists(".refused"));
	const struct flow4 *records = flow_file_records(&file);
	for (uint32_t r = 0; r < FLOWS; r++)
		assert_int_equal(records[r].flow.status, 0);
	flow_file_close(&file, true);
	assert_true(flow_file_remove(&place, "t"));
	assert_false(exists(".refused"));
}

static void change_both(off_t at, const void *bytes, size_t size)
{
	change(at, bytes, size);
	change(at + 2048, bytes, size);
}

static uint8_t byte_at(off_t at)
{
	int fd = open(path_of(""), O_RDONLY);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	close(fd);
	return byte;
}

static void each_field_of_the_header_is_checked(void **state)
{
	// A wrong byte in any place of both copies.
	for (unsigned at = 0; at < 120; at++) {
		leave_table();
		uint8_t byte = byte_at(at) ^ 0x40;
		change_both(at, &byte, 1);
		assert_refused("it");
	}
}

static void a_foreign_file_is_refused(void **state)
{
	leave_table();
	change_both(0, "ELF!", 4);
	assert_refused("no flow table");
}

#define CHECKSUM_AT 112

/* The header with other bytes at a place, and the checksum that goes with them. */
static void forge(off_t at, const void *bytes, size_t size)
{
	static const struct hash_key key = {{0x77656972, 0x666c6f77}};
	uint8_t header[CHECKSUM_AT];

	change(at, bytes, size);
	int fd = open(path_of(""), O_RDONLY);
	assert_int_equal(pread(fd, header, sizeof(header), 0), sizeof(header));
	close(fd);
	uint64_t sum = hash_siphash(&key, header, sizeof(header));
	change_both(0, header, sizeof(header));
	change_both(CHECKSUM_AT, &sum, sizeof(sum));
}

static void another_version_is_refused(void **state)
{
	static const uint32_t others[] = {0, 3, UINT32_MAX};

	for (unsigned i = 0; i < 3; i++) {
		leave_table();
		forge(8, &others[i], 4);
		assert_refused("version");
	}
}

static void a_feature_that_is_not_known_is_refused(void **state)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		leave_table();
		forge(28, (uint32_t[]){1u << bit}, 4);
		assert_refused("features");
	}
}

/*
 * A file as weir wrote it before it had features, byte by byte: one flow whose numbers are moved.
 * It is taken, and from then on is one that weir of that time refuses: all that asked was whether
 * the version was 1.
 */
static void a_file_of_version_1_is_taken(void **state)
{
	static const uint8_t record[64] = {
		10, 0, 0, 1, 10, 0, 0, 2, 10, 0, 0, 3, 10, 0, 0, 4, // client, VIP, backend, SNAT
		0x90, 0x01, 0, 80, 0x1f, 0x90, 0x4e, 0x20,          // their ports
		2, 0, 0, 0, 0, 9, 0, 5,                             // MAC, link, worker
		1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0,     // end and ack
		0x10, 0, 0, 0, 0x20, 0, 0, 0,                       // offsets
		0x07, 0, 0x10, 0, 0x40, 0x1c, 3, 0x09, // backend, last seen, state, flags
	};
	struct flow_file file;
	uint32_t version;

	leave_table();
	forge(8, (uint32_t[]){1}, 4);
	change(FLOW_FILE_HEADER, record, sizeof(record));
	assert_int_equal(open_table(&file, FLOWS), 0);
	assert_int_equal(file.found, FLOWS);
	assert_int_equal(file.alive_s, 12345);
	assert_memory_equal(&file.secrets, &secrets, sizeof(secrets));
	struct flow4 *flow4 = flow_file_records(&file);
	struct flow *flow = &flow4->flow;
	assert_memory_equal(flow_addr(flow, AF_INET, FLOW_SNAT), "\x0a\0\0\x04", 4);
	assert_int_equal(flow->port[FLOW_SNAT], rte_cpu_to_be_16(20000));
	assert_int_equal(flow->client_mac.bytes[5], 9);
	assert_int_equal(flow->kind, 0);
	assert_int_equal(flow_worker(flow), 5);
	assert_int_equal(flow->end[FLOW_FROM_BACKEND], 2);
	assert_int_equal(flow->ack[FLOW_FROM_BACKEND], 4);
	assert_int_equal(flow_offsets(flow).seq[FLOW_FROM_CLIENT], 0x10);
	assert_int_equal(flow_offsets(flow).ts[FLOW_FROM_CLIENT], 0x20);
	assert_int_equal(FLOW_BACKEND_ID(flow->backend), 7);
	assert_int_equal(FLOW_BACKEND_GENERATION(flow->backend), 1);
	assert_int_equal(flow->last_seen, 0x1c40);
	assert_int_equal(flow_state(flow), TCP_ESTABLISHED);
	assert_true(flow_has(flow, FLOW_PINNED));

	assert_int_equal(flow_file_finish(&file, &secrets), 0);
	for (unsigned copy = 0; copy < 2; copy++) {
		memcpy(&version, (char *)file.memory.start + copy * 2048 + 8, sizeof(version));
		assert_int_equal(version, 2);
	}
	flow_file_close(&file, true);
}

static void another_boot_is_refused(void **state)
{
	leave_table();
	forge(32, "0123456789abcdef", 16);
	assert_refused("another boot");
}

static void more_records_than_the_file_holds_are_refused(void **state)
{
	static const uint32_t counts[] = {SIZE / 64, UINT32_MAX, 1u << 31};

	for (unsigned i = 0; i < 3; i++) {
		leave_table();
		forge(20, &counts[i], 4);
		assert_refused("cut short");
	}
	leave_table();
	forge(20, (uint32_t[]){0}, 4);
	assert_refused("another size");
	leave_table();
	forge(16, (uint32_t[]){128}, 4);
	assert_refused("another size");
}

static void a_short_file_is_refused(void **state)
{
	static const off_t sizes[] = {
		1, 100, 4095, 4096, 4097, SIZE - 4096, SIZE - 4097, 2048, 2200};

	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		leave_table();
		assert_int_equal(truncate(path_of(""), sizes[i]), 0);
		assert_refused("cut short");
	}
}

static void a_long_file_is_taken(void **state)
{
	struct flow_file file;

	leave_table();
	assert_int_equal(truncate(path_of(""), SIZE * 2 + 5), 0);
	assert_int_equal(open_table(&file, FLOWS), 0);
	assert_int_equal(file.found, FLOWS);
	assert_all_there(&file, FLOWS);
	flow_file_close(&file, true);
}

static void one_whole_copy_of_the_header_is_enough(void **state)
{
	for (unsigned copy = 0; copy < 2; copy++) {
		struct flow_file file;
		leave_table();
		change(copy * 2048 + 20, "\xff\xff", 2);
		assert_int_equal(open_table(&file, FLOWS), 0);
		assert_int_equal(file.found, FLOWS);
		flow_file_close(&file, true);
	}
}

static void the_other_family_is_refused(void **state)
{
	struct flow_file file;

	leave_table();
	assert_int_equal(flow_file_open(&file, &place, "t", AF_INET6, FLOWS, &secrets, -1, 0), 0);
	assert_non_null(strstr(file.refused, "family"));
	flow_file_close(&file, true);
	assert_true(flow_file_remove(&place, "t"));
}

/* E18: it is kept beside, whatever it is; and nothing is followed or waited for. */
static void what_is_not_ours_alone_is_refused(void **state)
{
	assert_int_equal(symlink("/etc/passwd", path_of("")), 0);
	assert_refused("it isn't this weir's alone");
	assert_int_equal(mkdir(path_of(""), 0700), 0);
	assert_refused("it isn't this weir's alone");
	assert_int_equal(mkfifo(path_of(""), 0600), 0);
	assert_refused("it isn't this weir's alone");
	leave_table();
	assert_int_equal(chmod(path_of(""), 0640), 0);
	assert_refused("user 0, mode 0640, 1 name)");
	leave_table();
	char *name = strdup(path_of(""));
	assert_int_equal(link(name, path_of("-too")), 0);
	free(name);
	assert_refused("mode 0600, 2 names)");
	assert_int_equal(unlink(path_of("-too")), 0);
}

/* E18: a page that is missing when it is written to, with no memory left, would end the process. */
static void memory_is_behind_all_of_it(void **state)
{
	struct flow_file file;
	struct stat status;

	leave_table();
	int fd = open(path_of(""), O_RDWR);
	assert_int_equal(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, SIZE - 8192), 0);
	close(fd);
	assert_int_equal(open_table(&file, FLOWS), 0);
	assert_int_equal(file.found, FLOWS);
	assert_int_equal(fstat(file.fd, &status), 0);
	assert_true(status.st_blocks * 512 >= SIZE);
	flow_file_close(&file, true);
}

/* --- where everybody may write --- */

static struct flow_file_place shared;

/* A table that an earlier weir left there. */
static void leave_former(void)
{
	struct flow_file_place former = {0};
	struct flow_file file;

	strcpy(former.directory, shared.former);
	assert_int_equal(chmod(shared.former, 0700), 0);
	assert_int_equal(flow_file_open(&file, &former, "t", AF_INET, FLOWS, &secrets, -1, 0), 0);
	assert_int_equal(flow_file_finish(&file, &secrets), 0);
	flow_file_close(&file, false);
	assert_int_equal(chmod(shared.former, 01777), 0);
}

static int open_shared(struct flow_file *file)
{
	return flow_file_open(file, &shared, "t", AF_INET, FLOWS, &secrets, -1, 0);
}

static void make_shared(void)
{
	memset(&shared, 0, sizeof(shared));
	snprintf(shared.former, sizeof(shared.former), "%.90s/all", place.directory);
	snprintf(shared.directory, sizeof(shared.directory), "%s/weir", shared.former);
	assert_int_equal(mkdir(shared.former, 0700), 0);
	assert_int_equal(chmod(shared.former, 01777), 0);
}

static const char *in_shared(const char *name)
{
	static char path[FLOW_FILE_PATH];

	snprintf(path, sizeof(path), "%s/%s", shared.former, name);
	return path;
}

static void a_directory_of_its_own_where_others_may_write(void **state)
{
	struct flow_file file;
	struct stat status;

	make_shared();
	assert_int_equal(open_shared(&file), 0);
	assert_string_equal(file.path, in_shared("weir/t"));
	assert_int_equal(stat(shared.directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	flow_file_close(&file, true);
	assert_int_equal(access(shared.directory, F_OK), -1);
	assert_int_equal(rmdir(shared.former), 0);
}

/* It stays where the weir of before would look, until that can't come back. */
static void the_table_of_an_earlier_weir_is_taken_over(void **state)
{
	struct flow_file file;

	make_shared();
	leave_former();
	assert_true(flow_file_exists(&shared, "t"));
	assert_int_equal(open_shared(&file), 0);
	assert_int_equal(file.found, FLOWS);
	assert_string_equal(file.path, in_shared("t"));
	flow_file_close(&file, false);
	assert_int_equal(open_shared(&file), 0);
	assert_int_equal(file.found, FLOWS);
	assert_int_equal(flow_file_settle(&file), 0);
	assert_string_equal(file.path, in_shared("weir/t"));
	assert_int_equal(access(in_shared("t"), F_OK), -1);
	flow_file_close(&file, false);
	assert_int_equal(open_shared(&file), 0);
	assert_int_equal(file.found, FLOWS);
	assert_int_equal(flow_file_settle(&file), 0);
	// Two: an earlier one has run in between, so its table counts.
	flow_file_close(&file, false);
	leave_former();
	assert_int_equal(open_shared(&file), 0);
	assert_string_equal(file.path, in_shared("t"));
	assert_int_equal(flow_file_settle(&file), 0);
	flow_file_close(&file, false);
	assert_true(flow_file_remove(&shared, "t"));
	assert_int_equal(rmdir(shared.former), 0);
}

static void what_others_have_put_there_is_left_alone(void **state)
{
	struct flow_file file;
	struct stat status;

	make_shared();
	leave_former();
	assert_int_equal(chown(in_shared("t"), 65534, 65534), 0);
	assert_int_equal(mkdir(in_shared("weir"), 0777), 0);
	assert_int_equal(chmod(in_shared("weir"), 0777), 0);
	assert_false(flow_file_exists(&shared, "t"));
	assert_int_equal(open_shared(&file), 0);
	assert_int_equal(file.found, 0);
	assert_non_null(strstr(file.path, in_shared("weir.")));
	assert_int_equal(stat(file.place.directory, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0700);
	flow_file_close(&file, true);
	assert_int_equal(access(file.place.directory, F_OK), -1);
	assert_true(flow_file_remove(&shared, "t"));
	assert_int_equal(unlink(in_shared("t")), 0);
	assert_int_equal(rmdir(in_shared("weir")), 0);
	assert_int_equal(rmdir(shared.former), 0);
}

/* What can't be used goes from there into our directory. */
static void a_damaged_one_is_kept_in_the_directory(void **state)
{
	struct flow_file file;

	make_shared();
	leave_former();
	assert_int_equal(truncate(in_shared("t"), 5000), 0);
	assert_int_equal(open_shared(&file), 0);
	assert_non_null(strstr(file.refused, "cut short"));
	assert_string_equal(file.path, in_shared("weir/t"));
	assert_int_equal(access(in_shared("weir/t.refused"), F_OK), 0);
	assert_int_equal(access(in_shared("t"), F_OK), -1);
	flow_file_close(&file, true);
	assert_true(flow_file_remove(&shared, "t"));
	assert_int_equal(rmdir(shared.former), 0);
}

static void random_bytes_are_refused(void **state)
{
	unsigned seed = 7;

	for (unsigned round = 0; round < 100; round++) {
		uint8_t bytes[4096];
		leave_table();
		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = rand_r(&seed) >> 5;
		change(0, bytes, sizeof(bytes));
		assert_refused("no flow table");
	}
}

static int make_directory(void **state)
{
	strcpy(place.directory, "/dev/shm/weir-test-XXXXXX");
	return mkdtemp(place.directory) == NULL;
}

static int remove_directory(void **state)
{
	flow_file_remove(&place, "t");
	return rmdir(place.directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_secrets_and_life_are_found_again),
		cmocka_unit_test(one_process_at_a_time),
		cmocka_unit_test(a_killed_process_lets_go),
		cmocka_unit_test(it_grows),
		cmocka_unit_test(it_stays_as_it_is_where_it_cannot_grow),
		cmocka_unit_test(it_shrinks_when_it_is_adopted),
		cmocka_unit_test(each_field_of_the_header_is_checked),
		cmocka_unit_test(a_foreign_file_is_refused),
		cmocka_unit_test(another_version_is_refused),
		cmocka_unit_test(a_feature_that_is_not_known_is_refused),
		cmocka_unit_test(a_file_of_version_1_is_taken),
		cmocka_unit_test(another_boot_is_refused),
		cmocka_unit_test(more_records_than_the_file_holds_are_refused),
		cmocka_unit_test(a_short_file_is_refused),
		cmocka_unit_test(a_long_file_is_taken),
		cmocka_unit_test(one_whole_copy_of_the_header_is_enough),
		cmocka_unit_test(the_other_family_is_refused),
		cmocka_unit_test(what_is_not_ours_alone_is_refused),
		cmocka_unit_test(memory_is_behind_all_of_it),
		cmocka_unit_test(a_directory_of_its_own_where_others_may_write),
		cmocka_unit_test(the_table_of_an_earlier_weir_is_taken_over),
		cmocka_unit_test(what_others_have_put_there_is_left_alone),
		cmocka_unit_test(a_damaged_one_is_kept_in_the_directory),
		cmocka_unit_test(random_bytes_are_refused),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
