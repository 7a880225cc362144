/* SPDX-License-Identifier: BSD-3-Clause */
#include "route_kernel.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "netlink.h"

// Timers of a neighbour: how long it counts as reachable without a sign of life, and then how
// long to wait for one before it is asked. After three questions to its MAC, three to all.
#define REACHABLE_MS 5000
#define DELAY_MS 1000
#define BROADCAST_REPROBES 3

#define REQUEST_SIZE 256 // the longest has one header and four attributes

static struct nlmsghdr *request_begin(
	char *buffer, uint16_t type, uint16_t flags, void *header, size_t size)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | flags;
	*(void **)header = mnl_nlmsg_put_extra_header(request, size);
	return request;
}

static void put_addr(struct nlmsghdr *request, uint16_t type, const struct net_addr *addr)
{
	mnl_attr_put(request, type, net_addr_size(addr->family), addr->v6);
}

/* Collect a message's attributes by type; the unknown ones are left out. */
struct attributes {
	const struct nlattr **by_type;
	unsigned max;
};

static int collect_attribute(const struct nlattr *attribute, void *context)
{
	struct attributes *attributes = context;

	if (mnl_attr_get_type(attribute) <= attributes->max)
		attributes->by_type[mnl_attr_get_type(attribute)] = attribute;
	return MNL_CB_OK;
}

static void parse_attributes(
	const struct nlmsghdr *message, size_t header, const struct nlattr **by_type, unsigned max)
{
	struct attributes attributes = {by_type, max};

	mnl_attr_parse(message, header, collect_attribute, &attributes);
}

/* An address attribute; AF_UNSPEC when it isn't there or of another length. */
static struct net_addr get_addr(const struct nlattr *attribute, sa_family_t family)
{
	struct net_addr addr = {0};

	if (attribute == NULL || mnl_attr_get_payload_len(attribute) != net_addr_size(family))
		return addr;
	addr.family = family;
	memcpy(addr.v6, mnl_attr_get_payload(attribute), net_addr_size(family));
	return addr;
}

static uint32_t get_u32(const struct nlattr *attribute)
{
	return attribute && mnl_attr_get_payload_len(attribute) == 4 ? mnl_attr_get_u32(attribute)
								     : 0;
}

static int link_received(const struct nlmsghdr *message, void *context)
{
	struct route_link *link = context;
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(message);

	link->index = info->ifi_index;
	link->up = (info->ifi_flags & IFF_UP) && (info->ifi_flags & IFF_RUNNING);
	return MNL_CB_OK;
}

int route_kernel_link(struct mnl_socket *socket, const char *name, struct route_link *link)
{
	char buffer[REQUEST_SIZE];
	struct ifinfomsg *info;
	struct nlmsghdr *request = request_begin(buffer, RTM_GETLINK, 0, &info, sizeof(*info));

	*link = (struct route_link){0};
	mnl_attr_put_strz(request, IFLA_IFNAME, name);
	int err = netlink_talk(socket, request, link_received, link);
	return err == -ENODEV ? 0 : err;
}

/* The gateway of a route: of the address's own family, or an IPv6 one for IPv4 (RFC 8950). */
static struct net_addr get_gateway(const struct nlattr **attributes, sa_family_t family)
{
	struct net_addr gateway = get_addr(attributes[RTA_GATEWAY], family);
	const struct nlattr *attribute = attributes[RTA_VIA];

	if (attribute == NULL || mnl_attr_get_payload_len(attribute) < sizeof(struct rtvia))
		return gateway;
	const struct rtvia *via = mnl_attr_get_payload(attribute);
	size_t length = mnl_attr_get_payload_len(attribute) - sizeof(*via);
	if ((via->rtvia_family != AF_INET && via->rtvia_family != AF_INET6) ||
		length != net_addr_size(via->rtvia_family))
		return gateway;
	gateway.family = via->rtvia_family;
	memcpy(gateway.v6, via->rtvia_addr, length);
	return gateway;
}

static int route_received(const struct nlmsghdr *message, void *context)
{
	struct route_answer *answer = context;
	const struct rtmsg *route = mnl_nlmsg_get_payload(message);
	const struct nlattr *attributes[RTA_MAX + 1] = {0};

	parse_attributes(message, sizeof(*route), attributes, RTA_MAX);
	answer->type = route->rtm_type;
	answer->interface = get_u32(attributes[RTA_OIF]);
	answer->gateway = get_gateway(attributes, route->rtm_family);
	return MNL_CB_OK;
}

