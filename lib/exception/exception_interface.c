/* SPDX-License-Identifier: BSD-3-Clause */
#include "exception_interface.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "addr.h"
#include "clock.h"
#include "conf.h"
#include "dev.h"
#include "exception.h"
#include "exception_sysctl.h"
#include "log.h"
#include "netlink.h"

// A killed process frees its hugepages before it closes its files: its weir0 may live on for a bit.
#define BUSY_WAIT_MS 1000
#define BUSY_STEP_US 10000

#define REQUEST_SIZE 256 // bytes: room for any of the requests below
#define OWN_ROUTES_MAX 8 // of a family, that a weir0 which is taken over may have

/* weir0 with these IFF_ flags: a descriptor or -errno. */
static int attach(unsigned short flags)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | flags};
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	strcpy(request.ifr_name, EXCEPTION_INTERFACE);
	if (ioctl(fd, TUNSETIFF, &request) < 0) {
		int err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* A new device: what an old one carries is unknown. Or the old one, which is then configured. */
static int make_device(bool take_over, bool *taken_over)
{
	uint64_t deadline = clock_ms() + BUSY_WAIT_MS;

	for (;;) {
		int fd = attach(IFF_TUN_EXCL);
		*taken_over = false;
		if (fd != -EBUSY)
			return fd;
		fd = attach(0);
		if (fd >= 0 && take_over) { // persistent, and nobody's
			*taken_over = true;
			return fd;
		}
		if (fd >= 0) { // it goes with its descriptor
			ioctl(fd, TUNSETPERSIST, 0);
			close(fd);
		} else if (fd != -EBUSY) {
			return fd;
		} else if (clock_ms() >= deadline) {
			return -EBUSY;
		} else {
			usleep(BUSY_STEP_US);
		}
	}
}

int exception_interface_persist(int fd, bool persist)
{
	return ioctl(fd, TUNSETPERSIST, persist) < 0 ? -errno : 0;
}

int exception_interface_remove(void)
{
	if (if_nametoindex(EXCEPTION_INTERFACE) == 0)
		return 0;
	int fd = attach(0);
	if (fd < 0)
		return fd;
	int err = exception_interface_persist(fd, false);
	close(fd);
	return err;
}

int exception_interface_open(bool take_over, bool *taken_over, char *message)
{
	const char *advice;
	int fd = make_device(take_over, taken_over);

	switch (fd) {
	case -EBUSY:
		advice = "another process holds it: is Weir running already? A second one needs "
			 "another port.netns";
		break;
	case -EINVAL:
		advice = "the name is taken by a device of another kind: ip link delete it";
		break;
	case -EPERM:
	case -EACCES:
		advice = "run as root, with CAP_NET_ADMIN";
		break;
	case -ENOENT:
	case -ENODEV:
		advice = "no /dev/net/tun: modprobe tun";
		break;
	default:
		advice = "opening it as a TAP device by /dev/net/tun failed";
		break;
	}
	if (fd < 0)
		snprintf(message, DEV_MESSAGE, EXCEPTION_INTERFACE ": %s; %s", strerror(-fd),
			advice);
	return fd;
}

/* A request about the interface, in `buffer` of REQUEST_SIZE. */
static struct nlmsghdr *link_request(char *buffer, int index, unsigned flags_to_set)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = RTM_NEWLINK;
	request->nlmsg_flags = NLM_F_REQUEST;
	struct ifinfomsg *link = mnl_nlmsg_put_extra_header(request, sizeof(*link));
	link->ifi_index = index;
	link->ifi_change = flags_to_set;
	link->ifi_flags = flags_to_set;
	return request;
}

static int set_link(struct mnl_socket *socket, int index, const struct net_mac *mac, unsigned mtu)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = link_request(buffer, index, 0);

	mnl_attr_put(request, IFLA_ADDRESS, sizeof(*mac), mac);
	mnl_attr_put_u32(request, IFLA_MTU, mtu);
	return netlink_talk(socket, request, NULL, NULL);
}

int exception_interface_up(struct mnl_socket *socket, int index)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];

	return netlink_talk(socket, link_request(buffer, index, IFF_UP), NULL, NULL);
}

