/* SPDX-License-Identifier: BSD-3-Clause */
/* The keys of the file's top level, cores, snat and timeouts. */
#include "conf_schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS_EXPECTED "an array of 1 to 64 CPU numbers from 0 to 1023, as in [ 1, 2 ]"
#define SNAT_ADDRESSES_EXPECTED "addresses out of port.address, as in [ \"192.0.2.10\" ]"
#define RESOLVERS_EXPECTED                                                                         \
	"at most 8 addresses, with or without a port, as in \"192.0.2.53\" or \"192.0.2.53:53\""
#define SNAT_PORTS_EXPECTED "at most 4 ranges within 1 to 65535, as in [ \"1024-32767\" ]"

// As the texts say.
_Static_assert(CONF_WORKERS_MAX == 64 && CONF_CPU_MAX == 1023, WORKERS_EXPECTED);
_Static_assert(CONF_RESOLVERS_MAX == 8, RESOLVERS_EXPECTED);
_Static_assert(CONF_SNAT_RANGES_MAX == 4, SNAT_PORTS_EXPECTED);

static bool valid_instance(const char *text)
{
	return strlen(text) <= 16 &&
		strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(text);
}

static int read_workers(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_cores *cores = object;
	unsigned nb;

	if (!config_setting_is_array(setting) && !config_setting_is_list(setting))
		return conf_reader_fail(reader, setting, "is %s; expected " WORKERS_EXPECTED,
			conf_reader_kind(setting));
	nb = config_setting_length(setting);
	if (nb == 0 || nb > CONF_WORKERS_MAX)
		return conf_reader_fail(
			reader, setting, "has %u elements; expected " WORKERS_EXPECTED, nb);
	for (unsigned i = 0; i < nb; i++) {
		const config_setting_t *element = config_setting_get_elem(setting, i);
		if (config_setting_type(element) != CONFIG_TYPE_INT64)
			return conf_reader_fail(reader, element,
				"is %s; expected an integer from 0 to 1023",
				conf_reader_kind(element));
		long long cpu = config_setting_get_int64(element);
		if (cpu < 0 || cpu > CONF_CPU_MAX)
			return conf_reader_fail(reader, element,
				"%lld is out of range; expected an integer from 0 to 1023", cpu);
		cores->workers[i] = cpu;
	}
	cores->nb_workers = nb;
	return 0;
}

static bool same_workers(const void *object, const void *other)
{
	const struct conf_cores *a = object, *b = other;

	return a->nb_workers == b->nb_workers &&
		memcmp(a->workers, b->workers, a->nb_workers * sizeof(a->workers[0])) == 0;
}

static const struct conf_key cores_keys[] = {
	{"control", CONF_INTEGER, CONF_AT(struct conf_cores, control), .max = CONF_CPU_MAX,
		.initial = -1, .fallback = "the first CPU that weir may use",
		.doc = "CPU of all but packets: probes, telemetry, signals; it never busy-polls"},
	{"workers", CONF_OWN, .read = read_workers, .same = same_workers,
		.expected = WORKERS_EXPECTED, .fallback = "one, on the port's NUMA node",
		.doc = "CPUs of the workers, one rx and tx queue each; a CPU may be named twice"},
	{"idle_sleep_us", CONF_INTEGER, CONF_AT(struct conf_cores, idle_sleep_us), .max = 1000000,
		.initial = 50,
		.doc = "microseconds that a worker sleeps between two polls after 10 ms without a "
		       "packet; 0 = none"},
	{NULL},
};

static int read_snat_addresses(
	struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_snat *snat = object;
	int nb = conf_reader_texts(reader, setting, SNAT_ADDRESSES_EXPECTED, CONF_ADDRESSES_MAX);

	if (nb < 0)
		return nb;
	snat->addresses = calloc(nb, sizeof(*snat->addresses));
	if (snat->addresses == NULL)
		return conf_reader_memory(reader);
	for (int i = 0; i < nb; i++) {
		const config_setting_t *element = conf_reader_element(setting, i);
		const char *text = config_setting_get_string(element);
		if (net_addr_parse(&snat->addresses[i], text) < 0)
			return conf_reader_fail(reader, element,
				"\"%.60s\" is no address; expected " SNAT_ADDRESSES_EXPECTED, text);
		snat->nb_addresses++;
	}
	return 0;
}

