/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * weir0 of the real kernel, with packets made by hand; the test plays the workers. All in a private
 * mount and network namespace with a /run of its own, so everything goes with the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <rte_arp.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_icmp.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

#include "clock.h"
#include "conf.h"
#include "dev.h"
#include "exception.h"
#include "exception_interface.h"
#include "exception_thread.h"
#include "netns.h"
#include "programs.h"

#define NB_MBUFS 4095
#define WEIR_ADDRESS 0xc000020a   // 192.0.2.10
#define CLIENT_ADDRESS 0xc0000214 // 192.0.2.20

static const struct rte_ether_addr client_mac = {{2, 0, 0, 0, 0, 0x20}};
static char netns_name[64];
static char message[DEV_MESSAGE];
static struct net_prefix addresses[3];
static struct conf conf;
static struct dev_port port;
static bool withdrawn[CONF_ADDRESSES_MAX];
static struct exception *exception;

static int setup(void **state)
{
	net_prefix_parse(&addresses[0], "192.0.2.10/24");
	net_prefix_parse(&addresses[1], "192.0.2.11/32");
	net_prefix_parse(&addresses[2], "2001:db8::10/64");
	conf = (struct conf){
		.port =
			{
				.addresses = addresses,
				.nb_addresses = 3,
				.netns = netns_name,
				.punt_limit = {[PUNT_ARP] = 1000,
					[PUNT_ND] = 1000,
					[PUNT_PROBE] = 20000,
					[PUNT_BACKEND] = 20000,
					[PUNT_REST] = 1000},
			},
	};
	net_addr_parse(&conf.port.gateway4, "192.0.2.1");
	net_addr_parse(&conf.port.gateway6, "2001:db8::1");
	port.nb_workers = 2;
	port.mtu = 1500;
	port.mac = (struct net_mac){{2, 0, 0, 0, 0, 0x10}};
	message[0] = '\0';
	memset(withdrawn, 0, sizeof(withdrawn));
	return 0;
}

/* IPv6's stack sends by itself, and some tests count. */
static void without_ipv6(void)
{
	conf.port.nb_addresses = 2;
	conf.port.gateway6.family = AF_UNSPEC;
}

/* After each: nothing left, and no buffer lost (invariant I2). */
static int teardown(void **state)
{
	exception_destroy(exception);
	exception = NULL;
	assert_int_equal(rte_mempool_avail_count(port.pool), NB_MBUFS);
	assert_int_equal(if_nametoindex(EXCEPTION_INTERFACE), 0);
	return 0;
}

static void create(void)
{
	exception = exception_create(&conf, &port, withdrawn, message);
	if (exception == NULL)
		fail_msg("%s", message);
}

static void start(void)
{
	create();
	assert_int_equal(exception_start(exception), 0);
}

static char *output(const char *format, ...)
{
	static char text[2][65536];
	static unsigned which;
	char command[512], *into = text[++which % 2];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	FILE *pipe = popen(command, "r");
	assert_non_null(pipe);
	into[fread(into, 1, sizeof(text[0]) - 1, pipe)] = '\0';
	pclose(pipe);
	return into;
}

