/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "dev.h"

#define OWN_ARGS 16 // at most, with the terminating NULL

static void add(struct dev_args *args, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A failed allocation leaves argv[argc] NULL and argc as it was: dev_args_build() counts. */
static void add(struct dev_args *args, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	if (vasprintf(&args->argv[args->argc], format, list) >= 0)
		args->argc++;
	else
		args->argv[args->argc] = NULL;
	va_end(list);
}

/* lcore 0 is the control core's, lcore w + 1 is worker w's; lcores may share a CPU. */
static void add_lcores(struct dev_args *args, const struct dev_cores *cores)
{
	char text[16 + CONF_WORKERS_MAX * 24];
	int length = snprintf(text, sizeof(text), "0@%u", cores->control);

	for (unsigned w = 0; w < cores->nb_workers; w++)
		length += snprintf(
			text + length, sizeof(text) - length, ",%u@%u", w + 1, cores->workers[w]);
	add(args, "--lcores=%s", text);
	add(args, "--main-lcore=0");
}

char *dev_args_device(const struct conf_port *port, const struct dev_device *device,
	unsigned nb_workers, unsigned mtu)
{
	unsigned frame = dev_device_ring_frame(device, mtu);
	char *text;
	int length;

	if (device->kind != DEV_KIND_INTERFACE)
		return strdup(port->device);
	if (device->af_xdp)
		length = asprintf(&text, "net_af_xdp0,iface=%s,start_queue=0,queue_count=%u",
			device->interface, nb_workers);
	else if (frame <= 2048)
		length = asprintf(
			&text, "net_af_packet0,iface=%s,qpairs=%u", device->interface, nb_workers);
	else
		length = asprintf(&text, "net_af_packet0,iface=%s,qpairs=%u,blocksz=%u,framesz=%u",
			device->interface, nb_workers, frame, frame);
	return length < 0 ? NULL : text;
}

// No device has it. With a list of allowed ones EAL takes no other of what it finds.
#define NO_PCI_DEVICE "ffff:ff:1f.7"

static void add_device(struct dev_args *args, const struct conf_port *port,
	const struct dev_device *device, unsigned nb_workers, unsigned mtu, bool late)
{
	char *text = dev_args_device(port, device, nb_workers, mtu);

	if (device->kind == DEV_KIND_PCI) {
		add(args, "-a");
		add(args, "%s", late ? NO_PCI_DEVICE : port->device);
	} else {
		add(args, "--no-pci");
		if (!late && text != NULL)
			add(args, "--vdev=%s", text);
	}
	free(text);
}

bool dev_args_hugepages(const struct conf *conf, int argc, char **argv)
{
	bool without = !conf->port.hugepages;

	for (unsigned i = 0; i < conf->port.nb_eal; i++)
		without |= strcmp(conf->port.eal[i], "--no-huge") == 0;
	for (int i = 0; i < argc; i++)
		without |= strcmp(argv[i], "--no-huge") == 0;
	return !without;
}

static int build(struct dev_args *args, const char *prefix, const struct conf *conf,
	const struct dev_device *device, const struct dev_cores *cores, unsigned mtu,
	unsigned memory_mb, int argc, char **argv, bool late)
{
	args->argc = 0;
	args->argv = calloc(OWN_ARGS + conf->port.nb_eal + argc, sizeof(*args->argv));
	if (args->argv == NULL)
		return -ENOMEM;

	add(args, "weir");
	add(args, "--file-prefix=%s", prefix);
	add_lcores(args, cores);
	// "*:", or a later --log-level for one component couldn't raise it above this.
	add(args, "--log-level=*:warning");
	if (dev_args_hugepages(conf, argc, argv)) {
		// Weir has no secondary processes, and a killed one must not keep the pages.
		add(args, "--huge-unlink=always");
	} else {
		add(args, "--no-huge");
		add(args, "-m");
		add(args, "%u", memory_mb);
	}
	add_device(args, &conf->port, device, cores->nb_workers, mtu, late);

	unsigned own = args->argc;
	for (unsigned i = 0; i < conf->port.nb_eal; i++)
		add(args, "%s", conf->port.eal[i]);
	for (int i = 0; i < argc; i++)
		add(args, "%s", argv[i]);
	if (args->argc != (int)(own + conf->port.nb_eal + argc)) {
		dev_args_free(args);
		return -ENOMEM;
	}
	return 0;
}

int dev_args_build(struct dev_args *args, const struct conf *conf, const struct dev_device *device,
	const struct dev_cores *cores, unsigned mtu, unsigned memory_mb, int argc, char **argv)
{
	char name[80];

	return build(args, dev_instance_name(conf, name), conf, device, cores, mtu, memory_mb, argc,
		argv, false);
}

int dev_args_build_late(struct dev_args *args, const char *prefix, const struct conf *conf,
	const struct dev_device *device, const struct dev_cores *cores, unsigned mtu,
	unsigned memory_mb, int argc, char **argv)
{
	return build(args, prefix, conf, device, cores, mtu, memory_mb, argc, argv, true);
}

void dev_args_free(struct dev_args *args)
{
	for (int i = 0; i < args->argc; i++)
		free(args->argv[i]);
	free(args->argv);
	args->argv = NULL;
	args->argc = 0;
}
