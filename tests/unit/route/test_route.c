/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The module against the real kernel: interface w0 in one namespace ("near"), its veth peer p0 in
 * another ("far"), where the neighbours live. Each test gets both anew.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "netlink.h"
#include "netns.h"
#include "programs.h"
#include "route.h"
#include "route_kernel.h"

#define FAR_MAC "02:00:00:00:00:02"
// How long the busiest machine may take for what takes the kernel and the module
#define SOON_MS 5000     // no more than a second
#define LINK_UP_MS 10000 // 3 s: a link come up passes nothing for up to one; the next question then
#define GIVE_UP_MS 12000 // 3 s: three questions to nobody

struct rig {
	int near, far; // namespaces
	struct event_base *events;
	struct route *route;
	struct mnl_socket *socket; // in near
	unsigned calls;            // of the change callback
	const char *awaited;       // the neighbour that is heard of
	char heard[18];            // its MAC
};

static void run(int netns, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void run(int netns, const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	int previous = netns_enter(netns);
	int status = system(command);
	netns_leave(previous);
	if (status != 0)
		fail_msg("%s: status %d", command, status);
}

static void changed(void *context, struct route_target *target)
{
	struct rig *rig = context;

	rig->calls++;
}

/* Run the loop for a while. */
static void turn(struct rig *rig, unsigned ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	event_base_loopexit(rig->events, &delay);
	event_base_dispatch(rig->events);
}

static struct route_target *watch(struct rig *rig, const char *text)
{
	struct net_addr addr;

	assert_int_equal(net_addr_parse(&addr, text), 0);
	struct route_target *target = route_target_get(rig->route, &addr);
	assert_non_null(target);
	return target;
}

/* Whether the hop is in the state, with that gateway and MAC (NULL: whatever). */
static bool is_hop(
	const struct route_hop *hop, enum route_state state, const char *gateway, const char *mac)
{
	char addr_text[NET_ADDR_TEXT], mac_text[18];

	return hop->state == state &&
		(!gateway || strcmp(net_addr_format(&hop->gateway, addr_text), gateway) == 0) &&
		(!mac || strcmp(net_mac_format(&hop->mac, mac_text), mac) == 0);
}

/* Run the loop until the target is there, and fail when it takes longer. */
static void expect_hop(struct rig *rig, struct route_target *target, unsigned within_ms,
	enum route_state state, const char *gateway, const char *mac)
{
	uint64_t end = clock_ms() + within_ms;
	const struct route_hop *hop = route_target_hop(target);
	char addr[NET_ADDR_TEXT], gateway_text[NET_ADDR_TEXT], mac_text[18];

	while (!is_hop(hop, state, gateway, mac)) {
		if (clock_ms() >= end)
			fail_msg("%s: state %d gateway %s mac %s",
				net_addr_format(route_target_addr(target), addr), hop->state,
				net_addr_format(&hop->gateway, gateway_text),
				net_mac_format(&hop->mac, mac_text));
		turn(rig, 5);
	}
}

/* The kernel's entry; its state, 0 when there is none. */
static unsigned kernel_state(struct rig *rig, const char *text, bool *managed)
{
	struct neighbour_entry entry = {0};
	struct route_link link;
	struct net_addr addr;

	net_addr_parse(&addr, text);
	assert_int_equal(route_kernel_link(rig->socket, "w0", &link), 0);
	int err = neighbour_entry_read(rig->socket, link.index, &addr, &entry);
	assert_true(err == 0 || err == -ENOENT);
	if (managed != NULL)
		*managed = entry.managed;
	return entry.state;
}

static int new_namespace(void)
{
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	return open("/proc/thread-self/ns/net", O_RDONLY); // inherited by system()
}

/* The kernel gives a new link its queue up to a second after its carrier; until then all is lost
 * that it sends. */
static void wait_for_link(int netns, const char *name)
{
	run(netns, "until ip link show %s | grep -q 'state UP'; do sleep 0.01; done", name);
}

static void make_link(struct rig *rig)
{
	run(rig->near, "ip link add w0 type veth peer name p0 netns /proc/self/fd/%d", rig->far);
	// Link-local addresses by hand: the kernel's own are of no use in their first second.
	run(rig->far,
		"ip link set p0 addrgenmode none address " FAR_MAC " up &&"
		" ip addr add 192.0.2.2/24 dev p0 && ip addr add fe80::2/64 dev p0 nodad &&"
		" ip addr add 2001:db8::2/64 dev p0 nodad");
	run(rig->near,
		"ip link set w0 addrgenmode none up && ip addr add 192.0.2.1/24 dev w0 &&"
		" ip addr add fe80::1/64 dev w0 nodad && ip addr add 2001:db8::1/64 dev w0 nodad &&"
		" ip route add 10.9.0.0/16 via 192.0.2.2");
	wait_for_link(rig->near, "w0");
	wait_for_link(rig->far, "p0");
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	*state = rig;
	rig->near = new_namespace();
	rig->far = new_namespace();
	if (rig->near < 0 || rig->far < 0 || unshare(CLONE_NEWNET) < 0)
		return -1;
	make_link(rig);
	rig->events = event_base_new();
	rig->socket = netlink_open(rig->near, 0);
	rig->route = route_create(rig->events, rig->near, "w0", changed, rig);
	return rig->route && rig->socket ? 0 : -1;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	route_destroy(rig->route);
	mnl_socket_close(rig->socket);
	event_base_free(rig->events);
	close(rig->near);
	close(rig->far);
	free(rig);
	return 0;
}

static void on_the_link_it_is_the_target_itself(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "192.0.2.2");
	bool managed;

	assert_int_equal(route_target_hop(target)->state, ROUTE_PENDING);
	assert_int_equal(rig->calls, 0); // never from inside get
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", FAR_MAC);
	assert_in_range(rig->calls, 1, 2);
	assert_true(kernel_state(rig, "192.0.2.2", &managed) & NUD_REACHABLE);
	assert_true(managed);
	rig->calls = 0;
	turn(rig, 100);
	assert_int_equal(rig->calls, 0);
}

