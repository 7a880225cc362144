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

static void add(struct service_choice *choice, const struct service_member *member, uint64_t now_ms)
{
	uint32_t tenths = service_member_tenths(member, now_ms);

	if (tenths < WHOLE) {
		uint64_t grows = grows_ms(member, tenths);
		if (choice->next_ms == 0 || grows < choice->next_ms)
			choice->next_ms = grows;
	}
	choice->ids[choice->count] = member->id;
	choice->limits[choice->count] = member->max_conns;
	choice->weights[choice->count++] =
		(struct scheduler_backend){member->identity, member->weight * tenths};
}

int service_choice_init(struct service_choice *choice, const struct service_member *members,
	uint32_t count, uint64_t now_ms)
{
	bool limited = false;

	*choice = (struct service_choice){
		.ids = calloc(count + 1, sizeof(*choice->ids)),
		.weights = calloc(count + 1, sizeof(*choice->weights)),
		.limits = calloc(count + 1, sizeof(*choice->limits)),
		.backups = true,
	};
	if (choice->ids == NULL || choice->weights == NULL || choice->limits == NULL) {
		service_choice_fini(choice);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < count && choice->backups; i++)
		choice->backups = !may_have(&members[i], false);
	for (uint32_t i = 0; i < count; i++) {
		if (!may_have(&members[i], choice->backups))
			continue;
		add(choice, &members[i], now_ms);
		limited |= members[i].max_conns != 0;
	}
	choice->backups &= choice->count != 0;
	if (choice->next_ms == 0) // nobody grows: the weights as they stand in the file
		for (uint32_t i = 0; i < choice->count; i++)
			choice->weights[i].weight /= WHOLE;
	if (!limited) {
		free(choice->limits);
		choice->limits = NULL;
	}
	return 0;
}

void service_choice_fini(struct service_choice *choice)
{
	free(choice->ids);
	free(choice->weights);
	free(choice->limits);
	*choice = (struct service_choice){0};
}
