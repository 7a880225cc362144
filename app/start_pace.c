/* SPDX-License-Identifier: BSD-3-Clause */
#include "start_pace.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "own_file.h"
#include "signals.h"

#define FIRST_MS 100
#define LONGEST_MS 10000
#define LOOK_MS 100 // whether the file has changed

struct failure {
	unsigned count; // in a row; 0 = none
	uint64_t at_ms; // the last one
	uint64_t file;  // that failed, as by identity()
};

uint64_t start_pace_delay_ms(unsigned failures)
{
	uint64_t ms = FIRST_MS;

	while (--failures > 0 && ms < LONGEST_MS)
		ms *= 2;
	return ms < LONGEST_MS ? ms : LONGEST_MS;
}

/* "/run/weir/failed-etc-weir-weir.conf" */
static void make_path(const char *config, char path[256])
{
	snprintf(path, 256, OWN_RUN_DIRECTORY "/failed%s%s", config[0] == '/' ? "" : "-", config);
	for (char *c = path + strlen(OWN_RUN_DIRECTORY) + 1; *c != '\0'; c++)
		if (*c == '/')
			*c = '-';
}

/* Changes when the file does; 0 = there is none. */
static uint64_t identity(const char *config)
{
	struct stat status;

	if (stat(config, &status) < 0)
		return 0;
	return ((uint64_t)status.st_ino << 32) ^ ((uint64_t)status.st_ctim.tv_sec << 16) ^
		(uint64_t)status.st_ctim.tv_nsec ^ 1;
}

static struct failure read_failure(const char *config)
{
	struct failure failure = {0};
	char path[256];

	make_path(config, path);
	FILE *file = own_file_read(path);
	if (file == NULL)
		return failure;
	if (fscanf(file, "%u %" SCNu64 " %" SCNu64, &failure.count, &failure.at_ms,
		    &failure.file) != 3 ||
		failure.at_ms > clock_ms()) // of another boot
		failure = (struct failure){0};
	fclose(file);
	return failure;
}

static bool is_told(void)
{
	return getenv("NOTIFY_SOCKET") != NULL;
}

bool start_pace_wait(const char *config)
{
	struct failure failure = read_failure(config);
	uint64_t until_ms = failure.at_ms;

	if (!is_told() || failure.count == 0)
		return true;
	until_ms += start_pace_delay_ms(failure.count);
	if (clock_ms() >= until_ms || failure.file != identity(config))
		return true;
	log_info("%u starts in a row have failed: the next one is tried in %" PRIu64
		 " ms, or when %s changes",
		failure.count, until_ms - clock_ms(), config);
	while (clock_ms() < until_ms && failure.file == identity(config)) {
		int number = signals_wait_end(LOOK_MS);
		if (number == 0)
			continue;
		log_info("ending: SIG%s", sigabbrev_np(number));
		start_pace_forget(config);
		return false;
	}
	return true;
}

void start_pace_failed(const char *config)
{
	struct failure failure = read_failure(config);
	char path[256];

	if (!is_told())
		return;
	make_path(config, path);
	own_directory_make(OWN_RUN_DIRECTORY, 0755);
	FILE *file = own_file_begin(path);
	if (file == NULL)
		return;
	fprintf(file, "%u %" PRIu64 " %" PRIu64 "\n", failure.count + 1, clock_ms(),
		identity(config));
	own_file_end(file, path);
}

void start_pace_forget(const char *config)
{
	char path[256];

	make_path(config, path);
	own_file_remove(path);
}
