/* SPDX-License-Identifier: BSD-3-Clause */
/* E36: the file of what outlives the process; whenever its writer dies, and whichever version reads
 * it, a row is what it was before a write or after it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hash.h"
#include "kept_rows.h"

#define ROWS_AT 4096
#define KILLS 40

static void fill(struct kept_cell *cell, const char *service, uint16_t port, uint64_t connections)
{
	struct kept_backend *row = &cell->copies[0].backend;

	memset(cell, 0, sizeof(*cell));
	strcpy(row->service, service);
	row->endpoint.addr.family = AF_INET;
	row->endpoint.addr.v4 = 1;
	row->endpoint.port = port;
	row->totals.opened = row->totals.ended = row->connections = connections;
	for (unsigned i = 0; i < STATS_CONNECT_BUCKETS; i++)
		row->times[i] = connections;
	kept_seal_backend(cell);
}

static void fill_service(struct kept_cell *cell, const char *name, uint64_t past)
{
	struct kept_service *row = &cell->copies[0].service;

	memset(cell, 0, sizeof(*cell));
	strcpy(row->name, name);
	row->past_connections = row->totals.denied = past;
	kept_seal_service(cell);
}

/* What is in the file when a write of `size` bytes ended after each number of them. */
static void assert_old_or_new(const void *old, const void *new, size_t size,
	bool (*is)(const void *cell, const void *other), void *cell)
{
	for (size_t done = 0; done <= size; done++) {
		memcpy(cell, old, size);
		memcpy(cell, new, done);
		assert_true(is(cell, old) || is(cell, new));
	}
	assert_true(is(cell, new));
}

static bool is_backend(const void *cell, const void *other)
{
	const struct kept_backend *row = kept_backend_of(cell), *wanted = kept_backend_of(other);

	if (row == NULL || wanted == NULL)
		return row == wanted;
	// What lies between the members is zero in both.
	// NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
	return memcmp(row, wanted, sizeof(*row)) == 0;
}

static bool is_service(const void *cell, const void *other)
{
	const struct kept_service *row = kept_service_of(cell), *wanted = kept_service_of(other);

	return row == NULL || wanted == NULL ? row == wanted
					     : memcmp(row, wanted, sizeof(*row)) == 0;
}

static bool is_worker(const void *cell, const void *other)
{
	const struct kept_worker *row = kept_worker_of(cell), *wanted = kept_worker_of(other);

	return row == NULL || wanted == NULL ? row == wanted
					     : memcmp(row, wanted, sizeof(*row)) == 0;
}

static void any_part_of_a_write_leaves_the_old_or_the_new(void **state)
{
	static const struct kept_cell blank;
	static struct kept_worker_cell workers[2], worker;
	struct kept_cell old, new, other, cell;

	fill(&old, "web", 80, 1000);
	fill(&new, "web", 80, 1003);
	fill(&other, "api", 81, 7);
	assert_old_or_new(&old, &new, sizeof(cell), is_backend, &cell);
	assert_old_or_new(&blank, &new, sizeof(cell), is_backend, &cell);
	assert_old_or_new(&old, &blank, sizeof(cell), is_backend, &cell);
	assert_old_or_new(&old, &other, sizeof(cell), is_backend, &cell);
	fill_service(&old, "web", 1);
	fill_service(&new, "web", 1u << 20);
	assert_old_or_new(&old, &new, sizeof(cell), is_service, &cell);
	assert_old_or_new(&blank, &new, sizeof(cell), is_service, &cell);
	assert_old_or_new(&old, &blank, sizeof(cell), is_service, &cell);
	for (unsigned i = 0; i < 2; i++) {
		workers[i].copies[0].counters.received = 100 + i;
		workers[i].copies[0].counters.loops = 1000 * (i + 1);
		kept_seal_worker(&workers[i]);
	}
	assert_old_or_new(&workers[0], &workers[1], sizeof(worker), is_worker, &worker);
	memset(&worker, 0, sizeof(worker));
	assert_old_or_new(
		&worker, &workers[1], sizeof(worker), is_worker, &(struct kept_worker_cell){0});
}

static void a_damaged_copy_is_not_taken(void **state)
{
	struct kept_cell cell;

	fill(&cell, "web", 80, 1000);
	for (size_t at = 0; at < KEPT_ROW_SIZE; at++) {
		cell.copies[0].bytes[at] ^= 4;
		assert_ptr_equal(kept_backend_of(&cell), &cell.copies[1].backend);
		cell.copies[0].bytes[at] ^= 4;
	}
	cell.copies[0].bytes[3] ^= 1;
	cell.copies[1].bytes[500] ^= 1;
	assert_null(kept_backend_of(&cell));
}

