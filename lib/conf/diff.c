/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The keys are compared by the tables that they are read by, so that a new key is compared, and
 * shown, without a line here. Backends are matched by address and port, services by name.
 */
#include "conf_diff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "conf_error.h"
#include "conf_schema.h"

#define LINES_MAX 100
#define ADDRESS_TEXT 256
#define LINE_MAX 2000 // bytes, a little more

/* A line that grows by fragments. */
struct line {
	FILE *out;
	char *text;
	size_t size;
	const char *prefix; // before the first fragment
	unsigned count;     // fragments
	unsigned held_back; // of these, beyond LINE_MAX
};

static int line_open(struct line *line, const char *prefix)
{
	memset(line, 0, sizeof(*line));
	line->prefix = prefix;
	line->out = open_memstream(&line->text, &line->size);
	return line->out == NULL ? -ENOMEM : 0;
}

/* Where the next fragment is to be written, or NULL when the line is full. */
static FILE *line_next(struct line *line)
{
	line->count++;
	if (ftell(line->out) > LINE_MAX) {
		line->held_back++;
		return NULL;
	}
	fputs(line->count == 1 ? line->prefix : "; ", line->out);
	return line->out;
}

/* The text, the caller's; NULL for want of memory. */
static char *line_close(struct line *line)
{
	if (line->held_back != 0)
		fprintf(line->out, "; and %u more changes", line->held_back);
	if (fclose(line->out) != 0) {
		free(line->text);
		return NULL;
	}
	return line->text;
}

/* --- keys --- */

static long long integer_at(const struct conf_key *key, const void *object)
{
	const char *at = (const char *)object + key->offset;
	uint16_t narrow;
	int whole;

	if (key->type == CONF_BOOLEAN)
		return *(const bool *)at;
	if (key->size == sizeof(narrow)) {
		memcpy(&narrow, at, sizeof(narrow));
		return narrow;
	}
	memcpy(&whole, at, sizeof(whole));
	return whole;
}

static const char *text_at(const struct conf_key *key, const void *object)
{
	return *(char *const *)((const char *)object + key->offset);
}

void conf_key_print(FILE *out, const struct conf_key *key, const void *object)
{
	long long value = key->type == CONF_TEXT ? 0 : integer_at(key, object);
	const char *text;

	switch (key->type) {
	case CONF_BOOLEAN:
		fputs(value ? "true" : "false", out);
		break;
	case CONF_WORD:
		// Below min stands what the word "default" would.
		fputs(value >= key->min ? key->words[value - key->min] : "default", out);
		break;
	case CONF_TEXT:
		text = text_at(key, object);
		if (text == NULL)
			fputs("default", out);
		else
			fprintf(out, "\"%s\"", text);
		break;
	default:
		// What a file can't say stands for a default that lies elsewhere.
		if (value < key->min || value > key->max)
			fputs("default", out);
		else
			fprintf(out, "%lld", value);
	}
}

