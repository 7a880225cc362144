/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_test.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <time.h>

#ifdef __SANITIZE_ADDRESS__
#define TEST_SECONDS 20
#else
#define TEST_SECONDS 2
#endif
#define REFERENCE TEST_SOURCE_ROOT "/conf/weir.conf"
#define MINIMAL TEST_SOURCE_ROOT "/conf/examples/minimal.conf"

static struct conf *load(const char *path)
{
	struct conf_error error;
	struct conf *conf = conf_load(path, &error);

	if (conf == NULL)
		fail_msg("%s", error.text);
	return conf;
}

static char *slurp(const char *path)
{
	FILE *file = fopen(path, "r");
	char *text = calloc(1, 1 << 16);

	assert_non_null(file);
	assert_in_range(fread(text, 1, 65535, file), 1, 65534);
	fclose(file);
	return text;
}

static void assert_addr(const struct net_addr *addr, const char *expected)
{
	char text[NET_ADDR_TEXT];

	assert_string_equal(net_addr_format(addr, text), expected);
}

static void assert_endpoint(const struct net_endpoint *endpoint, const char *expected)
{
	char text[NET_ENDPOINT_TEXT];

	assert_string_equal(net_endpoint_format(endpoint, text), expected);
}

/* All but the type of its probes, which it sets. */
static void minimal_file_gets_every_default(void **state)
{
	struct conf *conf = load(MINIMAL);
	const struct conf_service *web = conf->services[0];

	assert_string_equal(conf->instance, "");
	assert_int_equal(conf->flows, 1048576);
	assert_true(conf->flows_persist);
	assert_string_equal(conf->port.device, "0000:03:00.0");
	assert_int_equal(conf->port.driver, CONF_DRIVER_AUTO);
	assert_int_equal(conf->port.nb_addresses, 1);
	assert_addr(&conf->port.addresses[0].addr, "192.0.2.10");
	assert_int_equal(conf->port.addresses[0].length, 24);
	assert_addr(&conf->port.gateway4, "192.0.2.1");
	assert_int_equal(conf->port.gateway6.family, AF_UNSPEC);
	assert_string_equal(conf->port.netns, "weir");
	assert_int_equal(conf->port.mtu, 0);
	assert_int_equal(conf->port.punt_limit[PUNT_ARP], 1000);
	assert_int_equal(conf->port.punt_limit[PUNT_ND], 1000);
	assert_int_equal(conf->port.punt_limit[PUNT_PROBE], 20000);
	assert_int_equal(conf->port.punt_limit[PUNT_BACKEND], 20000);
	assert_int_equal(conf->port.punt_limit[PUNT_REST], 1000);
	assert_int_equal(conf->port.nb_eal, 0);
	assert_true(conf->port.hugepages);
	assert_int_equal(conf->cores.control, -1);
	assert_int_equal(conf->cores.nb_workers, 0);
	assert_int_equal(conf->cores.idle_sleep_us, 50);
	assert_int_equal(conf->snat.nb_addresses, 0);
	assert_int_equal(conf->snat.nb_ranges, 0);
	assert_int_equal(conf->timeout_s[CONF_TIMEOUT_HALF_OPEN], 240);
	assert_int_equal(conf->timeout_s[CONF_TIMEOUT_ESTABLISHED], 7440);
	assert_int_equal(conf->timeout_s[CONF_TIMEOUT_CLOSING], 240);
	assert_int_equal(conf->timeout_s[CONF_TIMEOUT_TIME_WAIT], 60);
	assert_int_equal(conf->timeout_s[CONF_TIMEOUT_CLOSE], 60);

	assert_int_equal(conf->nb_services, 1);
	assert_string_equal(web->name, "web");
	assert_int_equal(web->family, AF_INET);
	assert_int_equal(web->nb_listens, 1);
	assert_true(web->listens[0].any);
	assert_int_equal(web->listens[0].endpoint.port, htons(80));
	assert_int_equal(web->scheduler, CONF_SCHEDULER_MAGLEV);
	assert_int_equal(web->on_all_down, CONF_ALL_DOWN_RESET);
	assert_int_equal(web->slow_start_ms, 0);
	assert_int_equal(web->allow.nb, 0);
	assert_int_equal(web->deny.nb, 0);
	assert_int_equal(web->connect_timeout_ms, 250);
	assert_int_equal(web->connect_tries, 3);
	assert_int_equal(web->retry_budget, 20);
	assert_int_equal(web->passive.fails, 5);
	assert_int_equal(web->passive.window_ms, 2000);
	assert_int_equal(web->passive.retry_ms, 5000);
	assert_int_equal(web->health.type, CONF_HEALTH_HTTP);
	assert_int_equal(web->health.port, 0);
	assert_int_equal(web->health.interval_ms, 500);
	assert_int_equal(web->health.timeout_ms, 300);
	assert_int_equal(web->health.rise, 2);
	assert_int_equal(web->health.fall, 3);
	assert_string_equal(web->health.path, "/");
	assert_null(web->health.host);
	assert_int_equal(web->health.status_first, 200);
	assert_int_equal(web->health.status_last, 399);
	assert_false(web->health.verify);
	assert_int_equal(web->nb_backends, 4);
	assert_endpoint(&web->backends[3].endpoint, "10.0.0.12:8081");
	assert_string_equal(web->backends[3].name, "10.0.0.12:8081");
	assert_int_equal(web->backends[3].weight, 1);
	assert_false(web->backends[3].backup);
	assert_int_equal(web->backends[3].max_conns, 0);
	assert_int_equal(web->backends[3].slow_start_ms, 0);
	conf_free(conf);
}