static void must(const char *format, ...)
{
	char command[512];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

static struct rte_mbuf *make_frame(uint16_t type, bool broadcast, unsigned payload)
{
	struct rte_mbuf *mbuf = rte_pktmbuf_alloc(port.pool);

	assert_non_null(mbuf);
	struct rte_ether_hdr *ether =
		(void *)rte_pktmbuf_append(mbuf, sizeof(struct rte_ether_hdr) + payload);
	memset(ether, 0, sizeof(*ether) + payload);
	memset(&ether->dst_addr, 0xff, sizeof(ether->dst_addr));
	if (!broadcast)
		memcpy(&ether->dst_addr, &port.mac, sizeof(port.mac));
	ether->src_addr = client_mac;
	ether->ether_type = htons(type);
	return mbuf;
}

static struct rte_mbuf *make_arp_request(uint32_t target)
{
	struct rte_mbuf *mbuf = make_frame(RTE_ETHER_TYPE_ARP, true, sizeof(struct rte_arp_hdr));
	struct rte_arp_hdr *arp =
		rte_pktmbuf_mtod_offset(mbuf, void *, sizeof(struct rte_ether_hdr));

	arp->arp_hardware = htons(RTE_ARP_HRD_ETHER);
	arp->arp_protocol = htons(RTE_ETHER_TYPE_IPV4);
	arp->arp_hlen = 6;
	arp->arp_plen = 4;
	arp->arp_opcode = htons(RTE_ARP_OP_REQUEST);
	arp->arp_data.arp_sha = client_mac;
	arp->arp_data.arp_sip = htonl(CLIENT_ADDRESS);
	arp->arp_data.arp_tip = htonl(target);
	return mbuf;
}

/* An echo request of `size` bytes after the ICMP header; beyond one buffer it becomes a chain. */
static struct rte_mbuf *make_ping(unsigned size)
{
	static uint8_t data[9000];
	struct rte_mbuf *mbuf = make_frame(RTE_ETHER_TYPE_IPV4, false,
		sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_icmp_hdr));
	struct rte_ipv4_hdr *ip =
		rte_pktmbuf_mtod_offset(mbuf, void *, sizeof(struct rte_ether_hdr));
	struct rte_icmp_hdr *icmp = (void *)(ip + 1);

	ip->version_ihl = 0x45;
	ip->total_length = htons(sizeof(*ip) + sizeof(*icmp) + size);
	ip->time_to_live = 64;
	ip->next_proto_id = IPPROTO_ICMP;
	ip->src_addr = htonl(CLIENT_ADDRESS);
	ip->dst_addr = htonl(WEIR_ADDRESS);
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	icmp->icmp_type = ICMP_ECHO;
	icmp->icmp_ident = htons(7);

	for (unsigned i = 0; i < size; i++)
		data[i] = i / 251;
	icmp->icmp_cksum = 0;
	uint32_t sum = rte_raw_cksum(icmp, sizeof(*icmp)) + rte_raw_cksum(data, size);
	sum = (sum & 0xffff) + (sum >> 16);
	icmp->icmp_cksum = ~sum;

	for (unsigned done = 0; done < size;) {
		struct rte_mbuf *segment = rte_pktmbuf_lastseg(mbuf);
		unsigned part = RTE_MIN(size - done, (unsigned)rte_pktmbuf_tailroom(segment));
		if (part == 0) {
			struct rte_mbuf *next = rte_pktmbuf_alloc(port.pool);
			assert_non_null(next);
			assert_int_equal(rte_pktmbuf_chain(mbuf, next), 0);
			continue;
		}
		memcpy(rte_pktmbuf_append(mbuf, part), data + done, part);
		done += part;
	}
	return mbuf;
}

static void punt(unsigned worker, enum punt_class class, struct rte_mbuf *mbuf)
{
	assert_int_equal(exception_punt(exception, worker, class, &mbuf, 1), 1);
}

static bool is_arp_reply(const struct rte_mbuf *mbuf)
{
	const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, void *);
	const struct rte_arp_hdr *arp = (const void *)(ether + 1);

	return ether->ether_type == htons(RTE_ETHER_TYPE_ARP) &&
		arp->arp_opcode == htons(RTE_ARP_OP_REPLY);
}

static bool is_echo_reply(const struct rte_mbuf *mbuf)
{
	const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(mbuf, void *);
	const struct rte_ipv4_hdr *ip = (const void *)(ether + 1);
	const struct rte_icmp_hdr *icmp = (const void *)(ip + 1);

	return ether->ether_type == htons(RTE_ETHER_TYPE_IPV4) &&
		ip->next_proto_id == IPPROTO_ICMP && icmp->icmp_type == ICMP_ECHOREPLY;
}

/* What the thread has done so far. */
static struct exception_totals totals_now(void)
{
	struct exception_totals totals;

	exception_totals(exception, &totals);
	return totals;
}

/* The thread may be without a CPU for a while. */
#define WAIT_FOR(condition)                                                                        \
	for (uint64_t end_ms = clock_ms() + 10000; !(condition); usleep(1000))                     \
	assert_true(clock_ms() < end_ms)

/* The first such packet that comes out for any worker, or NULL; all others are freed. */
static struct rte_mbuf *receive(bool (*wanted)(const struct rte_mbuf *), unsigned timeout_ms)
{
	uint64_t deadline = clock_ms() + timeout_ms;
	struct rte_mbuf *found = NULL, *mbufs[8];

