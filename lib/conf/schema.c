/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf_nearest.h"

#define EXPECTED_TEXT 160

unsigned conf_reader_line(
	const struct conf_reader *reader, const config_setting_t *setting, const char **file)
{
	const struct conf_place *place =
		conf_scan_place(reader->scan, config_setting_source_line(setting));

	*file = place != NULL ? place->file->name : reader->scan->files[0]->name;
	return place != NULL ? place->line : 1;
}

int conf_reader_fail(
	const struct conf_reader *reader, const config_setting_t *setting, const char *format, ...)
{
	char path[CONF_PATH_TEXT];
	const char *file;
	unsigned line = conf_reader_line(reader, setting, &file);
	va_list args;

	conf_scan_path(reader->scan,
		conf_scan_place(reader->scan, config_setting_source_line(setting)), path);
	va_start(args, format);
	conf_error_vset(reader->error, file, line, path, format, args);
	va_end(args);
	return -EINVAL;
}

int conf_reader_memory(const struct conf_reader *reader)
{
	return conf_error_memory(reader->error, reader->scan->files[0]->name);
}

const char *conf_reader_kind(const config_setting_t *setting)
{
	static const char *const kinds[] = {
		[CONFIG_TYPE_NONE] = "nothing",
		[CONFIG_TYPE_GROUP] = "a group",
		[CONFIG_TYPE_INT] = "an integer",
		[CONFIG_TYPE_INT64] = "an integer",
		[CONFIG_TYPE_FLOAT] = "a floating-point number",
		[CONFIG_TYPE_STRING] = "a string",
		[CONFIG_TYPE_BOOL] = "a boolean",
		[CONFIG_TYPE_ARRAY] = "an array",
		[CONFIG_TYPE_LIST] = "a list",
	};

	return kinds[config_setting_type(setting)];
}

int conf_reader_text(const struct conf_reader *reader, const config_setting_t *setting,
	const char *expected, const char **text)
{
	if (config_setting_type(setting) != CONFIG_TYPE_STRING) {
		conf_reader_fail(
			reader, setting, "is %s; expected %s", conf_reader_kind(setting), expected);
		return -EINVAL;
	}
	*text = config_setting_get_string(setting);
	if (*text == NULL) // libconfig's empty string
		*text = "";
	for (const char *p = *text; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p))
			return conf_reader_fail(reader, setting,
				"holds the control character 0x%02x; expected %s",
				(unsigned char)*p, expected);
	return 0;
}

static bool is_sequence(const config_setting_t *setting)
{
	return config_setting_is_array(setting) || config_setting_is_list(setting);
}

const config_setting_t *conf_reader_element(const config_setting_t *setting, unsigned n)
{
	return is_sequence(setting) ? config_setting_get_elem(setting, n) : setting;
}

const config_setting_t *conf_reader_service(
	const struct conf_reader *reader, const config_setting_t *services, unsigned n)
{
	const struct conf_block *block = &reader->scan->blocks[n];

	return block->carried != NULL ? NULL : config_setting_get_elem(services, block->element);
}

int conf_reader_texts(const struct conf_reader *reader, const config_setting_t *setting,
	const char *expected, unsigned max)
{
	unsigned nb = is_sequence(setting) ? config_setting_length(setting) : 1;
	const char *text;

	if (nb == 0)
		return conf_reader_fail(reader, setting, "is empty; expected %s", expected);
	if (nb > max)
		return conf_reader_fail(
			reader, setting, "has %u elements; expected at most %u", nb, max);
	for (unsigned i = 0; i < nb; i++) {
		if (conf_reader_text(reader, conf_reader_element(setting, i), expected, &text) < 0)
			return -EINVAL;
	}
	return nb;
}

/* What would be right for a key. */
static const char *expected_text(const struct conf_key *key, char *text)
{
	size_t at = 0;

	text[0] = '\0';
	if (key->expected != NULL)
		return key->expected;
	if (key->type == CONF_INTEGER)
		snprintf(text, EXPECTED_TEXT, "an integer from %lld to %lld", key->min, key->max);
	else if (key->type == CONF_BOOLEAN)
		return "true or false";
	else if (key->type == CONF_GROUP)
		return "a group { ... }";
	else
		for (const char *const *word = key->words; *word != NULL; word++)
			at += snprintf(text + at, EXPECTED_TEXT - at, "%s\"%s\"",
				word == key->words        ? ""
					: word[1] == NULL ? " or "
							  : ", ",
				*word);
	return text;
}

static void store_integer(const struct conf_key *key, void *object, long long value)
{
	char *at = (char *)object + key->offset;

	if (key->type == CONF_BOOLEAN) {
		*(bool *)at = value;
	} else if (key->size == sizeof(uint16_t)) {
		uint16_t narrow = value;
		memcpy(at, &narrow, sizeof(narrow));
	} else {
		int whole = value;
		memcpy(at, &whole, sizeof(whole));
	}
}

static int store_text(
	struct conf_reader *reader, const struct conf_key *key, void *object, const char *text)
{
	char **at = (char **)((char *)object + key->offset);
	char *copy = strdup(text);

	if (copy == NULL)
		return conf_reader_memory(reader);
	free(*at);
	*at = copy;
	return 0;
}

int conf_schema_defaults(struct conf_reader *reader, const struct conf_key *keys, void *object)
{
	int err = 0;

	for (const struct conf_key *key = keys; key->name != NULL && err == 0; key++) {
		if (key->type == CONF_GROUP)
			err = conf_schema_defaults(reader, key->keys, (char *)object + key->offset);
		else if (key->type == CONF_TEXT && key->initial_text != NULL)
			err = store_text(reader, key, object, key->initial_text);
		else if (key->type != CONF_OWN && key->type != CONF_TEXT)
			store_integer(key, object, key->initial);
	}
	return err;
}

