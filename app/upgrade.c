/* SPDX-License-Identifier: BSD-3-Clause */
#include "upgrade.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "daemon.h"
#include "log.h"
#include "notify.h"

#define VARIABLE "WEIR_SUCCESSOR_SOCKET"
#define CONFIG "WEIR_CONFIG_FD"
#define SUCCESSOR_FD 3
#define RELEASE_WAIT_MS 30000
#define READY_WAIT_MS 30000
#define FOLLOW_WAIT_S 10 // for the process before to end
#define ANSWER_MS 5      // for the answer to who asked for it to leave
#define WORD 512

// One a process. The words are whole messages: the sockets are SOCK_SEQPACKET.
static struct {
	char **argv;
	cpu_set_t cpus; // before any thread was bound to one
	char binary[256];
	int fd; // to the successor, or to the process before; -1 = none
	bool is_successor;
	bool is_prepared; // the successor waits for the port
	bool starts_again;
	int config_fd; // what ran before; -1 = the file counts
	char config[32];
	pid_t pid;    // of the successor
	int exec_err; // why the new program wasn't started; written by the child, in this memory
	struct event *event;
	upgrade_told_fn told;
	void *context;
	uint64_t began_ms;
	uint64_t released_ms;
} upgrade = {.fd = -1, .config_fd = -1};

void upgrade_init(struct daemon *daemon, char **argv)
{
	const char *number = getenv(VARIABLE), *config = getenv(CONFIG);
	ssize_t length = readlink("/proc/self/exe", upgrade.binary, sizeof(upgrade.binary) - 1);

	// Taken now: it names the file by its path, whoever replaces that later.
	upgrade.binary[length < 0 ? 0 : length] = '\0';
	upgrade.argv = argv;
	sched_getaffinity(0, sizeof(upgrade.cpus), &upgrade.cpus);
	upgrade.config_fd = config != NULL ? atoi(config) : -1;
	unsetenv(CONFIG);
	snprintf(upgrade.config, sizeof(upgrade.config), "/proc/self/fd/%d", upgrade.config_fd);
	if (number == NULL)
		return;
	upgrade.fd = atoi(number);
	upgrade.is_successor = true;
	unsetenv(VARIABLE);
}

const char *upgrade_config(const struct daemon *daemon)
{
	return upgrade.config_fd >= 0 ? upgrade.config : daemon->options.config;
}

void upgrade_config_read(struct daemon *daemon)
{
	if (upgrade.config_fd < 0)
		return;
	log_info("going on with the configuration that ran before; %s is taken by a reload",
		daemon->options.config);
	close(upgrade.config_fd);
	upgrade.config_fd = -1;
}

bool upgrade_is_successor(const struct daemon *daemon)
{
	return upgrade.is_successor;
}

static void say(const char *word)
{
	if (upgrade.fd >= 0 && send(upgrade.fd, word, strlen(word), MSG_NOSIGNAL) < 0)
		log_warning("upgrade: the other process is gone: %s", strerror(errno));
}

/* The other side's next word; "" when it is gone or says nothing in time. */
static void hear(char word[WORD], unsigned wait_ms)
{
	struct pollfd poller = {.fd = upgrade.fd, .events = POLLIN};
	ssize_t length = 0;

	if (poll(&poller, 1, wait_ms) > 0)
		length = recv(upgrade.fd, word, WORD - 1, 0);
	word[length < 0 ? 0 : length] = '\0';
}

/* --- the running process --- */

static void forget_successor(void)
{
	if (upgrade.event != NULL)
		event_free(upgrade.event);
	upgrade.event = NULL;
	if (upgrade.fd >= 0)
		close(upgrade.fd);
	upgrade.fd = -1;
	upgrade.is_prepared = false;
	upgrade.pid = 0;
}

static void tell(const char *error)
{
	upgrade_told_fn told = upgrade.told;

	upgrade.told = NULL;
	if (told != NULL)
		told(upgrade.context, error);
}

static void end(evutil_socket_t fd, short what, void *context)
{
	if (upgrade.is_prepared) // or it was given up, and who did that ends it
		daemon_end(context, false);
}

static void on_word(evutil_socket_t fd, short what, void *context)
{
	struct daemon *daemon = context;
	char word[WORD] = "";

	if (what & EV_READ)
		hear(word, 0);
	if (strcmp(word, "prepared") == 0) {
		upgrade.is_prepared = true;
		event_del(upgrade.event);
		log_info("upgrade: the successor (pid %d) was prepared in %lu ms; handing over",
			upgrade.pid, (unsigned long)(clock_ms() - upgrade.began_ms));
		tell(NULL);
		event_base_once(daemon->events, -1, EV_TIMEOUT, end, daemon,
			&(struct timeval){.tv_usec = ANSWER_MS * 1000});
		return;
	}
	const char *error = word[0] != '\0' ? word
		: what & EV_TIMEOUT         ? "the new process isn't prepared in time"
				    : "the new process ended before it was prepared; see the log";
	log_error("upgrade: %s; going on", error);
	kill(upgrade.pid, SIGKILL); // an own child, not waited for yet
	forget_successor();
	tell(error);
}

/* In the child that shares the parent's memory until it has become another program: nothing but
 * system calls. */
static void become(int fd, char *const *environment)
{
	sigset_t none;

	// A descriptor of the port that is left open would keep the port.
	if (dup2(fd, SUCCESSOR_FD) < 0 || close_range(SUCCESSOR_FD + 1, ~0U, 0) < 0)
		_exit(127);
	sched_setaffinity(0, sizeof(upgrade.cpus), &upgrade.cpus);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	execve(upgrade.binary, upgrade.argv, environment);
	upgrade.exec_err = -errno;
	_exit(127);
}