static void backends_are_probed_by_tcp_by_default(void **state)
{
	struct conf *conf = test_good(PORT
		"services = { web = { listen = \":80\"; backends = ( \"10.0.0.11:80\" ); }; };");

	assert_int_equal(conf->services[0]->health.type, CONF_HEALTH_TCP);
	conf_free(conf);
}

static void every_key_reaches_its_member(void **state)
{
	struct conf *conf = test_good(
		"instance: \"b\", flows = { size = 0x800; persist = false; }\n"
		"port : { device = \"eth1\"; driver = \"af_packet\";\n"
		" address = ( \"192.0.2.10/24\", \"2001:db8::10/64\", \"192.0.2.11/32\" );\n"
		" gateway = [ \"fe80::1\", \"192.0.2.1\" ]; mtu = 9000L; hugepages = False;\n"
		" eal = [ \"-n\", \"4\" ]; punt = { arp = 1; nd = 2; probe = 3; backend = 4; rest "
		"= 5; } };\n"
		"cores = { control = 0; workers = [ 1, 1, 1023 ]; idle_sleep_us = 0; };\n"
		"snat = { addresses = [ \"192.0.2.11\", \"2001:db8::10\" ];\n"
		"         ports = [ \"1024-32767\", \"61000-65535\" ]; };\n"
		"timeouts = { half_open_s = 1; established_s = 2; closing_s = 3; time_wait_s = 4;\n"
		"             close_s = 64800; };\n"
		"services = {\n"
		" a = { listen = [ \"192.0.2.11:80\", \":81\" ]; scheduler = \"round_robin\";\n"
		"  on_all_down = \"drop\";\n"
		"  health = { type = \"https\"; path = \"/h?x=1\"; host = \"a.example\"; status = "
		"204;\n"
		"   port = 8443; interval_ms = 1000; timeout_ms = 1000; rise = 5; fall = 6;\n"
		"   verify = true; };\n"
		"  backends = ( { address = \"10.0.0.1:80\"; name = \"con1\"; weight = 0; },\n"
		"   \"10.0.0.1:81\" ); };\n"
		" b = { listen = [ \":80\", \"[2001:db8::10]:8080\" ]; scheduler = "
		"\"least_conn\";\n"
		"  allow = [ \"::/0\", \"2001:db8::/32\" ]; deny = \"2001:db8::1\";\n"
		"  health = { type = \"http\"; status = \"200-299\"; interval_ms = 100; };\n"
		"  backends = [ \"[2001:db8::1]:80\" ]; };\n"
		" c = { on_idle = \"reset\"; timeouts = { established_s = 90; close_s = 64800; };\n"
		"  listen = \":82\"; scheduler = \"source\"; backends = ( \"10.0.0.1:80\",\n"
		"  { address = \"10.0.0.2:80\"; backup = true; max_conns = 67108864;\n"
		"    slow_start_ms = 0; } ); slow_start_ms = 3600000; deny = ( \"0.0.0.0/0\" );\n"
		"  connect_timeout_ms = 0; connect_tries = 8; retry_budget = 100;\n"
		"  passive = { fails = 0; window_ms = 100; retry_ms = 3600000; }; };\n"
		"};\n");
	const struct conf_service *a = conf->services[0], *b = conf->services[1];
	const struct conf_service *c = conf->services[2];

	assert_string_equal(conf->instance, "b");
	assert_string_equal(conf->port.netns, "weir-b");
	assert_int_equal(conf->flows, 2048);
	assert_false(conf->flows_persist);
	assert_int_equal(conf->port.driver, CONF_DRIVER_AF_PACKET);
	assert_int_equal(conf->port.nb_addresses, 3);
	assert_addr(&conf->port.addresses[1].addr, "2001:db8::10");
	assert_addr(&conf->port.gateway4, "192.0.2.1");
	assert_addr(&conf->port.gateway6, "fe80::1");
	assert_int_equal(conf->port.mtu, 9000);
	assert_false(conf->port.hugepages);
	assert_int_equal(conf->port.nb_eal, 2);
	assert_string_equal(conf->port.eal[1], "4");
	for (unsigned i = 0; i < PUNT_CLASSES; i++)
		assert_int_equal(conf->port.punt_limit[i], i + 1);
	assert_int_equal(conf->cores.control, 0);
	assert_int_equal(conf->cores.nb_workers, 3);
	assert_int_equal(conf->cores.workers[2], 1023);
	assert_int_equal(conf->cores.idle_sleep_us, 0);
	assert_int_equal(conf->snat.nb_addresses, 2);
	assert_addr(&conf->snat.addresses[0], "192.0.2.11");
	assert_int_equal(conf->snat.nb_ranges, 2);
	assert_int_equal(conf->snat.ranges[1].first, 61000);
	assert_int_equal(conf->snat.ranges[1].last, 65535);
	assert_int_equal(conf->timeout_s[CONF_TIMEOUT_HALF_OPEN], 1);
	assert_int_equal(conf->timeout_s[CONF_TIMEOUT_TIME_WAIT], 4);
	assert_int_equal(conf->timeout_s[CONF_TIMEOUT_CLOSE], 64800);
	assert_int_equal(a->on_idle, CONF_IDLE_DROP);
	assert_int_equal(a->timeout_s[CONF_TIMEOUT_ESTABLISHED], 0);
	assert_int_equal(c->on_idle, CONF_IDLE_RESET);
	assert_int_equal(c->timeout_s[CONF_TIMEOUT_ESTABLISHED], 90);
	assert_int_equal(c->timeout_s[CONF_TIMEOUT_CLOSE], 64800);
	assert_int_equal(c->timeout_s[CONF_TIMEOUT_CLOSING], 0);

	assert_int_equal(a->nb_listens, 2);
	assert_false(a->listens[0].any);
	assert_endpoint(&a->listens[0].endpoint, "192.0.2.11:80");
	assert_true(a->listens[1].any);
	assert_int_equal(a->scheduler, CONF_SCHEDULER_ROUND_ROBIN);
	assert_int_equal(a->on_all_down, CONF_ALL_DOWN_DROP);
	assert_int_equal(a->health.type, CONF_HEALTH_HTTPS);
	assert_int_equal(a->health.port, 8443);
	assert_int_equal(a->health.timeout_ms, 1000);
	assert_int_equal(a->health.rise, 5);
	assert_int_equal(a->health.fall, 6);
	assert_string_equal(a->health.path, "/h?x=1");
	assert_string_equal(a->health.host, "a.example");
	assert_int_equal(a->health.status_first, 204);
	assert_int_equal(a->health.status_last, 204);
	assert_true(a->health.verify);
	assert_string_equal(a->backends[0].name, "con1");
	assert_int_equal(a->backends[0].weight, 0);
	assert_int_equal(b->family, AF_INET6);
	assert_int_equal(b->health.timeout_ms, 100);
	assert_int_equal(b->health.status_last, 299);
	assert_string_equal(b->backends[0].name, "[2001:db8::1]:80");
	assert_int_equal(b->scheduler, CONF_SCHEDULER_LEAST_CONN);
	assert_int_equal(b->allow.nb, 2);
	assert_int_equal(b->allow.list[0].length, 0);
	assert_addr(&b->allow.list[1].addr, "2001:db8::");
	assert_int_equal(b->allow.list[1].length, 32);
	assert_int_equal(b->deny.nb, 1);
	assert_int_equal(b->deny.list[0].length, 128);
	assert_int_equal(c->scheduler, CONF_SCHEDULER_SOURCE);
	assert_int_equal(c->slow_start_ms, 3600000);
	assert_int_equal(c->connect_timeout_ms, 0);
	assert_int_equal(c->connect_tries, 8);
	assert_int_equal(c->retry_budget, 100);
	assert_int_equal(c->passive.fails, 0);
	assert_int_equal(c->passive.window_ms, 100);
	assert_int_equal(c->passive.retry_ms, 3600000);
	assert_int_equal(c->deny.nb, 1);
	assert_false(c->backends[0].backup);
	assert_int_equal(c->backends[0].slow_start_ms, 3600000);
	assert_true(c->backends[1].backup);
	assert_int_equal(c->backends[1].max_conns, 67108864);
	assert_int_equal(c->backends[1].slow_start_ms, 0);
	conf_free(conf);
}

