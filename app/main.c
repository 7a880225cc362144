/* SPDX-License-Identifier: BSD-3-Clause */
/* The order in which the daemon is built; it is undone in reverse. */
#include <errno.h>
#include <event2/event.h>
#include <rte_rcu_qsbr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "adopt.h"
#include "apply.h"
#include "backends.h"
#include "clock.h"
#include "command.h"
#include "control.h"
#include "daemon.h"
#include "endpoints.h"
#include "exception.h"
#include "former.h"
#include "keep.h"
#include "kept_names.h"
#include "log.h"
#include "macs.h"
#include "notify.h"
#include "own_file.h"
#include "own_side.h"
#include "reload.h"
#include "resolver.h"
#include "signals.h"
#include "snat.h"
#include "stall.h"
#include "start_pace.h"
#include "tables.h"
#include "telemetry.h"
#include "upgrade.h"
#include "watch.h"
#include "withdraw.h"
#include "workers.h"

// Readers of the tables are the workers, by number, and behind them threads of telemetry.
#define TELEMETRY_READERS 16
// For the kernel to tell the next hops of backends that are known to be up.
#define SETTLE_MS 200

struct step {
	const char *name;
	int (*init)(struct daemon *daemon, char *message);
	void (*fini)(struct daemon *daemon);
};

/* A probe in flight is a descriptor. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* -EPERM with `message`: what lies in our directory may be somebody else's. */
static int check_run_directory(char *message)
{
	if (own_directory_make(OWN_RUN_DIRECTORY, 0755) != -EPERM)
		return 0; // what else is wrong is said by who needs it
	snprintf(message, DEV_MESSAGE,
		OWN_RUN_DIRECTORY " isn't root's alone: remove what others have put there; "
				  "chown root " OWN_RUN_DIRECTORY "; chmod 755 " OWN_RUN_DIRECTORY);
	return -EPERM;
}

static int eal_init(struct daemon *daemon, char *message)
{
	const struct options *options = &daemon->options;

	if (check_run_directory(message) < 0)
		return -EPERM;
	if (upgrade_is_successor(daemon))
		return dev_eal_init_beside(
			daemon->conf, options->eal_argc, options->eal_argv, message);
	return dev_eal_init(daemon->conf, options->eal_argc, options->eal_argv, message);
}

static void eal_fini(struct daemon *daemon)
{
	dev_eal_fini();
	if (daemon->forget)
		rmdir(OWN_RUN_DIRECTORY); // fails as long as something else is in it
}

/* From here on the port is this process's; and before it ends, the next one's. */
static int handover_init(struct daemon *daemon, char *message)
{
	if (!upgrade_is_successor(daemon))
		return 0;
	int err = upgrade_wait(daemon);
	return err < 0 ? err : dev_eal_take_port(daemon->conf, message);
}

static void handover_fini(struct daemon *daemon)
{
	if (!upgrade_is_awaited(daemon))
		return;
	dev_eal_let_go();
	upgrade_released(daemon);
}

static int mute_init(struct daemon *daemon, char *message)
{
	const char *interface = dev_eal_interface();

	// It is mute already, and asking nftables takes time.
	if (upgrade_is_successor(daemon))
		return 0;
	return interface[0] == '\0' ? 0 : exception_mute(interface, message);
}

/* Whoever ends weir for good has to know that the interface isn't his yet. */
static void tell_mute(const struct daemon *daemon, const char *interface)
{
	const char *config = daemon->options.config;
	bool usual = strcmp(config, CONF_DEFAULT_PATH) == 0;

	log_info("%s stays mute for the next start; to give it back: weir %s%s%s--forget",
		interface, usual ? "" : "-c ", usual ? "" : config, usual ? "" : " ");
}

static void mute_fini(struct daemon *daemon)
{
	const char *interface = dev_eal_interface();

	if (interface[0] == '\0')
		return;
	if (daemon->forget)
		exception_unmute(interface);
	else if (!upgrade_is_awaited(daemon) && !upgrade_is_successor(daemon))
		tell_mute(daemon, interface);
}

static int port_init(struct daemon *daemon, char *message)
{
	return dev_port_open(&daemon->port, daemon->conf, message);
}

static void port_fini(struct daemon *daemon)
{
	dev_port_close(&daemon->port);
}

static int kernel_side_init(struct daemon *daemon, char *message)
{
	withdraw_begin(daemon->withdrawn, daemon->conf);
	daemon->exception =
		exception_create(daemon->conf, &daemon->port, daemon->withdrawn, message);
	return daemon->exception == NULL ? -errno : 0;
}

static void kernel_side_fini(struct daemon *daemon)
{
	exception_destroy(daemon->exception);
}

static int former_init(struct daemon *daemon, char *message)
{
	if (daemon->conf->flows_persist)
		former_follow(daemon->conf);
	else
		former_forget(daemon->conf, dev_eal_interface());
	return 0;
}

