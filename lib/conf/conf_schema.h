/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The configuration as tables of keys, and the reader that fills a struct by them. A key is
 * written down once: the reader, its messages and the reference all come from its row.
 */
#ifndef WEIR_CONF_SCHEMA_H
#define WEIR_CONF_SCHEMA_H

#include <libconfig.h>
#include <stdbool.h>
#include <stddef.h>

#include "conf.h"
#include "conf_scan.h"

enum conf_key_type {
	CONF_INTEGER, // unsigned, int or uint16_t, by size
	CONF_BOOLEAN, // bool
	CONF_WORD,    // an enum: words[n] stands for min + n
	CONF_TEXT,    // char *, allocated
	CONF_GROUP,   // a struct at the offset
	CONF_OWN,     // what `read` makes of it
};

struct conf_reader {
	const struct conf_scan *scan;
	struct conf_error *error;
	unsigned nb_backends;                   // so far
	const struct conf *former;              // whose services may be carried over; NULL = none
	const struct conf_succeeded *succeeded; // whose connections go on; NULL = none
};

struct conf_key {
	const char *name; // NULL ends a table
	enum conf_key_type type;
	bool required;
	size_t offset;
	size_t size;
	long long min;
	long long max;
	long long initial;               // INTEGER, BOOLEAN, WORD
	const char *const *words;        // NULL-terminated
	const char *initial_text;        // TEXT; NULL stays NULL
	bool (*valid)(const char *text); // TEXT
	const struct conf_key *keys;     // GROUP, OWN
	bool bare;                       // GROUP: an integer alone is its first key
	const char *each; // OWN: what stands for one element in the reference's paths
	int (*read)(struct conf_reader *reader, const config_setting_t *setting, void *object);
	bool (*same)(const void *object, const void *other); // OWN: whether it is equal in both
	bool restart;         // at the top level: a change is not taken by a running weir
	bool kept;            // who takes over finds the connections, and the port, by it
	const char *expected; // TEXT, OWN: what would be right; else made from the row
	const char *fallback; // the default in words, where `initial` doesn't tell
	const char *doc;      // one line
};

/* Places of a struct's members in a table. */
#define CONF_AT(type, member) .offset = offsetof(type, member), .size = sizeof(((type *)0)->member)

/* Put every default in place; texts are allocated. 0, or -ENOMEM with the error filled in. */
int conf_schema_defaults(struct conf_reader *reader, const struct conf_key *keys, void *object);

/*
 * Read a group over the defaults. Refuses what isn't in the table, and what lacks a required key.
 * 0, or negative with the error filled in; what was read until then stays in the object.
 */
int conf_schema_read(struct conf_reader *reader, const struct conf_key *keys,
	const config_setting_t *group, void *object);

/* Report at a setting's file, line and path. Always -EINVAL. */
int conf_reader_fail(const struct conf_reader *reader, const config_setting_t *setting,
	const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Report a lack of memory. Always -ENOMEM. */
int conf_reader_memory(const struct conf_reader *reader);

/* Print the value that the object has of a key that isn't CONF_OWN, as it would stand in a file. */
void conf_key_print(FILE *out, const struct conf_key *key, const void *object);
/* Tell whether two objects have the same value of the key. */
bool conf_key_same(const struct conf_key *key, const void *from, const void *to);

/* Return what a setting is, for messages: "integer", "group" ... */
const char *conf_reader_kind(const config_setting_t *setting);

/* Read a string without control characters. 0 or -EINVAL. */
int conf_reader_text(const struct conf_reader *reader, const config_setting_t *setting,
	const char *expected, const char **text);

/* Return how many elements "x", [ "x", "y" ] or ( "x", "y" ) has, all of them strings, 1
 * to `max`; or -EINVAL. */
int conf_reader_texts(const struct conf_reader *reader, const config_setting_t *setting,
	const char *expected, unsigned max);
/* Return the n-th element of what conf_reader_texts() took. */
const config_setting_t *conf_reader_element(const config_setting_t *setting, unsigned n);

/* Return the group of the n-th service; NULL when it was carried over. */
const config_setting_t *conf_reader_service(
	const struct conf_reader *reader, const config_setting_t *services, unsigned n);

/* Return the line of a setting in its file, and set *file to that file's name. */
unsigned conf_reader_line(
	const struct conf_reader *reader, const config_setting_t *setting, const char **file);

/* The tables. */
extern const struct conf_key conf_root_keys[];    // struct conf
extern const struct conf_key conf_port_keys[];    // struct conf_port
extern const struct conf_key conf_service_keys[]; // struct conf_service
extern const struct conf_key conf_health_keys[];  // struct conf_health

/* Read the group of services into struct conf. */
int conf_services_read(struct conf_reader *reader, const config_setting_t *setting, void *object);

/* Read a service's lists of clients. */
#define CONF_ACCESS_EXPECTED "\"address/length\" or an array of these, as in \"198.51.100.0/24\""
int conf_allow_read(struct conf_reader *reader, const config_setting_t *setting, void *object);
int conf_deny_read(struct conf_reader *reader, const config_setting_t *setting, void *object);
bool conf_allow_same(const void *from, const void *to);
bool conf_deny_same(const void *from, const void *to);

/* Check what holds between keys: 0, or negative with the error filled in. */
int conf_check_port(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root);
int conf_check_services(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root);
/* Check what holds between a service's `allow` and `deny`; its group is `keys`. 0, or negative with
 * the error filled in. */
int conf_check_access(struct conf_reader *reader, const struct conf_service *service,
	const config_setting_t *keys);
int conf_check_listens(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root);
/* Check that the connections of who is succeeded, if anybody is, can go on. */
int conf_check_successor(
	struct conf_reader *reader, const struct conf *conf, const config_setting_t *root);

#endif
