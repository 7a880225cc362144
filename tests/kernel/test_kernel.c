/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The judge is a real kernel. One packet of each kind, as it should be and odd in each way, goes
 * past Weir to a Linux socket in each state, in both families and either direction; and the kernel
 * says whether its receiver took it: whether anything has changed that the socket or its
 * application can see. Weir's record of the connection may change only then, and has to follow when
 * the socket's state changed. Nobody wrote down what is to happen but the kernel; what deviates
 * stands in deviations.c with its reason, and nothing stands there that doesn't.
 *
 * Usage: test_kernel [PATTERN]. The rows of the table whose names match (fnmatch), each with what
 * became of it; without a pattern a sample of the table, or all of it with WEIR_TEST_LONG.
 */
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "deviations.h"
#include "forge.h"
#include "host.h"
#include "trial.h"
#include "verdict.h"

enum { SKIPPED = 77, TRIES = 20, SAMPLE = 24, PRINTED_MAX = 100 };

struct row {
	struct trial_mode mode;
	const struct trial_state *state;
	enum forge_kind kind;
	enum forge_oddity oddity;
	enum flow_direction from;
	char name[128];
};

static struct {
	unsigned rows, taken, deviating, failed, again;
	unsigned taken_of[FORGE_KINDS];
	unsigned taken_wrong; // though the checksum was
} counts;

static const char *running = "no row";

/* What must hold in every row, and is checked by abort(), doesn't. */
static void say_row(int signal)
{
	(void)!write(STDERR_FILENO, running, strlen(running));
	(void)!write(STDERR_FILENO, "\n", 1);
}

/* --- rows --- */

static unsigned rows_a_mode(void)
{
	return trial_nb_states * FORGE_KINDS * FORGE_ODDITIES * FLOW_DIRECTIONS;
}

static struct row row_at(unsigned index, const struct trial_mode *mode)
{
	struct row row = {.mode = *mode};

	row.from = index % FLOW_DIRECTIONS;
	index /= FLOW_DIRECTIONS;
	row.oddity = index % FORGE_ODDITIES;
	index /= FORGE_ODDITIES;
	row.kind = index % FORGE_KINDS;
	row.state = &trial_states[index / FORGE_KINDS];
	snprintf(row.name, sizeof(row.name), "%s/%s/%s/from-%s/%s%s%s", row.state->name,
		forge_kind_names[row.kind], forge_oddity_names[row.oddity],
		row.from == CLIENT ? "client" : "backend", mode->family == AF_INET6 ? "ip6" : "ip4",
		mode->has_ts ? "/timestamps" : "", mode->is_moved ? "/moved" : "");
	return row;
}

/* False: there is no such packet. */
static bool run_row(const struct host hosts[2], const struct row *row, struct verdict *verdict)
{
	static uint32_t number;
	uint8_t frame[PACKETS_SIZE_MAX];

	for (unsigned i = 0; i < TRIES; i++) {
		struct trial *trial = trial_create(hosts, &row->mode, number++, row->state);
		unsigned size = forge(trial, row->from, row->kind, row->oddity, frame);
		// So that it is seen whether the flow's idle time starts anew.
		trial->rig->now_ms += 5000;
		if (size != 0)
			verdict_reach(verdict, trial, row->from, frame, size);
		if (trial_destroy(trial))
			return size != 0;
		counts.again++;
	}
	printf("%s: the machine is too slow for the kernel's timers\n", row->name);
	exit(EXIT_FAILURE);
}

static void check_row(const struct host hosts[2], const struct row *row, bool is_verbose)
{
	bool is_wrong = row->oddity == FORGE_WRONG_SUM || row->oddity == FORGE_WRONG_IP_SUM ||
		row->oddity == FORGE_OTHER_MAC_WRONG_SUM;
	bool deviates = false;
	struct verdict verdict;

	running = row->name;
	if (!run_row(hosts, row, &verdict))
		return;
	bool is_taken = verdict.passages[0].is_taken;
	if (is_verbose) {
		printf("%s\n", row->name);
		verdict_print(&verdict);
	}
	for (enum deviation what = 0; what < DEVIATIONS; what++) {
		if (!verdict.deviates[what])
			continue;
		deviates = true;
		if (deviation_is_listed(row->name, what) || counts.failed++ >= PRINTED_MAX)
			continue;
		printf("FAILED: %s: %s\n", row->name, deviation_names[what]);
		verdict_print(&verdict);
	}
	counts.rows++;
	counts.deviating += deviates;
	counts.taken += is_taken;
	counts.taken_of[row->kind] += is_taken;
	counts.taken_wrong += is_taken && is_wrong;
}

