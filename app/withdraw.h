/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Addresses that weir0 gives up while no service that listens on them has a backend (on_all_down =
 * "withdraw"), so that a routing daemon stops to announce them. As long as it isn't known whether
 * one has, they stay as they are: at a start, as the process before had left them.
 *
 * Thread rule: on the control core's event loop, or before there is one.
 */
#ifndef WEIR_WITHDRAW_H
#define WEIR_WITHDRAW_H

#include <stdbool.h>

#include "conf.h"

struct backends;
struct exception;

/* Mark, by address of the port, those that weir0 need not have before a service has a backend. The
 * others are left as they are. */
void withdraw_begin(bool withdrawn[CONF_ADDRESSES_MAX], const struct conf *conf);

/* Bring weir0 in line with what the services have. `withdrawn`: by address of the port, as it is,
 * and will be. False: something failed, or isn't known yet; try again. */
bool withdraw_update(bool withdrawn[CONF_ADDRESSES_MAX], const struct backends *backends,
	const struct conf_port *port, const struct exception *exception);

#endif
