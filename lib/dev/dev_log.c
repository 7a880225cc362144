/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_log.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <rte_log.h>

#include "log.h"

/* How much a line tells about a failure: the first of the highest rank is kept. */
enum rank { RANK_NONE, RANK_WARNING, RANK_ERROR, RANK_KERNEL };

// DPDK's log is one for the process, and so is this.
static struct {
	FILE *stream;
	pthread_mutex_t mutex; // guards rank and cause
	enum rank rank;
	char cause[256];
	bool show;
	bool capturing;
	int stdout_fd, stderr_fd, capture_fd; // while capturing
} dev_log = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void keep(enum rank rank, const char *line)
{
	pthread_mutex_lock(&dev_log.mutex);
	if (rank > dev_log.rank) {
		dev_log.rank = rank;
		snprintf(dev_log.cause, sizeof(dev_log.cause), "%.255s", line);
	}
	pthread_mutex_unlock(&dev_log.mutex);
}

static void put(enum log_level level, const char *line)
{
	keep(level == LOG_LEVEL_ERROR ? RANK_ERROR : RANK_WARNING, line);
	if (dev_log.capturing) {
		dprintf(STDERR_FILENO, "%s\n", line);
		return;
	}
	if (!dev_log.show) {
		log_write(LOG_LEVEL_DEBUG, "dpdk", "%s", line);
		return;
	}
	static struct log_limit limit;
	if (log_limit_allows(&limit))
		log_write(level, "dpdk", "%s", line);
}

/* Hands over the text line by line; cuts it up. */
static void each_line(char *text, void (*take)(enum log_level, const char *), enum log_level level)
{
	for (char *save, *line = strtok_r(text, "\n", &save); line != NULL;
		line = strtok_r(NULL, "\n", &save))
		take(level, line);
}

/* DPDK writes and flushes one message at a time, so this is called with a whole one. */
static ssize_t write_message(void *cookie, const char *data, size_t size)
{
	char text[1024];
	snprintf(text, sizeof(text), "%.*s", (int)size, data);
	int level = rte_log_cur_msg_loglevel();
	each_line(text, put, level <= (int)RTE_LOG_ERR ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING);
	return size;
}

void dev_log_open(void)
{
	cookie_io_functions_t functions = {.write = write_message};
	dev_log.stream = fopencookie(NULL, "w", functions);
	if (dev_log.stream != NULL)
		rte_openlog_stream(dev_log.stream); // with this it uses no syslog
}

void dev_log_close(void)
{
	rte_openlog_stream(NULL);
	if (dev_log.stream != NULL)
		fclose(dev_log.stream);
	dev_log.stream = NULL;
}

void dev_log_clear(void)
{
	pthread_mutex_lock(&dev_log.mutex);
	dev_log.rank = RANK_NONE;
	dev_log.cause[0] = '\0';
	pthread_mutex_unlock(&dev_log.mutex);
}

const char *dev_log_cause(char *text)
{
	pthread_mutex_lock(&dev_log.mutex);
	snprintf(text, sizeof(dev_log.cause), "%s", dev_log.cause);
	pthread_mutex_unlock(&dev_log.mutex);
	return text;
}

void dev_log_show(bool show)
{
	dev_log.show = show;
}

void dev_log_capture_begin(void)
{
	fflush(stdout);
	int fd = memfd_create("weir-eal-output", MFD_CLOEXEC);
	if (fd < 0)
		return;
	dev_log.capture_fd = fd;
	dev_log.stdout_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	dev_log.stderr_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	dup2(fd, STDOUT_FILENO);
	dup2(fd, STDERR_FILENO);
	dev_log.capturing = true;
}

static void restore(int saved, int fd)
{
	if (saved >= 0) {
		dup2(saved, fd);
		close(saved);
	} else {
		close(fd); // it wasn't open
	}
}

static void replay(enum log_level level, const char *line)
{
	log_write(level, "dpdk", "%s", line);
}

void dev_log_capture_end(void)
{
	if (!dev_log.capturing)
		return;
	fflush(stdout);
	dev_log.capturing = false;
	restore(dev_log.stdout_fd, STDOUT_FILENO);
	restore(dev_log.stderr_fd, STDERR_FILENO);

	char text[16384];
	ssize_t length = pread(dev_log.capture_fd, text, sizeof(text) - 1, 0);
	close(dev_log.capture_fd);
	if (length > 0) {
		text[length] = '\0';
		each_line(text, replay, LOG_LEVEL_DEBUG);
	}
}

/* Both libraries print by such a function: level 0 is a warning, 1 information, 2 debugging. */
static int print_libbpf(int level, const char *format, va_list list)
{
	char text[512];
	vsnprintf(text, sizeof(text), format, list);
	text[strcspn(text, "\n")] = '\0';
	if (level == 0)
		keep(strstr(text, "Kernel error message") != NULL ? RANK_KERNEL : RANK_WARNING,
			text);
	log_write(LOG_LEVEL_DEBUG, "dpdk", "%s", text);
	return 0;
}

void dev_log_attach_libbpf(void)
{
	static const struct {
		const char *soname;
		const char *function;
	} rows[] = {
		{"libbpf.so.1", "libbpf_set_print"},
		{"libxdp.so.1", "libxdp_set_print"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		// Neither is linked: net_af_xdp brings them.
		void *library = dlopen(rows[i].soname, RTLD_LAZY | RTLD_NOLOAD);
		if (library == NULL)
			continue;
		typedef int print_function(int, const char *, va_list);
		print_function *(*set_print)(print_function *);
		*(void **)&set_print = dlsym(library, rows[i].function);
		if (set_print != NULL)
			set_print(print_libbpf);
		dlclose(library); // the driver holds it
	}
}
