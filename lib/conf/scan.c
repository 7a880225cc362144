/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_scan.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"
#include "conf_carry.h"
#include "conf_grammar.h"
#include "conf_include.h"
#include "conf_token.h"

struct open_file {
	struct conf_file *file;
	struct conf_token_reader tokens;
	unsigned depth;              // levels that were open where it was included
	struct conf_include include; // the last one in it
	const char *copied;          // up to here it is in the whole text
};

struct reader {
	struct conf_scan *scan;
	struct conf_carry carry;
	struct conf_block *block; // the service that is being read, or NULL
	size_t block_places;      // before it
	uint32_t nb_elements;     // services that libconfig has
	struct conf_grammar grammar;
	FILE *whole;
	size_t nb_bytes; // of all the files
	unsigned nb_open;
	struct open_file open[CONF_INCLUDE_DEPTH_MAX + 1];
};

/* The grammar goes on in the file that was opened last. */
static void follow(struct reader *r)
{
	r->grammar.file = r->open[r->nb_open - 1].file;
	r->grammar.base = r->open[r->nb_open - 1].depth;
}

static unsigned line_of(const struct conf_file *file, const char *at)
{
	unsigned line = 1;

	for (const char *p = file->text; p < at; p++)
		line += *p == '\n';
	return line;
}

/* Takes over `file`, whose name and text must live as long as the places. */
static int enter_file(struct reader *r, struct conf_file *file)
{
	struct conf_scan *scan = r->scan;
	struct conf_file **files;
	struct conf_file *kept = malloc(sizeof(*kept));
	const char *nul;

	files = realloc(scan->files, (scan->nb_files + 1) * sizeof(struct conf_file *));
	if (files != NULL)
		scan->files = files;
	if (kept == NULL || files == NULL) {
		free(kept);
		conf_error_memory(r->grammar.error, file->name);
		conf_file_fini(file);
		return -ENOMEM;
	}
	*kept = *file;
	scan->files[scan->nb_files++] = kept;
	r->nb_bytes += kept->size;

	struct open_file *open = &r->open[r->nb_open++];
	memset(open, 0, sizeof(*open));
	open->file = kept;
	open->depth = r->grammar.depth;
	open->copied = kept->text;
	conf_token_init(&open->tokens, kept->text, kept->size);
	follow(r);
	nul = memchr(kept->text, '\0', kept->size);
	if (nul != NULL)
		return conf_grammar_fail(
			&r->grammar, line_of(kept, nul), "NUL byte; the file must be plain text");
	if (r->nb_bytes > CONF_FILE_MAX)
		return conf_grammar_fail(
			&r->grammar, 0, "with this one the files are larger than 16 MiB together");
	return 0;
}

/* What speaks against reading a file that was just loaded, inside those that are open. */
static const char *loop_fault(const struct reader *r, const struct conf_file *file)
{
	for (unsigned i = 0; i < r->nb_open; i++)
		if (r->open[i].file->device == file->device &&
			r->open[i].file->inode == file->inode)
			return "the file includes itself";
	if (r->nb_open > CONF_INCLUDE_DEPTH_MAX)
		return "more than 10 files include one another";
	if (r->scan->nb_files == CONF_FILES_MAX)
		return "more than 4096 files are included in all";
	return NULL;
}

static int include_fail(
	struct reader *r, const struct conf_include *include, const char *name, const char *fault)
{
	return conf_grammar_fail(&r->grammar, include->line, "@include \"%.*s\": %s%s%s",
		(int)include->length, include->text, include->is_pattern ? name : "",
		include->is_pattern && name[0] != '\0' ? ": " : "", fault);
}

/* The next of the files that were found. */
static int include_next(struct reader *r, struct conf_include *include)
{
	const char *name = include->names[include->next++];
	struct conf_file file;
	const char *fault = conf_file_read(&file, name);

	if (fault == NULL) {
		fault = loop_fault(r, &file);
		if (fault == NULL)
			return enter_file(r, &file);
		conf_file_fini(&file);
	}
	return include_fail(r, include, name, fault);
}

static void copy_until(const struct reader *r, struct open_file *open, const char *end)
{
	fwrite(open->copied, 1, end - open->copied, r->whole);
	open->copied = end;
}

/* They are entered one after the other, as if there were a line for each. */
static int include(struct reader *r, const struct conf_token *token)
{
	struct open_file *open = &r->open[r->nb_open - 1];
	const char *fault;

	if (r->block != NULL)
		r->block->text = NULL; // it isn't whole in one place
	copy_until(r, open, memrchr(open->copied, '@', token->text - open->copied));
	open->copied = open->tokens.at;
	conf_include_fini(&open->include);
	fault = conf_include_find(
		&open->include, open->file->name, token->text, token->length, token->line);
	return fault == NULL ? 0 : include_fail(r, &open->include, "", fault);
}

