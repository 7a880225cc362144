/* SPDX-License-Identifier: BSD-3-Clause */
#include "telemetry.h"

#include <errno.h>
#include <rte_telemetry.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "backends.h"
#include "candidates.h"
#include "clock.h"
#include "control.h"
#include "daemon.h"
#include "dpdk_compat.h"
#include "exception.h"
#include "hand.h"
#include "keep.h"
#include "log.h"
#include "on_down.h"
#include "own_side.h"
#include "ports.h"
#include "reload.h"
#include "service_choice.h"

// An answer holds 16,384 bytes. Objects are added to a page as long as their names and numbers,
// each at its longest, are sure to fit.
#define PAGE_BYTES 15000
#define OBJECT_BYTES 730   // keys and numbers of an object
#define BACKEND_BYTES 1330 // likewise, of a backend

// The library hands no context to its callbacks: one daemon a process, never freed.
static struct daemon *daemon_told;

static void tell(struct rte_tel_data *object, const char *name, uint64_t value)
{
	tel_dict_uint(object, name, value);
}

static void tell_text(struct rte_tel_data *object, const char *name, const char *value)
{
	tel_dict_string(object, name, value);
}

/* --- /weir/info --- */

#define ERROR_TEXT 127 // the library's strings end there; the log has the whole

static void tell_reload(struct rte_tel_data *answer, const struct reload_status *status)
{
	uint64_t now_ms = clock_ms();
	char error[ERROR_TEXT];

	snprintf(error, sizeof(error), "%.*s", ERROR_TEXT - 1, status->error);
	tell(answer, "log_dropped", log_dropped());
	tell(answer, "config_age_s", (now_ms - status->loaded_ms) / 1000);
	tell(answer, "reloads", status->attempts);
	tell(answer, "reloads_failed", status->failures);
	// Of the last attempt, when it failed.
	tell_text(answer, "reload_error", error);
	tell(answer, "reload_error_age_s",
		status->failed_ms == 0 ? 0 : (now_ms - status->failed_ms) / 1000);
}

/* Connections of the process before this one: those that are known, and why others are not. */
static void tell_adopted(struct rte_tel_data *answer, const struct daemon *daemon)
{
	const struct flow_adopt_result *results = daemon->adopted;
	char name[64], refused[ERROR_TEXT] = "";

	tell(answer, "adopted", results[0].adopted + results[1].adopted);
	for (unsigned i = 0; i < FLOW_ADOPT_DROPS; i++) {
		snprintf(name, sizeof(name), "not_adopted_%s", flow_adopt_drop_names[i]);
		tell(answer, name, results[0].dropped[i] + results[1].dropped[i]);
	}
	tell(answer, "adopted_ms", daemon->adopted_ms);
	for (unsigned f = 0; f < 2 && refused[0] == '\0'; f++)
		snprintf(
			refused, sizeof(refused), "%.*s", ERROR_TEXT - 1, daemon->files[f].refused);
	tell_text(answer, "adopt_refused", refused);
}

static int tell_info(struct rte_tel_data *answer, const char *parameters)
{
	const struct daemon *daemon = daemon_told;
	const struct dev_port *port = &daemon->port;
	struct dev_port_stats device;
	char name[80], mac[18];
	const struct backends *backends = control_backends(daemon->control);

	dev_port_stats(port, &device);
	rte_tel_data_start_dict(answer);
	tell_text(answer, "version", WEIR_VERSION);
	tell_text(answer, "instance", dev_instance_name(daemon->conf, name));
	tell(answer, "pid", getpid());
	tell(answer, "uptime_s", (clock_ms() - daemon->started_ms) / 1000);
	tell_text(answer, "config", daemon->options.config);
	tell_text(answer, "port", daemon->conf->port.device);
	tell_text(answer, "driver", port->driver);
	tell_text(answer, "interface", port->interface);
	tell_text(answer, "mac", net_mac_format(&port->mac, mac));
	tell_text(answer, "link", dev_port_link_up(port) ? "up" : "down");
	tell_text(answer, "trouble", own_side_trouble(daemon->own_side));
	tell(answer, "mtu", port->mtu);
	tell_text(answer, "rss", rss_check_text(&daemon->rss));
	tell_text(answer, "netns", daemon->conf->port.netns);
	tell(answer, "hugepages", daemon->conf->port.hugepages);
	tell(answer, "workers", port->nb_workers);
	tell(answer, "services", daemon->conf->nb_services);
	tell(answer, "backends", backends->nb_backends);
	tell(answer, "published", control_is_published(daemon->control));
	tell_adopted(answer, daemon);
	tell_reload(answer, reload_status(daemon->reload));
	tell(answer, "device_received", device.ipackets);
	tell(answer, "device_sent", device.opackets);
	tell(answer, "device_missed", device.imissed);
	tell(answer, "device_errors", device.ierrors);
	tell(answer, "device_no_buffer", device.rx_nombuf);
	return 0;
}

