/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WEIR_TIMEOUTS_H
#define WEIR_TIMEOUTS_H

#include <stdint.h>

#include "conf.h"
#include "tcp_state.h"

struct worker;

/* Give a service's own timeouts, by state; 0 = the file's for all. */
void timeouts_of_service(const struct conf_service *service, uint16_t timeout_s[TCP_STATES]);

/*
 * Give the timeouts that count for a flow of the service that was idle while no process was there;
 * NULL: of one that isn't in the file any more. Established ones whose ends are to be told stay for
 * the first sweep, which does that.
 */
void timeouts_at_start(const struct conf *conf, const struct conf_service *service,
	uint16_t timeout_s[TCP_STATES]);

/*
 * Give the workers the file's timeouts; they may be running. Those that services have for
 * themselves come with the service table. So a reload takes two steps, lest a connection be
 * forgotten by the old time of its service or by the new one of all: those that grow before the
 * table is published, all when it has been. `least_s`: the shortest of any service and the file.
 * Control core.
 */
enum timeouts_step { TIMEOUTS_RAISE, TIMEOUTS_ALL };
void timeouts_set(struct worker *workers, unsigned nb_workers, const struct conf *conf,
	const unsigned least_s[CONF_TIMEOUTS], enum timeouts_step step);

#endif