static void former_fini(struct daemon *daemon)
{
	if (daemon->forget)
		former_forget(daemon->conf, dev_eal_interface());
}

static int rcu_init(struct daemon *daemon, char *message)
{
	uint32_t readers = daemon->port.nb_workers + TELEMETRY_READERS;
	size_t size = rte_rcu_qsbr_get_memsize(readers);

	if (posix_memalign((void **)&daemon->rcu, 64, size) != 0)
		return -ENOMEM;
	return rte_rcu_qsbr_init(daemon->rcu, readers) != 0 ? -EINVAL : 0;
}

static void rcu_fini(struct daemon *daemon)
{
	free(daemon->rcu);
}

static int flows_init(struct daemon *daemon, char *message)
{
	return tables_create(daemon, message);
}

static void flows_fini(struct daemon *daemon)
{
	tables_destroy(daemon);
}

static int snat_init(struct daemon *daemon, char *message)
{
	int err = endpoints_ports_create(daemon);

	if (err == -ENOSPC)
		snprintf(message, DEV_MESSAGE,
			"net.ipv4.ip_local_port_range takes every port in "
			"weir0's namespace: name SNAT ports by snat.ports");
	return err;
}

static void snat_fini(struct daemon *daemon)
{
	endpoints_ports_destroy(daemon);
}

/* What libevent has to say goes to the log, too. */
static void tell_event(int severity, const char *text)
{
	log_limited(severity >= EVENT_LOG_WARN ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG,
		"libevent: %s", text);
}

static int events_init(struct daemon *daemon, char *message)
{
	event_set_log_callback(tell_event);
	daemon->events = event_base_new();
	return daemon->events == NULL ? -ENOMEM : 0;
}

static void events_fini(struct daemon *daemon)
{
	event_base_free(daemon->events);
}

static int stall_init(struct daemon *daemon, char *message)
{
	daemon->stall = stall_create(daemon);
	return daemon->stall == NULL ? -errno : 0;
}

static void stall_fini(struct daemon *daemon)
{
	stall_destroy(daemon->stall);
	daemon->stall = NULL;
}

static int own_side_init(struct daemon *daemon, char *message)
{
	daemon->own_side = own_side_create(daemon);
	return daemon->own_side == NULL ? -errno : 0;
}

static void own_side_fini(struct daemon *daemon)
{
	own_side_destroy(daemon->own_side);
	daemon->own_side = NULL;
}

static int keep_init(struct daemon *daemon, char *message)
{
	daemon->keep = keep_create(daemon->conf, daemon->conf->flows_persist);
	return daemon->keep == NULL ? -ENOMEM : 0;
}

static void keep_fini(struct daemon *daemon)
{
	keep_destroy(daemon->keep, daemon->forget);
}

static int names_init(struct daemon *daemon, char *message)
{
	daemon->resolver = resolver_create(daemon);
	return daemon->resolver == NULL ? -ENOMEM : 0;
}

static void names_fini(struct daemon *daemon)
{
	resolver_destroy(daemon->resolver);
	if (daemon->forget)
		kept_names_remove(daemon->conf);
}

static int macs_init(struct daemon *daemon, char *message)
{
	daemon->macs = macs_create(daemon->events, daemon->port.nb_workers, daemon->conf);
	return daemon->macs == NULL ? -errno : 0;
}

static void macs_fini(struct daemon *daemon)
{
	macs_destroy(daemon->macs, daemon->forget);
}

static int control_init(struct daemon *daemon, char *message)
{
	daemon->control = control_create(daemon);
	return daemon->control == NULL ? -errno : 0;
}

static void control_fini(struct daemon *daemon)
{
	control_destroy(daemon->control);
}

static int workers_init(struct daemon *daemon, char *message)
{
	return workers_create(daemon);
}

static void workers_fini(struct daemon *daemon)
{
	workers_destroy(daemon);
}

static int adopt_init(struct daemon *daemon, char *message)
{
	int err = adopt_flows(daemon);

	if (err < 0)
		return err;
	control_settle(daemon->control, SETTLE_MS);
	return control_publish_first(daemon->control);
}

static void adopt_fini(struct daemon *daemon)
{
	keep_all(daemon->keep, control_backends(daemon->control));
}

static int telemetry_step_init(struct daemon *daemon, char *message)
{
	return telemetry_init(daemon);
}

static void telemetry_step_fini(struct daemon *daemon)
{
	telemetry_fini(daemon);
}

static int start_init(struct daemon *daemon, char *message)
{
	int err = exception_start(daemon->exception);

	if (err == 0)
		err = dev_port_start(&daemon->port, message);
	if (err == 0)
		rss_check_init(&daemon->rss, &daemon->port);
	for (unsigned w = 0; w < daemon->port.nb_workers && err == 0; w++)
		err = worker_launch(&daemon->workers[w]);
	return err;
}

