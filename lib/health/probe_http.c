/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An HTTP probe asks for a path and judges the status line; it doesn't wait for the rest. HTTPS is
 * the same over another bufferevent. libevent's own HTTP client isn't used: it makes its socket
 * itself, hides why a connection failed, and gives no status before the last header has come.
 */
#include "probe.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_status.h"
#include "probe_tls.h"

// All that is ever read of a response: an evil backend has no more of our time (case F10).
#define RESPONSE_MAX 4096

// Neither spaces nor control characters: they would end the request line or start another header.
static bool is_token(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text <= ' ' || *text == 0x7f)
			return false;
	return true;
}

static int http_setup(struct probe_task *task)
{
	const char *path = task->conf->path != NULL ? task->conf->path : "/";
	const char *host = task->conf->host;
	char text[NET_ENDPOINT_TEXT];

	if (host == NULL)
		host = net_endpoint_format(&task->endpoint, text);
	if (path[0] != '/' || !is_token(path) || !is_token(host))
		return -EINVAL;
	if (asprintf(&task->request,
		    "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: weir-health\r\nAccept: */*\r\n"
		    "Connection: close\r\n\r\n",
		    path, host) < 0) {
		task->request = NULL;
		return -ENOMEM;
	}
	if (task->tls == NULL)
		return 0;
	task->tls_name = probe_tls_name(host, &task->tls_name_is_addr);
	return task->tls_name != NULL ? 0 : -ENOMEM;
}

static void on_readable(struct bufferevent *stream, void *argument)
{
	struct probe *probe = argument;
	const struct conf_health *conf = probe->task->conf;
	struct evbuffer *input = bufferevent_get_input(stream);
	size_t length = evbuffer_get_length(input);
	const char *data = (const char *)evbuffer_pullup(input, -1);
	int status = http_status_parse(data, data != NULL ? length : 0);

	if (status < 0)
		probe_end(probe, PROBE_FAILED, "http: not an HTTP response");
	else if (status > 0 && (unsigned)status >= conf->status_first &&
		(unsigned)status <= conf->status_last)
		probe_end(probe, PROBE_PASSED, "http: status %d", status);
	else if (status > 0)
		probe_end(probe, PROBE_FAILED, "http: status %d", status);
	else if (length >= RESPONSE_MAX)
		probe_end(probe, PROBE_FAILED, "http: no status in %d bytes", RESPONSE_MAX);
}

static void on_event(struct bufferevent *stream, short what, void *argument)
{
	struct probe *probe = argument;
	int err = errno;

	if (what & BEV_EVENT_CONNECTED) {
		probe->stage = "http"; // the TLS handshake is done
		return;
	}
	char reason[48] = "closed before the status line";
	if (probe->task->tls != NULL && probe_tls_reason(stream, reason, sizeof(reason))) {
		probe_end(probe, PROBE_FAILED, "tls: %s", reason);
		return;
	}
	if (what & BEV_EVENT_ERROR)
		snprintf(reason, sizeof(reason), "%s", probe_errno_text(err));
	probe_end(probe, PROBE_FAILED, "%s: %s", probe->stage, reason);
}

static void http_connected(struct probe *probe)
{
	const struct probe_task *task = probe->task;
	int fd = probe->fd;

	probe->stage = task->tls != NULL ? "tls" : "http";
	event_del(&probe->connecting);
	if (task->tls != NULL)
		probe->stream = probe_tls_stream(task, fd);
	else
		probe->stream = bufferevent_socket_new(task->events, fd, BEV_OPT_CLOSE_ON_FREE);
	if (probe->stream == NULL) {
		probe_end(probe, PROBE_SKIPPED, "%s: out of memory", probe->stage);
		return;
	}
	probe->fd = -1;
	bufferevent_setcb(probe->stream, on_readable, NULL, on_event, probe);
	bufferevent_setwatermark(probe->stream, EV_READ, 0, RESPONSE_MAX);
	if (bufferevent_write(probe->stream, task->request, strlen(task->request)) < 0 ||
		bufferevent_enable(probe->stream, EV_READ | EV_WRITE) < 0)
		probe_end(probe, PROBE_SKIPPED, "%s: out of memory", probe->stage);
}

const struct probe_kind probe_http = {.setup = http_setup, .connected = http_connected};
