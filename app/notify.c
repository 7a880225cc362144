/* SPDX-License-Identifier: BSD-3-Clause */
#include "notify.h"

#include <errno.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "upgrade.h"

#define LONGEST_MS 1000 // between two looks at the workers

struct notify {
	struct daemon *daemon;
	struct event *event;
	struct timeval interval;
	uint64_t loops[CONF_WORKERS_MAX]; // of each worker, at the last look
	bool stuck;                       // said so
};

/* A datagram to the socket that systemd names; one that begins with @ is abstract. */
static void tell(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, strlen(path));
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
		offsetof(struct sockaddr_un, sun_path) + strlen(path)) < 0)
		log_limited(LOG_LEVEL_WARNING, "systemd isn't told \"%s\": %s", text,
			strerror(errno));
	if (fd >= 0)
		close(fd);
}

static bool all_turn(struct notify *notify)
{
	const struct daemon *daemon = notify->daemon;
	bool all = true;

	for (unsigned w = 0; w < daemon->port.nb_workers; w++) {
		uint64_t loops =
			__atomic_load_n(&daemon->workers[w].stats.live.loops, __ATOMIC_RELAXED);
		if (loops == notify->loops[w] && !notify->stuck)
			log_error("worker %u stands still: the watchdog isn't fed", w);
		all &= loops != notify->loops[w];
		notify->loops[w] = loops;
	}
	notify->stuck = !all;
	return all;
}

static void look(evutil_socket_t fd, short what, void *context)
{
	if (all_turn(context))
		tell("WATCHDOG=1");
}

/* 0 = there is no watchdog, or it isn't for this process. */
static uint64_t watchdog_us(const struct daemon *daemon)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	// A successor has the environment of the first process; the unit's watchdog is its own now.
	if (usec == NULL ||
		(pid != NULL && atol(pid) != getpid() && !upgrade_is_successor(daemon)))
		return 0;
	return strtoull(usec, NULL, 10);
}

struct notify *notify_create(struct daemon *daemon)
{
	struct notify *notify = calloc(1, sizeof(*notify));
	uint64_t us = watchdog_us(daemon) / 3;

	if (notify == NULL)
		return NULL;
	notify->daemon = daemon;
	if (us > LONGEST_MS * 1000)
		us = LONGEST_MS * 1000;
	notify->interval = (struct timeval){us / 1000000, us % 1000000};
	if (us != 0) {
		notify->event = event_new(daemon->events, -1, EV_PERSIST, look, notify);
		if (notify->event == NULL || event_add(notify->event, &notify->interval) < 0) {
			notify_destroy(notify);
			errno = ENOMEM;
			return NULL;
		}
	}
	char text[64];
	snprintf(text, sizeof(text), "READY=1\nMAINPID=%d", getpid());
	tell(text);
	return notify;
}

void notify_destroy(struct notify *notify)
{
	if (notify == NULL)
		return;
	// A successor is ready in a moment: that isn't the unit's end.
	if (!upgrade_is_awaited(notify->daemon))
		tell("STOPPING=1");
	if (notify->event != NULL)
		event_free(notify->event);
	free(notify);
}

void notify_main_pid(int pid)
{
	char text[64];

	snprintf(text, sizeof(text), "MAINPID=%d", pid);
	tell(text);
}