static void start_fini(struct daemon *daemon)
{
	for (unsigned w = 0; w < daemon->port.nb_workers; w++)
		worker_stop(&daemon->workers[w]);
}

static int reload_step_init(struct daemon *daemon, char *message)
{
	daemon->apply = apply_create(daemon);
	daemon->reload = daemon->apply == NULL ? NULL : reload_create(daemon);
	if (daemon->reload == NULL)
		return -ENOMEM;
	resolver_follow(daemon->resolver, daemon->conf);
	return 0;
}

static void reload_step_fini(struct daemon *daemon)
{
	reload_destroy(daemon->reload);
	apply_destroy(daemon->apply);
}

static int command_step_init(struct daemon *daemon, char *message)
{
	daemon->command = command_create(daemon, message);
	return daemon->command == NULL ? -errno : 0;
}

static void command_step_fini(struct daemon *daemon)
{
	command_destroy(daemon->command);
}

static int signals_init(struct daemon *daemon, char *message)
{
	daemon->signals = signals_create(daemon);
	return daemon->signals == NULL ? -errno : 0;
}

static void signals_fini(struct daemon *daemon)
{
	signals_destroy(daemon->signals);
}

static int notify_init(struct daemon *daemon, char *message)
{
	daemon->notify = notify_create(daemon);
	return daemon->notify == NULL ? -errno : 0;
}

static void notify_fini(struct daemon *daemon)
{
	notify_destroy(daemon->notify);
}

/* Make the kernel hear on the interface again; `is_known`: how it was set before. */
static void give_back(const struct conf *conf, const char *interface, bool is_known)
{
	if (exception_is_mute(interface)) {
		dev_interface_detach(conf);
		if (!is_known)
			log_warning("nothing in " OWN_RUN_DIRECTORY
				    " says any more how %s was set before: its MTU, queues, "
				    "offloads and allmulti stay as they are",
				interface);
	}
	exception_unmute(interface);
}

