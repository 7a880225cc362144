/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Real ports, without a NIC: DPDK's null and ring devices, a TAP, and veth pairs by AF_PACKET and
 * AF_XDP. EAL starts once per process, so each case is a child, in a network namespace of its own
 * that goes with it. Needs root.
 */
#include <errno.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <linux/if_packet.h>
#include <arpa/inet.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "conf.h"
#include "dev.h"
#include "programs.h"

#define SKIPPED 77

// What a child found wrong, in memory that it shares with the test.
static char *failure;

#define EXPECT(condition, ...)                                                                     \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			snprintf(failure, DEV_MESSAGE, #condition ": " __VA_ARGS__);               \
			return false;                                                              \
		}                                                                                  \
	} while (0)

static void run(const char *command)
{
	if (system(command) != 0)
		fprintf(stderr, "failed: %s\n", command);
}

/* A child that runs the case in a namespace of its own. */
static pid_t start(bool (*body)(void *), void *context)
{
	failure[0] = '\0';
	pid_t pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0)
			_exit(SKIPPED);
		_exit(body(context) ? 0 : 1);
	}
	return pid;
}

static void finish(pid_t pid)
{
	int status;
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
		skip();
	if (status != 0)
		fail_msg("child: status %#x, %s", status, failure);
}

static void in_child(bool (*body)(void *), void *context)
{
	finish(start(body, context));
}

/* One port on few resources; its name in the run-time directory tells it from a real Weir's. */
static struct conf conf_of(char *device, unsigned nb_workers)
{
	static char instance[16];
	snprintf(instance, sizeof(instance), "t%d", getpid());
	struct conf conf = {
		.instance = instance,
		.port = {.device = device},
		.cores = {.control = -1, .nb_workers = nb_workers},
	};
	cpu_set_t allowed;
	sched_getaffinity(0, sizeof(allowed), &allowed);
	unsigned cpu = 0;
	while (!CPU_ISSET(cpu, &allowed))
		cpu++;
	for (unsigned w = 0; w < nb_workers; w++)
		conf.cores.workers[w] = cpu;
	return conf;
}

struct port_case {
	char *device;
	enum conf_driver driver;
	unsigned nb_workers;
	unsigned mtu; // 0 = the link's
};

static bool nothing_is_left(const struct conf *conf)
{
	char name[80], path[128];
	struct stat found;
	snprintf(path, sizeof(path), "/var/run/dpdk/%s", dev_instance_name(conf, name));
	return stat(path, &found) < 0;
}

static bool opens(void *context)
{
	const struct port_case *row = context;
	struct conf conf = conf_of(row->device, row->nb_workers);
	char message[DEV_MESSAGE] = "";
	struct dev_port port;

	EXPECT(dev_eal_init(&conf, 0, NULL, message) == 0, "%s", message);
	EXPECT(dev_port_open(&port, &conf, message) == 0, "%s", message);
	EXPECT(port.nb_workers == row->nb_workers, "%u", port.nb_workers);
	EXPECT(port.worker_lcore[0] == 1, "%u", port.worker_lcore[0]);
	EXPECT(port.mtu == 1500, "%u", port.mtu);
	bool null = strncmp(row->device, "net_null", 8) == 0;
	EXPECT(port.rss == (row->nb_workers > 1), "%d", port.rss); // both that can state it
	EXPECT(dev_port_start(&port, message) == 0, "%s", message);
	EXPECT(dev_port_link_up(&port), "down");
	for (unsigned q = 0; q < row->nb_workers; q++) {
		struct rte_mbuf *mbufs[32];
		unsigned count = rte_eth_rx_burst(port.port_id, q, mbufs, 32);
		EXPECT(count == 32 || !null, "%u", count); // the kernel may talk to a tap
		unsigned sent = rte_eth_tx_burst(port.port_id, q, mbufs, count);
		EXPECT(sent == count, "%u", sent);
	}
	struct dev_port_stats stats;
	dev_port_stats(&port, &stats);
	EXPECT(stats.ipackets == stats.opackets, "%lu %lu", stats.ipackets, stats.opackets);
	dev_port_close(&port);
	dev_eal_fini();
	EXPECT(nothing_is_left(&conf), "EAL's files");
	return true;
}