static int read_integer(struct conf_reader *reader, const struct conf_key *key,
	const config_setting_t *setting, void *object, const char *expected)
{
	long long value = config_setting_get_int64(setting);

	if (value < key->min || value > key->max)
		return conf_reader_fail(
			reader, setting, "%lld is out of range; expected %s", value, expected);
	store_integer(key, object, value);
	return 0;
}

static int read_word(struct conf_reader *reader, const struct conf_key *key,
	const config_setting_t *setting, void *object, const char *expected)
{
	const char *text;

	if (conf_reader_text(reader, setting, expected, &text) < 0)
		return -EINVAL;
	for (unsigned i = 0; key->words[i] != NULL; i++) {
		if (strcmp(key->words[i], text) == 0) {
			store_integer(key, object, key->min + i);
			return 0;
		}
	}
	return conf_reader_fail(
		reader, setting, "\"%.60s\" is unknown; expected %s", text, expected);
}

static int read_text(struct conf_reader *reader, const struct conf_key *key,
	const config_setting_t *setting, void *object, const char *expected)
{
	const char *text;

	if (conf_reader_text(reader, setting, expected, &text) < 0)
		return -EINVAL;
	if (key->valid != NULL && !key->valid(text))
		return conf_reader_fail(
			reader, setting, "\"%.60s\" is not valid; expected %s", text, expected);
	return store_text(reader, key, object, text);
}

static int read_key(struct conf_reader *reader, const struct conf_key *key,
	const config_setting_t *setting, void *object)
{
	int type = config_setting_type(setting);
	char room[EXPECTED_TEXT];
	const char *expected = expected_text(key, room);
	bool fits = true;

	if (key->bare && (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64))
		return read_key(reader, key->keys, setting, (char *)object + key->offset);
	if (key->type == CONF_INTEGER)
		fits = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
	else if (key->type == CONF_BOOLEAN)
		fits = type == CONFIG_TYPE_BOOL;
	else if (key->type == CONF_GROUP)
		fits = type == CONFIG_TYPE_GROUP;
	if (!fits)
		return conf_reader_fail(
			reader, setting, "is %s; expected %s", conf_reader_kind(setting), expected);

	switch (key->type) {
	case CONF_INTEGER:
		return read_integer(reader, key, setting, object, expected);
	case CONF_BOOLEAN:
		store_integer(key, object, config_setting_get_bool(setting));
		return 0;
	case CONF_WORD:
		return read_word(reader, key, setting, object, expected);
	case CONF_TEXT:
		return read_text(reader, key, setting, object, expected);
	case CONF_GROUP:
		return conf_schema_read(reader, key->keys, setting, (char *)object + key->offset);
	default:
		return key->read(reader, setting, object);
	}
}

static int unknown_key(
	struct conf_reader *reader, const struct conf_key *keys, const config_setting_t *setting)
{
	const char *name = config_setting_name(setting), *nearest;
	const char *names[32] = {NULL};
	unsigned nb = 0;

	for (const struct conf_key *key = keys; key->name != NULL && nb < 32; key++)
		names[nb++] = key->name;
	nearest = conf_nearest(name, names, nb);
	if (nearest != NULL)
		return conf_reader_fail(
			reader, setting, "unknown key; did you mean \"%s\"?", nearest);

	char list[256] = "";
	size_t at = 0;
	for (unsigned i = 0; i < nb && at < sizeof(list); i++)
		at += snprintf(list + at, sizeof(list) - at, "%s%s", i > 0 ? ", " : "", names[i]);
	return conf_reader_fail(reader, setting, "unknown key; known here: %s", list);
}

/* Reported at the group's place, by the path that the key would have. */
static int missing_key(
	struct conf_reader *reader, const struct conf_key *key, const config_setting_t *group)
{
	const struct conf_place *place =
		conf_scan_place(reader->scan, config_setting_source_line(group));
	char path[CONF_PATH_TEXT], whole[CONF_PATH_TEXT + 32], room[EXPECTED_TEXT];
	const char *file;
	unsigned line = conf_reader_line(reader, group, &file);

	if (config_setting_is_root(group))
		place = NULL;
	conf_scan_path(reader->scan, place, path);
	snprintf(whole, sizeof(whole), "%s%s%s", path, place != NULL ? "." : "", key->name);
	return conf_error_set(reader->error, file, place != NULL ? line : 1, whole,
		"is missing; expected %s", expected_text(key, room));
}

int conf_schema_read(struct conf_reader *reader, const struct conf_key *keys,
	const config_setting_t *group, void *object)
{
	unsigned nb = config_setting_length(group);

	for (unsigned i = 0; i < nb; i++) {
		const config_setting_t *setting = config_setting_get_elem(group, i);
		const char *name = config_setting_name(setting);
		const struct conf_key *key = keys;
		while (key->name != NULL && strcmp(key->name, name) != 0)
			key++;
		if (key->name == NULL)
			return unknown_key(reader, keys, setting);
		int err = read_key(reader, key, setting, object);
		if (err < 0)
			return err;
	}
	for (const struct conf_key *key = keys; key->name != NULL; key++)
		if (key->required && config_setting_get_member(group, key->name) == NULL)
			return missing_key(reader, key, group);
	return 0;
}
