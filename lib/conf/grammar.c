/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_grammar.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SHOWN 40 // bytes of the file's text that a message shows

static struct conf_level *top(struct conf_grammar *g)
{
	return &g->levels[g->depth];
}

static bool in_group(struct conf_grammar *g)
{
	return top(g)->close == '\0' || top(g)->close == '}';
}

void conf_grammar_init(
	struct conf_grammar *g, struct conf_scan *scan, FILE *out, struct conf_error *error)
{
	memset(g, 0, sizeof(*g));
	g->scan = scan;
	g->out = out;
	g->error = error;
	g->levels[0].self = g->levels[0].current = CONF_NO_PLACE;
}

int conf_grammar_fail(struct conf_grammar *g, unsigned line, const char *format, ...)
{
	uint32_t at = top(g)->current != CONF_NO_PLACE ? top(g)->current : top(g)->self;
	char path[CONF_PATH_TEXT];
	va_list args;

	conf_scan_path(g->scan, at != CONF_NO_PLACE ? &g->scan->places[at] : NULL, path);
	va_start(args, format);
	conf_error_vset(g->error, g->file->name, line, path, format, args);
	va_end(args);
	return -EINVAL;
}

/* What a token looks like in a message. */
static int shown(const struct conf_token *token)
{
	return token->length < SHOWN ? token->length : SHOWN;
}

static int add_place(struct conf_grammar *g, const struct conf_token *token, const char *name)
{
	struct conf_scan *scan = g->scan;
	struct conf_level *level = top(g);

	if (scan->nb_places == scan->places_room) {
		size_t room = scan->places_room * 2 + 64;
		struct conf_place *places = realloc(scan->places, room * sizeof(*places));
		if (places == NULL)
			return conf_error_memory(g->error, g->file->name);
		scan->places = places;
		scan->places_room = room;
	}
	level->current = scan->nb_places++;
	scan->places[level->current] = (struct conf_place){
		.file = g->file,
		.line = token->line,
		.parent = level->self,
		.index = level->nb_settings++,
		.name = name,
		.name_length = name != NULL ? token->length : 0,
	};
	return 0;
}

/* Its place, and a line of its own, so that the line's number finds the place. */
static int begin_line(struct conf_grammar *g, const struct conf_token *token, const char *name)
{
	if (g->scan->nb_places == CONF_SETTINGS_MAX)
		return conf_grammar_fail(
			g, token->line, "more than %u settings in all", CONF_SETTINGS_MAX);

	int err = add_place(g, token, name);
	if (err < 0)
		return err;
	if (name != NULL && top(g)->nb_settings > CONF_KEYS_MAX)
		return conf_grammar_fail(
			g, token->line, "more than %u keys in one group", CONF_KEYS_MAX);
	if (g->scan->nb_places > 1)
		fputc('\n', g->out);
	return 0;
}

static int begin_setting(struct conf_grammar *g, const struct conf_token *token, const char *name)
{
	int err = begin_line(g, token, name);

	if (err == 0 && name != NULL)
		fprintf(g->out, "%.*s=", (int)token->length, name);
	return err;
}

/* A setting is whole. In lists the comma follows when there is a further element. */
static void end_setting(struct conf_grammar *g)
{
	if (in_group(g)) {
		top(g)->current = CONF_NO_PLACE;
		fputc(';', g->out);
	}
	g->state = CONF_WANT_END;
}

static int open_level(struct conf_grammar *g, const struct conf_token *token)
{
	char sign = token->text[0];

	if (top(g)->close == ']')
		return conf_grammar_fail(g, token->line,
			"%c inside [ ], which holds plain values only; write ( ) for a list", sign);
	if (g->depth == CONF_DEPTH_MAX)
		return conf_grammar_fail(
			g, token->line, "nested more than %u deep", CONF_DEPTH_MAX);
	fputc(sign, g->out);
	g->levels[g->depth + 1] = (struct conf_level){
		.close = sign == '{'  ? '}'
			: sign == '(' ? ')'
				      : ']',
		.self = top(g)->current,
		.current = CONF_NO_PLACE,
		.line = token->line,
	};
	g->depth++;
	g->state = sign == '{' ? CONF_WANT_KEY : CONF_WANT_FIRST;
	return 0;
}

static int close_level(struct conf_grammar *g, const struct conf_token *token)
{
	char sign = token->text[0];

	if (g->depth == 0)
		return conf_grammar_fail(g, token->line, "%c closes nothing; remove it", sign);
	if (g->depth == g->base)
		return conf_grammar_fail(
			g, token->line, "%c closes what the including file opened", sign);
	if (sign != top(g)->close)
		return conf_grammar_fail(g, token->line,
			"%c where %c is expected, for what opened in line %u", sign, top(g)->close,
			top(g)->line);
	fputc(sign, g->out);
	g->depth--;
	end_setting(g);
	return 0;
}

/* What yes, off and the like are here; NULL: it is another word. */
static const char *boolean_of(const struct conf_token *token)
{
	static const char *const words[][2] = {
		{"yes", "true"}, {"on", "true"}, {"no", "false"}, {"off", "false"}};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (token->length == strlen(words[i][0]) &&
			strncasecmp(token->text, words[i][0], token->length) == 0)
			return words[i][1];
	return NULL;
}

