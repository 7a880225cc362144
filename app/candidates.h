/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a service's schedule is built of: which of its backends take new connections now, and by
 * which weights.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_CANDIDATES_H
#define WEIR_CANDIDATES_H

#include <stdint.h>

struct control_service;
struct publish_service;

/* Fill in what is to be built, from a service with conf. 0 or -ENOMEM. */
int candidates_collect(const struct control_service *service, struct publish_service *publish);

#endif
