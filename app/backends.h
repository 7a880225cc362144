/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry of services and backends across configurations. A service is known by its name, a
 * backend within it by address and port: what has both before and after a reload is the same thing,
 * with its id, health, counters and flows, whatever else about it changed.
 *
 * A backend's life:
 *     LISTED   in the file (or an address of a name in it)
 *     LEAVING  not any more, but nobody who is listed can have connections yet, and somebody who
 *              came has no verdict: until then it goes on, for new connections, too
 *     REMOVED  not any more, but flows may be left: its id, next hop and SNAT ports stay, and so
 *              do its service's timeouts, probes and judgement
 *     GONE     without flows; its row is blank, and its id is free again once no worker has a table
 *              that says otherwise
 * Put back into the file while LEAVING or REMOVED, it is LISTED again, flows and all. A service
 * that leaves the file stays as it was there until its last backend is gone, but for new
 * connections.
 *
 * Thread rule: changed on the control core's event loop under daemon.lock; telemetry reads under
 * it. The event loop reads without.
 */
#ifndef WEIR_BACKENDS_H
#define WEIR_BACKENDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "conf.h"
#include "endpoints.h"
#include "hand.h"
#include "health.h"
#include "passive.h"
#include "route.h"
#include "service.h"
#include "stats.h"
#include "stats_connect.h"

struct id_pool;
struct resolver;
struct watch;

// Ids that removed backends still hold come on top of those in the file.
#define BACKENDS_IDS_MAX (CONF_BACKENDS_MAX * 2)

// In this order; new connections go to the first two.
enum backend_life { BACKEND_LISTED, BACKEND_LEAVING, BACKEND_REMOVED, BACKEND_GONE };

struct control_backend {
	// A copy with strings of its own; the endpoint is the one in use, of a DNS name one
	// address.
	struct conf_backend conf;
	struct control_service *service;
	uint32_t id;
	uint32_t generation;
	enum backend_life life;
	uint64_t left_at; // publication that told the workers of the latest step in life
	struct control_endpoint *endpoint;
	struct health_target *health_target; // NULL: not probed
	struct route_target *route_target;
	struct health_status health; // copies of what the targets said last
	struct route_hop hop;
	struct stats_backend before; // what the id's former owners counted
	struct stats_connect connects_before;
	uint64_t no_port_told; // in the log
	struct passive_backend passive;
	uint16_t epoch;     // grows when it takes connections again
	uint64_t plan;      // the last plan that lists it
	uint64_t down_ms;   // since when it is down; 0 = it isn't
	uint64_t held_ms;   // since when the reset that is due is held back; 0 = it isn't
	uint64_t spared_ms; // no reset before
	bool reset;         // the backend's flows are to be ended
	bool gathered;      // a candidate in the publication under way
	bool in_use;        // a candidate in the last publication: the workers know it
	// Set by hand until the next reload; -1 = as in the file.
	int temporary_state;
	int temporary_weight;
	struct hand hand;                         // whose it was last
	LIST_ENTRY(control_backend) health_entry; // of those that share a health target
	LIST_ENTRY(control_backend) route_entry;  // of those that share a route target
};

struct control_service {
	char name[CONF_NAME_MAX + 1];
	struct conf_service *conf;         // the last that it had, counted; NULL: it had none
	bool is_listed;                    // in the running configuration
	uint32_t index;                    // in the table; SERVICE_NONE without conf
	struct control_backend **backends; // listed ones as in the file, behind them the others
	uint32_t nb_listed;
	uint32_t nb_backends;          // all
	uint32_t nb_leaving;           // of these
	struct service_access *access; // NULL: everybody, or not made yet of this conf
	uint64_t grows_ms;             // when a backend's weight grows next; 0: they stay
	bool on_backups;               // no other backend is usable
	uint64_t past_connections;     // of backends that are no more
	struct stats_service before;   // what the index's former owners counted
	bool changed;                  // to be built anew
	bool is_empty;                 // no backend is usable
	bool resets_removed;           // on_remove, of the last conf
	uint64_t plan;                 // the last plan that lists it
};

struct backends {
	struct control_service **services; // listed ones as in the file, behind them the others
	uint32_t nb_listed;
	uint32_t nb_services; // all
	uint32_t nb_backends; // all, in all services
	struct control_backend **by_id;
	struct service_backend *rows; // by id: what the next table says
	uint32_t *changed_rows;       // ids of those that the last job hadn't so
	uint32_t nb_changed_rows;
	bool *row_changed;     // by id: it is one of them
	uint64_t *connections; // by id: the most that was told of it; atomic
	struct id_pool *ids;
	struct control_service **by_index;
	bool *index_published;   // the table has a service there
	struct id_pool *indices; // of services
	struct endpoints endpoints;
	struct resolver *resolver;       // NULL: names have no address (tests)
	struct watch *watch;             // NULL: nothing is probed (tests)
	struct passive *passive;         // NULL: nor judged by its connects (tests)
	uint64_t reset_round;            // grows when a backend's flows are to be ended
	struct service_key *key_changes; // addresses that came or went since the last job
	uint32_t nb_key_changes;
	uint32_t key_changes_room;
	bool all_keys;      // the changes aren't known: the next job has all keys
	bool has_temporary; // something may be set by hand
	uint64_t nb_plans;  // made so far
	uint64_t list;      // grows when a service or backend came, went or changed its place
	// What the workers counted for a backend's id or a service's index, in all; NULL: nothing.
	void (*count)(void *context, uint32_t id, struct stats_backend *sum);
	void (*count_service)(void *context, uint32_t index, struct stats_service *sum);
	void (*count_connects)(void *context, uint32_t id, struct stats_connect *sum);
	void *context;
};

