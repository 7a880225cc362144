/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For each target the kernel itself is asked what it would do (RTM_GETROUTE): no routing logic of
 * our own, so policy rules, metrics, multipath and nexthop objects hold as they do for the probes,
 * whose sockets are bound to the same source address. Which answers an event touches isn't worked
 * out: after any change of routes, rules, addresses or links all targets are asked for anew.
 *
 * A route may leave the choice among several next hops. The kernel takes one by a hash of the
 * addresses, of those whose neighbours answer: exception_interface.c sets it so. All of them are
 * kept resolved, for the kernel takes one that it knows nothing of for a good one; and when one
 * starts or ceases to answer, all targets are asked for anew.
 *
 * A target has one hop: that of the family's first source address. Where the kernel's ways differ
 * by source address, those of the others aren't taken, which is said once.
 *
 * That is bounded twice. Events within SETTLE_MS count as one, so that a BGP table coming in costs
 * one round. And a round runs in slices of SLICE_NS with as long a pause between them, so that the
 * probes and timers of the event loop are never late for it: about 100,000 targets a second.
 *
 * Targets stand in one queue; the first `due` of them are to be asked. An asked one goes to the
 * end, so a round that is started anew in its midst skips nobody.
 */
#include "route.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/util.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <search.h>
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "clock.h"
#include "log.h"
#include "neighbour.h"
#include "netlink.h"
#include "route_kernel.h"

#define SETTLE_MS 20
#define SLICE_NS (4 * 1000000ULL)
#define PAUSE_MS 4
#define TICK_MS 1000           // how often the doubtful neighbours are looked at
#define RECEIVE_SIZE (4 << 20) // bytes of events that may wait
#define EVENT_SIZE 32768       // one event of the kernel is smaller
#define COMPARE_MAX 256        // enough to see that the rules ask for a source

#define GROUP(number) (1U << ((number)-1))

struct route_target {
	struct net_addr addr; // the key; must stay first
	struct route *route;
	unsigned users;         // get without put
	enum route_state state; // while there is no neighbour
	bool is_own;            // as in its hop
	struct neighbour *neighbour;
	struct neighbour **ways; // all that the kernel may choose among; NULL = it has no choice
	unsigned nb_ways;
	struct route_hop hop;
	struct route_hop told; // what the user knows
	bool has_news;         // stands in route->news
	TAILQ_ENTRY(route_target) entry;
	TAILQ_ENTRY(route_target) news_entry;
	LIST_ENTRY(route_target) neighbour_entry;
};

TAILQ_HEAD(target_queue, route_target);

struct route {
	char interface[IF_NAMESIZE];
	struct route_link link;
	bool link_is_due; // to be read anew
	struct mnl_socket *requests;
	struct mnl_socket *events;
	struct neighbour_table neighbours;
	void *tree; // targets by address, tsearch(3)
	struct target_queue targets;
	unsigned count;
	unsigned due;  // the first so many targets are to be asked for
	bool again;    // an answer failed for want of something: ask at the next tick
	bool is_swept; // of neighbours that a former process had entered
	struct net_sources sources;
	unsigned compare; // ways from other source addresses for so many targets of this round
	bool told_ways_differ;
	struct target_queue news; // targets whose user is to be called
	route_changed_fn changed;
	void *context;
	struct event *readable;
	struct event *settled; // SETTLE_MS after the first of some events
	struct event *slice;
	struct event *tick;
};

static void start_timer(struct event *timer, unsigned ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (!evtimer_pending(timer, NULL))
		evtimer_add(timer, &delay);
}

static bool has_work(const struct route *route)
{
	return route->link_is_due || route->due > 0 || !TAILQ_EMPTY(&route->news) ||
		route->neighbours.ways_changed || neighbour_table_has_work(&route->neighbours);
}

static bool hop_equal(const struct route_hop *a, const struct route_hop *b)
{
	return a->state == b->state && a->is_own == b->is_own &&
		net_addr_equal(&a->gateway, &b->gateway) && net_mac_equal(&a->mac, &b->mac);
}

/*
 * Make the hop of what is known, and note the news. While the neighbour of a new route is asked for
 * the former hop stays: a rerouted target loses no packet for the millisecond that this takes.
 */