static struct nlmsghdr *route_request(
	char *buffer, const struct route_question *question, unsigned flags)
{
	const struct net_addr *addr = question->addr;
	struct rtmsg *route;
	struct nlmsghdr *request = request_begin(buffer, RTM_GETROUTE, 0, &route, sizeof(*route));

	route->rtm_family = addr->family;
	route->rtm_flags = flags;
	route->rtm_dst_len = net_addr_size(addr->family) * 8;
	put_addr(request, RTA_DST, addr);
	if (question->source != NULL) {
		route->rtm_src_len = net_addr_size(addr->family) * 8;
		put_addr(request, RTA_SRC, question->source);
	}
	mnl_attr_put_u8(request, RTA_IP_PROTO, IPPROTO_TCP);
	if (addr->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)addr->v6))
		mnl_attr_put_u32(request, RTA_OIF, question->interface);
	return request;
}

int route_kernel_lookup(struct mnl_socket *socket, const struct route_question *question,
	struct route_answer *answer)
{
	char buffer[REQUEST_SIZE];

	*answer = (struct route_answer){.type = RTN_UNSPEC};
	return netlink_talk(socket, route_request(buffer, question, 0), route_received, answer);
}

struct ways_reader {
	unsigned interface;
	struct route_ways *ways;
};

static void take_way(struct ways_reader *reader, const struct rtnexthop *hop, sa_family_t family)
{
	const struct nlattr *attributes[RTA_MAX + 1] = {0};
	struct attributes collected = {attributes, RTA_MAX};
	struct route_ways *ways = reader->ways;

	if ((unsigned)hop->rtnh_ifindex != reader->interface || ways->count == ROUTE_WAYS_MAX)
		return;
	mnl_attr_parse_payload(
		RTNH_DATA(hop), hop->rtnh_len - sizeof(*hop), collect_attribute, &collected);
	ways->gateways[ways->count] = get_gateway(attributes, family);
	ways->count += ways->gateways[ways->count].family != AF_UNSPEC;
}

static int ways_received(const struct nlmsghdr *message, void *context)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(message);
	const struct nlattr *attributes[RTA_MAX + 1] = {0};

	parse_attributes(message, sizeof(*route), attributes, RTA_MAX);
	const struct nlattr *hops = attributes[RTA_MULTIPATH];
	if (hops == NULL)
		return MNL_CB_OK;
	const struct rtnexthop *hop = mnl_attr_get_payload(hops);
	int left = mnl_attr_get_payload_len(hops);
	while (RTNH_OK(hop, left)) {
		take_way(context, hop, route->rtm_family);
		left -= RTNH_ALIGN(hop->rtnh_len);
		hop = RTNH_NEXT(hop);
	}
	return MNL_CB_OK;
}

int route_kernel_ways(
	struct mnl_socket *socket, const struct route_question *question, struct route_ways *ways)
{
	struct ways_reader reader = {question->interface, ways};
	char buffer[REQUEST_SIZE];

	ways->count = 0;
	return netlink_talk(
		socket, route_request(buffer, question, RTM_F_FIB_MATCH), ways_received, &reader);
}

bool neighbour_entry_parse(const struct nlmsghdr *message, struct neighbour_entry *entry)
{
	const struct ndmsg *neighbour = mnl_nlmsg_get_payload(message);
	const struct nlattr *attributes[NDA_MAX + 1] = {0};

	if (mnl_nlmsg_get_payload_len(message) < sizeof(*neighbour) ||
		(neighbour->ndm_family != AF_INET && neighbour->ndm_family != AF_INET6) ||
		(neighbour->ndm_flags & NTF_PROXY))
		return false;
	parse_attributes(message, sizeof(*neighbour), attributes, NDA_MAX);
	*entry = (struct neighbour_entry){
		.interface = neighbour->ndm_ifindex,
		.addr = get_addr(attributes[NDA_DST], neighbour->ndm_family),
		.state = neighbour->ndm_state,
		.managed = get_u32(attributes[NDA_FLAGS_EXT]) & NTF_EXT_MANAGED,
	};
	const struct nlattr *mac = attributes[NDA_LLADDR];
	if (mac != NULL && mnl_attr_get_payload_len(mac) == sizeof(entry->mac)) {
		entry->has_mac = true;
		memcpy(&entry->mac, mnl_attr_get_payload(mac), sizeof(entry->mac));
	}
	return entry->addr.family != AF_UNSPEC;
}

static struct nlmsghdr *neighbour_request(char *buffer, uint16_t type, uint16_t flags,
	unsigned interface, const struct net_addr *addr, struct ndmsg **neighbour)
{
	struct nlmsghdr *request =
		request_begin(buffer, type, flags, neighbour, sizeof(**neighbour));

	(*neighbour)->ndm_family = addr->family;
	(*neighbour)->ndm_ifindex = interface;
	put_addr(request, NDA_DST, addr);
	return request;
}

