/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf.h"
#include "dev.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>

#include "clock.h"
#include "dev_args.h"
#include "dev_channels.h"
#include "dev_eal.h"
#include "dev_lock.h"
#include "dev_log.h"
#include "dev_machine.h"
#include "dev_pool.h"
#include "dev_xdp.h"
#include "log.h"

#define EAL_MEMORY (32u << 20) // of hugepages beside the packet buffers: rings, drivers
#define HUGEPAGE (2u << 20)
// Files that weir has open at once, at least: with some probes, clients and an upgrade under way.
#define DESCRIPTORS 128
#define DESCRIPTORS_WORKER 8
#define QUEUES_WAIT_MS 3000 // for a process before this one to let go of its queues
#define QUEUES_STEP_US 10000
#define NO_HUGE_MEMORY_MB 512 // at least, without them: it is taken only when touched

// EAL is one per process, and so is what it was started from.
static struct {
	struct dev_device device;
	struct dev_link link;
	struct dev_cores cores;
	struct dev_lock lock;
	char prefix[96]; // of EAL's files
	unsigned mtu;    // that was planned with
	bool running;
} eal = {.link.fd = -1, .lock.fd = -1};

const struct dev_device *dev_eal_device(void)
{
	return &eal.device;
}

const struct dev_cores *dev_eal_cores(void)
{
	return &eal.cores;
}

struct dev_link *dev_eal_link(void)
{
	return eal.link.fd >= 0 ? &eal.link : NULL;
}

const char *dev_eal_interface(void)
{
	return eal.device.interface;
}

void dev_eal_keep_interface(void)
{
	eal.link.is_kept = true;
}

const char *dev_instance_name(const struct conf *conf, char *name)
{
	if (conf->instance == NULL || conf->instance[0] == '\0')
		snprintf(name, 80, "weir");
	else
		snprintf(name, 80, "weir-%s", conf->instance);
	return name;
}

/* The device is there. */
static int find_device(const struct conf *conf, char *message)
{
	int failed = dev_device_parse(&eal.device, &conf->port, message);
	if (failed)
		return failed;

	char driver[32];
	if (eal.device.kind == DEV_KIND_PCI &&
		dev_machine_pci_driver(eal.device.name, driver) != 0) {
		snprintf(message, DEV_MESSAGE,
			"there is no PCI device %s; dpdk-devbind.py "
			"--status lists them",
			eal.device.name);
		return -ENODEV;
	}
	if (eal.device.interface[0] == '\0')
		return 0;
	failed = dev_link_open(&eal.link, eal.device.interface);
	if (failed == -ENODEV)
		snprintf(message, DEV_MESSAGE,
			"there is no interface %s in this network namespace "
			"(port.device is a PCI address, an interface or a DPDK device string)",
			eal.device.interface);
	else if (failed == -ENOTSUP)
		snprintf(message, DEV_MESSAGE, "%s is no Ethernet interface", eal.device.interface);
	else if (failed)
		snprintf(message, DEV_MESSAGE, "%s: %s", eal.device.interface, strerror(-failed));
	return failed;
}

static int pick_cores(const struct conf *conf, char *message)
{
	cpu_set_t allowed, near;
	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0) {
		int failed = -errno;
		snprintf(message, DEV_MESSAGE, "sched_getaffinity: %s", strerror(-failed));
		return failed;
	}
	int node = dev_device_numa_node(&eal.device);
	if (node >= 0)
		dev_machine_node_cpus(node, &near);
	int failed = dev_cores_pick(
		&eal.cores, &conf->cores, &allowed, node >= 0 ? &near : NULL, message);
	if (failed || node < 0)
		return failed;
	for (unsigned w = 0; w < eal.cores.nb_workers; w++) {
		if (!CPU_ISSET(eal.cores.workers[w], &near))
			log_warning("worker %u runs on CPU %u, the port is on NUMA node %d: slower",
				w, eal.cores.workers[w], node);
	}
	return 0;
}

static bool is_af_xdp(void)
{
	return eal.device.kind == DEV_KIND_INTERFACE && eal.device.af_xdp;
}

/* Not by how many there are now: a process before this one may have made them fewer. */
static int check_queues(char *message)
{
	unsigned queues = is_af_xdp() ? dev_link_max_queues(&eal.link) : UINT_MAX;
	unsigned workers = eal.cores.nb_workers;

	if (queues >= workers)
		return 0;
	snprintf(message, DEV_MESSAGE, "%s offers %u rx queue%s, cores.workers names %u",
		eal.device.interface, queues, queues == 1 ? "" : "s", workers);
	return -EINVAL;
}

