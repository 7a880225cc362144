/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading a file again, with what stands there as before taken from the former configuration: the
 * result and the messages are those of reading all of it.
 */
#include "conf_test.h"

#include <time.h>

#include "conf_diff.h"

static const char base_text[] =
	"# the port\n"
	"port = { device = \"eth1\"; address = [ \"192.0.2.10/24\", \"2001:db8::10/64\" ]; };\n"
	"flows = 2048;\n"
	"services = {\n"
	"  web = { listen = \":80\"; backends = ( \"10.0.0.1:80\", \"10.0.0.2:80\" ); };\n"
	"  /* two on\n     one line */ api = { listen = \":81\"; backends = ( \"10.0.0.1:81\" ); } "
	"old : { listen = \":82\",\n"
	"    backends = ( { address = \"10.0.0.3:82\"; weight = 3; # three\n } ); }\n"
	"  @include \"more.inc\"\n"
	"  names = { listen = \":85\"; backends = ( \"a.example.org:85\" ); };\n"
	"  whole = {\n"
	"    listen = \":86\"; health = { type = \"http\"; path = \"/}\"; };\n"
	"    backends = (\n"
	"      @include \"backends.inc\"\n"
	"    );\n"
	"  };\n"
	"  six = { listen = \"[2001:db8::10]:80\"; backends = ( \"[2001:db8::1]:80\" ); };\n"
	"};\n";
static const char base_more[] =
	"m1 = { listen = \":83\"; backends = ( \"10.0.0.1:83\", \"10.0.0.9:83\" ); };\n"
	"m2 = { listen = \":84\"; scheduler = \"source\"; backends = ( \"10.0.0.1:84\" ); };\n";
static const char base_backends[] = "\"10.0.0.7:86\",\n\"10.0.0.8:86\"\n";

/* The three files. */
struct files {
	char text[3][4096];
};

static const char *const file_names[3] = {"reload.conf", "more.inc", "backends.inc"};

static void write_files(const struct files *files)
{
	for (int i = 0; i < 3; i++)
		test_write(file_names[i], files->text[i], strlen(files->text[i]));
}

static struct files base_files(void)
{
	struct files files = {0};

	strcpy(files.text[0], base_text);
	strcpy(files.text[1], base_more);
	strcpy(files.text[2], base_backends);
	return files;
}

/* All that is in a configuration: by the tables that it is read by, and what these don't know. */
static void assert_equal(const struct conf *a, const struct conf *b)
{
	struct conf_error error;
	struct conf_diff *diff = conf_diff_create(a, b, "equal", &error);

	if (diff == NULL)
		fail_msg("%s", error.text);
	if (diff->nb_lines != 0)
		fail_msg("%s", diff->lines[0]);
	assert_false(diff->any);
	assert_int_equal(a->nb_services, b->nb_services);
	for (unsigned s = 0; s < a->nb_services; s++) {
		const struct conf_service *x = a->services[s], *y = b->services[s];
		assert_false(diff->changed[s]);
		assert_string_equal(x->name, y->name);
		assert_int_equal(x->family, y->family);
		assert_int_equal(x->nb_names, y->nb_names);
		assert_int_equal(x->nb_settings, y->nb_settings);
		assert_int_equal(x->text == NULL, y->text == NULL);
		assert_int_equal(x->text_size, y->text_size);
		if (x->text != NULL)
			assert_memory_equal(x->text, y->text, x->text_size);
	}
	conf_diff_destroy(diff);
}

/* What is read with the former one's help; it, or NULL and the message. */
static struct conf *reload_and_compare(const struct conf *former)
{
	struct conf_error error, whole_error;
	struct conf *conf = conf_reload(test_path("reload.conf"), former, &error);
	struct conf *whole = conf_load(test_path("reload.conf"), &whole_error);

	assert_int_equal(conf == NULL, whole == NULL);
	if (conf == NULL)
		assert_string_equal(error.text, whole_error.text);
	else
		assert_equal(conf, whole);
	conf_free(whole);
	return conf;
}

static struct conf *load_base(struct files *files)
{
	struct conf_error error;

	*files = base_files();
	write_files(files);
	struct conf *conf = conf_load(test_path("reload.conf"), &error);
	if (conf == NULL)
		fail_msg("%s", error.text);
	return conf;
}

static void replace(char *text, const char *from, const char *to)
{
	char *at = strstr(text, from);

	assert_non_null(at);
	memmove(at + strlen(to), at + strlen(from), strlen(at + strlen(from)) + 1);
	memcpy(at, to, strlen(to));
}

static const struct conf_service *service(const struct conf *conf, const char *name)
{
	for (unsigned s = 0; s < conf->nb_services; s++)
		if (strcmp(conf->services[s]->name, name) == 0)
			return conf->services[s];
	return NULL;
}

