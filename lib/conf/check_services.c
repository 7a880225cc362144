/* SPDX-License-Identifier: BSD-3-Clause */
/* What must hold within a service, and between it and the port. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "conf_endpoint.h"
#include "conf_schema.h"

static const char *family_name(sa_family_t family)
{
	return family == AF_INET6 ? "IPv6" : "IPv4";
}

static int check_health(
	struct conf_reader *reader, const struct conf_health *health, const config_setting_t *keys)
{
	static const char *const http_keys[] = {"path", "host", "status"};
	bool http = health->type == CONF_HEALTH_HTTP || health->type == CONF_HEALTH_HTTPS;
	const config_setting_t *key;

	if (keys == NULL)
		return 0;
	for (unsigned i = 0; i < 3; i++) {
		key = config_setting_get_member(keys, http_keys[i]);
		if (key != NULL && !http)
			return conf_reader_fail(reader, key,
				"is for HTTP probes; add type = \"http\" or \"https\", or remove "
				"it");
	}
	key = config_setting_get_member(keys, "verify");
	if (key != NULL && health->verify && health->type != CONF_HEALTH_HTTPS)
		return conf_reader_fail(
			reader, key, "is for HTTPS probes; add type = \"https\", or remove it");
	key = config_setting_get_member(keys, "timeout_ms");
	if (key != NULL && health->timeout_ms > health->interval_ms)
		return conf_reader_fail(reader, key,
			"%u is longer than interval_ms (%u): a probe "
			"must end before the next begins; lower it or raise interval_ms",
			health->timeout_ms, health->interval_ms);
	return 0;
}

/* Weir sends from the port's addresses: to one of them a packet would never leave the machine. */
static int check_backend_address(struct conf_reader *reader, const struct conf *conf,
	const struct conf_service *service, const struct conf_backend *backend,
	const config_setting_t *element)
{
	const struct net_addr *addr = &backend->endpoint.addr;
	const char *fault;
	char text[NET_ADDR_TEXT];

	if (backend->host != NULL) // the resolver takes no address that can't be
		return 0;
	if (backend->resolve_ms != 0)
		return conf_reader_fail(reader, config_setting_get_member(element, "resolve_ms"),
			"is for names, and the address is none; remove it");
	fault = conf_addr_fault(addr);

	net_addr_format(addr, text);
	if (addr->family != service->family)
		return conf_reader_fail(reader, element,
			"%s is %s and the service's first backend "
			"is %s: weir does not translate between them; make two services of it",
			text, family_name(addr->family), family_name(service->family));
	if (addr->family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)addr->v6))
		fault = "a link-local address";
	for (unsigned i = 0; i < conf->port.nb_addresses; i++) {
		const struct net_prefix *prefix = &conf->port.addresses[i];
		if (net_addr_equal(addr, &prefix->addr))
			return conf_reader_fail(reader, element,
				"%s is an address of weir0 itself: "
				"the balancer can't send to itself; publish the container on the "
				"host's other address",
				text);
		if (fault == NULL)
			fault = conf_addr_fault_in(addr, prefix);
	}
	if (fault != NULL)
		return conf_reader_fail(reader, element,
			"%s is %s; expected one that a host can have", text, fault);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	const struct conf_backend *const *x = a, *const *y = b;
	int order = strcmp((*x)->name, (*y)->name);

	return order != 0 ? order : *x < *y ? -1 : 1; // backends lie in the order of the file
}

static const char *host_of(const struct conf_backend *backend)
{
	return backend->host != NULL ? backend->host : "";
}

static int by_address(const void *a, const void *b)
{
	const struct conf_backend *const *x = a, *const *y = b;
	int order = strcasecmp(host_of(*x), host_of(*y));

	if (order == 0)
		order = memcmp((*x)->endpoint.addr.v6, (*y)->endpoint.addr.v6, 16);
	if (order == 0)
		order = (int)(*x)->endpoint.port - (int)(*y)->endpoint.port;
	return order != 0 ? order : *x < *y ? -1 : 1;
}

