/* SPDX-License-Identifier: BSD-3-Clause */
/* What port.device names, and EAL's command line from the configuration. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "conf.h"
#include "dev.h"
#include "dev_args.h"

static struct conf conf_of(char *device)
{
	return (struct conf){
		.instance = "", .port = {.device = device, .hugepages = true}, .cores.control = -1};
}

static const struct dev_cores two_cpus = {.control = 0, .workers = {1}, .nb_workers = 1};

/* The arguments behind the program's name, joined by blanks. */
static void assert_args(const struct conf *conf, const struct dev_cores *cores, unsigned mtu,
	int argc, char **argv, const char *expected)
{
	char message[DEV_MESSAGE], joined[2048] = "";
	struct dev_device device;
	assert_int_equal(dev_device_parse(&device, &conf->port, message), 0);
	struct dev_args args;
	assert_int_equal(dev_args_build(&args, conf, &device, cores, mtu, 600, argc, argv), 0);
	assert_string_equal(args.argv[0], "weir");
	for (int i = 1; i < args.argc; i++) {
		strcat(joined, i > 1 ? " " : "");
		strcat(joined, args.argv[i]);
	}
	assert_string_equal(joined, expected);
	assert_null(args.argv[args.argc]);
	dev_args_free(&args);
}

static void pci_address_is_allowed_alone(void **state)
{
	struct conf conf = conf_of("0000:03:00.0");
	assert_args(&conf, &two_cpus, 1500, 0, NULL,
		"--file-prefix=weir --lcores=0@0,1@1 --main-lcore=0 --log-level=*:warning "
		"--huge-unlink=always -a 0000:03:00.0");
}

static void pci_device_string_keeps_its_arguments(void **state)
{
	struct conf conf = conf_of("03:00.0,rxq_cqe_comp_en=1");
	assert_args(&conf, &two_cpus, 1500, 0, NULL,
		"--file-prefix=weir --lcores=0@0,1@1 --main-lcore=0 --log-level=*:warning "
		"--huge-unlink=always -a 03:00.0,rxq_cqe_comp_en=1");
}

static void interface_is_af_xdp_by_default(void **state)
{
	struct conf conf = conf_of("eth1");
	struct dev_cores cores = {.control = 0, .workers = {1, 2}, .nb_workers = 2};
	assert_args(&conf, &cores, 1500, 0, NULL,
		"--file-prefix=weir --lcores=0@0,1@1,2@2 --main-lcore=0 --log-level=*:warning "
		"--huge-unlink=always --no-pci "
		"--vdev=net_af_xdp0,iface=eth1,start_queue=0,queue_count=2");
}

static void interface_by_af_packet(void **state)
{
	struct conf conf = conf_of("eth1");
	conf.port.driver = CONF_DRIVER_AF_PACKET;
	struct dev_cores cores = {.control = 0, .workers = {1, 1}, .nb_workers = 2};
	assert_args(&conf, &cores, 1500, 0, NULL,
		"--file-prefix=weir --lcores=0@0,1@1,2@1 --main-lcore=0 --log-level=*:warning "
		"--huge-unlink=always --no-pci --vdev=net_af_packet0,iface=eth1,qpairs=2");
}

static void af_packet_has_frames_for_a_jumbo_mtu(void **state)
{
	struct conf conf = conf_of("eth1");
	conf.port.driver = CONF_DRIVER_AF_PACKET;
	assert_args(&conf, &two_cpus, 9000, 0, NULL,
		"--file-prefix=weir --lcores=0@0,1@1 --main-lcore=0 --log-level=*:warning "
		"--huge-unlink=always --no-pci "
		"--vdev=net_af_packet0,iface=eth1,qpairs=1,blocksz=12288,framesz=12288");
}

static void device_string_is_a_vdev(void **state)
{
	struct conf conf = conf_of("net_tap0,iface=x");
	assert_args(&conf, &two_cpus, 1500, 0, NULL,
		"--file-prefix=weir --lcores=0@0,1@1 --main-lcore=0 --log-level=*:warning "
		"--huge-unlink=always --no-pci --vdev=net_tap0,iface=x");
	conf = conf_of("virtio_user0,path=/tmp/sock");
	assert_args(&conf, &two_cpus, 1500, 0, NULL,
		"--file-prefix=weir --lcores=0@0,1@1 --main-lcore=0 --log-level=*:warning "
		"--huge-unlink=always --no-pci --vdev=virtio_user0,path=/tmp/sock");
}

