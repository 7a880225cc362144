/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The grammar of libconfig 1.5's scanner, and three things refused that it lets pass and that are
 * slips of the pen here: a string over several lines (its closing quote is missing), a comment
 * without end (the same), and decimal numbers with leading zeros (octal for later versions).
 */
#include "conf_token.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SHOWN 40 // bytes of the file's text that a message shows

void conf_token_init(struct conf_token_reader *reader, const char *text, size_t size)
{
	reader->begin = reader->at = text;
	reader->end = text + size;
	reader->line = 1;
	reader->fault[0] = '\0';
}

static void __attribute__((format(printf, 3, 4)))
bad(struct conf_token_reader *reader, struct conf_token *token, const char *format, ...)
{
	va_list args;

	token->kind = CONF_TOKEN_BAD;
	va_start(args, format);
	vsnprintf(reader->fault, sizeof(reader->fault), format, args);
	va_end(args);
}

/* Whether `text` stands next. */
static bool next_is(const struct conf_token_reader *reader, const char *text)
{
	size_t length = strlen(text);

	return (size_t)(reader->end - reader->at) >= length &&
		memcmp(reader->at, text, length) == 0;
}

static void skip_line(struct conf_token_reader *reader)
{
	while (reader->at < reader->end && *reader->at != '\n')
		reader->at++;
}

/* White space and comments. False when a comment doesn't end; `line` is then where it began. */
static bool skip_blanks(struct conf_token_reader *reader, unsigned *line)
{
	while (reader->at < reader->end) {
		if (strchr(" \t\r\f\n", *reader->at) != NULL && *reader->at != '\0') {
			reader->line += *reader->at == '\n';
			reader->at++;
		} else if (next_is(reader, "#") || next_is(reader, "//")) {
			skip_line(reader);
		} else if (next_is(reader, "/*")) {
			*line = reader->line;
			reader->at += 2;
			while (!next_is(reader, "*/")) {
				if (reader->at >= reader->end)
					return false;
				reader->line += *reader->at == '\n';
				reader->at++;
			}
			reader->at += 2;
		} else {
			break;
		}
	}
	return true;
}

static void read_string(struct conf_token_reader *reader, struct conf_token *token)
{
	const char *p = reader->at + 1;

	while (p < reader->end && *p != '"' && *p != '\n') {
		if (*p == '\\' && reader->end - p > 3 && memcmp(p, "\\x00", 4) == 0) {
			bad(reader, token, "\\x00 in a string; a string holds no NUL");
			return;
		}
		p += *p == '\\' && reader->end - p > 1 && p[1] != '\n' ? 2 : 1;
	}
	if (p >= reader->end || *p != '"') {
		bad(reader, token, "the string is not closed; its \" must stand in the same line");
		return;
	}
	token->kind = CONF_TOKEN_STRING;
	token->length = p + 1 - token->text;
	reader->at = p + 1;
}

/* libconfig takes @include at the start of a line only. */
static void read_include(struct conf_token_reader *reader, struct conf_token *token)
{
	const char *p = reader->at;

	while (p > reader->begin && (p[-1] == ' ' || p[-1] == '\t'))
		p--;
	if (!next_is(reader, "@include") || (p > reader->begin && p[-1] != '\n')) {
		bad(reader, token, "unexpected @; a line of its own may say @include \"file\"");
		return;
	}
	reader->at += strlen("@include");
	while (next_is(reader, " ") || next_is(reader, "\t"))
		reader->at++;
	if (!next_is(reader, "\"")) {
		bad(reader, token, "@include lacks its file; write @include \"file\"");
		return;
	}
	token->text = reader->at + 1;
	read_string(reader, token);
	if (token->kind != CONF_TOKEN_STRING)
		return;
	token->kind = CONF_TOKEN_INCLUDE;
	token->length = reader->at - 1 - token->text;
	if (token->length == 0 || memchr(token->text, '\\', token->length) != NULL)
		bad(reader, token, "@include takes a file name without backslashes");
}

static void read_integer(
	struct conf_token_reader *reader, struct conf_token *token, const char *word)
{
	bool negative = word[0] == '-';
	const char *digits = word + (word[0] == '-' || word[0] == '+');
	bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
	unsigned long long value;

	if (!hex && digits[0] == '0' && isdigit((unsigned char)digits[1])) {
		bad(reader, token, "%s begins with 0; write the number without", word);
		return;
	}
	errno = 0;
	value = strtoull(digits, NULL, hex ? 16 : 10);
	if (errno != 0 || value > LLONG_MAX) {
		bad(reader, token, "%s is out of range: it does not fit in 64 bits", word);
		return;
	}
	token->kind = CONF_TOKEN_INTEGER;
	token->number = negative ? -(long long)value : (long long)value;
}

