/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * No two listen addresses may be the same. ":80" stands for each address of the port, so all are
 * written out, sorted and compared with their neighbours.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf_schema.h"

#define SPREAD_MAX (1u << 20) // listen addresses written out, over all services

/* A listen address written out, and where it comes from. */
struct spread {
	struct net_endpoint endpoint;
	unsigned service;
	unsigned listen;
};

struct spreads {
	struct spread *all;
	unsigned nb;
	unsigned room;
};

/* NULL: of a service that was carried over. */
static const config_setting_t *setting_of(const struct conf_reader *reader,
	const config_setting_t *services, unsigned service, unsigned listen)
{
	const config_setting_t *keys = conf_reader_service(reader, services, service);

	return keys == NULL
		? NULL
		: conf_reader_element(config_setting_get_member(keys, "listen"), listen);
}

static int add(struct conf_reader *reader, struct spreads *spreads, const struct spread *spread)
{
	if (spreads->nb == SPREAD_MAX)
		return conf_error_set(reader->error, reader->scan->files[0]->name, 0, "services",
			"more than %u listen addresses in all", SPREAD_MAX);
	if (spreads->nb == spreads->room) {
		unsigned room = spreads->room * 2 + 64;
		struct spread *all = realloc(spreads->all, room * sizeof(*all));
		if (all == NULL)
			return conf_reader_memory(reader);
		spreads->all = all;
		spreads->room = room;
	}
	spreads->all[spreads->nb++] = *spread;
	return 0;
}

/* ":80" */
static int spread_any(struct conf_reader *reader, const struct conf *conf, struct spread spread,
	struct spreads *spreads, const config_setting_t *setting)
{
	const struct conf_service *service = conf->services[spread.service];
	bool found = false;

	for (unsigned i = 0; i < conf->port.nb_addresses; i++) {
		spread.endpoint.addr = conf->port.addresses[i].addr;
		if (spread.endpoint.addr.family != service->family)
			continue;
		found = true;
		int err = add(reader, spreads, &spread);
		if (err < 0)
			return err;
	}
	if (found)
		return 0;
	const char *family = service->family == AF_INET6 ? "IPv6" : "IPv4";
	char text[NET_ADDR_TEXT];
	if (service->family == AF_INET && service->nb_names == service->nb_backends)
		return conf_reader_fail(reader, setting,
			"\"%s\" means the port's IPv4 addresses, as a service of names alone is "
			"IPv4 "
			"unless its first address to listen on is IPv6, and it has none; write "
			"\"[%s]:%u\"",
			config_setting_get_string(setting),
			net_addr_format(&conf->port.addresses[0].addr, text),
			ntohs(spread.endpoint.port));
	return conf_reader_fail(reader, setting,
		"\"%s\" means the port's %s addresses, as the backends are %s, and it has none; "
		"add one to port.address",
		config_setting_get_string(setting), family, family);
}

/* "192.0.2.10:80" */
static int spread_one(struct conf_reader *reader, const struct conf *conf,
	const struct spread *spread, struct spreads *spreads, const config_setting_t *setting)
{
	const struct conf_service *service = conf->services[spread->service];
	const struct net_addr *addr = &spread->endpoint.addr;
	static const struct net_addr none;
	char text[NET_ADDR_TEXT];

	net_addr_format(addr, text);
	if (memcmp(addr->v6, none.v6, sizeof(none.v6)) == 0)
		return conf_reader_fail(reader, setting,
			"\"%s\": write every address of the port as \":%u\"",
			config_setting_get_string(setting), ntohs(spread->endpoint.port));
	if (addr->family != service->family)
		return conf_reader_fail(reader, setting,
			"%s is %s and the backends are %s: weir does not translate between them; "
			"make two services of it",
			text, addr->family == AF_INET6 ? "IPv6" : "IPv4",
			service->family == AF_INET6 ? "IPv6" : "IPv4");
	for (unsigned i = 0; i < conf->port.nb_addresses; i++)
		if (net_addr_equal(addr, &conf->port.addresses[i].addr))
			return add(reader, spreads, spread);
	return conf_reader_fail(reader, setting,
		"%s is not an address of the port; add \"%s/%u\" to port.address", text, text,
		net_addr_size(addr->family) * 8);
}

static int compare(const void *a, const void *b)
{
	const struct spread *x = a, *y = b;
	int order = (int)x->endpoint.port - (int)y->endpoint.port;

	if (order == 0)
		order = (int)x->endpoint.addr.family - (int)y->endpoint.addr.family;
	if (order == 0)
		order = memcmp(x->endpoint.addr.v6, y->endpoint.addr.v6, 16);
	if (order == 0)
		order = (x->service > y->service) - (x->service < y->service);
	return order != 0 ? order : (x->listen > y->listen) - (x->listen < y->listen);
}

static int check_unique(struct conf_reader *reader, const struct conf *conf,
	const struct spreads *spreads, const config_setting_t *services)
{
	const struct spread *first = NULL, *second = NULL;
	char text[NET_ENDPOINT_TEXT];
	const char *file;

	if (spreads->nb > 0)
		qsort(spreads->all, spreads->nb, sizeof(*spreads->all), compare);
	for (unsigned i = 1; i < spreads->nb; i++) {
		const struct spread *a = &spreads->all[i - 1], *b = &spreads->all[i];
		if (net_endpoint_equal(&a->endpoint, &b->endpoint) &&
			(second == NULL || b->service < second->service ||
				(b->service == second->service && b->listen < second->listen))) {
			first = a;
			second = b;
		}
	}
	if (second == NULL)
		return 0;
	if (reader->former != NULL) // one that was carried over has no place
		return -EAGAIN;

	const config_setting_t *taken = setting_of(reader, services, first->service, first->listen);
	unsigned line = conf_reader_line(reader, taken, &file);
	if (first->service == second->service)
		return conf_reader_fail(reader,
			setting_of(reader, services, second->service, second->listen),
			"%s is meant by \"%s\" (%s:%u) too; remove one of them",
			net_endpoint_format(&second->endpoint, text),
			config_setting_get_string(taken), file, line);
	return conf_reader_fail(reader,
		setting_of(reader, services, second->service, second->listen),
		"%s is taken: service %s listens there by \"%s\" (%s:%u); give one another address "
		"or port",
		net_endpoint_format(&second->endpoint, text), conf->services[first->service]->name,
		config_setting_get_string(taken), file, line);
}

int conf_check_listens(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root)
{
	const config_setting_t *services = config_setting_get_member(root, "services");
	struct spreads spreads = {NULL};
	int err = 0;

	for (unsigned i = 0; i < conf->nb_services && err == 0; i++) {
		const struct conf_service *service = conf->services[i];
		for (unsigned j = 0; j < service->nb_listens && err == 0; j++) {
			struct spread spread = {service->listens[j].endpoint, i, j};
			// For the message: where there is no setting, all was right, and still is.
			const config_setting_t *setting = setting_of(reader, services, i, j);
			err = service->listens[j].any
				? spread_any(reader, conf, spread, &spreads, setting)
				: spread_one(reader, conf, &spread, &spreads, setting);
		}
	}
	if (err == 0)
		err = check_unique(reader, conf, &spreads, services);
	free(spreads.all);
	return err;
}