static int leave_file(struct reader *r, const struct conf_token *end)
{
	int err = conf_grammar_end(&r->grammar, end);

	if (err < 0)
		return err;
	struct open_file *open = &r->open[--r->nb_open];
	copy_until(r, open, open->file->text + open->file->size);
	putc('\n', r->whole); // its last line may be a comment
	conf_include_fini(&open->include);
	if (r->nb_open > 0)
		follow(r);
	return 0;
}

/* --- services --- */

static int add_block(struct reader *r, const struct conf_token *name)
{
	struct conf_scan *scan = r->scan;

	if (scan->nb_blocks == scan->blocks_room) {
		size_t room = scan->blocks_room * 2 + 64;
		struct conf_block *blocks = realloc(scan->blocks, room * sizeof(*blocks));
		if (blocks == NULL)
			return conf_error_memory(r->grammar.error, scan->files[0]->name);
		scan->blocks = blocks;
		scan->blocks_room = room;
	}
	r->block = &scan->blocks[scan->nb_blocks++];
	r->block_places = scan->nb_places;
	*r->block = (struct conf_block){
		.text = name->text,
		.carried = conf_carry_find(
			&r->carry, name->text, name->length, r->open[r->nb_open - 1].tokens.end),
		.element = r->nb_elements,
	};
	r->nb_elements += r->block->carried == NULL;
	return 0;
}

static void end_block(struct reader *r, const struct conf_token *last)
{
	if (r->block->text != NULL)
		r->block->size = last->text + last->length - r->block->text;
	r->block->nb_settings = r->scan->nb_places - r->block_places;
	r->block = NULL;
}

/* Go on behind its last }. */
static int carry_over(struct reader *r, const struct conf_token *name)
{
	const struct conf_service *service = r->block->carried;

	r->open[r->nb_open - 1].tokens.at = name->text + service->text_size;
	r->scan->nb_carried += service->nb_settings - 1;
	r->block = NULL;
	return conf_grammar_carry(&r->grammar, name);
}

static int read_token(struct reader *r, const struct conf_token *token)
{
	int err = 0;

	if (token->kind == CONF_TOKEN_NAME && conf_grammar_wants_service(&r->grammar)) {
		err = add_block(r, token);
		if (err == 0 && r->block->carried != NULL)
			return carry_over(r, token);
	}
	if (err == 0)
		err = conf_grammar_read(&r->grammar, token);
	if (err == 0 && r->block != NULL && conf_grammar_ends_service(&r->grammar))
		end_block(r, token);
	return err;
}

static int run(struct reader *r)
{
	while (r->nb_open > 0) {
		struct open_file *open = &r->open[r->nb_open - 1];
		struct conf_token_reader *tokens = &open->tokens;
		struct conf_token token;
		int err;

		if (open->include.next < open->include.nb_names) {
			err = include_next(r, &open->include);
			if (err < 0)
				return err;
			continue;
		}
		conf_token_next(tokens, &token);
		if (token.kind == CONF_TOKEN_BAD)
			err = conf_grammar_fail(&r->grammar, token.line, "%s", tokens->fault);
		else if (token.kind == CONF_TOKEN_END)
			err = leave_file(r, &token);
		else if (token.kind == CONF_TOKEN_INCLUDE)
			err = include(r, &token);
		else
			err = read_token(r, &token);
		if (err < 0)
			return err;
	}
	return 0;
}

static bool same_key(const struct conf_place *a, const struct conf_place *b)
{
	return a->parent == b->parent && a->name_length == b->name_length &&
		memcmp(a->name, b->name, a->name_length) == 0;
}

static int compare_keys(const void *a, const void *b)
{
	const struct conf_place *const *x = a, *const *y = b;
	int order;

	if ((*x)->parent != (*y)->parent)
		return (*x)->parent < (*y)->parent ? -1 : 1;
	if ((*x)->name_length != (*y)->name_length)
		return (*x)->name_length < (*y)->name_length ? -1 : 1;
	order = memcmp((*x)->name, (*y)->name, (*x)->name_length);
	return order != 0 ? order : *x < *y ? -1 : 1; // the places lie in the order of the text
}