int exception_interface_set_alias(struct mnl_socket *socket, int index, const char *alias)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = link_request(buffer, index, 0);

	mnl_attr_put_str(request, IFLA_IFALIAS, alias);
	return netlink_talk(socket, request, NULL, NULL);
}

static int take_alias(const struct nlmsghdr *header, void *context)
{
	const struct nlattr *attr;
	const char **alias = context;

	mnl_attr_for_each(attr, header, sizeof(struct ifinfomsg))
	{
		if (*alias != NULL && mnl_attr_get_type(attr) == IFLA_IFALIAS &&
			strcmp(mnl_attr_get_str(attr), *alias) == 0)
			*alias = NULL;
	}
	return MNL_CB_OK;
}

bool exception_interface_has_alias(struct mnl_socket *socket, int index, const char *alias)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = link_request(buffer, index, 0);

	request->nlmsg_type = RTM_GETLINK;
	// `alias` is taken away when it is found.
	return netlink_talk(socket, request, take_alias, &alias) == 0 && alias == NULL;
}

unsigned exception_interface_index(int fd)
{
	struct ifreq request = {0};

	strcpy(request.ifr_name, EXCEPTION_INTERFACE);
	return ioctl(fd, SIOCGIFINDEX, &request) == 0 ? (unsigned)request.ifr_ifindex : 0;
}

bool exception_interface_is_up(int fd)
{
	struct ifreq request = {0};

	strcpy(request.ifr_name, EXCEPTION_INTERFACE);
	return ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
}

int exception_interface_change(
	struct mnl_socket *socket, int index, const struct net_prefix *prefix, bool present)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	unsigned size = net_addr_size(prefix->addr.family);

	request->nlmsg_type = present ? RTM_NEWADDR : RTM_DELADDR;
	request->nlmsg_flags = NLM_F_REQUEST | (present ? NLM_F_CREATE | NLM_F_EXCL : 0);
	struct ifaddrmsg *address = mnl_nlmsg_put_extra_header(request, sizeof(*address));
	address->ifa_family = prefix->addr.family;
	address->ifa_prefixlen = prefix->length;
	address->ifa_scope = RT_SCOPE_UNIVERSE;
	address->ifa_index = index;
	// Usable at once: duplicate detection takes a second, and the VIP may have just moved here.
	if (prefix->addr.family == AF_INET6)
		address->ifa_flags = IFA_F_NODAD;
	mnl_attr_put(request, IFA_LOCAL, size, prefix->addr.v6);
	mnl_attr_put(request, IFA_ADDRESS, size, prefix->addr.v6);
	return netlink_talk(socket, request, NULL, NULL);
}

int exception_interface_address(const struct net_prefix *prefix, bool present)
{
	int index = if_nametoindex(EXCEPTION_INTERFACE);
	struct mnl_socket *socket = index == 0 ? NULL : netlink_open(-1, 0);

	if (socket == NULL)
		return -errno;
	int err = exception_interface_change(socket, index, prefix, present);
	mnl_socket_close(socket);
	return err == (present ? -EEXIST : -EADDRNOTAVAIL) ? 0 : err;
}

static int take_address(const struct nlmsghdr *header, void *context)
{
	struct exception_addresses *list = context;
	const struct ifaddrmsg *message = mnl_nlmsg_get_payload(header);

	if ((int)message->ifa_index == list->index && message->ifa_scope == RT_SCOPE_UNIVERSE &&
		list->count < EXCEPTION_ADDRESSES_MAX)
		netlink_address(header, &list->prefixes[list->count++]);
	return MNL_CB_OK;
}

int exception_addresses_read(struct mnl_socket *socket, struct exception_addresses *addresses)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	addresses->count = 0;
	request->nlmsg_type = RTM_GETADDR;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(request, sizeof(struct ifaddrmsg));
	return netlink_talk(socket, request, take_address, addresses);
}

