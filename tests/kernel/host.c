/* SPDX-License-Identifier: BSD-3-Clause */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "must.h"
#include "netns.h"

// All settings that are not what any Linux has, and why.
static const struct {
	const char *key, *value;
} settings[] = {
	{"ipv6/conf/default/accept_dad", "0"}, // nothing of its own accord
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/default/router_solicitations", "0"},
	{"ipv6/conf/default/addr_gen_mode", "1"},
	{"ipv4/conf/all/rp_filter", "0"}, // one device, all addresses
	{"ipv4/conf/default/rp_filter", "0"},
	{"ipv4/tcp_syncookies", "0"},
	{"ipv4/tcp_early_retrans", "0"},                // no tail loss probes
	{"ipv4/tcp_invalid_ratelimit", "0"},            // each packet that deserves
	{"ipv4/tcp_challenge_ack_limit", "2147483647"}, // an answer gets it
	{"ipv4/icmp_ratelimit", "0"},
	{"ipv4/icmp_msgs_per_sec", "1000000"},
	{"ipv4/icmp_msgs_burst", "1000000"},
	{"ipv6/icmp/ratelimit", "0"},
};

void host_set(const struct host *host, const char *key, const char *value)
{
	char path[128];
	int previous = netns_enter(host->netns);

	must(previous >= 0);
	snprintf(path, sizeof(path), "/proc/sys/net/%s", key);
	int fd = open(path, O_WRONLY);
	// Not all of them are there in all kernels.
	if (fd >= 0) {
		must(write(fd, value, strlen(value)) == (ssize_t)strlen(value));
		close(fd);
	}
	netns_leave(previous);
}

static int open_tap(const struct net_mac *mac)
{
	struct ifreq request = {.ifr_name = "tap0", .ifr_flags = IFF_TAP | IFF_NO_PI};
	int tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (tap < 0)
		return -1;
	if (ioctl(tap, TUNSETIFF, &request) < 0)
		goto failed;
	request.ifr_hwaddr.sa_family = 1; // ARPHRD_ETHER
	memcpy(request.ifr_hwaddr.sa_data, mac, sizeof(*mac));
	if (ioctl(tap, SIOCSIFHWADDR, &request) < 0)
		goto failed;
	return tap;
failed:
	close(tap);
	return -1;
}

/* The device, up, and everything else behind the gateway. Long timeouts of the kernel: what is lost
 * stays lost, as far as the test goes. */
static bool set_up_device(const char *addr4, const char *addr6, const struct net_mac *gateway)
{
	FILE *batch = popen("ip -batch -", "we");
	char mac[18];

	if (batch == NULL)
		return false;
	net_mac_format(gateway, mac);
	fprintf(batch, "link set lo up\nlink set tap0 up\n");
	fprintf(batch, "addr add %s/32 dev tap0\naddr add %s/128 dev tap0 nodad\n", addr4, addr6);
	fprintf(batch, "neigh add 169.254.1.1 lladdr %s dev tap0 nud permanent\n", mac);
	fprintf(batch, "neigh add fe80::1 lladdr %s dev tap0 nud permanent\n", mac);
	fprintf(batch,
		"route add default via 169.254.1.1 dev tap0 onlink quickack 1 rto_min 60s\n");
	fprintf(batch, "route add default via fe80::1 dev tap0 onlink quickack 1 rto_min 60s\n");
	return pclose(batch) == 0;
}

static int open_diag(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);

	if (fd >= 0)
		must(bind(fd, (struct sockaddr *)&(struct sockaddr_nl){.nl_family = AF_NETLINK},
			     sizeof(struct sockaddr_nl)) == 0);
	return fd;
}