	while (found == NULL && clock_ms() < deadline) {
		for (unsigned worker = 0; worker < port.nb_workers; worker++) {
			unsigned nb = exception_rx(exception, worker, mbufs, RTE_DIM(mbufs));
			for (unsigned i = 0; i < nb; i++) {
				if (found == NULL && wanted(mbufs[i]))
					found = mbufs[i];
				else
					rte_pktmbuf_free(mbufs[i]);
			}
		}
		usleep(100);
	}
	return found;
}

static void test_arp_request_is_answered_with_the_ports_mac(void **state)
{
	start();
	for (unsigned worker = 0; worker < 2; worker++) {
		punt(worker, PUNT_ARP, make_arp_request(WEIR_ADDRESS + worker));
		struct rte_mbuf *reply = receive(is_arp_reply, 10000);
		assert_non_null(reply);
		const struct rte_ether_hdr *ether = rte_pktmbuf_mtod(reply, void *);
		const struct rte_arp_hdr *arp = (const void *)(ether + 1);
		assert_int_equal(reply->pkt_len, sizeof(*ether) + sizeof(*arp));
		assert_memory_equal(&ether->src_addr, &port.mac, 6);
		assert_memory_equal(&ether->dst_addr, &client_mac, 6);
		assert_memory_equal(&arp->arp_data.arp_sha, &port.mac, 6);
		assert_int_equal(arp->arp_data.arp_sip, htonl(WEIR_ADDRESS + worker));
		rte_pktmbuf_free(reply);
	}
	struct exception_totals totals;
	exception_totals(exception, &totals);
	assert_int_equal(totals.to_kernel[PUNT_ARP], 2);
	assert_in_range(totals.from_kernel, 2, 10);
	assert_int_equal(totals.from_kernel_lost, 0);
}

static void test_arp_for_other_addresses_is_not_answered(void **state)
{
	start();
	must("ip -n %s addr add 198.51.100.1/32 dev lo", netns_name);
	punt(0, PUNT_ARP, make_arp_request(0xc0000263)); // 192.0.2.99
	punt(0, PUNT_ARP, make_arp_request(0xc6336401)); // that of lo
	assert_null(receive(is_arp_reply, 300));
}

static void test_ping_is_answered(void **state)
{
	start();
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS)); // makes the client known
	punt(1, PUNT_REST, make_ping(56));
	struct rte_mbuf *reply = receive(is_echo_reply, 10000);
	assert_non_null(reply);
	assert_int_equal(reply->pkt_len, 98);
	rte_pktmbuf_free(reply);
}

static void test_packets_beyond_one_buffer_are_chains(void **state)
{
	port.mtu = 9000;
	start();
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
	static const unsigned sizes[] = {8972, 1500, 4300, 56};
	for (unsigned i = 0; i < RTE_DIM(sizes); i++) {
		punt(0, PUNT_REST, make_ping(sizes[i]));
		struct rte_mbuf *reply = receive(is_echo_reply, 10000);
		assert_non_null(reply);
		assert_int_equal(reply->pkt_len, 42 + sizes[i]);
		assert_int_equal(rte_mbuf_check(reply, 1, NULL), 0);
		assert_int_equal(reply->nb_segs, (42 + sizes[i]) / 2048 + 1);
		uint8_t last;
		last = *(const uint8_t *)rte_pktmbuf_read(reply, reply->pkt_len - 1, 1, &last);
		assert_int_equal(last, (uint8_t)((sizes[i] - 1) / 251));
		rte_pktmbuf_free(reply);
	}
}

/* Punt that many, one by one; what is refused is freed. How many were taken. */
static unsigned flood(enum punt_class class, unsigned packets)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < packets; i++) {
		struct rte_mbuf *mbuf = make_ping(56);
		unsigned nb = exception_punt(exception, 0, class, &mbuf, 1);
		if (nb == 0)
			rte_pktmbuf_free(mbuf);
		taken += nb;
	}
	return taken;
}