static void behind_a_gateway_it_is_the_gateway(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "10.9.1.1");

	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", FAR_MAC);
	assert_int_equal(kernel_state(rig, "10.9.1.1", NULL), 0);
}

static void an_ipv6_gateway_serves_ipv4(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "10.8.0.1");

	run(rig->near, "ip route add 10.8.0.0/16 via inet6 2001:db8::2 dev w0");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "2001:db8::2", FAR_MAC);
}

/* On the link, behind a gateway, and behind one that is known by its link-local address only. */
static void ipv6_is_the_same(void **state)
{
	struct rig *rig = *state;

	run(rig->near,
		"ip -6 route add 2001:db8:9::/48 via 2001:db8::2;"
		" ip -6 route add 2001:db8:a::/48 via fe80::2 dev w0;"
		" ip -6 route add unreachable 2001:db8:b::/48");
	expect_hop(rig, watch(rig, "2001:db8::2"), SOON_MS, ROUTE_RESOLVED, "2001:db8::2", FAR_MAC);
	expect_hop(
		rig, watch(rig, "2001:db8:9::1"), SOON_MS, ROUTE_RESOLVED, "2001:db8::2", FAR_MAC);
	expect_hop(rig, watch(rig, "2001:db8:a::1"), SOON_MS, ROUTE_RESOLVED, "fe80::2", FAR_MAC);
	expect_hop(rig, watch(rig, "fe80::2"), SOON_MS, ROUTE_RESOLVED, "fe80::2", FAR_MAC);
	expect_hop(rig, watch(rig, "2001:db8:b::1"), SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
	expect_hop(rig, watch(rig, "2001:db8::1"), SOON_MS, ROUTE_LOCAL, NULL, NULL);
}

static void a_changed_mac_is_followed(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "10.9.1.1");

	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	rig->calls = 0;
	run(rig->far, "ip link set p0 address 02:00:00:00:00:99");
	// The peer's first packet makes it ask for us, with its new MAC.
	int fd = netns_socket(rig->far, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in us = {.sin_family = AF_INET, .sin_port = htons(9)};
	us.sin_addr.s_addr = htonl(0xc0000201);
	assert_int_equal(sendto(fd, "", 1, 0, (struct sockaddr *)&us, sizeof(us)), 1);
	close(fd);
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, "02:00:00:00:00:99");
	assert_int_equal(rig->calls, 1);
}

static void hear(void *context, const struct net_addr *addr, const struct net_mac *mac)
{
	struct rig *rig = context;
	char text[NET_ADDR_TEXT];

	if (strcmp(net_addr_format(addr, text), rig->awaited) == 0)
		net_mac_format(mac, rig->heard);
}

/* Run the loop until the kernel tells that MAC of the address. */
static void expect_heard(struct rig *rig, const char *text, const char *mac)
{
	uint64_t end = clock_ms() + SOON_MS;

	rig->awaited = text;
	rig->heard[0] = '\0';
	while (strcmp(rig->heard, mac) != 0) {
		if (clock_ms() >= end)
			fail_msg("%s: heard \"%s\"", text, rig->heard);
		turn(rig, 5);
	}
}

