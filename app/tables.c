/* SPDX-License-Identifier: BSD-3-Clause */
#include "tables.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "conf.h"
#include "daemon.h"
#include "log.h"
#include "stats.h"

// A killed process frees its hugepages before it lets go of its files.
#define LOCK_WAIT_MS 5000

static const sa_family_t families[2] = {AF_INET, AF_INET6};

static bool family_is_used(const struct conf *conf, sa_family_t family)
{
	for (unsigned i = 0; i < conf->nb_services; i++)
		if (conf->services[i]->family == family)
			return true;
	return false;
}

/* "weir.flows4", "weir-b.flows6". */
static void file_name(const struct conf *conf, sa_family_t family, char name[128])
{
	char instance[80];

	snprintf(name, 128, "%s.flows%c", dev_instance_name(conf, instance),
		family == AF_INET6 ? '6' : '4');
}

/* The place that has the file already comes first. True when there is one. */
static bool sort_places(struct flow_file_place *places, unsigned count, const char *name)
{
	for (unsigned i = 0; i < count; i++) {
		if (!flow_file_exists(&places[i], name))
			continue;
		struct flow_file_place found = places[i];
		places[i] = places[0];
		places[0] = found;
		return true;
	}
	return false;
}

/* Where a family's file may be; a place that has one comes first, whatever is said of hugepages
 * now. Returns how many. */
static unsigned find_places(const struct conf *conf, const char *name,
	struct flow_file_place places[FLOW_FILE_PLACES], bool *exists)
{
	unsigned count = flow_file_places(places, name, true);

	*exists = sort_places(places, count, name);
	return *exists ? count : flow_file_places(places, name, conf->port.hugepages);
}

static void tell_refused(const struct flow_file *file)
{
	if (file->refused[0] != '\0')
		log_warning("the flow table %s isn't taken: %s; it is kept as %s.refused, its "
			    "connections are lost",
			file->path, file->refused, file->path);
}

/* The file of a family, where there is room for it. -EBUSY is final; -ENOENT: not needed. */
static int open_file(struct daemon *daemon, sa_family_t family, char *message)
{
	const struct conf *conf = daemon->conf;
	struct flow_file *file = &daemon->files[stats_family(family)];
	struct flow_file_place places[FLOW_FILE_PLACES];
	char name[128];
	bool exists;
	int err = -ENOSPC;

	file_name(conf, family, name);
	unsigned count = find_places(conf, name, places, &exists);
	if (!exists && !family_is_used(conf, family))
		return -ENOENT;
	for (unsigned i = 0; i < count && err < 0; i++) {
		err = flow_file_open(file, &places[i], name, family, conf->flows, &daemon->secrets,
			daemon->port.numa_node, LOCK_WAIT_MS);
		if (err == -EBUSY) {
			snprintf(message, DEV_MESSAGE, "another process uses the flow table %s",
				file->path);
			return err;
		}
		tell_refused(file);
		if (err < 0 && i + 1 < count)
			log_info("the flow table has no room in %s (%s)", places[i].directory,
				strerror(-err));
	}
	if (err < 0)
		log_warning(
			"the flow table finds no room in a file (%s): connections won't survive a "
			"restart",
			strerror(-err));
	if (err == 0 && file->capacity != conf->flows)
		log_warning("the flow table %s can't be made larger: it stays at %u flows",
			file->path, file->capacity);
	return err;
}

static int create_table(struct daemon *daemon, sa_family_t family, char *message)
{
	const struct conf *conf = daemon->conf;
	struct flow_file *file = &daemon->files[stats_family(family)];
	struct flow_table **table = family == AF_INET6 ? &daemon->flows6 : &daemon->flows4;

	if (file->fd < 0 && !family_is_used(conf, family))
		return 0;
	*table = flow_table_create_over(file->fd >= 0 ? flow_file_records(file) : NULL, family,
		file->fd >= 0 ? file->capacity : conf->flows, daemon->port.nb_workers,
		&daemon->secrets.flows, daemon->rcu, daemon->port.numa_node, conf->port.hugepages);
	if (*table != NULL)
		return 0;
	int err = -errno;
	snprintf(message, DEV_MESSAGE, "no memory for %u flows: make flows smaller", conf->flows);
	return err;
}

int tables_create(struct daemon *daemon, char *message)
{
	int err = 0;

	daemon->files[0].fd = daemon->files[1].fd = -1;
	if (!daemon->conf->flows_persist && !tables_remove(daemon->conf)) {
		snprintf(message, DEV_MESSAGE, "another process uses the flow table");
		return -EBUSY;
	}
	for (unsigned f = 0; f < 2 && daemon->conf->flows_persist; f++)
		if (open_file(daemon, families[f], message) == -EBUSY)
			err = -EBUSY;
	// Both tables have the same secrets: those of the first that was found.
	for (unsigned f = 2; f-- > 0;)
		if (daemon->files[f].fd >= 0 && daemon->files[f].found != 0)
			daemon->secrets = daemon->files[f].secrets;
	for (unsigned f = 0; f < 2 && err == 0; f++)
		err = create_table(daemon, families[f], message);
	if (err < 0)
		tables_destroy(daemon);
	return err;
}

void tables_destroy(struct daemon *daemon)
{
	const struct flow_table *tables[] = {daemon->flows4, daemon->flows6};

	for (unsigned f = 0; f < 2; f++) {
		bool idle = !family_is_used(daemon->conf, families[f]) && tables[f] != NULL &&
			flow_table_used(tables[f]) == 0;
		if (daemon->files[f].fd >= 0)
			flow_file_close(&daemon->files[f], daemon->forget || idle);
	}
	flow_table_destroy(daemon->flows4);
	flow_table_destroy(daemon->flows6);
	daemon->flows4 = daemon->flows6 = NULL;
	if (daemon->forget)
		tables_remove(daemon->conf); // with one that was refused
}

void tables_adopted(struct daemon *daemon)
{
	for (unsigned f = 0; f < 2; f++) {
		struct flow_file *file = &daemon->files[f];
		if (file->fd < 0)
			continue;
		int err = flow_file_finish(file, &daemon->secrets);
		if (err < 0)
			log_warning("%s: %s", file->path, strerror(-err));
	}
	tables_alive(daemon);
}

void tables_settle(struct daemon *daemon)
{
	pthread_mutex_lock(&daemon->lock);
	for (unsigned f = 0; f < 2; f++) {
		int err = flow_file_settle(&daemon->files[f]);
		if (err < 0)
			log_warning("the flow table stays at %s: %s", daemon->files[f].path,
				strerror(-err));
	}
	pthread_mutex_unlock(&daemon->lock);
}

void tables_alive(struct daemon *daemon)
{
	for (unsigned f = 0; f < 2; f++)
		flow_file_alive(&daemon->files[f], clock_ms() / 1000);
}

bool tables_exist(const struct conf *conf)
{
	struct flow_file_place places[FLOW_FILE_PLACES];
	bool exists = false;
	char name[128];

	for (unsigned f = 0; f < 2 && !exists; f++) {
		file_name(conf, families[f], name);
		find_places(conf, name, places, &exists);
	}
	return exists;
}

bool tables_remove(const struct conf *conf)
{
	struct flow_file_place places[FLOW_FILE_PLACES];
	bool all = true;
	char name[128];

	for (unsigned f = 0; f < 2; f++) {
		file_name(conf, families[f], name);
		unsigned count = flow_file_places(places, name, true);
		for (unsigned i = 0; i < count; i++)
			all &= flow_file_remove(&places[i], name);
	}
	return all;
}
