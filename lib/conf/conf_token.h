/* SPDX-License-Identifier: BSD-3-Clause */
/* libconfig's tokens, cut out of text in memory. Nothing is copied, nothing is allocated. */
#ifndef WEIR_CONF_TOKEN_H
#define WEIR_CONF_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

enum conf_token_kind {
	CONF_TOKEN_END,
	CONF_TOKEN_NAME,
	CONF_TOKEN_STRING,  // text: with its quotes, escapes as they stand
	CONF_TOKEN_INTEGER, // number is set
	CONF_TOKEN_FLOAT,
	CONF_TOKEN_BOOLEAN,
	CONF_TOKEN_INCLUDE, // text: the file's name without quotes
	CONF_TOKEN_SIGN,    // one of = : , ; { } [ ] ( )
	CONF_TOKEN_BAD,     // the reader's fault says why
};

struct conf_token {
	enum conf_token_kind kind;
	const char *text;
	size_t length;
	unsigned line;
	long long number;
};

struct conf_token_reader {
	const char *begin;
	const char *at;
	const char *end;
	unsigned line;
	char fault[160];
};

void conf_token_init(struct conf_token_reader *reader, const char *text, size_t size);

/* Read the next token. After END or BAD the reader isn't used again. */
void conf_token_next(struct conf_token_reader *reader, struct conf_token *token);

#endif