/* Case E7: of whoever has asked for us, too, and of those that were there before. */
static void all_neighbours_are_heard_of(void **state)
{
	struct rig *rig = *state;

	run(rig->near,
		"ip neigh add 192.0.2.7 dev w0 lladdr 02:00:00:00:00:07 nud stale;"
		" ip neigh add 192.0.2.8 dev lo lladdr 02:00:00:00:00:08 nud stale");
	rig->awaited = "192.0.2.7";
	route_hear(rig->route, hear, rig);
	assert_string_equal(rig->heard, "02:00:00:00:00:07");
	run(rig->near, "ip neigh replace 192.0.2.7 dev w0 lladdr 02:00:00:00:00:17 nud stale");
	expect_heard(rig, "192.0.2.7", "02:00:00:00:00:17");
	run(rig->near, "ip neigh add 2001:db8::7 dev w0 lladdr 02:00:00:00:00:07 nud stale");
	expect_heard(rig, "2001:db8::7", "02:00:00:00:00:07");

	rig->heard[0] = '\0';
	rig->awaited = "192.0.2.9";
	run(rig->near, "ip neigh add 192.0.2.9 dev w0 nud failed");
	turn(rig, 100);
	assert_string_equal(rig->heard, ""); // it has no MAC
	rig->awaited = "192.0.2.8";
	run(rig->near, "ip neigh replace 192.0.2.8 dev lo lladdr 02:00:00:00:00:18 nud stale");
	turn(rig, 100);
	assert_string_equal(rig->heard, ""); // not on this interface
}

/* A container made anew with its address but not its MAC, that says nothing of itself. */
static void a_silently_changed_mac_is_found(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "192.0.2.2");

	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	rig->calls = 0;
	run(rig->far, "ip link set p0 address 02:00:00:00:00:99");
	expect_hop(rig, target, 30000, ROUTE_RESOLVED, NULL, "02:00:00:00:00:99");
	assert_int_equal(rig->calls, 1); // without a time of being unreachable
}

static void a_changed_route_is_followed(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "10.9.1.1");

	run(rig->near, "ip neigh add 192.0.2.3 dev w0 lladdr 02:00:00:00:00:03 nud permanent");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", FAR_MAC);
	run(rig->near, "ip route replace 10.9.0.0/16 via 192.0.2.3");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.3", "02:00:00:00:00:03");
	turn(rig, 50);
	assert_int_equal(kernel_state(rig, "192.0.2.2", NULL), 0); // no user left
	run(rig->near, "ip route del 10.9.0.0/16");
	expect_hop(rig, target, SOON_MS, ROUTE_UNREACHABLE, NULL, "00:00:00:00:00:00");
	run(rig->near, "ip route add blackhole 10.9.1.1");
	turn(rig, 50);
	expect_hop(rig, target, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
	run(rig->near, "ip route replace prohibit 10.9.1.1");
	turn(rig, 50);
	expect_hop(rig, target, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
	run(rig->near,
		"ip route del 10.9.1.1; ip nexthop add id 7 via 192.0.2.2 dev w0;"
		" ip route add 10.9.0.0/16 nhid 7");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", FAR_MAC);
	run(rig->near, "ip nexthop replace id 7 via 192.0.2.3 dev w0");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.3", NULL);
	run(rig->near,
		"ip route add 10.9.0.0/16 via 192.0.2.2 table 5; ip rule add to 10.9.1.0/24"
		" lookup 5");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", NULL);
}

static void a_new_gateway_takes_over_without_a_gap(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "10.9.1.1");

	run(rig->far, "ip addr add 192.0.2.4/24 dev p0");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", FAR_MAC);
	rig->calls = 0;
	run(rig->near, "ip route replace 10.9.0.0/16 via 192.0.2.4");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.4", FAR_MAC);
	turn(rig, 50);
	assert_int_equal(rig->calls, 1);
	run(rig->near, "ip route replace 10.9.0.0/16 via 192.0.2.77"); // where nobody is
	expect_hop(rig, target, GIVE_UP_MS, ROUTE_UNREACHABLE, "192.0.2.77", NULL);
}

static void nobody_there_is_unreachable_until_he_comes(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "192.0.2.77");

	turn(rig, 200);
	assert_int_equal(route_target_hop(target)->state, ROUTE_PENDING);
	expect_hop(rig, target, GIVE_UP_MS, ROUTE_UNREACHABLE, "192.0.2.77", NULL);
	rig->calls = 0;
	turn(rig, 2500);
	assert_int_equal(rig->calls, 0); // asking again is no change
	run(rig->far, "ip addr add 192.0.2.77/24 dev p0");
	expect_hop(rig, target, 2500, ROUTE_RESOLVED, "192.0.2.77", FAR_MAC);
}

