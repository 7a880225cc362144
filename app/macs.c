/* SPDX-License-Identifier: BSD-3-Clause */
#include "macs.h"

#include <errno.h>
#include <event2/event.h>
#include <rte_common.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "clock.h"
#include "conf.h"
#include "dev.h"
#include "flow_moves.h"
#include "log.h"
#include "own_file.h"

#define PERIOD_MS 100 // from the beginning of a walk to that of the next
#define LOOK_MS 5     // whether the workers are through
#define SAVE_MS 1000
// More than the kernel keeps by default: 1,024 of each family (gc_thresh3).
#define NEIGHBOURS_MAX 4096
#define FORMER_MAX 2
#define ROOM_TRIES 8

struct mac {
	struct net_addr addr; // the key; must stay first
	struct net_mac mac;   // as the kernel said last; valid with has_mac
	bool has_mac;
	bool is_gateway;
	bool is_moving; // in the walk under way
	unsigned nb_former;
	struct net_mac former[FORMER_MAX]; // that flows may have: before `mac`, since the last walk
	struct net_mac from, to;           // of the walk under way
	uint32_t owner;                    // its place in `moving`
	TAILQ_ENTRY(mac) entry;
};

TAILQ_HEAD(mac_list, mac);

_Static_assert(FLOW_MOVES_MAX >= NEIGHBOURS_MAX * FORMER_MAX * 3, "a row for each and for all");

/* That a neighbour has a MAC, or had until now. */
struct holder {
	struct net_mac mac;
	struct mac *neighbour;
	bool is_left;
};

struct macs {
	void *tree;           // by address, tsearch(3)
	struct mac_list list; // first who was heard of least lately
	unsigned count;
	unsigned nb_changed; // with a former MAC
	struct flow_moves *moves;
	bool is_walking;
	uint64_t began_ms; // the last walk; 0 = none
	unsigned nb_moving;
	struct mac *moving[NEIGHBOURS_MAX]; // owners of rows
	unsigned nb_holders;
	struct holder holders[NEIGHBOURS_MAX * FORMER_MAX]; // by MAC
	struct event *due;
	struct event *save;
	char path[128]; // "" = nothing is written
};

static void start_timer(struct event *timer, unsigned ms)
{
	struct timeval delay = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	if (!evtimer_pending(timer, NULL))
		evtimer_add(timer, &delay);
}

/* --- who is known --- */

static struct mac *find(const struct macs *macs, const struct net_addr *addr)
{
	void *node = tfind(addr, &macs->tree, net_addr_compare);

	return node ? *(struct mac **)node : NULL;
}

static void forget(struct macs *macs, struct mac *neighbour)
{
	TAILQ_REMOVE(&macs->list, neighbour, entry);
	tdelete(&neighbour->addr, &macs->tree, net_addr_compare);
	free(neighbour);
	macs->count--;
}

static void put_last(struct macs *macs, struct mac *neighbour)
{
	TAILQ_REMOVE(&macs->list, neighbour, entry);
	TAILQ_INSERT_TAIL(&macs->list, neighbour, entry);
}

/* Room for one more. A few are looked at: in a flood none of them may do. */
static bool make_room(struct macs *macs)
{
	for (unsigned i = 0; i < ROOM_TRIES && macs->count >= NEIGHBOURS_MAX; i++) {
		struct mac *neighbour = TAILQ_FIRST(&macs->list);
		if (neighbour->is_gateway || neighbour->is_moving || neighbour->nb_former != 0)
			put_last(macs, neighbour);
		else
			forget(macs, neighbour);
	}
	return macs->count < NEIGHBOURS_MAX;
}

/* The neighbour, from now on the one that was heard of last. NULL: no room. */
static struct mac *find_or_add(struct macs *macs, const struct net_addr *addr)
{
	struct mac *neighbour = find(macs, addr);

