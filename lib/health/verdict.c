/* SPDX-License-Identifier: BSD-3-Clause */
#include "verdict.h"

bool verdict_add(struct verdict *verdict, bool passed, unsigned rise, unsigned fall)
{
	enum health_state says = passed ? HEALTH_UP : HEALTH_DOWN;

	if (verdict->state == says) {
		verdict->run = 0;
		return false;
	}
	verdict->run++;
	if (verdict->state != HEALTH_UNKNOWN && verdict->run < (passed ? rise : fall))
		return false;
	verdict->state = says;
	verdict->run = 0;
	return true;
}