/* [-+]?[0-9]+L?L? or 0x[0-9a-f]+L?L? */
static bool is_integer(const char *word)
{
	bool sign = word[0] == '-' || word[0] == '+';
	bool hex = word[0] == '0' && (word[1] == 'x' || word[1] == 'X');
	const char *digits = word + (hex ? 2 : sign);
	size_t n = strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789");
	const char *rest = digits + n;

	return n > 0 && (rest[0] == '\0' || strcmp(rest, "L") == 0 || strcmp(rest, "LL") == 0);
}

static bool is_float(const char *word)
{
	const char *p = word + (word[0] == '-' || word[0] == '+');
	size_t whole = strspn(p, "0123456789"), part = 0;
	bool point, exponent;

	p += whole;
	point = *p == '.';
	if (point) {
		part = strspn(p + 1, "0123456789");
		p += 1 + part;
	}
	exponent = *p == 'e' || *p == 'E';
	if (exponent) {
		p += 1 + (p[1] == '-' || p[1] == '+');
		if (!isdigit((unsigned char)*p))
			return false;
		p += strspn(p, "0123456789");
	}
	return *p == '\0' && whole + part > 0 && (point || exponent);
}

/* "250ms", "1M" */
static bool has_unit(const char *word)
{
	size_t digits = strspn(word, "0123456789"), length = strlen(word);

	return digits > 0 && length - digits <= 3 && isalpha((unsigned char)word[digits]) &&
		isalpha((unsigned char)word[length - 1]);
}

/* A key, a number, true or false: whatever stands without quotes. */
static void read_word(struct conf_token_reader *reader, struct conf_token *token)
{
	static const char name_chars[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_*-";
	char word[64];
	size_t length = 0, shown;

	while (reader->at + length < reader->end && reader->at[length] != '\0' &&
		(strchr(name_chars, reader->at[length]) != NULL ||
			strchr("+.", reader->at[length]) != NULL))
		length++;
	token->length = length;
	reader->at += length;
	shown = length < sizeof(word) ? length : sizeof(word) - 1;
	memcpy(word, token->text, shown);
	word[shown] = '\0';

	if (shown == length && is_integer(word))
		read_integer(reader, token, word);
	else if (shown == length && is_float(word))
		token->kind = CONF_TOKEN_FLOAT;
	else if (strcasecmp(word, "true") == 0 || strcasecmp(word, "false") == 0)
		token->kind = CONF_TOKEN_BOOLEAN;
	else if ((isalpha((unsigned char)word[0]) || word[0] == '*') &&
		memchr(token->text, '.', length) == NULL &&
		memchr(token->text, '+', length) == NULL)
		token->kind = CONF_TOKEN_NAME;
	else if (has_unit(word))
		bad(reader, token,
			"%.*s has a unit; write the number alone, in the unit that the key's name "
			"tells",
			SHOWN, word);
	else
		bad(reader, token,
			"%.*s is neither a number nor a key, which has letters, digits, - and _ "
			"alone; a string stands in quotes",
			SHOWN, word);
}

/* What word processors and web pages put in the place of plain characters (UTF-8). */
static void bad_byte(struct conf_token_reader *reader, struct conf_token *token)
{
	static const struct {
		const char *bytes;
		const char *fault;
	} known[] = {
		{"\xef\xbb\xbf", "a byte order mark; save the file without it"},
		{"\xc2\xa0", "a no-break space; write a blank"},
		{"\xe2\x80", "a typographic character; a string stands in plain quotes: \""},
		{"\xc2\xab", "a typographic quote; a string stands in plain quotes: \""},
		{"\xc2\xbb", "a typographic quote; a string stands in plain quotes: \""},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (next_is(reader, known[i].bytes)) {
			bad(reader, token, "%s", known[i].fault);
			return;
		}
	}
	bad(reader, token, "unexpected byte 0x%02x; the file must be plain text",
		(unsigned char)*reader->at);
}

void conf_token_next(struct conf_token_reader *reader, struct conf_token *token)
{
	if (!skip_blanks(reader, &token->line)) {
		bad(reader, token, "the comment /* is not closed; */ is missing");
		return;
	}
	token->line = reader->line;
	token->text = reader->at;
	token->length = 1;
	if (reader->at >= reader->end) {
		token->kind = CONF_TOKEN_END;
		return;
	}

	unsigned char c = *reader->at;
	if (c == '"') {
		read_string(reader, token);
	} else if (c == '@') {
		read_include(reader, token);
	} else if (isalnum(c) || (c != '\0' && strchr("*_+-.", c) != NULL)) {
		read_word(reader, token);
	} else if (c != '\0' && strchr("=:,;{}[]()", c) != NULL) {
		token->kind = CONF_TOKEN_SIGN;
		reader->at++;
	} else if (c == '\'') {
		bad(reader, token, "unexpected '; a string stands in double quotes: \"");
	} else if (isprint(c)) {
		bad(reader, token, "unexpected character %c; a string stands in quotes", c);
	} else {
		bad_byte(reader, token);
	}
}