/* --- pages --- */

/* What stands behind the comma: "SERVICE,FIRST", "SERVICE" or "FIRST". */
struct page {
	char service[CONF_NAME_MAX + 1]; // "" = all
	uint32_t first;
};

static int page_parse(struct page *page, const char *parameters, bool by_service)
{
	const char *number = parameters;
	char *end;

	memset(page, 0, sizeof(*page));
	if (parameters == NULL || parameters[0] == '\0')
		return 0;
	// No service's name begins with a digit.
	if (by_service && (parameters[0] < '0' || parameters[0] > '9')) {
		size_t length = strcspn(parameters, ",");
		if (length > CONF_NAME_MAX)
			return -EINVAL;
		memcpy(page->service, parameters, length);
		if (parameters[length] == '\0')
			return 0;
		number = parameters + length + 1;
	}
	if (number[0] < '0' || number[0] > '9')
		return -EINVAL;
	errno = 0;
	unsigned long first = strtoul(number, &end, 10);
	page->first = first;
	return *end == '\0' && errno == 0 && first <= UINT32_MAX ? 0 : -EINVAL;
}

/* One object of a list: its size at most, and how it is told. */
struct list {
	uint32_t total;
	size_t (*size)(const struct daemon *daemon, uint32_t index);
	void (*tell)(const struct daemon *daemon, uint32_t index, struct rte_tel_data *object);
	uint32_t base; // index of the list's first object
};

/* As many objects from `first` on as surely fit; each says which list it is of, how many there are,
 * and where the next page begins. */
static int tell_page(struct rte_tel_data *answer, const struct list *list, uint32_t first)
{
	const struct daemon *daemon = daemon_told;
	size_t bytes = 0;
	uint32_t end = first;

	rte_tel_data_start_array(answer, RTE_TEL_CONTAINER);
	while (end < list->total) {
		bytes += list->size(daemon, list->base + end);
		if (bytes > PAGE_BYTES && end > first)
			break;
		end++;
	}
	for (uint32_t i = first; i < end; i++) {
		struct rte_tel_data *object = tel_array_object(answer);
		if (object == NULL)
			return -ENOMEM;
		list->tell(daemon, list->base + i, object);
		tell(object, "list", control_backends(daemon->control)->list);
		tell(object, "total", list->total);
		tell(object, "next", end < list->total ? end : 0);
	}
	return 0;
}

/* --- /weir/services --- */

/* A connection may be opened on one worker and end on another, between two of our reads. */
static uint64_t active(const struct stats_backend *sum)
{
	return sum->opened > sum->ended ? sum->opened - sum->ended : 0;
}

#define LISTEN_TEXT 120 // the library's strings end at 128

/* "192.0.2.10:80 192.0.2.11:80", or the first of them and how many more. */
static void listen_text(const struct conf_service *service, char *text)
{
	size_t length = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < service->nb_listens; i++) {
		const struct conf_listen *listen = &service->listens[i];
		char one[NET_ENDPOINT_TEXT];
		if (listen->any)
			snprintf(one, sizeof(one), ":%u", ntohs(listen->endpoint.port));
		else
			net_endpoint_format(&listen->endpoint, one);
		if (length + strlen(one) + 20 > LISTEN_TEXT) {
			sprintf(text + length, " and %u more", service->nb_listens - i);
			return;
		}
		length += sprintf(text + length, "%s%s", i ? " " : "", one);
	}
}

static size_t service_size(const struct daemon *daemon, uint32_t index)
{
	return OBJECT_BYTES + LISTEN_TEXT;
}