static void target_update(struct route_target *target)
{
	struct route *route = target->route;
	const struct neighbour *neighbour = target->neighbour;

	if (neighbour && neighbour->state == ROUTE_PENDING && target->hop.state == ROUTE_RESOLVED)
		return;
	target->hop = (struct route_hop){.state = target->state, .is_own = target->is_own};
	if (neighbour != NULL)
		target->hop = (struct route_hop){
			.state = neighbour->state,
			.is_own = neighbour->state == ROUTE_UNREACHABLE && !route->link.up,
			.gateway = neighbour->addr,
			.mac = neighbour->mac,
		};
	if (target->has_news || hop_equal(&target->hop, &target->told))
		return;
	target->has_news = true;
	TAILQ_INSERT_TAIL(&route->news, target, news_entry);
}

static void neighbour_changed(void *context, struct neighbour *neighbour)
{
	struct route_target *target;

	LIST_FOREACH(target, &neighbour->targets, neighbour_entry)
		target_update(target);
}

/*
 * Call the user, and see that there is another slice when work is left. It may get and put targets
 * in its callback, the one it is called for too.
 */
static void finish(struct route *route, unsigned pause_ms)
{
	uint64_t end = clock_ns() + SLICE_NS;
	struct route_target *target;

	while ((target = TAILQ_FIRST(&route->news)) != NULL && clock_ns() < end) {
		TAILQ_REMOVE(&route->news, target, news_entry);
		target->has_news = false;
		if (hop_equal(&target->hop, &target->told)) // changed and changed back
			continue;
		target->told = target->hop;
		route->changed(route->context, target);
	}
	if (has_work(route))
		start_timer(route->slice, pause_ms);
}

static void leave_neighbour(struct route_target *target)
{
	if (target->neighbour == NULL)
		return;
	LIST_REMOVE(target, neighbour_entry);
	neighbour_put(&target->route->neighbours, target->neighbour);
	target->neighbour = NULL;
}

static void leave_ways(struct route_target *target)
{
	for (unsigned i = 0; i < target->nb_ways; i++)
		neighbour_put_way(&target->route->neighbours, target->ways[i]);
	free(target->ways);
	target->ways = NULL;
	target->nb_ways = 0;
}

static int target_use_neighbour(struct route_target *target, const struct route_answer *answer)
{
	const struct net_addr *addr = answer->gateway.family ? &answer->gateway : &target->addr;
	struct neighbour *neighbour;

	if (target->neighbour != NULL && net_addr_equal(&target->neighbour->addr, addr))
		return 0;
	neighbour = neighbour_get(&target->route->neighbours, addr);
	if (neighbour == NULL)
		return -errno;
	leave_neighbour(target);
	target->neighbour = neighbour;
	LIST_INSERT_HEAD(&neighbour->targets, target, neighbour_entry);
	target_update(target);
	return 0;
}

/* `err`: that the kernel told in place of a route. */
static void target_use_none(struct route_target *target, enum route_state state, int err)
{
	const char *cause = err < 0 ? strerror(-err) : "no unicast route";
	bool is_own = !target->route->link.up || err == -ENETUNREACH;
	char addr[NET_ADDR_TEXT];

	leave_ways(target);
	if (target->neighbour == NULL && target->state == state && target->is_own == is_own)
		return;
	leave_neighbour(target);
	target->state = state;
	target->is_own = is_own;
	target_update(target);
	// That of the link is told once, for all.
	if (state == ROUTE_UNREACHABLE && target->route->link.up)
		log_limited(
			LOG_LEVEL_WARNING, "%s: %s", net_addr_format(&target->addr, addr), cause);
}

static bool has_ways(const struct route_target *target, const struct route_ways *ways)
{
	bool same = target->nb_ways == ways->count;

	for (unsigned i = 0; same && i < ways->count; i++)
		same = net_addr_equal(&target->ways[i]->addr, &ways->gateways[i]);
	return same;
}

static void target_use_ways(struct route_target *target, const struct route_ways *ways)
{
	struct route *route = target->route;
	struct neighbour **list;

	if (has_ways(target, ways))
		return;
	list = ways->count != 0 ? calloc(ways->count, sizeof(*list)) : NULL;
	unsigned nb = 0;
	while (list != NULL && nb < ways->count) {
		list[nb] = neighbour_get_way(&route->neighbours, &ways->gateways[nb]);
		if (list[nb] == NULL)
			break;
		nb++;
	}
	route->again |= nb < ways->count;
	leave_ways(target);
	target->ways = list;
	target->nb_ways = nb;
}

