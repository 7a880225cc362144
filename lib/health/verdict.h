/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From single results to a state. The first result decides at once; after that `fall` failures in a
 * row bring a target down and `rise` successes in a row bring it up. A result that agrees with the
 * state starts the count again, so that scattered losses never add up (case D3). Pure: no clock.
 */
#ifndef WEIR_VERDICT_H
#define WEIR_VERDICT_H

#include <stdbool.h>

#include "health.h"

struct verdict {
	enum health_state state;
	unsigned run; // results in a row that speak against the state
};

/* Take in one result, and tell whether the state has changed. A zeroed struct is "unknown". */
bool verdict_add(struct verdict *verdict, bool passed, unsigned rise, unsigned fall);

#endif