static bool holds(const struct net_prefix *list, unsigned count, const struct net_prefix *prefix)
{
	for (unsigned i = 0; i < count; i++)
		if (net_addr_equal(&list[i].addr, &prefix->addr) &&
			list[i].length == prefix->length)
			return true;
	return false;
}

/* What weir0 has from before and isn't configured any more. */
static int remove_old_addresses(struct mnl_socket *socket, const struct conf_port *conf,
	const struct exception_addresses *former)
{
	char text[NET_ADDR_TEXT];
	int err = 0;

	for (unsigned i = 0; i < former->count && err == 0; i++) {
		if (holds(conf->addresses, conf->nb_addresses, &former->prefixes[i]))
			continue;
		log_info(EXCEPTION_INTERFACE ": address %s is not in port.address any more",
			net_prefix_format(&former->prefixes[i], text));
		err = exception_interface_change(
			socket, former->index, &former->prefixes[i], false);
		if (err == -EADDRNOTAVAIL)
			err = 0;
	}
	return err;
}

/* Whether weir0 has the MAC and the MTU already: setting a MAC anew flushes the neighbours. */
static bool has_link(int index, const struct net_mac *mac, unsigned mtu)
{
	struct ifreq request = {0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strcpy(request.ifr_name, EXCEPTION_INTERFACE);
	bool same = fd >= 0 && ioctl(fd, SIOCGIFHWADDR, &request) == 0 &&
		memcmp(request.ifr_hwaddr.sa_data, mac, sizeof(*mac)) == 0 &&
		ioctl(fd, SIOCGIFMTU, &request) == 0 && (unsigned)request.ifr_mtu == mtu;
	if (fd >= 0)
		close(fd);
	return same;
}

static int change_default_route(struct mnl_socket *socket, int index,
	const struct net_addr *gateway, uint16_t type, uint16_t flags)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | flags;
	struct rtmsg *route = mnl_nlmsg_put_extra_header(request, sizeof(*route));
	route->rtm_family = gateway->family;
	route->rtm_table = RT_TABLE_MAIN;
	route->rtm_protocol = RTPROT_STATIC;
	route->rtm_scope = RT_SCOPE_UNIVERSE;
	route->rtm_type = RTN_UNICAST;
	// A router need not lie in a prefix of the port's, which may have but one address.
	route->rtm_flags = RTNH_F_ONLINK;
	mnl_attr_put(request, RTA_GATEWAY, net_addr_size(gateway->family), gateway->v6);
	mnl_attr_put_u32(request, RTA_OIF, index);
	return netlink_talk(socket, request, NULL, NULL);
}

int exception_interface_default_route(
	struct mnl_socket *socket, int index, const struct net_addr *gateway, bool replace)
{
	return change_default_route(socket, index, gateway, RTM_NEWROUTE,
		NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL));
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct setting {
	const char *family;
	const char *device; // NULL: not of one
	const char *key;
	const char *value;
	bool optional; // not every kernel has it
};

// Those of weir0 itself.
static const struct setting settings[] = {
	{"ipv4", EXCEPTION_INTERFACE, "forwarding", "0"},   // a host, not a router
	{"ipv4", EXCEPTION_INTERFACE, "rp_filter", "0"},    // backends may answer by another way
	{"ipv4", EXCEPTION_INTERFACE, "arp_ignore", "1"},   // answer for weir0's own addresses only
	{"ipv4", EXCEPTION_INTERFACE, "arp_announce", "2"}, // and ask with them only
	{"ipv4", EXCEPTION_INTERFACE, "proxy_arp", "0"},
	{"ipv4", EXCEPTION_INTERFACE, "accept_redirects", "0"},
	{"ipv4", EXCEPTION_INTERFACE, "send_redirects", "0"},
	// Between two processes weir0 has no carrier: who was known stays known. Linux 5.16.
	{"ipv4", EXCEPTION_INTERFACE, "arp_evict_nocarrier", "0", .optional = true},
	{"ipv6", EXCEPTION_INTERFACE, "ndisc_evict_nocarrier", "0"},
	{"ipv6", EXCEPTION_INTERFACE, "forwarding", "0"},
	{"ipv6", EXCEPTION_INTERFACE, "accept_ra", "0"},
	{"ipv6", EXCEPTION_INTERFACE, "autoconf", "0"},
	{"ipv6", EXCEPTION_INTERFACE, "accept_dad", "0"}, // the link-local address at once, too
	{"ipv6", EXCEPTION_INTERFACE, "accept_redirects", "0"},
};