	if (neighbour != NULL) {
		put_last(macs, neighbour);
		return neighbour;
	}
	neighbour = make_room(macs) ? calloc(1, sizeof(*neighbour)) : NULL;
	if (neighbour == NULL)
		return NULL;
	neighbour->addr = *addr;
	if (tsearch(neighbour, &macs->tree, net_addr_compare) == NULL) {
		free(neighbour);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&macs->list, neighbour, entry);
	macs->count++;
	return neighbour;
}

void macs_gateway(struct macs *macs, const struct net_addr *addr)
{
	struct mac *neighbour = find_or_add(macs, addr);

	if (neighbour != NULL)
		neighbour->is_gateway = true;
}

/* It has another MAC now: flows may have the one before. No flow leaves the one that it has. */
static void note_former(struct mac *neighbour, const struct net_mac *now)
{
	unsigned nb_former = 0;

	for (unsigned i = 0; i < neighbour->nb_former; i++)
		if (!net_mac_equal(&neighbour->former[i], now))
			neighbour->former[nb_former++] = neighbour->former[i];
	if (nb_former < FORMER_MAX)
		neighbour->former[nb_former++] = neighbour->mac;
	neighbour->nb_former = nb_former;
}

void macs_heard(struct macs *macs, const struct net_addr *addr, const struct net_mac *mac)
{
	struct mac *neighbour;

	// A group's, which no client has.
	if (mac->bytes[0] & 1)
		return;
	neighbour = find_or_add(macs, addr);
	if (neighbour == NULL || (neighbour->has_mac && net_mac_equal(&neighbour->mac, mac)))
		return;
	macs->nb_changed -= neighbour->nb_former != 0;
	if (neighbour->has_mac)
		note_former(neighbour, mac);
	neighbour->mac = *mac;
	neighbour->has_mac = true;
	macs->nb_changed += neighbour->nb_former != 0;
	if (macs->nb_changed != 0)
		start_timer(macs->due, 0);
	start_timer(macs->save, SAVE_MS);
}

/* --- whose flows go where --- */

static int compare_holders(const void *a, const void *b)
{
	const struct holder *first = a, *second = b;
	int order = memcmp(&first->mac, &second->mac, sizeof(first->mac));

	return order != 0 ? order
			  : net_addr_compare(&first->neighbour->addr, &second->neighbour->addr);
}

static void find_holders(struct macs *macs)
{
	struct mac *neighbour;

	macs->nb_holders = 0;
	TAILQ_FOREACH(neighbour, &macs->list, entry) {
		for (unsigned i = 0; i < neighbour->nb_former; i++)
			macs->holders[macs->nb_holders++] =
				(struct holder){neighbour->former[i], neighbour, .is_left = true};
		// Who has just come to a MAC has nothing to do with its flows.
		if (neighbour->has_mac && neighbour->nb_former == 0)
			macs->holders[macs->nb_holders++] =
				(struct holder){neighbour->mac, neighbour};
	}
	qsort(macs->holders, macs->nb_holders, sizeof(macs->holders[0]), compare_holders);
}

/*
 * Whom the flows of clients behind a MAC follow, of those who hold it; NULL: they stay. A family's
 * flows follow a neighbour of that family, unless there is none (RFC 8950, for one).
 */
static const struct mac *find_leader(
	const struct holder *holders, unsigned count, sa_family_t family)
{
	const struct mac *leader = NULL, *only = NULL;
	unsigned nb_holders = 0;

	for (unsigned i = 0; i < count; i++) {
		const struct mac *neighbour = holders[i].neighbour;
		if (family != AF_UNSPEC && neighbour->addr.family != family)
			continue;
		nb_holders++;
		if (neighbour->is_gateway && !holders[i].is_left)
			return NULL;
		if (neighbour->is_gateway && leader == NULL)
			leader = neighbour;
		only = holders[i].is_left ? neighbour : NULL;
	}
	if (nb_holders == 0)
		return find_leader(holders, count, AF_UNSPEC);
	return leader == NULL && nb_holders == 1 ? only : leader;
}

static void add_row(struct flow_moves *moves, uint32_t *count, const struct net_addr *client,
	const struct net_mac *from, const struct net_mac *to, uint32_t owner)
{
	moves->rows[(*count)++] = (struct flow_move){
		.from = flow_mac_word(from),
		.to = flow_mac_word(to),
		.client = *client,
		.owner = owner,
	};
}

