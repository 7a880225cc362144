/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A neighbour is settled when the kernel keeps it resolved by itself: it is permanent, or managed
 * and reachable. Every other stands in the queue of the doubtful and is looked at once a second,
 * and asked for again when it failed, went stale or isn't managed. So a kernel without managed
 * entries (before 5.16), a lost event and an operator's `ip neigh` need nothing of their own.
 */
#include "neighbour.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <search.h>
#include <stdlib.h>

#include "clock.h"
#include "log.h"

// States in which the kernel sends to the MAC that it has.
#define NUD_USABLE (NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)
#define NUD_OPERATOR (NUD_PERMANENT | NUD_NOARP)

static struct neighbour *find(const struct neighbour_table *table, const struct net_addr *addr)
{
	void *node = tfind(addr, &table->tree, net_addr_compare);

	return node ? *(struct neighbour **)node : NULL;
}

/* Into a queue, or out of every one (NULL). */
static void enqueue(
	struct neighbour_table *table, struct neighbour *neighbour, struct neighbour_queue *queue)
{
	if (neighbour->queue != NULL)
		TAILQ_REMOVE(neighbour->queue, neighbour, entry);
	if (neighbour->queue == &table->doubtful)
		table->doubtful_count--;
	neighbour->queue = queue;
	if (queue != NULL)
		TAILQ_INSERT_TAIL(queue, neighbour, entry);
	if (queue == &table->doubtful)
		table->doubtful_count++;
}

/* To the front of the doubtful, to be looked at now. */
static void enqueue_urgent(struct neighbour_table *table, struct neighbour *neighbour)
{
	enqueue(table, neighbour, &table->doubtful);
	TAILQ_REMOVE(&table->doubtful, neighbour, entry);
	TAILQ_INSERT_HEAD(&table->doubtful, neighbour, entry);
	if (table->due < table->doubtful_count)
		table->due++;
}

/* Whether that is a change. */
static bool set_state(struct neighbour_table *table, struct neighbour *neighbour,
	enum route_state state, const struct net_mac *mac)
{
	if (neighbour->state == state &&
		(state != ROUTE_RESOLVED || net_mac_equal(&neighbour->mac, mac)))
		return false;
	neighbour->state = state;
	neighbour->mac = mac ? *mac : (struct net_mac){0};
	table->changed(table->context, neighbour);
	return true;
}

/*
 * Take over what the kernel says. An entry that is asked for anew keeps what it had until the
 * answer or the failure: a flush of the kernel's table stops no traffic, and a dead neighbour
 * doesn't flicker between pending and unreachable.
 */
static void apply(struct neighbour_table *table, struct neighbour *neighbour,
	const struct neighbour_entry *entry)
{
	bool settled = (entry->state & NUD_OPERATOR) ||
		(entry->managed && (entry->state & (NUD_REACHABLE | NUD_DELAY | NUD_PROBE)));

	bool was_resolved = neighbour->state == ROUTE_RESOLVED;
	bool is_usable = (entry->state & NUD_USABLE) && entry->has_mac;
	char addr[NET_ADDR_TEXT], mac[18];

	table->ways_changed |= is_usable != neighbour->is_usable && neighbour->nb_ways != 0;
	neighbour->is_usable = is_usable;
	if (settled != (neighbour->queue == NULL))
		enqueue(table, neighbour, settled ? NULL : &table->doubtful);
	if (is_usable) {
		// Of another MAC whoever hears of all neighbours tells.
		if (set_state(table, neighbour, ROUTE_RESOLVED, &entry->mac) && !was_resolved)
			log_limited(LOG_LEVEL_INFO, "neighbour %s: resolved, %s",
				net_addr_format(&neighbour->addr, addr),
				net_mac_format(&neighbour->mac, mac));
	} else if (entry->state & NUD_FAILED) {
		if (set_state(table, neighbour, ROUTE_UNREACHABLE, NULL))
			log_limited(LOG_LEVEL_WARNING, "neighbour %s: no answer",
				net_addr_format(&neighbour->addr, addr));
	}
}

/* Managed if the kernel can do that; one that refuses it once isn't asked again. */
static int use_entry(struct neighbour_table *table, const struct neighbour *neighbour, bool create)
{
	int err = neighbour_entry_use(
		table->socket, table->interface, &neighbour->addr, table->managed, create);

	if (!table->managed || (err != -EINVAL && err != -EOPNOTSUPP))
		return err;
	int plain = neighbour_entry_use(
		table->socket, table->interface, &neighbour->addr, false, create);
	if (plain == 0) {
		table->managed = false;
		log_info("the kernel has no managed neighbours: they are asked for by timer");
	}
	return plain;
}

