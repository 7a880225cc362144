/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration file as plain structs. Only this module knows libconfig.
 *
 * conf_load() reads, checks and fills in every default that the file alone determines; what depends
 * on the machine (cores, the port's own addresses, the link's MTU) is left at "unset" and resolved
 * by the module that asks the machine. A struct conf is never changed after it was loaded.
 *
 * Thread rule: pure functions without state. Any number of threads may read one struct; it is freed
 * by one, when nobody reads it any more.
 */
#ifndef WEIR_CONF_H
#define WEIR_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "addr.h"
#include "punt.h"

#define CONF_DEFAULT_PATH "/etc/weir/weir.conf"
#define CONF_NAME_MAX 63 // bytes of a service's or backend's name
#define CONF_WEIGHT_MAX 256
#define CONF_WORKERS_MAX 64
#define CONF_CPU_MAX 1023
#define CONF_NETNS_MAX 63 // bytes
#define CONF_RESOLVERS_MAX 8
#define CONF_ADDRESSES_MAX 32    // addresses of the port, and SNAT addresses
#define CONF_BACKENDS_MAX 131072 // over all services
#define CONF_SERVICE_BACKENDS_MAX 65536
#define CONF_TIMEOUT_MAX_S 64800
#define CONF_SNAT_RANGES_MAX 4
#define CONF_TRIES_MAX 8         // backends that a connection is offered to
#define CONF_PREFIXES_MAX 131072 // of one list

enum conf_driver { CONF_DRIVER_AUTO, CONF_DRIVER_AF_XDP, CONF_DRIVER_AF_PACKET };

struct conf_port {
	char *device;                 // PCI address, kernel interface, or DPDK device string
	enum conf_driver driver;      // for a kernel interface; AUTO = AF_XDP
	struct net_prefix *addresses; // weir0's; the first of a family is the SNAT default
	unsigned nb_addresses;
	struct net_addr gateway4; // AF_UNSPEC = none
	struct net_addr gateway6;
	char *netns;                       // network namespace of weir0; "" = the host's
	unsigned mtu;                      // bytes; 0 = the link's
	unsigned punt_limit[PUNT_CLASSES]; // packets a second
	char **eal;                        // further EAL arguments
	unsigned nb_eal;
	bool hugepages; // false = --no-huge
};

struct conf_cores {
	int control;                        // CPU number; -1 = the first allowed
	unsigned workers[CONF_WORKERS_MAX]; // CPU numbers; a CPU may be named twice
	unsigned nb_workers;                // 0 = one on the port's NUMA node
	unsigned idle_sleep_us;             // 0 = always poll
};

/* The local ports that a SNAT address lends: host byte order, both ends included. */
struct conf_port_range {
	uint16_t first;
	uint16_t last;
};

struct conf_snat {
	struct net_addr *addresses; // none = the port's first address of the backend's family
	unsigned nb_addresses;
	// None = what ip_local_port_range leaves free above 1023.
	struct conf_port_range ranges[CONF_SNAT_RANGES_MAX];
	unsigned nb_ranges;
};

enum conf_tcp_timeout {
	CONF_TIMEOUT_HALF_OPEN, // SYN_SENT, SYN_RECV
	CONF_TIMEOUT_ESTABLISHED,
	CONF_TIMEOUT_CLOSING, // FIN_WAIT, CLOSE_WAIT, LAST_ACK
	CONF_TIMEOUT_TIME_WAIT,
	CONF_TIMEOUT_CLOSE,
	CONF_TIMEOUTS
};

enum conf_health_type { CONF_HEALTH_NONE, CONF_HEALTH_TCP, CONF_HEALTH_HTTP, CONF_HEALTH_HTTPS };

struct conf_health {
	enum conf_health_type type;
	uint16_t port; // host byte order; 0 = the backend's
	unsigned interval_ms;
	unsigned timeout_ms;
	unsigned rise;
	unsigned fall;
	char *path; // HTTP: the request's target
	char *host; // HTTP: Host header and TLS name; NULL = the backend's name, or "address:port"
	unsigned status_first; // HTTP: the expected status codes, both ends included
	unsigned status_last;
	bool verify; // HTTPS: check the certificate against the system's store
};

/* Backends judged by the clients' own connects. */
struct conf_passive {
	unsigned fails; // refused or unanswered ones in the window; 0 = off
	unsigned window_ms;
	unsigned retry_ms; // how long it is out, the first time
};

struct conf_listen {
	bool any;                     // ":80": every address of the port (of the service's family)
	struct net_endpoint endpoint; // the port alone when any
};

enum conf_state { CONF_STATE_ACTIVE, CONF_STATE_DRAIN, CONF_STATE_DISABLED };

struct conf_backend {
	char *name;                   // given, or the address's text; unique within the service
	char *host;                   // a DNS name in place of the address; NULL = none
	struct net_endpoint endpoint; // the port alone when it is a name
	unsigned resolve_ms;          // how often the name is asked for; 0 = by the answer's TTL
	unsigned weight;              // 0 to CONF_WEIGHT_MAX
	enum conf_state state;
	bool backup;            // gets connections only while no other backend can
	unsigned max_conns;     // connections at a time; 0 = any number
	unsigned slow_start_ms; // the service's, or its own; 0 = the whole weight at once
};

enum conf_scheduler {
	CONF_SCHEDULER_MAGLEV,
	CONF_SCHEDULER_ROUND_ROBIN,
	CONF_SCHEDULER_LEAST_CONN,
	CONF_SCHEDULER_SOURCE,
};