static void own_addresses_and_other_interfaces_are_local(void **state)
{
	struct rig *rig = *state;

	run(rig->near,
		"ip link add x0 type veth peer name x1; ip link set x0 up; ip link set x1 up;"
		" ip addr add 198.51.100.1/24 dev x0");
	struct route_target *other = watch(rig, "198.51.100.9");
	expect_hop(rig, other, SOON_MS, ROUTE_LOCAL, NULL, NULL);
	expect_hop(rig, watch(rig, "192.0.2.1"), SOON_MS, ROUTE_LOCAL, NULL, NULL);
	struct route_target *later = watch(rig, "192.0.2.5");
	turn(rig, 50);
	assert_int_equal(route_target_hop(later)->state, ROUTE_PENDING);
	run(rig->near, "ip addr add 192.0.2.5/24 dev w0");
	expect_hop(rig, later, SOON_MS, ROUTE_LOCAL, NULL, NULL);
	run(rig->near, "ip addr del 198.51.100.1/24 dev x0");
	expect_hop(rig, other, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
}

/* Case B20: what an operator has pinned stays so, before, while and after it is used. */
static void a_static_neighbour_stays_the_operators(void **state)
{
	struct rig *rig = *state;
	bool managed;

	run(rig->near, "ip neigh add 192.0.2.2 dev w0 lladdr 02:00:00:00:00:aa nud permanent");
	struct route_target *target = watch(rig, "192.0.2.2");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, "02:00:00:00:00:aa");
	turn(rig, 1500);
	assert_int_equal(kernel_state(rig, "192.0.2.2", &managed), NUD_PERMANENT);
	assert_false(managed);
	// The peer asks for us, and tells its own MAC so.
	int fd = netns_socket(rig->far, AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in us = {.sin_family = AF_INET, .sin_port = htons(9)};
	us.sin_addr.s_addr = htonl(0xc0000201);
	sendto(fd, "", 1, 0, (struct sockaddr *)&us, sizeof(us));
	close(fd);
	turn(rig, 200);
	expect_hop(rig, target, 0, ROUTE_RESOLVED, NULL, "02:00:00:00:00:aa");
	route_target_put(target);
	turn(rig, 100);
	assert_int_equal(kernel_state(rig, "192.0.2.2", NULL), NUD_PERMANENT);
}

/* Case B20, the other way round: pinned and released while it is in use. */
static void pinning_and_releasing_are_followed(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "192.0.2.2");
	bool managed;

	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	run(rig->near, "ip neigh replace 192.0.2.2 dev w0 lladdr 02:00:00:00:00:aa nud permanent");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, "02:00:00:00:00:aa");
	turn(rig, 1500);
	assert_int_equal(kernel_state(rig, "192.0.2.2", NULL), NUD_PERMANENT);
	run(rig->near, "ip neigh del 192.0.2.2 dev w0");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	run(rig->near, "ip neigh replace 192.0.2.2 dev w0 lladdr " FAR_MAC " nud reachable");
	turn(rig, 1500);
	assert_int_not_equal(kernel_state(rig, "192.0.2.2", &managed), 0);
	assert_true(managed);
}

static void a_flush_takes_no_mac_away(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "192.0.2.2");
	bool managed;

	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	rig->calls = 0;
	run(rig->near, "ip neigh flush dev w0");
	turn(rig, 300);
	assert_int_equal(rig->calls, 0);
	assert_true(kernel_state(rig, "192.0.2.2", &managed) & NUD_REACHABLE);
	assert_true(managed);
}

