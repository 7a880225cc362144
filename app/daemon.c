/* SPDX-License-Identifier: BSD-3-Clause */
#include "daemon.h"

#include <event2/event.h>

#include "conf.h"
#include "log.h"

void daemon_tell_exposed(const struct conf *conf)
{
	if (conf->exposed != NULL)
		log_warning("%s may be written by others than root, who then may do whatever weir "
			    "may: chown root %s; chmod go-w %s",
			conf->exposed, conf->exposed, conf->exposed);
}

static void tell_far_gateway(const struct conf_port *port, const struct net_addr *gateway)
{
	char text[NET_ADDR_TEXT];

	// Link-local is where IPv6 routers are found most often.
	if (gateway->family == AF_UNSPEC ||
		(gateway->family == AF_INET6 &&
			IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)gateway->v6)))
		return;
	for (unsigned i = 0; i < port->nb_addresses; i++)
		if (net_prefix_contains(&port->addresses[i], gateway))
			return;
	log_warning("port.gateway %s lies in no prefix of port.address: it is looked for on the "
		    "port's link all the same",
		net_addr_format(gateway, text));
}

void daemon_tell_far_gateways(const struct conf *conf)
{
	tell_far_gateway(&conf->port, &conf->port.gateway4);
	tell_far_gateway(&conf->port, &conf->port.gateway6);
}

void daemon_end(struct daemon *daemon, bool forget)
{
	daemon->forget = forget;
	event_base_loopbreak(daemon->events);
}
