/* SPDX-License-Identifier: BSD-3-Clause */
/* The schema as documentation: what is written about a key and what is done can't differ. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "conf_schema.h"

static const char *value_text(const struct conf_key *key, char *text, size_t size)
{
	size_t at = 0;

	if (key->type == CONF_INTEGER) {
		snprintf(text, size, "%lld to %lld", key->min, key->max);
	} else if (key->type == CONF_WORD) {
		for (unsigned i = 0; key->words[i] != NULL; i++)
			at += snprintf(
				text + at, size - at, "%s\"%s\"", i > 0 ? ", " : "", key->words[i]);
	} else if (key->type == CONF_BOOLEAN) {
		return "true, false";
	} else {
		return key->type == CONF_GROUP && !key->bare ? "a group" : key->expected;
	}
	return text;
}

static const char *default_text(const struct conf_key *key, char *text, size_t size)
{
	if (key->required)
		return "";
	if (key->fallback != NULL)
		return key->fallback;
	if (key->type == CONF_WORD)
		snprintf(text, size, "\"%s\"", key->words[key->initial - key->min]);
	else if (key->type == CONF_TEXT)
		snprintf(text, size, "\"%s\"", key->initial_text);
	else if (key->type == CONF_BOOLEAN)
		return key->initial ? "true" : "false";
	else if (key->type == CONF_INTEGER)
		snprintf(text, size, "%lld", key->initial);
	else
		return "";
	return text;
}

static void each(const struct conf_key *keys, const char *prefix,
	void (*row)(void *arg, const struct conf_reference *reference), void *arg)
{
	for (const struct conf_key *key = keys; key->name != NULL; key++) {
		char path[128], value[128], initial[64];
		struct conf_reference reference = {
			.path = path,
			.value = value_text(key, value, sizeof(value)),
			.initial = default_text(key, initial, sizeof(initial)),
			.doc = key->doc,
			.required = key->required,
			.restart = key->restart,
		};
		snprintf(path, sizeof(path), "%s%s", prefix, key->name);
		row(arg, &reference);
		if (key->keys == NULL)
			continue;
		snprintf(path, sizeof(path), "%s%s%s.", prefix, key->name,
			key->each != NULL ? key->each : "");
		each(key->keys, path, row, arg);
	}
}

void conf_reference_each(void (*row)(void *arg, const struct conf_reference *reference), void *arg)
{
	each(conf_root_keys, "", row, arg);
}

/* A definition list, as lowdown has it; a key of the file's top level begins a section. */
static void print_entry(void *arg, const struct conf_reference *reference)
{
	if (strchr(reference->path, '.') == NULL)
		fprintf(arg, "\n## %s\n", reference->path);
	fprintf(arg, "\n**%s** = %s\n: %c%s.", reference->path, reference->value,
		toupper((unsigned char)reference->doc[0]), reference->doc + 1);
	if (reference->required)
		fprintf(arg, " Required.");
	else if (reference->initial[0] != '\0')
		fprintf(arg, " Default: %s.", reference->initial);
	if (reference->restart)
		fprintf(arg, " A change needs a restart.");
	fputc('\n', arg);
}

void conf_reference_print(FILE *out)
{
	conf_reference_each(print_entry, out);
}
