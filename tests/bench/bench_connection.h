/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whole connections of ten packets: SYN, SYN-ACK, ACK, four with data, FIN, FIN-ACK, ACK; 4,096 at
 * a time go through each step. What it costs that they end is in the figure: pipeline_tick() is
 * called as the worker calls it, once a millisecond.
 */
#ifndef WEIR_BENCH_CONNECTION_H
#define WEIR_BENCH_CONNECTION_H

struct bench_connection;

struct bench_connection *bench_connection_create(void);
void bench_connection_measure(struct bench_connection *connection, unsigned round);
void bench_connection_destroy(struct bench_connection *connection);

#endif