/* Make an empty registry. 0 or -errno; backends_fini() is fine after either. */
int backends_init(
	struct backends *backends, const struct conf *conf, const struct snat_ports ports[2]);
void backends_fini(struct backends *backends);

/* Return the service of the name, listed or not; NULL when there is none. */
struct control_service *backends_find_service(const struct backends *backends, const char *name);

/* Return the n-th of all backends, service by service; NULL beyond the last. */
const struct control_backend *backends_at(const struct backends *backends, uint32_t n);

/* Create a service without backends and index, in no list yet. NULL and errno on failure. */
struct control_service *control_service_create(const char *name);
/* Free a service whose backends are gone. */
void control_service_destroy(struct control_service *service);

/*
 * Create a backend of the service with an id of its own, probed from now on, in no list yet.
 * `endpoint`: its address and port, as the file's may be a name. NULL and errno: ENOSPC when
 * there is no id.
 */
struct control_backend *control_backend_create(struct backends *backends,
	struct control_service *service, const struct conf_backend *conf,
	const struct net_endpoint *endpoint, const struct conf_health *health);
/* Free a backend that is in no list any more, and that no worker can know. */
void control_backend_destroy(struct backends *backends, struct control_backend *backend);

/* Copy a backend's configuration with strings of its own, for a backend at that
 * address. 0 or -ENOMEM. */
int control_backend_conf_copy(struct conf_backend *copy, const struct conf_backend *conf,
	const struct net_endpoint *endpoint);
void control_backend_conf_free(struct conf_backend *conf);

/* Sum up what was counted for the backend since it has its id. A connection may be opened on one
 * worker and closed on another between two of the reads. */
void control_backend_count(const struct backends *backends, const struct control_backend *backend,
	struct stats_backend *sum);

/*
 * Return the connections that were given to the backend since it has its id, without those that
 * another one was given before it answered; of those that are still to be moved it isn't known yet,
 * so it is the most that it ever was: who sums totals up is never told less than before.
 * Telemetry's threads, too.
 */
uint64_t control_backend_connections(
	const struct backends *backends, const struct control_backend *backend);

/* Give the index to the service, with what was counted for it before. */
void control_service_take_index(
	struct backends *backends, struct control_service *service, uint32_t index);
/* Take the index away from a service that ends, for another one. */
void control_service_leave_index(struct backends *backends, struct control_service *service);

/* Sum up what was counted for the service since it has its index. */
void control_service_count(const struct backends *backends, const struct control_service *service,
	struct stats_service *sum);

/* Give the shortest of the timeouts that the file has for all, and of those of any service, one
 * that left the file with connections open among them. */
void backends_least_timeouts(
	const struct backends *backends, const struct conf *conf, unsigned least_s[CONF_TIMEOUTS]);

/* Sum up what was counted of the backend's connects since it has its id. */
void control_backend_count_connects(const struct backends *backends,
	const struct control_backend *backend, struct stats_connect *sum);

/* Return the backend's health as telemetry tells it: what took it out last. */
const struct health_status *control_backend_health(const struct control_backend *backend);

/* See whether the service has a usable backend: true when that changed. */
bool control_service_look(struct control_service *service);

/* Return the backend's state as in the file, or as set by hand. */
enum conf_state control_backend_state(const struct control_backend *backend);
/* Return the backend's weight as in the file, or as set by hand. */
unsigned control_backend_weight(const struct control_backend *backend);

/* Tell whether new connections may go to the backend. */
bool control_backend_usable(const struct control_backend *backend);
/* Tell whether the backend may turn out usable at any moment. */
bool control_backend_awaited(const struct control_backend *backend);
/* Tell whether the backend is usable, or, where none is and on_all_down is "forward",
 * whether it might answer. */
bool control_backend_candidate(const struct control_backend *backend);

/* Tell whether a backend of a listed service may turn out usable at any moment: one that has no
 * verdict or no next hop yet, or a name without an answer. */
bool control_service_awaited(
	const struct backends *backends, const struct control_service *service);

/*
 * Remove those of the service's backends that are in the file no more, but for who can have
 * connections while nobody else can and somebody who came has no verdict: that one is leaving. To
 * be called again whenever something changed. `publication`: the next one's number. True when one
 * was removed. Under daemon.lock.
 */
bool control_service_let_go(
	struct backends *backends, struct control_service *service, uint64_t publication);

/* Return "active", "drain", "disabled"; or "leaving" or "removed": not in the file any more, and
 * serving until another one can, or with flows left. */
const char *control_backend_state_name(const struct control_backend *backend);

/* Write down for the next table what is known of the backend. */
void backends_row_update(struct backends *backends, const struct control_backend *backend);

/* Have the next job say the id's row again: what a job had of it isn't published. */
void backends_row_again(struct backends *backends, uint32_t id);

/* Give the addresses and ports of the backend to the packet path with a count of 1, or take
 * them back with -1. */
void backends_keys_of_backend(
	struct backends *backends, const struct control_backend *backend, int count);
/* Give the addresses and ports of the service, by its conf, to the packet path with a count of 1,
 * or take them back with -1. */
void backends_keys_of_service(struct backends *backends, const struct conf_port *port,
	const struct control_service *service, int count);

/* Return all addresses and ports that the packet path has to know. NULL for want of memory. */
struct service_key *backends_keys(
	const struct backends *backends, const struct conf *conf, uint32_t *nb_keys);

#endif
