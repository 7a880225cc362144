/* SPDX-License-Identifier: BSD-3-Clause */
#include "signals.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "daemon.h"
#include "log.h"
#include "reload.h"
#include "upgrade.h"

struct signals {
	struct daemon *daemon;
	struct event *event;
	int fd;
};

static void end(struct daemon *daemon, int number)
{
	log_info("ending: SIG%s", sigabbrev_np(number));
	upgrade_give_up(daemon);
	daemon_end(daemon, !daemon->conf->flows_persist);
}

static void load(struct daemon *daemon, int number)
{
	reload_request(daemon->reload, NULL);
}

static void reopen(struct daemon *daemon, int number)
{
	log_debug("SIG%s: there are no log files", sigabbrev_np(number));
}

static void ignore(struct daemon *daemon, int number)
{
	log_limited(LOG_LEVEL_INFO, "SIG%s is ignored", sigabbrev_np(number));
}

static const struct {
	int number;
	void (*take)(struct daemon *daemon, int number);
} rows[] = {
	{SIGTERM, end},
	{SIGINT, end},
	{SIGQUIT, end},
	{SIGHUP, load},
	{SIGUSR1, reopen},
	{SIGUSR2, ignore},
	{SIGALRM, ignore},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* Those that end the process, or all. */
static sigset_t make_set(bool ends_only)
{
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < ROWS; i++)
		if (!ends_only || rows[i].take == end)
			sigaddset(&set, rows[i].number);
	return set;
}

void signals_block(void)
{
	// A reader that is gone, a file that may not grow, a terminal of somebody else: the write
	// says so.
	static const int writes[] = {SIGPIPE, SIGXFSZ, SIGTTOU};
	sigset_t set = make_set(false);

	sigprocmask(SIG_BLOCK, &set, NULL);
	for (unsigned i = 0; i < sizeof(writes) / sizeof(writes[0]); i++)
		signal(writes[i], SIG_IGN);
}

int signals_end_waits(void)
{
	sigset_t pending;

	sigpending(&pending);
	for (unsigned i = 0; i < ROWS; i++)
		if (rows[i].take == end && sigismember(&pending, rows[i].number))
			return rows[i].number;
	return 0;
}

int signals_wait_end(unsigned ms)
{
	sigset_t set = make_set(true);
	struct timespec most = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	int number = sigtimedwait(&set, NULL, &most);

	return number < 0 ? 0 : number;
}

static void on_signal(evutil_socket_t fd, short what, void *context)
{
	struct signals *signals = context;
	struct signalfd_siginfo info;

	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	for (unsigned i = 0; i < ROWS; i++)
		if (rows[i].number == (int)info.ssi_signo)
			rows[i].take(signals->daemon, rows[i].number);
}

struct signals *signals_create(struct daemon *daemon)
{
	struct signals *signals = calloc(1, sizeof(*signals));
	sigset_t set = make_set(false);

	if (signals == NULL)
		return NULL;
	signals->daemon = daemon;
	signals->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals->fd >= 0)
		signals->event = event_new(
			daemon->events, signals->fd, EV_READ | EV_PERSIST, on_signal, signals);
	if (signals->event != NULL && event_add(signals->event, NULL) == 0)
		return signals;
	int err = signals->fd < 0 ? errno : ENOMEM;
	signals_destroy(signals);
	errno = err;
	return NULL;
}

void signals_destroy(struct signals *signals)
{
	if (signals == NULL)
		return;
	if (signals->event != NULL)
		event_free(signals->event);
	if (signals->fd >= 0)
		close(signals->fd);
	free(signals);
}
