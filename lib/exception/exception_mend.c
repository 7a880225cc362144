/* SPDX-License-Identifier: BSD-3-Clause */
/* weir0 as somebody may have left it, and how it is to be. */
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "addr.h"
#include "conf.h"
#include "exception.h"
#include "exception_interface.h"
#include "exception_thread.h"
#include "log.h"
#include "netlink.h"

#define REQUEST_SIZE 128

enum exception_state exception_state(const struct exception *exception)
{
	if (exception_interface_index(exception->look_fd) != exception->index)
		return EXCEPTION_GONE; // or another one of the name, which is as good
	return exception_interface_is_up(exception->look_fd) ? EXCEPTION_UP : EXCEPTION_DOWN;
}

bool exception_netns_is_named(const struct exception *exception)
{
	struct stat own, named;
	char path[128];

	if (exception->netns.fd < 0)
		return true; // the host's
	snprintf(path, sizeof(path), "/run/netns/%s", exception->netns.name);
	return fstat(exception->netns.fd, &own) < 0 ||
		(stat(path, &named) == 0 && named.st_ino == own.st_ino);
}

/* Say what was missing, and how putting it back went. */
static int tell(const char *what, int err)
{
	if (err < 0)
		log_limited(LOG_LEVEL_ERROR,
			EXCEPTION_INTERFACE " has lost %s, which can't be put back: %s", what,
			strerror(-err));
	else
		log_limited(LOG_LEVEL_WARNING,
			EXCEPTION_INTERFACE " had lost %s: put back; who takes it away?", what);
	return err;
}

static bool has_address(
	const struct exception_addresses *addresses, const struct net_prefix *prefix)
{
	for (unsigned i = 0; i < addresses->count; i++)
		if (net_addr_equal(&addresses->prefixes[i].addr, &prefix->addr))
			return true;
	return false;
}

static int mend_addresses(
	const struct exception *exception, const struct conf_port *conf, const bool *withdrawn)
{
	struct exception_addresses *found = malloc(sizeof(*found));
	char text[NET_ADDR_TEXT], what[NET_ADDR_TEXT + 16];

	if (found == NULL)
		return -ENOMEM;
	found->index = exception->index;
	int err = exception_addresses_read(exception->requests, found);
	for (unsigned a = 0; a < conf->nb_addresses && err == 0; a++) {
		if (withdrawn[a] || has_address(found, &conf->addresses[a]))
			continue;
		snprintf(what, sizeof(what), "its address %s",
			net_prefix_format(&conf->addresses[a], text));
		err = tell(what,
			exception_interface_change(
				exception->requests, exception->index, &conf->addresses[a], true));
	}
	free(found);
	return err;
}

/* Whether there is no way to an address that nobody has, and so no default route. */
static bool lacks_default_route(struct mnl_socket *socket, sa_family_t family)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);
	struct net_addr nobody;

	net_addr_parse(&nobody, family == AF_INET6 ? "8000::1" : "240.0.0.1");
	request->nlmsg_type = RTM_GETROUTE;
	request->nlmsg_flags = NLM_F_REQUEST;
	struct rtmsg *route = mnl_nlmsg_put_extra_header(request, sizeof(*route));
	route->rtm_family = family;
	route->rtm_dst_len = net_addr_size(family) * 8;
	mnl_attr_put(request, RTA_DST, net_addr_size(family), nobody.v6);
	return netlink_talk(socket, request, NULL, NULL) == -ENETUNREACH;
}

static int mend_gateway(const struct exception *exception, const struct net_addr *gateway)
{
	char text[NET_ADDR_TEXT], what[NET_ADDR_TEXT + 32];

	// In the host's namespace the default route is the host's.
	if (gateway->family == AF_UNSPEC || exception->netns.fd < 0 ||
		!lacks_default_route(exception->requests, gateway->family))
		return 0;
	snprintf(what, sizeof(what), "the default route by %s", net_addr_format(gateway, text));
	return tell(what,
		exception_interface_default_route(
			exception->requests, exception->index, gateway, false));
}

int exception_mend(
	const struct exception *exception, const struct conf_port *conf, const bool *withdrawn)
{
	int err = 0;

	if (exception_state(exception) == EXCEPTION_DOWN)
		err = tell("its being up",
			exception_interface_up(exception->requests, exception->index));
	if (err == 0)
		err = mend_addresses(exception, conf, withdrawn);
	if (err == 0)
		err = mend_gateway(exception, &conf->gateway4);
	return err == 0 ? mend_gateway(exception, &conf->gateway6) : err;
}