/* The question for a target, from the n-th source address. */
static struct route_question question_of(const struct route_target *target, unsigned n)
{
	const struct net_addr_list *sources =
		net_sources_of(&target->route->sources, target->addr.family);

	return (struct route_question){
		.interface = target->route->link.index,
		.addr = &target->addr,
		.source = n < sources->count ? &sources->addrs[n] : NULL,
	};
}

/* Say it when connections from another source address would have to go another way. */
static void compare_sources(struct route_target *target, const struct route_answer *answer)
{
	struct route *route = target->route;
	unsigned count = net_sources_of(&route->sources, target->addr.family)->count;
	char addr[NET_ADDR_TEXT], first[NET_ADDR_TEXT], other[NET_ADDR_TEXT];

	if (route->told_ways_differ || count < 2 || route->compare == 0)
		return;
	route->compare--;
	for (unsigned n = 1; n < count; n++) {
		struct route_question question = question_of(target, n);
		struct route_answer differs;
		if (route_kernel_lookup(route->requests, &question, &differs) < 0 ||
			(differs.type == answer->type && differs.interface == answer->interface &&
				net_addr_equal(&differs.gateway, &answer->gateway)))
			continue;
		route->told_ways_differ = true;
		log_warning("%s: its route from %s is another one than from %s, whose way the "
			    "connections from all SNAT addresses take",
			net_addr_format(&target->addr, addr),
			net_addr_format(question.source, other),
			net_addr_format(question_of(target, 0).source, first));
		return;
	}
}

/* Whether nobody here has the source address now: the kernel says of no route from there. */
static bool lacks(struct route *route, const struct net_addr *source)
{
	struct route_question question = {.interface = route->link.index, .addr = source};
	struct route_answer answer;

	return source != NULL &&
		(route_kernel_lookup(route->requests, &question, &answer) < 0 ||
			answer.type != RTN_LOCAL);
}

static int ask_kernel(struct route_target *target, struct route_answer *answer)
{
	struct route *route = target->route;
	struct route_question question = question_of(target, 0);
	struct route_ways ways = {0};
	int err = route_kernel_lookup(route->requests, &question, answer);

	if ((err == -ENETUNREACH || err == -EINVAL) && lacks(route, question.source)) {
		question.source = NULL;
		err = route_kernel_lookup(route->requests, &question, answer);
	}
	if (err == 0 && answer->gateway.family != AF_UNSPEC)
		err = route_kernel_ways(route->requests, &question, &ways);
	if (err < 0)
		return err;
	target_use_ways(target, &ways);
	compare_sources(target, answer);
	return 0;
}

/* Ask the kernel for the way to a target, and take it. */
static void target_ask(struct route_target *target)
{
	struct route *route = target->route;
	struct route_answer answer;
	int err;

	if (!route->link.up) {
		target_use_none(target, ROUTE_UNREACHABLE, 0);
		return;
	}
	err = ask_kernel(target, &answer);
	if (err == -ENOBUFS || err == -ENOMEM || err == -ETIMEDOUT)
		route->again = true;
	else if (err < 0)
		target_use_none(target, ROUTE_UNREACHABLE, err);
	else if (answer.type == RTN_LOCAL)
		target_use_none(target, ROUTE_LOCAL, 0);
	else if (answer.type != RTN_UNICAST)
		target_use_none(target, ROUTE_UNREACHABLE, 0);
	else if (answer.interface != route->link.index)
		target_use_none(target, ROUTE_LOCAL, 0);
	else if (target_use_neighbour(target, &answer) < 0)
		route->again = true;
}

static void targets_due(struct route *route)
{
	route->due = route->count;
	route->compare = COMPARE_MAX;
	route->neighbours.ways_changed = false;
}

/* Read the interface's state; one that came, went or was made anew makes everything unknown. */
static void link_check(struct route *route)
{
	struct route_link link;
	int err = route_kernel_link(route->requests, route->interface, &link);

	route->link_is_due = false;
	if (err < 0) {
		log_limited(LOG_LEVEL_ERROR, "%s: %s", route->interface, strerror(-err));
		route->again = true;
		return;
	}
	if (link.index == route->link.index && link.up == route->link.up)
		return;
	const char *state = link.up ? "up" : "down";
	log_info("%s: %s", route->interface, link.index == 0 ? "not there" : state);
	if (link.index != 0 && link.index != route->link.index) {
		err = neighbour_timers_set(route->requests, link.index);
		if (err < 0)
			log_debug("%s: neighbour timers: %s", route->interface, strerror(-err));
	}
	route->link = link;
	neighbour_table_reset(&route->neighbours, link.up ? link.index : 0);
	targets_due(route);
}

