/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control core's state of services and backends: it gathers what health and route say, builds
 * the service table and publishes it.
 *
 * Thread rule: everything on the control core's event loop. Telemetry reads the structs below
 * under daemon.lock; the control core holds it while it changes them.
 */
#ifndef WEIR_CONTROL_H
#define WEIR_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "health.h"
#include "route.h"

struct control;
struct daemon;

struct control_backend {
	const struct conf_backend *conf;
	uint32_t id;
	uint32_t service;
	uint32_t generation;
	struct control_endpoint *endpoint;
	struct health_target *health_target;
	struct route_target *route_target;
	struct health_status health; // copies of what the targets said last
	struct route_hop hop;
};

struct control_service {
	const struct conf_service *conf;
	uint32_t first_backend;      // ids first_backend to first_backend + nb_backends - 1
	uint32_t nb_backends;
	struct service *built;       // as published
	bool changed;                // to be built anew
};

/* Build everything from the configuration, start probing and publish a first table. NULL and errno. */
struct control *control_create(struct daemon *daemon);
/* The workers must have ended. control_destroy(NULL) is fine. */
void control_destroy(struct control *control);

/* Under daemon.lock. */
const struct control_service *control_services(const struct control *control, uint32_t *count);
const struct control_backend *control_backends(const struct control *control, uint32_t *count);
/* Whether new connections may go to it. */
bool control_backend_usable(const struct control_backend *backend);

/* The local ports that SNAT addresses lend, from the file or the kernel's leftovers. 0 or -errno. */
int control_snat_create(struct daemon *daemon);

#endif