static void tell_service(const struct daemon *daemon, uint32_t index, struct rte_tel_data *object)
{
	const struct backends *backends = control_backends(daemon->control);
	const struct control_service *service = backends->services[index];
	uint64_t connections = service->past_connections, open = 0;
	struct stats_service refused;
	char listen[LISTEN_TEXT];
	uint32_t up = 0;

	for (uint32_t i = 0; i < service->nb_backends; i++) {
		struct stats_backend sum;
		control_backend_count(backends, service->backends[i], &sum);
		connections += control_backend_connections(backends, service->backends[i]);
		open += active(&sum);
		up += service->backends[i]->in_use;
	}
	control_service_count(backends, service, &refused);
	listen_text(service->conf, listen);
	tell_text(object, "name", service->name);
	tell_text(object, "listen", listen);
	tell(object, "listens", service->conf->nb_listens);
	tell_text(object, "scheduler", conf_scheduler_name(service->conf->scheduler));
	tell(object, "backends", service->nb_listed);
	tell(object, "backends_up", up);
	tell(object, "on_backups", service->on_backups);
	tell(object, "connections", connections);
	tell(object, "active", open);
	tell(object, "denied", refused.denied);
	tell(object, "refused_max_conns", refused.refused_max_conns);
	keep_write_service(daemon->keep, backends, service);
}

static int tell_services(struct rte_tel_data *answer, const char *parameters)
{
	struct list list = {.size = service_size, .tell = tell_service};
	struct page page;

	if (page_parse(&page, parameters, false) < 0)
		return -EINVAL;
	list.total = control_backends(daemon_told->control)->nb_listed;
	return tell_page(answer, &list, page.first);
}

/* --- /weir/backends --- */

static const char *const route_names[] = {
	[ROUTE_PENDING] = "pending",
	[ROUTE_RESOLVED] = "resolved",
	[ROUTE_UNREACHABLE] = "unreachable",
	[ROUTE_LOCAL] = "local",
};

static size_t backend_size(const struct daemon *daemon, uint32_t index)
{
	return BACKEND_BYTES;
}

/* What was set by hand, and holds until the next reload. */
static const char *temporary_text(const struct control_backend *backend)
{
	if (backend->temporary_state >= 0)
		return backend->temporary_weight >= 0 ? "state, weight" : "state";
	return backend->temporary_weight >= 0 ? "weight" : "";
}

static void tell_hand(const struct control_backend *backend, struct rte_tel_data *object)
{
	bool is_set = backend->temporary_state >= 0 || backend->temporary_weight >= 0;
	char text[HAND_TEXT] = "";

	tell_text(object, "temporary", temporary_text(backend));
	tell_text(object, "set_by", is_set ? hand_text(&backend->hand, text) : "");
	tell(object, "set_s",
		is_set && backend->hand.set_ms != 0 ? (clock_ms() - backend->hand.set_ms) / 1000
						    : 0);
}

