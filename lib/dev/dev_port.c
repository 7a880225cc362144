/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf.h"
#include "dev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_ether.h>
#include <rte_mempool.h>

#include "dev_eal.h"
#include "dev_log.h"
#include "dev_machine.h"
#include "dev_pool.h"
#include "dev_rss.h"
#include "dev_xdp.h"
#include "log.h"

#define QUEUE_WAIT_MS 3000

/* What the user calls the device. */
static const char *title(const struct dev_port *port)
{
	return port->interface[0] != '\0' ? port->interface : port->name;
}

/* EAL starts without a device whose driver failed; this is where it shows. */
static int explain_missing(const struct dev_device *device, char *message)
{
	char cause[256], driver[32];
	dev_log_cause(cause);
	const char *name = device->kind == DEV_KIND_INTERFACE ? device->interface : device->name;

	if (device->kind == DEV_KIND_VDEV)
		snprintf(message, DEV_MESSAGE,
			"DPDK has no device %s (%s): are the name and the "
			"arguments of port.device right?",
			name, cause);
	else if (device->kind == DEV_KIND_INTERFACE)
		snprintf(message, DEV_MESSAGE, "%s: %s did not start (%s)%s", name,
			device->af_xdp ? "AF_XDP" : "AF_PACKET", cause,
			device->af_xdp ? "; try port.driver = \"af_packet\"" : "");
	else if (dev_machine_pci_driver(name, driver) == 0 && strstr(driver, "vfio") == NULL &&
		strstr(driver, "uio") == NULL)
		snprintf(message, DEV_MESSAGE,
			"%s is bound to %s, not to vfio-pci: modprobe "
			"vfio-pci; dpdk-devbind.py -b vfio-pci %s",
			name, driver[0] != '\0' ? driver : "no driver", name);
	else
		snprintf(message, DEV_MESSAGE, "DPDK can't drive %s (%s)%s", name, cause,
			strstr(cause, "IOMMU") != NULL
				? "; is the IOMMU on (kernel argument "
				  "intel_iommu=on), and is vfio_iommu_type1 loaded?"
				: "");
	return -ENODEV;
}

/* By its own name, or by the bus's, as one device may have several ports. */
static int find_port(struct dev_port *port, const struct dev_device *device, char *message)
{
	uint16_t id;

	if (rte_eth_dev_get_port_by_name(device->name, &id) == 0) {
		port->port_id = id;
		return 0;
	}
	RTE_ETH_FOREACH_DEV(id) {
		struct rte_eth_dev_info info;
		if (rte_eth_dev_info_get(id, &info) == 0 && info.device != NULL &&
			strcmp(rte_dev_name(info.device), device->name) == 0) {
			port->port_id = id;
			return 0;
		}
	}
	return explain_missing(device, message);
}

static int check_queues(
	const struct dev_port *port, const struct rte_eth_dev_info *info, char *message)
{
	if (info->max_rx_queues >= port->nb_workers && info->max_tx_queues >= port->nb_workers)
		return 0;
	const char *direction = info->max_rx_queues < port->nb_workers ? "rx" : "tx";
	unsigned queues = RTE_MIN(info->max_rx_queues, info->max_tx_queues);
	snprintf(message, DEV_MESSAGE, "%s offers %u %s queue%s, cores.workers names %u",
		title(port), queues, direction, queues == 1 ? "" : "s", port->nb_workers);
	return -EINVAL;
}

/* The largest MTU that the device takes, by the rules of rte_eth_dev_configure(). */
static unsigned max_mtu(const struct rte_eth_dev_info *info)
{
	unsigned overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
	if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
		overhead = info->max_rx_pktlen - info->max_mtu;
	unsigned by_frame = info->max_rx_pktlen - overhead;
	return RTE_MIN((unsigned)info->max_mtu, by_frame);
}

/* The MTU to run with; a kernel interface gets it here, other devices when they are configured. */
static int choose_mtu(struct dev_port *port, const struct conf *conf,
	const struct rte_eth_dev_info *info, char *message)
{
	uint16_t current = RTE_ETHER_MTU;
	rte_eth_dev_get_mtu(port->port_id, &current);
	port->mtu = conf->port.mtu;
	if (port->mtu == 0)
		port->mtu = port->link != NULL ? dev_link_mtu(port->link) : current;

	// net_af_packet states Ethernet's ordinary frame whatever its buffers hold.
	bool stated = strcmp(port->driver, "net_af_packet") != 0;
	if (stated && (port->mtu > max_mtu(info) || port->mtu < info->min_mtu)) {
		snprintf(message, DEV_MESSAGE,
			"%s takes an MTU of %u to %u with %s, not %u: set port.mtu", title(port),
			info->min_mtu, max_mtu(info), port->driver, port->mtu);
		return -EINVAL;
	}
	if (port->link == NULL)
		return 0;
	int failed = dev_link_set_mtu(port->link, port->mtu);
	if (failed)
		snprintf(message, DEV_MESSAGE, "%s refuses an MTU of %u: %s", title(port),
			port->mtu, strerror(-failed));
	return failed;
}

