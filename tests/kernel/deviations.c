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
	{LIVES_ON, "*/@(data|ack|probe|keepalive|fin)/*",
		"a connection whose plain segments come is alive, whatever their numbers"},
	{LIVES_ON, "@(syn-sent|syn-recv)/@(syn|syn-ack)/*",
		"who still sends the segments of a handshake is alive"},
	{LIVES_ON, "close:*/@(rst|rst-ack)/*",
		"the record stays for another minute, its port is free since the first RST"},

	{NUMBERS, "*/@(data|fin)/@(ack-old|old-timestamp)/*",
		"who knows where the stream ends sees it: no older numbers are asked"},
	{NUMBERS, "*/@(fin|keepalive|probe)/out-of-window/*",
		"the acknowledgement is exact: it may be behind segments lost on the way to Weir"},
	{NUMBERS, "last-ack:*/@(data|ack|probe|keepalive|fin)/*",
		"a FIN that isn't acknowledged yet is a stranger's when data come behind it"},
	{NUMBERS, "*/@(data|ack|probe|keepalive|fin|rst|rst-ack|syn)/other-mac/from-client/*",
		"the client is where a segment came from last, if its checksum is right"},
	{NUMBERS, "time-wait:*/@(rst|rst-ack)/*",
		"over is over, TIME_WAIT or CLOSE; the port was free before"},
	{NUMBERS, "syn-recv/syn-ack/*",
		"it acknowledges the SYN: which of two answers the client took, Weir can't know"},

	{STATE, "@(fin-wait|closing|last-ack|syn-recv)*/@(data|ack|probe|keepalive|fin)/*",
		"it acknowledges exactly the number behind a SYN or FIN: who knows that has got "
		"it"},
	{STATE, "*/@(rst|rst-ack)/old-timestamp/*",
		"the number is exact: who knows it sees the connection"},
	{STATE, "@(established:data|fin-wait:@(client|backend))-lost/@(rst|rst-ack)/*",
		"a RST at the end of what was sent; what was lost Weir has seen"},
	{STATE,
		"syn-sent/@(data|ack|probe|keepalive|fin|syn-ack)/@(ack-ahead|ack-old)/"
		"from-backend/*",
		"Weir answers a challenge in the client's place"},
	{STATE, "syn-sent/syn/*/from-client/*",
		"the client's SYN again: the backend was silent so long, which Weir counts"},
	{STATE, "time-wait:client-first,lost/syn/*/from-client/*/moved",
		"the only SNAT port is lent again while the backend waits for the last ACK"},
	{STATE, "syn-sent2/@(rst|rst-ack)/*/from-client/*",
		"both open at once: whether the client's SYN has arrived Weir can't know"},
	{STATE, "syn-sent/unreachable/@(ah|source-route)/from-backend/*",
		"an error's own headers aren't looked at; it moves the SYN, no more"},

	{STAYS, "syn-sent?(2)/unreachable/*", "no ICMP error ends a flow (RFC 5382, REQ-10)"},
	{STAYS, "@(syn-sent?(2)|syn-recv|established:ack-lost)/*/@(ah|source-route)/*",
		"the answer is an ICMP error, and none ends a flow (RFC 5382, REQ-10)"},
	{STAYS, "syn-sent2/@(syn|rst-ack)/@(in-window|out-of-window|old)/from-client/*",
		"both open at once: a backend without the client's SYN takes any number"},
	{STAYS, "@(time-wait|close):*/syn/urgent/from-client/*",
		"only a pure SYN makes a flow (B13)"},
	{STAYS, "@(syn-recv|established:ack-lost)/syn/in-window/from-client/*",
		"Linux ends a half-open connection by any SYN in its window; RFC 5961, 4 doesn't"},
	{STAYS, "last-ack:backend-first/syn/out-of-window/from-client/*",
		"the backend says whether it has the connection yet (A13)"},
	{STAYS, "last-ack:*/@(rst|rst-ack)/md5/*", "Linux asks for no signature in TIME_WAIT"},
	{STAYS, "@(fin-wait|closing|last-ack)*/@(data|ack|probe|keepalive|fin)/*",
		"a FIN that isn't acknowledged yet is a stranger's when data come behind it"},
	{STAYS, "established:data-lost/fin/at-ack/*",
		"a FIN before the end of what its side has sent isn't its side's"},
	{STAYS, "syn-recv/fin/*/from-backend/*",
		"Weir hasn't seen the client's ACK; the FIN counts when it comes again"},
	{STAYS, "syn-recv/syn-ack/*",
		"it acknowledges the SYN: which of two answers the client took, Weir can't know"},
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
