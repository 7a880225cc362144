/* SPDX-License-Identifier: BSD-3-Clause */
#include "dev_device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_pci.h>

#include "conf.h"
#include "dev.h"

static bool has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The value of "iface=" in a device string, for drivers that take a kernel interface's traffic. */
static void find_interface(struct dev_device *device, const char *arguments)
{
	static const char *const drivers[] = {"net_af_xdp", "net_af_packet", "net_pcap"};
	bool taken = false;
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		taken |= has_prefix(device->name, drivers[i]);
	const char *value = taken ? strstr(arguments, ",iface=") : NULL;
	if (value == NULL)
		return;
	value += strlen(",iface=");
	size_t length = strcspn(value, ",");
	if (length < sizeof(device->interface))
		snprintf(device->interface, sizeof(device->interface), "%.*s", (int)length, value);
}

int dev_device_parse(struct dev_device *device, const struct conf_port *port, char *message)
{
	*device = (struct dev_device){0};

	char head[sizeof(device->name)];
	size_t length = strcspn(port->device, ",");
	if (length == 0 || length >= sizeof(head)) {
		snprintf(message, DEV_MESSAGE,
			"port.device \"%.100s\" has no name of 1 to %zu characters", port->device,
			sizeof(head) - 1);
		return -EINVAL;
	}
	snprintf(head, sizeof(head), "%.*s", (int)length, port->device);

	struct rte_pci_addr address;
	if (rte_pci_addr_parse(head, &address) == 0) {
		device->kind = DEV_KIND_PCI;
		rte_pci_device_name(&address, device->name, sizeof(device->name));
		return 0;
	}
	if (port->device[length] == ',' || has_prefix(head, "net_")) {
		device->kind = DEV_KIND_VDEV;
		memcpy(device->name, head, length + 1);
		device->af_xdp = has_prefix(head, "net_af_xdp");
		find_interface(device, port->device + length);
		return 0;
	}
	if (length >= sizeof(device->interface)) {
		snprintf(message, DEV_MESSAGE,
			"port.device \"%s\" is no PCI address "
			"(\"0000:03:00.0\"), no DPDK device string, and too long for an interface",
			head);
		return -EINVAL;
	}
	device->kind = DEV_KIND_INTERFACE;
	device->af_xdp = port->driver != CONF_DRIVER_AF_PACKET;
	memcpy(device->interface, head, length + 1);
	snprintf(device->name, sizeof(device->name), "%s",
		device->af_xdp ? "net_af_xdp0" : "net_af_packet0");
	return 0;
}

/*
 * The driver's own 2048 bytes hold the kernel's header (66 bytes and padding), Ethernet's, VLAN
 * tags, and so an MTU of 1900. It takes frames to lie end to end, so larger ones must fill their
 * blocks, which are whole pages.
 */
unsigned dev_device_ring_frame(const struct dev_device *device, unsigned mtu)
{
	if (device->kind != DEV_KIND_INTERFACE || device->af_xdp)
		return 0;
	return mtu + 128 <= 2048 ? 2048 : (mtu + 128 + 4095) / 4096 * 4096;
}

int dev_device_numa_node(const struct dev_device *device)
{
	char path[128];
	if (device->kind == DEV_KIND_PCI)
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/numa_node", device->name);
	else if (device->interface[0] != '\0')
		snprintf(path, sizeof(path), "/sys/class/net/%s/device/numa_node",
			device->interface);
	else
		return -1;

	FILE *file = fopen(path, "re");
	if (file == NULL)
		return -1;
	int node;
	if (fscanf(file, "%d", &node) != 1 || node < 0)
		node = -1;
	fclose(file);
	return node;
}
