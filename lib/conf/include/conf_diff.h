/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How one configuration differs from another, for a reload: what is to be done anew, and in words.
 *
 * Thread rule: pure functions without state.
 */
#ifndef WEIR_CONF_DIFF_H
#define WEIR_CONF_DIFF_H

#include <stdbool.h>

struct conf;
struct conf_error;

struct conf_diff {
	bool *changed;     // by service of the new one: it, or a backend of it, isn't as before
	bool any;          // some line below, or some order
	char **lines;      // "service web: + con5 10.0.0.9:8080 weight 2; con2: active -> drain"
	unsigned nb_lines; // bounded: the last one may say that there are more
};

/* Compare two configurations. NULL with the error filled in: when something changed that a running
 * weir can't take (`path` names the file there), or for want of memory. */
struct conf_diff *conf_diff_create(
	const struct conf *from, const struct conf *to, const char *path, struct conf_error *error);
/* Add a line about something else that the reload changes. 0 or -ENOMEM. */
int conf_diff_add_line(struct conf_diff *diff, const char *text);
/* Free a difference; conf_diff_destroy(NULL) is fine. */
void conf_diff_destroy(struct conf_diff *diff);

#endif
