/* SPDX-License-Identifier: BSD-3-Clause */
#include "withdraw.h"

#include "backends.h"
#include "exception.h"
#include "log.h"

static void want_withdrawn(
	bool *wanted, const struct conf_service *conf, const struct conf_port *port)
{
	for (unsigned l = 0; l < conf->nb_listens; l++)
		for (unsigned a = 0; a < port->nb_addresses; a++)
			wanted[a] |= net_addr_equal(
				&conf->listens[l].endpoint.addr, &port->addresses[a].addr);
}

bool withdraw_update(bool withdrawn[CONF_ADDRESSES_MAX], const struct backends *backends,
	const struct conf_port *port, struct exception *exception)
{
	bool wanted[CONF_ADDRESSES_MAX] = {false}, done = true;

	for (uint32_t s = 0; s < backends->nb_listed; s++) {
		const struct control_service *service = backends->services[s];
		if (service->conf->on_all_down == CONF_ALL_DOWN_WITHDRAW && service->is_empty)
			want_withdrawn(wanted, service->conf, port);
	}
	for (unsigned a = 0; a < port->nb_addresses; a++) {
		char text[NET_ADDR_TEXT];
		if (wanted[a] == withdrawn[a])
			continue;
		net_addr_format(&port->addresses[a].addr, text);
		int err = exception_set_address(exception, &port->addresses[a], !wanted[a]);
		if (err < 0) {
			log_limited(LOG_LEVEL_ERROR, "address %s can't be %s: %s", text,
				wanted[a] ? "withdrawn" : "put back", strerror(-err));
			done = false;
			continue;
		}
		withdrawn[a] = wanted[a];
		log_info("address %s %s", text,
			wanted[a] ? "withdrawn: a service on it has no backend" : "is back");
	}
	return done;
}
