/* SPDX-License-Identifier: BSD-3-Clause */
/* The services: the keys of each, its listen addresses and its backends. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_endpoint.h"
#include "conf_schema.h"

#define LISTEN_EXPECTED "\"address:port\", \":port\" or an array of these, as in \":80\""
#define BACKENDS_EXPECTED "a list of backends, as in ( \"10.0.0.11:8080\", { address = ...; } )"
#define BACKEND_EXPECTED "\"address:port\" or a group { address = \"...\"; }"
#define NAME_EXPECTED "1 to 63 letters, digits and . - _ : [ ]"
#define LISTENS_MAX 256 // of one service

// As the text says.
_Static_assert(CONF_NAME_MAX == 63, NAME_EXPECTED);

#define SLOW_START_MAX_MS 3600000
#define SLOW_START_UNSET UINT_MAX // of a backend: the service's

static const char *const schedulers[] = {"maglev", "round_robin", "least_conn", "source", NULL};
static const char *const states[] = {"active", "drain", "disabled", NULL};
static const char *const all_down[] = {"reset", "drop", "forward", "withdraw", NULL};
static const char *const on_remove[] = {"drain", "reset", NULL};
static const char *const on_idle[] = {"drop", "reset", NULL};
static const char *const on_down[] = {"auto", "keep", "reset", NULL};

const char *conf_scheduler_name(enum conf_scheduler scheduler)
{
	return schedulers[scheduler];
}

/* No blank and no comma: it is an argument of telemetry commands. */
static bool valid_name(const char *text)
{
	size_t length = strlen(text);

	return length > 0 && length <= CONF_NAME_MAX &&
		strspn(text,
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			"0123456789.-_:[]") == length;
}

static int read_endpoint(struct conf_reader *reader, const config_setting_t *setting,
	const char *expected, struct net_endpoint *endpoint)
{
	const char *text, *fault;

	if (conf_reader_text(reader, setting, expected, &text) < 0)
		return -EINVAL;
	fault = conf_endpoint_parse(endpoint, text);
	if (fault != NULL)
		return conf_reader_fail(reader, setting, "\"%.60s\" %s", text, fault);
	return 0;
}

static int read_listen(
	struct conf_reader *reader, const config_setting_t *setting, struct conf_listen *listen)
{
	const char *text = config_setting_get_string(setting), *fault;

	if (text != NULL && strspn(text, "0123456789") == strlen(text) && text[0] != '\0')
		return conf_reader_fail(reader, setting,
			"\"%.5s\" lacks its colon; expected "
			"\":port\", as in \":80\"",
			text);
	if (text != NULL && strncmp(text, "*:", 2) == 0)
		return conf_reader_fail(reader, setting,
			"\"%.60s\": write every address of the port as \"%.6s\"", text, text + 1);
	listen->any = text != NULL && text[0] == ':' && text[1] != ':';
	if (!listen->any)
		return read_endpoint(reader, setting, LISTEN_EXPECTED, &listen->endpoint);
	fault = conf_endpoint_parse_port(&listen->endpoint, text);
	if (fault != NULL)
		return conf_reader_fail(reader, setting, "\"%.60s\" %s", text, fault);
	return 0;
}

static int read_listens(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_service *service = object;
	int nb = conf_reader_texts(reader, setting, LISTEN_EXPECTED, LISTENS_MAX);

	if (nb < 0)
		return nb;
	service->listens = calloc(nb, sizeof(*service->listens));
	if (service->listens == NULL)
		return conf_reader_memory(reader);
	service->nb_listens = nb;
	for (int i = 0; i < nb; i++) {
		int err =
			read_listen(reader, conf_reader_element(setting, i), &service->listens[i]);
		if (err < 0)
			return err;
	}
	return 0;
}