/*
 * The kernel takes no entry, so nothing will ever tell how it stands. One that was resolved keeps
 * its MAC when only the kernel's table is full: a flood of others must not take it away (case B20).
 */
static void refused(struct neighbour_table *table, struct neighbour *neighbour, int err)
{
	char addr[NET_ADDR_TEXT];

	if (err == -ETIMEDOUT || (err == -ENOBUFS && neighbour->state == ROUTE_RESOLVED))
		return;
	if (!set_state(table, neighbour, ROUTE_UNREACHABLE, NULL))
		return;
	log_limited(LOG_LEVEL_WARNING, "neighbour %s: the kernel refuses the entry: %s%s",
		net_addr_format(&neighbour->addr, addr), strerror(-err),
		err == -ENOBUFS ? " (raise net.ipv4.neigh.default.gc_thresh3 or the ipv6 one)"
				: "");
}

/*
 * One of several ways that has failed: now, so that the kernel is to choose another one first, or
 * that nobody goes any more. Asked for, it would be chosen again.
 */
static bool is_left_alone(const struct neighbour *neighbour, const struct neighbour_entry *entry)
{
	return neighbour->addr.family == AF_INET6 && neighbour->nb_ways != 0 &&
		(entry->state & NUD_FAILED) &&
		(neighbour->is_usable || LIST_EMPTY(&neighbour->targets));
}

/* Look at the kernel's entry; make it, or have it resolved, where that is needed. */
static void check(struct neighbour_table *table, struct neighbour *neighbour)
{
	struct neighbour_entry entry = {0};
	int err = neighbour_entry_read(table->socket, table->interface, &neighbour->addr, &entry);

	if (err == -ENOENT)
		err = use_entry(table, neighbour, true);
	else if (err == 0 && is_left_alone(neighbour, &entry))
		err = entry.managed
			? neighbour_entry_fail(table->socket, table->interface, &neighbour->addr)
			: 0;
	else if (err == 0 && !(entry.state & NUD_OPERATOR) &&
		((table->managed && !entry.managed) ||
			!(entry.state & (NUD_REACHABLE | NUD_INCOMPLETE | NUD_DELAY | NUD_PROBE))))
		err = use_entry(table, neighbour, false);
	// Made or removed by another meanwhile: the next look sees it.
	if (err == -EEXIST || err == -ENOENT)
		err = 0;
	apply(table, neighbour, &entry);
	if (err < 0 && entry.state == 0)
		refused(table, neighbour, err);
}

/* Out of the kernel's table if we put it there: what isn't managed is left to its aging. */
static void remove_entry(struct neighbour_table *table, const struct neighbour *neighbour)
{
	struct neighbour_entry entry;

	if (table->interface == 0 || table->is_kept ||
		neighbour_entry_read(table->socket, table->interface, &neighbour->addr, &entry) < 0)
		return;
	if (entry.managed && !(entry.state & NUD_OPERATOR))
		neighbour_entry_remove(table->socket, table->interface, &neighbour->addr);
}

static void destroy(struct neighbour_table *table, struct neighbour *neighbour)
{
	remove_entry(table, neighbour);
	enqueue(table, neighbour, NULL);
	LIST_REMOVE(neighbour, all);
	tdelete(&neighbour->addr, &table->tree, net_addr_compare);
	free(neighbour);
}

void neighbour_table_init(struct neighbour_table *table, struct mnl_socket *socket,
	neighbour_changed_fn changed, void *context)
{
	*table = (struct neighbour_table){
		.socket = socket, .managed = true, .changed = changed, .context = context};
	LIST_INIT(&table->list);
	TAILQ_INIT(&table->doubtful);
	TAILQ_INIT(&table->unused);
}

void neighbour_table_fini(struct neighbour_table *table)
{
	while (!LIST_EMPTY(&table->list))
		destroy(table, LIST_FIRST(&table->list));
}

void neighbour_table_reset(struct neighbour_table *table, unsigned interface)
{
	struct neighbour *neighbour;

	table->interface = interface;
	LIST_FOREACH(neighbour, &table->list, all) {
		neighbour->is_usable = false;
		set_state(table, neighbour, interface ? ROUTE_PENDING : ROUTE_UNREACHABLE, NULL);
	}
	neighbour_table_check_all(table);
}