/* --- files --- */

struct seen {
	unsigned nb_backends, nb_services, nb_workers;
	uint64_t connections, past, received;
	uint64_t least; // connections of a backend
};

static void see_backend(void *context, const struct kept_backend *row)
{
	struct seen *seen = context;

	seen->nb_backends++;
	seen->connections += row->connections;
	if (row->connections < seen->least)
		seen->least = row->connections;
}

static void see_service(void *context, const struct kept_service *row)
{
	struct seen *seen = context;

	seen->nb_services++;
	seen->past += row->past_connections;
}

static void see_worker(void *context, unsigned worker, const struct stats_counters *counters)
{
	struct seen *seen = context;

	seen->nb_workers++;
	seen->received += counters->received;
}

static int look(int fd, struct seen *seen)
{
	*seen = (struct seen){.least = UINT64_MAX};
	return kept_rows_read(
		fd, &(struct kept_reader){see_backend, see_service, see_worker, seen});
}

static int open_file(void)
{
	char path[] = "/dev/shm/weir-kept-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

/* 300 backends, 2 services far from each other, 2 workers. */
static int make_file(void)
{
	static struct kept_worker_cell worker;
	static struct kept_cell cells[300];
	int fd = open_file();

	assert_int_equal(kept_rows_begin(fd), 0);
	for (unsigned i = 0; i < 300; i++)
		fill(&cells[i], "web", i + 1, 1000 + i);
	for (unsigned i = 0; i < 300; i += KEPT_BLOCK)
		assert_int_equal(kept_rows_write(fd, KEPT_BACKENDS, i, &cells[i],
					 300 - i < KEPT_BLOCK ? 300 - i : KEPT_BLOCK),
			0);
	fill_service(&cells[0], "web", 5);
	assert_int_equal(kept_rows_write(fd, KEPT_SERVICES, 0, cells, 1), 0);
	fill_service(&cells[0], "api", 6);
	assert_int_equal(kept_rows_write(fd, KEPT_SERVICES, 100000, cells, 1), 0);
	for (unsigned w = 0; w < 2; w++) {
		worker.copies[0].counters.received = 10 + w;
		kept_seal_worker(&worker);
		assert_int_equal(
			kept_rows_write_worker(fd, w * (STATS_WORKERS_MAX - 1), &worker), 0);
	}
	return fd;
}

static void what_was_written_is_found(void **state)
{
	struct seen seen;
	int fd = make_file();

	assert_int_equal(look(fd, &seen), 0);
	assert_int_equal(seen.nb_backends, 300);
	assert_int_equal(seen.connections, 300 * 1000 + 299 * 300 / 2);
	assert_int_equal(seen.nb_services, 2);
	assert_int_equal(seen.past, 11);
	assert_int_equal(seen.nb_workers, 2);
	assert_int_equal(seen.received, 21);
	close(fd);
}

static void counters_of_another_program_are_not_taken(void **state)
{
	struct seen seen;
	int fd = make_file();
	uint64_t fields = 1;

	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
			pwrite(fd, &fields, sizeof(fields), ROWS_AT + i * KEPT_WORKER_SIZE),
			sizeof(fields));
	assert_int_equal(look(fd, &seen), 0);
	assert_int_equal(seen.nb_workers, 1);
	assert_int_equal(seen.nb_backends, 300);
	close(fd);
}

static void a_file_of_another_version_or_boot_is_not_taken(void **state)
{
	static const off_t places[] = {0, 8, 12, 20, 52};
	struct seen seen;

	for (unsigned i = 0; i < 5; i++) {
		int fd = make_file();
		assert_int_equal(pwrite(fd, "~", 1, places[i]), 1);
		assert_int_equal(look(fd, &seen), -EINVAL);
		assert_int_equal(seen.nb_backends + seen.nb_services + seen.nb_workers, 0);
		close(fd);
	}
}

/* --- the version before this one --- */

static const struct hash_key former_key = {{0x77656972, 0x6b656570}};

/* A row as that version has it: 280 bytes that mean something, 512 in all. */
static void former_row(uint8_t row[KEPT_ROW_SIZE], uint16_t port, uint64_t opened)
{
	uint64_t since_ms = 1, sum;
	uint32_t up = 1;
	uint16_t family = AF_INET;

	memset(row, 0, KEPT_ROW_SIZE);
	strcpy((char *)row, "web");
	memcpy(row + 64, &family, 2);
	memcpy(row + 84, &port, 2);
	memcpy(row + 160, &opened, 8);
	memcpy(row + 192, &since_ms, 8);
	memcpy(row + 200, &up, 4);
	strcpy((char *)row + 208, "connect: ok");
	sum = hash_siphash(&former_key, row, 272);
	memcpy(row + 272, &sum, 8);
}