static void null_port_with_one_and_two_queues(void **state)
{
	in_child(opens, &(struct port_case){"net_null0", .nb_workers = 1});
	in_child(opens, &(struct port_case){"net_null0", .nb_workers = 2});
}

/* What the device has, asked past the module, is what rss_table says: a key of Weir's own. (F1) */
static bool rss_is_set(void *context)
{
	struct conf conf = conf_of("net_null0", 2);
	char message[DEV_MESSAGE] = "";
	struct dev_port port;
	uint8_t theirs[RSS_KEY_MAX] = {0};
	struct rte_eth_rss_conf rss = {.rss_key = theirs, .rss_key_len = RSS_KEY_MIN};
	struct rte_eth_rss_reta_entry64 groups[2] = {{.mask = ~0ull}, {.mask = ~0ull}};

	EXPECT(dev_eal_init(&conf, 0, NULL, message) == 0, "%s", message);
	EXPECT(rte_eth_dev_rss_hash_conf_get(0, &rss) == 0, "before");
	EXPECT(dev_port_open(&port, &conf, message) == 0, "%s", message);
	const struct dev_rss *table = &port.rss_table;
	EXPECT(table->known && table->ip4 && table->ip6 && table->key_size == 40, "%u",
		table->key_size);
	EXPECT(memcmp(theirs, table->key, 40) != 0, "the driver's key");
	struct dev_rss chosen = *table;
	EXPECT(dev_port_start(&port, message) == 0, "%s", message);
	// NOLINTNEXTLINE(bugprone-suspicious-memory-comparison): padding and all
	EXPECT(memcmp(&chosen, table, sizeof(chosen)) == 0, "start changes it");
	EXPECT(rte_eth_dev_rss_hash_conf_get(port.port_id, &rss) == 0, "after");
	EXPECT(memcmp(theirs, table->key, 40) == 0, "not set");
	EXPECT(table->reta_size == 128, "%u", table->reta_size);
	EXPECT(rte_eth_dev_rss_reta_query(port.port_id, groups, 128) == 0, "query");
	for (unsigned i = 0; i < 128; i++) {
		unsigned set = groups[i / 64].reta[i - i / 64 * 64], half = i & 1;
		EXPECT(set == half, "%u", i);
		EXPECT(table->queue[i] == half, "%u", i);
	}
	dev_port_close(&port);
	dev_eal_fini();
	return true;
}

static bool rss_is_unknown(void *context)
{
	struct conf conf = conf_of("net_tap0,iface=weirtap", 2); // which has no table
	char message[DEV_MESSAGE] = "";
	struct dev_port port;

	EXPECT(dev_eal_init(&conf, 0, NULL, message) == 0, "%s", message);
	EXPECT(dev_port_open(&port, &conf, message) == 0, "%s", message);
	EXPECT(port.rss && !port.rss_table.known, "%d", port.rss);
	dev_port_close(&port);
	dev_eal_fini();
	return true;
}

static void rss_key_and_table_are_set_where_the_driver_has_them(void **state)
{
	in_child(rss_is_set, NULL);
	in_child(rss_is_unknown, NULL);
}

static void ring_and_tap_ports(void **state)
{
	in_child(opens, &(struct port_case){"net_ring0", .nb_workers = 1});
	in_child(opens, &(struct port_case){"net_tap0,iface=weirtap", .nb_workers = 2});
}

