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

struct control_backend;
struct control_service;
struct publish_service;
struct service_member;

/* Fill in what is to be built, from a service with conf. 0 or -ENOMEM; what was filled in until
 * then is publish_job_destroy()'s either way. */
int candidates_collect(struct control_service *service, struct publish_service *publish);

/* Fill in what the choice goes by. */
void candidates_member(const struct control_backend *backend, struct service_member *member);

#endif