/* Fewer are refused as long as the process before has sockets on the others. */
static int set_queues(unsigned count)
{
	uint64_t until_ms = clock_ms() + QUEUES_WAIT_MS;
	int failed;

	do
		failed = dev_link_set_queues(&eal.link, count);
	while ((failed == -EINVAL || failed == -EBUSY) && clock_ms() < until_ms &&
		usleep(QUEUES_STEP_US) == 0);
	return failed;
}

/*
 * AF_XDP receives from the queues that have a socket, a worker's; what the interface puts on others
 * would be lost in the kernel. So it must have as many as there are workers.
 */
static int match_queues(char *message)
{
	const char *interface = eal.device.interface;
	unsigned queues = is_af_xdp() ? dev_link_queues(&eal.link) : 0;
	unsigned workers = eal.cores.nb_workers;
	if (!is_af_xdp() || queues == workers)
		return 0;
	int failed = set_queues(workers);
	if (failed) {
		snprintf(message, DEV_MESSAGE,
			"%s has %u queues, which can't be made %u (%s), and AF_XDP needs one a "
			"worker: name %u in cores.workers, or port.driver = \"af_packet\"",
			interface, queues, workers, strerror(-failed), queues);
		return failed;
	}
	log_info("%s: %u queues made %u, one a worker", interface, queues, workers);
	return 0;
}

// A process that takes over from another one has one of the numbered prefixes, the other isn't
// using.
#define PREFIXES 3

static void number_prefix(char prefix[96], const char *name, unsigned number)
{
	snprintf(prefix, 96, number == 0 ? "%s" : "%s.%u", name, number);
}

static int check_prefix(const char *name, char *message)
{
	char prefix[96];
	pid_t owner = 0;
	for (unsigned i = 0; i < PREFIXES && owner == 0; i++) {
		number_prefix(prefix, name, i);
		owner = dev_lock_prefix_owner(prefix);
	}
	if (owner == 0)
		return 0;
	char process[32] = "in another PID namespace";
	if (owner > 0)
		snprintf(process, sizeof(process), "pid %d", owner);
	snprintf(message, DEV_MESSAGE,
		"weir is already running as instance \"%s\" (%s); another "
		"one needs another `instance` in its file",
		name, process);
	return -EBUSY;
}

/* EAL's files; it leaves them for secondary processes, which Weir has not. */
static void remove_runtime_directory(const char *path)
{
	DIR *directory = opendir(path);
	if (directory == NULL)
		return;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		unlinkat(dirfd(directory), entry->d_name, 0); // "." and ".." refuse
	closedir(directory);
	rmdir(path);
}

static void runtime_path(char path[256], const char *prefix)
{
	snprintf(path, 256, DEV_RUNTIME "/dpdk/%s", prefix);
}

/* The name's directory, if it is a link of a process that had a numbered prefix: it is dead. */
static void remove_link(const char *name)
{
	char path[256];
	struct stat status;

	runtime_path(path, name);
	if (lstat(path, &status) == 0 && S_ISLNK(status.st_mode))
		unlink(path);
}

/* All of these that processes of the name left. */
static void remove_runtime_directories(const char *name)
{
	char prefix[96], path[256];

	remove_link(name);
	for (unsigned i = 0; i < PREFIXES; i++) {
		number_prefix(prefix, name, i);
		runtime_path(path, prefix);
		remove_runtime_directory(path);
	}
}

/* 0, or 1: how it was before isn't known. */
static int restore_interface(const char *interface)
{
	struct dev_link link;

	if (dev_link_open(&link, interface) < 0) {
		dev_link_forget(&link); // it is gone
		return 0;
	}
	bool known = dev_link_recall(&link);
	dev_link_close(&link); // which restores
	return known ? 0 : 1;
}

int dev_interface_return(const char *interface, void (*also)(const char *interface))
{
	struct dev_device device = {.kind = DEV_KIND_INTERFACE};
	char message[DEV_MESSAGE];
	struct dev_lock lock;

	snprintf(device.interface, sizeof(device.interface), "%s", interface);
	int failed = dev_lock_take(&lock, &device, "a weir that gives it back", message);
	if (failed)
		return failed;
	restore_interface(interface);
	also(interface);
	dev_lock_release(&lock);
	return 0;
}

int dev_interface_forget(const struct conf *conf, char *interface, char *message)
{
	struct dev_device device;
	struct dev_lock lock;
	char name[80];
	int failed = dev_device_parse(&device, &conf->port, message);

	interface[0] = '\0';
	if (failed == 0)
		failed = check_prefix(dev_instance_name(conf, name), message);
	if (failed)
		return failed;
	remove_runtime_directories(name);
	failed = dev_lock_take(&lock, &device, name, message);
	if (failed == -EBUSY) {
		log_info("%s: it stays as it is", message);
		return 0;
	}
	if (failed)
		return failed;
	if (device.interface[0] != '\0')
		failed = restore_interface(device.interface);
	strcpy(interface, device.interface);
	dev_lock_release(&lock);
	return failed;
}

