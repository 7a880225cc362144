/* SPDX-License-Identifier: BSD-3-Clause */
/* What a process leaves of the addresses of names (E3). In /run/weir, so root's. */
#include "app_test.h"

#include <sys/stat.h>

#include "dev.h"
#include "kept_names.h"

#define FOUND_TEXT 256

static struct conf *make_conf(void)
{
	char text[1024];

	mkdir("/run/weir", 0755);
	snprintf(text, sizeof(text),
		"instance = \"n%d\";\n" PORT
		"services = {\n" SERVICE("web", ":80", "\"10.0.0.1:80\"") "};\n",
		getpid());
	return read_conf(text);
}

static struct net_addr addr_of(const char *text)
{
	struct net_addr addr;

	assert_int_equal(net_addr_parse(&addr, text), 0);
	return addr;
}

static void add(FILE *file, const char *host, const char *first, const char *second)
{
	struct net_addr addrs[] = {addr_of(first), addr_of(second)};

	kept_names_add(file, host, addrs, 2);
}

static void note(void *context, const char *host, const struct net_addr *addr)
{
	char *all = context, text[NET_ADDR_TEXT];
	size_t length = strlen(all);

	snprintf(all + length, FOUND_TEXT - length, "%s %s\n", host, net_addr_format(addr, text));
}

static void assert_kept(const struct conf *conf, const char *expected)
{
	char all[FOUND_TEXT] = "";

	kept_names_read(conf, note, all);
	assert_string_equal(all, expected);
}

static void the_next_process_finds_the_addresses(void **state)
{
	struct conf *conf = make_conf();
	FILE *file = kept_names_begin(conf);

	assert_non_null(file);
	add(file, "app.example.org", "192.0.2.21", "192.0.2.22");
	add(file, "app.example.org", "2001:db8::21", "2001:db8::22");
	kept_names_add(file, "unknown", NULL, 0);
	assert_int_equal(kept_names_end(file, conf), 0);
	assert_kept(conf,
		"app.example.org 192.0.2.21\napp.example.org 192.0.2.22\n"
		"app.example.org 2001:db8::21\napp.example.org 2001:db8::22\n");
	kept_names_remove(conf);
	assert_kept(conf, "");
	conf_free(conf);
}

static void a_death_while_it_is_written_leaves_the_old(void **state)
{
	struct conf *conf = make_conf();
	FILE *file = kept_names_begin(conf);

	add(file, "a", "192.0.2.1", "192.0.2.2");
	assert_int_equal(kept_names_end(file, conf), 0);
	file = kept_names_begin(conf);
	add(file, "a", "192.0.2.3", "192.0.2.4");
	fflush(file);
	assert_kept(conf, "a 192.0.2.1\na 192.0.2.2\n");
	fclose(file); // dead
	file = kept_names_begin(conf);
	assert_non_null(file);
	add(file, "a", "192.0.2.5", "192.0.2.6");
	assert_int_equal(kept_names_end(file, conf), 0);
	assert_kept(conf, "a 192.0.2.5\na 192.0.2.6\n");
	kept_names_remove(conf);
	conf_free(conf);
}

static void what_is_no_address_is_passed_over(void **state)
{
	char path[128], name[80];
	struct conf *conf = make_conf();

	snprintf(path, sizeof(path), "/run/weir/%s.names", dev_instance_name(conf, name));
	FILE *file = fopen(path, "w");
	fputs("\n\nalone\na 192.0.2.1 192.0.2.256 x\n 192.0.2.7\nb  192.0.2.2", file);
	fclose(file);
	assert_kept(conf, "a 192.0.2.1\nb 192.0.2.2\n");
	kept_names_remove(conf);
	conf_free(conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_process_finds_the_addresses),
		cmocka_unit_test(a_death_while_it_is_written_leaves_the_old),
		cmocka_unit_test(what_is_no_address_is_passed_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
