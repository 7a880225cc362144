/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line. */
#ifndef WEIR_OPTIONS_H
#define WEIR_OPTIONS_H

#include <stdbool.h>

struct options {
	const char *config; // path
	bool check;         // only check the file
	bool forget;        // only remove what is left
	int eal_argc;       // what follows "--"
	char **eal_argv;
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_WRONG };

/* Parse the command line; DONE after --help or --version was printed, WRONG after
 * a message on stderr. */
enum options_result options_parse(struct options *options, int argc, char **argv);

#endif
