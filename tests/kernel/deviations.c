/* SPDX-License-Identifier: BSD-3-Clause */
#include "deviations.h"

#include <fnmatch.h>
#include <stdio.h>

#define LIVES_ON DEVIATION_LIVES_ON
#define NUMBERS DEVIATION_NUMBERS
#define STATE DEVIATION_STATE
#define STAYS DEVIATION_STAYS

static struct {
	enum deviation what;
	const char *rows; // fnmatch, with FNM_EXTMATCH
	const char *reason;
	unsigned nb_rows; // that needed it
} list[] = {
	{LIVES_ON, "*/@(data|ack|probe|keepalive|no-flags|fin)/*",
		"numbers of plain segments are compared with no window"},
	{LIVES_ON, "syn-@(sent|recv)/@(syn|syn-ack)/*", "to be mended: any SYN counts there"},
	{LIVES_ON, "*/@(rst|rst-ack)/*", "to be mended (W11): any RST after a FIN; MD5, routes"},
	{NUMBERS, "*/@(data|ack|probe|keepalive|no-flags|fin)/*",
		"to be mended (W10): any number counts"},
	{NUMBERS, "*/@(syn|syn-ack|rst|rst-ack)/@(other-mac|other-mac,wrong-sum)/from-client/*",
		"to be mended (S5): the client's MAC is learnt of anything"},
	{NUMBERS, "syn-@(sent|recv)/@(syn|syn-ack|rst|rst-ack|unreachable)/*",
		"to be mended: any SYN counts there"},
	{STATE, "@(fin-wait|last-ack|closing|time-wait|syn-recv|syn-sent|close:)*",
		"to be mended (W1, W11)"},
	{STATE, "close-wait:*/@(fin|rst|rst-ack|syn)/*", "to be mended (W1, W11)"},
	{STATE, "established*/@(fin|rst|rst-ack)/*", "to be mended (W10, W12)"},
	{STAYS, "*", "to be mended (W1, W10)"},
};

enum { ENTRIES = sizeof(list) / sizeof(list[0]) };

bool deviation_is_listed(const char *row, enum deviation what)
{
	for (unsigned i = 0; i < ENTRIES; i++) {
		if (list[i].what != what || fnmatch(list[i].rows, row, FNM_EXTMATCH) != 0)
			continue;
		list[i].nb_rows++;
		return true;
	}
	return false;
}

unsigned deviations_report(void)
{
	unsigned nb_needless = 0;

	for (unsigned i = 0; i < ENTRIES; i++) {
		printf("%5u rows: %s: %s\n             %s\n", list[i].nb_rows,
			deviation_names[list[i].what], list[i].rows, list[i].reason);
		if (list[i].nb_rows != 0)
			continue;
		printf("FAILED: no row needs that entry\n");
		nb_needless++;
	}
	return nb_needless;
}