// Of the whole namespace, where it is Weir's: a new one inherits the host's IPv4 settings, and the
// kernel takes the higher (or the disjunction) of "all" and the device's.
static const struct setting namespace_settings[] = {
	{"ipv4", "all", "forwarding", "0"}, // first: it resets the others
	{"ipv4", "default", "forwarding", "0"},
	{"ipv4", "all", "rp_filter", "0"},
	{"ipv4", "all", "arp_ignore", "1"},
	{"ipv4", "all", "proxy_arp", "0"},
	{"ipv4", "all", "accept_redirects", "0"},
	{"ipv4", "all", "send_redirects", "0"},
	{"ipv6", "all", "accept_dad", "0"},
	{"ipv6", "all", "disable_ipv6", "0"},
	// Among several next hops the kernel chooses by the addresses alone, so that a probe goes
	// where the connections from its address do; and by a neighbour that answers.
	{"ipv4", NULL, "fib_multipath_hash_policy", "0", .optional = true},
	{"ipv4", NULL, "fib_multipath_use_neigh", "1", .optional = true},
	{"ipv6", NULL, "fib_multipath_hash_policy", "0"},
};

static int apply(const struct setting *setting, char *message)
{
	int err = exception_sysctl_set(
		setting->family, setting->device, setting->key, setting->value);

	if (err == 0 ||
		(err == -ENOENT && (setting->optional || strcmp(setting->family, "ipv6") == 0)))
		return 0;
	snprintf(message, DEV_MESSAGE, "net.%s.%s%s%s%s = %s can't be set: %s%s", setting->family,
		setting->device ? "conf." : "", setting->device ? setting->device : "",
		setting->device ? "." : "", setting->key, setting->value, strerror(-err),
		err == -EROFS ? " (/proc/sys is read-only here)" : "");
	return err;
}

static int apply_settings(bool ours, bool ipv6, char *message)
{
	int err = 0;

	for (unsigned i = 0; ours && err == 0 && i < COUNT(namespace_settings); i++)
		err = apply(&namespace_settings[i], message);
	for (unsigned i = 0; err == 0 && i < COUNT(settings); i++)
		err = apply(&settings[i], message);
	if (err < 0)
		return err;
	struct setting last = {"ipv6", EXCEPTION_INTERFACE, "disable_ipv6", ipv6 ? "0" : "1"};
	return apply(&last, message);
}

static int add_addresses(struct mnl_socket *socket, const struct conf_port *conf,
	const struct exception_addresses *former, bool taken_over, bool *withdrawn, char *message)
{
	char text[NET_ADDR_TEXT];
	int err = 0;

	for (unsigned i = 0; i < conf->nb_addresses && err == 0; i++) {
		const struct net_prefix *prefix = &conf->addresses[i];
		bool is_there = holds(former->prefixes, former->count, prefix);
		withdrawn[i] &= !is_there;
		if (is_there || withdrawn[i])
			continue;
		err = exception_interface_change(socket, former->index, prefix, true);
		if (err == -EEXIST && taken_over)
			err = 0;
		if (err < 0)
			snprintf(message, DEV_MESSAGE, EXCEPTION_INTERFACE ": address %s: %s%s",
				net_prefix_format(prefix, text), strerror(-err),
				err == -EEXIST ? " (is it in port.address twice?)" : "");
	}
	return err;
}

static int set_addresses(struct mnl_socket *socket, int index, const struct conf_port *conf,
	bool taken_over, bool *withdrawn, char *message)
{
	struct exception_addresses *former = calloc(1, sizeof(*former));
	int err = former == NULL ? -ENOMEM : 0;

	if (err == 0)
		former->index = index;
	if (err == 0 && taken_over)
		err = exception_addresses_read(socket, former);
	if (err == 0 && taken_over)
		err = remove_old_addresses(socket, conf, former);
	if (err < 0)
		snprintf(message, DEV_MESSAGE, EXCEPTION_INTERFACE ": addresses of before: %s",
			strerror(-err));
	else
		err = add_addresses(socket, conf, former, taken_over, withdrawn, message);
	free(former);
	return err;
}

