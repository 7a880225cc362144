/* SPDX-License-Identifier: BSD-3-Clause */
/* The services of a former configuration, to be found again in the text of a file. */
#ifndef WEIR_CONF_CARRY_H
#define WEIR_CONF_CARRY_H

#include <stddef.h>

struct conf;
struct conf_service;

struct conf_carry {
	const struct conf_service **by_name; // sorted; those with a text
	unsigned nb;
};

/* List the services of `former` that have a text; NULL: there are none to be found. 0 or -ENOMEM;
 * conf_carry_fini() is fine after either. */
int conf_carry_init(struct conf_carry *carry, const struct conf *former);
void conf_carry_fini(struct conf_carry *carry);

/*
 * Return the service that stands word for word at `text`, which begins with a name of
 * `length` bytes; NULL when none does. The same bytes after the same state of the scan are
 * the same tokens, so that nothing has to be cut into tokens for it: the last byte is a },
 * which is a token whatever follows.
 */
const struct conf_service *conf_carry_find(
	const struct conf_carry *carry, const char *text, size_t length, const char *end);

#endif
