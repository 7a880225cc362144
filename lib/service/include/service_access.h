/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who may connect to a service: prefixes to allow and to deny, of which the longest that matches
 * decides. Asked for a connection's first SYN only.
 *
 * Thread rule: immutable but for its count of references; any thread.
 */
#ifndef WEIR_SERVICE_ACCESS_H
#define WEIR_SERVICE_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"

struct service_access;

/*
 * Create the lists of who may connect, of prefixes of one family. Who matches none is denied when
 * `allow` has any, else allowed; a prefix in both is denied. Arrays are copied. One reference, the
 * caller's. NULL and errno on failure.
 */
struct service_access *service_access_create(const struct net_prefix *allow, uint32_t nb_allow,
	const struct net_prefix *deny, uint32_t nb_deny);

struct service_access *service_access_get(struct service_access *access);
/* Give a reference back; the last one frees the lists. service_access_put(NULL) is fine. */
void service_access_put(struct service_access *access);

/* Tell whether the client may connect. `addr`: 4 or 16 bytes, as the family is. */
bool service_access_allows(const struct service_access *access, const void *addr);

/* Return the bytes of memory behind the lists. */
size_t service_access_size(const struct service_access *access);

#endif