static void tell_backend(const struct daemon *daemon, uint32_t index, struct rte_tel_data *object)
{
	const struct backends *backends = control_backends(daemon->control);
	const struct control_backend *backend = backends_at(backends, index);
	char address[NET_ENDPOINT_TEXT], mac[18];
	const struct health_status *health = control_backend_health(backend);
	struct service_member member;
	struct stats_backend sum;
	struct stats_connect connects;

	candidates_member(backend, &member);
	control_backend_count(backends, backend, &sum);
	control_backend_count_connects(backends, backend, &connects);
	tell_text(object, "service", backend->service->name);
	tell_text(object, "name", backend->conf.name);
	tell_text(object, "address", net_endpoint_format(&backend->conf.endpoint, address));
	tell(object, "weight", control_backend_weight(backend));
	tell(object, "weight_percent",
		member.usable ? service_member_tenths(&member, clock_ms()) * 10 : 0);
	tell(object, "in_use", backend->in_use);
	tell(object, "backup", backend->conf.backup);
	tell(object, "max_conns", backend->conf.max_conns);
	tell_text(object, "state", control_backend_state_name(backend));
	tell_hand(backend, object);
	tell_text(object, "health", health_state_name(health->state));
	tell_text(object, "reason", health->reason);
	tell(object, "since_s", (clock_ms() - health->since_ms) / 1000);
	tell(object, "resets_held", on_down_holds(backend));
	tell_text(object, "neighbour", route_names[backend->hop.state]);
	tell_text(object, "mac",
		backend->hop.state == ROUTE_RESOLVED ? net_mac_format(&backend->hop.mac, mac) : "");
	tell(object, "active", active(&sum));
	tell(object, "connections", control_backend_connections(backends, backend));
	tell(object, "attempts", sum.opened);
	tell(object, "refused", connects.refused);
	tell(object, "timed_out", connects.timed_out);
	tell(object, "moved_away", connects.moved_away);
	tell(object, "syn_not_kept", connects.syn_not_kept);
	tell(object, "challenged", connects.challenged);
	tell(object, "answers", stats_connect_answers(&connects));
	tell(object, "answer_p50_us", stats_connect_percentile(&connects, 50));
	tell(object, "answer_p99_us", stats_connect_percentile(&connects, 99));
	tell(object, "packets_in", sum.packets[FLOW_FROM_CLIENT]);
	tell(object, "packets_out", sum.packets[FLOW_FROM_BACKEND]);
	tell(object, "bytes_in", sum.bytes[FLOW_FROM_CLIENT]);
	tell(object, "bytes_out", sum.bytes[FLOW_FROM_BACKEND]);
	keep_write(daemon->keep, backends, backend);
}

static int tell_backends(struct rte_tel_data *answer, const char *parameters)
{
	const struct backends *backends = control_backends(daemon_told->control);
	struct list list = {.size = backend_size, .tell = tell_backend};
	struct page page;

	if (page_parse(&page, parameters, true) < 0)
		return -EINVAL;
	list.total = backends->nb_backends;
	if (page.service[0] != '\0') {
		const struct control_service *service =
			backends_find_service(backends, page.service);
		if (service == NULL)
			return -ENOENT;
		list.total = service->nb_backends;
		for (uint32_t s = 0; backends->services[s] != service; s++)
			list.base += backends->services[s]->nb_backends;
	}
	return tell_page(answer, &list, page.first);
}

/* --- /weir/snat --- */

/* One object for each SNAT address towards each backend, in the order of /weir/backends. */
static uint32_t nb_snat(const struct backends *backends, const struct control_service *service)
{
	return service->nb_backends == 0
		? 0
		: service->nb_backends * ports_addresses(backends, service->backends[0])->count;
}

static void tell_ports(const struct daemon *daemon, uint32_t index, struct rte_tel_data *object)
{
	const struct backends *backends = control_backends(daemon->control);
	char endpoint[NET_ENDPOINT_TEXT], address[NET_ADDR_TEXT];
	uint32_t s = 0;

	for (; index >= nb_snat(backends, backends->services[s]); s++)
		index -= nb_snat(backends, backends->services[s]);
	const struct control_service *service = backends->services[s];
	const struct service_snat *snat = ports_addresses(backends, service->backends[0]);
	const struct control_backend *backend = service->backends[index / snat->count];
	struct stats_backend sum;
	struct ports_use use;
	ports_use(backends, backend, index % snat->count, &use);
	control_backend_count(backends, backend, &sum);
	tell_text(object, "service", service->name);
	tell_text(object, "backend", backend->conf.name);
	tell_text(object, "address", net_endpoint_format(&backend->conf.endpoint, endpoint));
	tell_text(object, "snat", net_addr_format(&snat->addrs[index % snat->count], address));
	tell(object, "used", use.used);
	tell(object, "size", use.size);
	tell(object, "percent", use.percent);
	tell(object, "high", use.is_high);
	tell(object, "refused", sum.no_port);
	keep_write(daemon->keep, backends, backend);
}

static int tell_snat(struct rte_tel_data *answer, const char *parameters)
{
	const struct backends *backends = control_backends(daemon_told->control);
	struct list list = {.size = backend_size, .tell = tell_ports};
	struct page page;

	if (page_parse(&page, parameters, true) < 0)
		return -EINVAL;
	const struct control_service *service = NULL;
	if (page.service[0] != '\0') {
		service = backends_find_service(backends, page.service);
		if (service == NULL)
			return -ENOENT;
	}
	for (uint32_t s = 0; s < backends->nb_services; s++) {
		uint32_t count = nb_snat(backends, backends->services[s]);
		if (service == NULL || backends->services[s] == service)
			list.total += count;
		if (backends->services[s] == service)
			break;
		if (service != NULL)
			list.base += count;
	}
	return tell_page(answer, &list, page.first);
}

