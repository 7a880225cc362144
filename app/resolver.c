/* SPDX-License-Identifier: BSD-3-Clause */
#include "resolver.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "apply.h"
#include "conf.h"
#include "conf_endpoint.h"
#include "daemon.h"
#include "dns.h"
#include "kept_names.h"
#include "log.h"

#define ADDRESSES_MAX 256 // of one name
#define TTL_MIN_MS 1000   // whatever the answer says
#define TTL_MAX_MS 3600000
#define RETRY_MS 5000   // after a failure, or sooner if it is due
#define BUSY_RETRY_MS 5 // something else is being applied
#define LOOK_S 1        // at the system's files
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
	bool is_cut; // it has more addresses than are taken
	struct event *timer;
	LIST_ENTRY(name) entry;
};

/* What tells that a file is another one. */
struct file_mark {
	ino_t inode;
	off_t size;
	struct timespec changed;
};

struct resolver {
	struct daemon *daemon;
	struct dns *dns; // NULL as long as there is no name
	struct event *apply;
	struct event *look; // while there are names
	struct file_mark hosts, resolv_conf;
	bool is_kept; // what is known of the names
	bool has_failed_to_keep;
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

bool resolver_awaits(const struct resolver *resolver, const char *host, sa_family_t family)
{
	const struct name *name = resolver == NULL ? NULL : find(resolver, host, family);

	return resolver != NULL && (name == NULL || (name->nb_addrs == 0 && !name->has_failed));
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

/* Leave of the addresses what a backend can have, each once and in order: servers answer in another
 * one each time. Returns how many. */
static uint32_t tidy_addresses(
	const struct resolver *resolver, struct net_addr *addrs, uint32_t nb_addrs)
{
	uint32_t nb = 0, nb_single = 0;

	for (uint32_t i = 0; i < nb_addrs; i++)
		if (may_be_backend(resolver, &addrs[i]))
			addrs[nb++] = addrs[i];
	qsort(addrs, nb, sizeof(*addrs), net_addr_compare);
	for (uint32_t i = 0; i < nb; i++)
		if (i == 0 || !net_addr_equal(&addrs[i], &addrs[i - 1]))
			addrs[nb_single++] = addrs[i];
	return nb_single;
}

/* As many as a name may have. */
static uint32_t limit_addresses(struct name *name, uint32_t nb_addrs)
{
	bool was_cut = name->is_cut;

	name->is_cut = nb_addrs > ADDRESSES_MAX;
	if (name->is_cut && !was_cut)
		log_warning(
			"name %s: it has %u addresses, of which the lowest %u are taken: no name "
			"has more here",
			name->host, nb_addrs, ADDRESSES_MAX);
	return name->is_cut ? ADDRESSES_MAX : nb_addrs;
}

static bool same_addresses(const struct name *name, const struct net_addr *addrs, uint32_t nb)
{
	bool same = nb == name->nb_addrs;

	for (uint32_t i = 0; same && i < nb; i++)
		same = net_addr_equal(&addrs[i], &name->addrs[i]);
	return same;
}

static void log_addresses(const struct name *name, const char *since)
{
	char text[512], addr[NET_ADDR_TEXT];
	size_t length = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < name->nb_addrs && length + NET_ADDR_TEXT < sizeof(text); i++)
		length += snprintf(text + length, sizeof(text) - length, " %s",
			net_addr_format(&name->addrs[i], addr));
	log_info("name %s:%s (%u address%s)%s", name->host, text, name->nb_addrs,
		name->nb_addrs == 1 ? "" : "es", since);
}

static void apply_soon(struct resolver *resolver, unsigned ms)
{
	event_add(resolver->apply, &(struct timeval){.tv_usec = ms * 1000});
}

static void ask_later(struct name *name, unsigned ms)
{
	event_add(name->timer, &(struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000});
}

static void take_addresses(struct name *name, const struct net_addr *addrs, uint32_t nb)
{
	if (same_addresses(name, addrs, nb))
		return;
	memcpy(name->addrs, addrs, nb * sizeof(*addrs));
	name->nb_addrs = nb;
	name->is_changed = true;
	name->resolver->is_kept = false;
	log_addresses(name, "");
	apply_soon(name->resolver, 0);
}

static void failed(struct name *name, const char *error)
{
	if (!name->has_failed)
		log_warning("name %s: %s; %s", name->host, error,
			name->nb_addrs != 0 ? "its last addresses stay" : "it has no address yet");
	name->has_failed = true;
	ask_later(name,
		name->resolve_ms != 0 && name->resolve_ms < RETRY_MS ? name->resolve_ms : RETRY_MS);
}

static unsigned ttl_ms(uint32_t ttl_s)
{
	if (ttl_s < TTL_MIN_MS / 1000)
		return TTL_MIN_MS;
	return ttl_s < TTL_MAX_MS / 1000 ? ttl_s * 1000 : TTL_MAX_MS;
}

static void answered(void *context, const struct dns_answer *answer)
{
	struct name *name = context;
	uint32_t nb = 0;

	name->is_asked = false;
	if (answer->error == NULL)
		nb = tidy_addresses(name->resolver, answer->addrs, answer->nb_addrs);
	if (nb == 0) {
		failed(name,
			answer->error != NULL ? answer->error
					      : "no address that a backend can have");
		return;
	}
	name->has_failed = false;
	take_addresses(name, answer->addrs, limit_addresses(name, nb));
	ask_later(name, name->resolve_ms != 0 ? name->resolve_ms : ttl_ms(answer->ttl_s));
}

static void ask(evutil_socket_t fd, short what, void *context)
{
	struct name *name = context;

	if (name->is_asked)
		return;
	if (name->resolver->dns == NULL) { // for want of memory
		ask_later(name, RETRY_MS);
		return;
	}
	name->is_asked = true; // the answer may come within the call
	dns_ask(name->resolver->dns, name->host, name->family, answered, name);
}

static struct name *name_create(struct resolver *resolver, const char *host, sa_family_t family)
{
	struct name *name = calloc(1, sizeof(*name));

