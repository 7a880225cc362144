/* SPDX-License-Identifier: BSD-3-Clause */
#include "resolver.h"

#include <errno.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "apply.h"
#include "conf.h"
#include "conf_endpoint.h"
#include "daemon.h"
#include "log.h"

#define ADDRESSES_MAX 256 // of one name
#define TTL_MIN_MS 1000   // whatever the answer says
#define TTL_MAX_MS 3600000
#define RETRY_MS 5000   // after a failure, or sooner if it is due
#define BUSY_RETRY_MS 5 // something else is being applied
#define RESOLV_CONF "/etc/resolv.conf"

struct name {
	struct resolver *resolver;
	char *host;
	sa_family_t family;
	unsigned resolve_ms;                  // the shortest that is asked for; 0 = TTL
	struct net_addr addrs[ADDRESSES_MAX]; // of the last good answer, sorted
	uint32_t nb_addrs;
	bool is_wanted;  // by the running configuration
	bool is_asked;   // an answer is to come
	bool is_changed; // not applied yet
	bool has_failed;
	struct event *timer;
	LIST_ENTRY(name) entry;
};

struct resolver {
	struct daemon *daemon;
	struct evdns_base *dns; // NULL as long as there is no name
	struct event *apply;
	LIST_HEAD(, name) names;
};

static struct name *find(const struct resolver *resolver, const char *host, sa_family_t family)
{
	struct name *name;

	LIST_FOREACH(name, &resolver->names, entry)
		if (name->family == family && strcmp(name->host, host) == 0)
			return name;
	return NULL;
}

uint32_t resolver_addresses(const struct resolver *resolver, const char *host, sa_family_t family,
	const struct net_addr **addrs)
{
	struct name *name = resolver == NULL ? NULL : find(resolver, host, family);

	if (name == NULL)
		return 0;
	*addrs = name->addrs;
	return name->nb_addrs;
}

static void name_destroy(struct name *name)
{
	LIST_REMOVE(name, entry);
	if (name->timer != NULL)
		event_free(name->timer);
	free(name->host);
	free(name);
}

/* --- answers --- */

/* Nobody may point a name at the balancer itself, or at what is no host. */
static bool may_be_backend(const struct resolver *resolver, const struct net_addr *addr)
{
	const struct conf_port *port = &resolver->daemon->conf->port;

	for (unsigned i = 0; i < port->nb_addresses; i++)
		if (net_addr_equal(&port->addresses[i].addr, addr))
			return false;
	return conf_addr_fault(addr) == NULL;
}

static uint32_t take_addresses(
	struct name *name, int count, const void *addresses, struct net_addr *addrs)
{
	unsigned size = net_addr_size(name->family);
	uint32_t nb = 0;

	for (int i = 0; i < count && nb < ADDRESSES_MAX; i++) {
		struct net_addr *addr = &addrs[nb];
		memset(addr, 0, sizeof(*addr));
		addr->family = name->family;
		memcpy(addr->v6, (const char *)addresses + i * size, size);
		nb += may_be_backend(name->resolver, addr);
	}
	// Servers answer in another order each time.
	qsort(addrs, nb, sizeof(*addrs), net_addr_compare);
	return nb;
}

static bool same_addresses(const struct name *name, const struct net_addr *addrs, uint32_t nb)
{
	bool same = nb == name->nb_addrs;

	for (uint32_t i = 0; same && i < nb; i++)
		same = net_addr_equal(&addrs[i], &name->addrs[i]);
	return same;
}

static void log_addresses(const struct name *name)
{
	char text[512], addr[NET_ADDR_TEXT];
	size_t length = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < name->nb_addrs && length + NET_ADDR_TEXT < sizeof(text); i++)
		length += snprintf(text + length, sizeof(text) - length, " %s",
			net_addr_format(&name->addrs[i], addr));
	log_info("name %s:%s (%u address%s)", name->host, text, name->nb_addrs,
		name->nb_addrs == 1 ? "" : "es");
}

