/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Carrying out a plan on the event loop: in slices, one plan at a time, and then told to the
 * workers.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_APPLY_H
#define WEIR_APPLY_H

#include <stdbool.h>

struct apply;
struct conf;
struct daemon;

/* Called with the commit, under daemon.lock, for what else changes with it. */
typedef void (*apply_commit_fn)(void *context);
/* Called once: 0 when the workers have the configuration, or -errno and nothing changed. */
typedef void (*apply_done_fn)(void *context, int err);

/* Create the applier of plans. NULL for want of memory. */
struct apply *apply_create(struct daemon *daemon);
/* Drop what is under way, without a call, and free the applier. apply_destroy(NULL) is fine. */
void apply_destroy(struct apply *apply);

bool apply_busy(const struct apply *apply);

/*
 * Bring the registry in line with `conf`, which becomes the running configuration, and is taken
 * over as soon as there is no way back; or, when NULL, with the running one, whose names may have
 * other addresses now. `changed`: by service, copied. `commit` may be NULL. It must not be busy. 0
 * or -errno, and then there is no call and `conf` is still the caller's.
 */
int apply_start(struct apply *apply, struct conf *conf, const bool *changed, apply_commit_fn commit,
	apply_done_fn done, void *context);

#endif
