/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A veth between the test's own namespace and a peer's; ping asks whether the kernel answers.
 * Everything lies in a private mount and network namespace and goes with the process.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "dev.h"
#include "exception.h"
#include "programs.h"

#define DEVICE "weir-ut.0"
#define SNAPSHOT "ip rule; ip -6 rule; ip route; ip addr show " DEVICE

static char message[DEV_MESSAGE];

static void must(const char *command)
{
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

static char *output(const char *command)
{
	static char text[2][65536];
	static unsigned which;
	char *into = text[++which % 2];
	FILE *pipe = popen(command, "r");

	assert_non_null(pipe);
	into[fread(into, 1, sizeof(text[0]) - 1, pipe)] = '\0';
	pclose(pipe);
	return into;
}

/* So that each ping asks anew, and doesn't wait for an earlier one's next try. */
static void forget_neighbour(const char *address)
{
	char command[128];

	snprintf(command, sizeof(command), "ip -n peer neigh del %s dev p0 2>/dev/null", address);
	if (system(command) != 0)
		return; // there was none
}

static bool answers_ping(void)
{
	forget_neighbour("10.9.0.1");
	return system("ip netns exec peer ping -c 1 -W 1 10.9.0.1 >/dev/null 2>&1") == 0;
}

static bool answers_arp(void)
{
	bool pinged = answers_ping();
	// The neighbour is known when ARP was answered, whatever became of the ping.
	bool known = strstr(output("ip -n peer neigh show 10.9.0.1"), "lladdr") != NULL;
	assert_true(pinged <= known);
	return known;
}

static bool answers_ping6(void)
{
	forget_neighbour("fd09::1");
	return system("ip netns exec peer ping -6 -c 1 -W 1 fd09::1 >/dev/null 2>&1") == 0;
}

static int ipv6_disabled(void)
{
	return atoi(output("cat /proc/sys/net/ipv6/conf/" DEVICE "/disable_ipv6"));
}

static int make_veth(void **state)
{
	must("ip link add " DEVICE " type veth peer name p0 netns peer");
	must("ip addr add 10.9.0.1/24 dev " DEVICE);
	must("ip addr add fd09::1/64 dev " DEVICE " nodad");
	must("ip link set " DEVICE " up");
	must("ip -n peer addr add 10.9.0.2/24 dev p0");
	must("ip -n peer addr add fd09::2/64 dev p0 nodad");
	must("ip -n peer link set p0 up");
	message[0] = '\0';
	return 0;
}

static int remove_veth(void **state)
{
	exception_unmute(DEVICE);
	return system("ip link del " DEVICE);
}

static void test_mute_silences_the_kernel_and_unmute_undoes_it(void **state)
{
	assert_true(answers_ping());
	assert_true(answers_arp());
	assert_true(answers_ping6());
	char *before = strdup(output(SNAPSHOT));

	assert_int_equal(exception_mute(DEVICE, message), 0);
	assert_false(answers_ping());
	assert_false(answers_arp());
	assert_false(answers_ping6());
	assert_int_equal(ipv6_disabled(), 1);

	exception_unmute(DEVICE);
	assert_true(answers_ping());
	assert_true(answers_arp());
	assert_int_equal(ipv6_disabled(), 0);
	must("ip addr add fd09::1/64 dev " DEVICE " nodad"); // the kernel doesn't keep it
	assert_true(answers_ping6());
	assert_string_equal(output("nft list tables"), "");
	// All is as it was; IPv6's link-local address takes a moment.
	for (unsigned i = 0; i < 30; i++) {
		if (strcmp(output(SNAPSHOT), before) == 0)
			break;
		usleep(100000);
	}
	assert_string_equal(output(SNAPSHOT), before);
	free(before);
}

static void test_mute_twice_and_unmute_once(void **state)
{
	assert_int_equal(exception_mute(DEVICE, message), 0);
	assert_int_equal(exception_mute(DEVICE, message), 0);
	assert_false(answers_ping());
	exception_unmute(DEVICE);
	assert_true(answers_ping());
	assert_int_equal(ipv6_disabled(), 0);
	exception_unmute(DEVICE); // nothing to undo
}

static void test_ipv6_that_was_off_stays_off(void **state)
{
	must("echo 1 > /proc/sys/net/ipv6/conf/" DEVICE "/disable_ipv6");
	assert_int_equal(exception_mute(DEVICE, message), 0);
	exception_unmute(DEVICE);
	assert_int_equal(ipv6_disabled(), 1);
}

static void test_killed_muter_is_cleaned_up_after(void **state)
{
	for (unsigned disabled = 0; disabled < 2; disabled++) {
		char command[128];
		snprintf(command, sizeof(command),
			"echo %u > /proc/sys/net/ipv6/conf/" DEVICE "/disable_ipv6", disabled);
		must(command);
		pid_t child = fork();
		if (child == 0) {
			exception_mute(DEVICE, message);
			kill(getpid(), SIGKILL);
		}
		waitpid(child, NULL, 0);
		assert_false(answers_ping()); // it outlives the process
		assert_int_equal(ipv6_disabled(), 1);

		assert_int_equal(exception_mute(DEVICE, message), 0);
		assert_false(answers_ping());
		exception_unmute(DEVICE);
		assert_true(answers_ping());
		assert_int_equal(ipv6_disabled(), disabled);
	}
}

static void test_new_interface_of_an_old_name_is_another(void **state)
{
	must("echo 1 > /proc/sys/net/ipv6/conf/" DEVICE "/disable_ipv6");
	assert_int_equal(exception_mute(DEVICE, message), 0);
	must("ip link del " DEVICE);
	make_veth(state);
	assert_int_equal(exception_mute(DEVICE, message), 0);
	assert_false(answers_ping());
	exception_unmute(DEVICE);
	assert_true(answers_ping());
	assert_int_equal(ipv6_disabled(), 0);
}

static void test_default_route_is_not_cut_off(void **state)
{
	static const char *const routes[] = {"default via 10.9.0.2",
		"default dev " DEVICE " metric 9", "default nexthop via 10.9.0.2 nexthop dev lo",
		"-6 default via fd09::2"};

	for (unsigned i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		bool ipv6 = routes[i][0] == '-';
		char command[128];
		snprintf(command, sizeof(command), "ip %s route add %s", ipv6 ? "-6" : "-4",
			routes[i] + (ipv6 ? 3 : 0));
		must(command);
		assert_int_equal(exception_mute(DEVICE, message), -EBUSY);
		assert_non_null(strstr(message, "dedicated port"));
		assert_string_equal(output("nft list tables"), "");
		assert_int_equal(ipv6_disabled(), 0);
		snprintf(command, sizeof(command), "ip %s route del %s", ipv6 ? "-6" : "-4",
			routes[i] + (ipv6 ? 3 : 0));
		must(command);
	}
	// A default route elsewhere, or in another table, is none of its business.
	must("ip route add default dev lo");
	must("ip route add default via 10.9.0.2 table 77");
	assert_int_equal(exception_mute(DEVICE, message), 0);
	must("ip route del default dev lo");
}

static void test_bad_names(void **state)
{
	assert_int_equal(exception_mute("nosuch0", message), -ENODEV);
	assert_non_null(strstr(message, "nosuch0"));
	assert_int_equal(exception_mute("a\"; drop", message), -EINVAL);
	assert_int_equal(exception_mute("", message), -EINVAL);
	exception_unmute("nosuch0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_mute_silences_the_kernel_and_unmute_undoes_it, make_veth, remove_veth),
		cmocka_unit_test_setup_teardown(
			test_mute_twice_and_unmute_once, make_veth, remove_veth),
		cmocka_unit_test_setup_teardown(
			test_ipv6_that_was_off_stays_off, make_veth, remove_veth),
		cmocka_unit_test_setup_teardown(
			test_killed_muter_is_cleaned_up_after, make_veth, remove_veth),
		cmocka_unit_test_setup_teardown(
			test_new_interface_of_an_old_name_is_another, make_veth, remove_veth),
		cmocka_unit_test_setup_teardown(
			test_default_route_is_not_cut_off, make_veth, remove_veth),
		cmocka_unit_test(test_bad_names),
	};

	if (geteuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0)
		return 77; // needs root
	if (!has_program("ip", "iproute2") || !has_program("nft", "nftables") ||
		!has_program("ping", "iputils-ping"))
		return 1;
	if (system("ip link set lo up && ip netns add peer") != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
