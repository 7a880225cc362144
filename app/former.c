/* SPDX-License-Identifier: BSD-3-Clause */
#include "former.h"

#include <errno.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "conf.h"
#include "dev.h"
#include "exception.h"
#include "log.h"
#include "own_file.h"

#define PATH 128
#define FORMAT "interface %s\nnetns %s\n"

struct former {
	char interface[IF_NAMESIZE]; // "" = a device that is none
	char netns[CONF_NETNS_MAX + 1];
};

static void make_path(const struct conf *conf, char path[PATH])
{
	char name[80];

	snprintf(path, PATH, OWN_RUN_DIRECTORY "/%s.former", dev_instance_name(conf, name));
}

/* The rest of a line of the form "KEY VALUE", if there is room for it. */
static void read_value(FILE *file, const char *key, char *value, size_t size)
{
	char line[CONF_NETNS_MAX + 32];
	size_t length = strlen(key);

	if (fgets(line, sizeof(line), file) == NULL || strncmp(line, key, length) != 0)
		return;
	line[strcspn(line, "\n")] = '\0';
	if (strlen(line + length) < size)
		strcpy(value, line + length);
}

static bool read_former(const struct conf *conf, struct former *former)
{
	char path[PATH];

	memset(former, 0, sizeof(*former));
	make_path(conf, path);
	FILE *file = own_file_read(path);
	if (file == NULL)
		return false;
	read_value(file, "interface ", former->interface, sizeof(former->interface));
	read_value(file, "netns ", former->netns, sizeof(former->netns));
	fclose(file);
	return true;
}

static void return_interface(const char *name)
{
	int err = dev_interface_return(name, exception_unmute);

	if (err < 0)
		log_warning("%s, the port by a former file, stays as it is: %s", name,
			err == -EBUSY ? "somebody else has it" : strerror(-err));
	else
		log_info("%s is not port.device any more: it is as before weir", name);
}

static void return_namespace(const struct conf *conf, char *name)
{
	struct conf by_then = *conf;
	char message[DEV_MESSAGE] = "";

	by_then.port.netns = name;
	if (exception_forget(&by_then, message) < 0)
		log_warning("network namespace %s, port.netns by a former file, stays as it is: %s",
			name, message);
	else
		log_info("network namespace %s is not port.netns any more: without weir0", name);
}

static void give_back(const struct conf *conf, const char *interface)
{
	struct former former;

	if (!read_former(conf, &former))
		return;
	if (former.interface[0] != '\0' && strcmp(former.interface, interface) != 0)
		return_interface(former.interface);
	if (strcmp(former.netns, conf->port.netns) != 0)
		return_namespace(conf, former.netns);
}

void former_follow(const struct conf *conf)
{
	char path[PATH];

	give_back(conf, dev_eal_interface());
	make_path(conf, path);
	FILE *file = own_file_begin(path);
	if (file != NULL)
		fprintf(file, FORMAT, dev_eal_interface(), conf->port.netns);
	int err = file == NULL ? -errno : own_file_end(file, path);
	if (err < 0)
		log_warning("%s: %s; what a start by another file has to give back isn't known to "
			    "it",
			path, strerror(-err));
}

void former_forget(const struct conf *conf, const char *interface)
{
	char path[PATH];

	give_back(conf, interface);
	make_path(conf, path);
	unlink(path);
}