static void run_slice(evutil_socket_t fd, short what, void *context)
{
	struct route *route = context;
	uint64_t now = clock_ns();

	if (route->link_is_due)
		link_check(route);
	// Half of the time for either, so that neither starves the other.
	neighbour_table_work(&route->neighbours, now + SLICE_NS / 2);
	if (route->neighbours.ways_changed)
		targets_due(route);
	for (; route->due > 0; route->due--) {
		if (clock_ns() >= now + SLICE_NS)
			break;
		struct route_target *target = TAILQ_FIRST(&route->targets);
		TAILQ_REMOVE(&route->targets, target, entry);
		TAILQ_INSERT_TAIL(&route->targets, target, entry);
		target_ask(target);
	}
	// Not before all targets have taken theirs, which they find resolved.
	if (route->due == 0 && !route->is_swept && route->link.up) {
		route->is_swept = true;
		neighbour_table_sweep(&route->neighbours);
	}
	finish(route, PAUSE_MS);
}

static void ask_all(evutil_socket_t fd, short what, void *context)
{
	struct route *route = context;

	route->link_is_due = true;
	targets_due(route);
	start_timer(route->slice, 0);
}

static void run_tick(evutil_socket_t fd, short what, void *context)
{
	struct route *route = context;

	neighbour_table_check(&route->neighbours);
	if (route->again)
		ask_all(-1, 0, route);
	route->again = false;
	if (has_work(route))
		start_timer(route->slice, 0);
}

/* A route learned for one address, by path MTU discovery for instance: no change of the table. */
static bool is_cached_route(const struct nlmsghdr *message)
{
	const struct rtmsg *route = mnl_nlmsg_get_payload(message);

	return mnl_nlmsg_get_payload_len(message) >= sizeof(*route) &&
		(route->rtm_flags & RTM_F_CLONED);
}

static int take_event(const struct nlmsghdr *message, void *context)
{
	struct route *route = context;
	struct neighbour_entry entry;

	switch (message->nlmsg_type) {
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		if (neighbour_entry_parse(message, &entry))
			neighbour_table_event(
				&route->neighbours, &entry, message->nlmsg_type == RTM_DELNEIGH);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		if (!is_cached_route(message))
			start_timer(route->settled, SETTLE_MS);
		break;
	default:
		start_timer(route->settled, SETTLE_MS);
	}
	return MNL_CB_OK;
}

/* Events were lost: everything may be different. */
static void resync(struct route *route)
{
	log_limited(LOG_LEVEL_WARNING, "too many changes at once: asking for all anew");
	neighbour_table_check_all(&route->neighbours);
	start_timer(route->settled, SETTLE_MS);
}

static void read_events(evutil_socket_t fd, short what, void *context)
{
	struct route *route = context;
	uint64_t end = clock_ns() + SLICE_NS;
	char buffer[EVENT_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));

	do {
		ssize_t length = mnl_socket_recvfrom(route->events, buffer, sizeof(buffer));
		if (length < 0 && errno == EAGAIN)
			break;
		if (length < 0 && errno == EINTR)
			continue;
		if (length < 0 || mnl_cb_run(buffer, length, 0, 0, take_event, route) < 0)
			resync(route);
	} while (clock_ns() < end);
	finish(route, 0);
}

/* The socket that is told of changes. */
static struct mnl_socket *open_events(int netns_fd)
{
	const unsigned groups = RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR |
		RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE | RTMGRP_IPV4_RULE |
		GROUP(RTNLGRP_IPV6_RULE) | GROUP(RTNLGRP_NEXTHOP);
	struct mnl_socket *socket = netlink_open(netns_fd, groups);
	int size = RECEIVE_SIZE;

	if (socket == NULL)
		return NULL;
	int fd = mnl_socket_get_fd(socket);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(
			fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)); // a smaller one does too
	evutil_make_socket_nonblocking(fd);
	return socket;
}