/* --- /weir/workers, /weir/drops --- */

static int tell_workers(struct rte_tel_data *answer, const char *parameters)
{
	const struct daemon *daemon = daemon_told;

	rte_tel_data_start_array(answer, RTE_TEL_CONTAINER);
	for (unsigned w = 0; w < daemon->port.nb_workers; w++) {
		struct rte_tel_data *object = tel_array_object(answer);
		struct stats_counters counters;
		if (object == NULL)
			return -ENOMEM;
		stats_read(&daemon->workers[w].stats, &counters);
		tell(object, "worker", w);
		tell(object, "lcore", daemon->port.worker_lcore[w]);
		tell(object, "packets", counters.received);
		tell(object, "forwarded", counters.forwarded);
		tell(object, "answered", counters.answered);
		tell(object, "punted", counters.punted);
		tell(object, "tagged", counters.tagged);
		tell(object, "dropped", stats_dropped(&counters));
		tell(object, "generated", counters.generated);
		tell(object, "generated_lost", counters.generated_lost);
		tell(object, "from_kernel", counters.from_kernel);
		tell(object, "from_kernel_lost", counters.from_kernel_lost);
		tell(object, "loops", counters.loops);
		tell(object, "busy_percent",
			__atomic_load_n(&daemon->workers[w].busy_percent, __ATOMIC_RELAXED));
		if (daemon->workers[w].times_loops) // since it was asked last
			tell(object, "longest_loop_ns",
				__atomic_exchange_n(
					&daemon->workers[w].longest_loop_ns, 0, __ATOMIC_RELAXED));
	}
	keep_write_workers(daemon->keep);
	return 0;
}

static int tell_drops(struct rte_tel_data *answer, const char *parameters)
{
	const struct daemon *daemon = daemon_told;
	struct stats_counters sum = {0}, counters;
	unsigned first = 0, end = daemon->port.nb_workers;
	struct page page;

	if (parameters != NULL && parameters[0] != '\0') {
		if (page_parse(&page, parameters, false) < 0 || page.first >= end)
			return -EINVAL;
		first = page.first;
		end = first + 1;
	}
	for (unsigned w = first; w < end; w++) {
		stats_read(&daemon->workers[w].stats, &counters);
		stats_add(&sum, &counters);
	}
	rte_tel_data_start_dict(answer);
	tell(answer, "received", sum.received);
	tell(answer, "forwarded", sum.forwarded);
	tell(answer, "answered", sum.answered);
	tell(answer, "punted", sum.punted);
	tell(answer, "dropped", stats_dropped(&sum));
	for (unsigned i = 0; i < STATS_DROPS_COUNT; i++)
		tell(answer, stats_drop_names[i], sum.drops[i]);
	keep_write_workers(daemon->keep);
	return 0;
}

/* --- /weir/flows --- */