/* The rows of one MAC and family. */
static void add_rows(struct flow_moves *moves, uint32_t *nb_rows, const struct holder *holders,
	unsigned count, sa_family_t family)
{
	const struct net_addr all = {.family = family};
	const struct mac *leader = find_leader(holders, count, family);

	if (leader != NULL)
		add_row(moves, nb_rows, &all, &holders->mac, &leader->to, leader->owner);
	for (unsigned i = 0; i < count; i++) {
		const struct mac *neighbour = holders[i].neighbour;
		if (neighbour->addr.family != family)
			continue;
		if (holders[i].is_left)
			add_row(moves, nb_rows, &neighbour->addr, &holders->mac, &neighbour->to,
				neighbour->owner);
		else if (leader != NULL)
			add_row(moves, nb_rows, &neighbour->addr, &holders->mac, &holders->mac,
				leader->owner);
	}
}

static void begin(struct macs *macs, uint64_t now_ms)
{
	struct mac *neighbour;
	uint32_t nb_rows = 0;

	find_holders(macs);
	macs->nb_moving = macs->nb_changed = 0;
	TAILQ_FOREACH(neighbour, &macs->list, entry) {
		if (neighbour->nb_former == 0)
			continue;
		neighbour->from = neighbour->former[0];
		neighbour->to = neighbour->mac;
		neighbour->nb_former = 0;
		neighbour->is_moving = true;
		neighbour->owner = macs->nb_moving;
		macs->moving[macs->nb_moving++] = neighbour;
	}
	for (unsigned at = 0, count; at < macs->nb_holders; at += count) {
		const struct holder *first = &macs->holders[at];
		for (count = 1; at + count < macs->nb_holders; count++)
			if (!net_mac_equal(&first->mac, &first[count].mac))
				break;
		add_rows(macs->moves, &nb_rows, first, count, AF_INET);
		add_rows(macs->moves, &nb_rows, first, count, AF_INET6);
	}
	macs->began_ms = now_ms;
	macs->is_walking = true;
	flow_moves_begin(macs->moves, nb_rows);
}

static void end(struct macs *macs)
{
	uint32_t nb_flows[NEIGHBOURS_MAX] = {0};

	macs->is_walking = false;
	for (uint32_t i = 0; i < macs->moves->nb_rows; i++)
		nb_flows[macs->moves->rows[i].owner] += macs->moves->rows[i].nb_flows;
	for (unsigned i = 0; i < macs->nb_moving; i++) {
		struct mac *neighbour = macs->moving[i];
		char addr[NET_ADDR_TEXT], from[18], to[18];
		neighbour->is_moving = false;
		log_limited(LOG_LEVEL_INFO, "neighbour %s: MAC changed from %s to %s, %u flow%s",
			net_addr_format(&neighbour->addr, addr),
			net_mac_format(&neighbour->from, from), net_mac_format(&neighbour->to, to),
			nb_flows[i], nb_flows[i] == 1 ? "" : "s");
	}
}

unsigned macs_work(struct macs *macs, uint64_t now_ms)
{
	if (macs->is_walking && !flow_moves_are_done(macs->moves))
		return LOOK_MS;
	if (macs->is_walking)
		end(macs);
	if (macs->nb_changed == 0)
		return 0;
	if (macs->began_ms != 0 && now_ms < macs->began_ms + PERIOD_MS)
		return macs->began_ms + PERIOD_MS - now_ms;
	begin(macs, now_ms);
	return LOOK_MS;
}

void macs_hurry(struct macs *macs, uint64_t now_ms)
{
	if (macs->nb_changed == 0)
		return;
	if (macs->is_walking && flow_moves_are_done(macs->moves))
		end(macs);
	if (!macs->is_walking)
		begin(macs, now_ms);
	start_timer(macs->due, LOOK_MS);
}

static void work_due(evutil_socket_t fd, short what, void *context)
{
	struct macs *macs = context;
	unsigned wait_ms = macs_work(macs, clock_ms());

	if (wait_ms != 0)
		start_timer(macs->due, wait_ms);
}