bool host_init(struct host *host, const char *name, const char *addr4, const char *addr6,
	const struct net_mac *gateway, const char **why)
{
	int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	*host = (struct host){.name = name, .mac = {{2, 0, 0, 0, 1, name[0]}}};
	must(home >= 0 && net_addr_parse(&host->addr[0], addr4) == 0 &&
		net_addr_parse(&host->addr[1], addr6) == 0);
	*why = "a network namespace";
	if (unshare(CLONE_NEWNET) < 0)
		goto failed;
	host->netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	must(host->netns >= 0);
	for (unsigned i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		host_set(host, settings[i].key, settings[i].value);
	*why = "a TAP device (/dev/net/tun)";
	host->tap = open_tap(&host->mac);
	if (host->tap < 0)
		goto failed;
	*why = "iproute2";
	if (!set_up_device(addr4, addr6, gateway))
		goto failed;
	*why = "NETLINK_SOCK_DIAG";
	host->diag = open_diag();
	if (host->diag < 0)
		goto failed;
	netns_leave(home);
	return true;
failed:
	netns_leave(home);
	return false;
}

void host_fini(struct host *host)
{
	close(host->tap);
	close(host->diag);
	close(host->netns);
}

bool host_knows(const struct host *host, enum host_key key)
{
	static const uint8_t nothing[512]; // is no key
	int fd = netns_socket(host->netns, AF_INET, SOCK_STREAM, 0);

	must(fd >= 0);
	bool knows = setsockopt(fd, IPPROTO_TCP, key, nothing, sizeof(nothing)) == 0 ||
		errno != ENOPROTOOPT;
	close(fd);
	return knows;
}

int host_socket(const struct host *host, sa_family_t family, uint16_t port)
{
	struct sockaddr_storage address;
	int on = 1, fd = netns_socket(host->netns, family, SOCK_STREAM | SOCK_NONBLOCK, 0);

	must(fd >= 0);
	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
	socklen_t size = net_addr_sockaddr(&host->addr[family == AF_INET6], htons(port), &address);
	must(bind(fd, (struct sockaddr *)&address, size) == 0);
	return fd;
}

void host_send(const struct host *host, const void *frame, unsigned size)
{
	uint8_t copy[2048];

	must(size >= sizeof(host->mac) && size <= sizeof(copy));
	memcpy(copy, frame, size);
	memcpy(copy, &host->mac, sizeof(host->mac));
	must(write(host->tap, copy, size) == (ssize_t)size);
}

unsigned host_receive(const struct host *host, void *frame, unsigned size)
{
	ssize_t got = read(host->tap, frame, size);

	must(got > 0 || (got < 0 && errno == EAGAIN));
	return got > 0 ? got : 0;
}

static void read_info(struct host_view *view, const struct inet_diag_msg *message, int size)
{
	const struct rtattr *attribute = (const struct rtattr *)(message + 1);

	for (; RTA_OK(attribute, size); attribute = RTA_NEXT(attribute, size)) {
		struct tcp_info info = {0};
		size_t length = RTA_PAYLOAD(attribute);
		if (attribute->rta_type != INET_DIAG_INFO)
			continue;
		memcpy(&info, RTA_DATA(attribute), length < sizeof(info) ? length : sizeof(info));
		view->ooo = info.tcpi_rcv_ooopack;
		view->unacked = info.tcpi_unacked;
		view->window = info.tcpi_snd_wnd;
		view->received = info.tcpi_bytes_received;
		view->acked = info.tcpi_bytes_acked;
	}
}

/* By the connection's tuple, so of sockets without a descriptor, too. */
static void ask_kernel(
	const struct host *host, const struct host_tuple *tuple, struct host_view *view)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} request = {
		.header = {.nlmsg_len = sizeof(request),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST},
		.body = {.sdiag_family = tuple->local.family,
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_ext = 1 << (INET_DIAG_INFO - 1),
			.idiag_states = -1,
			.id = {.idiag_sport = htons(tuple->local_port),
				.idiag_dport = htons(tuple->remote_port),
				.idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE}}},
	};
	uint64_t reply[512];
	struct nlmsghdr *header = (struct nlmsghdr *)reply;

	memcpy(request.body.id.idiag_src, tuple->local.v6, 16);
	memcpy(request.body.id.idiag_dst, tuple->remote.v6, 16);
	must(send(host->diag, &request, sizeof(request), 0) == sizeof(request));
	ssize_t size = recv(host->diag, reply, sizeof(reply), 0);
	must(size > 0 && NLMSG_OK(header, size));
	if (header->nlmsg_type == NLMSG_ERROR) {
		errno = -((struct nlmsgerr *)NLMSG_DATA(header))->error;
		must(errno == ENOENT);
		return;
	}
	const struct inet_diag_msg *message = NLMSG_DATA(header);
	// Where there is no connection, the look-up goes on to who listens.
	if (message->idiag_state == HOST_LISTEN)
		return;
	view->state = message->idiag_state;
	view->unread = message->idiag_rqueue;
	read_info(view, message, header->nlmsg_len - NLMSG_LENGTH(sizeof(*message)));
}

struct host_view host_look(const struct host *host, const struct host_tuple *tuple, int fd)
{
	struct host_view view = {0};

	ask_kernel(host, tuple, &view);
	if (fd >= 0) {
		struct pollfd events = {.fd = fd, .events = POLLIN | POLLPRI | POLLRDHUP};
		socklen_t size = sizeof(view.error);
		must(poll(&events, 1, 0) >= 0);
		view.events = events.revents;
		must(getsockopt(fd, SOL_SOCKET, SO_ERROR, &view.error, &size) == 0);
	}
	return view;
}

const char *host_state_name(enum host_state state)
{
	static const char *const names[] = {"no socket", "ESTABLISHED", "SYN_SENT", "SYN_RECV",
		"FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN",
		"CLOSING"};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}