static void only_services_whose_text_changed_are_read(void **state)
{
	struct files files;
	struct conf *first = load_base(&files);

	replace(files.text[0], "10.0.0.2:80", "10.0.0.22:80");
	replace(files.text[1], "10.0.0.9:83", "10.0.0.10:83");
	write_files(&files);
	struct conf *second = reload_and_compare(first);
	assert_non_null(second);
	for (unsigned s = 0; s < first->nb_services; s++) {
		const char *name = first->services[s]->name;
		bool same = strcmp(name, "web") != 0 && strcmp(name, "m1") != 0 &&
			strcmp(name, "whole") != 0; // parts of which are included
		assert_int_equal(service(second, name) == first->services[s], same);
	}
	// It outlives the one that it was read for.
	conf_free(first);
	assert_string_equal(service(second, "api")->backends[0].name, "10.0.0.1:81");
	conf_free(second);
}

static void services_may_move_between_files(void **state)
{
	struct files files;
	struct conf *first = load_base(&files);

	replace(files.text[1],
		"m2 = { listen = \":84\"; scheduler = \"source\"; "
		"backends = ( \"10.0.0.1:84\" ); };",
		"");
	replace(files.text[0], "  web = {",
		"\n\n\nm2 = { listen = \":84\"; scheduler = \"source\"; "
		"backends = ( \"10.0.0.1:84\" ); };  web = {");
	write_files(&files);
	struct conf *second = reload_and_compare(first);
	assert_non_null(second);
	assert_ptr_equal(second->services[0], service(first, "m2"));
	conf_free(first);
	conf_free(second);
}

static void files_that_a_pattern_finds_come_and_go(void **state)
{
	static const char further[] =
		"n1 = { listen = \":90\"; backends = ( \"10.0.0.1:90\" ); };\n";
	struct files files;
	struct conf *first = load_base(&files);

	replace(files.text[0], "more.inc", "mor*.inc");
	write_files(&files);
	struct conf *second = reload_and_compare(first);
	assert_non_null(second);
	assert_int_equal(second->nb_services, first->nb_services);
	conf_free(first);
	test_write("mor2.inc", further, strlen(further));
	struct conf *third = reload_and_compare(second);
	assert_non_null(third);
	assert_int_equal(third->nb_services, second->nb_services + 1);
	assert_non_null(service(third, "n1"));
	assert_ptr_equal(service(third, "m1"), service(second, "m1"));
	unlink(test_path("mor2.inc"));
	conf_free(second);
	struct conf *fourth = reload_and_compare(third);
	assert_null(service(fourth, "n1"));
	conf_free(third);
	conf_free(fourth);
}

static void what_holds_between_services_is_checked(void **state)
{
	static const char *const edits[][3] = {
		{"listen = \":81\"", "listen = \":80\"", "is taken: service web listens there"},
		{"  names = {",
			"web = { listen = \":80\"; backends = ( \"10.0.0.1:80\", "
			"\"10.0.0.2:80\" ); };  names = {",
			"given twice, first in "},
		{"192.0.2.10/24", "10.0.0.1/24", "10.0.0.1 is an address of weir0 itself"},
		{", \"2001:db8::10/64\"", "", "2001:db8::10 is not an address of the port"},
		{"};\n};\n", "};\n", "the file ends before the }"},
		{"  web = {", "  web = { x = 1;", "unknown key"},
	};

	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		struct conf_error error;
		struct files files;
		struct conf *first = load_base(&files);
		replace(files.text[0], edits[i][0], edits[i][1]);
		write_files(&files);
		assert_null(reload_and_compare(first));
		assert_null(conf_reload(test_path("reload.conf"), first, &error));
		if (strstr(error.text, edits[i][2]) == NULL)
			fail_msg("expected %s, got %s", edits[i][2], error.text);
		conf_free(first);
	}
}

/* --- random edits --- */

static uint64_t random_state = 1;

static unsigned random_below(unsigned n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 20) % n;
}

static void splice(char *text, size_t at, size_t removed, const char *added, size_t length)
{
	size_t size = strlen(text);

	if (size - removed + length >= sizeof(((struct files *)0)->text[0]))
		return;
	memmove(text + at + length, text + at + removed, size - at - removed + 1);
	memcpy(text + at, added, length);
}

/* Start and length of the n-th line. */
static size_t line_at(const char *text, unsigned n, size_t *length)
{
	const char *at = text;

	for (; n > 0 && strchr(at, '\n') != NULL; n--)
		at = strchr(at, '\n') + 1;
	const char *end = strchr(at, '\n');
	*length = end == NULL ? strlen(at) : (size_t)(end - at + 1);
	return at - text;
}

static unsigned nb_lines(const char *text)
{
	unsigned nb = 0;

	for (; *text != '\0'; text++)
		nb += *text == '\n';
	return nb;
}