static void schedulers_are_named_as_in_the_file(void **state)
{
	assert_string_equal(conf_scheduler_name(CONF_SCHEDULER_MAGLEV), "maglev");
	assert_string_equal(conf_scheduler_name(CONF_SCHEDULER_ROUND_ROBIN), "round_robin");
	assert_string_equal(conf_scheduler_name(CONF_SCHEDULER_LEAST_CONN), "least_conn");
	assert_string_equal(conf_scheduler_name(CONF_SCHEDULER_SOURCE), "source");
}

static void ten_thousand_prefixes_load_in_a_second(void **state)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct timespec begin, end;

	fprintf(out, PORT "services = { web = { listen = \":80\"; " BACKENDS "\nallow = [ ");
	for (unsigned i = 0; i < 10000; i++)
		fprintf(out, "\"10.%u.%u.0/24\",\n", i / 250, i % 250);
	fprintf(out, "\"0.0.0.0/0\" ];\ndeny = [ ");
	for (unsigned i = 0; i < 10000; i++)
		fprintf(out, "\"10.%u.%u.128/25\",\n", i / 250, i % 250);
	fprintf(out, "\"11.0.0.0/8\" ]; }; };\n");
	fclose(out);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
	struct conf *conf = test_good(text);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	free(text);
	assert_int_equal(conf->services[0]->allow.nb, 10001);
	assert_int_equal(conf->services[0]->deny.nb, 10001);
	conf_free(conf);
	assert_true(end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9 < 1);
}

