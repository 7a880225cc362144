/* SPDX-License-Identifier: BSD-3-Clause */
#include <rte_eal.h>
#include <rte_lcore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "bench_world.h"

static const struct part {
	const char *name;
	void (*run)(struct bench_rounds *rounds);
} parts[] = {
	{"packet_path", bench_packet_path},
	{"established", bench_established},
	{"connections", bench_connections},
	{"refused", bench_refused},
	{"expiry", bench_expiry},
	{"maglev", bench_maglev},
	{"workers", bench_workers},
};

bool bench_rounds_next(struct bench_rounds *rounds)
{
	char line[64];

	if (rounds->done == rounds->count)
		return false;
	if (rounds->wait) {
		bench_print("ready", "\"round\": %u", rounds->done);
		if (fgets(line, sizeof(line), stdin) == NULL)
			return false;
	}
	rounds->done++;
	return true;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double bench_samples_take(struct bench_samples *samples)
{
	unsigned count = samples->count;

	qsort(samples->value, count, sizeof(samples->value[0]), compare);
	samples->count = 0;
	return count == 0 ? 0 : (samples->value[count / 2] + samples->value[(count - 1) / 2]) / 2;
}

void bench_print(const char *row, const char *fields, ...)
{
	va_list args;

	va_start(args, fields);
	printf("{\"row\": \"%s\", ", row);
	vprintf(fields, args);
	printf("}\n");
	fflush(stdout);
	va_end(args);
}

void bench_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "bench_pipeline: ");
	vfprintf(stderr, format, args);
	fprintf(stderr, "\n");
	va_end(args);
	exit(1);
}

/* What two reads of the TSC cost, one right behind the other: contained in each burst's figure. */
static void print_clock(void)
{
	struct bench_samples samples = {0};

	for (unsigned i = 0; i < BENCH_BATCHES_MAX; i++) {
		uint64_t start = rte_rdtsc();
		bench_samples_add(&samples, rte_rdtsc() - start);
	}
	bench_print("clock", "\"tsc_hz\": %lu, \"rdtsc_cycles\": %.0f",
		(unsigned long)rte_get_tsc_hz(), bench_samples_take(&samples));
}

static void usage(void)
{
	fprintf(stderr, "usage: bench_pipeline [OPTION]... PART\nparts:");
	for (unsigned i = 0; i < RTE_DIM(parts); i++)
		fprintf(stderr, " %s", parts[i].name);
	fprintf(stderr,
		"\noptions:\n"
		"  --rounds N      how often to measure each row (5)\n"
		"  --wait          for a line on standard input before each round\n"
		"  --cpu N         to run on (1); --second-cpu N: of the second worker (0)\n"
		"  --flows N, --family 4|6\n"
		"                  part established: only those rows\n");
	exit(2);
}

static void eal_start(const char *cpu, const char *second_cpu, bool two)
{
	char cpus[64];
	char *argv[] = {"bench_pipeline", "--no-pci", "--no-telemetry", "--in-memory",
		"--log-level=error", "-l", cpus, "--main-lcore", (char *)cpu};

	snprintf(cpus, sizeof(cpus), two ? "%s,%s" : "%s", cpu, second_cpu);
	if (rte_eal_init(RTE_DIM(argv), argv) < 0)
		bench_fail("no EAL: it needs root and hugepages");
}

int main(int argc, char **argv)
{
	struct bench_rounds rounds = {.count = 5};
	const char *cpu = "1", *second_cpu = "0", *name = NULL;
	unsigned i;

	for (int a = 1; a < argc; a++) {
		if (strcmp(argv[a], "--wait") == 0)
			rounds.wait = true;
		else if (strcmp(argv[a], "--rounds") == 0 && a + 1 < argc)
			rounds.count = strtoul(argv[++a], NULL, 10);
		else if (strcmp(argv[a], "--flows") == 0 && a + 1 < argc)
			rounds.flows = strtoul(argv[++a], NULL, 10);
		else if (strcmp(argv[a], "--family") == 0 && a + 1 < argc)
			rounds.family = strtoul(argv[++a], NULL, 10);
		else if (strcmp(argv[a], "--cpu") == 0 && a + 1 < argc)
			cpu = argv[++a];
		else if (strcmp(argv[a], "--second-cpu") == 0 && a + 1 < argc)
			second_cpu = argv[++a];
		else if (argv[a][0] != '-' && name == NULL)
			name = argv[a];
		else
			usage();
	}
	for (i = 0; i < RTE_DIM(parts); i++)
		if (name != NULL && strcmp(parts[i].name, name) == 0)
			break;
	if (i == RTE_DIM(parts))
		usage();

	eal_start(cpu, second_cpu, parts[i].run == bench_workers);
	world_mempool_create();
	print_clock();
	parts[i].run(&rounds);
	rte_eal_cleanup();
	return 0;
}
