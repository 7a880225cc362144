/* SPDX-License-Identifier: BSD-3-Clause */
#include "options.h"

#include <getopt.h>
#include <rte_version.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "log.h"

static const char help[] =
	"weir " WEIR_VERSION ": a layer-4 load balancer on DPDK\n"
	"\n"
	"usage: weir [OPTIONS] [-- EAL-ARGUMENTS]\n"
	"\n"
	"  -c, --config FILE  configuration (default " CONF_DEFAULT_PATH ")\n"
	"      --check        check the configuration and end: status 0 when it is right\n"
	"      --forget       remove what an ended weir kept for its next start, and end\n"
	"  -v, --verbose      log more\n"
	"      --version      print the versions of weir and DPDK\n"
	"  -h, --help         print this\n"
	"\n"
	"What follows -- goes to DPDK's EAL as it is. SIGHUP reads the configuration again; "
	"SIGTERM and\n"
	"SIGINT end weir; connections wait for its next start.\n"
	"\n"
	"The man pages: weir(8) with all counters, weir.conf(5), weirctl(8).\n";

enum options_result options_parse(struct options *options, int argc, char **argv)
{
	enum { OPTION_CHECK = 256, OPTION_FORGET, OPTION_VERSION };
	static const struct option longs[] = {
		{"config", required_argument, NULL, 'c'},
		{"check", no_argument, NULL, OPTION_CHECK},
		{"forget", no_argument, NULL, OPTION_FORGET},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, OPTION_VERSION},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int option;

	memset(options, 0, sizeof(*options));
	options->config = CONF_DEFAULT_PATH;
	// "+": stop at the first word that isn't an option.
	while ((option = getopt_long(argc, argv, "+c:vh", longs, NULL)) != -1) {
		switch (option) {
		case 'c':
			options->config = optarg;
			break;
		case 'v':
			log_set_level(LOG_LEVEL_DEBUG);
			break;
		case OPTION_CHECK:
			options->check = true;
			break;
		case OPTION_FORGET:
			options->forget = true;
			break;
		case OPTION_VERSION:
			printf("weir %s (%s)\n", WEIR_VERSION, rte_version());
			return OPTIONS_DONE;
		case 'h':
			fputs(help, stdout);
			return OPTIONS_DONE;
		default:
			fputs("weir: see weir --help\n", stderr);
			return OPTIONS_WRONG;
		}
	}
	if (optind < argc && strcmp(argv[optind - 1], "--") != 0) {
		fprintf(stderr, "weir: unexpected argument '%s'; EAL's arguments go behind --\n",
			argv[optind]);
		return OPTIONS_WRONG;
	}
	options->eal_argc = argc - optind;
	options->eal_argv = argv + optind;
	return OPTIONS_RUN;
}
