/* SPDX-License-Identifier: BSD-3-Clause */
#include "log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

// One log for the process; written before threads start.
static enum log_level max_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	max_level = level;
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

void log_write(enum log_level level, const char *module, const char *format, ...)
{
	if (level > max_level)
		return;

	char line[1024];
	int length = format_prefix(line, sizeof(line), level, module);
	va_list args;
	va_start(args, format);
	length += vsnprintf(line + length, sizeof(line) - length, format, args);
	va_end(args);
	if (length > (int)sizeof(line) - 1)
		length = sizeof(line) - 1;
	line[length++] = '\n';
	if (write(STDERR_FILENO, line, length) < 0)
		return; // nobody to tell
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