static void services_may_share_backends_and_ports_on_other_addresses(void **state)
{
	conf_free(test_good(
		"port = { device = \"net_null0\"; address = [ \"192.0.2.10/31\", \"192.0.2.12/32\" "
		"]; };"
		"services = {"
		" a = { listen = \"192.0.2.10:80\"; backends = ( \"10.0.0.1:80\", \"10.0.0.2:80\" "
		"); };"
		" b = { listen = \"192.0.2.12:80\"; backends = ( \"10.0.0.1:80\" ); }; };"));
}

static void odd_but_right_syntax_is_accepted(void **state)
{
	conf_free(test_good("/* several\nlines */ // one\n# one\r\n"
			    "port={device=\"eth1\"address=\"192.0.2.10/24\",netns=\"\"punt={}}\n"
			    "services={web={listen=(\":80\")backends=(\"10.0.0.1:80\",{address:"
			    "\"10.0.0.2:80\"})}}"));
}

static void reference_file_parses(void **state)
{
	conf_free(load(REFERENCE));
}

/* A line of weir.conf that begins with # and a key stands for a default. */
static void reference_file_shows_the_defaults(void **state)
{
	char *text = slurp(REFERENCE), *copy = calloc(1, 1 << 16), *to = copy;
	struct conf *as_is = load(REFERENCE), *uncommented;
	unsigned nb = 0;

	for (char *line = text; *line != '\0';) {
		size_t blanks = strspn(line, " "), length = strcspn(line, "\n") + 1;
		if (line[blanks] == '#' && islower((unsigned char)line[blanks + 1])) {
			line[blanks] = ' ';
			nb++;
		}
		to = mempcpy(to, line, length);
		line += length;
	}
	uncommented = test_good(copy);
	assert_in_range(nb, 20, 60);
	assert_int_equal(as_is->flows, uncommented->flows);
	assert_string_equal(as_is->instance, uncommented->instance);
	assert_string_equal(as_is->port.netns, uncommented->port.netns);
	assert_int_equal(as_is->port.hugepages, uncommented->port.hugepages);
	assert_memory_equal(as_is->port.punt_limit, uncommented->port.punt_limit,
		sizeof(as_is->port.punt_limit));
	assert_memory_equal(&as_is->cores, &uncommented->cores, sizeof(as_is->cores));
	assert_memory_equal(as_is->timeout_s, uncommented->timeout_s, sizeof(as_is->timeout_s));
	const struct conf_service *a = as_is->services[0], *b = uncommented->services[0];
	assert_int_equal(a->scheduler, b->scheduler);
	assert_int_equal(a->on_all_down, b->on_all_down);
	assert_int_equal(a->health.port, b->health.port);
	assert_int_equal(a->health.interval_ms, b->health.interval_ms);
	assert_int_equal(a->health.timeout_ms, b->health.timeout_ms);
	assert_int_equal(a->health.rise, b->health.rise);
	assert_int_equal(a->health.fall, b->health.fall);
	assert_int_equal(a->health.status_first, b->health.status_first);
	assert_int_equal(a->health.status_last, b->health.status_last);
	assert_int_equal(a->health.verify, b->health.verify);
	assert_string_equal(a->health.path, b->health.path);
	assert_int_equal(a->backends[1].weight, b->backends[1].weight);
	assert_int_equal(a->backends[1].backup, b->backends[1].backup);
	assert_int_equal(a->backends[1].max_conns, b->backends[1].max_conns);
	assert_int_equal(a->slow_start_ms, b->slow_start_ms);
	assert_int_equal(a->connect_timeout_ms, b->connect_timeout_ms);
	assert_int_equal(a->connect_tries, b->connect_tries);
	assert_int_equal(a->retry_budget, b->retry_budget);
	assert_memory_equal(&a->passive, &b->passive, sizeof(a->passive));
	conf_free(as_is);
	conf_free(uncommented);
	free(text);
	free(copy);
}