struct neighbour *neighbour_get(struct neighbour_table *table, const struct net_addr *addr)
{
	struct neighbour *neighbour = find(table, addr);

	if (neighbour == NULL) {
		neighbour = calloc(1, sizeof(*neighbour));
		if (neighbour == NULL)
			return NULL;
		neighbour->addr = *addr;
		LIST_INIT(&neighbour->targets);
		if (tsearch(neighbour, &table->tree, net_addr_compare) == NULL) {
			free(neighbour);
			errno = ENOMEM;
			return NULL;
		}
		LIST_INSERT_HEAD(&table->list, neighbour, all);
	}
	if (neighbour->users++ == 0)
		enqueue_urgent(table, neighbour);
	return neighbour;
}

void neighbour_put(struct neighbour_table *table, struct neighbour *neighbour)
{
	if (--neighbour->users == 0)
		enqueue(table, neighbour, &table->unused);
}

static void hear(void *context, const struct neighbour_entry *entry)
{
	const struct neighbour_table *table = context;

	if (table->heard != NULL && (entry->state & NUD_USABLE) && entry->has_mac)
		table->heard(table->heard_context, &entry->addr, &entry->mac);
}

void neighbour_table_hear(struct neighbour_table *table)
{
	if (table->heard == NULL || table->interface == 0)
		return;
	int err = neighbour_entries_read(table->socket, table->interface, hear, table);
	if (err < 0)
		log_limited(LOG_LEVEL_WARNING, "the kernel's neighbours: %s", strerror(-err));
}

static void sweep(void *context, const struct neighbour_entry *entry)
{
	struct neighbour_table *table = context;
	struct neighbour *neighbour;

	if (!entry->managed || (entry->state & NUD_OPERATOR) || find(table, &entry->addr) != NULL)
		return;
	neighbour = neighbour_get(table, &entry->addr);
	if (neighbour != NULL)
		neighbour_put(table, neighbour);
}

void neighbour_table_sweep(struct neighbour_table *table)
{
	int err = neighbour_entries_read(table->socket, table->interface, sweep, table);

	if (err < 0)
		log_limited(LOG_LEVEL_WARNING, "the kernel's neighbours: %s", strerror(-err));
}

struct neighbour *neighbour_get_way(struct neighbour_table *table, const struct net_addr *addr)
{
	struct neighbour *neighbour = neighbour_get(table, addr);

	if (neighbour != NULL)
		neighbour->nb_ways++;
	return neighbour;
}

void neighbour_put_way(struct neighbour_table *table, struct neighbour *neighbour)
{
	neighbour->nb_ways--;
	neighbour_put(table, neighbour);
}

void neighbour_table_event(
	struct neighbour_table *table, const struct neighbour_entry *entry, bool removed)
{
	struct neighbour *neighbour;

	if (entry->interface != table->interface)
		return;
	if (!removed)
		hear(table, entry);
	neighbour = find(table, &entry->addr);
	if (neighbour == NULL || neighbour->users == 0)
		return;
	// A removal is told as a failure first, so a failure counts only if the entry is still
	// there.
	if (removed || (entry->state & NUD_FAILED))
		enqueue_urgent(table, neighbour);
	else
		apply(table, neighbour, entry);
}

void neighbour_table_check_all(struct neighbour_table *table)
{
	struct neighbour *neighbour;

	LIST_FOREACH(neighbour, &table->list, all)
		if (neighbour->queue == NULL)
			enqueue(table, neighbour, &table->doubtful);
	neighbour_table_check(table);
	neighbour_table_hear(table);
}

void neighbour_table_check(struct neighbour_table *table)
{
	table->due = table->doubtful_count;
}

bool neighbour_table_has_work(const struct neighbour_table *table)
{
	return (table->interface != 0 && table->due > 0 && !TAILQ_EMPTY(&table->doubtful)) ||
		!TAILQ_EMPTY(&table->unused);
}

void neighbour_table_work(struct neighbour_table *table, uint64_t end)
{
	while (table->interface != 0 && table->due > 0 && !TAILQ_EMPTY(&table->doubtful)) {
		struct neighbour *neighbour = TAILQ_FIRST(&table->doubtful);
		table->due--;
		enqueue(table, neighbour, &table->doubtful); // to the end of the queue
		check(table, neighbour);
		if (clock_ns() >= end)
			return;
	}
	while (!TAILQ_EMPTY(&table->unused)) {
		destroy(table, TAILQ_FIRST(&table->unused));
		if (clock_ns() >= end)
			return;
	}
}