static bool same_listens(const void *object, const void *other)
{
	const struct conf_service *a = object, *b = other;
	bool same = a->nb_listens == b->nb_listens;

	for (unsigned i = 0; same && i < a->nb_listens; i++)
		same = a->listens[i].any == b->listens[i].any &&
			net_endpoint_equal(&a->listens[i].endpoint, &b->listens[i].endpoint);
	return same;
}

static int read_backend_address(
	struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_backend *backend = object;
	const char *text = config_setting_get_string(setting), *fault;

	fault = text != NULL ? conf_endpoint_name_fault(text) : NULL;
	if (fault != NULL)
		return conf_reader_fail(reader, setting, "\"%.60s\" %s", text, fault);
	if (text == NULL || !conf_endpoint_is_name(text))
		return read_endpoint(reader, setting, BACKEND_EXPECTED, &backend->endpoint);
	const char *colon = strchr(text, ':');
	fault = conf_endpoint_parse_port(&backend->endpoint, colon);
	if (fault != NULL)
		return conf_reader_fail(reader, setting, "\"%.60s\" %s", text, fault);
	backend->host = strndup(text, colon - text);
	return backend->host != NULL ? 0 : conf_reader_memory(reader);
}

static const struct conf_key backend_keys[] = {
	{"address", CONF_OWN, true, .read = read_backend_address,
		.expected = "\"address:port\", as in \"10.0.0.11:8080\"",
		.doc = "address and port that connections are sent to, or a DNS name and port; "
		       "each address of a name is a backend, 256 at most"},
	{"resolve_ms", CONF_INTEGER, CONF_AT(struct conf_backend, resolve_ms), .max = 86400000,
		.fallback = "by the answer's TTL",
		.doc = "milliseconds after which a DNS name in address is resolved anew; 0 = by "
		       "the answer's TTL"},
	{"name", CONF_TEXT, CONF_AT(struct conf_backend, name), .valid = valid_name,
		.expected = NAME_EXPECTED, .fallback = "its address",
		.doc = "what logs and telemetry call the backend; unique within the service"},
	{"weight", CONF_INTEGER, CONF_AT(struct conf_backend, weight), .max = CONF_WEIGHT_MAX,
		.initial = 1,
		.doc = "the backend's share of new connections, relative to the others; 0 = none"},
	{"state", CONF_WORD, CONF_AT(struct conf_backend, state), .words = states,
		.doc = "whether the backend is used: drain = no new connections, old ones live on; "
		       "disabled = nor is it probed"},
	{"backup", CONF_BOOLEAN, CONF_AT(struct conf_backend, backup),
		.doc = "whether the backend gets only the connections that no backend without this "
		       "takes or has room for"},
	{"max_conns", CONF_INTEGER, CONF_AT(struct conf_backend, max_conns), .max = 67108864,
		.doc = "connections that the backend has at a time; 0 = any number"},
	{"slow_start_ms", CONF_INTEGER, CONF_AT(struct conf_backend, slow_start_ms),
		.max = SLOW_START_MAX_MS, .initial = SLOW_START_UNSET, .fallback = "the service's",
		.doc = "milliseconds in which this backend's weight grows once it came up"},
	{NULL},
};

static int read_backend(
	struct conf_reader *reader, const config_setting_t *setting, struct conf_backend *backend)
{
	char text[NET_ENDPOINT_TEXT];
	int err;

	err = conf_schema_defaults(reader, backend_keys, backend);
	if (err == 0 && config_setting_is_group(setting))
		err = conf_schema_read(reader, backend_keys, setting, backend);
	else if (err == 0)
		err = read_backend_address(reader, setting, backend);
	if (err < 0 || backend->name != NULL)
		return err;
	if (backend->host != NULL) {
		char *name = NULL;
		backend->name = asprintf(&name, "%.*s:%u", CONF_NAME_MAX - 6, backend->host,
					ntohs(backend->endpoint.port)) < 0
			? NULL
			: name;
	} else {
		backend->name = strdup(net_endpoint_format(&backend->endpoint, text));
	}
	return backend->name != NULL ? 0 : conf_reader_memory(reader);
}