static void edit(struct files *files)
{
	static const char *const snippets[] = {"\n", " ", "# x\n", "/* y */",
		"\n@include \"more.inc\"\n", "}", "{", ";", ",", "\"", "/*", "*/", "#", "web",
		"api", "m1", "weight = 2;", "flows = 4096;",
		"n1 = { listen = \":90\"; backends = ( \"10.0.0.1:90\" ); };",
		"n2 = { listen = \":91\"; backends = ( \"10.0.0.1:91\", \"b.example.org:91\" ); }",
		"on_remove = \"reset\";", "scheduler = \"least_conn\";", "\n@include \"*.inc\"\n",
		"\0"};
	char *text = files->text[random_below(4) % 3], line[4096];
	size_t size = strlen(text), at = random_below(size + 1), length;
	const char *snippet = snippets[random_below(sizeof(snippets) / sizeof(snippets[0]))];

	switch (random_below(7)) {
	case 0: // a snippet anywhere
		splice(text, at, 0, snippet, strlen(snippet));
		break;
	case 1: // or at the start of a line
		at = line_at(text, random_below(nb_lines(text) + 1), &length);
		splice(text, at, 0, snippet, strlen(snippet));
		break;
	case 2: // some bytes less
		length = 1 + random_below(5);
		if (at + length <= size)
			splice(text, at, length, "", 0);
		break;
	case 3: // a line less
		at = line_at(text, random_below(nb_lines(text) + 1), &length);
		splice(text, at, length, "", 0);
		break;
	case 4: // a line elsewhere, perhaps of another file
		at = line_at(text, random_below(nb_lines(text) + 1), &length);
		memcpy(line, text + at, length);
		if (random_below(2) == 0)
			splice(text, at, length, "", 0);
		text = files->text[random_below(3)];
		size_t ignored;
		at = line_at(text, random_below(nb_lines(text) + 1), &ignored);
		splice(text, at, 0, line, length);
		break;
	default: // another digit, which most often leaves a good file
		for (size_t i = 0; i < size && (text[at] < '0' || text[at] > '9'); i++)
			at = (at + 1) % size;
		if (at < size)
			text[at] = '0' + random_below(10);
	}
}

static void random_edits_are_read_as_the_whole_is(void **state)
{
	unsigned good = 0, shared = 0;
	struct files files, next;
	struct conf *running = load_base(&files);

	for (unsigned round = 0; round < 4000; round++) {
		if (round % 100 == 99) { // it has wandered off
			conf_free(running);
			running = load_base(&files);
		}
		next = files;
		for (unsigned n = 1 + random_below(3); n > 0; n--)
			edit(&next);
		write_files(&next);
		struct conf *conf = reload_and_compare(running);
		if (conf == NULL)
			continue;
		good++;
		for (unsigned s = 0; s < conf->nb_services; s++)
			shared += conf->services[s]->references > 1;
		conf_free(running);
		running = conf;
		files = next;
	}
	conf_free(running);
	// Enough of both kinds.
	assert_in_range(good, 500, 3500);
	assert_true(shared > good);
}

/* --- size --- */

/* 1,000 services of 100 backends; backend `other` of service `service` isn't as usual. */
static void write_large(unsigned service, unsigned other)
{
	FILE *file = fopen(test_path("reload.conf"), "w");

	assert_non_null(file);
	fputs("port = { device = \"eth1\"; address = \"192.0.2.10/24\"; };\nservices = {\n", file);
	for (unsigned s = 0; s < 1000; s++) {
		fprintf(file, "service%u = {\n  listen = \":%u\";\n  backends = (\n", s, s + 1);
		for (unsigned b = 0; b < 100; b++)
			fprintf(file,
				"    { address = \"10.%u.%u.%u:80\"; name = \"b%u\"; weight = %u; "
				"}%s\n",
				s / 250, s % 250, b + 1, b, s == service && b == other ? 7 : 1,
				b < 99 ? "," : "");
		fputs("  );\n};\n", file);
	}
	fputs("};\n", file);
	fclose(file);
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void one_change_in_a_hundred_thousand_backends_is_read_quickly(void **state)
{
	struct conf_error error;

	write_large(1000, 0);
	double start = seconds();
	struct conf *first = conf_load(test_path("reload.conf"), &error), *second;
	double loaded = seconds();
	assert_non_null(first);
	write_large(500, 50);
	double again = seconds();
	second = conf_reload(test_path("reload.conf"), first, &error);
	double reloaded = seconds();
	assert_non_null(second);
	struct conf_diff *diff = conf_diff_create(first, second, "large", &error);
	double compared = seconds();
	assert_int_equal(diff->nb_lines, 1);
	assert_string_equal(diff->lines[0], "service service500: b50: weight 1 -> 7");
	print_message("whole %.0f ms, one change %.1f ms, difference %.1f ms\n",
		(loaded - start) * 1e3, (reloaded - again) * 1e3, (compared - reloaded) * 1e3);
	// It takes a hundredth; on any machine it stays far below a fifth.
	assert_true((compared - again) * 5 < loaded - start);
	conf_diff_destroy(diff);
	conf_free(first);
	while (!conf_free_part(second))
		;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_services_whose_text_changed_are_read),
		cmocka_unit_test(services_may_move_between_files),
		cmocka_unit_test(files_that_a_pattern_finds_come_and_go),
		cmocka_unit_test(what_holds_between_services_is_checked),
		cmocka_unit_test(random_edits_are_read_as_the_whole_is),
		cmocka_unit_test(one_change_in_a_hundred_thousand_backends_is_read_quickly),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