/* Report the first in the file's order that equals one before it. */
static int check_unique(struct conf_reader *reader, const struct conf_service *service,
	const config_setting_t *backends, const struct conf_backend **sorted, bool names)
{
	const struct conf_backend *first = NULL, *second = NULL;
	char text[NET_ENDPOINT_TEXT];
	const char *file;

	qsort(sorted, service->nb_backends, sizeof(*sorted), names ? by_name : by_address);
	for (unsigned i = 1; i < service->nb_backends; i++) {
		const struct conf_backend *a = sorted[i - 1], *b = sorted[i];
		bool same = names ? strcmp(a->name, b->name) == 0
				  : net_endpoint_equal(&a->endpoint, &b->endpoint) &&
				strcasecmp(host_of(a), host_of(b)) == 0;
		if (same && (second == NULL || b < second)) {
			first = a;
			second = b;
		}
	}
	if (second == NULL)
		return 0;
	return conf_reader_fail(reader,
		config_setting_get_elem(backends, second - service->backends),
		"%s \"%s\" is that of backends[%u] (line %u) too; %s", names ? "name" : "address",
		names || second->host != NULL ? second->name
					      : net_endpoint_format(&second->endpoint, text),
		(unsigned)(first - service->backends),
		conf_reader_line(reader,
			config_setting_get_elem(backends, first - service->backends), &file),
		names ? "rename one" : "remove one, and use weight to give it a larger share");
}

static int check_duplicates(struct conf_reader *reader, const struct conf_service *service,
	const config_setting_t *backends)
{
	const struct conf_backend **sorted = malloc(service->nb_backends * sizeof(*sorted));
	int err;

	if (sorted == NULL)
		return conf_reader_memory(reader);
	for (unsigned i = 0; i < service->nb_backends; i++)
		sorted[i] = &service->backends[i];
	err = check_unique(reader, service, backends, sorted, false);
	if (err == 0)
		err = check_unique(reader, service, backends, sorted, true);
	free(sorted);
	return err;
}

static int check_backends(struct conf_reader *reader, const struct conf *conf,
	const struct conf_service *service, const config_setting_t *backends)
{
	unsigned weights = 0, primaries = 0;

	for (unsigned i = 0; i < service->nb_backends; i++) {
		int err = check_backend_address(reader, conf, service, &service->backends[i],
			config_setting_get_elem(backends, i));
		if (err < 0)
			return err;
		weights += service->backends[i].weight;
		primaries += !service->backends[i].backup;
	}
	if (primaries == 0)
		return conf_reader_fail(reader, backends,
			"all are backups, so that there is nothing they could stand in for; take "
			"backup from one");
	if (weights == 0)
		return conf_reader_fail(reader, backends,
			"all weights are 0, so that no backend would be chosen; give one a weight");
	return check_duplicates(reader, service, backends);
}

static int check_snat(struct conf_reader *reader, const struct conf *conf,
	const struct conf_service *service, const config_setting_t *root)
{
	for (unsigned i = 0; i < conf->snat.nb_addresses; i++)
		if (conf->snat.addresses[i].family == service->family)
			return 0;
	if (conf->snat.nb_addresses == 0) // the port's, which the listen addresses show to exist
		return 0;
	return conf_reader_fail(reader,
		config_setting_get_member(config_setting_get_member(root, "snat"), "addresses"),
		"holds no %s address, which service %s needs for its backends; add one",
		family_name(service->family), service->name);
}

/* An address that the port can do without: nobody's way home, and no SNAT address. */
static const char *withdraw_fault(const struct conf *conf, const struct conf_listen *listen)
{
	const struct net_addr *addr = &listen->endpoint.addr;
	const struct net_prefix *found = NULL, *first = NULL;

	if (listen->any)
		return "is every address of the port";
	for (unsigned i = 0; i < conf->port.nb_addresses; i++) {
		const struct net_prefix *prefix = &conf->port.addresses[i];
		if (prefix->addr.family == addr->family && first == NULL)
			first = prefix;
		if (net_addr_equal(&prefix->addr, addr))
			found = prefix;
	}
	if (found == NULL || found->length != net_addr_size(addr->family) * 8)
		return "stands in port.address with the length of a network";
	for (unsigned i = 0; i < conf->snat.nb_addresses; i++)
		if (net_addr_equal(&conf->snat.addresses[i], addr))
			return "is a SNAT address, which backends answer to";
	return found == first && conf->snat.nb_addresses == 0
		? "is the port's first one, which backends answer to"
		: NULL;
}

