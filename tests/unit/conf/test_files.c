/* SPDX-License-Identifier: BSD-3-Clause */
/* Case D8: what isn't a file of sane size and form, and files that include others. */
#include "conf_test.h"

#include "conf_diff.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static void write_text(const char *name, const char *text)
{
	test_write(name, text, strlen(text));
}

/* Loading `name` fails with "DIR/where" at the start of the message, and `what` in it. */
static void assert_refused(const char *name, const char *where, const char *what)
{
	struct conf_error error;
	const char *start;

	alarm(10); // nothing here may block
	assert_null(conf_load(test_path(name), &error));
	alarm(0);
	start = test_path(where);
	if (strncmp(error.text, start, strlen(start)) != 0 || strstr(error.text, what) == NULL)
		fail_msg("expected %s: %s\ngot %s", start, what, error.text);
}

static void what_is_no_regular_file_is_refused_at_once_D8(void **state)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct conf_error error;

	assert_int_equal(mkfifo(test_path("fifo"), 0600), 0);
	assert_refused("fifo", "fifo:", "is a FIFO; name a regular file");
	assert_int_equal(mkdir(test_path("dir"), 0700), 0);
	assert_refused("dir", "dir:", "is a directory; name a regular file");
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", test_path("socket"));
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_refused("socket", "socket:", "is a device or socket; name a regular file");
	close(fd);
	assert_refused("missing", "missing:", "No such file or directory");
	assert_null(conf_load("/dev/zero", &error));
	assert_string_equal(error.text, "/dev/zero: is a device or socket; name a regular file");
	assert_null(conf_load("", &error));
}

static void assert_exposed(const char *name)
{
	struct conf_error error;
	struct conf *conf = conf_load(test_path("open.conf"), &error);

	assert_non_null(conf);
	if (name == NULL)
		assert_null(conf->exposed);
	else
		assert_string_equal(conf->exposed, test_path(name));
	conf_free(conf);
}

/* Case E31: whoever may write the file, or one that it includes, may do what weir may. */
static void a_file_that_others_may_write_is_told_of(void **state)
{
	write_text("open.conf", PORT "@include \"open.inc\"\n");
	write_text("open.inc", SERVICES);
	assert_int_equal(chmod(test_path("open.conf"), 0644), 0);
	assert_int_equal(chmod(test_path("open.inc"), 0600), 0);
	assert_exposed(NULL);
	assert_int_equal(chmod(test_path("open.inc"), 0602), 0);
	assert_exposed("open.inc");
	assert_int_equal(chmod(test_path("open.conf"), 0664), 0);
	assert_exposed("open.conf");
	assert_int_equal(chmod(test_path("open.conf"), 0644), 0);
	assert_int_equal(chmod(test_path("open.inc"), 0600), 0);
	if (geteuid() == 0) {
		assert_int_equal(chown(test_path("open.inc"), 1, 1), 0);
		assert_exposed("open.inc");
	}
}

static void unreadable_file_is_refused_D8(void **state)
{
	write_text("secret", PORT SERVICES);
	assert_int_equal(chmod(test_path("secret"), 0), 0);
	if (geteuid() == 0) { // root reads it all the same
		assert_int_equal(chown(test_path("secret"), 1, 1), 0);
		assert_int_equal(chmod(test_dir, 0755), 0);
		assert_int_equal(seteuid(65534), 0);
	}
	assert_refused("secret", "secret:", "Permission denied");
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
}

static void seventeen_megabytes_are_refused_D8(void **state)
{
	const char *path = test_write("large", "#", 1);

	assert_int_equal(truncate(path, 17 << 20), 0);
	assert_refused("large", "large:", "is larger than 16 MiB");
	assert_int_equal(truncate(path, 100 << 20), 0);
	assert_refused("large", "large:", "is larger than 16 MiB");
}