/* libconfig would refuse a key given twice, but not say which, nor where it stood first. */
static int check_duplicates(const struct conf_scan *scan, struct conf_error *error)
{
	struct conf_place **keys = malloc((scan->nb_places + 1) * sizeof(*keys));
	const struct conf_place *first = NULL, *second = NULL;
	char path[CONF_PATH_TEXT];
	size_t nb_keys = 0;

	if (keys == NULL)
		return conf_error_memory(error, scan->files[0]->name);
	for (size_t i = 0; i < scan->nb_places; i++)
		if (scan->places[i].name != NULL)
			keys[nb_keys++] = &scan->places[i];
	qsort(keys, nb_keys, sizeof(*keys), compare_keys);
	for (size_t i = 1; i < nb_keys; i++) {
		if (same_key(keys[i - 1], keys[i]) && (second == NULL || keys[i] < second)) {
			first = keys[i - 1];
			second = keys[i];
		}
	}
	free(keys);
	if (second == NULL)
		return 0;
	return conf_error_set(error, second->file->name, second->line,
		conf_scan_path(scan, second, path),
		"given twice, first in %s:%u; remove or rename one", first->file->name,
		first->line);
}

/* Those of carried services count too; which one is too many, only the whole text says. */
static int check_settings(const struct conf_scan *scan, struct conf_error *error)
{
	if (scan->nb_places + scan->nb_carried <= CONF_SETTINGS_MAX)
		return 0;
	return conf_error_set(error, scan->files[0]->name, 0, "", "more than %u settings in all",
		CONF_SETTINGS_MAX);
}

int conf_scan_read(struct conf_scan *scan, const char *path, const struct conf *former,
	struct conf_error *error)
{
	struct reader reader = {.scan = scan};
	struct conf_file file;
	const char *fault;
	size_t size, whole_size;
	FILE *out;
	int err;

	memset(scan, 0, sizeof(*scan));
	fault = conf_file_read(&file, path);
	if (fault != NULL)
		return conf_error_set(error, path, 0, "", "%s", fault);
	out = open_memstream(&scan->text, &size);
	reader.whole = open_memstream(&scan->whole, &whole_size);
	if (out == NULL || reader.whole == NULL) {
		if (out != NULL)
			fclose(out);
		if (reader.whole != NULL)
			fclose(reader.whole);
		conf_file_fini(&file);
		return conf_error_memory(error, path);
	}
	conf_grammar_init(&reader.grammar, scan, out, error);
	err = enter_file(&reader, &file);
	if (err == 0 && conf_carry_init(&reader.carry, former) < 0)
		err = conf_error_memory(error, path);
	if (err == 0)
		err = run(&reader);
	conf_carry_fini(&reader.carry);
	while (reader.nb_open > 0) // after an error
		conf_include_fini(&reader.open[--reader.nb_open].include);
	if ((ferror(out) | fclose(out) | ferror(reader.whole) | fclose(reader.whole)) != 0 &&
		err == 0)
		err = conf_error_memory(error, path);
	if (err == 0)
		err = check_settings(scan, error);
	return err < 0 ? err : check_duplicates(scan, error);
}

void conf_scan_fini(struct conf_scan *scan)
{
	for (size_t i = 0; i < scan->nb_files; i++) {
		conf_file_fini(scan->files[i]);
		free(scan->files[i]);
	}
	free(scan->files);
	free(scan->places);
	free(scan->blocks);
	free(scan->text);
	free(scan->whole);
	memset(scan, 0, sizeof(*scan));
}

const struct conf_place *conf_scan_place(const struct conf_scan *scan, unsigned line)
{
	return line >= 1 && line <= scan->nb_places ? &scan->places[line - 1] : NULL;
}

const char *conf_scan_path(const struct conf_scan *scan, const struct conf_place *place, char *path)
{
	const struct conf_place *chain[CONF_DEPTH_MAX + 1];
	unsigned n = 0;
	size_t at = 0;

	path[0] = '\0';
	while (place != NULL && n < CONF_DEPTH_MAX + 1) {
		chain[n++] = place;
		place = place->parent != CONF_NO_PLACE ? &scan->places[place->parent] : NULL;
	}
	while (n-- > 0 && at < CONF_PATH_TEXT) {
		// cppcheck-suppress uninitvar // all below n are
		const struct conf_place *p = chain[n];
		size_t room = CONF_PATH_TEXT - at;
		if (p->name == NULL)
			at += snprintf(path + at, room, "[%u]", p->index);
		else
			at += snprintf(path + at, room, "%s%.*s", at > 0 ? "." : "",
				p->name_length < room ? (int)p->name_length : (int)room, p->name);
	}
	return path;
}