static int read_backends(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_service *service = object;
	unsigned nb;

	if (!config_setting_is_list(setting) && !config_setting_is_array(setting))
		return conf_reader_fail(reader, setting, "is %s; expected " BACKENDS_EXPECTED,
			conf_reader_kind(setting));
	nb = config_setting_length(setting);
	if (nb == 0)
		return conf_reader_fail(
			reader, setting, "holds no backend; expected " BACKENDS_EXPECTED);
	if (nb > CONF_SERVICE_BACKENDS_MAX)
		return conf_reader_fail(reader, setting,
			"has %u backends; a service has %u at most, make several of it", nb,
			CONF_SERVICE_BACKENDS_MAX);
	reader->nb_backends += nb;
	if (reader->nb_backends > CONF_BACKENDS_MAX)
		return conf_reader_fail(reader, setting, "more than %u backends in all services",
			CONF_BACKENDS_MAX);
	service->backends = calloc(nb, sizeof(*service->backends));
	if (service->backends == NULL)
		return conf_reader_memory(reader);
	service->nb_backends = nb;
	for (unsigned i = 0; i < nb; i++) {
		int err = read_backend(
			reader, config_setting_get_elem(setting, i), &service->backends[i]);
		if (err < 0)
			return err;
	}
	return 0;
}

#define TIMEOUT(name_, index, doc_)                                                                \
	{                                                                                          \
		name_, CONF_INTEGER, CONF_AT(struct conf_service, timeout_s[index]),               \
			.min = 1, .max = CONF_TIMEOUT_MAX_S, .fallback = "`timeouts." name_ "`",   \
			.doc = doc_                                                                \
	}

static const struct conf_key timeout_keys[] = {
	TIMEOUT("half_open_s", CONF_TIMEOUT_HALF_OPEN,
		"idle seconds after which a connection that is not yet established is forgotten"),
	TIMEOUT("established_s", CONF_TIMEOUT_ESTABLISHED,
		"idle seconds after which an established connection is forgotten"),
	TIMEOUT("closing_s", CONF_TIMEOUT_CLOSING,
		"idle seconds after which a connection that is half closed or closing is "
		"forgotten"),
	TIMEOUT("time_wait_s", CONF_TIMEOUT_TIME_WAIT,
		"seconds that a connection closed by both sides is remembered"),
	TIMEOUT("close_s", CONF_TIMEOUT_CLOSE,
		"seconds that a connection ended by RST is remembered"),
	{NULL},
};

static const struct conf_key passive_keys[] = {
	{"fails", CONF_INTEGER, CONF_AT(struct conf_passive, fails), .max = 1000, .initial = 5,
		.doc = "connects refused or unanswered within window_ms, none answered since the "
		       "first of them, that take a backend out when they are at least half of its "
		       "connects; 0 = none do"},
	{"window_ms", CONF_INTEGER, CONF_AT(struct conf_passive, window_ms), .min = 100,
		.max = 3600000, .initial = 2000,
		.doc = "milliseconds within which failed connects are counted"},
	{"retry_ms", CONF_INTEGER, CONF_AT(struct conf_passive, retry_ms), .min = 100,
		.max = 3600000, .initial = 5000,
		.doc = "milliseconds that failed connects keep a backend out where no probe brings "
		       "it back; each time in a row twice as long, up to 32 times"},
	{NULL},
};

