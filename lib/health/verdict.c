/* SPDX-License-Identifier: BSD-3-Clause */
#include "verdict.h"

void verdict_init(
	struct verdict *verdict, enum health_state state, unsigned *fails, unsigned nb_sources)
{
	*verdict = (struct verdict){.state = state, .fails = fails, .nb_sources = nb_sources};
	for (unsigned i = 0; fails != NULL && i < nb_sources; i++)
		fails[i] = state == HEALTH_UP ? 0 : 1;
}

static bool all_passed(const struct verdict *verdict)
{
	bool all = true;

	for (unsigned i = 0; verdict->fails != NULL && i < verdict->nb_sources; i++)
		all &= verdict->fails[i] == 0;
	return all;
}

/* Whether a failure is the last one of enough, from whatever addresses or from its own. */
static bool has_fallen(const struct verdict *verdict, unsigned source, unsigned fall)
{
	return verdict->state == HEALTH_UNKNOWN || verdict->run >= fall ||
		(verdict->fails != NULL && verdict->fails[source] >= fall);
}

static bool has_risen(const struct verdict *verdict, unsigned rise)
{
	return (verdict->state == HEALTH_UNKNOWN || verdict->run >= rise) && all_passed(verdict);
}

bool verdict_add(
	struct verdict *verdict, unsigned source, bool passed, unsigned rise, unsigned fall)
{
	enum health_state says = passed ? HEALTH_UP : HEALTH_DOWN;

	if (verdict->fails != NULL)
		verdict->fails[source] = passed ? 0 : verdict->fails[source] + 1;
	if (verdict->state == says) {
		verdict->run = 0;
		return false;
	}
	verdict->run++;
	if (passed ? !has_risen(verdict, rise) : !has_fallen(verdict, source, fall))
		return false;
	verdict->state = says;
	verdict->run = 0;
	return true;
}
