/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Log lines on stderr: "<level> <module>: text", with date and time in front on a terminal or file
 * and with syslog's "<N>" in front under journald. The build gives each module its LOG_MODULE.
 *
 * Any thread may log. A line is one write(2), so lines of two threads don't mix. It waits for
 * nobody: what a full pipe, a terminal that was stopped or a stuck journald doesn't take is dropped
 * and counted, and the next line that is taken says how many were. Never per packet: what traffic
 * can trigger goes through log_limited().
 */
#ifndef WEIR_LOG_H
#define WEIR_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Open descriptors 0 to 2, where they are closed, as /dev/null, and log to what stderr is now, from
 * here on without waiting for its reader. Before anything else is opened. */
void log_open(void);

/* Return how many lines nobody took. */
uint64_t log_dropped(void);

/* Drop lines above this level; it is LOG_LEVEL_INFO at the start. Call it before threads start. */
void log_set_level(enum log_level level);

void log_write(enum log_level level, const char *module, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* One per call site, zeroed: the budget of a line that traffic can trigger. */
struct log_limit {
	uint64_t second;    // the clock second of the budget
	unsigned count;     // lines written in it
	uint64_t held_back; // lines since the last one that was written
};

/* Tell whether the call site of `limit` may write now: 10 lines a second of
 * each thread (case C7). */
bool log_limit_allows(struct log_limit *limit);

/* Say, after a line that log_limit_allows() let pass, how many before it were held back, if any. */
void log_limit_report(struct log_limit *limit, enum log_level level, const char *module);

#define log_error(...) log_write(LOG_LEVEL_ERROR, LOG_MODULE, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, LOG_MODULE, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, LOG_MODULE, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, LOG_MODULE, __VA_ARGS__)

#define log_limited(level, ...)                                                                    \
	do {                                                                                       \
		static __thread struct log_limit limit_here;                                       \
		if (log_limit_allows(&limit_here)) {                                               \
			log_write(level, LOG_MODULE, __VA_ARGS__);                                 \
			log_limit_report(&limit_here, level, LOG_MODULE);                          \
		}                                                                                  \
	} while (0)

#endif
