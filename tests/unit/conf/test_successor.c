/* SPDX-License-Identifier: BSD-3-Clause */
/* Which file a process may take over with (E12): the message names file, line and key. */
#include "conf_test.h"

#define DEVICE "device = \"eth1\"; "
#define ADDRESSES "address = [ \"192.0.2.10/24\", \"192.0.2.11/24\" ];\n"
#define PORT_OF(keys) "port = {\n" keys "};\n"
#define USUAL PORT_OF(DEVICE ADDRESSES)

/* What is said of the second file where the first one runs; "" = it is taken. */
static const char *said_of(const char *running, const char *text, uint32_t nb_open)
{
	static struct conf_error error;
	struct conf *conf = test_good(running);
	const char *path = test_write("next.conf", text, strlen(text));
	struct conf *next =
		conf_load_successor(path, &(struct conf_succeeded){conf, nb_open}, &error);

	conf_free(conf);
	if (next == NULL)
		return error.text + strlen(test_dir) + 1;
	conf_free(next);
	return "";
}

#define ADVICE "; an upgrade would cost the connections. Put it back, or restart weir"

static void assert_said(const char *running, const char *text, const char *said)
{
	assert_string_equal(said_of(running, text, 7), said);
}

static void what_the_connections_are_found_by(void **state)
{
	assert_said(USUAL SERVICES, "instance = \"b\";\n" USUAL SERVICES,
		"next.conf:1: instance: is \"b\", and weir runs with \"\"" ADVICE);
	assert_said(USUAL SERVICES, "flows = {\npersist = false; };\n" USUAL SERVICES,
		"next.conf:2: flows.persist: is false, and weir runs with true" ADVICE);
	assert_said(USUAL SERVICES, PORT_OF("device = \"eth2\"; " ADDRESSES) SERVICES,
		"next.conf:2: port.device: is \"eth2\", and weir runs with \"eth1\"" ADVICE);
	assert_said(USUAL SERVICES, PORT_OF(DEVICE ADDRESSES "driver = \"af_packet\";\n") SERVICES,
		"next.conf:3: port.driver: is af_packet, and weir runs with default" ADVICE);
	assert_said(USUAL SERVICES, PORT_OF(DEVICE ADDRESSES "netns = \"\";\n") SERVICES,
		"next.conf:3: port.netns: is \"\", and weir runs with \"weir\"" ADVICE);
	assert_said(USUAL SERVICES, PORT_OF(DEVICE ADDRESSES "mtu = 1400;\n") SERVICES,
		"next.conf:3: port.mtu: is 1400, and weir runs with default" ADVICE);
}

/* There is no line of it then, but of the group that it stood in. */
static void what_isnt_in_the_file_any_more(void **state)
{
	assert_said("instance = \"b\";\n" USUAL SERVICES, USUAL SERVICES,
		"next.conf: instance: is \"\", and weir runs with \"b\"" ADVICE);
	assert_said(PORT_OF(DEVICE ADDRESSES "mtu = 1400;\n") SERVICES, USUAL SERVICES,
		"next.conf:1: port.mtu: is default, and weir runs with 1400" ADVICE);
}

static void room_for_those_that_are_open(void **state)
{
	assert_string_equal(said_of(USUAL SERVICES, USUAL "flows = 1024;\n" SERVICES, 1024), "");
	assert_string_equal(said_of(USUAL SERVICES, USUAL "flows = 1024;\n" SERVICES, 1025),
		"next.conf:4: flows.size: is 1024, and 1025 connections are open" ADVICE);
	assert_string_equal(
		said_of(USUAL SERVICES, USUAL "flows = {\n size = 1024; };\n" SERVICES, 1025),
		"next.conf:5: flows.size: is 1024, and 1025 connections are open" ADVICE);
}

static void the_addresses_that_backends_see(void **state)
{
	const char *second = PORT_OF(DEVICE "address = \"192.0.2.11/24\";\n") SERVICES;
	const char *first = PORT_OF(DEVICE "address = \"192.0.2.10/24\";\n") SERVICES;
	const char *named = USUAL "snat = { addresses = \"192.0.2.11\"; };\n" SERVICES;

	assert_said(USUAL SERVICES, second,
		"next.conf:2: port.address: lacks 192.0.2.10, which the backends know weir "
		"by" ADVICE);
	assert_string_equal(said_of(USUAL SERVICES, second, 0), "");
	assert_said(USUAL SERVICES, first, "");
	assert_said(USUAL SERVICES, named, "");
	assert_said(named, second, "");
	assert_said(named, first,
		"next.conf:2: port.address: lacks 192.0.2.11, which the backends know weir "
		"by" ADVICE);
}

static void what_it_takes(void **state)
{
	assert_said(USUAL SERVICES,
		PORT_OF(DEVICE ADDRESSES
			"hugepages = false; gateway = \"192.0.2.1\";\n") "cores = { workers = [ 1, "
									 "2 ]; };\n" SERVICES,
		"");
	// And what is wrong in any case is said as always.
	assert_said(USUAL SERVICES, "flows = 7;\n" USUAL SERVICES,
		"next.conf:1: flows: 7 is out of range; expected an integer from 1024 to 67108864");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_connections_are_found_by),
		cmocka_unit_test(what_isnt_in_the_file_any_more),
		cmocka_unit_test(room_for_those_that_are_open),
		cmocka_unit_test(the_addresses_that_backends_see),
		cmocka_unit_test(what_it_takes),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
