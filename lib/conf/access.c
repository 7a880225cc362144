/* SPDX-License-Identifier: BSD-3-Clause */
/* Who may connect to a service: its lists of prefixes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf_schema.h"

static int read_prefix(
	struct conf_reader *reader, const config_setting_t *element, struct net_prefix *prefix)
{
	const char *text = config_setting_get_string(element);
	struct net_prefix network;
	char right[NET_ADDR_TEXT];

	if (text == NULL || net_prefix_parse(prefix, text) < 0)
		return conf_reader_fail(reader, element,
			"\"%.60s\" is no address and length; expected " CONF_ACCESS_EXPECTED,
			text != NULL ? text : "");
	network = *prefix;
	for (unsigned bit = prefix->length; bit < net_addr_size(prefix->addr.family) * 8; bit++)
		network.addr.v6[bit / 8] &= ~(0x80 >> bit % 8);
	if (!net_addr_equal(&network.addr, &prefix->addr))
		return conf_reader_fail(reader, element,
			"\"%.60s\" has bits set behind its length; write \"%s\"", text,
			net_prefix_format(&network, right));
	return 0;
}

static int read_prefixes(
	struct conf_reader *reader, const config_setting_t *setting, struct conf_prefixes *prefixes)
{
	int nb = conf_reader_texts(reader, setting, CONF_ACCESS_EXPECTED, CONF_PREFIXES_MAX);

	if (nb < 0)
		return nb;
	prefixes->list = calloc(nb, sizeof(*prefixes->list));
	if (prefixes->list == NULL)
		return conf_reader_memory(reader);
	for (; prefixes->nb < (unsigned)nb; prefixes->nb++) {
		int err = read_prefix(reader, conf_reader_element(setting, prefixes->nb),
			&prefixes->list[prefixes->nb]);
		if (err < 0)
			return err;
	}
	return 0;
}

int conf_allow_read(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	return read_prefixes(reader, setting, &((struct conf_service *)object)->allow);
}

int conf_deny_read(struct conf_reader *reader, const config_setting_t *setting, void *object)
{
	return read_prefixes(reader, setting, &((struct conf_service *)object)->deny);
}

/* In the same order: another one is a change, and does no harm. */
static bool same_prefixes(const struct conf_prefixes *from, const struct conf_prefixes *to)
{
	if (from->nb != to->nb)
		return false;
	for (unsigned i = 0; i < from->nb; i++)
		if (from->list[i].length != to->list[i].length ||
			!net_addr_equal(&from->list[i].addr, &to->list[i].addr))
			return false;
	return true;
}

bool conf_allow_same(const void *from, const void *to)
{
	return same_prefixes(&((const struct conf_service *)from)->allow,
		&((const struct conf_service *)to)->allow);
}

bool conf_deny_same(const void *from, const void *to)
{
	return same_prefixes(&((const struct conf_service *)from)->deny,
		&((const struct conf_service *)to)->deny);
}

static int check_families(struct conf_reader *reader, const struct conf_service *service,
	const struct conf_prefixes *prefixes, const config_setting_t *setting)
{
	char text[NET_ADDR_TEXT];

	for (unsigned i = 0; i < prefixes->nb; i++)
		if (prefixes->list[i].addr.family != service->family)
			return conf_reader_fail(reader, conf_reader_element(setting, i),
				"\"%s\" is no address that clients of this service have, which is "
				"%s as its backends are; remove it",
				net_prefix_format(&prefixes->list[i], text),
				service->family == AF_INET6 ? "IPv6" : "IPv4");
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct net_prefix *x = *(const struct net_prefix *const *)a;
	const struct net_prefix *y = *(const struct net_prefix *const *)b;

	return x->length != y->length ? (int)x->length - (int)y->length
				      : net_addr_compare(&x->addr, &y->addr);
}

/* What is allowed and denied at once; reported in the list of those denied. */
static int check_both(struct conf_reader *reader, const struct conf_service *service,
	const config_setting_t *deny)
{
	const struct net_prefix **allowed = calloc(service->allow.nb + 1, sizeof(*allowed));
	char text[NET_ADDR_TEXT];
	int err = 0;

	if (allowed == NULL)
		return conf_reader_memory(reader);
	for (unsigned i = 0; i < service->allow.nb; i++)
		allowed[i] = &service->allow.list[i];
	qsort(allowed, service->allow.nb, sizeof(*allowed), compare);
	for (unsigned i = 0; i < service->deny.nb && err == 0; i++) {
		const struct net_prefix *prefix = &service->deny.list[i];
		if (bsearch(&prefix, allowed, service->allow.nb, sizeof(*allowed), compare) != NULL)
			err = conf_reader_fail(reader, conf_reader_element(deny, i),
				"\"%s\" stands in allow too; remove it from one of them",
				net_prefix_format(prefix, text));
	}
	free(allowed);
	return err;
}

int conf_check_access(struct conf_reader *reader, const struct conf_service *service,
	const config_setting_t *keys)
{
	const config_setting_t *deny = config_setting_get_member(keys, "deny");
	int err = check_families(
		reader, service, &service->allow, config_setting_get_member(keys, "allow"));

	if (err == 0)
		err = check_families(reader, service, &service->deny, deny);
	return err == 0 ? check_both(reader, service, deny) : err;
}
