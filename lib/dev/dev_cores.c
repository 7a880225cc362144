/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_cores.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "conf.h"
#include "dev.h"

_Static_assert(CONF_CPU_MAX < CPU_SETSIZE, "a CPU of the file fits into a set");
_Static_assert(DEV_WORKERS_MAX == CONF_WORKERS_MAX, "as many as the file may name");

const char *dev_cores_format(const cpu_set_t *set, char *text, size_t size)
{
	size_t length = 0;

	text[0] = '\0';
	for (int first = 0; first < CPU_SETSIZE; first++) {
		if (!CPU_ISSET(first, set))
			continue;
		int last = first;
		while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set))
			last++;
		char range[32];
		int added = first == last ? snprintf(range, sizeof(range), "%d", first)
					  : snprintf(range, sizeof(range), "%d-%d", first, last);
		if (length + added + 2 > size)
			break;
		length += snprintf(
			text + length, size - length, "%s%s", length > 0 ? "," : "", range);
		first = last;
	}
	return text;
}

static int check(const char *key, unsigned cpu, const cpu_set_t *allowed, char *message)
{
	if (cpu < CPU_SETSIZE && CPU_ISSET(cpu, allowed))
		return 0;
	char text[128];
	snprintf(message, DEV_MESSAGE, "%s names CPU %u, but this process may run on CPU %s only",
		key, cpu, dev_cores_format(allowed, text, sizeof(text)));
	return -EINVAL;
}

/* The first CPU of both sets (`near` NULL = any) but `except`; -1 = none. */
static int first_of(const cpu_set_t *allowed, const cpu_set_t *near, int except)
{
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (cpu != except && CPU_ISSET(cpu, allowed) &&
			(near == NULL || CPU_ISSET(cpu, near)))
			return cpu;
	}
	return -1;
}

static int default_control(const struct conf_cores *conf, const cpu_set_t *allowed)
{
	cpu_set_t unused = *allowed;
	for (unsigned w = 0; w < conf->nb_workers; w++)
		CPU_CLR(conf->workers[w], &unused);
	int cpu = first_of(&unused, NULL, -1);
	return cpu >= 0 ? cpu : first_of(allowed, NULL, -1);
}

static int default_worker(const cpu_set_t *allowed, const cpu_set_t *near, int control)
{
	int cpu = first_of(allowed, near, control);
	if (cpu < 0)
		cpu = first_of(allowed, NULL, control);
	return cpu >= 0 ? cpu : control;
}

int dev_cores_pick(struct dev_cores *cores, const struct conf_cores *conf, const cpu_set_t *allowed,
	const cpu_set_t *near, char *message)
{
	for (unsigned w = 0; w < conf->nb_workers; w++) {
		int failed = check("cores.workers", conf->workers[w], allowed, message);
		if (failed)
			return failed;
		cores->workers[w] = conf->workers[w];
	}
	if (conf->control >= 0) {
		int failed = check("cores.control", conf->control, allowed, message);
		if (failed)
			return failed;
		cores->control = conf->control;
	} else {
		cores->control = default_control(conf, allowed);
	}
	cores->nb_workers = conf->nb_workers;
	if (conf->nb_workers == 0) {
		cores->workers[0] = default_worker(allowed, near, cores->control);
		cores->nb_workers = 1;
	}
	return 0;
}
