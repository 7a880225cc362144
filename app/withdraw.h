/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Addresses that weir0 gives up while a service that listens on them has no backend (on_all_down =
 * "withdraw"), so that a routing daemon stops to announce them.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_WITHDRAW_H
#define WEIR_WITHDRAW_H

#include <stdbool.h>

#include "conf.h"

struct backends;
struct exception;

/* Bring weir0 in line with what the services have. `withdrawn`: by address of the port, as it is,
 * and will be. False: something failed, try again. */
bool withdraw_update(bool withdrawn[CONF_ADDRESSES_MAX], const struct backends *backends,
	const struct conf_port *port, struct exception *exception);

#endif
