/* SPDX-License-Identifier: BSD-3-Clause */
#include "dns.h"

#define CARES_NO_DEPRECATED // Debian 12 has 1.18, which has nothing else
#include <ares.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "log.h"

#define TIMEOUT_MS 1000 // of the first try; the second one takes twice as long
#define TRIES 2         // of each server
#define EDNS_BYTES 1232 // DNS flag day 2020: what passes any path in one piece

struct channel;

/* A socket of c-ares'. */
struct dns_socket {
	struct channel *channel;
	int fd;
	struct event *event;
	LIST_ENTRY(dns_socket) entry;
};

/* One of c-ares' own. */
struct channel {
	ares_channel ares;
	struct event_base *events;
	struct event *timer;
	LIST_HEAD(, dns_socket) sockets;
};

struct dns {
	struct channel whole;  // for names that are whole
	struct channel search; // for those that are looked for in the system's domains
};

struct question {
	dns_answered_fn answered;
	void *context;
	sa_family_t family;
};

const char *dns_hosts_path(void)
{
	const char *path = getenv("CARES_HOSTS"); // ARES_AI_ENVHOSTS

	return path != NULL ? path : "/etc/hosts";
}

/* --- on the event loop --- */

static void start_timer(struct channel *channel)
{
	struct timeval wait;

	if (ares_timeout(channel->ares, NULL, &wait) != NULL)
		event_add(channel->timer, &wait);
	else
		event_del(channel->timer);
}