	if (name == NULL)
		return NULL;
	name->resolver = resolver;
	name->family = family;
	LIST_INSERT_HEAD(&resolver->names, name, entry);
	name->host = strdup(host);
	name->timer = evtimer_new(resolver->daemon->events, ask, name);
	if (name->host != NULL && name->timer != NULL)
		return name;
	name_destroy(name);
	return NULL;
}

/* --- what outlives the process --- */

static void keep_names(struct resolver *resolver)
{
	const struct conf *conf = resolver->daemon->conf;
	const struct name *name;
	int err = 0;

	if (resolver->is_kept || !conf->flows_persist)
		return;
	resolver->is_kept = true;
	if (LIST_EMPTY(&resolver->names)) {
		kept_names_remove(conf);
		return;
	}
	FILE *file = kept_names_begin(conf);
	if (file == NULL) {
		err = -errno;
	} else {
		LIST_FOREACH(name, &resolver->names, entry)
			kept_names_add(file, name->host, name->addrs, name->nb_addrs);
		err = kept_names_end(file, conf);
	}
	if (err < 0 && !resolver->has_failed_to_keep)
		log_warning("the addresses of names can't be kept for the next start: %s",
			strerror(-err));
	resolver->has_failed_to_keep = err < 0;
}

static void found(void *context, const char *host, const struct net_addr *addr)
{
	struct resolver *resolver = context;
	struct name *name = find(resolver, host, addr->family);

	if (name == NULL)
		name = name_create(resolver, host, addr->family);
	if (name != NULL && name->nb_addrs < ADDRESSES_MAX)
		name->addrs[name->nb_addrs++] = *addr;
}

/* They hold until the first answer: a server may be silent as long as DNS is. */
static void read_names(struct resolver *resolver)
{
	const struct conf *conf = resolver->daemon->conf;
	struct name *name;

	if (!conf->flows_persist) {
		kept_names_remove(conf);
		return;
	}
	kept_names_read(conf, found, resolver);
	LIST_FOREACH(name, &resolver->names, entry) {
		name->nb_addrs = tidy_addresses(resolver, name->addrs, name->nb_addrs);
		log_addresses(name, " before this start");
	}
}

/* --- which servers --- */

/* True when it isn't as it was. */
static bool mark_file(const char *path, struct file_mark *mark)
{
	struct file_mark before = *mark;
	struct stat status = {0};

	stat(path, &status); // none is as good as an empty one
	*mark = (struct file_mark){status.st_ino, status.st_size, status.st_mtim};
	return mark->inode != before.inode || mark->size != before.size ||
		mark->changed.tv_sec != before.changed.tv_sec ||
		mark->changed.tv_nsec != before.changed.tv_nsec;
}

/* The servers of the configuration, or the system's, as they are now. */
static void set_servers(struct resolver *resolver, const struct conf *conf)
{
	struct name *name;

	mark_file(RESOLV_CONF, &resolver->resolv_conf);
	mark_file(dns_hosts_path(), &resolver->hosts);
	dns_destroy(resolver->dns); // and with it what is asked
	LIST_FOREACH(name, &resolver->names, entry)
		name->is_asked = false;
	resolver->dns = dns_create(resolver->daemon->events, conf->resolvers, conf->nb_resolvers);
	if (resolver->dns == NULL)
		log_error("no names are asked for: %s", strerror(errno));
}

static void ask_all(struct resolver *resolver)
{
	struct name *name;

	LIST_FOREACH(name, &resolver->names, entry)
		ask_later(name, 0);
}

static void look_due(evutil_socket_t fd, short what, void *context)
{
	struct resolver *resolver = context;
	const struct conf *conf = resolver->daemon->conf;

	if (mark_file(RESOLV_CONF, &resolver->resolv_conf) && conf->nb_resolvers == 0) {
		log_info("%s has changed: its servers are asked from here on", RESOLV_CONF);
		set_servers(resolver, conf);
		ask_all(resolver);
	}
	if (mark_file(dns_hosts_path(), &resolver->hosts))
		ask_all(resolver);
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

	keep_names(resolver);
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

static void want(struct resolver *resolver, const struct conf_backend *backend, sa_family_t family)
{
	struct name *name = find(resolver, backend->host, family);

	if (name == NULL)
		name = name_create(resolver, backend->host, family);
	if (name == NULL) {
		log_error("name %s: no memory to follow it", backend->host);
		return;
	}
	if (!name->is_wanted ||
		(backend->resolve_ms != 0 &&
			(name->resolve_ms == 0 || backend->resolve_ms < name->resolve_ms)))
		name->resolve_ms = backend->resolve_ms;
	name->is_wanted = true;
}

void resolver_follow(struct resolver *resolver, const struct conf *conf)
{
	struct name *name, *next;

	LIST_FOREACH(name, &resolver->names, entry)
		name->is_wanted = false;
	for (unsigned s = 0; s < conf->nb_services; s++) {
		const struct conf_service *service = conf->services[s];
		for (unsigned b = 0; service->nb_names != 0 && b < service->nb_backends; b++)
			if (service->backends[b].host != NULL)
				want(resolver, &service->backends[b], service->family);
	}
	if (!LIST_EMPTY(&resolver->names))
		set_servers(resolver, conf);
	for (name = LIST_FIRST(&resolver->names); name != NULL; name = next) {
		next = LIST_NEXT(name, entry);
		if (name->is_wanted)
			ask_later(name, 0); // a reload asks for all anew
		else
			name_destroy(name);
	}
	resolver->is_kept = false;
	apply_soon(resolver, 0);
	if (LIST_EMPTY(&resolver->names))
		event_del(resolver->look);
	else
		event_add(resolver->look, &(struct timeval){.tv_sec = LOOK_S});
}

struct resolver *resolver_create(struct daemon *daemon)
{
	struct resolver *resolver = calloc(1, sizeof(*resolver));

	if (resolver == NULL)
		return NULL;
	resolver->daemon = daemon;
	LIST_INIT(&resolver->names);
	resolver->apply = evtimer_new(daemon->events, apply_due, resolver);
	resolver->look = event_new(daemon->events, -1, EV_PERSIST, look_due, resolver);
	if (resolver->apply == NULL || resolver->look == NULL) {
		resolver_destroy(resolver);
		return NULL;
	}
	read_names(resolver);
	return resolver;
}

void resolver_destroy(struct resolver *resolver)
{
	if (resolver == NULL)
		return;
	dns_destroy(resolver->dns);
	while (!LIST_EMPTY(&resolver->names))
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it leaves the list
		name_destroy(LIST_FIRST(&resolver->names));
	if (resolver->apply != NULL)
		event_free(resolver->apply);
	if (resolver->look != NULL)
		event_free(resolver->look);
	free(resolver);
}