const struct conf_key conf_service_keys[] = {
	{"listen", CONF_OWN, true, .read = read_listens, .same = same_listens,
		.expected = LISTEN_EXPECTED,
		.doc = "where clients connect; \":80\" = port 80 of every address of the port"},
	{"scheduler", CONF_WORD, CONF_AT(struct conf_service, scheduler), .words = schedulers,
		.doc = "how the backend of a new connection is chosen"},
	{"on_all_down", CONF_WORD, CONF_AT(struct conf_service, on_all_down), .words = all_down,
		.doc = "what a client gets while no backend is up: a reset at once, silence, any "
		       "backend; withdraw = a reset, and the address leaves weir0"},
	{"on_remove", CONF_WORD, CONF_AT(struct conf_service, on_remove), .words = on_remove,
		.doc = "the connections of a backend that leaves the file: they live on, or are "
		       "reset"},
	{"on_down", CONF_WORD, CONF_AT(struct conf_service, on_down), .words = on_down,
		.doc = "the connections of a backend that is down: auto = reset unless it still "
		       "accepts connections"},
	{"on_down_reset_ms", CONF_INTEGER, CONF_AT(struct conf_service, on_down_reset_ms),
		.max = 3600000, .initial = 10000,
		.doc = "milliseconds that a backend must have been down before on_down resets its "
		       "connections; 0 = at once"},
	{"hold_resets_s", CONF_INTEGER, CONF_AT(struct conf_service, hold_resets_s), .max = 3600,
		.initial = 60,
		.doc = "seconds that the resets of on_down = auto are held back at most while all "
		       "backends of a link or gateway are silent; 0 = never"},
	{"on_idle", CONF_WORD, CONF_AT(struct conf_service, on_idle), .words = on_idle,
		.doc = "an established connection that was idle for too long: it is forgotten in "
		       "silence, or both sides get a reset"},
	{"timeouts", CONF_GROUP, .keys = timeout_keys, // its keys count from struct conf_service
		.doc = "when idle connections of the service are forgotten"},
	{"connect_timeout_ms", CONF_INTEGER, CONF_AT(struct conf_service, connect_timeout_ms),
		.max = 60000, .initial = 250,
		.doc = "milliseconds without an answer of its backend after which a new connection "
		       "is given another one; 0 = never for silence"},
	{"connect_tries", CONF_INTEGER, CONF_AT(struct conf_service, connect_tries), .min = 1,
		.max = CONF_TRIES_MAX, .initial = 3,
		.doc = "how many backends a connection is offered to before its client is refused"},
	{"retry_budget", CONF_INTEGER, CONF_AT(struct conf_service, retry_budget), .max = 100,
		.initial = 20,
		.doc = "how many connections may be given another backend for silence: percent of "
		       "those of the last second, or 10 a second where that is more"},
	{"slow_start_ms", CONF_INTEGER, CONF_AT(struct conf_service, slow_start_ms),
		.max = SLOW_START_MAX_MS,
		.doc = "milliseconds in which a backend that came up grows from a tenth of its "
		       "weight to the whole"},
	{"allow", CONF_OWN, .read = conf_allow_read, .same = conf_allow_same,
		.expected = CONF_ACCESS_EXPECTED, .fallback = "all",
		.doc = "clients that may connect, and no others; of both lists "
		       "the longest prefix that matches decides"},
	{"deny", CONF_OWN, .read = conf_deny_read, .same = conf_deny_same,
		.expected = CONF_ACCESS_EXPECTED, .fallback = "none",
		.doc = "clients that may not connect: they get no answer"},
	{"health", CONF_GROUP, .offset = offsetof(struct conf_service, health),
		.keys = conf_health_keys, .doc = "how the backends are probed"},
	{"passive", CONF_GROUP, .offset = offsetof(struct conf_service, passive),
		.keys = passive_keys, .doc = "how the clients' own connects take a backend out"},
	{"backends", CONF_OWN, true, .read = read_backends, .keys = backend_keys, .each = "[]",
		.expected = BACKENDS_EXPECTED, .doc = "the servers; all IPv4 or all IPv6"},
	{NULL},
};

/* Of the first address that stands there; a name is asked for the same. */
static sa_family_t family_of(const struct conf_service *service)
{
	for (unsigned i = 0; i < service->nb_backends; i++)
		if (service->backends[i].host == NULL)
			return service->backends[i].endpoint.addr.family;
	for (unsigned i = 0; i < service->nb_listens; i++)
		if (!service->listens[i].any)
			return service->listens[i].endpoint.addr.family;
	return AF_INET;
}

