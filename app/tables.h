/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The flow tables of both families, and the files behind them.
 *
 * Thread rule: control core.
 */
#ifndef WEIR_TABLES_H
#define WEIR_TABLES_H

#include <stdbool.h>

struct conf;
struct daemon;

/*
 * Make the tables that the services need, over their files if flows.persist says so, and one for a
 * family that only a file of the former process still has. daemon->secrets become those of the
 * files. Without room for a file the table lives in this process only, and a warning says so. 0 or
 * -errno with `message` (DEV_MESSAGE bytes).
 */
int tables_create(struct daemon *daemon, char *message);
/* Free the tables; the workers must have ended. The files stay, unless daemon->forget. */
void tables_destroy(struct daemon *daemon);

/* Give the files the size that is configured, behind the adoption. */
void tables_adopted(struct daemon *daemon);

/* Move files that an earlier weir had where everybody may write: once it can't come back. */
void tables_settle(struct daemon *daemon);

/* Write into the files that their owner is alive: about once a second. */
void tables_alive(struct daemon *daemon);

/* Tell whether a former process left a file. */
bool tables_exist(const struct conf *conf);

/* Remove the files that a former process left: false when somebody uses one. */
bool tables_remove(const struct conf *conf);

#endif