/* Default routes by weir0 that are as Weir makes them: those of routing daemons and by hand have
 * another protocol, and several next hops nobody gets from here. */
struct own_routes {
	int index; // of weir0
	unsigned count;
	struct net_addr gateways[OWN_ROUTES_MAX];
};

static int take_route(const struct nlmsghdr *header, void *context)
{
	struct own_routes *list = context;
	const struct rtmsg *route = mnl_nlmsg_get_payload(header);
	struct net_addr gateway = {.family = AF_UNSPEC};
	const struct nlattr *attr;
	uint32_t interface = 0;

	if (route->rtm_table != RT_TABLE_MAIN || route->rtm_dst_len != 0 ||
		route->rtm_protocol != RTPROT_STATIC || route->rtm_type != RTN_UNICAST)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, header, sizeof(*route))
	{
		if (mnl_attr_get_type(attr) == RTA_OIF) {
			interface = mnl_attr_get_u32(attr);
		} else if (mnl_attr_get_type(attr) == RTA_GATEWAY) {
			gateway.family = route->rtm_family;
			memcpy(gateway.v6, mnl_attr_get_payload(attr),
				net_addr_size(gateway.family));
		}
	}
	if ((int)interface == list->index && gateway.family != AF_UNSPEC &&
		list->count < OWN_ROUTES_MAX)
		list->gateways[list->count++] = gateway;
	return MNL_CB_OK;
}

static int read_own_routes(struct mnl_socket *socket, sa_family_t family, struct own_routes *list)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = RTM_GETROUTE;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	struct rtmsg *route = mnl_nlmsg_put_extra_header(request, sizeof(*route));
	route->rtm_family = family;
	return netlink_talk(socket, request, take_route, list);
}

/* What weir0 has from before and isn't configured any more. */
static int remove_old_routes(
	struct mnl_socket *socket, int index, sa_family_t family, const struct net_addr *gateway)
{
	struct own_routes list = {.index = index};
	int err = read_own_routes(socket, family, &list);
	char text[NET_ADDR_TEXT];

	for (unsigned i = 0; i < list.count && err == 0; i++) {
		if (net_addr_equal(&list.gateways[i], gateway))
			continue;
		log_info(EXCEPTION_INTERFACE ": the default route by %s is not port.gateway's any "
					     "more",
			net_addr_format(&list.gateways[i], text));
		err = change_default_route(socket, index, &list.gateways[i], RTM_DELROUTE, 0);
		if (err == -ESRCH)
			err = 0;
	}
	return err;
}

static int add_gateway(struct mnl_socket *socket, int index, const struct net_addr *gateway,
	bool taken_over, char *message)
{
	char text[NET_ADDR_TEXT];

	if (gateway->family == AF_UNSPEC)
		return 0;
	net_addr_format(gateway, text);
	int err = exception_interface_default_route(socket, index, gateway, taken_over);
	if (err == -EEXIST) {
		log_warning("the namespace has a default route already; none by %s is added", text);
		return 0;
	}
	if (err < 0)
		snprintf(message, DEV_MESSAGE, "default route by port.gateway %s: %s", text,
			strerror(-err));
	return err;
}

/* It would take the machine's own default route away. */
static void refuse_gateway(const struct net_addr *gateway)
{
	char text[NET_ADDR_TEXT];

	if (gateway->family == AF_UNSPEC)
		return;
	net_addr_format(gateway, text);
	log_warning(EXCEPTION_INTERFACE
		" is in the host's namespace (port.netns = \"\"): no default route by %s is set. "
		"What the kernel sends beyond the link, probes and pings included, needs a route "
		"of yours: ip route add PREFIX via %s dev " EXCEPTION_INTERFACE " onlink",
		text, text);
}