/* UDP packets of 100 flows from the other end of the pair. */
static void send_from_peer(unsigned count, unsigned bytes)
{
	static const char data[9000];
	for (unsigned i = 0; i < count; i++) {
		int fd = socket(AF_INET, SOCK_DGRAM, 0);
		struct sockaddr_in from = {AF_INET, htons(20000 + i % 100), {htonl(0x0a636301)}};
		struct sockaddr_in to = {AF_INET, htons(7), {htonl(0x0a636302)}};
		(void)bind(fd, (struct sockaddr *)&from, sizeof(from));
		sendto(fd, data, bytes, 0, (struct sockaddr *)&to, sizeof(to));
		close(fd);
	}
}

/* Receives on all queues until `count` UDP packets came or 3 s have passed; sends each one back. */
static unsigned echo(const struct dev_port *port, unsigned count, unsigned *per_queue)
{
	unsigned received = 0;
	time_t end = time(NULL) + 3;
	while (received < count && time(NULL) <= end) {
		for (unsigned q = 0; q < port->nb_workers; q++) {
			struct rte_mbuf *mbufs[32];
			unsigned n = rte_eth_rx_burst(port->port_id, q, mbufs, 32);
			for (unsigned i = 0; i < n; i++) {
				const uint8_t *frame = rte_pktmbuf_mtod(mbufs[i], uint8_t *);
				if (frame[12] == 0x08 && frame[23] == IPPROTO_UDP) {
					received++;
					per_queue[q]++;
				}
			}
			unsigned sent = rte_eth_tx_burst(port->port_id, q, mbufs, n);
			rte_pktmbuf_free_bulk(mbufs + sent, n - sent);
		}
	}
	return received;
}

static int flags_of(const char *interface)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
	int failed = ioctl(fd, SIOCGIFFLAGS, &ifr);
	close(fd);
	return failed ? -1 : ifr.ifr_flags;
}

static unsigned mtu_of(const char *interface)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
	int failed = ioctl(fd, SIOCGIFMTU, &ifr);
	close(fd);
	return failed ? 0 : ifr.ifr_mtu;
}

/* The pair weira (the port) and weirb, which knows the port's MAC by a fixed entry. */
static void make_pair(unsigned queues)
{
	char command[512];
	snprintf(command, sizeof(command),
		"ip link add weira address 02:00:00:00:00:0a numtxqueues %u numrxqueues %u "
		"type veth peer name weirb numtxqueues %u numrxqueues %u && "
		"ip link set weirb up && ip addr add 10.99.99.1/24 dev weirb && "
		"ip neigh add 10.99.99.2 lladdr 02:00:00:00:00:0a dev weirb && "
		"ip link set lo up",
		queues, queues, queues, queues);
	run(command);
}

static unsigned long peer_received(void)
{
	unsigned long count = 0;
	FILE *file = popen("ip -s link show weirb | awk '/RX:/ {getline; print $2}'", "r");
	if (file == NULL || fscanf(file, "%lu", &count) != 1)
		count = 0;
	if (file != NULL)
		pclose(file);
	return count;
}

static void find_end(struct rte_mempool *pool, void *end, void *object, unsigned index)
{
	if ((char *)object + pool->elt_size + pool->trailer_size > *(char **)end)
		*(char **)end = (char *)object + pool->elt_size + pool->trailer_size;
}

/* net_af_xdp shares so many bytes of the pool with the kernel: none may lie beyond. */
static bool pool_has_no_gaps(struct rte_mempool *pool)
{
	size_t size = pool->header_size + pool->elt_size + pool->trailer_size;
	char *first = STAILQ_FIRST(&pool->mem_list)->addr, *end = NULL;
	rte_mempool_obj_iter(pool, find_end, &end);
	return end <= first + pool->populated_size * size;
}

