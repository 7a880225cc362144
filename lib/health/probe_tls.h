/* SPDX-License-Identifier: BSD-3-Clause */
/* The TLS of HTTPS probes. Internal to the module. */
#ifndef WEIR_PROBE_TLS_H
#define WEIR_PROBE_TLS_H

#include <stdbool.h>
#include <stddef.h>

struct bufferevent;
struct probe_task;
struct ssl_ctx_st;

/* Create a TLS context. verify: against the system's store, which is read here. NULL
 * and errno on failure. */
struct ssl_ctx_st *probe_tls_context_create(bool verify);
void probe_tls_context_destroy(struct ssl_ctx_st *context);

/* Return the name in a Host header, without its port: "www:443" is "www", "[2001:db8::1]:443" is
 * "2001:db8::1" and an address. To be freed; NULL = out of memory. */
char *probe_tls_name(const char *host, bool *is_addr);

/* Return a stream that starts with the handshake; it owns `fd`. NULL = out of
 * memory, then it doesn't. */
struct bufferevent *probe_tls_stream(const struct probe_task *task, int fd);

/* Say why TLS failed on the stream. False: it didn't, the reason lies elsewhere. */
bool probe_tls_reason(struct bufferevent *stream, char *reason, size_t size);

#endif
