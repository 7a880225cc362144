/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WEIR_TIMEOUTS_H
#define WEIR_TIMEOUTS_H

struct conf;
struct worker;

/* Give the workers the file's timeouts; they may be running. Any thread. */
void timeouts_set(struct worker *workers, unsigned nb_workers, const struct conf *conf);

#endif
