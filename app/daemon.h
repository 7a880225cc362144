/* SPDX-License-Identifier: BSD-3-Clause */
/* What the process is made of. main.c builds it in order and undoes it in reverse. */
#ifndef WEIR_DAEMON_H
#define WEIR_DAEMON_H

#include <pthread.h>

#include "conf.h"
#include "dev.h"
#include "endpoints.h"
#include "flow_adopt.h"
#include "flow_file.h"
#include "hash.h"
#include "options.h"
#include "probe_ports.h"
#include "rss_check.h"
#include "worker.h"

struct event_base;

struct daemon {
	struct options options;
	struct conf *conf;
	struct flow_secrets secrets; // of this process and those before and after it
	bool forget;                 // when it ends nothing is left for the next one
	struct dev_port port;
	struct exception *exception;
	struct event_base *events; // the control core's loop
	struct signals *signals;
	struct rte_rcu_qsbr *rcu;  // readers: workers by number, behind them telemetry
	struct flow_table *flows4; // NULL when no service has the family
	struct flow_table *flows6;
	struct flow_file files[2];           // behind them, by stats_family(); fd -1 = none
	struct flow_adopt_result adopted[2]; // of `files`
	uint32_t adopted_ms;                 // that the adoption took
	struct keep *keep;
	struct macs *macs;               // of the kernel's neighbours
	struct snat_ports snat_ports[2]; // by stats_family()
	struct rss_check rss;
	struct control *control;
	struct apply *apply;
	struct reload *reload;
	struct resolver *resolver;
	struct command *command;        // the control socket
	struct stall *stall;            // of workers
	struct own_side *own_side;      // the port's link, weir0
	struct notify *notify;          // systemd
	struct service_table *services; // published: control swaps, workers load; atomic
	struct worker *workers;         // nb_workers of the port
	struct stats_backend *counters[CONF_WORKERS_MAX];     // of `workers`, by backend id
	const struct pipeline_fails *fails[CONF_WORKERS_MAX]; // NULL: not there yet
	struct probe_ports probe_ports;                       // control: writes; workers: read
	struct worker_spray *spray;                           // tests only
	bool withdrawn[CONF_ADDRESSES_MAX];                   // addresses that weir0 hasn't for now
	uint64_t started_ms;

	// Control core and telemetry threads, never workers: held while the control core changes
	// what telemetry reads.
	pthread_mutex_t lock;
};

/* Warn of a configuration's file that others may write. */
void daemon_tell_exposed(const struct conf *conf);
/* Warn of a gateway that lies in none of the port's networks: it may be meant, or mistyped. */
void daemon_tell_far_gateways(const struct conf *conf);

/* End the process, by the event loop. `forget`: nothing is left for the next one. */
void daemon_end(struct daemon *daemon, bool forget);

#endif
