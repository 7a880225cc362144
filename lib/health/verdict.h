/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From single results to a state. The first result decides at once; after that `fall` failures in a
 * row bring a target down and `rise` successes in a row bring it up. A result that agrees with the
 * state starts the count again, so that scattered losses never add up (case D3).
 *
 * Probes may come from several source addresses by turns, which a backend may tell apart. `fall`
 * failures in a row of any one address bring the target down, too, and it is up only when the
 * latest probe from each has passed. Pure: no clock.
 */
#ifndef WEIR_VERDICT_H
#define WEIR_VERDICT_H

#include <stdbool.h>

#include "health.h"

struct verdict {
	enum health_state state;
	unsigned run; // results in a row that speak against the state
	// By source address: failures in a row, or 1 when none has passed yet; NULL = there is one.
	unsigned *fails;
	unsigned nb_sources;
};

/* Make a verdict in that state, as if each source address had said so. `fails`: the caller's room
 * for as many numbers as there are addresses; NULL = there is one. */
void verdict_init(
	struct verdict *verdict, enum health_state state, unsigned *fails, unsigned nb_sources);

/* Take in one result, of a probe from the `source`-th address, and tell whether the state has
 * changed. A zeroed struct is "unknown", from one address. */
bool verdict_add(
	struct verdict *verdict, unsigned source, bool passed, unsigned rise, unsigned fall);

#endif