static void sixteen_megabytes_of_anything_end_soon(void **state)
{
	static const char *const pieces[] = {
		"a=1;", "(", "{", "\"", "x={", "/*", "#\n", "1,", "@", "a "};
	size_t size = 16 << 20;
	char *text = malloc(size);

	assert_non_null(text);
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		size_t length = strlen(pieces[i]);
		for (size_t at = 0; at < size; at++)
			text[at] = pieces[i][at % length];
		test_write("filled", text, size);
		assert_refused("filled", "filled:", "");
	}
	/* Different keys, which libconfig would compare each with each. */
	for (size_t at = 0, i = 0; at + 11 < size; i++)
		at += snprintf(text + at, size - at, "k%06zu=1;\n", i);
	test_write("filled", text, size - 11);
	assert_refused("filled", "filled:8193: k008192: ", "more than 8192 keys in one group");
	/* One long list. */
	memset(text, '1', size);
	memcpy(text, "flows=(", 7);
	for (size_t at = 8; at < size; at += 2)
		text[at] = ',';
	test_write("filled", text, size);
	assert_refused("filled", "filled:1: flows[", "more than 1048576 settings in all");
	free(text);
}

static void nul_bytes_are_refused_wherever_they_are_D8(void **state)
{
	static const char *const parts[] = {PORT "flows = 20", "48;\n", PORT "instance = \"a",
		"b\";\n", PORT "# a", "b\n" SERVICES, PORT, SERVICES};

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i += 2) {
		char text[512];
		size_t length = strlen(parts[i]);
		memcpy(text, parts[i], length + 1);
		memcpy(text + length + 1, parts[i + 1], strlen(parts[i + 1]));
		test_write("nul", text, length + 1 + strlen(parts[i + 1]));
		assert_refused("nul", "nul:2: ", "NUL byte; the file must be plain text");
	}
}

/* Every prefix of a good file either is one too or is refused; none crashes or hangs. */
static void truncated_files_are_refused_D8(void **state)
{
	static const char text[] = PORT "cores = { workers = [ 1, 2 ]; };\n" WEB(
		"listen = \":80\";\nhealth = { type = \"http\"; path = \"/x\"; };\n"
		"backends = ( \"10.0.0.1:80\", { address = \"10.0.0.2:80\"; weight = 2; } );");
	size_t last = strrchr(text, '}') - text; // only ; and \n follow

	for (size_t size = 0; size <= last; size++) {
		test_write("cut", text, size);
		assert_refused("cut", "cut:", "");
	}
	for (size_t size = last + 1; size < sizeof(text); size++) {
		struct conf_error error;
		test_write("cut", text, size);
		struct conf *conf = conf_load(test_path("cut"), &error);
		assert_non_null(conf);
		conf_free(conf);
	}
}

static void deep_nesting_is_refused_D8(void **state)
{
	char text[20480] = PORT "x = ";
	size_t at = strlen(text);

	memset(text + at, '(', 10000);
	memset(text + at + 10000, ')', 10000);
	write_text("deep", text);
	assert_refused("deep", "deep:2: x[0]", "nested more than 16 deep");
	for (size_t i = at; i < at + 9996; i += 4)
		memcpy(text + i, "{a= ", 4);
	write_text("deep", text);
	assert_refused("deep", "deep:2: x.a", "nested more than 16 deep");
}

