/* SPDX-License-Identifier: BSD-3-Clause */
#include "withdraw.h"

#include "backends.h"
#include "exception.h"
#include "log.h"

/* What the services on an address of the port say of it. */
struct claim {
	bool is_theirs;  // it may be withdrawn
	bool is_served;  // somebody there has a backend
	bool is_awaited; // somebody may have one soon
};

static bool withdraws(const struct conf_service *conf)
{
	return conf->on_all_down == CONF_ALL_DOWN_WITHDRAW;
}

static bool listens_on(const struct conf_service *conf, const struct net_addr *addr)
{
	for (unsigned l = 0; l < conf->nb_listens; l++)
		if (net_addr_equal(&conf->listens[l].endpoint.addr, addr))
			return true;
	return false;
}

/* Not what the workers have: one that has just been listed isn't published yet. */
static bool has_backend(const struct control_service *service)
{
	for (uint32_t b = 0; b < service->nb_backends; b++)
		if (control_backend_usable(service->backends[b]))
			return true;
	return false;
}

static void add_claims(struct claim *claims, const struct backends *backends,
	const struct control_service *service, const struct conf_port *port)
{
	bool is_served = has_backend(service);
	bool is_awaited = !is_served && control_service_awaited(backends, service);

	for (unsigned a = 0; a < port->nb_addresses; a++) {
		if (!listens_on(service->conf, &port->addresses[a].addr))
			continue;
		claims[a].is_theirs = true;
		claims[a].is_served |= is_served;
		claims[a].is_awaited |= is_awaited;
	}
}

void withdraw_begin(bool withdrawn[CONF_ADDRESSES_MAX], const struct conf *conf)
{
	for (unsigned s = 0; s < conf->nb_services; s++)
		for (unsigned a = 0; a < conf->port.nb_addresses; a++)
			withdrawn[a] |= withdraws(conf->services[s]) &&
				listens_on(conf->services[s], &conf->port.addresses[a].addr);
}

static int set_address(
	const struct exception *exception, const struct net_prefix *prefix, bool is_withdrawn)
{
	int err = exception_set_address(exception, prefix, !is_withdrawn);
	char text[NET_ADDR_TEXT];

	net_addr_format(&prefix->addr, text);
	if (err < 0)
		log_limited(LOG_LEVEL_ERROR, "address %s can't be %s: %s", text,
			is_withdrawn ? "withdrawn" : "put back", strerror(-err));
	else
		log_info("address %s %s", text,
			is_withdrawn ? "withdrawn: no service on it has a backend" : "is back");
	return err;
}

bool withdraw_update(bool withdrawn[CONF_ADDRESSES_MAX], const struct backends *backends,
	const struct conf_port *port, const struct exception *exception)
{
	struct claim claims[CONF_ADDRESSES_MAX] = {{0}};
	bool done = true;

	for (uint32_t s = 0; s < backends->nb_listed; s++)
		if (withdraws(backends->services[s]->conf))
			add_claims(claims, backends, backends->services[s], port);
	for (unsigned a = 0; a < port->nb_addresses; a++) {
		bool is_wanted = !claims[a].is_theirs || claims[a].is_served;
		if (!is_wanted && claims[a].is_awaited)
			done = false; // until then it stays as it is
		else if (withdrawn[a] == !is_wanted)
			continue;
		else if (set_address(exception, &port->addresses[a], !is_wanted) < 0)
			done = false;
		else
			withdrawn[a] = !is_wanted;
	}
	return done;
}