void dev_interface_detach(const struct conf *conf)
{
	struct dev_device device;
	char message[DEV_MESSAGE];

	if (dev_device_parse(&device, &conf->port, message) == 0 && device.af_xdp)
		dev_xdp_detach(device.interface);
}

/* rte_eal_init() without its prints and its usage text, and in its usual directory. */
static int start_quietly(int argc, char **argv)
{
	// Root's dpdk-telemetry.py looks there, and nowhere else: whoever weir runs as, and
	// whatever systemd's RuntimeDirectory= says.
	setenv("RUNTIME_DIRECTORY", DEV_RUNTIME, 1);
	int saved_opterr = opterr;
	opterr = 0;
	dev_log_clear();
	dev_log_capture_begin();
	dev_channels_combine(eal.device.af_xdp);

	int result = rte_eal_init(argc, argv);
	int error = rte_errno;

	dev_channels_combine(false);
	dev_log_capture_end();
	opterr = saved_opterr;
	if (result >= 0)
		return 0;
	return error > 0 ? -error : -EIO;
}

static int start_eal(const struct conf *conf, const char *name, bool beside, size_t pool_bytes,
	int argc, char **argv, char *message)
{
	unsigned memory_mb = (pool_bytes >> 20) + 256;
	if (memory_mb < NO_HUGE_MEMORY_MB)
		memory_mb = NO_HUGE_MEMORY_MB;
	struct dev_args args;
	int failed = beside ? dev_args_build_late(&args, eal.prefix, conf, &eal.device, &eal.cores,
				      eal.mtu, memory_mb, argc, argv)
			    : dev_args_build(&args, conf, &eal.device, &eal.cores, eal.mtu,
				      memory_mb, argc, argv);
	if (failed) {
		snprintf(message, DEV_MESSAGE, "no memory");
		return failed;
	}
	// EAL moves the words about and names one twice, so it gets an array of its own.
	char **words = malloc((args.argc + 1) * sizeof(*words));
	if (words == NULL) {
		dev_args_free(&args);
		snprintf(message, DEV_MESSAGE, "no memory");
		return -ENOMEM;
	}
	memcpy(words, args.argv, (args.argc + 1) * sizeof(*words));
	dev_log_open();
	failed = start_quietly(args.argc, words);
	free(words);
	dev_args_free(&args);
	if (failed == 0) {
		dev_log_attach_libbpf();
		return 0;
	}

	dev_log_close();
	if (!beside && check_prefix(name, message) != 0) // it came in between
		return -EBUSY;
	remove_runtime_directory(rte_eal_get_runtime_dir());
	char cause[256];
	if (strstr(dev_log_cause(cause), "command line") != NULL)
		snprintf(message, DEV_MESSAGE,
			"DPDK refuses its arguments: are port.eal and what "
			"follows -- right?");
	else
		snprintf(message, DEV_MESSAGE, "DPDK did not start: %s (%s)", cause,
			strerror(-failed));
	return failed;
}

static int check_lcores(char *message)
{
	for (unsigned w = 0; w < eal.cores.nb_workers; w++) {
		if (rte_lcore_is_enabled(w + 1))
			continue;
		snprintf(message, DEV_MESSAGE,
			"the further EAL arguments leave no lcore %u for "
			"worker %u: cores.workers sets them, not --lcores",
			w + 1, w);
		return -EINVAL;
	}
	return 0;
}

/* The device is there, its cores too; `message` says what isn't. */
static int look_around(const struct conf *conf, char *message)
{
	int failed = find_device(conf, message);
	if (failed == 0)
		failed = dev_machine_check_capabilities(message);
	if (failed == 0)
		failed = pick_cores(conf, message);
	return failed;
}

/* Nobody else has the port, and nobody will. */
static int claim_port(const char *name, char *message)
{
	int failed = dev_lock_take(&eal.lock, &eal.device, name, message);
	if (failed == 0 && eal.link.fd >= 0)
		dev_link_recall(&eal.link);
	return failed;
}