static void included_files_are_found_beside_the_including_one(void **state)
{
	struct conf_error error;

	assert_int_equal(mkdir(test_path("inc"), 0700), 0);
	assert_int_equal(mkdir(test_path("inc/deeper"), 0700), 0);
	write_text("main.conf", PORT "services = {\n  @include \"inc/services.inc\"\n};\n");
	write_text("inc/services.inc",
		"web = { listen = \":80\"; backends = (\n"
		"@include \"deeper/backends.inc\"\n); };\n"
		"@include \"deeper/more.inc\"\n");
	write_text("inc/deeper/backends.inc", "# two\n\"10.0.0.1:80\",\n\"10.0.0.2:80\"");
	write_text("inc/deeper/more.inc",
		"api = { listen = \":81\"; backends = ( \"10.0.0.1:80\" ); }");
	struct conf *conf = conf_load(test_path("main.conf"), &error);
	if (conf == NULL)
		fail_msg("%s", error.text);
	assert_int_equal(conf->nb_services, 2);
	assert_int_equal(conf->services[0]->nb_backends, 2);
	assert_string_equal(conf->services[1]->name, "api");
	/* As one text it is the same (E32). */
	assert_null(strstr(conf->text, "@include"));
	assert_non_null(strstr(conf->text, "# two\n\"10.0.0.1:80\",\n\"10.0.0.2:80\"\n\n); };"));
	write_text("whole.conf", conf->text);
	struct conf *whole = conf_load(test_path("whole.conf"), &error);
	if (whole == NULL)
		fail_msg("%s", error.text);
	struct conf_diff *diff = conf_diff_create(conf, whole, "", &error);
	assert_non_null(diff);
	assert_false(diff->any);
	conf_diff_destroy(diff);
	conf_free(whole);
	conf_free(conf);

	/* An absolute name, and one without any directory. */
	char text[512];
	snprintf(text, sizeof(text), PORT "services = {\n@include \"%s\"\n};\n",
		test_path("inc/deeper/more.inc"));
	write_text("main.conf", text);
	conf = conf_load(test_path("main.conf"), &error);
	assert_non_null(conf);
	conf_free(conf);
	char *before = getcwd(NULL, 0);
	assert_int_equal(chdir(test_dir), 0);
	write_text("main.conf", PORT "services = {\n@include \"inc/deeper/more.inc\"\n};\n");
	conf = conf_load("main.conf", &error);
	assert_non_null(conf);
	conf_free(conf);
	assert_int_equal(chdir(before), 0);
	free(before);
}

static void errors_in_included_files_name_that_file_and_line(void **state)
{
	write_text("main.conf", PORT "services = {\n  @include \"web.inc\"\n};\nflow = 5;\n");
	write_text("web.inc", "\nweb = {\n listen = \":80\";\n backends = ( \"host1\" ); };\n");
	assert_refused("main.conf", "web.inc:4: services.web.backends[0]: ", "lacks its port");
	write_text(
		"web.inc", "\nweb = { listen = \":80\";\n backends = ( \"10.0.0.1:80\", ); };\n");
	assert_refused("main.conf", "web.inc:3: services.web.backends[0]: ", "trailing comma");
	write_text("web.inc", "web = { listen = \":80\"; backends = ( \"10.0.0.1:80\" ); };\n");
	assert_refused("main.conf", "main.conf:5: flow: ", "did you mean \"flows\"?");
	write_text("main.conf", PORT "services = {\n web = { };\n@include \"web.inc\"\n};\n");
	assert_refused("main.conf", "web.inc:1: services.web: ", "given twice, first in ");
	assert_refused(
		"main.conf", "web.inc:1: services.web: ", "main.conf:3; remove or rename one");
}

static void includes_that_cannot_work_are_refused_at_their_line_D8(void **state)
{
	static const char *const lines[][2] = {
		{"@include \"missing.inc\"", "@include \"missing.inc\": No such file or directory"},
		{"@include \"main.conf\"", "@include \"main.conf\": the file includes itself"},
		{"@include \"./main.conf\"", "the file includes itself"},
		{"@include \".\"", "is a directory; name a regular file"},
		{"@include \"fifo2\"", "is a FIFO; name a regular file"},
		{"@include \"\"", "@include takes a file name"},
		{"@include web.inc", "@include lacks its file; write @include \"file\""},
		{"@include \"web.inc", "the string is not closed"},
		{"flows = 2048; @include \"web.inc\"", "a line of its own may say @include"},
		{"@included \"web.inc\"", "@include lacks its file"},
		{"@import \"web.inc\"", "unexpected @"},
	};

	assert_int_equal(mkfifo(test_path("fifo2"), 0600), 0);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char text[256];
		snprintf(text, sizeof(text), PORT "%s\n" SERVICES, lines[i][0]);
		write_text("main.conf", text);
		assert_refused("main.conf", "main.conf:2: ", lines[i][1]);
	}
	/* A loop over two files, and a chain that is too long. */
	write_text("main.conf", PORT "@include \"loop.inc\"\n");
	write_text("loop.inc", "\n\n@include \"main.conf\"\n");
	assert_refused("main.conf", "loop.inc:3: ", "the file includes itself");
	for (int i = 0; i < 12; i++) {
		char name[32], text[64];
		snprintf(name, sizeof(name), "chain%d.inc", i);
		snprintf(text, sizeof(text), "@include \"chain%d.inc\"\n", i + 1);
		write_text(name, text);
	}
	assert_refused("chain0.inc", "chain10.inc:1: ", "more than 10 files include one another");
	/* Groups end in the file that they begin in. */
	write_text("main.conf", PORT "services = {\n@include \"web.inc\"\n};\n");
	write_text("web.inc", "web = {\n");
	assert_refused("main.conf", "web.inc:2: services.web: ", "the file ends before the }");
	write_text("web.inc", "};\n");
	assert_refused(
		"main.conf", "web.inc:1: services: ", "} closes what the including file opened");
	write_text("web.inc", "web = \n");
	assert_refused("main.conf", "web.inc:2: services.web: ", "in the middle of a setting");
}

