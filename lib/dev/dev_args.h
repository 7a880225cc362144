/* SPDX-License-Identifier: BSD-3-Clause */
/* EAL's command line from the configuration. Pure functions. */
#ifndef WEIR_DEV_ARGS_H
#define WEIR_DEV_ARGS_H

#include <stdbool.h>

#include "conf.h"
#include "dev_cores.h"
#include "dev_device.h"

struct dev_args {
	int argc;
	char **argv; // NULL-terminated; the strings are the struct's own
};

/* Return port.hugepages, unless --no-huge is among the further arguments or
 * those that followed "--". */
bool dev_args_hugepages(const struct conf *conf, int argc, char **argv);

/*
 * Build the arguments. `mtu` is the link's or the file's, `memory_mb` what is asked for
 * without hugepages, argv what followed "--": it comes last, so that it wins. 0, or -ENOMEM.
 * To be freed with dev_args_free().
 */
int dev_args_build(struct dev_args *args, const struct conf *conf, const struct dev_device *device,
	const struct dev_cores *cores, unsigned mtu, unsigned memory_mb, int argc, char **argv);

/* Build the arguments as dev_args_build() does, but under another file prefix, and without the
 * device, which is plugged in later. */
int dev_args_build_late(struct dev_args *args, const char *prefix, const struct conf *conf,
	const struct dev_device *device, const struct dev_cores *cores, unsigned mtu,
	unsigned memory_mb, int argc, char **argv);

/* Return the device as rte_dev_probe() wants it, a string of its own; NULL for want of memory. */
char *dev_args_device(const struct conf_port *port, const struct dev_device *device,
	unsigned nb_workers, unsigned mtu);

void dev_args_free(struct dev_args *args);

#endif