static void a_file_of_the_version_before_is_read(void **state)
{
	uint8_t row[KEPT_ROW_SIZE], header[52];
	struct seen seen;
	int from = make_file(), fd = open_file();

	assert_int_equal(pread(from, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(pwrite(fd, header, sizeof(header), 0), sizeof(header));
	for (unsigned i = 0; i < 200; i++) {
		former_row(row, i + 1, 500);
		row[300] = i % 2; // it didn't look there
		row[170] ^= i == 7;
		assert_int_equal(
			pwrite(fd, row, sizeof(row), ROWS_AT + i * sizeof(row)), sizeof(row));
	}
	assert_int_equal(look(fd, &seen), 0);
	assert_int_equal(seen.nb_backends, 199); // one is damaged
	assert_int_equal(seen.connections, 199 * 500);
	assert_int_equal(seen.nb_services + seen.nb_workers, 0);
	close(from);
	close(fd);
}

/* It reads one row after the other to the end, and of two of a backend takes the first. */
static unsigned former_reads(int fd, uint64_t *opened)
{
	static bool known[65536];
	uint8_t row[KEPT_ROW_SIZE];
	unsigned count = 0;

	memset(known, 0, sizeof(known));
	*opened = 0;
	for (off_t at = ROWS_AT; pread(fd, row, sizeof(row), at) == sizeof(row);
		at += sizeof(row)) {
		uint64_t sum, one;
		uint16_t port;
		memcpy(&sum, row + 272, 8);
		memcpy(&one, row + 160, 8);
		memcpy(&port, row + 84, 2);
		if (row[0] == 0 || sum != hash_siphash(&former_key, row, 272) || known[port])
			continue;
		known[port] = true;
		*opened += one;
		count++;
	}
	return count;
}

static void the_version_before_reads_this_file(void **state)
{
	struct kept_cell cell;
	uint64_t opened;
	int fd = make_file();

	assert_int_equal(former_reads(fd, &opened), 300);
	assert_int_equal(opened, 300 * 1000 + 299 * 300 / 2);
	// And what was half written in it.
	fill(&cell, "web", 1, 2000);
	assert_int_equal(pwrite(fd, &cell, 200, ROWS_AT + KEPT_BLOCK * sizeof(cell)), 200);
	assert_int_equal(former_reads(fd, &opened), 300);
	assert_int_equal(opened, 300 * 1000 + 299 * 300 / 2);
	close(fd);
}

/* --- kill -9 --- */

/* All backends again and again, with one more connection each; `told` is what was told. */
static void write_on(int fd, uint64_t *told)
{
	static struct kept_cell cells[KEPT_BLOCK];

	for (uint64_t connections = *told + 1;; connections++) {
		for (unsigned i = 0; i < KEPT_BLOCK; i++)
			fill(&cells[i], "web", i + 1, connections);
		if (kept_rows_write(fd, KEPT_BACKENDS, 0, cells, KEPT_BLOCK) < 0)
			_exit(1);
		__atomic_store_n(told, connections, __ATOMIC_SEQ_CST);
	}
}

static void a_killed_writer_leaves_every_row_as_told_or_newer(void **state)
{
	uint64_t *told = mmap(
		NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kept_cell cells[KEPT_BLOCK];
	int fd = open_file();

	assert_int_equal(kept_rows_begin(fd), 0);
	for (unsigned i = 0; i < KEPT_BLOCK; i++)
		fill(&cells[i], "web", i + 1, 0);
	assert_int_equal(kept_rows_write(fd, KEPT_BACKENDS, 0, cells, KEPT_BLOCK), 0);
	for (unsigned i = 0; i < KILLS; i++) {
		struct seen seen;
		pid_t pid = fork();
		if (pid == 0)
			write_on(fd, told);
		usleep(1000 + random() % 3000);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(look(fd, &seen), 0);
		assert_int_equal(seen.nb_backends, KEPT_BLOCK);
		assert_in_range(seen.least, *told, *told + 1);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_part_of_a_write_leaves_the_old_or_the_new),
		cmocka_unit_test(a_damaged_copy_is_not_taken),
		cmocka_unit_test(what_was_written_is_found),
		cmocka_unit_test(counters_of_another_program_are_not_taken),
		cmocka_unit_test(a_file_of_another_version_or_boot_is_not_taken),
		cmocka_unit_test(a_file_of_the_version_before_is_read),
		cmocka_unit_test(the_version_before_reads_this_file),
		cmocka_unit_test(a_killed_writer_leaves_every_row_as_told_or_newer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