static bool same_texts(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool conf_key_same(const struct conf_key *key, const void *from, const void *to)
{
	if (key->type == CONF_OWN)
		return key->same == NULL || key->same(from, to);
	if (key->type == CONF_TEXT)
		return same_texts(text_at(key, from), text_at(key, to));
	return integer_at(key, from) == integer_at(key, to);
}

/* What differs by the table; `label` goes before each key's name. True when anything does. */
static bool diff_keys(struct line *line, const struct conf_key *keys, const char *label,
	const void *from, const void *to)
{
	bool differs = false;

	for (const struct conf_key *key = keys; key->name != NULL; key++) {
		if (key->type == CONF_GROUP) {
			char inner[64];
			snprintf(inner, sizeof(inner), "%s%s.", label, key->name);
			differs |= diff_keys(line, key->keys, inner,
				(const char *)from + key->offset, (const char *)to + key->offset);
			continue;
		}
		if (conf_key_same(key, from, to))
			continue;
		differs = true;
		FILE *out = line_next(line);
		if (out == NULL)
			continue;
		fprintf(out, "%s%s", label, key->name);
		if (key->type == CONF_OWN) {
			fputs(" changed", out);
			continue;
		}
		fputc(' ', out);
		conf_key_print(out, key, from);
		fputs(" -> ", out);
		conf_key_print(out, key, to);
	}
	return differs;
}

/* --- backends --- */

static const struct conf_key *backend_keys(void)
{
	const struct conf_key *key = conf_service_keys;

	while (strcmp(key->name, "backends") != 0)
		key++;
	return key->keys;
}

static int compare_backends(const struct conf_backend *a, const struct conf_backend *b)
{
	int order = strcmp(a->host != NULL ? a->host : "", b->host != NULL ? b->host : "");

	return order != 0 ? order : net_endpoint_compare(&a->endpoint, &b->endpoint);
}

static int compare_places(const void *a, const void *b)
{
	return compare_backends(
		*(const struct conf_backend *const *)a, *(const struct conf_backend *const *)b);
}

static const char *address_of(const struct conf_backend *backend, char *text)
{
	if (backend->host == NULL)
		return net_endpoint_format(&backend->endpoint, text);
	snprintf(text, ADDRESS_TEXT, "%.240s:%u", backend->host, ntohs(backend->endpoint.port));
	return text;
}

static void print_backend(struct line *line, char sign, const struct conf_backend *backend)
{
	static const char *const states[] = {"", " drain", " disabled"};
	char address[ADDRESS_TEXT];
	FILE *out = line_next(line);

	if (out == NULL)
		return;
	fprintf(out, "%c %s", sign, backend->name);
	if (strcmp(backend->name, address_of(backend, address)) != 0)
		fprintf(out, " %s", address);
	if (sign == '+' && backend->weight != 1)
		fprintf(out, " weight %u", backend->weight);
	if (sign == '+')
		fprintf(out, "%s%s", backend->backup ? " backup" : "", states[backend->state]);
}

static bool diff_backend(
	struct line *line, const struct conf_backend *from, const struct conf_backend *to)
{
	char label[CONF_NAME_MAX + 4];

	snprintf(label, sizeof(label), "%s: ", to->name);
	return diff_keys(line, backend_keys(), label, from, to);
}

/* The old ones sorted, to find the new ones' by; those that are left over were removed. */
static int diff_backends(struct line *line, const struct conf_service *from,
	const struct conf_service *to, bool *differs)
{
	const struct conf_backend **old = calloc(from->nb_backends + 1, sizeof(*old));
	bool *kept = calloc(from->nb_backends + 1, sizeof(*kept));

	if (old == NULL || kept == NULL) {
		free(old);
		free(kept);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < from->nb_backends; i++)
		old[i] = &from->backends[i];
	qsort(old, from->nb_backends, sizeof(*old), compare_places);
	for (unsigned i = 0; i < to->nb_backends; i++) {
		const struct conf_backend *wanted = &to->backends[i];
		const struct conf_backend **found =
			bsearch(&wanted, old, from->nb_backends, sizeof(*old), compare_places);
		if (found == NULL) {
			print_backend(line, '+', wanted);
			*differs = true;
			continue;
		}
		kept[*found - from->backends] = true;
		*differs |= diff_backend(line, *found, wanted);
		*differs |= *found - from->backends != i; // another order
	}
	for (unsigned i = 0; i < from->nb_backends; i++) {
		if (kept[i])
			continue;
		print_backend(line, '-', &from->backends[i]);
		*differs = true;
	}
	free(old);
	free(kept);
	return 0;
}

/* --- services --- */

/* A line as it stands, which is taken over; NULL: there was no memory for it. */
static int add_text(struct conf_diff *diff, char *text)
{
	if (text == NULL)
		return -ENOMEM;
	if (diff->nb_lines > LINES_MAX) {
		free(text);
		return 0;
	}
	if (diff->nb_lines == LINES_MAX) {
		free(text);
		text = strdup("and more");
		if (text == NULL)
			return -ENOMEM;
	}
	diff->lines[diff->nb_lines++] = text;
	return 0;
}

/* Closes the line; one without a fragment says nothing. */
static int add_line(struct conf_diff *diff, struct line *line)
{
	char *text = line_close(line);

	if (text != NULL && line->count == 0) {
		free(text);
		return 0;
	}
	return add_text(diff, text);
}

int conf_diff_add_line(struct conf_diff *diff, const char *text)
{
	return add_text(diff, strdup(text));
}

static int compare_names(const void *a, const void *b)
{
	return strcmp((*(const struct conf_service *const *)a)->name,
		(*(const struct conf_service *const *)b)->name);
}

static int service_line(
	struct line *line, const struct conf_service *service, char *prefix, size_t size)
{
	snprintf(prefix, size, "service %s: ", service->name);
	return line_open(line, prefix);
}

static int whole_service(struct conf_diff *diff, const struct conf_service *service, char sign)
{
	char prefix[CONF_NAME_MAX + 16];
	struct line line;

	if (service_line(&line, service, prefix, sizeof(prefix)) < 0)
		return -ENOMEM;
	diff->any = true;
	fprintf(line_next(&line), "%s, %u backend%s", sign == '+' ? "new" : "removed",
		service->nb_backends, service->nb_backends == 1 ? "" : "s");
	return add_line(diff, &line);
}

static int diff_service(struct conf_diff *diff, const struct conf_service *from,
	const struct conf_service *to, bool *changed)
{
	char prefix[CONF_NAME_MAX + 16];
	struct line line;

	if (service_line(&line, to, prefix, sizeof(prefix)) < 0)
		return -ENOMEM;
	*changed = diff_keys(&line, conf_service_keys, "", from, to);
	*changed |= from->family != to->family;
	int err = diff_backends(&line, from, to, changed);
	diff->any |= *changed;
	int failed = add_line(diff, &line);
	return err < 0 ? err : failed;
}

static int diff_services(struct conf_diff *diff, const struct conf *from, const struct conf *to)
{
	const struct conf_service **old = calloc(from->nb_services + 1, sizeof(*old));
	bool *kept = calloc(from->nb_services + 1, sizeof(*kept)); // by place in `old`
	int err = old == NULL || kept == NULL ? -ENOMEM : 0;

	for (unsigned i = 0; err == 0 && i < from->nb_services; i++)
		old[i] = from->services[i];
	if (err == 0)
		qsort(old, from->nb_services, sizeof(*old), compare_names);
	for (unsigned i = 0; err == 0 && i < to->nb_services; i++) {
		const struct conf_service *wanted = to->services[i];
		const struct conf_service **found =
			bsearch(&wanted, old, from->nb_services, sizeof(*old), compare_names);
		if (found == NULL) {
			diff->changed[i] = true;
			err = whole_service(diff, wanted, '+');
			continue;
		}
		kept[found - old] = true;
		if (*found == wanted) // shared: nothing changed
			continue;
		err = diff_service(diff, *found, wanted, &diff->changed[i]);
	}
	for (unsigned i = 0; err == 0 && i < from->nb_services; i++)
		if (!kept[(const struct conf_service **)bsearch(&from->services[i], old,
				  from->nb_services, sizeof(*old), compare_names) -
			    old])
			err = whole_service(diff, from->services[i], '-');
	free(old);
	free(kept);
	return err;
}

/* --- the top level --- */

/* A copy of the table's row alone. */
static bool diff_root_key(struct line *line, const struct conf_key *key, const struct conf *from,
	const struct conf *to)
{
	const struct conf_key rows[] = {*key, {NULL}};

	return diff_keys(line, rows, "", from, to);
}

/* The first key that only a restart can change: refused in words. */
static int check_restart(
	const struct conf *from, const struct conf *to, const char *path, struct conf_error *error)
{
	for (const struct conf_key *key = conf_root_keys; key->name != NULL; key++) {
		struct line line;
		if (!key->restart)
			continue;
		if (line_open(&line, "") < 0)
			return conf_error_memory(error, path);
		bool differs = diff_root_key(&line, key, from, to);
		char *text = line_close(&line);
		if (text == NULL)
			return conf_error_memory(error, path);
		if (differs)
			conf_error_set(error, path, 0, "",
				"%s: a running weir can't take this; "
				"nothing was changed. Put it back and reload, or restart weir: "
				"systemctl restart weir",
				text);
		free(text);
		if (differs)
			return -EINVAL;
	}
	return 0;
}

static int diff_root(struct conf_diff *diff, const struct conf *from, const struct conf *to)
{
	struct line line;

	if (line_open(&line, "") < 0)
		return -ENOMEM;
	for (const struct conf_key *key = conf_root_keys; key->name != NULL; key++)
		if (!key->restart)
			diff->any |= diff_root_key(&line, key, from, to);
	return add_line(diff, &line);
}

struct conf_diff *conf_diff_create(
	const struct conf *from, const struct conf *to, const char *path, struct conf_error *error)
{
	struct conf_diff *diff;

	if (check_restart(from, to, path, error) < 0)
		return NULL;
	diff = calloc(1, sizeof(*diff));
	if (diff != NULL) {
		diff->changed = calloc(to->nb_services + 1, sizeof(*diff->changed));
		diff->lines = calloc(LINES_MAX + 2, sizeof(*diff->lines));
	}
	if (diff == NULL || diff->changed == NULL || diff->lines == NULL ||
		diff_root(diff, from, to) < 0 || diff_services(diff, from, to) < 0) {
		conf_diff_destroy(diff);
		conf_error_memory(error, path);
		return NULL;
	}
	return diff;
}

void conf_diff_destroy(struct conf_diff *diff)
{
	if (diff == NULL)
		return;
	for (unsigned i = 0; i < diff->nb_lines; i++)
		free(diff->lines[i]);
	free(diff->lines);
	free(diff->changed);
	free(diff);
}