static int tell_flows(struct rte_tel_data *answer, const char *parameters)
{
	const struct daemon *daemon = daemon_told;
	const struct flow_table *tables[] = {daemon->flows4, daemon->flows6};
	struct stats_counters sum = {0}, counters;

	for (unsigned w = 0; w < daemon->port.nb_workers; w++) {
		stats_read(&daemon->workers[w].stats, &counters);
		stats_add(&sum, &counters);
	}
	rte_tel_data_start_array(answer, RTE_TEL_CONTAINER);
	for (unsigned i = 0; i < RTE_DIM(tables); i++) {
		struct rte_tel_data *object;
		if (tables[i] == NULL)
			continue;
		object = tel_array_object(answer);
		if (object == NULL)
			return -ENOMEM;
		tell_text(object, "family", tables[i]->family == AF_INET6 ? "ipv6" : "ipv4");
		tell(object, "size", tables[i]->capacity);
		tell(object, "limit", tables[i]->limit);
		tell(object, "used", flow_table_used(tables[i]));
		tell(object, "bytes", flow_table_size(tables[i]));
		const struct flow_file *file = &daemon->files[stats_family(tables[i]->family)];
		tell(object, "hugepages",
			file->fd >= 0 ? file->memory.hugepages : tables[i]->memory.hugepages);
		tell_text(object, "file", file->fd >= 0 ? file->path : "");
		const struct stats_flows *flows = &sum.flows[stats_family(tables[i]->family)];
		tell(object, "created", flows->created);
		tell(object, "expired", flows->expired);
		tell(object, "expired_reset", flows->expired_reset);
		tell(object, "evicted", flows->evicted);
		for (unsigned why = 0; why < STATS_GAVE_WAYS_COUNT; why++)
			tell(object, stats_gave_way_names[why], flows->gave_way[why]);
		tell(object, "gave_way_silent", flows->gave_way_silent);
		tell(object, "renumbered", flows->renumbered);
		tell(object, "reset", flows->reset);
		tell(object, "moved", flows->moved);
		tell(object, "over_budget", flows->over_budget);
		tell(object, "given_up", flows->given_up);
		tell(object, "refused_no_backend", flows->refused_no_backend);
		tell(object, "refused_max_conns", flows->refused_max_conns);
		tell(object, "refused_flows_full", flows->refused_flows_full);
		tell(object, "refused_snat_full", flows->refused_snat_full);
	}
	keep_write_workers(daemon->keep);
	return 0;
}

/* --- the table of commands --- */

static const struct command {
	const char *name;
	int (*tell)(struct rte_tel_data *answer, const char *parameters);
	bool takes_parameters;
	const char *help;
} commands[] = {
	{"/weir/services", tell_services, true, "Services. Parameter: FIRST, default 0."},
	{"/weir/backends", tell_backends, true,
		"Backends. Parameters: SERVICE,FIRST; default all from 0."},
	{"/weir/snat", tell_snat, true,
		"SNAT ports by backend. Parameters: SERVICE,FIRST; default all from 0."},
	{"/weir/workers", tell_workers, false, "Packets and load by worker. No parameters."},
	{"/weir/drops", tell_drops, true,
		"Where packets went. Parameter: a worker, default the sum."},
	{"/weir/flows", tell_flows, false, "Flow tables. No parameters."},
	// Last: who sees it may count on the others.
	{"/weir/info", tell_info, false, "What runs here. No parameters."},
};

/* Who asks wrongly is told so: of an error the library makes a bare null. */
static int tell_fault(struct rte_tel_data *answer, const struct command *command, int err)
{
	char text[ERROR_TEXT];

	snprintf(text, sizeof(text), "%s: %s",
		err == -ENOENT ? "there is no such service" : "the parameter is wrong",
		command->help);
	rte_tel_data_start_dict(answer);
	tell_text(answer, "error", text);
	return 0;
}

static int perform(const struct command *command, const char *parameters, struct rte_tel_data *data)
{
	bool is_given = parameters != NULL && parameters[0] != '\0';
	int err =
		is_given && !command->takes_parameters ? -EINVAL : command->tell(data, parameters);

	return err == -EINVAL || err == -ENOENT ? tell_fault(data, command, err) : err;
}

static int answer(const char *name, const char *parameters, struct rte_tel_data *data)
{
	struct daemon *daemon = __atomic_load_n(&daemon_told, __ATOMIC_ACQUIRE);
	int err = -ENODEV;

	if (daemon == NULL)
		return err;
	pthread_mutex_lock(&daemon->lock);
	// Looked at again under the lock: telemetry_fini() may have come first.
	for (unsigned i = 0; i < RTE_DIM(commands) && daemon_told != NULL; i++)
		if (strcmp(commands[i].name, name) == 0)
			err = perform(&commands[i], parameters, data);
	pthread_mutex_unlock(&daemon->lock);
	return err;
}

int telemetry_init(struct daemon *daemon)
{
	__atomic_store_n(&daemon_told, daemon, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < RTE_DIM(commands); i++) {
		int err = rte_telemetry_register_cmd(commands[i].name, answer, commands[i].help);
		if (err < 0)
			return err;
	}
	return 0;
}

void telemetry_fini(struct daemon *daemon)
{
	pthread_mutex_lock(&daemon->lock);
	daemon_told = NULL;
	pthread_mutex_unlock(&daemon->lock);
}
