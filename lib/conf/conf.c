/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_schema.h"

/* The namespace follows from the instance's name, so it comes after all keys were read. */
static int default_netns(struct conf_reader *reader, struct conf *conf)
{
	if (conf->port.netns != NULL)
		return 0;
	if (asprintf(&conf->port.netns, conf->instance[0] != '\0' ? "weir-%s" : "weir%s",
		    conf->instance) >= 0)
		return 0;
	conf->port.netns = NULL;
	return conf_reader_memory(reader);
}

static bool same_prefixes(const struct conf_port *a, const struct conf_port *b)
{
	bool same = a->nb_addresses == b->nb_addresses;

	for (unsigned i = 0; same && i < a->nb_addresses; i++)
		same = a->addresses[i].length == b->addresses[i].length &&
			net_addr_equal(&a->addresses[i].addr, &b->addresses[i].addr);
	return same;
}

static bool same_snat(const struct conf_snat *a, const struct conf_snat *b)
{
	bool same = a->nb_addresses == b->nb_addresses;

	for (unsigned i = 0; same && i < a->nb_addresses; i++)
		same = net_addr_equal(&a->addresses[i], &b->addresses[i]);
	return same;
}

/* A service that is carried over was checked, but against the addresses of then. */
static int check_carried(const struct conf_reader *reader, const struct conf *conf)
{
	if (reader->former == NULL ||
		(same_prefixes(&conf->port, &reader->former->port) &&
			same_snat(&conf->snat, &reader->former->snat)))
		return 0;
	return -EAGAIN;
}

static int read_and_check(
	struct conf_reader *reader, struct conf *conf, const config_setting_t *root)
{
	int err = conf_schema_defaults(reader, conf_root_keys, conf);

	if (err == 0)
		err = conf_schema_read(reader, conf_root_keys, root, conf);
	if (err == 0)
		err = default_netns(reader, conf);
	if (err == 0)
		err = conf_check_port(reader, conf, root);
	if (err == 0)
		err = check_carried(reader, conf);
	if (err == 0)
		err = conf_check_services(reader, conf, root);
	if (err == 0)
		err = conf_check_listens(reader, conf, root);
	if (err == 0 && reader->succeeded != NULL)
		err = conf_check_successor(reader, conf, root);
	return err;
}

/* The scan has left nothing to complain about; if libconfig sees it otherwise, say where. */
static int parse(const struct conf_scan *scan, config_t *config, struct conf_error *error)
{
	const struct conf_place *place;
	char path[CONF_PATH_TEXT];

	if (config_read_string(config, scan->text) == CONFIG_TRUE)
		return 0;
	place = conf_scan_place(scan, config_error_line(config));
	return conf_error_set(error, place != NULL ? place->file->name : scan->files[0]->name,
		place != NULL ? place->line : 0, conf_scan_path(scan, place, path), "%s",
		config_error_text(config));
}

static struct conf *load(const char *path, const struct conf *former,
	const struct conf_succeeded *succeeded, struct conf_error *error)
{
	struct conf *conf = calloc(1, sizeof(*conf));
	struct conf_scan scan;
	config_t config;
	int err;

	if (conf == NULL) {
		conf_error_memory(error, path);
		return NULL;
	}
	config_init(&config);
	err = conf_scan_read(&scan, path, former, error);
	if (err == 0)
		err = parse(&scan, &config, error);
	if (err == 0) {
		struct conf_reader reader = {&scan, error, 0, former, succeeded};
		err = read_and_check(&reader, conf, config_root_setting(&config));
	}
	config_destroy(&config);
	conf->text = scan.whole;
	scan.whole = NULL;
	for (size_t i = 0; i < scan.nb_files && conf->exposed == NULL; i++)
		if (scan.files[i]->is_exposed)
			conf->exposed = strdup(scan.files[i]->name);
	conf_scan_fini(&scan);
	if (err == 0)
		return conf;
	conf_free(conf);
	return NULL;
}

struct conf *conf_load(const char *path, struct conf_error *error)
{
	return load(path, NULL, NULL, error);
}

struct conf *conf_load_successor(
	const char *path, const struct conf_succeeded *succeeded, struct conf_error *error)
{
	return load(path, NULL, succeeded, error);
}

struct conf *conf_reload(const char *path, const struct conf *former, struct conf_error *error)
{
	struct conf *conf = load(path, former, NULL, error);

	// What is wrong, and where, only the whole reading can say.
	return conf != NULL ? conf : load(path, NULL, NULL, error);
}

struct conf_service *conf_service_get(const struct conf_service *service)
{
	// All but the count of its owners is never written to.
	struct conf_service *counted = (struct conf_service *)service;

	__atomic_fetch_add(&counted->references, 1, __ATOMIC_RELAXED);
	return counted;
}

void conf_service_put(struct conf_service *service)
{
	// Acquire and release: the last one sees what all others did with it.
	if (service == NULL || __atomic_sub_fetch(&service->references, 1, __ATOMIC_ACQ_REL) != 0)
		return;
	for (unsigned i = 0; i < service->nb_backends; i++) {
		free(service->backends[i].name);
		free(service->backends[i].host);
	}
	free(service->backends);
	free(service->listens);
	free(service->allow.list);
	free(service->deny.list);
	free(service->health.path);
	free(service->health.host);
	free(service->text);
	free(service->name);
	free(service);
}

#define FREED_AT_A_TIME 10 // services: some hundred microseconds with 100 backends each

bool conf_free_part(struct conf *conf)
{
	if (conf == NULL)
		return true;
	for (unsigned i = 0; i < FREED_AT_A_TIME && conf->nb_services > 0; i++)
		conf_service_put(conf->services[--conf->nb_services]);
	if (conf->nb_services > 0)
		return false;
	conf_free(conf);
	return true;
}

void conf_free(struct conf *conf)
{
	if (conf == NULL)
		return;
	for (unsigned i = 0; i < conf->nb_services; i++)
		conf_service_put(conf->services[i]);
	free(conf->services);
	free(conf->snat.addresses);
	for (unsigned i = 0; i < conf->port.nb_eal; i++)
		free(conf->port.eal[i]);
	free(conf->port.eal);
	free(conf->port.addresses);
	free(conf->port.netns);
	free(conf->port.device);
	free(conf->instance);
	free(conf->text);
	free(conf->exposed);
	free(conf);
}