/* "1024-32767": decimal numbers, nothing around them. */
static bool parse_range(const char *text, struct conf_port_range *range)
{
	unsigned long ends[2];
	char *end;

	for (int i = 0; i < 2; i++) {
		if (!isdigit((unsigned char)*text))
			return false;
		ends[i] = strtoul(text, &end, 10);
		if (*end != (i == 0 ? '-' : '\0') || ends[i] < 1 || ends[i] > 65535)
			return false;
		text = end + 1;
	}
	range->first = ends[0];
	range->last = ends[1];
	return ends[0] <= ends[1];
}

static int read_snat_ports(
	struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_snat *snat = object;
	int nb = conf_reader_texts(reader, setting, SNAT_PORTS_EXPECTED, CONF_SNAT_RANGES_MAX);

	if (nb < 0)
		return nb;
	for (int i = 0; i < nb; i++) {
		const config_setting_t *element = conf_reader_element(setting, i);
		const char *text = config_setting_get_string(element);
		struct conf_port_range *range = &snat->ranges[i];
		if (!parse_range(text, range))
			return conf_reader_fail(reader, element,
				"\"%.60s\" is no range of ports; "
				"expected " SNAT_PORTS_EXPECTED,
				text);
		for (int j = 0; j < i; j++)
			if (range->first <= snat->ranges[j].last &&
				snat->ranges[j].first <= range->last)
				return conf_reader_fail(reader, element,
					"%s overlaps %u-%u; expected ranges that share no port",
					text, snat->ranges[j].first, snat->ranges[j].last);
		snat->nb_ranges++;
	}
	return 0;
}

static bool same_snat_addresses(const void *object, const void *other)
{
	const struct conf_snat *a = object, *b = other;
	bool same = a->nb_addresses == b->nb_addresses;

	for (unsigned i = 0; same && i < a->nb_addresses; i++)
		same = net_addr_equal(&a->addresses[i], &b->addresses[i]);
	return same;
}

static bool same_snat_ports(const void *object, const void *other)
{
	const struct conf_snat *a = object, *b = other;

	return a->nb_ranges == b->nb_ranges &&
		memcmp(a->ranges, b->ranges, a->nb_ranges * sizeof(a->ranges[0])) == 0;
}

static const struct conf_key snat_keys[] = {
	{"addresses", CONF_OWN, .read = read_snat_addresses, .same = same_snat_addresses,
		.expected = SNAT_ADDRESSES_EXPECTED,
		.fallback = "the port's first address of the backend's family",
		.doc = "addresses that backends see as the source of the connections"},
	{"ports", CONF_OWN, .read = read_snat_ports, .same = same_snat_ports,
		.expected = SNAT_PORTS_EXPECTED,
		.fallback = "what net.ipv4.ip_local_port_range leaves free above 1023",
		.doc = "source ports of the connections to backends; the kernel must not use them "
		       "itself"},
	{NULL},
};

static int read_resolvers(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf *conf = object;
	int nb = conf_reader_texts(reader, setting, RESOLVERS_EXPECTED, CONF_RESOLVERS_MAX);

	for (int i = 0; i < nb; i++) {
		const config_setting_t *element = conf_reader_element(setting, i);
		const char *text = config_setting_get_string(element);
		struct net_endpoint *resolver = &conf->resolvers[i];
		memset(resolver, 0, sizeof(*resolver));
		resolver->port = htons(53);
		if (net_addr_parse(&resolver->addr, text) < 0 &&
			net_endpoint_parse(resolver, text) < 0)
			return conf_reader_fail(reader, element,
				"\"%.60s\" is no address; expected " RESOLVERS_EXPECTED, text);
		conf->nb_resolvers++;
	}
	return nb < 0 ? nb : 0;
}