static void the_last_user_takes_the_entry_away(void **state)
{
	struct rig *rig = *state;
	struct route_target *first = watch(rig, "192.0.2.2"), *second = watch(rig, "192.0.2.2");
	struct route_target *behind = watch(rig, "10.9.1.1");

	assert_ptr_equal(first, second);
	expect_hop(rig, first, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	expect_hop(rig, behind, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	route_target_put(first);
	route_target_put(second);
	turn(rig, 50);
	assert_int_not_equal(kernel_state(rig, "192.0.2.2", NULL), 0);
	route_target_put(behind);
	turn(rig, 50);
	assert_int_equal(kernel_state(rig, "192.0.2.2", NULL), 0);
}

static void destroy_takes_all_entries_away(void **state)
{
	struct rig *rig = *state;

	expect_hop(rig, watch(rig, "10.9.1.1"), SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	route_destroy(rig->route);
	rig->route = NULL;
	assert_int_equal(kernel_state(rig, "192.0.2.2", NULL), 0);
	route_destroy(NULL);
}

static void the_interface_may_go_down_and_come_back(void **state)
{
	struct rig *rig = *state;
	struct route_target *link = watch(rig, "192.0.2.2"), *behind = watch(rig, "10.9.1.1");

	expect_hop(rig, link, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	run(rig->near, "ip link set w0 down");
	expect_hop(rig, link, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
	expect_hop(rig, behind, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
	run(rig->near, "ip link set w0 up");
	expect_hop(rig, link, LINK_UP_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	expect_hop(rig, behind, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL); // its route is gone
	run(rig->near, "ip route add 10.9.0.0/16 via 192.0.2.2");
	expect_hop(rig, behind, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	run(rig->far, "ip link set p0 down"); // no carrier
	expect_hop(rig, link, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
	run(rig->far, "ip link set p0 up");
	expect_hop(rig, link, LINK_UP_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
}

static void the_interface_may_be_made_anew(void **state)
{
	struct rig *rig = *state;
	struct route_target *link = watch(rig, "192.0.2.2"), *behind = watch(rig, "10.9.1.1");

	expect_hop(rig, link, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	run(rig->near, "ip link del w0");
	expect_hop(rig, link, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
	make_link(rig);
	expect_hop(rig, link, LINK_UP_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	expect_hop(rig, behind, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", FAR_MAC);
	run(rig->near, "ip link del w0"); // and all between two looks
	make_link(rig);
	run(rig->far, "ip link set p0 address 02:00:00:00:00:99");
	expect_hop(rig, link, LINK_UP_MS, ROUTE_RESOLVED, NULL, "02:00:00:00:00:99");
	expect_hop(rig, behind, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", "02:00:00:00:00:99");
}

static void watched_before_the_interface_is_there(void **state)
{
	struct rig *rig = *state;

	route_destroy(rig->route);
	run(rig->near, "ip link del w0");
	rig->route = route_create(rig->events, rig->near, "w0", changed, rig);
	assert_non_null(rig->route);
	struct route_target *target = watch(rig, "192.0.2.2");
	expect_hop(rig, target, SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
	make_link(rig);
	expect_hop(rig, target, LINK_UP_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
}

static unsigned count_entries(struct rig *rig)
{
	char line[256];
	unsigned count = 0;
	int previous = netns_enter(rig->near);
	FILE *list = popen("ip -4 neigh show dev w0", "r");

	netns_leave(previous);
	assert_non_null(list);
	while (fgets(line, sizeof(line), list) != NULL)
		count++;
	pclose(list);
	return count;
}

/* The longest stay in the loop without a pause, in CPU time: others may have the CPU as well. */
static uint64_t turn_measured(
	struct rig *rig, struct route_target *last, enum route_state state, const char *gateway)
{
	uint64_t longest = 0, end = clock_ms() + 20000;

	while (!is_hop(route_target_hop(last), state, gateway, NULL)) {
		uint64_t start = clock_thread_ns();
		event_base_loop(rig->events, EVLOOP_ONCE);
		if (clock_thread_ns() - start > longest)
			longest = clock_thread_ns() - start;
		assert_true(clock_ms() < end);
	}
	return longest;
}

static void many_targets_share_a_neighbour_and_block_nobody(void **state)
{
	enum { COUNT = 20000 };
	struct rig *rig = *state;
	static struct route_target *targets[COUNT];
	uint64_t longest, start = clock_ms();

	for (unsigned i = 0; i < COUNT; i++) {
		struct net_addr addr = {.family = AF_INET, .v4 = htonl(0x0a090000 + i + 1)};
		targets[i] = route_target_get(rig->route, &addr);
	}
	longest = turn_measured(rig, targets[0], ROUTE_RESOLVED, "192.0.2.2");
	for (unsigned i = 0; i < COUNT; i += 997)
		expect_hop(rig, targets[i], SOON_MS, ROUTE_RESOLVED, "192.0.2.2", FAR_MAC);
	print_message("%u targets resolved in %u ms, longest slice %u us\n", COUNT,
		(unsigned)(clock_ms() - start), (unsigned)(longest / 1000));
	assert_true(longest < 30000000);
	assert_int_equal(count_entries(rig), 1);

	run(rig->near, "ip neigh add 192.0.2.3 dev w0 lladdr 02:00:00:00:00:03 nud permanent");
	start = clock_ms();
	run(rig->near, "ip route replace 10.9.0.0/16 via 192.0.2.3");
	longest = turn_measured(rig, targets[COUNT - 1], ROUTE_RESOLVED, "192.0.2.3");
	for (unsigned i = 0; i < COUNT; i++)
		expect_hop(rig, targets[i], SOON_MS, ROUTE_RESOLVED, "192.0.2.3", NULL);
	print_message("%u targets re-routed in %u ms, longest slice %u us\n", COUNT,
		(unsigned)(clock_ms() - start), (unsigned)(longest / 1000));
	assert_true(longest < 30000000);
	for (unsigned i = 0; i < COUNT; i++)
		route_target_put(targets[i]);
}

/* So many route events that the socket overflows: what matters must be found all the same. */
static void lost_events_lead_to_a_resync(void **state)
{
	struct rig *rig = *state;
	struct route_target *target = watch(rig, "10.9.1.1");
	char name[] = "/tmp/weir-test-route-XXXXXX";

	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	FILE *batch = fdopen(mkstemp(name), "w");
	for (unsigned i = 0; i < 30000; i++)
		fprintf(batch, "route add 172.%u.%u.%u via 192.0.2.2\n", 16 + i / 65536,
			i / 256 % 256, i % 256);
	fprintf(batch, "route del 10.9.0.0/16\n");
	fclose(batch);
	run(rig->near, "ip -batch %s", name); // the loop stands still meanwhile
	unlink(name);
	expect_hop(rig, target, 2 * SOON_MS, ROUTE_UNREACHABLE, NULL, NULL);
}

static void put_and_get(void *context, struct route_target *target)
{
	struct rig *rig = context;

	rig->calls++;
	watch(rig, "192.0.2.1");
	route_target_put(target);
}

static void the_callback_may_get_and_put(void **state)
{
	struct rig *rig = *state;

	route_destroy(rig->route);
	rig->route = route_create(rig->events, rig->near, "w0", put_and_get, rig);
	watch(rig, "192.0.2.2");
	watch(rig, "10.9.1.1");
	watch(rig, "10.9.1.2");
	turn(rig, 500);
	assert_in_range(rig->calls, 4, 10);
	assert_int_equal(kernel_state(rig, "192.0.2.2", NULL), 0);
}

/* What a kernel before 5.16 is asked. */
static void an_entry_is_resolved_without_management_too(void **state)
{
	struct rig *rig = *state;
	struct route_link link;
	struct net_addr addr;
	bool managed = true;

	net_addr_parse(&addr, "192.0.2.2");
	route_kernel_link(rig->socket, "w0", &link);
	assert_int_equal(neighbour_entry_use(rig->socket, link.index, &addr, false, true), 0);
	turn(rig, 100);
	assert_true(kernel_state(rig, "192.0.2.2", &managed) & NUD_REACHABLE);
	assert_false(managed);
	assert_int_equal(neighbour_entry_use(rig->socket, link.index, &addr, false, true), -EEXIST);
	assert_int_equal(neighbour_entry_use(rig->socket, link.index, &addr, false, false), 0);
}

/* --- routes that leave the kernel a choice, and rules that name a source --- */

enum { NB_BEHIND = 32 };

static struct net_addr source4, source6;

/* Two gateways on the link lead to 10.7.0.0/16 and 2001:db8:7::/64, and packets come from
 * 192.0.2.9, which isn't the kernel's own choice, and 2001:db8::9. */
static void two_ways(struct rig *rig)
{
	run(rig->far, "ip addr add 192.0.2.3/24 dev p0 && ip addr add 2001:db8::3/64 dev p0 nodad");
	run(rig->near,
		"sysctl -qw net.ipv4.fib_multipath_use_neigh=1 &&"
		" ip addr add 192.0.2.9/24 dev w0 && ip addr add 2001:db8::9/64 dev w0 nodad &&"
		" ip route add 10.7.0.0/16 nexthop via 192.0.2.2 nexthop via 192.0.2.3 &&"
		" ip -6 route add 2001:db8:7::/64 nexthop via 2001:db8::2 nexthop via 2001:db8::3");
	net_addr_parse(&source4, "192.0.2.9");
	net_addr_parse(&source6, "2001:db8::9");
	route_set_sources(
		rig->route, &(struct net_sources){.v4 = {&source4, 1}, .v6 = {&source6, 1}});
}

static void watch_behind(struct rig *rig, struct route_target *targets[NB_BEHIND], bool v6)
{
	char text[NET_ADDR_TEXT];

	for (unsigned i = 0; i < NB_BEHIND; i++) {
		snprintf(text, sizeof(text), v6 ? "2001:db8:7::%u" : "10.7.0.%u", i + 1);
		targets[i] = watch(rig, text);
	}
	for (unsigned i = 0; i < NB_BEHIND; i++)
		expect_hop(rig, targets[i], SOON_MS, ROUTE_RESOLVED, NULL, FAR_MAC);
	turn(rig, 300); // both gateways are known, and the choice is asked for anew
}

static bool is_behind(const struct route_target *target, const char *gateway)
{
	return is_hop(route_target_hop(target), ROUTE_RESOLVED, gateway, NULL);
}

static unsigned count_behind(struct route_target *targets[NB_BEHIND], const char *gateway)
{
	unsigned count = 0;

	for (unsigned i = 0; i < NB_BEHIND; i++)
		count += is_behind(targets[i], gateway);
	return count;
}

/* The last byte of the MAC to which the kernel sends the SYN of a bound socket. */
static int way_of_socket(struct rig *rig, int frames, const struct route_target *target)
{
	const struct net_addr *to = route_target_addr(target);
	bool v6 = to->family == AF_INET6;
	struct sockaddr_storage at;
	socklen_t size = net_addr_sockaddr(v6 ? &source6 : &source4, 0, &at);
	int fd = netns_socket(rig->near, to->family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	unsigned char frame[2048];
	ssize_t length;

	assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
	size = net_addr_sockaddr(to, htons(80), &at);
	(void)connect(fd, (struct sockaddr *)&at, size);
	do
		length = recv(frames, frame, sizeof(frame), 0); // in order, and over within 5 s
	while (length > 0 &&
		(length <= 54 || // ARP
			memcmp(frame + (v6 ? 38 : 30), to->v6, net_addr_size(to->family)) != 0));
	close(fd);
	return length > 0 ? frame[5] : -1;
}

static int open_frames(struct rig *rig)
{
	int fd = netns_socket(rig->far, AF_PACKET, SOCK_RAW, htons(0x0003));
	struct timeval limit = {.tv_sec = 5};

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static void a_bound_socket_goes_where_its_target_says(void **state) // E9
{
	struct rig *rig = *state;
	struct route_target *targets[NB_BEHIND];

	two_ways(rig);
	// What is told apart by the MAC, in place of by the gateway.
	run(rig->near,
		"ip neigh replace 192.0.2.3 dev w0 lladdr 02:00:00:00:00:03 nud permanent &&"
		" ip neigh replace 2001:db8::3 dev w0 lladdr 02:00:00:00:00:03 nud permanent");
	for (unsigned v6 = 0; v6 < 2; v6++) {
		unsigned nb_second = 0;
		int frames = open_frames(rig);
		for (unsigned i = 0; i < NB_BEHIND; i++) {
			char text[NET_ADDR_TEXT];
			snprintf(text, sizeof(text), v6 ? "2001:db8:7::%u" : "10.7.0.%u", i + 1);
			targets[i] = watch(rig, text);
		}
		for (unsigned i = 0; i < NB_BEHIND; i++)
			expect_hop(rig, targets[i], SOON_MS, ROUTE_RESOLVED, NULL, NULL);
		turn(rig, 300);
		for (unsigned i = 0; i < NB_BEHIND; i++) {
			const struct route_hop *hop = route_target_hop(targets[i]);
			assert_int_equal(hop->state, ROUTE_RESOLVED);
			assert_int_equal(way_of_socket(rig, frames, targets[i]), hop->mac.bytes[5]);
			nb_second += hop->mac.bytes[5] == 3;
		}
		close(frames);
		assert_in_range(nb_second, 1, NB_BEHIND - 1);
	}
}

static void a_rule_that_names_the_source_holds(void **state) // E9
{
	struct rig *rig = *state;
	struct route_target *target;

	two_ways(rig);
	run(rig->near,
		"ip route add 10.9.0.0/16 via 192.0.2.3 table 7 &&"
		" ip rule add from 192.0.2.9 lookup 7");
	target = watch(rig, "10.9.1.1");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.3", FAR_MAC);
	// The kernel can't be asked about an address that nobody here has.
	run(rig->near, "ip addr del 192.0.2.9/24 dev w0");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.2", FAR_MAC);
	run(rig->near, "ip addr add 192.0.2.9/24 dev w0");
	expect_hop(rig, target, SOON_MS, ROUTE_RESOLVED, "192.0.2.3", FAR_MAC);
}

static bool was_unreachable;

static void note_unreachable(void *context, struct route_target *target)
{
	was_unreachable |= route_target_hop(target)->state == ROUTE_UNREACHABLE;
}

static void expect_behind(struct rig *rig, struct route_target *targets[NB_BEHIND],
	unsigned within_ms, const char *gateway, unsigned count)
{
	uint64_t end = clock_ms() + within_ms;

	while (count_behind(targets, gateway) != count) {
		if (clock_ms() >= end)
			fail_msg("%u behind %s", count_behind(targets, gateway), gateway);
		turn(rig, 5);
	}
}

/* One gateway ceases to answer: at once all targets go by the other, and back when it answers. */
static void a_way_that_fails_is_left(struct rig *rig, bool v6)
{
	const char *living = v6 ? "2001:db8::2" : "192.0.2.2";
	const char *dying = v6 ? "2001:db8::3" : "192.0.2.3";
	const char *prefix = v6 ? "/64" : "/24";
	struct route_target *targets[NB_BEHIND];

	route_destroy(rig->route);
	rig->route = route_create(rig->events, rig->near, "w0", note_unreachable, rig);
	two_ways(rig);
	watch_behind(rig, targets, v6);
	unsigned first = count_behind(targets, dying);
	assert_in_range(first, 1, NB_BEHIND - 1);
	assert_int_equal(count_behind(targets, living), NB_BEHIND - first);

	was_unreachable = false;
	run(rig->far, "ip addr del %s%s dev p0", dying, prefix);
	run(rig->near, "ip neigh change %s dev w0 nud failed", dying);
	expect_behind(rig, targets, SOON_MS, living, NB_BEHIND);
	assert_false(was_unreachable);
	// It stays so, whatever else changes: the kernel knows of it as a failed one.
	for (unsigned i = 0; i < 5; i++) {
		run(rig->near, "ip route replace 10.99.0.0/16 via 192.0.2.2");
		turn(rig, 250);
		assert_int_equal(count_behind(targets, living), NB_BEHIND);
	}
	run(rig->far, "ip addr add %s%s dev p0 %s", dying, prefix, v6 ? "nodad" : "");
	if (v6) // as when the kernel's own look, once a minute, finds it
		run(rig->near, "ip neigh replace %s dev w0 lladdr " FAR_MAC " nud reachable",
			dying);
	expect_behind(rig, targets, 2 * SOON_MS, dying, first);
	assert_int_equal(count_behind(targets, living), NB_BEHIND - first);
	assert_false(was_unreachable);
	for (unsigned i = 0; i < NB_BEHIND; i++)
		route_target_put(targets[i]);
	turn(rig, 50);
	if (!v6) // that one isn't ours yet
		assert_int_equal(kernel_state(rig, dying, NULL), 0);
}

static void a_way_of_ipv4_that_fails_is_left(void **state) // E9
{
	a_way_that_fails_is_left(*state, false);
}

static void a_way_of_ipv6_that_fails_is_left(void **state) // E9
{
	a_way_that_fails_is_left(*state, true);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(on_the_link_it_is_the_target_itself),
		TEST(behind_a_gateway_it_is_the_gateway),
		TEST(an_ipv6_gateway_serves_ipv4),
		TEST(ipv6_is_the_same),
		TEST(a_changed_mac_is_followed),
		TEST(all_neighbours_are_heard_of),
		TEST(a_silently_changed_mac_is_found),
		TEST(a_changed_route_is_followed),
		TEST(a_new_gateway_takes_over_without_a_gap),
		TEST(nobody_there_is_unreachable_until_he_comes),
		TEST(own_addresses_and_other_interfaces_are_local),
		TEST(a_static_neighbour_stays_the_operators),
		TEST(pinning_and_releasing_are_followed),
		TEST(a_flush_takes_no_mac_away),
		TEST(the_last_user_takes_the_entry_away),
		TEST(destroy_takes_all_entries_away),
		TEST(the_interface_may_go_down_and_come_back),
		TEST(the_interface_may_be_made_anew),
		TEST(watched_before_the_interface_is_there),
		TEST(many_targets_share_a_neighbour_and_block_nobody),
		TEST(lost_events_lead_to_a_resync),
		TEST(the_callback_may_get_and_put),
		TEST(an_entry_is_resolved_without_management_too),
		TEST(a_bound_socket_goes_where_its_target_says),
		TEST(a_rule_that_names_the_source_holds),
		TEST(a_way_of_ipv4_that_fails_is_left),
		TEST(a_way_of_ipv6_that_fails_is_left),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "skipped: namespaces need root\n");
		return 77;
	}
	if (!has_program("ip", "iproute2"))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