/* Whether "key =" stands in the text, commented out or not. */
static bool shows_key(const char *text, const char *key)
{
	size_t length = strlen(key);

	for (const char *p = text; (p = strstr(p, key)) != NULL; p += length) {
		const char *after = p + length + strspn(p + length, " ");
		if (p > text && (p[-1] == ' ' || p[-1] == '#' || p[-1] == '\n') && *after == '=')
			return true;
	}
	return false;
}

static void check_row(void *arg, const struct conf_reference *reference)
{
	const char *dot = strrchr(reference->path, '.');

	if (!shows_key(arg, dot != NULL ? dot + 1 : reference->path))
		fail_msg("weir.conf does not show %s", reference->path);
	assert_int_not_equal(reference->value[0], '\0');
}

static void reference_file_shows_every_key_of_the_schema(void **state)
{
	char *text = slurp(REFERENCE);

	conf_reference_each(check_row, text);
	free(text);
}

static void reference_has_an_entry_for_each_key(void **state)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	conf_reference_print(out);
	fclose(out);
	assert_non_null(strstr(text, "\n## flows\n\n**flows** = "));
	assert_non_null(strstr(text, "\n**flows.size** = 1024 to 67108864\n: "));
	assert_non_null(strstr(text, " Default: 1048576.\n"));
	assert_non_null(strstr(text, "\n**port.device** = "));
	assert_non_null(strstr(text, "\n**port.driver** = \"af_xdp\", \"af_packet\"\n: "));
	assert_non_null(strstr(text, " Default: \"af_xdp\".\n"));
	assert_non_null(strstr(text, "\n**services.NAME.health.verify** = true, false\n: "));
	assert_non_null(strstr(text, "\n**services.NAME.backends[].weight** = 0 to 256\n: "));
	assert_non_null(strstr(text, "one machine. Default: \"\". A change needs a restart.\n"));
	assert_non_null(strstr(text,
		"\n**services** = a group of services, as in { web = { ... }; }\n"
		": What is balanced; each service is a group under a name of its "
		"own. Required.\n"));
	free(text);
}