static void flood_holds_nothing_else_up(enum punt_class flooded)
{
	struct exception_totals totals;

	conf.port.punt_limit[flooded] = 500;
	start();
	uint64_t begin = clock_ms();
	unsigned taken = flood(flooded, 5000); // 10 times the limit of a second
	exception_totals(exception, &totals);
	unsigned elapsed_ms = clock_ms() - begin;
	// The burst (a tenth of a second), what the time since has earned, and a ring full.
	unsigned passed = 50 + elapsed_ms / 2 + 2;
	assert_true(taken <= passed + 255);
	assert_true(taken >= 255);
	assert_true(totals.to_kernel[flooded] <= passed);

	for (unsigned i = 0; i < 20; i++) {
		punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
		punt(0, PUNT_BACKEND, make_ping(8));
	}
	WAIT_FOR(totals_now().to_kernel[PUNT_ARP] == 20 &&
		totals_now().to_kernel[PUNT_BACKEND] == 20);
	totals = totals_now();
	if (clock_ms() - begin < 400) // it takes the others half a second
		assert_true(totals.to_kernel[flooded] < taken);

	// What waits passes by itself, at the rate.
	WAIT_FOR(totals_now().to_kernel[flooded] == taken);
	assert_int_equal(totals_now().refused[flooded], 0);
}

static void test_flood_of_the_rest_holds_nothing_else_up(void **state)
{
	flood_holds_nothing_else_up(PUNT_REST);
}

