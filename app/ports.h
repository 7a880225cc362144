/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How full the SNAT ports are: a line in the log when four fifths of those towards a backend are in
 * use, and when connections found none. Telemetry tells the same in numbers.
 *
 * Thread rule: on the control core's event loop; ports_use() also by telemetry under daemon.lock.
 */
#ifndef WEIR_PORTS_H
#define WEIR_PORTS_H

#include <stdbool.h>
#include <stdint.h>

struct backends;
struct control_backend;
struct event_base;
struct ports;
struct service_snat;

/* The ports of one SNAT address towards one backend. */
struct ports_use {
	uint32_t used;
	uint32_t size;
	unsigned percent;
	bool is_high; // four fifths, until it is below seven tenths again
};

/* Look at all backends about once a second. NULL and errno on failure. */
struct ports *ports_create(struct event_base *events, struct backends *backends);
void ports_destroy(struct ports *ports);

/* Return the SNAT addresses towards the backend. */
const struct service_snat *ports_addresses(
	const struct backends *backends, const struct control_backend *backend);

/* Read how many ports of one SNAT address are in use. `index`: of ports_addresses(). */
void ports_use(const struct backends *backends, const struct control_backend *backend,
	uint32_t index, struct ports_use *use);

#endif
