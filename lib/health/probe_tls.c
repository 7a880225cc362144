/* SPDX-License-Identifier: BSD-3-Clause */
#include "probe_tls.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "probe.h"

struct ssl_ctx_st *probe_tls_context_create(bool verify)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());

	if (context == NULL)
		goto fail;
	// Each probe is to show that a handshake works, and a reset must not look like an attack.
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	if (!verify) {
		// Nothing secret is sent: an old certificate or cipher doesn't make a backend sick.
		SSL_CTX_set_security_level(context, 0);
		SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
		return context;
	}
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	if (SSL_CTX_set_default_verify_paths(context) == 1)
		return context;
fail:
	SSL_CTX_free(context);
	ERR_clear_error();
	errno = ENOMEM;
	return NULL;
}

void probe_tls_context_destroy(struct ssl_ctx_st *context)
{
	SSL_CTX_free(context);
}

char *probe_tls_name(const char *host, bool *is_addr)
{
	struct net_endpoint endpoint;
	char text[NET_ADDR_TEXT];

	*is_addr = true;
	if (net_endpoint_parse(&endpoint, host) == 0 || net_addr_parse(&endpoint.addr, host) == 0)
		return strdup(net_addr_format(&endpoint.addr, text));
	*is_addr = false;
	return strndup(host, strcspn(host, ":"));
}

static bool name_set(SSL *ssl, const struct probe_task *task)
{
	if (task->tls_name_is_addr) // RFC 6066 allows no addresses in SNI
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), task->tls_name) == 1;
	return SSL_set_tlsext_host_name(ssl, task->tls_name) == 1 &&
		SSL_set1_host(ssl, task->tls_name) == 1;
}

struct bufferevent *probe_tls_stream(const struct probe_task *task, int fd)
{
	struct bufferevent *stream = NULL;
	SSL *ssl = SSL_new(task->tls);

	if (ssl == NULL)
		goto fail;
	if (!name_set(ssl, task)) {
		SSL_free(ssl);
		goto fail;
	}
	// With this option it frees `ssl` even when it fails, but then leaves `fd` alone.
	stream = bufferevent_openssl_socket_new(
		task->events, fd, ssl, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
	if (stream == NULL)
		goto fail;
	// A peer that closes without TLS's own good-bye has closed, no more.
	bufferevent_openssl_set_allow_dirty_shutdown(stream, 1);
	return stream;
fail:
	ERR_clear_error();
	return NULL;
}

bool probe_tls_reason(struct bufferevent *stream, char *reason, size_t size)
{
	SSL *ssl = bufferevent_openssl_get_ssl(stream);
	unsigned long err = bufferevent_get_openssl_error(stream);
	long certificate = SSL_get_verify_result(ssl);

	ERR_clear_error();
	if (certificate != X509_V_OK && SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE) {
		snprintf(reason, size, "certificate: %s",
			X509_verify_cert_error_string(certificate));
		return true;
	}
	const char *text = err != 0 ? ERR_reason_error_string(err) : NULL;
	if (text == NULL)
		return false;
	snprintf(reason, size, "%s", text);
	return true;
}