static void check_mode(const struct host hosts[2], const struct trial_mode *mode,
	const char *pattern, uint64_t *random, unsigned one_in)
{
	bool knows_md5 = host_knows(&hosts[BACKEND], HOST_MD5);
	bool knows_ao = host_knows(&hosts[BACKEND], HOST_AO);

	for (unsigned i = 0; i < rows_a_mode(); i++) {
		struct row row = row_at(i, mode);
		if ((row.oddity == FORGE_MD5 && !knows_md5) ||
			(row.oddity == FORGE_AO && !knows_ao))
			continue; // who doesn't know the option takes what bears it
		if (pattern != NULL ? fnmatch(pattern, row.name, FNM_EXTMATCH) == 0
				    : packets_random(random) % one_in == 0)
			check_row(hosts, &row, pattern != NULL);
	}
}

static bool make_hosts(struct host hosts[2], const struct trial_mode *mode)
{
	struct net_mac mac = rig_mac();
	const char *why;

	if (!host_init(&hosts[CLIENT], "client", "198.51.100.1", "2001:db8:2::1", &mac, &why) ||
		!host_init(&hosts[BACKEND], "backend", "10.0.0.1", "2001:db8:1::1", &mac, &why)) {
		printf("skipped: there is no %s\n", why);
		return false;
	}
	for (unsigned side = 0; side < 2; side++)
		host_set(&hosts[side], "ipv4/tcp_timestamps", mode->has_ts ? "1" : "0");
	return true;
}

/* --- what the rows come to --- */

/* That the kernels are asked at all, and have a choice. */
static void check_counts(void)
{
	static const enum forge_kind kinds[] = {FORGE_SYN, FORGE_SYN_ACK, FORGE_FIN, FORGE_RST,
		FORGE_RST_ACK, FORGE_DATA, FORGE_ACK};

	for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (counts.taken_of[kinds[i]] != 0)
			continue;
		printf("FAILED: no kernel has taken any %s\n", forge_kind_names[kinds[i]]);
		counts.failed++;
	}
	if (counts.taken_wrong != 0)
		printf("FAILED: %u packets with a wrong checksum were taken\n", counts.taken_wrong);
	counts.failed += counts.taken_wrong;
}

int main(int argc, char **argv)
{
	const char *pattern = argc > 1 ? argv[1] : NULL;
	bool is_whole = getenv("WEIR_TEST_LONG") != NULL;
	uint64_t random = 14, started_ms = clock_ms();

	if (geteuid() != 0) {
		printf("skipped: it makes network namespaces, so it has to run as root\n");
		return SKIPPED;
	}
	signal(SIGABRT, say_row);
	// Other hosts before the trials' tuples come again.
	for (unsigned i = 0; i < 4; i++) {
		struct trial_mode mode = {.has_ts = i & 1, .is_moved = i & 2};
		struct host hosts[2];
		if (!make_hosts(hosts, &mode))
			return SKIPPED;
		FOR_EACH_FAMILY(family) {
			mode.family = family;
			check_mode(hosts, &mode, pattern, &random, is_whole ? 1 : SAMPLE);
		}
		host_fini(&hosts[CLIENT]);
		host_fini(&hosts[BACKEND]);
	}
	if (pattern == NULL) {
		check_counts();
		if (is_whole)
			counts.failed += deviations_report();
	}
	printf("%u rows in %.0f s: kernels took %u, %u deviate, %u failures; %u made again\n",
		counts.rows, (clock_ms() - started_ms) / 1000.0, counts.taken, counts.deviating,
		counts.failed, counts.again);
	return counts.failed == 0 && counts.rows != 0 ? 0 : EXIT_FAILURE;
}