static int neighbour_received(const struct nlmsghdr *message, void *context)
{
	if (neighbour_entry_parse(message, context))
		return MNL_CB_OK;
	errno = EBADMSG;
	return MNL_CB_ERROR;
}

int neighbour_entry_read(struct mnl_socket *socket, unsigned interface, const struct net_addr *addr,
	struct neighbour_entry *entry)
{
	char buffer[REQUEST_SIZE];
	struct ndmsg *neighbour;
	struct nlmsghdr *request =
		neighbour_request(buffer, RTM_GETNEIGH, 0, interface, addr, &neighbour);

	return netlink_talk(socket, request, neighbour_received, entry);
}

struct entries {
	unsigned interface;
	neighbour_entry_fn read;
	void *context;
};

static int entry_received(const struct nlmsghdr *message, void *context)
{
	const struct entries *entries = context;
	struct neighbour_entry entry;

	// A kernel that doesn't know the filter sends those of all interfaces.
	if (neighbour_entry_parse(message, &entry) && entry.interface == entries->interface)
		entries->read(entries->context, &entry);
	return MNL_CB_OK;
}

int neighbour_entries_read(
	struct mnl_socket *socket, unsigned interface, neighbour_entry_fn read, void *context)
{
	struct entries entries = {interface, read, context};
	char buffer[REQUEST_SIZE];
	struct ndmsg *neighbour;
	struct nlmsghdr *request =
		request_begin(buffer, RTM_GETNEIGH, NLM_F_DUMP, &neighbour, sizeof(*neighbour));

	mnl_attr_put_u32(request, NDA_IFINDEX, interface);
	return netlink_talk(socket, request, entry_received, &entries);
}

int neighbour_entry_use(struct mnl_socket *socket, unsigned interface, const struct net_addr *addr,
	bool managed, bool create)
{
	char buffer[REQUEST_SIZE];
	struct ndmsg *neighbour;
	struct nlmsghdr *request = neighbour_request(buffer, RTM_NEWNEIGH,
		create ? NLM_F_CREATE | NLM_F_EXCL : 0, interface, addr, &neighbour);

	neighbour->ndm_flags = NTF_USE;
	if (managed)
		mnl_attr_put_u32(request, NDA_FLAGS_EXT, NTF_EXT_MANAGED);
	return netlink_talk(socket, request, NULL, NULL);
}

int neighbour_entry_fail(struct mnl_socket *socket, unsigned interface, const struct net_addr *addr)
{
	char buffer[REQUEST_SIZE];
	struct ndmsg *neighbour;
	struct nlmsghdr *request =
		neighbour_request(buffer, RTM_NEWNEIGH, NLM_F_REPLACE, interface, addr, &neighbour);

	neighbour->ndm_state = NUD_FAILED;
	return netlink_talk(socket, request, NULL, NULL);
}

int neighbour_entry_remove(
	struct mnl_socket *socket, unsigned interface, const struct net_addr *addr)
{
	char buffer[REQUEST_SIZE];
	struct ndmsg *neighbour;
	struct nlmsghdr *request =
		neighbour_request(buffer, RTM_DELNEIGH, 0, interface, addr, &neighbour);

	return netlink_talk(socket, request, NULL, NULL);
}

int neighbour_timers_set(struct mnl_socket *socket, unsigned interface)
{
	static const struct {
		sa_family_t family;
		const char *name;
	} tables[] = {{AF_INET, "arp_cache"}, {AF_INET6, "ndisc_cache"}};
	int first = 0;

	for (unsigned i = 0; i < MNL_ARRAY_SIZE(tables); i++) {
		char buffer[REQUEST_SIZE];
		struct ndtmsg *table;
		struct nlmsghdr *request =
			request_begin(buffer, RTM_SETNEIGHTBL, 0, &table, sizeof(*table));

		table->ndtm_family = tables[i].family;
		mnl_attr_put_strz(request, NDTA_NAME, tables[i].name);
		struct nlattr *nest = mnl_attr_nest_start(request, NDTA_PARMS);
		mnl_attr_put_u32(request, NDTPA_IFINDEX, interface);
		mnl_attr_put_u64(request, NDTPA_BASE_REACHABLE_TIME, REACHABLE_MS);
		mnl_attr_put_u64(request, NDTPA_DELAY_PROBE_TIME, DELAY_MS);
		mnl_attr_put_u32(request, NDTPA_MCAST_REPROBES, BROADCAST_REPROBES);
		mnl_attr_nest_end(request, nest);
		int err = netlink_talk(socket, request, NULL, NULL);
		if (first == 0)
			first = err;
	}
	return first;
}
