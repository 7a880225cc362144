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
#include "stall.h"
#include "upgrade.h"

#define LONGEST_MS 1000 // between two words
#define START_MS 120000 // that a start may take, with all flows of a large table

struct notify {
	struct daemon *daemon;
	struct event *event;
	unsigned interval_ms;
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
	if (fd < 0 ||
		sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address,
			offsetof(struct sockaddr_un, sun_path) + strlen(path)) < 0)
		log_limited(
			LOG_LEVEL_WARNING, "systemd isn't told \"%s\": %s", text, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void look(evutil_socket_t fd, short what, void *context)
{
	const struct notify *notify = context;

	if (!stall_any(notify->daemon->stall, notify->interval_ms))
		tell("WATCHDOG=1");
}

/* 0 = there is no watchdog, or it isn't for this process. */
static uint64_t watchdog_us(const struct daemon *daemon)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	char own[24];

	// A successor has the environment of the first process; the unit's watchdog is its own now,
	// and stays so when it has to start again for want of a successor.
	snprintf(own, sizeof(own), "%d", getpid());
	if (pid != NULL && upgrade_is_successor(daemon))
		setenv("WATCHDOG_PID", own, 1);
	else if (pid != NULL && strcmp(pid, own) != 0)
		return 0;
	return usec == NULL ? 0 : strtoull(usec, NULL, 10);
}

/* Have the watchdog wait for so long; 0 = there is none. */
static void tell_watchdog(uint64_t ms)
{
	char text[64];

	if (ms == 0 || getenv("WATCHDOG_USEC") == NULL)
		return;
	snprintf(text, sizeof(text), "WATCHDOG=1\nWATCHDOG_USEC=%lu", (unsigned long)ms * 1000);
	tell(text);
}

struct notify *notify_create(struct daemon *daemon)
{
	struct notify *notify = calloc(1, sizeof(*notify));
	uint64_t watchdog_ms = watchdog_us(daemon) / 1000, ms = watchdog_ms / 3;

	if (notify == NULL)
		return NULL;
	notify->daemon = daemon;
	notify->interval_ms = ms > LONGEST_MS ? LONGEST_MS : ms;
	if (notify->interval_ms != 0) {
		struct timeval interval = {.tv_sec = notify->interval_ms / 1000,
			.tv_usec = notify->interval_ms % 1000 * 1000};
		notify->event = event_new(daemon->events, -1, EV_PERSIST, look, notify);
		if (notify->event == NULL || event_add(notify->event, &interval) < 0) {
			notify_destroy(notify);
			errno = ENOMEM;
			return NULL;
		}
	}
	char text[64];
	snprintf(text, sizeof(text), "READY=1\nMAINPID=%d", getpid());
	tell(text);
	tell_watchdog(watchdog_ms);
	return notify;
}

void notify_destroy(struct notify *notify)
{
	if (notify == NULL)
		return;
	// A successor is ready in a moment, or this process again: that isn't the unit's end, and
	// nobody feeds the watchdog until then.
	if (upgrade_is_awaited(notify->daemon) || upgrade_starts_again(notify->daemon))
		tell_watchdog(START_MS);
	else
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
