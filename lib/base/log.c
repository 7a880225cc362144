/* SPDX-License-Identifier: BSD-3-Clause */
#include "log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"

#define LINES_PER_SECOND 10

static const struct {
	const char *name;
	int syslog; // RFC 5424 severity
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", 3},
	[LOG_LEVEL_WARNING] = {"warning", 4},
	[LOG_LEVEL_INFO] = {"info", 6},
	[LOG_LEVEL_DEBUG] = {"debug", 7},
};

// One log for the process; level, fd and is_socket are written before threads start.
static enum log_level max_level = LOG_LEVEL_INFO;
static struct {
	int fd;
	bool is_socket;
	uint64_t dropped; // lines; atomic
	uint64_t untold;  // of these, since a line said so; atomic
} out = {.fd = STDERR_FILENO};

void log_set_level(enum log_level level)
{
	max_level = level;
}

void log_open(void)
{
	struct stat status;
	int fd;

	// Whatever is opened next would get their numbers, and be written to.
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	if (fstat(STDERR_FILENO, &status) < 0)
		return;
	out.is_socket = S_ISSOCK(status.st_mode);
	if (!S_ISFIFO(status.st_mode) && !S_ISCHR(status.st_mode))
		return;
	// Not by F_SETFL: whoever else has the pipe or terminal would get its EAGAIN, too.
	fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0)
		out.fd = fd;
}

uint64_t log_dropped(void)
{
	return __atomic_load_n(&out.dropped, __ATOMIC_RELAXED);
}

/* Never waits for whoever reads it. A line is shorter than PIPE_BUF, so it goes whole or not. */
static bool put(const char *line, int length)
{
	ssize_t size = out.is_socket ? send(out.fd, line, length, MSG_DONTWAIT | MSG_NOSIGNAL)
				     : write(out.fd, line, length);

	return size == length;
}

static int format_prefix(char *line, size_t size, enum log_level level, const char *module)
{
	if (getenv("JOURNAL_STREAM") != NULL)
		return snprintf(line, size, "<%d>%s %s: ", levels[level].syslog, levels[level].name,
			module);

	struct timespec now;
	struct tm local;
	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &local);
	char when[32];
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &local);
	return snprintf(line, size, "%s.%03ld %s %s: ", when, now.tv_nsec / 1000000,
		levels[level].name, module);
}

static bool write_line(enum log_level level, const char *module, const char *format, va_list args)
{
	char line[1024];
	int length = format_prefix(line, sizeof(line), level, module);

	length += vsnprintf(line + length, sizeof(line) - length, format, args);
	if (length > (int)sizeof(line) - 1)
		length = sizeof(line) - 1;
	line[length++] = '\n';
	return put(line, length);
}

static bool write_words(enum log_level level, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	bool done = write_line(level, LOG_MODULE, format, args);
	va_end(args);
	return done;
}

/* Say how many lines were dropped since that was said last. */
static bool tell_dropped(void)
{
	uint64_t count = __atomic_exchange_n(&out.untold, 0, __ATOMIC_RELAXED);

	if (count == 0 ||
		write_words(LOG_LEVEL_WARNING, "%" PRIu64 " log line%s dropped: nobody read them",
			count, count == 1 ? " was" : "s were"))
		return true;
	__atomic_fetch_add(&out.untold, count, __ATOMIC_RELAXED);
	return false;
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
	va_list args;

	if (level > max_level)
		return;
	va_start(args, format);
	bool done = tell_dropped() && write_line(level, module, format, args);
	va_end(args);
	if (done)
		return;
	__atomic_fetch_add(&out.dropped, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&out.untold, 1, __ATOMIC_RELAXED);
}

bool log_limit_allows(struct log_limit *limit)
{
	uint64_t second = clock_ms() / 1000;

	if (limit->second != second) {
		limit->second = second;
		limit->count = 0;
	}
	if (limit->count >= LINES_PER_SECOND) {
		limit->held_back++;
		return false;
	}
	limit->count++;
	return true;
}

void log_limit_report(struct log_limit *limit, enum log_level level, const char *module)
{
	if (limit->held_back == 0)
		return;
	limit->count++; // this line is of the second's budget too
	log_write(level, module, "%" PRIu64 " lines like the one above were held back before it",
		limit->held_back);
	limit->held_back = 0;
}
