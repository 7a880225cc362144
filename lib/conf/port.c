/* SPDX-License-Identifier: BSD-3-Clause */
/* The keys of port. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf_schema.h"

#define ADDRESS_EXPECTED "\"address/length\" or an array of these, as in \"192.0.2.10/24\""
#define GATEWAY_EXPECTED "an address or an array of one IPv4 and one IPv6 address"
#define EAL_EXPECTED "an array of EAL arguments, as in [ \"--log-level=lib.eal:debug\" ]"
#define EAL_MAX 64
#define NETNS_EXPECTED "a name of at most 63 bytes, or \"\" for the host's"

// As the texts say.
_Static_assert(CONF_NETNS_MAX == 63, NETNS_EXPECTED);
_Static_assert(CONF_ADDRESSES_MAX == 32, "the doc of `address`");

static const char *const drivers[] = {"af_xdp", "af_packet", NULL};

/* A kernel interface ("eth1"), a PCI address or a DPDK device string: one word in any case. */
static bool valid_device(const char *text)
{
	size_t length = strlen(text);

	if (length == 0 || length > 255 || strpbrk(text, " \"'") != NULL)
		return false;
	/* Whatever is no interface name is DPDK's to judge, unless it can't be any of the three. */
	return strpbrk(text, ":,=") != NULL || strncmp(text, "net_", 4) == 0 ||
		(length <= 15 && strchr(text, '/') == NULL);
}

