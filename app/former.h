/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a process has in the kernel that another file would no longer name: the interface that is
 * mute for it, and the namespace with weir0. They outlive it for the next start, so the next start
 * by a file that names others has to give them back. They stand in a file of the instance.
 *
 * Thread rule: control core, before and after the event loop.
 */
#ifndef WEIR_FORMER_H
#define WEIR_FORMER_H

struct conf;

/* Give back what the former process of the instance had and this one, by `conf`, hasn't, unless
 * somebody else has it by now, and remember what this one has. */
void former_follow(const struct conf *conf);
/* Give back what the former process had and `conf`, whose port is that interface, doesn't name, and
 * remember nothing. */
void former_forget(const struct conf *conf, const char *interface);

#endif
