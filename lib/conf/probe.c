/* SPDX-License-Identifier: BSD-3-Clause */
/* The keys of a service's health. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf_schema.h"

#define STATUS_EXPECTED "a status code or a range within 100 to 599, as in \"200-299\""

static const char *const types[] = {"none", "tcp", "http", "https", NULL};

/* The target of a GET stands between blanks in the request's first line. */
static bool valid_path(const char *text)
{
	if (text[0] != '/' || strlen(text) > 1024)
		return false;
	for (const char *p = text; *p != '\0'; p++)
		if (!isgraph((unsigned char)*p))
			return false;
	return true;
}

static bool valid_host(const char *text)
{
	size_t length = strlen(text);

	return length > 0 && length <= 255 &&
		strspn(text,
			"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
			"0123456789.-_:[]") == length;
}

/* "200" or "200-299". */
static bool parse_status(const char *text, struct conf_health *health)
{
	char *end;

	if (!isdigit((unsigned char)text[0]))
		return false;
	unsigned long first = strtoul(text, &end, 10), last = first;
	if (*end == '-' && isdigit((unsigned char)end[1]))
		last = strtoul(end + 1, &end, 10);
	if (*end != '\0' || first < 100 || last < first || last > 599)
		return false;
	health->status_first = first;
	health->status_last = last;
	return true;
}

static int read_status(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	struct conf_health *health = object;
	const char *text;

	if (config_setting_type(setting) == CONFIG_TYPE_INT64) {
		long long status = config_setting_get_int64(setting);
		if (status < 100 || status > 599)
			return conf_reader_fail(reader, setting,
				"%lld is out of range; expected " STATUS_EXPECTED, status);
		health->status_first = health->status_last = status;
		return 0;
	}
	if (conf_reader_text(reader, setting, STATUS_EXPECTED, &text) < 0)
		return -EINVAL;
	if (!parse_status(text, health))
		return conf_reader_fail(
			reader, setting, "\"%.60s\" is not valid; expected " STATUS_EXPECTED, text);
	return 0;
}

static bool same_status(const void *object, const void *other)
{
	const struct conf_health *a = object, *b = other;

	return a->status_first == b->status_first && a->status_last == b->status_last;
}

const struct conf_key conf_health_keys[] = {
	{"type", CONF_WORD, CONF_AT(struct conf_health, type), .initial = CONF_HEALTH_TCP,
		.words = types, .doc = "how backends are probed; none = they are taken to be up"},
	{"port", CONF_INTEGER, CONF_AT(struct conf_health, port), .max = 65535,
		.doc = "port to probe; 0 = the backend's own"},
	{"interval_ms", CONF_INTEGER, CONF_AT(struct conf_health, interval_ms), .min = 10,
		.max = 3600000, .initial = 500, .doc = "milliseconds from one probe to the next"},
	{"timeout_ms", CONF_INTEGER, CONF_AT(struct conf_health, timeout_ms), .min = 1,
		.max = 60000, .initial = 300, .fallback = "300, or interval_ms if that is shorter",
		.doc = "milliseconds after which a probe without an answer has failed; at most "
		       "interval_ms"},
	{"rise", CONF_INTEGER, CONF_AT(struct conf_health, rise), .min = 1, .max = 1000,
		.initial = 2, .doc = "successes in a row that make a backend up"},
	{"fall", CONF_INTEGER, CONF_AT(struct conf_health, fall), .min = 1, .max = 1000,
		.initial = 3, .doc = "failures in a row that make a backend down"},
	{"path", CONF_TEXT, CONF_AT(struct conf_health, path), .initial_text = "/",
		.valid = valid_path, .expected = "a path that begins with / and has no blank",
		.doc = "HTTP: what to GET"},
	{"host", CONF_TEXT, CONF_AT(struct conf_health, host), .valid = valid_host,
		.expected = "a host name or address",
		.fallback = "the DNS name of the backend, or its \"address:port\"",
		.doc = "HTTP: the Host header, and the name in TLS"},
	{"status", CONF_OWN, .read = read_status, .same = same_status, .expected = STATUS_EXPECTED,
		.fallback = "\"200-399\"", .doc = "HTTP: the status codes that mean success"},
	{"verify", CONF_BOOLEAN, CONF_AT(struct conf_health, verify),
		.doc = "HTTPS: check the certificate against the system's store"},
	{NULL},
};
