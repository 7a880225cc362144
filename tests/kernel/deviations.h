/* SPDX-License-Identifier: BSD-3-Clause */
/* The rows where Weir's record and the receiver's socket part, and why they do. */
#ifndef WEIR_TEST_DEVIATIONS_H
#define WEIR_TEST_DEVIATIONS_H

#include <stdbool.h>

#include "verdict.h"

/* Whether the row may deviate like that. */
bool deviation_is_listed(const char *row, enum deviation what);

/* After the whole table: print the list with the rows that each entry had; returns how many entries
 * had none, and don't belong there. */
unsigned deviations_report(void);

#endif
