/* SPDX-License-Identifier: BSD-3-Clause */
/* What a process that takes over must have as the one before it had it, or have room for. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_schema.h"

/* The setting at the path, or the last one on the way there that the file has. */
static const config_setting_t *find_setting(const config_setting_t *root, const char *path)
{
	const config_setting_t *found = root, *next = root;
	char names[CONF_PATH_TEXT], *rest = names, *name;

	snprintf(names, sizeof(names), "%s", path);
	while (next != NULL && (name = strsep(&rest, ".")) != NULL) {
		found = next;
		next = config_setting_is_group(found) ? config_setting_get_member(found, name)
						      : NULL;
	}
	return next != NULL ? next : found;
}

static int refuse(struct conf_reader *reader, const config_setting_t *root, const char *path,
	const char *what)
{
	const config_setting_t *setting = find_setting(root, path);
	const char *file;
	unsigned line = conf_reader_line(reader, setting, &file);

	return conf_error_set(reader->error, file, setting == root ? 0 : line, path,
		"%s; an upgrade would cost the connections. Put it back, or restart weir", what);
}

static int refuse_change(struct conf_reader *reader, const config_setting_t *root, const char *path,
	const struct conf_key *key, const void *from, const void *to)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (out == NULL)
		return conf_reader_memory(reader);
	fputs("is ", out);
	conf_key_print(out, key, to);
	fputs(", and weir runs with ", out);
	conf_key_print(out, key, from);
	int err = fclose(out) != 0 ? conf_reader_memory(reader) : refuse(reader, root, path, text);
	free(text);
	return err;
}

static int check_kept(struct conf_reader *reader, const config_setting_t *root,
	const struct conf_key *keys, const char *group, const void *from, const void *to)
{
	char path[CONF_PATH_TEXT];
	int err = 0;

	for (const struct conf_key *key = keys; key->name != NULL && err == 0; key++) {
		snprintf(path, sizeof(path), "%s%s", group, key->name);
		if (key->type == CONF_GROUP) {
			strcat(path, ".");
			err = check_kept(reader, root, key->keys, path,
				(const char *)from + key->offset, (const char *)to + key->offset);
		} else if (key->kept && !conf_key_same(key, from, to)) {
			err = refuse_change(reader, root, path, key, from, to);
		}
	}
	return err;
}

static bool has_address(const struct conf_port *port, const struct net_addr *addr)
{
	for (unsigned i = 0; i < port->nb_addresses; i++)
		if (net_addr_equal(&port->addresses[i].addr, addr))
			return true;
	return false;
}

/* Whether backends see the port's n-th address: one that is named, or the first of its family. */
static bool is_snat(const struct conf *conf, unsigned n)
{
	const struct net_addr *addr = &conf->port.addresses[n].addr;
	bool is_named = false;

	for (unsigned i = 0; i < conf->snat.nb_addresses; i++) {
		if (net_addr_equal(&conf->snat.addresses[i], addr))
			return true;
		is_named |= conf->snat.addresses[i].family == addr->family;
	}
	for (unsigned i = 0; i < n; i++)
		if (conf->port.addresses[i].addr.family == addr->family)
			return false;
	return !is_named;
}

static int check_addresses(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root)
{
	const struct conf *running = reader->succeeded->running;

	for (unsigned i = 0; i < running->port.nb_addresses; i++) {
		const struct net_addr *addr = &running->port.addresses[i].addr;
		char text[NET_ADDR_TEXT], what[NET_ADDR_TEXT + 64];
		if (!is_snat(running, i) || has_address(&conf->port, addr))
			continue;
		snprintf(what, sizeof(what), "lacks %s, which the backends know weir by",
			net_addr_format(addr, text));
		return refuse(reader, root, "port.address", what);
	}
	return 0;
}

int conf_check_successor(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root)
{
	const struct conf_succeeded *succeeded = reader->succeeded;
	int err = check_kept(reader, root, conf_root_keys, "", succeeded->running, conf);

	if (err == 0 && succeeded->nb_open > conf->flows) {
		char what[80];
		snprintf(what, sizeof(what), "is %u, and %u connections are open", conf->flows,
			succeeded->nb_open);
		err = refuse(reader, root, "flows.size", what);
	}
	if (err == 0 && succeeded->nb_open != 0)
		err = check_addresses(reader, conf, root);
	return err;
}
