/* SPDX-License-Identifier: BSD-3-Clause */
/* Optimal string alignment: Damerau, CACM 7(3), 1964, by three rows of the usual table. */
#include "conf_nearest.h"

#include <ctype.h>
#include <stddef.h>
#include <string.h>

#define LONGEST 32 // of keys worth comparing

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;

	return ab < c ? ab : c;
}

static unsigned distance(const char *a, unsigned n, const char *b, unsigned m)
{
	unsigned rows[3][LONGEST + 1];
	unsigned *before = rows[0], *last = rows[1], *row = rows[2];

	for (unsigned j = 0; j <= m; j++)
		last[j] = j;
	for (unsigned i = 1; i <= n; i++) {
		row[0] = i;
		for (unsigned j = 1; j <= m; j++) {
			int x = tolower((unsigned char)a[i - 1]),
			    y = tolower((unsigned char)b[j - 1]);
			row[j] = min3(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
				before[j - 2] + 1 < row[j])
				row[j] = before[j - 2] + 1;
		}
		unsigned *free_row = before;
		before = last;
		last = row;
		row = free_row;
	}
	return last[m];
}

const char *conf_nearest(const char *text, const char *const *names, unsigned nb_names)
{
	const char *nearest = NULL;
	size_t n = strlen(text);
	unsigned best = 3;

	for (unsigned i = 0; i < nb_names && n <= LONGEST; i++) {
		size_t m = strlen(names[i]);
		if (m > LONGEST)
			continue;
		unsigned edits = distance(text, n, names[i], m);
		if (edits < best && edits * 3 <= (n > m ? n : m)) {
			best = edits;
			nearest = names[i];
		}
	}
	return nearest;
}