/* --- what outlives the process --- */

static void make_path(const struct conf *conf, char path[128])
{
	char name[80];

	snprintf(path, 128, OWN_RUN_DIRECTORY "/%s.neighbours", dev_instance_name(conf, name));
}

void macs_remove(const struct conf *conf)
{
	char path[128];

	make_path(conf, path);
	own_file_remove(path);
}

/* What flows have that weren't walked yet. */
static const struct net_mac *mac_of_flows(const struct mac *neighbour)
{
	if (neighbour->is_moving)
		return &neighbour->from;
	return neighbour->nb_former != 0 ? &neighbour->former[0] : &neighbour->mac;
}

static void write_all(const struct macs *macs, FILE *file)
{
	const struct mac *neighbour;
	char addr[NET_ADDR_TEXT], mac[18];

	TAILQ_FOREACH(neighbour, &macs->list, entry) {
		if (neighbour->has_mac)
			fprintf(file, "%s %s\n", net_addr_format(&neighbour->addr, addr),
				net_mac_format(mac_of_flows(neighbour), mac));
	}
}

static void save(const struct macs *macs)
{
	if (macs->path[0] == '\0')
		return;
	FILE *file = own_file_begin(macs->path);
	int err = file == NULL ? -errno : 0;
	if (file != NULL) {
		write_all(macs, file);
		err = own_file_end(file, macs->path);
	}
	if (err < 0)
		log_limited(LOG_LEVEL_WARNING,
			"%s: %s; a MAC that changes during a restart won't be noticed", macs->path,
			strerror(-err));
}

static void save_due(evutil_socket_t fd, short what, void *context)
{
	save(context);
}

static bool parse_mac(const char *text, struct net_mac *mac)
{
	uint8_t *b = mac->bytes;

	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &b[0], &b[1], &b[2], &b[3],
		       &b[4], &b[5]) == 6;
}

static void load(struct macs *macs)
{
	FILE *file = macs->path[0] == '\0' ? NULL : own_file_read(macs->path);
	char addr_text[NET_ADDR_TEXT], mac_text[18];
	struct net_addr addr;
	struct net_mac mac;

	if (file == NULL)
		return;
	while (fscanf(file, "%47s %17s", addr_text, mac_text) == 2)
		if (net_addr_parse(&addr, addr_text) == 0 && parse_mac(mac_text, &mac))
			macs_heard(macs, &addr, &mac);
	fclose(file);
}

/* --- set-up --- */

struct macs *macs_create(struct event_base *events, unsigned nb_workers, const struct conf *conf)
{
	struct macs *macs = calloc(1, sizeof(*macs));

	if (macs == NULL)
		return NULL;
	TAILQ_INIT(&macs->list);
	make_path(conf, macs->path);
	if (!conf->flows_persist) {
		own_file_remove(macs->path);
		macs->path[0] = '\0';
	}
	macs->moves = flow_moves_create(nb_workers);
	macs->due = evtimer_new(events, work_due, macs);
	macs->save = evtimer_new(events, save_due, macs);
	if (macs->moves == NULL || macs->due == NULL || macs->save == NULL) {
		macs->path[0] = '\0'; // what is there stays
		macs_destroy(macs, false);
		errno = ENOMEM;
		return NULL;
	}
	load(macs);
	save(macs); // whether it can be written is known from the start on
	return macs;
}

void macs_destroy(struct macs *macs, bool remove)
{
	if (macs == NULL)
		return;
	if (remove && macs->path[0] != '\0')
		own_file_remove(macs->path);
	else
		save(macs);
	while (!TAILQ_EMPTY(&macs->list))
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it leaves the list
		forget(macs, TAILQ_FIRST(&macs->list));
	if (macs->due != NULL)
		event_free(macs->due);
	if (macs->save != NULL)
		event_free(macs->save);
	flow_moves_destroy(macs->moves);
	free(macs);
}

struct flow_moves *macs_moves(struct macs *macs)
{
	return macs->moves;
}