static void patterns_are_taken_in_the_order_of_the_names(void **state)
{
	// As one would write them, not in this order.
	static const char *const names[] = {
		"d/b.conf", "d/a.conf", "d/Z.conf", "d/10.conf", "d/9.conf"};
	static const char *const order[] = {"s10", "s9", "sZ", "sa", "sb"};
	struct conf_error error;

	assert_int_equal(mkdir(test_path("d"), 0700), 0);
	for (int i = 0; i < 5; i++) {
		char text[256];
		snprintf(text, sizeof(text),
			"# %d\ns%.*s = { listen = \":%d\"; backends = ( \"10.0.0.1:80\" ); };\n", i,
			(int)strcspn(names[i] + 2, "."), names[i] + 2, 80 + i);
		write_text(names[i], text);
	}
	write_text("d/ignored.bak", "}}}");
	write_text("d/.hidden.conf", "}}}");
	write_text("main.conf",
		PORT "services = {\n@include \"d/*.conf\"\n"
		     "last = { listen = \":90\"; backends = ( \"10.0.0.1:80\" ); };\n"
		     "@include \"d/none*.conf\"\n@include \"nowhere/*.conf\"\n};\n");
	struct conf *conf = conf_load(test_path("main.conf"), &error);
	if (conf == NULL)
		fail_msg("%s", error.text);
	assert_int_equal(conf->nb_services, 6);
	for (int i = 0; i < 5; i++)
		assert_string_equal(conf->services[i]->name, order[i]);
	assert_string_equal(conf->services[5]->name, "last");
	conf_free(conf);
	// Each kind of pattern, in a file that a pattern found; relative to where it stands.
	write_text("d/more.inc", "@include \"[ab].conf\"\n@include \"1?.conf\"\n");
	write_text("main.conf", PORT "services = {\n@include \"?/mor*.inc\"\n};\n");
	conf = conf_load(test_path("main.conf"), &error);
	if (conf == NULL)
		fail_msg("%s", error.text);
	assert_int_equal(conf->nb_services, 3);
	assert_string_equal(conf->services[0]->name, "sa");
	assert_string_equal(conf->services[2]->name, "s10");
	conf_free(conf);
}

