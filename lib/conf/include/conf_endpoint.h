/* SPDX-License-Identifier: BSD-3-Clause */
/* Addresses from the file, with words for what is wrong with them. */
#ifndef WEIR_CONF_ENDPOINT_H
#define WEIR_CONF_ENDPOINT_H

#include "addr.h"

/* Parse "192.0.2.1:80" or "[2001:db8::1]:80". NULL, or what is wrong and what would be right. */
const char *conf_endpoint_parse(struct net_endpoint *endpoint, const char *text);

/* Tell whether the text is "name:port", with a DNS name that has a letter. */
bool conf_endpoint_is_name(const char *text);

/* Return what is wrong with a backend's text that is meant to be a name and port, or a URL and
 * such, and what would be right; NULL when it is one, or an address. */
const char *conf_endpoint_name_fault(const char *text);

/* Parse ":80", the port alone. NULL, or what is wrong and what would be right. */
const char *conf_endpoint_parse_port(struct net_endpoint *endpoint, const char *text);

/* Return why no host can have the address ("a multicast address"); NULL when one can. */
const char *conf_addr_fault(const struct net_addr *addr);

/* Return why no host within the prefix can have the address ("the network's own address", "its
 * broadcast address"); NULL when one can. */
const char *conf_addr_fault_in(const struct net_addr *addr, const struct net_prefix *prefix);

#endif
