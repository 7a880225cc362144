/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The workers: what each has, and what they share. They are launched and stopped by worker.h.
 *
 * Thread rule: control core, while no worker runs.
 */
#ifndef WEIR_WORKERS_H
#define WEIR_WORKERS_H

struct daemon;

/* Make daemon->workers, one for each queue of the port, and daemon->spray for the tests. 0 or
 * -ENOMEM, and then there are none. */
int workers_create(struct daemon *daemon);
/* Free them; none may run any more. Fine when none was made. */
void workers_destroy(struct daemon *daemon);

#endif