static int prepare(const struct conf *conf, const char *name, bool beside, int argc, char **argv,
	char *message)
{
	int failed;

	eal.mtu = conf->port.mtu;
	if (eal.mtu == 0)
		eal.mtu = eal.link.fd >= 0 ? dev_link_mtu(&eal.link) : 1500;
	struct dev_pool_plan plan;
	dev_pool_plan(&plan, &eal.device, eal.cores.nb_workers, DEV_DESCRIPTORS, DEV_DESCRIPTORS,
		eal.mtu);
	bool hugepages = dev_args_hugepages(conf, argc, argv);
	// EAL keeps one open for each page.
	failed = dev_machine_check_descriptors(DESCRIPTORS +
			DESCRIPTORS_WORKER * eal.cores.nb_workers +
			(hugepages ? (plan.bytes + EAL_MEMORY) / HUGEPAGE : 0),
		message);
	if (failed == 0 && hugepages)
		failed = dev_machine_check_hugepages(plan.bytes + EAL_MEMORY, message);
	if (failed == 0)
		failed = check_queues(message);
	if (failed == 0 && !beside)
		failed = match_queues(message);
	if (failed == 0)
		failed = start_eal(conf, name, beside, plan.bytes, argc, argv, message);
	if (failed)
		return failed;
	eal.running = true;
	return check_lcores(message);
}

static void link_path(char path[256], const char *name)
{
	// EAL's directory of this process stands beside it.
	snprintf(path, 256, "%s", rte_eal_get_runtime_dir());
	snprintf(strrchr(path, '/') + 1, 96, "%s", name);
}

int dev_eal_init(const struct conf *conf, int argc, char **argv, char *message)
{
	char name[80];
	dev_instance_name(conf, name);
	number_prefix(eal.prefix, name, 0);

	int failed = look_around(conf, message);
	if (failed == 0)
		failed = check_prefix(name, message);
	if (failed == 0)
		failed = claim_port(name, message);
	if (failed == 0) {
		remove_link(name);
		failed = prepare(conf, name, false, argc, argv, message);
	}
	if (failed)
		dev_eal_fini();
	return failed;
}

int dev_eal_init_beside(const struct conf *conf, int argc, char **argv, char *message)
{
	char name[80];
	unsigned number = 1;
	dev_instance_name(conf, name);
	number_prefix(eal.prefix, name, number);
	while (dev_lock_prefix_owner(eal.prefix) != 0 && ++number < PREFIXES)
		number_prefix(eal.prefix, name, number);

	int failed = look_around(conf, message);
	if (failed == 0)
		failed = prepare(conf, name, true, argc, argv, message);
	// What belongs to the other process isn't to be put back by this one.
	eal.link.is_kept = true;
	if (failed)
		dev_eal_fini();
	return failed;
}

int dev_eal_take_port(const struct conf *conf, char *message)
{
	char name[80];
	int failed = claim_port(dev_instance_name(conf, name), message);
	if (failed == 0)
		failed = match_queues(message);
	if (failed)
		return failed;
	eal.link.is_kept = false;
	char *device = dev_args_device(&conf->port, &eal.device, eal.cores.nb_workers, eal.mtu);
	if (device == NULL)
		return -ENOMEM;
	dev_log_clear();
	dev_channels_combine(eal.device.af_xdp);
	rte_dev_probe(device); // dev_port_open() says what failed
	dev_channels_combine(false);
	free(device);
	return 0;
}

void dev_eal_own_name(const struct conf *conf)
{
	char name[80], path[256], fresh[264];
	struct stat status;

	dev_instance_name(conf, name);
	if (strcmp(name, eal.prefix) == 0)
		return;
	link_path(path, name);
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	unlink(fresh);
	// The directory of the one before, if it didn't remove it.
	if (lstat(path, &status) == 0 && S_ISDIR(status.st_mode))
		remove_runtime_directory(path);
	if (symlink(eal.prefix, fresh) < 0 || rename(fresh, path) < 0)
		log_warning("%s: %s; telemetry is found under %s", path, strerror(errno),
			rte_eal_get_runtime_dir());
}

void dev_eal_let_go(void)
{
	if (eal.device.af_xdp)
		dev_xdp_close_sockets();
	eal.link.is_kept = true;
	dev_lock_release(&eal.lock);
}

/* The link to this process's directory, if another one hasn't put its own in the place. */
static void remove_own_link(const char *directory)
{
	char path[256], target[96] = "";
	const char *dot = strrchr(eal.prefix, '.');

	if (dot == NULL || dot[1] < '1' || dot[1] > '9')
		return;
	snprintf(path, sizeof(path), "%.*s", (int)(strlen(directory) - strlen(dot)), directory);
	if (readlink(path, target, sizeof(target) - 1) > 0 && strcmp(target, eal.prefix) == 0)
		unlink(path);
}

void dev_eal_fini(void)
{
	if (eal.running) {
		char path[256];
		snprintf(path, sizeof(path), "%s", rte_eal_get_runtime_dir());
		dev_log_show(false);
		rte_eal_cleanup();
		remove_runtime_directory(path);
		remove_own_link(path);
		dev_log_close();
		eal.running = false;
	}
	dev_link_close(&eal.link);
	dev_lock_release(&eal.lock);
}