static int prepare_link(struct dev_port *port, char *message)
{
	if (port->link == NULL)
		return 0;
	dev_link_offloads_off(port->link);
	char driver[32];
	dev_link_driver(port->link, driver);
	if (strcmp(driver, "veth") == 0)
		log_warning(
			"%s is a veth: turn its peer's offloads off, too (ethtool -K PEER tx off "
			"tso off gso off gro off txvlan off); until then TCP from there has "
			"wrong checksums, probes time out, and what has a VLAN's tag is taken "
			"for what has none",
			port->interface);
	int failed = dev_link_up(port->link);
	if (failed)
		snprintf(message, DEV_MESSAGE, "%s can't be set up: %s", title(port),
			strerror(-failed));
	return failed;
}

/*
 * Both directions of a TCP connection are spread by addresses and ports; by addresses alone when
 * the device has no more, which still serves.
 */
static uint64_t rss_types(const struct rte_eth_dev_info *info)
{
	uint64_t tcp = info->flow_type_rss_offloads &
		(RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP);
	uint64_t ip = info->flow_type_rss_offloads & (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_IPV6);
	return tcp != 0 ? tcp : ip;
}

static int configure(struct dev_port *port, const struct conf *conf,
	const struct rte_eth_dev_info *info, char *message)
{
	struct rte_eth_conf config = {0};
	uint64_t types = port->nb_workers > 1 ? rss_types(info) : 0;
	if (types != 0)
		dev_rss_choose(port, info, types, &config);
	if (port->link == NULL)
		config.rxmode.mtu = port->mtu;

	int failed =
		rte_eth_dev_configure(port->port_id, port->nb_workers, port->nb_workers, &config);
	if (failed && config.rx_adv_conf.rss_conf.rss_key != NULL) {
		dev_rss_take_back(port, &config);
		failed = rte_eth_dev_configure(
			port->port_id, port->nb_workers, port->nb_workers, &config);
	}
	// Drivers without it have no MTU to set: net_null, net_ring, net_pcap.
	if (failed == 0 && port->link == NULL && conf->port.mtu != 0) {
		failed = rte_eth_dev_set_mtu(port->port_id, port->mtu);
		if (failed == -ENOTSUP)
			failed = 0;
	}
	if (failed) {
		char cause[256];
		snprintf(message, DEV_MESSAGE, "%s does not take its configuration: %s (%s)",
			title(port), dev_log_cause(cause), strerror(-failed));
		return failed;
	}
	port->rss = (types & (RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP)) != 0;
	if (port->nb_workers > 1 && !port->rss && dev_eal_device()->kind == DEV_KIND_PCI)
		log_warning("%s has no RSS over TCP ports: it alone decides which worker gets a "
			    "packet, maybe always the same one",
			title(port));
	return 0;
}

static int create_pool(struct dev_port *port, const struct conf *conf, uint16_t rx_descriptors,
	uint16_t tx_descriptors, char *message)
{
	struct dev_pool_plan plan;
	dev_pool_plan(&plan, dev_eal_device(), port->nb_workers, rx_descriptors, tx_descriptors,
		port->mtu);
	port->pool = dev_pool_create(&plan, dev_eal_device(), port->numa_node);
	if (port->pool != NULL)
		return 0;
	int failed = rte_errno > 0 ? -rte_errno : -ENOMEM;
	snprintf(message, DEV_MESSAGE,
		"no memory for %u packet buffers of %u bytes (%zu MB): %s; %s", plan.count,
		plan.data_room, plan.bytes >> 20, strerror(-failed),
		conf->port.hugepages ? "raise /proc/sys/vm/nr_hugepages"
				     : "add \"-m\", \"<megabytes>\" to port.eal");
	return failed;
}

static int explain_queue(const struct dev_port *port, unsigned queue, int failed, char *message)
{
	char cause[256], driver[32] = "";
	dev_log_cause(cause);
	bool af_xdp = dev_eal_device()->af_xdp;
	if (port->link != NULL)
		dev_link_driver(port->link, driver);
	const char *hint = "";
	if (af_xdp && strcmp(driver, "veth") == 0)
		hint = "; a veth's peer must have no more tx queues than there are workers "
		       "(ethtool -L PEER tx N), and an MTU that fits; or try port.driver = "
		       "\"af_packet\"";
	else if (af_xdp)
		hint = "; try port.driver = \"af_packet\"";
	snprintf(message, DEV_MESSAGE, "%s: queue %u did not start: %s (%s)%s", title(port), queue,
		cause, strerror(-failed), hint);
	return failed;
}

/* Of the process before, say. Other faults the driver names better. */
static int wait_for_queues(const struct dev_port *port, char *message)
{
	unsigned queue;

	if (!dev_eal_device()->af_xdp ||
		dev_xdp_wait_free(port->interface, port->nb_workers, QUEUE_WAIT_MS, &queue) !=
			-EBUSY)
		return 0;
	snprintf(message, DEV_MESSAGE,
		"%s: another program has queue %u for AF_XDP (ss --xdp -ap shows which)",
		title(port), queue);
	return -EBUSY;
}

