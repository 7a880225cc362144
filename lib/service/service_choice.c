/* SPDX-License-Identifier: BSD-3-Clause */
#include "service_choice.h"

#include <errno.h>
#include <stdlib.h>

// A weight grows in so many steps, so often is the schedule built anew. While one grows, all
// weights count so much more, which schedulers have room for.
enum { WHOLE = 10 };

_Static_assert(SERVICE_WEIGHT_MAX *WHOLE <= SCHEDULER_MAX_WEIGHT, "weights of the file, scaled");

uint32_t service_member_tenths(const struct service_member *member, uint64_t now_ms)
{
	uint64_t age_ms = now_ms > member->up_since_ms ? now_ms - member->up_since_ms : 0;

	if (age_ms >= member->slow_start_ms)
		return WHOLE;
	return 1 + age_ms * (WHOLE - 1) / member->slow_start_ms;
}

/* When it has one tenth more than now. */
static uint64_t grows_ms(const struct service_member *member, uint32_t tenths)
{
	uint64_t age_ms =
		((uint64_t)member->slow_start_ms * tenths + WHOLE - 2) / (WHOLE - 1); // rounded up

	return member->up_since_ms + age_ms;
}

static bool may_have(const struct service_member *member, bool backups)
{
	return member->usable && member->weight != 0 && member->backup == backups;
}

static void fini(struct service_choices *choices)
{
	free(choices->ids);
	free(choices->weights);
	free(choices->limits);
}

static bool allocate(struct service_choices *choices, uint32_t count)
{
	choices->ids = calloc(count, sizeof(*choices->ids));
	choices->weights = calloc(count, sizeof(*choices->weights));
	choices->limits = calloc(count, sizeof(*choices->limits));
	return choices->ids != NULL && choices->weights != NULL && choices->limits != NULL;
}

/* Take the primaries, or the backups. Returns when a weight of theirs grows next, 0 = they stay. */
static uint64_t take(struct service_choices *choices, const struct service_member *members,
	uint32_t count, bool backups, uint64_t now_ms)
{
	uint64_t next_ms = 0;
	bool limited = false;

	for (uint32_t i = 0; i < count; i++) {
		if (!may_have(&members[i], backups))
			continue;
		uint32_t tenths = service_member_tenths(&members[i], now_ms);
		if (tenths < WHOLE) {
			uint64_t grows = grows_ms(&members[i], tenths);
			if (next_ms == 0 || grows < next_ms)
				next_ms = grows;
		}
		limited |= members[i].max_conns != 0;
		choices->ids[choices->count] = members[i].id;
		choices->limits[choices->count] = members[i].max_conns;
		choices->weights[choices->count++] =
			(struct scheduler_backend){members[i].identity, members[i].weight * tenths};
	}
	if (next_ms == 0) // nobody grows: the weights as they stand in the file
		for (uint32_t i = 0; i < choices->count; i++)
			choices->weights[i].weight /= WHOLE;
	if (!limited) {
		free(choices->limits);
		choices->limits = NULL;
	}
	return next_ms;
}

static uint32_t count_of(const struct service_member *members, uint32_t count, bool backups)
{
	uint32_t nb = 0;

	for (uint32_t i = 0; i < count; i++)
		nb += may_have(&members[i], backups);
	return nb;
}

static uint64_t earlier(uint64_t a_ms, uint64_t b_ms)
{
	return a_ms == 0 || (b_ms != 0 && b_ms < a_ms) ? b_ms : a_ms;
}

int service_choice_init(struct service_choice *choice, const struct service_member *members,
	uint32_t count, uint64_t now_ms)
{
	uint32_t primaries = count_of(members, count, false);
	uint32_t backups = count_of(members, count, true);

	*choice = (struct service_choice){.on_backups = primaries == 0 && backups != 0};
	if (choice->on_backups) {
		primaries = backups;
		backups = 0;
	}
	if ((primaries != 0 && !allocate(&choice->candidates, primaries)) ||
		(backups != 0 && !allocate(&choice->backups, backups))) {
		service_choice_fini(choice);
		return -ENOMEM;
	}
	if (primaries != 0)
		choice->next_ms =
			take(&choice->candidates, members, count, choice->on_backups, now_ms);
	if (backups != 0)
		choice->next_ms = earlier(
			choice->next_ms, take(&choice->backups, members, count, true, now_ms));
	return 0;
}

void service_choice_fini(struct service_choice *choice)
{
	fini(&choice->candidates);
	fini(&choice->backups);
	*choice = (struct service_choice){0};
}
