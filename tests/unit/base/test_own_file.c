/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that outlive the process are taken only from who may have made them (E18). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "own_file.h"

static char directory[] = "/tmp/weir-own-XXXXXX";

static const char *path_of(const char *name)
{
	static char paths[2][128];
	static unsigned next;
	char *path = paths[next++ % 2];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static void write_anew(const char *text)
{
	FILE *file = own_file_begin(path_of("f"));

	assert_non_null(file);
	fputs(text, file);
	assert_int_equal(own_file_end(file, path_of("f")), 0);
}

static void assert_text(const char *expected)
{
	char text[16] = "";
	FILE *file = own_file_read(path_of("f"));

	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_string_equal(text, expected);
}

static void assert_refused(void)
{
	assert_int_equal(own_file_open(path_of("f"), O_RDWR, false), -EPERM);
	assert_null(own_file_read(path_of("f")));
	assert_int_equal(errno, EPERM);
	assert_int_equal(remove(path_of("f")), 0);
}

static void the_old_one_counts_until_the_new_one_is_whole(void **state)
{
	struct stat status;

	write_anew("one");
	FILE *file = own_file_begin(path_of("f")); // of a process that dies here
	fputs("tw", file);
	fclose(file);
	assert_text("one");
	write_anew("three");
	assert_text("three");
	assert_int_equal(access(path_of("f.new"), F_OK), -1);
	assert_int_equal(stat(path_of("f"), &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
	file = own_file_begin(path_of("f"));
	fclose(file);
	own_file_remove(path_of("f"));
	assert_int_equal(access(path_of("f"), F_OK), -1);
	assert_int_equal(access(path_of("f.new"), F_OK), -1);
}

static void what_others_made_is_refused(void **state)
{
	write_anew("x");
	assert_int_equal(chown(path_of("f"), 65534, 0), 0);
	assert_refused();
	write_anew("x");
	assert_int_equal(chmod(path_of("f"), 0620), 0);
	assert_refused();
	write_anew("x");
	assert_int_equal(link(path_of("f"), path_of("g")), 0);
	assert_refused();
	assert_int_equal(symlink(path_of("g"), path_of("f")), 0);
	assert_refused();
	assert_int_equal(unlink(path_of("g")), 0);
	assert_int_equal(mkdir(path_of("f"), 0700), 0);
	assert_refused();
}

/* A FIFO that nobody writes to would be waited for, and so would a socket's answer. */
static void nothing_is_waited_for(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(mkfifo(path_of("f"), 0600), 0);
	assert_int_equal(own_file_open(path_of("f"), O_WRONLY, true), -EPERM);
	assert_refused();
	strcpy(address.sun_path, path_of("f"));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_refused();
	close(fd);
}

/* What others may read is no place for secrets. */
static void secrets_are_nobody_elses(void **state)
{
	write_anew("x");
	assert_int_equal(chmod(path_of("f"), 0604), 0);
	assert_text("x");
	assert_int_equal(own_file_open(path_of("f"), O_RDWR, true), -EPERM);
	own_file_remove(path_of("f"));
}

static void a_directory_is_ours_or_roots(void **state)
{
	assert_int_equal(own_directory_make(path_of("d"), 0700), 0);
	assert_int_equal(own_directory_make(path_of("d"), 0700), 0);
	assert_int_equal(symlink(path_of("d"), path_of("e")), 0);
	assert_int_equal(own_directory_make(path_of("e"), 0700), -EPERM);
	assert_int_equal(unlink(path_of("e")), 0);
	assert_int_equal(chmod(path_of("d"), 01777), 0);
	assert_false(own_directory_is(path_of("d")));
	assert_int_equal(chmod(path_of("d"), 0755), 0);
	assert_int_equal(chown(path_of("d"), 65534, 0), 0);
	assert_int_equal(own_directory_make(path_of("d"), 0700), -EPERM);
	assert_int_equal(rmdir(path_of("d")), 0);
}

static int make_directory(void **state)
{
	return mkdtemp(directory) == NULL;
}

static int remove_directory(void **state)
{
	return rmdir(directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_old_one_counts_until_the_new_one_is_whole),
		cmocka_unit_test(what_others_made_is_refused),
		cmocka_unit_test(nothing_is_waited_for),
		cmocka_unit_test(secrets_are_nobody_elses),
		cmocka_unit_test(a_directory_is_ours_or_roots),
	};

	return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
