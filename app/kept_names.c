/* SPDX-License-Identifier: BSD-3-Clause */
#include "kept_names.h"

#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "dev.h"
#include "own_file.h"

#define PATH 128

static void make_path(const struct conf *conf, char path[PATH])
{
	char name[80];

	snprintf(path, PATH, OWN_RUN_DIRECTORY "/%s.names", dev_instance_name(conf, name));
}

void kept_names_read(const struct conf *conf, kept_names_found_fn found, void *context)
{
	char path[PATH], *line = NULL, *rest;
	size_t size = 0;

	make_path(conf, path);
	FILE *file = own_file_read(path);
	if (file == NULL)
		return;
	while (getline(&line, &size, file) > 0) {
		const char *host = strtok_r(line, " \n", &rest), *word;
		struct net_addr addr;
		while (host != NULL && (word = strtok_r(NULL, " \n", &rest)) != NULL)
			if (net_addr_parse(&addr, word) == 0)
				found(context, host, &addr);
	}
	free(line);
	fclose(file);
}

FILE *kept_names_begin(const struct conf *conf)
{
	char path[PATH];

	make_path(conf, path);
	return own_file_begin(path);
}

void kept_names_add(FILE *file, const char *host, const struct net_addr *addrs, uint32_t nb_addrs)
{
	char text[NET_ADDR_TEXT];

	fputs(host, file);
	for (uint32_t i = 0; i < nb_addrs; i++)
		fprintf(file, " %s", net_addr_format(&addrs[i], text));
	fputc('\n', file);
}

int kept_names_end(FILE *file, const struct conf *conf)
{
	char path[PATH];

	make_path(conf, path);
	return own_file_end(file, path);
}

void kept_names_remove(const struct conf *conf)
{
	char path[PATH];

	make_path(conf, path);
	own_file_remove(path);
}
