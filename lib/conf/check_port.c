/* SPDX-License-Identifier: BSD-3-Clause */
/* What must hold between the keys of port and snat. */
#include <errno.h>
#include <string.h>

#include "conf_endpoint.h"
#include "conf_schema.h"

/* "0000:03:00.0", or without the domain, perhaps with devargs behind it. */
static bool is_pci(const char *device)
{
	const char *form =
		strspn(device, "0123456789abcdefABCDEF") == 4 ? "xxxx:xx:xx.x" : "xx:xx.x";
	size_t i;

	for (i = 0; form[i] != '\0'; i++) {
		if (form[i] == 'x' ? device[i] == '\0' ||
					strchr("0123456789abcdefABCDEF", device[i]) == NULL
				   : device[i] != form[i])
			return false;
	}
	return device[i] == '\0' || device[i] == ',';
}

static int check_device(
	struct conf_reader *reader, const struct conf_port *port, const config_setting_t *keys)
{
	const config_setting_t *device = config_setting_get_member(keys, "device");
	bool pci = is_pci(port->device);
	bool interface =
		strpbrk(port->device, ":,=") == NULL && strncmp(port->device, "net_", 4) != 0;

	/* "0000:03:00" and the like: DPDK would only say that there is no such device. */
	if (!pci && strspn(port->device, "0123456789abcdefABCDEF:.") == strlen(port->device) &&
		strchr(port->device, ':') != NULL)
		return conf_reader_fail(reader, device,
			"\"%s\" is no PCI address; expected one as in \"0000:03:00.0\"",
			port->device);
	if (port->driver != CONF_DRIVER_AUTO && !interface)
		return conf_reader_fail(reader, config_setting_get_member(keys, "driver"),
			"is for kernel interfaces, but \"%.60s\" is %s; remove driver",
			port->device, pci ? "a PCI address" : "a DPDK device string");
	return 0;
}

static int check_addresses(
	struct conf_reader *reader, const struct conf_port *port, const config_setting_t *keys)
{
	const config_setting_t *addresses = config_setting_get_member(keys, "address");
	bool v6 = false;

	for (unsigned i = 0; i < port->nb_addresses; i++) {
		const config_setting_t *element = conf_reader_element(addresses, i);
		const struct net_prefix *prefix = &port->addresses[i];
		const char *fault = conf_addr_fault(&prefix->addr);
		if (prefix->length == 0)
			return conf_reader_fail(reader, element,
				"has length 0, a network of all addresses; expected 1 or more");
		if (fault == NULL)
			fault = conf_addr_fault_in(&prefix->addr, prefix);
		if (fault != NULL)
			return conf_reader_fail(reader, element,
				"\"%s\" is %s; expected one that a host can have",
				config_setting_get_string(element), fault);
		for (unsigned j = 0; j < i; j++)
			if (net_addr_equal(&prefix->addr, &port->addresses[j].addr))
				return conf_reader_fail(reader, element,
					"\"%s\" is given twice; remove one",
					config_setting_get_string(element));
		v6 = v6 || prefix->addr.family == AF_INET6;
	}
	if (v6 && port->mtu != 0 && port->mtu < 1280)
		return conf_reader_fail(reader, config_setting_get_member(keys, "mtu"),
			"%u is too small for the port's IPv6 addresses; expected 1280 or more",
			port->mtu);
	return 0;
}

static int check_gateway(
	struct conf_reader *reader, const struct conf_port *port, const config_setting_t *element)
{
	const char *text = config_setting_get_string(element), *fault;
	struct net_addr gateway;
	bool has_family = false;

	net_addr_parse(&gateway, text);
	fault = conf_addr_fault(&gateway);
	for (unsigned i = 0; i < port->nb_addresses; i++) {
		const struct net_prefix *prefix = &port->addresses[i];
		if (net_addr_equal(&gateway, &prefix->addr))
			return conf_reader_fail(reader, element,
				"\"%s\" is the port's own address; "
				"expected the router's",
				text);
		if (fault == NULL)
			fault = conf_addr_fault_in(&gateway, prefix);
		has_family = has_family || prefix->addr.family == gateway.family;
	}
	if (fault != NULL)
		return conf_reader_fail(reader, element,
			"\"%s\" is %s; expected the router's address", text, fault);
	if (!has_family)
		return conf_reader_fail(reader, element,
			"\"%s\" is a router for %s, of which port.address has no address; add one, "
			"or remove it",
			text, gateway.family == AF_INET6 ? "IPv6" : "IPv4");
	return 0;
}

static int check_snat(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *keys)
{
	const config_setting_t *addresses;

	if (keys == NULL || conf->snat.nb_addresses == 0)
		return 0;
	addresses = config_setting_get_member(keys, "addresses");
	for (unsigned i = 0; i < conf->snat.nb_addresses; i++) {
		const config_setting_t *element = conf_reader_element(addresses, i);
		const char *text = config_setting_get_string(element);
		const struct net_addr *addr = &conf->snat.addresses[i];
		bool found = false;
		for (unsigned j = 0; j < conf->port.nb_addresses; j++)
			found = found || net_addr_equal(addr, &conf->port.addresses[j].addr);
		if (!found)
			return conf_reader_fail(reader, element,
				"\"%s\" is not an address of the "
				"port; add \"%s/%u\" to port.address",
				text, text, net_addr_size(addr->family) * 8);
		for (unsigned j = 0; j < i; j++)
			if (net_addr_equal(addr, &conf->snat.addresses[j]))
				return conf_reader_fail(
					reader, element, "\"%s\" is given twice; remove one", text);
	}
	return 0;
}

int conf_check_port(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root)
{
	const config_setting_t *keys = config_setting_get_member(root, "port");
	const config_setting_t *gateway = config_setting_get_member(keys, "gateway");
	unsigned nb_gateways = (conf->port.gateway4.family != AF_UNSPEC) +
		(conf->port.gateway6.family != AF_UNSPEC);
	int err;

	err = check_device(reader, &conf->port, keys);
	if (err == 0)
		err = check_addresses(reader, &conf->port, keys);
	for (unsigned i = 0; i < nb_gateways && err == 0; i++)
		err = check_gateway(reader, &conf->port, conf_reader_element(gateway, i));
	if (err == 0)
		err = check_snat(reader, conf, config_setting_get_member(root, "snat"));
	return err;
}
