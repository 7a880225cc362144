/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Bringing the registry in line with a configuration, all or nothing. What may fail or take long,
 * making new backends, is done first and in slices, so that no timer of the event loop is late for
 * it; nobody sees anything of it before the commit, which can't fail.
 *
 *     plan_create ─► plan_step until it returns 0 ─► plan_commit ─► plan_finish until 0 ─► destroy
 *
 * Only one plan at a time. Thread rule: on the control core's event loop; plan_commit() under
 * daemon.lock.
 */
#ifndef WEIR_PLAN_H
#define WEIR_PLAN_H

#include <stdbool.h>
#include <stdint.h>

struct backends;
struct conf;
struct plan;

/* Begin a plan. `changed`, by service of `conf`: false where it and its backends are as in the
 * running one; NULL: all may have changed. Both outlive the plan. NULL and errno on failure. */
struct plan *plan_create(struct backends *backends, const struct conf *conf, const bool *changed);
/* Undo what was not committed, and free the plan. plan_destroy(NULL) is fine. */
void plan_destroy(struct plan *plan);

/* Make some of the plan, until clock_ns() is `until_ns`. 1: there is more to do. 0: ready for the
 * commit. -errno: it failed, destroy it. */
int plan_step(struct plan *plan, uint64_t until_ns);
/* Carry the plan out. `publication`: the number of the next one, by which the workers are told. */
void plan_commit(struct plan *plan, uint64_t publication);
/* Do some of what follows from the commit and isn't urgent, until clock_ns() is `until_ns`. 1: more
 * to do, 0: done. */
int plan_finish(struct plan *plan, uint64_t until_ns);

#endif