static void apply_soon(struct resolver *resolver, unsigned ms)
{
	event_add(resolver->apply, &(struct timeval){.tv_usec = ms * 1000});
}

static void ask_later(struct name *name, unsigned ms)
{
	event_add(name->timer, &(struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000});
}

static void answered(int result, char type, int count, int ttl, void *addresses, void *context)
{
	struct name *name = context;
	struct net_addr addrs[ADDRESSES_MAX];
	uint32_t nb = 0;

	name->is_asked = false;
	if (!name->is_wanted) {
		name_destroy(name);
		return;
	}
	if (result == DNS_ERR_NONE)
		nb = take_addresses(name, count, addresses, addrs);
	if (nb == 0) {
		if (!name->has_failed)
			log_warning("name %s: %s; its last addresses stay", name->host,
				result == DNS_ERR_NONE ? "no address that a backend can have"
						       : evdns_err_to_string(result));
		name->has_failed = true;
		ask_later(name,
			name->resolve_ms != 0 && name->resolve_ms < RETRY_MS ? name->resolve_ms
									     : RETRY_MS);
		return;
	}
	name->has_failed = false;
	if (!same_addresses(name, addrs, nb)) {
		memcpy(name->addrs, addrs, nb * sizeof(*addrs));
		name->nb_addrs = nb;
		name->is_changed = true;
		log_addresses(name);
		apply_soon(name->resolver, 0);
	}
	uint64_t ttl_ms = ttl < 0 ? 0 : ttl * 1000ULL;
	if (ttl_ms < TTL_MIN_MS)
		ttl_ms = TTL_MIN_MS;
	if (ttl_ms > TTL_MAX_MS)
		ttl_ms = TTL_MAX_MS;
	ask_later(name, name->resolve_ms != 0 ? name->resolve_ms : ttl_ms);
}

static void ask(evutil_socket_t fd, short what, void *context)
{
	struct name *name = context;
	struct evdns_base *dns = name->resolver->dns;
	// A whole name is not looked for in the domains of resolv.conf.
	int flags = strchr(name->host, '.') != NULL ? DNS_QUERY_NO_SEARCH : 0;
	struct evdns_request *request;

	if (name->is_asked)
		return;
	name->is_asked = true; // the answer may come within the call
	if (name->family == AF_INET6)
		request = evdns_base_resolve_ipv6(dns, name->host, flags, answered, name);
	else
		request = evdns_base_resolve_ipv4(dns, name->host, flags, answered, name);
	if (request == NULL) {
		name->is_asked = false;
		ask_later(name, RETRY_MS);
	}
}

/* --- applying --- */

static void applied(void *context, int err)
{
	struct resolver *resolver = context;

	if (err < 0) // the next change of any address brings them along
		log_error("addresses of names can't be taken: %s", strerror(-err));
	apply_soon(resolver, 0); // others may have changed in the meantime
}

static bool uses_changed(const struct resolver *resolver, const struct conf_service *service)
{
	for (unsigned b = 0; service->nb_names != 0 && b < service->nb_backends; b++) {
		const char *host = service->backends[b].host;
		const struct name *name =
			host == NULL ? NULL : find(resolver, host, service->family);
		if (name != NULL && name->is_changed)
			return true;
	}
	return false;
}

static void apply_due(evutil_socket_t fd, short what, void *context)
{
	struct resolver *resolver = context;
	const struct conf *conf = resolver->daemon->conf;
	bool *changed, any = false;
	struct name *name;

	if (apply_busy(resolver->daemon->apply)) {
		apply_soon(resolver, BUSY_RETRY_MS);
		return;
	}
	changed = calloc(conf->nb_services + 1, sizeof(*changed));
	for (unsigned s = 0; changed != NULL && s < conf->nb_services; s++)
		any |= changed[s] = uses_changed(resolver, conf->services[s]);
	if (any &&
		apply_start(resolver->daemon->apply, NULL, changed, NULL, applied, resolver) == 0) {
		LIST_FOREACH(name, &resolver->names, entry)
			name->is_changed = false;
	}
	free(changed);
}

