/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libconfig's grammar as a machine with a few states and a stack of open groups and lists, fed with
 * tokens. It writes what it accepts, and a place for each setting; a slip is reported with the key
 * path that it stands at.
 */
#ifndef WEIR_CONF_GRAMMAR_H
#define WEIR_CONF_GRAMMAR_H

#include <stdbool.h>
#include <stdio.h>

#include "conf_scan.h"
#include "conf_token.h"

enum conf_grammar_state {
	CONF_WANT_KEY,
	CONF_WANT_ASSIGN,
	CONF_WANT_VALUE,
	CONF_WANT_FIRST,   // after ( or [
	CONF_WANT_ELEMENT, // after the comma in a list
	CONF_WANT_END,     // of the setting
};

/* A group or list that is open. */
struct conf_level {
	char close;       // '}', ')' or ']'; '\0' = the file as a whole
	uint32_t self;    // its own place
	uint32_t current; // the place of the setting in it that is being read, or CONF_NO_PLACE
	uint32_t nb_settings;
	enum conf_token_kind kind; // of the elements, in an array
	unsigned line;             // where it opened
};

struct conf_grammar {
	struct conf_scan *scan;
	struct conf_error *error;
	FILE *out;
	enum conf_grammar_state state;
	const struct conf_file *file; // the tokens come from
	unsigned base;                // levels that were open where the file was included
	unsigned depth;
	unsigned comma_line; // of the last comma in a list
	const struct conf_file *comma_file;
	struct conf_level levels[CONF_DEPTH_MAX + 1];
};

void conf_grammar_init(
	struct conf_grammar *grammar, struct conf_scan *scan, FILE *out, struct conf_error *error);

/* Take in the next token of the file, neither END nor BAD nor INCLUDE. 0, or
 * negative with error filled. */
int conf_grammar_read(struct conf_grammar *grammar, const struct conf_token *token);

/* Tell whether a name that comes now is that of a service. */
bool conf_grammar_wants_service(struct conf_grammar *grammar);

/* Tell whether a setting of the group of services has just ended. */
bool conf_grammar_ends_service(struct conf_grammar *grammar);

/* Take in the name of a service whose group is known: an empty line stands for it. 0, or
 * negative with error filled. */
int conf_grammar_carry(struct conf_grammar *grammar, const struct conf_token *name);

/* End a file: what it opened must be closed. 0, or negative with error filled. */
int conf_grammar_end(struct conf_grammar *grammar, const struct conf_token *token);

/* Report a slip at the setting that is being read. Always -EINVAL. */
int conf_grammar_fail(struct conf_grammar *grammar, unsigned line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