static void errors_in_matching_files_name_file_and_line(void **state)
{
	write_text("main.conf", PORT "services = {\n\n@include \"e/*.conf\"\n};\n");
	assert_int_equal(mkdir(test_path("e"), 0700), 0);
	// A pattern may match nothing, but then there is no service.
	assert_refused("main.conf", "main.conf:2: services: ", "holds no service");
	write_text("e/1.conf", "web = { listen = \":80\";\n backends = ( \"10.0.0.1:80\" ); };\n");
	write_text("e/2.conf", "\n\napi = { listen = \":81\"; wieght = 1; };\n");
	assert_refused("main.conf", "e/2.conf:3: services.api.wieght: ", "unknown key");
	write_text("e/2.conf", "\nweb = { };\n");
	assert_refused(
		"main.conf", "e/2.conf:2: services.web: ", "e/1.conf:1; remove or rename one");
	write_text("e/2.conf", "web2 = {\n");
	assert_refused("main.conf", "e/2.conf:2: services.web2: ", "the file ends before the }");
	write_text("e/2.conf", "\n@include \"*.conf\"\n");
	assert_refused("main.conf", "e/2.conf:2: ", "e/2.conf: the file includes itself");
	write_text("e/2.conf", "");
	assert_int_equal(mkdir(test_path("e/3.conf"), 0700), 0);
	assert_refused("main.conf", "main.conf:4: services: @include \"e/*.conf\": ",
		"e/3.conf: is a directory; name a regular file");
	assert_int_equal(rmdir(test_path("e/3.conf")), 0);
	assert_int_equal(symlink("nowhere", test_path("e/4.conf")), 0);
	assert_refused("main.conf", "main.conf:4: ", "e/4.conf: No such file or directory");
	assert_int_equal(unlink(test_path("e/4.conf")), 0);
	assert_int_equal(mkfifo(test_path("e/5.conf"), 0600), 0);
	assert_refused("main.conf", "main.conf:4: ", "e/5.conf: is a FIFO; name a regular file");
}

/* The directory of the including file is no pattern, whatever its name is. */
static void a_directory_with_odd_letters_is_no_pattern(void **state)
{
	struct conf_error error;

	assert_int_equal(mkdir(test_path("[a]*\\b"), 0700), 0);
	write_text("[a]*\\b/main.conf", PORT "services = {\n@include \"*.inc\"\n};\n");
	write_text("[a]*\\b/web.inc",
		"web = { listen = \":80\"; backends = ( \"10.0.0.1:80\" ); };\n");
	struct conf *conf = conf_load(test_path("[a]*\\b/main.conf"), &error);
	if (conf == NULL)
		fail_msg("%s", error.text);
	assert_string_equal(conf->services[0]->name, "web");
	conf_free(conf);
}

/* Files of a few bytes that include one another ten times, ten deep, would be read 10^10 times. */
static void includes_that_multiply_are_stopped(void **state)
{
	for (int i = 0; i < 10; i++) {
		char name[32], text[1024] = "", line[64];
		snprintf(name, sizeof(name), "bomb%d.inc", i);
		snprintf(line, sizeof(line), "@include \"bomb%d.inc\"\n", i + 1);
		for (int j = 0; j < 10; j++)
			strcat(text, line);
		write_text(name, text);
	}
	write_text("bomb10.inc", "");
	assert_refused("bomb0.inc", "bomb", "more than 4096 files are included in all");

	FILE *large = fopen(test_path("large.inc"), "w");
	for (int i = 0; i < 9 << 20; i++)
		fputc('\n', large);
	fclose(large);
	write_text("main.conf", "@include \"large.inc\"\n@include \"large.inc\"\n");
	assert_refused("main.conf", "large.inc: ", "the files are larger than 16 MiB together");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_no_regular_file_is_refused_at_once_D8),
		cmocka_unit_test(a_file_that_others_may_write_is_told_of),
		cmocka_unit_test(unreadable_file_is_refused_D8),
		cmocka_unit_test(seventeen_megabytes_are_refused_D8),
		cmocka_unit_test(sixteen_megabytes_of_anything_end_soon),
		cmocka_unit_test(nul_bytes_are_refused_wherever_they_are_D8),
		cmocka_unit_test(truncated_files_are_refused_D8),
		cmocka_unit_test(deep_nesting_is_refused_D8),
		cmocka_unit_test(included_files_are_found_beside_the_including_one),
		cmocka_unit_test(errors_in_included_files_name_that_file_and_line),
		cmocka_unit_test(includes_that_cannot_work_are_refused_at_their_line_D8),
		cmocka_unit_test(patterns_are_taken_in_the_order_of_the_names),
		cmocka_unit_test(errors_in_matching_files_name_file_and_line),
		cmocka_unit_test(a_directory_with_odd_letters_is_no_pattern),
		cmocka_unit_test(includes_that_multiply_are_stopped),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
