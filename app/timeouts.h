/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WEIR_TIMEOUTS_H
#define WEIR_TIMEOUTS_H

#include <stdint.h>

#include "tcp_state.h"

struct conf;
struct conf_service;
struct worker;

/* A service's own, by state; 0 = the file's for all. */
void timeouts_of_service(const struct conf_service *service, uint16_t timeout_s[TCP_STATES]);

/* The longest of all services, by state. */
void timeouts_longest(const struct conf *conf, uint16_t timeout_s[TCP_STATES]);

/*
 * Give the workers the file's timeouts; they may be running. Those that services have for themselves
 * come with the service table. So a reload takes two steps, lest a connection be forgotten by the old
 * time of its service or by the new one of all: those that grow before the table is published, all
 * when it has been. Control core.
 */
enum timeouts_step { TIMEOUTS_RAISE, TIMEOUTS_ALL };
void timeouts_set(struct worker *workers, unsigned nb_workers, const struct conf *conf,
	enum timeouts_step step);

#endif