static void without_hugepages_memory_is_stated(void **state)
{
	struct conf conf = conf_of("net_null0");
	conf.port.hugepages = false;
	assert_args(&conf, &two_cpus, 1500, 0, NULL,
		"--file-prefix=weir --lcores=0@0,1@1 --main-lcore=0 --log-level=*:warning "
		"--no-huge -m 600 --no-pci --vdev=net_null0");
}

static void instance_names_the_prefix_and_the_command_line_comes_last(void **state)
{
	struct conf conf = conf_of("net_null0");
	char *eal[] = {"--log-level=lib.eal:debug"};
	char *rest[] = {"--no-huge", "-m", "64"};
	conf.instance = "b";
	conf.port.eal = eal;
	conf.port.nb_eal = 1;
	struct dev_cores cores = {.control = 3, .workers = {1}, .nb_workers = 1};
	assert_args(&conf, &cores, 1500, 3, rest,
		"--file-prefix=weir-b --lcores=0@3,1@1 --main-lcore=0 --log-level=*:warning "
		"--no-huge -m 600 --no-pci --vdev=net_null0 --log-level=lib.eal:debug "
		"--no-huge -m 64");
}

static void as_many_workers_as_can_be(void **state)
{
	struct conf conf = conf_of("net_null0");
	struct dev_cores cores = {.control = 1023, .nb_workers = CONF_WORKERS_MAX};
	for (unsigned w = 0; w < CONF_WORKERS_MAX; w++)
		cores.workers[w] = 1023;
	char message[DEV_MESSAGE];
	struct dev_device device;
	assert_int_equal(dev_device_parse(&device, &conf.port, message), 0);
	struct dev_args args;
	assert_int_equal(dev_args_build(&args, &conf, &device, &cores, 1500, 600, 0, NULL), 0);
	assert_non_null(strstr(args.argv[2], ",64@1023"));
	dev_args_free(&args);
}

static void assert_device(char *text, enum dev_kind kind, const char *name, const char *interface)
{
	struct conf_port port = {.device = text};
	char message[DEV_MESSAGE];
	struct dev_device device;
	assert_int_equal(dev_device_parse(&device, &port, message), 0);
	assert_int_equal(device.kind, kind);
	assert_string_equal(device.name, name);
	assert_string_equal(device.interface, interface);
}

static void form_of_the_device_tells_its_kind(void **state)
{
	assert_device("0000:03:00.0", DEV_KIND_PCI, "0000:03:00.0", "");
	assert_device("3:00.1", DEV_KIND_PCI, "0000:03:00.1", "");
	assert_device("eth1", DEV_KIND_INTERFACE, "net_af_xdp0", "eth1");
	assert_device("net_null0", DEV_KIND_VDEV, "net_null0", "");
	// The interface behind a device string is to be made mute and locked too, but a TAP's is
	// the other end.
	assert_device(
		"net_af_packet7,iface=eth1,qpairs=2", DEV_KIND_VDEV, "net_af_packet7", "eth1");
	assert_device("net_tap0,iface=eth1", DEV_KIND_VDEV, "net_tap0", "");
}

static void impossible_device_is_refused(void **state)
{
	char message[DEV_MESSAGE];
	struct dev_device device;
	struct conf_port port = {.device = "an-interface-of-17"};
	assert_int_equal(dev_device_parse(&device, &port, message), -EINVAL);
	assert_non_null(strstr(message, "too long for an interface"));
	port.device = "";
	assert_int_equal(dev_device_parse(&device, &port, message), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pci_address_is_allowed_alone),
		cmocka_unit_test(pci_device_string_keeps_its_arguments),
		cmocka_unit_test(interface_is_af_xdp_by_default),
		cmocka_unit_test(interface_by_af_packet),
		cmocka_unit_test(af_packet_has_frames_for_a_jumbo_mtu),
		cmocka_unit_test(device_string_is_a_vdev),
		cmocka_unit_test(without_hugepages_memory_is_stated),
		cmocka_unit_test(instance_names_the_prefix_and_the_command_line_comes_last),
		cmocka_unit_test(as_many_workers_as_can_be),
		cmocka_unit_test(form_of_the_device_tells_its_kind),
		cmocka_unit_test(impossible_device_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