static int set_up_queues(
	struct dev_port *port, uint16_t rx_descriptors, uint16_t tx_descriptors, char *message)
{
	unsigned socket = (unsigned)(port->numa_node >= 0 ? port->numa_node : SOCKET_ID_ANY);

	int failed = wait_for_queues(port, message);
	if (failed)
		return failed;
	dev_log_clear();
	for (unsigned q = 0; q < port->nb_workers; q++) {
		failed = rte_eth_rx_queue_setup(
			port->port_id, q, rx_descriptors, socket, NULL, port->pool);
		if (failed == 0)
			failed = rte_eth_tx_queue_setup(
				port->port_id, q, tx_descriptors, socket, NULL);
		if (failed)
			return explain_queue(port, q, failed, message);
	}
	return 0;
}

static void fill_in(struct dev_port *port, const struct rte_eth_dev_info *info)
{
	const struct dev_device *device = dev_eal_device();

	port->nb_workers = dev_eal_cores()->nb_workers;
	for (unsigned w = 0; w < port->nb_workers; w++)
		port->worker_lcore[w] = w + 1;
	port->numa_node = dev_device_numa_node(device);
	port->link = dev_eal_link();
	snprintf(port->driver, sizeof(port->driver), "%s", info->driver_name);
	snprintf(port->name, sizeof(port->name), "%s", device->name);
	snprintf(port->interface, sizeof(port->interface), "%s", device->interface);
}

int dev_port_open(struct dev_port *port, const struct conf *conf, char *message)
{
	*port = (struct dev_port){0};
	int failed = find_port(port, dev_eal_device(), message);
	if (failed)
		return failed;

	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	failed = rte_eth_dev_info_get(port->port_id, &info);
	if (failed == 0)
		failed = rte_eth_macaddr_get(port->port_id, &mac);
	if (failed) {
		snprintf(message, DEV_MESSAGE, "%s: %s", dev_eal_device()->name, strerror(-failed));
		return failed;
	}
	fill_in(port, &info);
	memcpy(port->mac.bytes, mac.addr_bytes, sizeof(port->mac.bytes));

	uint16_t rx_descriptors = DEV_DESCRIPTORS, tx_descriptors = DEV_DESCRIPTORS;
	dev_log_clear();
	failed = check_queues(port, &info, message);
	if (failed == 0)
		failed = choose_mtu(port, conf, &info, message);
	if (failed == 0)
		failed = prepare_link(port, message);
	if (failed == 0)
		failed = configure(port, conf, &info, message);
	if (failed)
		goto undo;
	rte_eth_dev_adjust_nb_rx_tx_desc(port->port_id, &rx_descriptors, &tx_descriptors);
	failed = create_pool(port, conf, rx_descriptors, tx_descriptors, message);
	if (failed == 0)
		failed = set_up_queues(port, rx_descriptors, tx_descriptors, message);
	if (failed)
		goto undo;
	dev_rss_fit(port, &info);
	if (conf->flows_persist && port->link != NULL)
		dev_link_remember(port->link);
	return 0;

undo:
	dev_port_close(port);
	return failed;
}

int dev_port_start(struct dev_port *port, char *message)
{
	dev_log_clear();
	int failed = rte_eth_dev_start(port->port_id);
	if (failed) {
		char cause[256];
		snprintf(message, DEV_MESSAGE, "%s did not start: %s (%s)", title(port),
			dev_log_cause(cause), strerror(-failed));
		return failed;
	}
	// For IPv6 neighbour discovery; a kernel interface got it by its flags.
	failed = port->link == NULL ? rte_eth_allmulticast_enable(port->port_id) : 0;
	if (failed && failed != -ENOTSUP)
		log_warning(
			"%s: multicast packets may not arrive: %s", title(port), strerror(-failed));
	dev_rss_confirm(port);
	dev_log_show(true);
	return 0;
}

void dev_port_close(struct dev_port *port)
{
	dev_log_show(false);
	// Refused for a port that isn't started, which is fine.
	rte_eth_dev_stop(port->port_id);
	rte_eth_dev_close(port->port_id);
	rte_mempool_free(port->pool);
	port->pool = NULL;
	if (port->link != NULL)
		dev_link_restore(port->link);
}

bool dev_port_link_up(const struct dev_port *port)
{
	if (port->link != NULL)
		return dev_link_running(port->link);
	struct rte_eth_link link = {0};
	return rte_eth_link_get_nowait(port->port_id, &link) == 0 &&
		link.link_status == RTE_ETH_LINK_UP;
}

unsigned dev_port_index(const struct dev_port *port)
{
	return port->link != NULL ? dev_link_index(port->link) : 0;
}

void dev_port_stats(const struct dev_port *port, struct dev_port_stats *stats)
{
	struct rte_eth_stats device = {0};
	rte_eth_stats_get(port->port_id, &device);
	stats->ipackets = device.ipackets;
	stats->opackets = device.opackets;
	stats->imissed = device.imissed;
	stats->ierrors = device.ierrors;
	stats->rx_nombuf = device.rx_nombuf;
}