/* --- which names --- */

static void dns_log(int is_warning, const char *message)
{
	log_debug("dns: %s", message);
}

/* The servers of the configuration, or the system's, as they are now. */
static int set_servers(struct resolver *resolver, const struct conf *conf)
{
	if (resolver->dns == NULL) {
		evdns_set_log_fn(dns_log);
		resolver->dns = evdns_base_new(resolver->daemon->events, 0);
		if (resolver->dns == NULL)
			return -ENOMEM;
		evdns_base_set_option(resolver->dns, "timeout:", "2");
	}
	evdns_base_clear_nameservers_and_suspend(resolver->dns);
	for (unsigned i = 0; i < conf->nb_resolvers; i++) {
		struct sockaddr_storage server;
		socklen_t size = net_addr_sockaddr(
			&conf->resolvers[i].addr, conf->resolvers[i].port, &server);
		evdns_base_nameserver_sockaddr_add(
			resolver->dns, (struct sockaddr *)&server, size, 0);
	}
	if (conf->nb_resolvers == 0)
		evdns_base_resolv_conf_parse(resolver->dns, DNS_OPTIONS_ALL, RESOLV_CONF);
	evdns_base_resume(resolver->dns);
	return 0;
}

static void want(struct resolver *resolver, const struct conf_backend *backend, sa_family_t family)
{
	struct name *name = find(resolver, backend->host, family);

	if (name == NULL) {
		name = calloc(1, sizeof(*name));
		if (name == NULL)
			goto fail;
		name->resolver = resolver;
		name->family = family;
		LIST_INSERT_HEAD(&resolver->names, name, entry);
		name->host = strdup(backend->host);
		name->timer = evtimer_new(resolver->daemon->events, ask, name);
		if (name->host == NULL || name->timer == NULL) {
			name_destroy(name);
			goto fail;
		}
		ask_later(name, 0);
	}
	if (!name->is_wanted ||
		(backend->resolve_ms != 0 &&
			(name->resolve_ms == 0 || backend->resolve_ms < name->resolve_ms)))
		name->resolve_ms = backend->resolve_ms;
	name->is_wanted = true;
	return;
fail:
	log_error("name %s: no memory to follow it", backend->host);
}

void resolver_follow(struct resolver *resolver, const struct conf *conf)
{
	bool has_servers = false;
	struct name *name, *next;

	LIST_FOREACH(name, &resolver->names, entry)
		name->is_wanted = false;
	for (unsigned s = 0; s < conf->nb_services; s++) {
		const struct conf_service *service = conf->services[s];
		for (unsigned b = 0; service->nb_names != 0 && b < service->nb_backends; b++) {
			if (service->backends[b].host == NULL)
				continue;
			if (!has_servers && set_servers(resolver, conf) < 0)
				return;
			has_servers = true;
			want(resolver, &service->backends[b], service->family);
		}
	}
	for (name = LIST_FIRST(&resolver->names); name != NULL; name = next) {
		next = LIST_NEXT(name, entry);
		if (name->is_wanted)
			ask_later(name, 0); // a reload asks for all anew
		else if (!name->is_asked)   // else its answer ends it
			name_destroy(name);
	}
}

struct resolver *resolver_create(struct daemon *daemon)
{
	struct resolver *resolver = calloc(1, sizeof(*resolver));

	if (resolver == NULL)
		return NULL;
	resolver->daemon = daemon;
	LIST_INIT(&resolver->names);
	resolver->apply = evtimer_new(daemon->events, apply_due, resolver);
	if (resolver->apply != NULL)
		return resolver;
	free(resolver);
	return NULL;
}

void resolver_destroy(struct resolver *resolver)
{
	if (resolver == NULL)
		return;
	if (resolver->dns != NULL)
		evdns_base_free(resolver->dns, 0);
	while (!LIST_EMPTY(&resolver->names))
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it leaves the list
		name_destroy(LIST_FIRST(&resolver->names));
	event_free(resolver->apply);
	free(resolver);
}