/* The default route of a family. The new one is there before the old one goes. */
static int set_gateway(struct mnl_socket *socket, int index, sa_family_t family,
	const struct net_addr *gateway, bool taken_over, char *message)
{
	int err = add_gateway(socket, index, gateway, taken_over, message);

	if (err < 0 || !taken_over)
		return err;
	err = remove_old_routes(socket, index, family, gateway);
	if (err < 0)
		snprintf(message, DEV_MESSAGE, EXCEPTION_INTERFACE ": routes of before: %s",
			strerror(-err));
	return err;
}

static int set_gateways(struct mnl_socket *socket, int index, const struct conf_port *conf,
	bool host, bool taken_over, char *message)
{
	if (host) {
		refuse_gateway(&conf->gateway4);
		refuse_gateway(&conf->gateway6);
		return 0;
	}
	int err = set_gateway(socket, index, AF_INET, &conf->gateway4, taken_over, message);
	return err < 0 ? err
		       : set_gateway(socket, index, AF_INET6, &conf->gateway6, taken_over, message);
}

/* The kernel takes the higher of the two values, and "all" isn't Weir's to change on the host. */
static void warn_of_strict_filter(void)
{
	char value[EXCEPTION_SYSCTL_TEXT];

	if (exception_sysctl_get("ipv4", "all", "rp_filter", value) == 0 && strcmp(value, "1") == 0)
		log_warning(
			"net.ipv4.conf.all.rp_filter is 1 in the namespace of " EXCEPTION_INTERFACE
			": packets from where no route leads by it are lost");
}

/* Whoever has set it uses routes with several next hops; it is theirs. */
static void warn_of_multipath_hash(void)
{
	static const char *const families[] = {"ipv4", "ipv6"};
	char value[EXCEPTION_SYSCTL_TEXT];

	for (unsigned f = 0; f < COUNT(families); f++)
		if (exception_sysctl_get(families[f], NULL, "fib_multipath_hash_policy", value) ==
				0 &&
			strcmp(value, "0") != 0)
			log_warning("net.%s.fib_multipath_hash_policy is %s in the namespace "
				    "of " EXCEPTION_INTERFACE
				    ": where a route has several next hops, probes may go by "
				    "another one than connections; set it to 0",
				families[f], value);
}

static void warn_of_others_settings(void)
{
	warn_of_strict_filter();
	warn_of_multipath_hash();
}

int exception_interface_configure(const struct conf_port *conf, const struct dev_port *port,
	bool ours, bool host, bool taken_over, bool *withdrawn, char *message)
{
	bool ipv6 = false;
	int err;

	for (unsigned i = 0; i < conf->nb_addresses; i++)
		ipv6 |= conf->addresses[i].addr.family == AF_INET6;

	int index = if_nametoindex(EXCEPTION_INTERFACE);
	struct mnl_socket *socket = index == 0 ? NULL : netlink_open(-1, 0);
	if (socket == NULL) {
		err = -errno;
		snprintf(message, DEV_MESSAGE, EXCEPTION_INTERFACE ": %s", strerror(-err));
		return err;
	}
	err = has_link(index, &port->mac, port->mtu)
		? 0
		: set_link(socket, index, &port->mac, port->mtu);
	if (err < 0) {
		char mac[18];
		snprintf(message, DEV_MESSAGE, EXCEPTION_INTERFACE ": MAC %s and MTU %u: %s",
			net_mac_format(&port->mac, mac), port->mtu, strerror(-err));
		goto out;
	}
	err = apply_settings(ours, ipv6, message);
	if (err < 0)
		goto out;
	if (!ours)
		warn_of_others_settings();
	err = exception_interface_up(socket, index);
	if (err < 0) {
		snprintf(message, DEV_MESSAGE, EXCEPTION_INTERFACE ": can't be set up: %s",
			strerror(-err));
		goto out;
	}
	err = set_addresses(socket, index, conf, taken_over, withdrawn, message);
	if (err == 0)
		err = set_gateways(socket, index, conf, host, taken_over, message);
out:
	mnl_socket_close(socket);
	return err;
}