static char **make_environment(char *variable)
{
	size_t count = 0;

	while (environ[count] != NULL)
		count++;
	char **copy = calloc(count + 2, sizeof(*copy));
	if (copy == NULL)
		return NULL;
	memcpy(copy, environ, count * sizeof(*copy));
	copy[count] = variable;
	return copy;
}

int upgrade_start(struct daemon *daemon, upgrade_told_fn told, void *context)
{
	char variable[64];
	int pair[2];

	if (upgrade.fd >= 0)
		return -EALREADY;
	snprintf(variable, sizeof(variable), VARIABLE "=%d", SUCCESSOR_FD);
	char **environment = make_environment(variable);
	if (environment == NULL)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		int err = -errno;
		free(environment);
		return err;
	}
	// Not fork(): until the exec the workers' memory would be copied under them, page by page.
	upgrade.exec_err = 0;
	pid_t pid = vfork();
	if (pid == 0)
		// NOLINTNEXTLINE(clang-analyzer-unix.Vfork): it execs or exits
		become(pair[1], environment);
	int err = pid < 0 ? -errno : upgrade.exec_err;
	free(environment);
	close(pair[1]);
	upgrade.fd = pair[0];
	upgrade.pid = pid;
	upgrade.began_ms = clock_ms();
	if (err == 0) {
		upgrade.event = event_new(daemon->events, pair[0], EV_READ, on_word, daemon);
		if (upgrade.event == NULL ||
			event_add(upgrade.event,
				&(struct timeval){.tv_sec = RELEASE_WAIT_MS / 1000}) < 0)
			err = -ENOMEM;
	}
	if (err < 0) {
		if (pid > 0) {
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
		log_error("upgrade: %s: %s; going on", upgrade.binary, strerror(-err));
		forget_successor();
		return err;
	}
	upgrade.told = told;
	upgrade.context = context;
	log_info("upgrade: %s starts as pid %d", upgrade.binary, pid);
	return 0;
}

const char *upgrade_binary(const struct daemon *daemon)
{
	return upgrade.binary;
}

bool upgrade_is_under_way(const struct daemon *daemon)
{
	return !upgrade.is_successor && upgrade.pid != 0;
}

void upgrade_give_up(struct daemon *daemon)
{
	if (!upgrade_is_under_way(daemon))
		return;
	log_info("upgrade: given up, weir is to end; pid %d is ended too", upgrade.pid);
	kill(upgrade.pid, SIGKILL); // an own child, not waited for yet
	forget_successor();
	tell("weir was stopped by hand before the new process was prepared");
}

void upgrade_cancel_wait(struct daemon *daemon)
{
	upgrade.told = NULL;
}

bool upgrade_is_awaited(const struct daemon *daemon)
{
	return !upgrade.is_successor && upgrade.is_prepared;
}

void upgrade_released(struct daemon *daemon)
{
	upgrade.released_ms = clock_ms();
	say("released");
}

bool upgrade_finish(struct daemon *daemon)
{
	char word[WORD];

	hear(word, READY_WAIT_MS);
	if (strcmp(word, "ready") == 0) {
		notify_main_pid(upgrade.pid);
		log_info("upgrade: pid %d has taken over", upgrade.pid);
		return true;
	}
	log_error("upgrade: %s; starting again", word[0] ? word : "the successor failed");
	kill(upgrade.pid, SIGKILL);
	upgrade_exec(daemon);
	return false;
}

void upgrade_start_again(struct daemon *daemon)
{
	upgrade.starts_again = true;
	daemon_end(daemon, !daemon->conf->flows_persist);
}

bool upgrade_starts_again(const struct daemon *daemon)
{
	return upgrade.starts_again;
}

/* The configuration that runs, for the next start; without it that reads the file. */
static void pass_config(const struct conf *conf)
{
	char number[16];
	size_t size = strlen(conf->text);
	int fd = memfd_create("weir.conf", 0);

	if (fd < 0 || write(fd, conf->text, size) != (ssize_t)size) {
		log_warning("the running configuration can't be kept: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	snprintf(number, sizeof(number), "%d", fd);
	setenv(CONFIG, number, 1);
	fcntl(fd, F_SETFD, 0);
}

void upgrade_exec(struct daemon *daemon)
{
	sched_setaffinity(0, sizeof(upgrade.cpus), &upgrade.cpus);
	close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); // threads of the library still use some
	pass_config(daemon->conf);
	// This very program, whatever has come into its file's place.
	execv("/proc/self/exe", upgrade.argv);
	log_error("can't start again: %s", strerror(errno));
}

/* --- the successor --- */

int upgrade_wait(struct daemon *daemon)
{
	char word[WORD];
	uint64_t prepared_ms = clock_ms();

	say("prepared");
	hear(word, RELEASE_WAIT_MS);
	log_info("upgrade: the other process %s after %lu ms",
		word[0] != '\0' ? "let go of the port" : "is gone",
		(unsigned long)(clock_ms() - prepared_ms));
	return 0;
}

static void followed(evutil_socket_t fd, short what, void *context)
{
	struct daemon *daemon = context;

	// The end of the one before, whose directory is free now.
	dev_eal_own_name(daemon->conf);
	upgrade.is_successor = false;
	forget_successor();
}

void upgrade_ready(struct daemon *daemon)
{
	say("ready");
	upgrade.event = event_new(daemon->events, upgrade.fd, EV_READ, followed, daemon);
	if (upgrade.event == NULL ||
		event_add(upgrade.event, &(struct timeval){.tv_sec = FOLLOW_WAIT_S}) < 0)
		followed(-1, 0, daemon);
}

void upgrade_failed(struct daemon *daemon, const char *message)
{
	char word[WORD];

	snprintf(word, sizeof(word), "failed: %s", message);
	say(word);
}