/* Remove what an ended process left for this one. */
static int forget(const struct conf *conf, const char *config)
{
	char interface[16], message[DEV_MESSAGE] = "it runs: weirctl stop --forget ends it";
	int err = check_run_directory(message);

	if (err == 0)
		err = dev_interface_forget(conf, interface, message);
	bool is_known = err == 0;

	if (err >= 0)
		err = tables_remove(conf) ? 0 : -EBUSY;
	if (err == 0) {
		keep_remove(conf);
		kept_names_remove(conf);
		start_pace_forget(config);
		macs_remove(conf);
		command_forget(conf);
		former_forget(conf, interface);
		err = exception_forget(conf, message);
	}
	if (err == 0 && interface[0] != '\0')
		give_back(conf, interface, is_known);
	if (err < 0)
		log_error("%s", message);
	else
		rmdir(OWN_RUN_DIRECTORY); // fails as long as something else is in it
	return err < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static const struct step steps[] = {
	{"EAL", eal_init, eal_fini},
	{"hand-over", handover_init, handover_fini},
	{"mute", mute_init, mute_fini},
	{"port", port_init, port_fini},
	{"weir0", kernel_side_init, kernel_side_fini},
	{"former file", former_init, former_fini},
	{"RCU", rcu_init, rcu_fini},
	{"flow table", flows_init, flows_fini},
	{"SNAT ports", snat_init, snat_fini},
	{"event loop", events_init, events_fini},
	{"stall watch", stall_init, stall_fini},
	{"own side", own_side_init, own_side_fini},
	{"what was kept", keep_init, keep_fini},
	{"names", names_init, names_fini},
	{"neighbours", macs_init, macs_fini},
	{"control", control_init, control_fini},
	{"workers", workers_init, workers_fini},
	{"adoption", adopt_init, adopt_fini},
	{"start", start_init, start_fini},
	{"reload", reload_step_init, reload_step_fini},
	{"control socket", command_step_init, command_step_fini},
	{"telemetry", telemetry_step_init, telemetry_step_fini},
	{"signals", signals_init, signals_fini},
	{"systemd", notify_init, notify_fini},
};
#define STEPS (sizeof(steps) / sizeof(steps[0]))

/* What the next process takes over stays as it is. */
static void leave(struct daemon *daemon)
{
	dev_eal_keep_interface();
	if (daemon->exception != NULL)
		exception_keep(daemon->exception);
	if (daemon->control != NULL)
		watch_keep(control_registry(daemon->control)->watch);
}

static void undo(struct daemon *daemon, unsigned done)
{
	if (!daemon->forget)
		leave(daemon);
	while (done-- > 0)
		steps[done].fini(daemon);
}

/* "EAL 120 ms, port 30 ms ...": the steps that took a while. */
static void tell_times(const uint64_t step_ns[STEPS])
{
	char text[512] = "";
	size_t length = 0;
	uint64_t all_ns = 0;

	for (unsigned i = 0; i < STEPS; i++) {
		all_ns += step_ns[i];
		if (step_ns[i] >= 1000000 && length < sizeof(text))
			length += snprintf(text + length, sizeof(text) - length, "%s%s %lu ms",
				length ? ", " : ": ", steps[i].name,
				(unsigned long)(step_ns[i] / 1000000));
	}
	log_info("started in %lu ms%s", (unsigned long)(all_ns / 1000000), text);
}

static int run(struct daemon *daemon)
{
	uint64_t step_ns[STEPS];

	// A start that fails leaves what it found.
	// NOLINTNEXTLINE(clang-analyzer-core.NullDereference): main() has loaded it
	daemon->forget = !daemon->conf->flows_persist || !tables_exist(daemon->conf);
	for (unsigned i = 0; i < STEPS; i++) {
		char message[DEV_MESSAGE] = "";
		uint64_t before_ns = clock_ns();
		int err = steps[i].init(daemon, message);
		step_ns[i] = clock_ns() - before_ns;
		int end = err == 0 ? signals_end_waits() : 0;
		if (err == 0 && end == 0)
			continue;
		if (end != 0) {
			snprintf(message, sizeof(message),
				"ending: SIG%s, before the start was done", sigabbrev_np(end));
			log_info("%s", message);
		} else {
			if (message[0] == '\0')
				snprintf(message, sizeof(message), "%s", strerror(-err));
			log_error("%s: %s", steps[i].name, message);
		}
		if (upgrade_is_successor(daemon))
			upgrade_failed(daemon, message);
		else if (end != 0)
			start_pace_forget(daemon->options.config);
		else
			start_pace_failed(daemon->options.config);
		undo(daemon, err == 0 ? i + 1 : i);
		return err == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	daemon->forget = !daemon->conf->flows_persist;
	start_pace_forget(daemon->options.config);
	log_info("weir %s: %s (%s), %u worker%s, %u service%s", WEIR_VERSION,
		daemon->conf->port.device, daemon->port.driver, daemon->port.nb_workers,
		daemon->port.nb_workers == 1 ? "" : "s", daemon->conf->nb_services,
		daemon->conf->nb_services == 1 ? "" : "s");
	tell_times(step_ns);
	if (upgrade_is_successor(daemon))
		upgrade_ready(daemon);
	tables_settle(daemon);
	int status = event_base_dispatch(daemon->events) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	undo(daemon, STEPS);
	if (upgrade_is_awaited(daemon) && !upgrade_finish(daemon))
		status = EXIT_FAILURE;
	if (upgrade_starts_again(daemon)) {
		upgrade_exec(daemon);
		status = EXIT_FAILURE;
	}
	return status;
}

/* Of a weir that serves, and not beside one that does. */
static bool is_start(const struct daemon *daemon)
{
	return !daemon->options.check && !daemon->options.forget && !upgrade_is_successor(daemon);
}

int main(int argc, char **argv)
{
	static struct daemon daemon = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct conf_error error;

	signals_block();
	log_open();
	raise_descriptor_limit();
	switch (options_parse(&daemon.options, argc, argv)) {
	case OPTIONS_DONE:
		return EXIT_SUCCESS;
	case OPTIONS_WRONG:
		start_pace_wait(daemon.options.config);
		start_pace_failed(daemon.options.config);
		return EXIT_FAILURE;
	case OPTIONS_RUN:
		break;
	}
	upgrade_init(&daemon, argv);
	if (is_start(&daemon) && !start_pace_wait(daemon.options.config))
		return EXIT_SUCCESS;
	daemon.started_ms = clock_ms();
	daemon.conf = conf_load(upgrade_config(&daemon), &error);
	if (daemon.conf == NULL) {
		log_error("%s", error.text);
		if (upgrade_is_successor(&daemon))
			upgrade_failed(&daemon, error.text);
		else if (is_start(&daemon))
			start_pace_failed(daemon.options.config);
		return EXIT_FAILURE;
	}
	if (upgrade_config(&daemon) == daemon.options.config)
		daemon_tell_exposed(daemon.conf);
	daemon_tell_far_gateways(daemon.conf);
	upgrade_config_read(&daemon);
	int status = EXIT_SUCCESS;
	if (daemon.options.check)
		printf("%s: right\n", daemon.options.config);
	else if (daemon.options.forget)
		status = forget(daemon.conf, daemon.options.config);
	else if (hash_key_random(&daemon.secrets.flows) < 0 ||
		hash_key_random(&daemon.secrets.ports) < 0)
		status = EXIT_FAILURE;
	else
		status = run(&daemon);
	conf_free(daemon.conf);
	return status;
}