static bool carries_over(const struct port_case *row)
{
	struct conf conf = conf_of("weira", row->nb_workers);
	conf.port.driver = row->driver;
	conf.port.mtu = row->mtu;
	char message[DEV_MESSAGE] = "";
	struct dev_port port;

	EXPECT(dev_eal_init(&conf, 0, NULL, message) == 0, "%s", message);
	EXPECT(strcmp(dev_eal_interface(), "weira") == 0, "%s", dev_eal_interface());
	EXPECT((flags_of("weira") & IFF_UP) == 0, "up before it can be made mute");
	EXPECT(dev_port_open(&port, &conf, message) == 0, "%s", message);
	EXPECT(strcmp(port.interface, "weira") == 0, "%s", port.interface);
	EXPECT(port.mac.bytes[0] == 2 && port.mac.bytes[5] == 10, "MAC");
	EXPECT(row->driver == CONF_DRIVER_AF_PACKET || pool_has_no_gaps(port.pool), "gaps");
	EXPECT(dev_port_start(&port, message) == 0, "%s", message);

	unsigned per_queue[2] = {0};
	send_from_peer(500, row->mtu != 0 ? row->mtu - 28 : 4);
	EXPECT(echo(&port, 500, per_queue) == 500, "%u + %u", per_queue[0], per_queue[1]);
	EXPECT(row->nb_workers == 1 || per_queue[1] > 0, "nothing on queue 1");
	EXPECT(peer_received() >= 500, "%lu came back", peer_received());
	EXPECT(port.mtu == mtu_of("weira"), "%u, %u", port.mtu, mtu_of("weira"));
	EXPECT(dev_port_link_up(&port), "down");
	run("ip link set weirb down");
	// The kernel follows the carrier at its leisure.
	for (unsigned i = 0; i < 200 && dev_port_link_up(&port); i++)
		usleep(10000);
	EXPECT(!dev_port_link_up(&port), "up with the peer down");

	dev_port_close(&port);
	EXPECT((flags_of("weira") & (IFF_UP | IFF_ALLMULTI)) == 0, "flags are not as before");
	EXPECT(mtu_of("weira") == 1500, "%u", mtu_of("weira"));
	dev_eal_fini();
	EXPECT(nothing_is_left(&conf), "EAL's files");
	return true;
}

static bool carries(void *context)
{
	const struct port_case *row = context;
	make_pair(row->nb_workers);
	char command[64];
	snprintf(command, sizeof(command), "ip link set weirb mtu %u", row->mtu);
	if (row->mtu != 0)
		run(command);
	return carries_over(row);
}

static void af_packet_on_a_veth(void **state)
{
	in_child(carries, &(struct port_case){.driver = CONF_DRIVER_AF_PACKET, .nb_workers = 1});
	in_child(carries, &(struct port_case){.driver = CONF_DRIVER_AF_PACKET, .nb_workers = 2});
}

static void af_xdp_on_a_veth(void **state)
{
	in_child(carries, &(struct port_case){.nb_workers = 1});
	in_child(carries, &(struct port_case){.nb_workers = 2});
}

struct holder {
	enum conf_driver driver;
	int fd; // written to when the port is open
};

static bool holds_a_port(void *context)
{
	const struct holder *holder = context;
	struct conf conf = conf_of("weira", 1);
	conf.port.driver = holder->driver;
	char message[DEV_MESSAGE] = "", byte = 0;
	struct dev_port port;
	bool opened = dev_eal_init(&conf, 0, NULL, message) == 0 &&
		dev_port_open(&port, &conf, message) == 0 && dev_port_start(&port, message) == 0;
	if (write(holder->fd, &byte, 1) != 1 || !opened) {
		snprintf(failure, DEV_MESSAGE, "%s", message);
		return false;
	}
	pause(); // until it is killed
	return true;
}

static bool makes_pair_and_holds_a_port(void *context)
{
	make_pair(1);
	return holds_a_port(context);
}

