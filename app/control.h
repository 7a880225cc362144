/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control core's wiring: what the file, the probes and the kernel's routes say goes into the
 * registry (backends.h), and what changed there is published (publish.h).
 *
 * Thread rule: on the control core's event loop. Telemetry reads the registry under daemon.lock,
 * which the control core holds while it changes it.
 */
#ifndef WEIR_CONTROL_H
#define WEIR_CONTROL_H

#include <stdint.h>

struct backends;
struct control;
struct control_service;
struct daemon;

/* Build everything from the configuration, start probing and publish a first table. NULL and errno. */
struct control *control_create(struct daemon *daemon);
/* The workers must have ended. control_destroy(NULL) is fine. */
void control_destroy(struct control *control);

/* Under daemon.lock, or on the event loop. */
const struct backends *control_backends(const struct control *control);

/* The service's candidates or weights changed: they are published a moment later, with all else that
 * changes until then. */
void control_service_changed(struct control *control, struct control_service *service);

#endif