/* 1,000 services of 100 backends; no check may go over all pairs of anything. */
static void hundred_thousand_backends_load_in_two_seconds(void **state)
{
	char *text;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	struct timespec begin, end;

	fprintf(out, PORT "services = {\n");
	for (unsigned i = 0; i < 1000; i++) {
		fprintf(out, "s%u = { listen = \":%u\"; backends = (", i, i + 1);
		for (unsigned j = 0; j < 100; j++)
			fprintf(out,
				"%s\n{ address = \"10.%u.%u.%u:80\"; name = \"b%u\"; weight = 2; }",
				j > 0 ? "," : "", i / 250, i % 250, j + 1, j);
		fprintf(out, " ); };\n");
	}
	fprintf(out, "};\n");
	fclose(out);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
	struct conf *conf = test_good(text);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
	free(text);

	double seconds = end.tv_sec - begin.tv_sec + (end.tv_nsec - begin.tv_nsec) / 1e9;
	print_message("%zu bytes in %.2f s\n", size, seconds);
	assert_int_equal(conf->nb_services, 1000);
	assert_string_equal(conf->services[999]->backends[99].name, "b99");
	conf_free(conf);
	assert_true(seconds < TEST_SECONDS); // 0.6 on a quiet machine
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(minimal_file_gets_every_default),
		cmocka_unit_test(backends_are_probed_by_tcp_by_default),
		cmocka_unit_test(every_key_reaches_its_member),
		cmocka_unit_test(schedulers_are_named_as_in_the_file),
		cmocka_unit_test(ten_thousand_prefixes_load_in_a_second),
		cmocka_unit_test(services_may_share_backends_and_ports_on_other_addresses),
		cmocka_unit_test(odd_but_right_syntax_is_accepted),
		cmocka_unit_test(reference_file_parses),
		cmocka_unit_test(reference_file_shows_the_defaults),
		cmocka_unit_test(reference_file_shows_every_key_of_the_schema),
		cmocka_unit_test(reference_has_an_entry_for_each_key),
		cmocka_unit_test(hundred_thousand_backends_load_in_two_seconds),
	};

	return cmocka_run_group_tests(tests, test_setup, test_teardown);
}