static int read_service(
	struct conf_reader *reader, const config_setting_t *setting, struct conf_service *service)
{
	const char *name = config_setting_name(setting);
	int err;

	if (!config_setting_is_group(setting))
		return conf_reader_fail(reader, setting,
			"is %s; expected a service, as in "
			"{ listen = \":80\"; backends = ( ... ); }",
			conf_reader_kind(setting));
	if (strlen(name) > CONF_NAME_MAX)
		return conf_reader_fail(reader, setting,
			"the name is too long; expected at most %u bytes", CONF_NAME_MAX);
	service->name = strdup(name);
	if (service->name == NULL)
		return conf_reader_memory(reader);
	service->health.status_first = 200;
	service->health.status_last = 399;
	err = conf_schema_defaults(reader, conf_service_keys, service);
	if (err == 0)
		err = conf_schema_read(reader, conf_service_keys, setting, service);
	if (err < 0)
		return err;
	service->family = family_of(service);
	for (unsigned i = 0; i < service->nb_backends; i++) {
		if (service->backends[i].slow_start_ms == SLOW_START_UNSET)
			service->backends[i].slow_start_ms = service->slow_start_ms;
		service->nb_names += service->backends[i].host != NULL;
	}

	/* A short interval alone is no mistake: its probes then time out when the
	 * next one is due. */
	struct conf_health *health = &service->health;
	const config_setting_t *keys = config_setting_get_member(setting, "health");
	if (health->timeout_ms > health->interval_ms &&
		config_setting_get_member(keys, "timeout_ms") == NULL)
		health->timeout_ms = health->interval_ms;
	return 0;
}

/* How it stands in the file is kept with it, for the next time. */
static int keep_block(
	struct conf_reader *reader, const struct conf_block *block, struct conf_service *service)
{
	service->nb_settings = block->nb_settings;
	if (block->text == NULL)
		return 0;
	service->text = malloc(block->size);
	if (service->text == NULL)
		return conf_reader_memory(reader);
	memcpy(service->text, block->text, block->size);
	service->text_size = block->size;
	return 0;
}

static int add_service(struct conf_reader *reader, const config_setting_t *setting,
	const struct conf_block *block, struct conf *conf)
{
	struct conf_service *service = calloc(1, sizeof(*service));

	if (service == NULL)
		return conf_reader_memory(reader);
	service->references = 1;
	conf->services[conf->nb_services++] =
		service; // whatever becomes of it, conf_free() frees it
	int err = read_service(reader, setting, service);
	return err < 0 ? err : keep_block(reader, block, service);
}

static int share_service(
	struct conf_reader *reader, const struct conf_service *carried, struct conf *conf)
{
	conf->services[conf->nb_services++] = conf_service_get(carried);
	reader->nb_backends += carried->nb_backends;
	return reader->nb_backends <= CONF_BACKENDS_MAX ? 0
							: -EAGAIN; // which one, the whole text says
}

int conf_services_read(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf *conf = object;
	unsigned nb;

	if (!config_setting_is_group(setting))
		return conf_reader_fail(reader, setting,
			"is %s; expected a group of services, as in "
			"{ web = { ... }; }",
			conf_reader_kind(setting));
	nb = reader->scan->nb_blocks; // those that libconfig has, and those carried over
	if (nb == 0)
		return conf_reader_fail(reader, setting,
			"holds no service; expected at least one, "
			"as in { web = { ... }; }");
	conf->services = calloc(nb, sizeof(*conf->services));
	if (conf->services == NULL)
		return conf_reader_memory(reader);
	for (unsigned i = 0; i < nb; i++) {
		const struct conf_block *block = &reader->scan->blocks[i];
		int err = block->carried != NULL
			? share_service(reader, block->carried, conf)
			: add_service(reader, conf_reader_service(reader, setting, i), block, conf);
		if (err < 0)
			return err;
	}
	return 0;
}