/* Case D10: its XDP program is still on the interface. */
static bool carries_after_a_kill(void *context)
{
	int pipes[2];
	char byte;
	make_pair(1);
	EXPECT(pipe(pipes) == 0, "pipe");
	pid_t pid = fork();
	if (pid == 0)
		_exit(holds_a_port(&(struct holder){CONF_DRIVER_AF_XDP, pipes[1]}));
	EXPECT(read(pipes[0], &byte, 1) == 1, "read");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	char command[64];
	snprintf(command, sizeof(command), "rm -rf /var/run/dpdk/weir-t%d", pid);
	run(command);
	run("ip link set weira down; ip link set weira allmulticast off");
	return carries_over(&(struct port_case){.driver = CONF_DRIVER_AF_XDP, .nb_workers = 1});
}

static void mtu_of_the_file_is_carried(void **state)
{
	in_child(carries,
		&(struct port_case){.driver = CONF_DRIVER_AF_PACKET, .nb_workers = 1, .mtu = 9000});
	in_child(carries, &(struct port_case){.nb_workers = 1, .mtu = 2000});
}

static void af_xdp_port_opens_again_after_a_kill(void **state)
{
	in_child(carries_after_a_kill, NULL);
}

static bool refuses_second_worker(void *context)
{
	make_pair(1);
	struct conf conf = conf_of("weira", 2);
	char message[DEV_MESSAGE] = "";
	EXPECT(dev_eal_init(&conf, 0, NULL, message) == -EINVAL, "%s", message);
	EXPECT(strcmp(message, "weira offers 1 rx queue, cores.workers names 2") == 0, "%s",
		message);
	EXPECT(nothing_is_left(&conf), "EAL's files");
	return true;
}

static void fewer_queues_than_workers_is_refused(void **state)
{
	in_child(refuses_second_worker, NULL);
}

/* AF_XDP would lose what comes on the second queue. */
static bool matches_queues_to_workers(void *context)
{
	make_pair(2);
	struct conf conf = conf_of("weira", 1);
	char message[DEV_MESSAGE] = "";
	struct dev_port port;
	EXPECT(dev_eal_init(&conf, 0, NULL, message) == 0, "%s", message);
	EXPECT(dev_port_open(&port, &conf, message) < 0, "the peer has 2 tx queues");
	EXPECT(strstr(message, "ethtool -L PEER tx N") != NULL, "%s", message);
	dev_eal_fini();
	return true;
}

static void more_queues_than_workers_are_not_lost_in_silence(void **state)
{
	in_child(matches_queues_to_workers, NULL);
}

struct refusal {
	char *device;
	char *argument;
	const char *expected;
};

static bool refuses(void *context)
{
	const struct refusal *row = context;
	struct conf conf = conf_of(row->device, 1);
	char message[DEV_MESSAGE] = "";
	char *argv[] = {row->argument, NULL};
	struct dev_port port;
	int failed = dev_eal_init(&conf, row->argument != NULL, argv, message);
	if (failed == 0) {
		failed = dev_port_open(&port, &conf, message);
		dev_eal_fini();
	}
	EXPECT(failed < 0, "it started");
	EXPECT(strstr(message, row->expected) != NULL, "%s", message);
	EXPECT(strchr(message, '\n') == NULL, "%s", message);
	EXPECT(nothing_is_left(&conf), "EAL's files");
	return true;
}

