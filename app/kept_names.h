/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The addresses of names as the former process knew them, in a file beside what it kept of the
 * backends: a line a name, which its addresses follow. It is written anew and put into the old
 * one's place, so that a death at any moment leaves the one or the other.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_KEPT_NAMES_H
#define WEIR_KEPT_NAMES_H

#include <stdint.h>
#include <stdio.h>

#include "addr.h"

struct conf;

/* Called for each address of a name, in the order of the file. */
typedef void (*kept_names_found_fn)(void *context, const char *host, const struct net_addr *addr);

/* Read what the former process of the instance left; nothing is found where there is no file. */
void kept_names_read(const struct conf *conf, kept_names_found_fn found, void *context);

/* Begin to write the file of the instance. NULL and errno on failure. */
FILE *kept_names_begin(const struct conf *conf);
/* Write a name down, with addresses of one family. */
void kept_names_add(FILE *file, const char *host, const struct net_addr *addrs, uint32_t nb_addrs);
/* Put what was written in place. 0, or -errno and the old one stays. */
int kept_names_end(FILE *file, const struct conf *conf);

/* Remove the file of the instance. */
void kept_names_remove(const struct conf *conf);

#endif