static bool valid_netns(const char *text)
{
	return strlen(text) <= CONF_NETNS_MAX && strpbrk(text, "/ ") == NULL &&
		strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

static int read_addresses(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_port *port = object;
	int nb = conf_reader_texts(reader, setting, ADDRESS_EXPECTED, CONF_ADDRESSES_MAX);

	if (nb < 0)
		return nb;
	port->addresses = calloc(nb, sizeof(*port->addresses));
	if (port->addresses == NULL)
		return conf_reader_memory(reader);
	for (int i = 0; i < nb; i++) {
		const config_setting_t *element = conf_reader_element(setting, i);
		const char *text = config_setting_get_string(element);
		struct net_prefix *prefix = &port->addresses[i];
		if (net_prefix_parse(prefix, text) < 0)
			return conf_reader_fail(reader, element,
				"\"%.60s\" is no address and length; expected " ADDRESS_EXPECTED,
				text);
		if (strchr(text, '/') == NULL)
			return conf_reader_fail(reader, element,
				"\"%s\" lacks its prefix length; write \"%s/24\" or what the "
				"network has",
				text, text);
		port->nb_addresses++;
	}
	return 0;
}

static bool same_addresses(const void *object, const void *other)
{
	const struct conf_port *a = object, *b = other;
	bool same = a->nb_addresses == b->nb_addresses;

	for (unsigned i = 0; same && i < a->nb_addresses; i++)
		same = net_addr_equal(&a->addresses[i].addr, &b->addresses[i].addr) &&
			a->addresses[i].length == b->addresses[i].length;
	return same;
}

static int read_gateways(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_port *port = object;
	int nb = conf_reader_texts(reader, setting, GATEWAY_EXPECTED, 2);

	for (int i = 0; i < nb; i++) {
		const config_setting_t *element = conf_reader_element(setting, i);
		const char *text = config_setting_get_string(element);
		struct net_addr addr, *gateway;
		if (net_addr_parse(&addr, text) < 0)
			return conf_reader_fail(reader, element,
				"\"%.60s\" is no address; expected " GATEWAY_EXPECTED, text);
		gateway = addr.family == AF_INET6 ? &port->gateway6 : &port->gateway4;
		if (gateway->family != AF_UNSPEC)
			return conf_reader_fail(reader, element,
				"\"%s\" is the second of its family; "
				"expected " GATEWAY_EXPECTED,
				text);
		*gateway = addr;
	}
	return nb < 0 ? nb : 0;
}

static bool same_gateways(const void *object, const void *other)
{
	const struct conf_port *a = object, *b = other;

	return net_addr_equal(&a->gateway4, &b->gateway4) &&
		net_addr_equal(&a->gateway6, &b->gateway6);
}

static int read_eal(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_port *port = object;
	int nb = conf_reader_texts(reader, setting, EAL_EXPECTED, EAL_MAX);

	if (nb < 0)
		return nb;
	port->eal = calloc(nb, sizeof(*port->eal));
	if (port->eal == NULL)
		return conf_reader_memory(reader);
	for (int i = 0; i < nb; i++) {
		const config_setting_t *element = conf_reader_element(setting, i);
		const char *text = config_setting_get_string(element);
		if (text == NULL || text[0] == '\0')
			return conf_reader_fail(
				reader, element, "is an empty string; expected " EAL_EXPECTED);
		port->eal[i] = strdup(text);
		if (port->eal[i] == NULL)
			return conf_reader_memory(reader);
		port->nb_eal++;
	}
	return 0;
}

static bool same_eal(const void *object, const void *other)
{
	const struct conf_port *a = object, *b = other;
	bool same = a->nb_eal == b->nb_eal;

	for (unsigned i = 0; same && i < a->nb_eal; i++)
		same = strcmp(a->eal[i], b->eal[i]) == 0;
	return same;
}

#define PUNT(name_, class, initial_, doc_)                                                         \
	{                                                                                          \
		name_, CONF_INTEGER, CONF_AT(struct conf_port, punt_limit[class]),                 \
			.min = 1, .max = 10000000, .initial = initial_, .doc = doc_                \
	}

static const struct conf_key punt_keys[] = {
	PUNT("arp", PUNT_ARP, 1000, "packets a second of ARP"),
	PUNT("nd", PUNT_ND, 1000,
		"packets a second of IPv6 neighbour discovery and queries of multicast routers"),
	PUNT("probe", PUNT_PROBE, 20000, "packets a second of answers to probes"),
	PUNT("backend", PUNT_BACKEND, 20000,
		"packets a second of what else comes from the addresses of backends and gateways: "
		"routing daemons"),
	PUNT("rest", PUNT_REST, 1000, "packets a second of everything else, ping included"),
	{NULL},
};

const struct conf_key conf_port_keys[] = {
	{"device", CONF_TEXT, true, CONF_AT(struct conf_port, device), .valid = valid_device,
		.expected = "a PCI address, a kernel interface or a DPDK device string",
		.kept = true,
		.doc = "the port, as in \"0000:03:00.0\", \"eth1\" or \"net_tap0,iface=tap0\""},
	{"driver", CONF_WORD, CONF_AT(struct conf_port, driver), .min = CONF_DRIVER_AF_XDP,
		.initial = CONF_DRIVER_AUTO, .words = drivers, .fallback = "\"af_xdp\"",
		.kept = true, .doc = "how to drive a kernel interface; not for other devices"},
	{"address", CONF_OWN, true, .read = read_addresses, .same = same_addresses,
		.expected = ADDRESS_EXPECTED,
		.doc = "what the port carries: its own addresses and the virtual ones, at most 32"},
	{"gateway", CONF_OWN, .read = read_gateways, .same = same_gateways,
		.expected = GATEWAY_EXPECTED, .fallback = "none",
		.doc = "the router of the default route, on the port's link, whether in a prefix "
		       "of port.address or not"},
	{"netns", CONF_TEXT, CONF_AT(struct conf_port, netns), .valid = valid_netns,
		.expected = NETNS_EXPECTED, .fallback = "\"weir\", or \"weir-INSTANCE\"",
		.kept = true,
		.doc = "network namespace of weir0, the port's twin in the kernel; \"\" = the "
		       "host's"},
	{"mtu", CONF_INTEGER, CONF_AT(struct conf_port, mtu), .min = 576, .max = 9216,
		.fallback = "the link's", .kept = true,
		.doc = "longest IP packet in bytes; IPv6 wants 1280 or more"},
	{"hugepages", CONF_BOOLEAN, CONF_AT(struct conf_port, hugepages), .initial = true,
		.doc = "whether to use hugepages; without them it is slower, and takes no PCI "
		       "device"},
	{"eal", CONF_OWN, .read = read_eal, .same = same_eal, .expected = EAL_EXPECTED,
		.fallback = "none", .doc = "further arguments of DPDK's environment layer"},
	{"punt", CONF_GROUP, .keys = punt_keys,
		.doc = "how much of which class of packets the kernel gets at most"},
	{NULL},
};