static int create_events(struct route *route, struct event_base *events)
{
	static const struct timeval tick = {.tv_sec = TICK_MS / 1000};

	route->readable = event_new(
		events, mnl_socket_get_fd(route->events), EV_READ | EV_PERSIST, read_events, route);
	route->settled = evtimer_new(events, ask_all, route);
	route->slice = evtimer_new(events, run_slice, route);
	route->tick = event_new(events, -1, EV_PERSIST, run_tick, route);
	if (!route->readable || !route->settled || !route->slice || !route->tick)
		return -ENOMEM;
	if (event_add(route->readable, NULL) < 0 || event_add(route->tick, &tick) < 0)
		return -ENOMEM;
	return 0;
}

struct route *route_create(struct event_base *events, int netns_fd, const char *interface,
	route_changed_fn changed, void *context)
{
	struct route *route = calloc(1, sizeof(*route));

	if (route == NULL)
		return NULL;
	TAILQ_INIT(&route->targets);
	TAILQ_INIT(&route->news);
	route->changed = changed;
	route->context = context;
	neighbour_table_init(&route->neighbours, NULL, neighbour_changed, route);
	int err = -EINVAL;
	if (strlen(interface) >= sizeof(route->interface))
		goto fail;
	strcpy(route->interface, interface);
	// Subscribed before anything is asked, so that no change falls between.
	route->events = open_events(netns_fd);
	err = -errno;
	if (route->events == NULL)
		goto fail;
	route->requests = netlink_open(netns_fd, 0);
	err = -errno;
	if (route->requests == NULL)
		goto fail;
	route->neighbours.socket = route->requests;
	err = create_events(route, events);
	if (err < 0)
		goto fail;
	link_check(route);
	return route;
fail:
	route_destroy(route);
	errno = -err;
	return NULL;
}

void route_hear(struct route *route, route_heard_fn heard, void *context)
{
	route->neighbours.heard = heard;
	route->neighbours.heard_context = context;
	neighbour_table_hear(&route->neighbours);
}

static void free_event(struct event *event)
{
	if (event != NULL)
		event_free(event);
}

static void close_socket(struct mnl_socket *socket)
{
	if (socket != NULL)
		mnl_socket_close(socket);
}

static void target_destroy(struct route_target *target)
{
	struct route *route = target->route;

	leave_neighbour(target);
	leave_ways(target);
	if (target->has_news)
		TAILQ_REMOVE(&route->news, target, news_entry);
	TAILQ_REMOVE(&route->targets, target, entry);
	route->count--;
	if (route->due > route->count)
		route->due = route->count;
	tdelete(&target->addr, &route->tree, net_addr_compare);
	free(target);
}

void route_set_sources(struct route *route, const struct net_sources *sources)
{
	route->sources = *sources;
}

void route_keep(struct route *route)
{
	route->neighbours.is_kept = true;
}

void route_destroy(struct route *route)
{
	if (route == NULL)
		return;
	while (!TAILQ_EMPTY(&route->targets))
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it leaves the list
		target_destroy(TAILQ_FIRST(&route->targets));
	neighbour_table_fini(&route->neighbours);
	free_event(route->tick);
	free_event(route->slice);
	free_event(route->settled);
	free_event(route->readable);
	close_socket(route->requests);
	close_socket(route->events);
	free(route);
}

struct route_target *route_target_get(struct route *route, const struct net_addr *addr)
{
	void *node = tfind(addr, &route->tree, net_addr_compare);
	struct route_target *target = node ? *(struct route_target **)node : NULL;

	if (target != NULL) {
		target->users++;
		return target;
	}
	target = calloc(1, sizeof(*target));
	if (target == NULL)
		return NULL;
	target->addr = *addr;
	if (tsearch(target, &route->tree, net_addr_compare) == NULL) {
		free(target);
		errno = ENOMEM;
		return NULL;
	}
	target->route = route;
	target->users = 1;
	TAILQ_INSERT_HEAD(&route->targets, target, entry);
	route->count++;
	route->due++; // the first of those that are
	start_timer(route->slice, 0);
	return target;
}

void route_target_put(struct route_target *target)
{
	struct route *route = target->route;

	if (--target->users > 0)
		return;
	target_destroy(target);
	if (has_work(route))
		start_timer(route->slice, 0);
}

const struct route_hop *route_target_hop(const struct route_target *target)
{
	return &target->hop;
}

const struct net_addr *route_target_addr(const struct route_target *target)
{
	return &target->addr;
}