static void test_flood_of_neighbour_discovery_holds_nothing_else_up(void **state) // W13
{
	flood_holds_nothing_else_up(PUNT_ND);
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec time;
	clockid_t clock;

	assert_int_equal(pthread_getcpuclockid(exception->thread, &clock), 0);
	clock_gettime(clock, &time);
	return (uint64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static bool never(const struct rte_mbuf *mbuf)
{
	return false;
}

static void test_idle_thread_sleeps(void **state)
{
	without_ipv6();
	start();
	receive(never, 200);
	uint64_t before, tries = 0;
	do {
		assert_in_range(tries++, 0, 10); // what it does at the start may take a while
		before = thread_cpu_ns();
		usleep(500000);
	} while (thread_cpu_ns() != before);
	assert_int_equal(atomic_load(&exception->sleeping), EXCEPTION_ALL_CLASSES);
}

static void test_thread_without_credit_sleeps_too(void **state)
{
	conf.port.punt_limit[PUNT_REST] = 1;
	start();
	flood(PUNT_REST, 500);
	receive(never, 200);
	assert_int_equal(
		atomic_load(&exception->sleeping), EXCEPTION_ALL_CLASSES & ~(1u << PUNT_REST));
	uint64_t before = thread_cpu_ns();
	flood(PUNT_REST, 500);
	receive(never, 200);
	assert_in_range(thread_cpu_ns() - before, 0, 20000000);
}

/* The eventfd's count; it is 0 afterwards. */
static uint64_t wake_ups(void)
{
	uint64_t events;

	return read(exception->event_fd, &events, sizeof(events)) < 0 ? 0 : events;
}

static void test_eventfd_is_written_only_for_a_sleeper(void **state)
{
	create(); // no thread: the test plays it
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
	assert_int_equal(wake_ups(), 0);

	atomic_store(&exception->sleeping, 1u << PUNT_ARP);
	punt(0, PUNT_REST, make_ping(8)); // without credit: not waited for
	assert_int_equal(wake_ups(), 0);
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
	assert_int_equal(wake_ups(), 1);
	punt(1, PUNT_ARP, make_arp_request(WEIR_ADDRESS)); // it is being woken
	assert_int_equal(wake_ups(), 0);

	atomic_store(&exception->sleeping, EXCEPTION_ALL_CLASSES);
	while (flood(PUNT_REST, 1) == 1)
		;
	wake_ups();
	atomic_store(&exception->sleeping, EXCEPTION_ALL_CLASSES);
	assert_int_equal(flood(PUNT_REST, 1), 0);
	assert_int_equal(wake_ups(), 0); // nothing was taken
}

static void test_no_wake_up_is_lost(void **state)
{
	cpu_set_t cpus;

	conf.port.punt_limit[PUNT_ARP] = 10000000;
	start();
	// On another CPU than the test, where there is one: at the same time as it.
	memset(&cpus, 0xff, sizeof(cpus));
	CPU_CLR(sched_getcpu(), &cpus);
	pthread_setaffinity_np(exception->thread, sizeof(cpus), &cpus);
	for (unsigned i = 1; i <= 20000; i++) {
		struct exception_totals totals;
		punt(i % 2, PUNT_ARP, make_arp_request(0xc0000263));
		uint64_t begin = clock_ms();
		do {
			exception_totals(exception, &totals);
			assert_true(clock_ms() - begin < 5000);
		} while (totals.to_kernel[PUNT_ARP] + totals.refused[PUNT_ARP] < i);
	}
}

static void test_workers_that_do_not_read_cost_no_more_than_their_ring(void **state)
{
	struct exception_totals totals;

	without_ipv6();
	start();
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
	for (unsigned sent = 0; sent < 1500;) {
		sent += flood(PUNT_BACKEND, 1);
		if (sent % 100 == 0)
			usleep(1000);
	}
	WAIT_FOR(totals_now().from_kernel_lost > 400);
	usleep(200000);
	totals = totals_now();
	assert_true(totals.from_kernel <= 2 * 511);
	assert_int_equal(NB_MBUFS - rte_mempool_avail_count(port.pool), totals.from_kernel);
}

static void test_no_buffers_for_the_kernels_packets(void **state)
{
	static struct rte_mbuf *all[NB_MBUFS];
	unsigned nb = 0;

	start();
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
	receive(never, 200);
	struct rte_mbuf *ping = make_ping(56);
	// The ping's own buffer must not be free for its answer: it is held twice.
	rte_mbuf_refcnt_update(ping, 1);
	while (nb < NB_MBUFS && (all[nb] = rte_pktmbuf_alloc(port.pool)) != NULL)
		nb++;
	uint64_t lost = totals_now().from_kernel_lost;
	punt(0, PUNT_BACKEND, ping);
	WAIT_FOR(totals_now().from_kernel_lost > lost);
	uint64_t before = thread_cpu_ns();
	usleep(200000);
	assert_in_range(thread_cpu_ns() - before, 0, 20000000);

	rte_pktmbuf_free_bulk(all, nb);
	punt(0, PUNT_BACKEND, make_ping(56));
	struct rte_mbuf *reply = receive(is_echo_reply, 10000);
	assert_non_null(reply);
	rte_pktmbuf_free(reply);
	rte_pktmbuf_free(ping);
}

static void test_deleted_weir0_does_not_keep_the_thread_busy(void **state)
{
	start();
	must("ip -n %s link del weir0", netns_name);
	usleep(100000);
	uint64_t before = thread_cpu_ns();
	usleep(200000);
	assert_in_range(thread_cpu_ns() - before, 0, 20000000);
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
	WAIT_FOR(totals_now().refused[PUNT_ARP] == 1);
}

static void assert_setting(const char *key, const char *value)
{
	char *text = output("ip netns exec %s cat /proc/sys/net/%s", netns_name, key);

	text[strcspn(text, "\n")] = '\0';
	if (strcmp(text, value) != 0)
		fail_msg("%s is %s, not %s", key, text, value);
}

static void test_weir0_is_set_up(void **state)
{
	must("sysctl -qw net.ipv4.conf.all.rp_filter=2");
	port.mtu = 1400;
	create();
	char *link = output("ip -n %s link show weir0", netns_name);
	assert_non_null(strstr(link, "mtu 1400"));
	assert_non_null(strstr(link, "02:00:00:00:00:10"));
	assert_non_null(strstr(link, "LOWER_UP"));
	char *text = output("ip -n %s addr show", netns_name);
	assert_non_null(strstr(text, "inet 127.0.0.1/8"));
	assert_non_null(strstr(text, "inet 192.0.2.10/24"));
	assert_non_null(strstr(text, "inet 192.0.2.11/32"));
	assert_non_null(strstr(text, "inet6 2001:db8::10/64"));
	assert_null(strstr(text, "tentative"));
	text = output("ip -n %s route; ip -n %s -6 route", netns_name, netns_name);
	assert_non_null(strstr(text, "default via 192.0.2.1 dev weir0"));
	assert_non_null(strstr(text, "default via 2001:db8::1 dev weir0"));
	assert_setting("ipv4/ip_forward", "0");
	assert_setting("ipv4/conf/all/rp_filter", "0");
	assert_setting("ipv4/conf/weir0/rp_filter", "0");
	assert_setting("ipv4/conf/weir0/arp_ignore", "1");
	assert_setting("ipv6/conf/weir0/accept_ra", "0");
	assert_setting("ipv6/conf/weir0/disable_ipv6", "0");
	assert_setting("ipv6/conf/all/forwarding", "0");
}

/* E4, E5: all of it, and but once. */
static void test_what_was_taken_from_weir0_is_put_back(void **state)
{
	static const char *const thefts[] = {"link set weir0 down", "addr flush dev weir0",
		"route del default", "-6 route del default", "addr del 192.0.2.11/32 dev weir0"};

	create();
	for (unsigned i = 0; i < sizeof(thefts) / sizeof(thefts[0]); i++) {
		must("ip -n %s %s", netns_name, thefts[i]);
		assert_int_equal(exception_mend(exception, &conf.port, withdrawn), 0);
		assert_int_equal(exception_state(exception), EXCEPTION_UP);
		char *text = output("ip -n %s addr show dev weir0", netns_name);
		assert_non_null(strstr(text, "inet 192.0.2.10/24"));
		assert_non_null(strstr(text, "inet 192.0.2.11/32"));
		assert_non_null(strstr(text, "inet6 2001:db8::10/64"));
		text = output("ip -n %s route; ip -n %s -6 route", netns_name, netns_name);
		assert_non_null(strstr(text, "default via 192.0.2.1 dev weir0"));
		assert_non_null(strstr(text, "default via 2001:db8::1 dev weir0"));
	}
	// What weir itself took away stays away.
	withdrawn[1] = true;
	must("ip -n %s addr del 192.0.2.11/32 dev weir0", netns_name);
	assert_int_equal(exception_mend(exception, &conf.port, withdrawn), 0);
	assert_null(strstr(output("ip -n %s addr show dev weir0", netns_name), "192.0.2.11"));
	assert_true(exception_netns_is_named(exception));
	must("ip -n %s link del weir0", netns_name);
	assert_int_equal(exception_state(exception), EXCEPTION_GONE);
	must("ip -n %s link add weir0 type bridge", netns_name); // another one of the name
	assert_int_equal(exception_state(exception), EXCEPTION_GONE);
	must("ip -n %s link del weir0", netns_name);
}

static void test_without_an_ipv6_address_ipv6_is_off(void **state)
{
	without_ipv6();
	create();
	assert_setting("ipv6/conf/weir0/disable_ipv6", "1");
	assert_null(strstr(output("ip -n %s addr show dev weir0", netns_name), "inet6"));
}

static void test_mtu_below_ipv6s_minimum(void **state)
{
	without_ipv6();
	port.mtu = 576;
	create();
	assert_non_null(strstr(output("ip -n %s link show weir0", netns_name), "mtu 576"));
}

static void test_local_port_range_is_that_of_the_namespace(void **state)
{
	uint16_t first, last;

	create();
	must("ip netns exec %s sysctl -qw 'net.ipv4.ip_local_port_range=40000 50001'", netns_name);
	assert_int_equal(exception_local_port_range(exception, &first, &last), 0);
	assert_int_equal(first, 40000);
	assert_int_equal(last, 50001);
	assert_true(exception_netns(exception) >= 0);
}

#define SNAPSHOT                                                                                   \
	"ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; "               \
	"ip addr; nft list ruleset; readlink /proc/self/ns/net; "                                  \
	"sysctl -a --pattern '^net\\.ipv[46]\\.(conf|ip_forward)' 2>/dev/null"

static void test_callers_namespace_is_untouched(void **state)
{
	char *before = strdup(output(SNAPSHOT));

	start();
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
	assert_string_equal(output(SNAPSHOT), before);
	exception_destroy(exception);
	exception = NULL;
	assert_string_equal(output(SNAPSHOT), before);
	assert_string_equal(output("ip netns list; ls /run/weir"), "");
	free(before);
}

static void test_in_the_hosts_namespace_no_default_route_is_set(void **state)
{
	const char *settings = "sysctl -a --pattern '^net\\.ipv[46]\\.conf\\.(all|default|lo)'";
	char *before = strdup(output("%s", settings));

	conf.port.netns = "";
	create();
	assert_int_equal(exception_netns(exception), -1);
	assert_string_equal(output("ip route show default; ip -6 route show default"), "");
	assert_non_null(strstr(output("ip addr show weir0"), "192.0.2.10/24"));
	assert_string_equal(output("%s", settings), before);
	assert_string_equal(output("ip netns list"), "");
	free(before);
}

static void test_second_process_is_refused(void **state)
{
	start();
	struct exception *second = exception_create(&conf, &port, withdrawn, message);
	assert_null(second);
	assert_int_equal(errno, EBUSY);
	assert_non_null(strstr(message, "weir0"));
	assert_non_null(strstr(message, "another process"));
	// The first one doesn't notice.
	punt(0, PUNT_ARP, make_arp_request(WEIR_ADDRESS));
	struct rte_mbuf *reply = receive(is_arp_reply, 1000);
	assert_non_null(reply);
	rte_pktmbuf_free(reply);
	assert_non_null(strstr(output("ip netns list"), netns_name));
}

static void test_namespace_of_a_killed_run_is_taken_over_and_removed(void **state)
{
	pid_t child = fork();

	if (child == 0) {
		struct exception_namespace ns;
		bool taken_over;
		if (exception_namespace_open(&ns, netns_name, message) == 0 &&
			netns_enter(ns.fd) >= 0)
			exception_interface_open(false, &taken_over, message);
		kill(getpid(), SIGKILL);
	}
	waitpid(child, NULL, 0);
	assert_non_null(strstr(output("ip netns list"), netns_name));
	create();
	exception_destroy(exception);
	exception = NULL;
	assert_string_equal(output("ip netns list; ls /run/netns"), "");
}

/* It had a file for a mark; and the mark in the namespace holds without one (E27). */
static void test_namespace_of_an_earlier_weir_is_removed(void **state)
{
	struct exception_namespace ns;

	must("ip netns add %s", netns_name);
	must("mkdir -p /run/weir; stat -L -c %%i /run/netns/%s > /run/weir/%s.netns", netns_name,
		netns_name);
	assert_int_equal(exception_namespace_open(&ns, netns_name, message), 0);
	assert_true(ns.ours);
	exception_namespace_close(&ns, false);
	must("rm /run/weir/%s.netns", netns_name);
	create();
	exception_destroy(exception);
	exception = NULL;
	assert_string_equal(output("ls /run/netns"), "");
}

static void test_namespace_of_somebody_else_is_kept(void **state)
{
	must("ip netns add %s", netns_name);
	must("ip netns exec %s sysctl -qw net.ipv4.ip_forward=1", netns_name);
	create();
	assert_non_null(strstr(output("ip -n %s addr", netns_name), "192.0.2.10/24"));
	assert_setting("ipv4/ip_forward", "1");
	assert_setting("ipv4/conf/weir0/forwarding", "0");
	exception_destroy(exception);
	exception = NULL;
	assert_non_null(strstr(output("ip netns list"), netns_name));
	assert_null(strstr(output("ip -n %s link", netns_name), "weir0"));
	must("ip netns del %s", netns_name);
}

static void test_default_route_of_somebody_else_is_kept(void **state)
{
	must("ip netns add %s", netns_name);
	must("ip -n %s link set lo up", netns_name);
	must("ip -n %s route add default dev lo", netns_name);
	create();
	assert_string_equal(
		output("ip -n %s route show default", netns_name), "default dev lo scope link \n");
	exception_destroy(exception);
	exception = NULL;
	must("ip netns del %s", netns_name);
}

static void test_left_over_file_without_a_namespace_is_replaced(void **state)
{
	must("mkdir -p /run/netns && touch /run/netns/%s", netns_name);
	create();
	exception_destroy(exception);
	exception = NULL;
	assert_string_equal(output("ls /run/netns"), "");
}

static void test_persistent_left_over_is_replaced(void **state)
{
	must("ip netns add %s", netns_name);
	must("ip -n %s tuntap add weir0 mode tap", netns_name);
	must("ip -n %s addr add 203.0.113.1/24 dev weir0", netns_name);
	create();
	assert_null(strstr(output("ip -n %s addr", netns_name), "203.0.113.1"));
	exception_destroy(exception);
	exception = NULL;
	assert_null(strstr(output("ip -n %s link", netns_name), "weir0"));
	must("ip netns del %s", netns_name);
}

static void test_device_of_another_kind_is_refused(void **state)
{
	must("ip netns add %s", netns_name);
	must("ip -n %s link add weir0 type veth peer name other", netns_name);
	assert_null(exception_create(&conf, &port, withdrawn, message));
	assert_non_null(strstr(message, "another kind"));
	must("ip netns del %s", netns_name);
}

static void test_failures_leave_nothing(void **state)
{
	net_addr_parse(&conf.port.gateway4, "192.0.2.10"); // weir0's own
	assert_null(exception_create(&conf, &port, withdrawn, message));
	assert_int_equal(errno, EINVAL);
	assert_non_null(strstr(message, "192.0.2.10"));
	assert_string_equal(output("ls /run/netns"), "");

	setup(state);
	addresses[1] = addresses[0];
	assert_null(exception_create(&conf, &port, withdrawn, message));
	assert_int_equal(errno, EEXIST);
	assert_non_null(strstr(message, "192.0.2.10/24"));

	setup(state);
	port.mac.bytes[0] = 1; // a group address
	assert_null(exception_create(&conf, &port, withdrawn, message));
	assert_non_null(strstr(message, "MAC 01:"));

	setup(state);
	conf.port.netns = "../x";
	assert_null(exception_create(&conf, &port, withdrawn, message));
	assert_int_equal(errno, EINVAL);
	assert_string_equal(output("ls /run/netns"), "");
}

/* weir0 and the rest in a namespace of the test's own. 77 = it may not. */
static int prepare(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
		mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0 ||
		access("/dev/net/tun", R_OK | W_OK) < 0)
		return 77;
	if (!has_program("ip", "iproute2") || !has_program("nft", "nftables") ||
		system("ip link set lo up") != 0)
		return 1;
	char lcores[32];
	snprintf(lcores, sizeof(lcores), "--lcores=0@%d", sched_getcpu());
	snprintf(netns_name, sizeof(netns_name), "weir-ut-%d", getpid());
	char *args[] = {"test", "--no-huge", "--no-pci", "-m", "128", "--no-shconf",
		"--no-telemetry", "--log-level=error", lcores, NULL};
	if (rte_eal_init(RTE_DIM(args) - 1, args) < 0)
		return 1;
	port.pool = rte_pktmbuf_pool_create(
		"test", NB_MBUFS, 32, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	return port.pool == NULL;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_arp_request_is_answered_with_the_ports_mac),
		TEST(test_arp_for_other_addresses_is_not_answered),
		TEST(test_ping_is_answered),
		TEST(test_packets_beyond_one_buffer_are_chains),
		TEST(test_flood_of_the_rest_holds_nothing_else_up),
		TEST(test_flood_of_neighbour_discovery_holds_nothing_else_up),
		TEST(test_idle_thread_sleeps),
		TEST(test_thread_without_credit_sleeps_too),
		TEST(test_eventfd_is_written_only_for_a_sleeper),
		TEST(test_no_wake_up_is_lost),
		TEST(test_workers_that_do_not_read_cost_no_more_than_their_ring),
		TEST(test_no_buffers_for_the_kernels_packets),
		TEST(test_deleted_weir0_does_not_keep_the_thread_busy),
		TEST(test_weir0_is_set_up),
		TEST(test_what_was_taken_from_weir0_is_put_back),
		TEST(test_without_an_ipv6_address_ipv6_is_off),
		TEST(test_mtu_below_ipv6s_minimum),
		TEST(test_local_port_range_is_that_of_the_namespace),
		TEST(test_callers_namespace_is_untouched),
		TEST(test_in_the_hosts_namespace_no_default_route_is_set),
		TEST(test_second_process_is_refused),
		TEST(test_namespace_of_a_killed_run_is_taken_over_and_removed),
		TEST(test_namespace_of_an_earlier_weir_is_removed),
		TEST(test_namespace_of_somebody_else_is_kept),
		TEST(test_default_route_of_somebody_else_is_kept),
		TEST(test_left_over_file_without_a_namespace_is_replaced),
		TEST(test_persistent_left_over_is_replaced),
		TEST(test_device_of_another_kind_is_refused),
		TEST(test_failures_leave_nothing),
	};
	int unable = prepare();

	if (unable != 0)
		return unable;
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	rte_eal_cleanup();
	return failed;
}