static int read_value(struct conf_grammar *g, const struct conf_token *token)
{
	bool element = g->state != CONF_WANT_VALUE;
	bool closes = token->kind == CONF_TOKEN_SIGN && strchr("})]", token->text[0]) != NULL;
	bool opens = token->kind == CONF_TOKEN_SIGN && strchr("{([", token->text[0]) != NULL;

	if (g->state == CONF_WANT_FIRST && closes)
		return close_level(g, token);
	if (g->state == CONF_WANT_ELEMENT && closes)
		return conf_grammar_fail(g, g->comma_file == g->file ? g->comma_line : token->line,
			"trailing comma before %c; remove the comma", token->text[0]);
	if (token->kind == CONF_TOKEN_NAME && boolean_of(token) != NULL)
		return conf_grammar_fail(g, token->line, "%.*s is not a value; write %s",
			shown(token), token->text, boolean_of(token));
	if (token->kind == CONF_TOKEN_NAME)
		return conf_grammar_fail(g, token->line,
			"%.*s is not a value; a string stands in quotes", shown(token),
			token->text);
	if (token->kind == CONF_TOKEN_SIGN && !opens)
		return conf_grammar_fail(g, token->line,
			"a value is missing before %c; a string stands in quotes", token->text[0]);
	if (element && begin_setting(g, token, NULL) < 0)
		return -EINVAL;
	if (opens)
		return open_level(g, token);
	if (top(g)->close == ']' && top(g)->nb_settings == 1)
		top(g)->kind = token->kind;
	if (top(g)->close == ']' && top(g)->kind != token->kind)
		return conf_grammar_fail(g, token->line,
			"%.*s is of another type than the element "
			"before it; an array holds values of one type",
			shown(token), token->text);
	if (token->kind == CONF_TOKEN_INTEGER)
		fprintf(g->out, "%lldL", token->number);
	else
		fwrite(token->text, token->length, 1, g->out);
	end_setting(g);
	return 0;
}

static int read_key(struct conf_grammar *g, const struct conf_token *token)
{
	if (token->kind == CONF_TOKEN_NAME) {
		g->state = CONF_WANT_ASSIGN;
		return begin_setting(g, token, token->text);
	}
	if (token->kind == CONF_TOKEN_SIGN && strchr("})]", token->text[0]) != NULL)
		return close_level(g, token);
	if (token->kind == CONF_TOKEN_SIGN && token->text[0] == ';')
		return conf_grammar_fail(g, token->line,
			"unexpected ;; remove it: one ends a setting, and none follows @include");
	return conf_grammar_fail(g, token->line,
		"unexpected %.*s; a key is expected, as in key = value;", shown(token),
		token->text);
}

static int read_assign(struct conf_grammar *g, const struct conf_token *token)
{
	if (token->kind != CONF_TOKEN_SIGN || strchr("=:", token->text[0]) == NULL)
		return conf_grammar_fail(g, token->line, "= is missing between the key and %.*s",
			shown(token), token->text);
	g->state = CONF_WANT_VALUE;
	return 0;
}

static int read_end(struct conf_grammar *g, const struct conf_token *token)
{
	char sign = token->kind == CONF_TOKEN_SIGN ? token->text[0] : '\0';

	if (sign != '\0' && strchr("})]", sign) != NULL)
		return close_level(g, token);
	if (in_group(g)) {
		g->state = CONF_WANT_KEY;
		if (sign == ';' || sign == ',')
			return 0;
		if (token->kind == CONF_TOKEN_NAME) // libconfig wants no ; either
			return read_key(g, token);
		return conf_grammar_fail(g, token->line,
			"unexpected %.*s after a value; ; is expected%s", shown(token), token->text,
			token->kind == CONF_TOKEN_STRING ? " (strings aren't joined)" : "");
	}
	if (sign == ';')
		return conf_grammar_fail(
			g, token->line, "; between the elements of a list; write a comma");
	if (sign != ',')
		return conf_grammar_fail(g, token->line, "a comma is missing before %.*s%s",
			shown(token), token->text,
			token->kind == CONF_TOKEN_STRING ? " (strings aren't joined)" : "");
	fputc(',', g->out);
	g->comma_line = token->line;
	g->comma_file = g->file;
	g->state = CONF_WANT_ELEMENT;
	return 0;
}

int conf_grammar_read(struct conf_grammar *g, const struct conf_token *token)
{
	switch (g->state) {
	case CONF_WANT_KEY:
		return read_key(g, token);
	case CONF_WANT_ASSIGN:
		return read_assign(g, token);
	case CONF_WANT_END:
		return read_end(g, token);
	default:
		return read_value(g, token);
	}
}

/* The group that the top level's "services" is. */
static bool in_services(struct conf_grammar *g)
{
	const struct conf_place *place;

	if (g->depth != 1 || !in_group(g))
		return false;
	place = &g->scan->places[g->levels[0].current];
	return place->name_length == strlen("services") &&
		memcmp(place->name, "services", place->name_length) == 0;
}

bool conf_grammar_wants_service(struct conf_grammar *g)
{
	return (g->state == CONF_WANT_KEY || g->state == CONF_WANT_END) && in_services(g);
}

bool conf_grammar_ends_service(struct conf_grammar *g)
{
	return g->state == CONF_WANT_END && in_services(g);
}

int conf_grammar_carry(struct conf_grammar *g, const struct conf_token *name)
{
	int err = begin_line(g, name, name->text);

	top(g)->current = CONF_NO_PLACE;
	g->state = CONF_WANT_END;
	return err;
}

int conf_grammar_end(struct conf_grammar *g, const struct conf_token *end)
{
	if (g->state == CONF_WANT_ASSIGN || g->state == CONF_WANT_VALUE)
		return conf_grammar_fail(g, end->line, "the file ends in the middle of a setting");
	if (g->depth > g->base)
		return conf_grammar_fail(g, end->line,
			"the file ends before the %c for what opened in line %u", top(g)->close,
			top(g)->line);
	return 0;
}
