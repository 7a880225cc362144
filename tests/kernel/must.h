/* SPDX-License-Identifier: BSD-3-Clause */
/* For what can't fail: sockets of a host that is there, a state that was reached a thousand times.
 */
#ifndef WEIR_TEST_MUST_H
#define WEIR_TEST_MUST_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition,         \
				strerror(errno));                                                  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

#endif