static void timer_due(evutil_socket_t fd, short what, void *context)
{
	struct channel *channel = context;

	ares_process_fd(channel->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	start_timer(channel);
}

static void socket_ready(evutil_socket_t fd, short what, void *context)
{
	struct channel *channel = ((struct dns_socket *)context)->channel;

	// The socket may be gone after this.
	ares_process_fd(channel->ares, what & EV_READ ? fd : ARES_SOCKET_BAD,
		what & EV_WRITE ? fd : ARES_SOCKET_BAD);
	start_timer(channel);
}

static void socket_forget(struct dns_socket *one)
{
	LIST_REMOVE(one, entry);
	if (one->event != NULL)
		event_free(one->event);
	free(one);
}

/* c-ares waits for these of the socket; for neither: it is about to close it. Without memory it
 * waits until its own time is over. */
static void socket_wanted(void *context, ares_socket_t fd, int readable, int writable)
{
	struct channel *channel = context;
	struct dns_socket *one;

	LIST_FOREACH(one, &channel->sockets, entry)
		if (one->fd == fd)
			break;
	if (one != NULL)
		socket_forget(one);
	if (!readable && !writable)
		return;
	one = calloc(1, sizeof(*one));
	if (one == NULL)
		return;
	one->channel = channel;
	one->fd = fd;
	LIST_INSERT_HEAD(&channel->sockets, one, entry);
	one->event = event_new(channel->events, fd,
		EV_PERSIST | (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0), socket_ready,
		one);
	if (one->event != NULL)
		event_add(one->event, NULL);
}

/* --- which servers --- */

static int set_servers(
	struct channel *channel, const struct net_endpoint *servers, unsigned nb_servers)
{
	char text[NET_ENDPOINT_TEXT];
	size_t length = 0, size = nb_servers * (NET_ENDPOINT_TEXT + 1) + 1;
	char *list = malloc(size);

	if (list == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < nb_servers; i++)
		length += snprintf(list + length, size - length, "%s%s", i ? "," : "",
			net_endpoint_format(&servers[i], text));
	int status = ares_set_servers_ports_csv(channel->ares, list);
	free(list);
	return status == ARES_SUCCESS ? 0 : -EINVAL;
}

static int channel_init(struct channel *channel, struct event_base *events, int flags,
	const struct net_endpoint *servers, unsigned nb_servers)
{
	static char lookups[] = "fb"; // the hosts file, then DNS
	struct ares_options options = {
		.flags = ARES_FLAG_EDNS | flags,
		.ednspsz = EDNS_BYTES,
		.timeout = TIMEOUT_MS,
		.tries = TRIES,
		.lookups = lookups,
		.sock_state_cb = socket_wanted,
		.sock_state_cb_data = channel,
	};
	// Of names that are whole; 1.18 doesn't heed ARES_FLAG_NOSEARCH here.
	int mask = flags & ARES_FLAG_NOSEARCH ? ARES_OPT_DOMAINS : 0;

	mask |= ARES_OPT_FLAGS | ARES_OPT_EDNSPSZ | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
		ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;

	if (nb_servers != 0)
		mask |= ARES_OPT_NOROTATE; // whatever resolv.conf says
#ifdef ARES_OPT_QUERY_CACHE
	mask |= ARES_OPT_QUERY_CACHE; // of no time: whoever asks wants to know
#endif
	channel->events = events;
	LIST_INIT(&channel->sockets);
	channel->timer = evtimer_new(events, timer_due, channel);
	if (channel->timer == NULL)
		return -ENOMEM;
	int status = ares_init_options(&channel->ares, &options, mask);
	if (status != ARES_SUCCESS) {
		channel->ares = NULL;
		log_error("c-ares: %s", ares_strerror(status));
		return status == ARES_ENOMEM ? -ENOMEM : -EINVAL;
	}
	return nb_servers == 0 ? 0 : set_servers(channel, servers, nb_servers);
}

static void channel_fini(struct channel *channel)
{
	if (channel->ares != NULL)
		ares_destroy(channel->ares);
	while (!LIST_EMPTY(&channel->sockets))
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it leaves the list
		socket_forget(LIST_FIRST(&channel->sockets));
	if (channel->timer != NULL)
		event_free(channel->timer);
}

struct dns *dns_create(
	struct event_base *events, const struct net_endpoint *servers, unsigned nb_servers)
{
	struct dns *dns = calloc(1, sizeof(*dns));

	if (dns == NULL)
		return NULL;
	int err = channel_init(&dns->whole, events, ARES_FLAG_NOSEARCH, servers, nb_servers);
	if (err == 0)
		err = channel_init(&dns->search, events, 0, servers, nb_servers);
	if (err == 0)
		return dns;
	dns_destroy(dns);
	errno = -err;
	return NULL;
}

void dns_destroy(struct dns *dns)
{
	if (dns == NULL)
		return;
	channel_fini(&dns->whole);
	channel_fini(&dns->search);
	free(dns);
}

/* --- answers --- */

static uint32_t least(uint32_t ttl_s, int other)
{
	uint32_t other_s = other > 0 ? other : 0;

	return other_s < ttl_s ? other_s : ttl_s;
}

static bool take_address(
	struct net_addr *addr, const struct ares_addrinfo_node *node, sa_family_t family)
{
	memset(addr, 0, sizeof(*addr));
	if (node->ai_family != family)
		return false;
	addr->family = family;
	if (family == AF_INET6)
		memcpy(addr->v6, &((struct sockaddr_in6 *)node->ai_addr)->sin6_addr, 16);
	else
		addr->v4 = ((struct sockaddr_in *)node->ai_addr)->sin_addr.s_addr;
	return true;
}

static int take_answer(
	struct dns_answer *answer, const struct ares_addrinfo *found, sa_family_t family)
{
	uint32_t nb = 0;

	answer->ttl_s = UINT32_MAX;
	for (const struct ares_addrinfo_node *node = found->nodes; node; node = node->ai_next)
		nb++;
	answer->addrs = calloc(nb + 1, sizeof(*answer->addrs));
	if (answer->addrs == NULL)
		return -ENOMEM;
	for (const struct ares_addrinfo_node *node = found->nodes; node; node = node->ai_next) {
		if (!take_address(&answer->addrs[answer->nb_addrs], node, family))
			continue;
		answer->nb_addrs++;
		answer->ttl_s = least(answer->ttl_s, node->ai_ttl);
	}
	for (const struct ares_addrinfo_cname *name = found->cnames; name; name = name->next)
		answer->ttl_s = least(answer->ttl_s, name->ttl);
	return 0;
}

static void answered(void *context, int status, int timeouts, struct ares_addrinfo *found)
{
	struct question *question = context;
	struct dns_answer answer = {0};

	if (status == ARES_EDESTRUCTION) {
		free(question);
		return;
	}
	if (status != ARES_SUCCESS)
		answer.error = ares_strerror(status);
	else if (take_answer(&answer, found, question->family) < 0)
		answer.error = strerror(ENOMEM);
	question->answered(question->context, &answer);
	free(answer.addrs);
	ares_freeaddrinfo(found);
	free(question);
}

void dns_ask(
	struct dns *dns, const char *host, sa_family_t family, dns_answered_fn told, void *context)
{
	struct channel *channel = strchr(host, '.') != NULL ? &dns->whole : &dns->search;
	struct ares_addrinfo_hints hints = {
		.ai_flags = ARES_AI_NOSORT | ARES_AI_ENVHOSTS, .ai_family = family};
	struct question *question = calloc(1, sizeof(*question));

	if (question == NULL) {
		told(context, &(struct dns_answer){.error = strerror(ENOMEM)});
		return;
	}
	*question = (struct question){told, context, family};
	ares_getaddrinfo(channel->ares, host, NULL, &hints, answered, question);
	start_timer(channel);
}
