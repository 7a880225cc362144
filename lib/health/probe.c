/* SPDX-License-Identifier: BSD-3-Clause */
#include "probe.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "netns.h"
#include "probe_ports.h"

static const struct probe_kind *const kinds[] = {
	[CONF_HEALTH_TCP] = &probe_tcp,
	[CONF_HEALTH_HTTP] = &probe_http,
	[CONF_HEALTH_HTTPS] = &probe_http,
};

int probe_task_init(struct probe_task *task)
{
	return kinds[task->conf->type]->setup(task);
}

void probe_task_fini(struct probe_task *task)
{
	free(task->request);
	free(task->tls_name);
}

const char *probe_errno_text(int err)
{
	static const struct {
		int err;
		const char *text;
	} known[] = {
		{ECONNREFUSED, "refused"},
		{ETIMEDOUT, "timeout"},
		{EHOSTUNREACH, "no route to host"},
		{ENETUNREACH, "network unreachable"},
		{ECONNRESET, "reset by peer"},
		{EPIPE, "reset by peer"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].err == err)
			return known[i].text;
	const char *text = strerrordesc_np(err);
	return text != NULL ? text : "unknown error";
}

// Errors of connecting that arise on this machine, before a packet has gone anywhere.
static bool errno_is_local(int err)
{
	switch (err) {
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
	case EADDRNOTAVAIL: // no free port, or weir0 has no address yet
	case EADDRINUSE:
	case EAGAIN:
	case ENETDOWN:
		return true;
	default:
		return false;
	}
}

static enum probe_outcome outcome_of(int err)
{
	return errno_is_local(err) ? PROBE_SKIPPED : PROBE_FAILED;
}

static bool errno_is_answer(int err)
{
	return err == 0 || err == ECONNREFUSED || err == ECONNRESET;
}

static void on_connected(int fd, short what, void *argument)
{
	struct probe *probe = argument;
	socklen_t size = sizeof(int);
	int err = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &size) < 0)
		err = errno;
	probe->answered_ms = errno_is_answer(err) ? clock_ms() : 0;
	if (err != 0)
		probe_end(probe, outcome_of(err), "connect: %s", probe_errno_text(err));
	else
		kinds[probe->task->conf->type]->connected(probe);
}

/* Its SYN is on its way already: an answer that comes before this is in another class, no more. */
static void note_port(struct probe *probe)
{
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} local = {.any = {.sa_family = AF_UNSPEC}};
	socklen_t size = sizeof(local);

	if (probe->task->ports == NULL || getsockname(probe->fd, &local.any, &size) < 0)
		return;
	probe->port = local.any.sa_family == AF_INET ? local.v4.sin_port : local.v6.sin6_port;
	probe_ports_add(probe->task->ports, probe->port);
}

/* The port is chosen by connect(), for this destination alone: binding to one would take it from
 * all other probes. 0 or -errno. */
static int bind_source(int fd, const struct net_addr *source)
{
	struct sockaddr_storage from;
	int late = 1;

	if (source == NULL)
		return 0;
	socklen_t size = net_addr_sockaddr(source, 0, &from);
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof(late));
	return bind(fd, (struct sockaddr *)&from, size) < 0 ? -errno : 0;
}

bool probe_start(struct probe *probe, const struct probe_task *task, struct probe_result *result)
{
	// A reset in place of a FIN leaves no TIME_WAIT behind, here or there.
	static const struct linger reset_on_close = {.l_onoff = 1, .l_linger = 0};
	struct sockaddr_storage to;
	socklen_t size = net_addr_sockaddr(&task->endpoint.addr, task->endpoint.port, &to);

	*probe = (struct probe){.task = task, .stage = "connect"};
	result->answered_ms = 0;
	probe->fd = netns_socket(
		task->netns_fd, task->endpoint.addr.family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (probe->fd < 0) {
		result->outcome = PROBE_SKIPPED;
		snprintf(result->reason, sizeof(result->reason), "socket: %s",
			probe_errno_text(-probe->fd));
		return false;
	}
	setsockopt(probe->fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
	event_assign(&probe->connecting, task->events, probe->fd, EV_WRITE, on_connected, probe);

	char step[NET_ADDR_TEXT + 8] = "connect", text[NET_ADDR_TEXT];
	int err = -bind_source(probe->fd, task->source);
	if (err != 0)
		snprintf(step, sizeof(step), "bind to %s", net_addr_format(task->source, text));
	if (err == 0 && connect(probe->fd, (struct sockaddr *)&to, size) < 0 &&
		errno != EINPROGRESS)
		err = errno;
	else if (err == 0 && event_add(&probe->connecting, NULL) < 0)
		err = ENOMEM;
	if (err == 0) {
		note_port(probe);
		return true;
	}
	// Said at once it is our own routes' word, said later a router's.
	result->outcome = err == ENETUNREACH ? PROBE_SKIPPED : outcome_of(err);
	snprintf(result->reason, sizeof(result->reason), "%s: %s", step, probe_errno_text(err));
	probe_cancel(probe);
	return false;
}

void probe_cancel(struct probe *probe)
{
	if (probe->port != 0)
		probe_ports_remove(probe->task->ports, probe->port);
	probe->port = 0;
	if (probe->stream != NULL)
		bufferevent_free(probe->stream);
	probe->stream = NULL;
	if (probe->task != NULL && probe->fd >= 0) {
		event_del(&probe->connecting);
		close(probe->fd);
		probe->fd = -1;
	}
}

void probe_end(struct probe *probe, enum probe_outcome outcome, const char *format, ...)
{
	struct probe_result result = {.outcome = outcome, .answered_ms = probe->answered_ms};
	va_list args;

	va_start(args, format);
	vsnprintf(result.reason, sizeof(result.reason), format, args);
	va_end(args);
	probe_cancel(probe);
	probe->task->done(probe, &result);
}