static bool same_resolvers(const void *object, const void *other)
{
	const struct conf *a = object, *b = other;
	bool same = a->nb_resolvers == b->nb_resolvers;

	for (unsigned i = 0; same && i < a->nb_resolvers; i++)
		same = net_endpoint_equal(&a->resolvers[i], &b->resolvers[i]);
	return same;
}

#define TIMEOUT(name_, index, initial_, doc_)                                                      \
	{                                                                                          \
		name_, CONF_INTEGER, CONF_AT(struct conf, timeout_s[index]),                       \
			.min = 1, .max = CONF_TIMEOUT_MAX_S, .initial = initial_, .doc = doc_      \
	}

static const struct conf_key timeout_keys[] = {
	TIMEOUT("half_open_s", CONF_TIMEOUT_HALF_OPEN, 240,
		"idle seconds after which a connection that is not yet established is forgotten"),
	TIMEOUT("established_s", CONF_TIMEOUT_ESTABLISHED, 7440,
		"idle seconds after which an established connection is forgotten; RFC 5382 demands "
		"7440 or more"),
	TIMEOUT("closing_s", CONF_TIMEOUT_CLOSING, 240,
		"idle seconds after which a connection that is half closed or closing is "
		"forgotten; RFC 5382 demands 240 or more"),
	TIMEOUT("time_wait_s", CONF_TIMEOUT_TIME_WAIT, 60,
		"seconds that a connection closed by both sides is remembered"),
	TIMEOUT("close_s", CONF_TIMEOUT_CLOSE, 60,
		"seconds that a connection ended by RST is remembered"),
	{NULL},
};

static const struct conf_key flows_keys[] = {
	{"size", CONF_INTEGER, CONF_AT(struct conf, flows), .min = 1024, .max = 67108864,
		.initial = 1048576, .doc = "connections that the flow table of a family holds"},
	{"persist", CONF_BOOLEAN, CONF_AT(struct conf, flows_persist), .initial = true,
		.kept = true,
		.doc = "whether connections, health and weir0 outlive weir, for its next start"},
	{NULL},
};

const struct conf_key conf_root_keys[] = {
	{"instance", CONF_TEXT, CONF_AT(struct conf, instance), .initial_text = "",
		.valid = valid_instance, .expected = "at most 16 of a-z, 0-9 and -",
		.restart = true, .kept = true,
		.doc = "a name of its own: \"b\" makes this weir weir-b, so that several can run "
		       "on one machine"},
	{"flows", CONF_GROUP, .keys = flows_keys, .bare = true,
		.restart = true, // from struct conf, too
		.expected = "an integer from 1024 to 67108864, which is flows.size, or a group",
		.doc = "the flow table of each family"},
	{"port", CONF_GROUP, true, .offset = offsetof(struct conf, port), .keys = conf_port_keys,
		.restart = true, .doc = "the network port that weir takes over"},
	{"cores", CONF_GROUP, .offset = offsetof(struct conf, cores), .keys = cores_keys,
		.restart = true, .doc = "which CPUs do what"},
	{"snat", CONF_GROUP, .offset = offsetof(struct conf, snat), .keys = snat_keys,
		.restart = true, .doc = "what backends see as the source of the connections"},
	{"timeouts", CONF_GROUP, .keys = timeout_keys, // its keys count from struct conf
		.doc = "when idle connections are forgotten"},
	{"resolvers", CONF_OWN, .read = read_resolvers, .same = same_resolvers,
		.expected = RESOLVERS_EXPECTED, .fallback = "those of /etc/resolv.conf",
		.doc = "DNS servers that the names of backends are asked of, from the host's "
		       "namespace, in this order: one that doesn't answer within a second is left "
		       "for the next. What stands in /etc/hosts is asked of nobody"},
	{"services", CONF_OWN, true, .read = conf_services_read, .keys = conf_service_keys,
		.each = ".NAME", .expected = "a group of services, as in { web = { ... }; }",
		.doc = "what is balanced; each service is a group under a name of its own"},
	{NULL},
};