static int check_withdraw(struct conf_reader *reader, const struct conf *conf,
	const struct conf_service *service, const config_setting_t *keys)
{
	for (unsigned i = 0; i < service->nb_listens; i++) {
		const char *fault = service->on_all_down != CONF_ALL_DOWN_WITHDRAW
			? NULL
			: withdraw_fault(conf, &service->listens[i]);
		if (fault != NULL)
			return conf_reader_fail(reader,
				config_setting_get_member(keys, "on_all_down"),
				"listen address %u %s, so it can't be withdrawn; give the service "
				"an address of its own, in port.address as \"ADDRESS/%u\"",
				i + 1, fault, net_addr_size(service->family) * 8);
	}
	return 0;
}

static bool listens_on(const struct conf_service *service, const struct net_addr *addr)
{
	for (unsigned i = 0; i < service->nb_listens; i++)
		if (service->listens[i].any
				? service->family == addr->family
				: net_addr_equal(&service->listens[i].endpoint.addr, addr))
			return true;
	return false;
}

/* An address can't be withdrawn for one service and stay for another. */
static int check_address_of_withdrawals(struct conf_reader *reader, const struct conf *conf,
	const config_setting_t *services, const struct net_addr *addr)
{
	const struct conf_service *stays = NULL;
	char text[NET_ADDR_TEXT];
	unsigned goes = conf->nb_services;

	for (unsigned i = 0; i < conf->nb_services; i++) {
		if (!listens_on(conf->services[i], addr))
			continue;
		if (conf->services[i]->on_all_down != CONF_ALL_DOWN_WITHDRAW)
			stays = conf->services[i];
		else if (goes == conf->nb_services)
			goes = i;
	}
	if (stays == NULL || goes == conf->nb_services)
		return 0;
	if (reader->former != NULL) // one that was carried over has no place
		return -EAGAIN;
	return conf_reader_fail(reader,
		config_setting_get_member(
			conf_reader_service(reader, services, goes), "on_all_down"),
		"would withdraw %s, where service %s listens too, which has another on_all_down; "
		"give both \"withdraw\", or each an address of its own",
		net_addr_format(addr, text), stays->name);
}

static int check_withdrawals(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *services)
{
	bool any = false;
	int err = 0;

	for (unsigned i = 0; i < conf->nb_services && !any; i++)
		any = conf->services[i]->on_all_down == CONF_ALL_DOWN_WITHDRAW;
	for (unsigned a = 0; any && a < conf->port.nb_addresses && err == 0; a++)
		err = check_address_of_withdrawals(
			reader, conf, services, &conf->port.addresses[a].addr);
	return err;
}

int conf_check_services(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root)
{
	const config_setting_t *services = config_setting_get_member(root, "services");

	for (unsigned i = 0; i < conf->nb_services; i++) {
		const struct conf_service *service = conf->services[i];
		const config_setting_t *keys = conf_reader_service(reader, services, i);
		if (keys == NULL)
			continue;
		int err = check_health(
			reader, &service->health, config_setting_get_member(keys, "health"));
		if (err == 0)
			err = check_backends(
				reader, conf, service, config_setting_get_member(keys, "backends"));
		if (err == 0)
			err = conf_check_access(reader, service, keys);
		if (err == 0)
			err = check_withdraw(reader, conf, service, keys);
		if (err == 0)
			err = check_snat(reader, conf, service, root);
		if (err < 0)
			return err;
	}
	return check_withdrawals(reader, conf, services);
}