/* Case D15. */
static void failures_to_start_say_why(void **state)
{
	static struct refusal rows[] = {
		{"nothere0", NULL, "there is no interface nothere0"},
		{"lo", NULL, "lo is no Ethernet interface"},
		{"0000:ff:1f.7", NULL, "there is no PCI device 0000:ff:1f.7"},
		{"net_nothing0", NULL, "failed to parse device \"net_nothing0\""},
		{"net_tap0,iface=a/b", NULL, "DPDK has no device net_tap0"},
		{"net_null0", "--nonsense", "are port.eal and what follows -- right?"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		in_child(refuses, &rows[i]);
}

/* Case D15. */
static bool refuses_without_runtime_directory(void *context)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", "/run", "tmpfs", MS_RDONLY, NULL) < 0)
		_exit(SKIPPED);
	struct conf conf = conf_of("net_null0", 1);
	char message[DEV_MESSAGE] = "";
	EXPECT(dev_eal_init(&conf, 0, NULL, message) < 0, "it started");
	EXPECT(strstr(message, "Read-only file system") != NULL, "%s", message);
	return true;
}

static void read_only_run_is_refused(void **state)
{
	in_child(refuses_without_runtime_directory, NULL);
}

static bool refuses_prefix(void *context)
{
	pid_t first = *(pid_t *)context;
	struct conf conf = conf_of("net_null0", 1);
	char expected[64];
	snprintf(conf.instance, 16, "t%d", first);
	char message[DEV_MESSAGE] = "";
	EXPECT(dev_eal_init(&conf, 0, NULL, message) == -EBUSY, "%s", message);
	snprintf(expected, sizeof(expected), "already running as instance \"weir-t%d\" (pid %d)",
		first, first);
	EXPECT(strstr(message, expected) != NULL, "%s", message);
	EXPECT(!nothing_is_left(&conf), "the first one's files are gone");
	return true;
}

/* Case D11: in the namespace of the first one, by another name. */
static bool refuses_port(void *context)
{
	struct conf conf = conf_of("weira", 1);
	conf.port.driver = CONF_DRIVER_AF_PACKET;
	char message[DEV_MESSAGE] = "", path[64];
	snprintf(path, sizeof(path), "/proc/%d/ns/net", *(pid_t *)context);
	FILE *file = fopen(path, "r");
	EXPECT(file != NULL && setns(fileno(file), CLONE_NEWNET) == 0, "setns");
	EXPECT(dev_eal_init(&conf, 0, NULL, message) == -EBUSY, "%s", message);
	EXPECT(strstr(message, "weira is the port of weir-t") != NULL, "%s", message);
	EXPECT(nothing_is_left(&conf), "EAL's files");
	return true;
}

/* Cases D11 and D10: the second one leaves the first alone, and a killed one holds nothing. */
static void second_instance_is_refused_until_the_first_dies(void **state)
{
	for (int round = 0; round < 2; round++) {
		int pipes[2];
		char byte;
		assert_int_equal(pipe(pipes), 0);
		struct holder holder = {CONF_DRIVER_AF_PACKET, pipes[1]};
		pid_t first = start(makes_pair_and_holds_a_port, &holder);
		close(pipes[1]);
		assert_int_equal(read(pipes[0], &byte, 1), 1);
		close(pipes[0]);
		in_child(refuses_prefix, &first);
		in_child(refuses_port, &first);
		assert_int_equal(waitpid(first, NULL, WNOHANG), 0);
		kill(first, SIGKILL);
		waitpid(first, NULL, 0);
		char command[64];
		snprintf(command, sizeof(command), "rm -rf /var/run/dpdk/weir-t%d", first);
		run(command);
	}
	run("rm -f /run/weir/port-weira-net*.lock");
}

int main(void)
{
	if (geteuid() != 0)
		return SKIPPED;
	if (!has_program("ip", "iproute2"))
		return 1;
	failure = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(null_port_with_one_and_two_queues),
		cmocka_unit_test(rss_key_and_table_are_set_where_the_driver_has_them),
		cmocka_unit_test(ring_and_tap_ports),
		cmocka_unit_test(af_packet_on_a_veth),
		cmocka_unit_test(af_xdp_on_a_veth),
		cmocka_unit_test(mtu_of_the_file_is_carried),
		cmocka_unit_test(af_xdp_port_opens_again_after_a_kill),
		cmocka_unit_test(fewer_queues_than_workers_is_refused),
		cmocka_unit_test(more_queues_than_workers_are_not_lost_in_silence),
		cmocka_unit_test(failures_to_start_say_why),
		cmocka_unit_test(read_only_run_is_refused),
		cmocka_unit_test(second_instance_is_refused_until_the_first_dies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