enum conf_on_all_down {
	CONF_ALL_DOWN_RESET,
	CONF_ALL_DOWN_DROP,
	CONF_ALL_DOWN_FORWARD,  // as if all were up
	CONF_ALL_DOWN_WITHDRAW, // reset, and weir0 gives up the addresses that it listens on
};

enum conf_on_remove { CONF_REMOVE_DRAIN, CONF_REMOVE_RESET };

enum conf_on_idle { CONF_IDLE_DROP, CONF_IDLE_RESET };

enum conf_on_down { CONF_DOWN_AUTO, CONF_DOWN_KEEP, CONF_DOWN_RESET };

struct conf_prefixes {
	struct net_prefix *list; // host bits are 0
	unsigned nb;
};

struct conf_service {
	char *name;
	sa_family_t family; // of its backends, and so of its listen addresses
	struct conf_listen *listens;
	unsigned nb_listens;
	enum conf_scheduler scheduler;
	enum conf_on_all_down on_all_down;
	unsigned slow_start_ms; // of backends that don't say otherwise
	// Clients that may connect, none = all, and that may not: the longest prefix that matches
	// in either list decides.
	struct conf_prefixes allow, deny;
	// What becomes of the connections of a backend that leaves the file; of one that is down.
	enum conf_on_remove on_remove;
	enum conf_on_down on_down;
	unsigned on_down_reset_ms;
	unsigned hold_resets_s;    // at most, when all backends of a vicinity are down; 0 = never
	enum conf_on_idle on_idle; // what becomes of a connection that was idle for too long
	unsigned timeout_s[CONF_TIMEOUTS]; // seconds; 0 = those of struct conf
	unsigned connect_timeout_ms; // how long a backend may leave a SYN unanswered; 0 = any time
	unsigned connect_tries;      // backends that a connection is offered to
	unsigned retry_budget;       // percent of the connects that may be moved for silence
	struct conf_health health;
	struct conf_passive passive;
	struct conf_backend *backends;
	unsigned nb_backends;
	unsigned nb_names; // backends that are DNS names

	// This module's own: how it stands in the file, to know it again by.
	char *text; // from its name to its last }; NULL = parts of it are included
	size_t text_size;
	unsigned nb_settings; // in it, and itself
	unsigned references;  // of configurations and others; atomic
};

struct conf {
	char *instance; // "" or the suffix of the file prefix: "b" gives weir-b
	struct conf_port port;
	struct conf_cores cores;
	struct conf_snat snat;
	unsigned flows;                    // size of the flow table of each family that is in use
	bool flows_persist;                // it is kept for the next start
	unsigned timeout_s[CONF_TIMEOUTS]; // seconds
	struct net_endpoint resolvers[CONF_RESOLVERS_MAX]; // none = those of /etc/resolv.conf
	unsigned nb_resolvers;
	struct conf_service **services; // shared with the configuration before a reload
	unsigned nb_services;
	char *text;    // the file's, with what it includes in place of the includes
	char *exposed; // the first of the files that others may write; NULL = none
};

/* What was wrong, ready to print: "file:line: key: what is wrong; what would be right". */
struct conf_error {
	char text[512];
};

/*
 * Read and check the file. Returns the configuration, to be freed with conf_free(), or NULL with
 * `error` filled in; then nothing is left behind. Never blocks on what isn't a regular file.
 */
struct conf *conf_load(const char *path, struct conf_error *error);

/*
 * Read and check the file as conf_load() does, with the same result and the same messages, but
 * faster where `former`, which was loaded before, has services that stand in the file as they did:
 * these are shared with it, not read.
 */
struct conf *conf_reload(const char *path, const struct conf *former, struct conf_error *error);

/* A process whose connections another one is to go on with. */
struct conf_succeeded {
	const struct conf *running;
	uint32_t nb_open; // connections, of the family that has more
};

/*
 * Read and check the file as conf_load() does, for a process that is to take over from another one:
 * refuses, besides, what would cost the connections that are open.
 */
struct conf *conf_load_successor(
	const char *path, const struct conf_succeeded *succeeded, struct conf_error *error);

/* Free a configuration; conf_free(NULL) is fine. */
void conf_free(struct conf *conf);

/* Return the service, counted once more, to be had for longer than its configuration. */
struct conf_service *conf_service_get(const struct conf_service *service);
/* Give a service back that conf_service_get() returned; conf_service_put(NULL) is fine. */
void conf_service_put(struct conf_service *service);

/* Free some of a configuration: true when all is freed. For a thread that has other things
 * to do in between. */
bool conf_free_part(struct conf *conf);

/* Return the scheduler's name in the file: "maglev", "least_conn" ... */
const char *conf_scheduler_name(enum conf_scheduler scheduler);

/* A key, for documentation. */
struct conf_reference {
	const char *path;    // "services.NAME.backends[].weight"
	const char *value;   // what it takes, with its range
	const char *initial; // its default in words, "" where there is none
	const char *doc;     // one line
	bool required;
	bool restart; // a running weir doesn't take a change of it
};

/* Call `row` for each key, in the order in which they are documented. */
void conf_reference_each(void (*row)(void *arg, const struct conf_reference *reference), void *arg);

/* Print all keys as the Markdown of conf/weir.conf.5.md, with a section for each key
 * of the top level. */
void conf_reference_print(FILE *out);

#endif
