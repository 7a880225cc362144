/* SPDX-License-Identifier: BSD-3-Clause */
/* Programs that tests run, which a minimal system may lack. */
#ifndef WEIR_TEST_PROGRAMS_H
#define WEIR_TEST_PROGRAMS_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Tell whether the shell finds the program; says what is missing where it doesn't. */
static inline bool has_program(const char *name, const char *package)
{
	char command[80];

	snprintf(command, sizeof(command), "command -v %s >/dev/null", name);
	if (system(command) == 0)
		return true;
	fprintf(stderr, "this test runs %s, which isn't here: install the package %s\n", name,
		package);
	return false;
}

#endif
