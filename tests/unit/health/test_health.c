/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Real sockets on the loopback; the servers run in the probes' own event loop. Counts and order are
 * asserted, not wall times: the machine may be slow.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"
#include "health.h"
#include "log.h"
#include "probe_ports.h"

#define LIMIT_MS 30000 // of a test's patience
#define MEGABYTE (1 << 20)

struct fixture {
	struct event_base *events;
	struct health *health;
	unsigned changes;
	struct health_target *last_changed;
	struct health_status at_change; // of the last changed
	void (*on_change)(struct fixture *fixture, struct health_target *target);
};

/* What a server does with a connection. */
struct server {
	struct event_base *events;
	struct evconnlistener *listener;
	struct net_endpoint endpoint;
	SSL_CTX *tls;
	const char *reply; // sent on a request; NULL = stay silent
	unsigned reply_after_ms;
	unsigned drip_ms; // > 0: send the reply a byte at a time
	const char *then; // sent for ever after the reply; NULL = nothing
	bool closes;      // after the reply
	unsigned connections, requests, resets, ends;
	uint16_t from;           // the last connection's port there
	unsigned nb_from[256];   // connections by the last byte of the address there
	unsigned char silent_to; // nothing is sent to that one; 0 = to all
	size_t sent;
	char request[1024]; // the last
};

struct connection {
	struct server *server;
	struct bufferevent *stream;
	struct event *timer;
	unsigned char from;
	size_t next; // byte of the reply
	bool is_flooding;
};

static void connection_free(struct connection *connection)
{
	event_free(connection->timer);
	bufferevent_free(connection->stream);
	free(connection);
}

static void flood(struct connection *connection)
{
	static char block[65536];
	size_t length = strlen(connection->server->then);

	for (size_t i = 0; i < sizeof(block); i++)
		block[i] = connection->server->then[i % length];
	if (connection->server->sent < (size_t)100 * MEGABYTE) {
		connection->server->sent += sizeof(block);
		bufferevent_write(connection->stream, block, sizeof(block));
	}
}

static void reply_send(int fd, short what, void *argument)
{
	struct connection *connection = argument;
	struct server *server = connection->server;
	size_t length = strlen(server->reply);

	if (server->drip_ms > 0 && connection->next < length) {
		struct timeval delay = {.tv_usec = server->drip_ms * 1000};

		bufferevent_write(connection->stream, server->reply + connection->next++, 1);
		event_add(connection->timer, &delay);
		return;
	}
	if (server->drip_ms == 0)
		bufferevent_write(connection->stream, server->reply, length);
	connection->is_flooding = server->then != NULL;
}

static void on_server_written(struct bufferevent *stream, void *argument)
{
	struct connection *connection = argument;

	if (connection->is_flooding)
		flood(connection);
	else if (connection->server->closes && connection->server->requests > 0)
		connection_free(connection);
}

static void on_server_read(struct bufferevent *stream, void *argument)
{
	struct connection *connection = argument;
	struct server *server = connection->server;
	struct evbuffer *input = bufferevent_get_input(stream);
	struct timeval delay = {.tv_usec = server->reply_after_ms * 1000};

	if (evbuffer_search(input, "\r\n\r\n", 4, NULL).pos < 0)
		return;
	int length = evbuffer_remove(input, server->request, sizeof(server->request) - 1);
	server->request[length] = '\0';
	server->requests++;
	if (server->reply == NULL || connection->from == server->silent_to)
		return;
	if (server->reply_after_ms > 0)
		event_add(connection->timer, &delay);
	else
		reply_send(-1, EV_TIMEOUT, connection);
}

static void on_server_event(struct bufferevent *stream, short what, void *argument)
{
	struct connection *connection = argument;

	if (what & BEV_EVENT_CONNECTED)
		return;
	if (what & BEV_EVENT_ERROR)
		connection->server->resets += errno == ECONNRESET;
	else
		connection->server->ends++;
	connection_free(connection);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
	int size, void *argument)
{
	struct server *server = argument;
	struct connection *connection = calloc(1, sizeof(*connection));

	server->connections++;
	server->from = from->sa_family == AF_INET ? ((struct sockaddr_in *)from)->sin_port
						  : ((struct sockaddr_in6 *)from)->sin6_port;
	connection->from = from->sa_family == AF_INET
		? ntohl(((struct sockaddr_in *)from)->sin_addr.s_addr)
		: ((struct sockaddr_in6 *)from)->sin6_addr.s6_addr[15];
	server->nb_from[connection->from]++;
	connection->server = server;
	connection->timer = evtimer_new(server->events, reply_send, connection);
	if (server->tls != NULL)
		connection->stream = bufferevent_openssl_socket_new(server->events, fd,
			SSL_new(server->tls), BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
	else
		connection->stream =
			bufferevent_socket_new(server->events, fd, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(
		connection->stream, on_server_read, on_server_written, on_server_event, connection);
	bufferevent_enable(connection->stream, EV_READ | EV_WRITE);
}

/* False when the loopback doesn't have the address. */
static bool server_listen(struct server *server, struct fixture *fixture, const char *address)
{
	struct sockaddr_storage at;
	socklen_t size;

	server->events = fixture->events;
	assert_int_equal(net_addr_parse(&server->endpoint.addr, address), 0);
	size = net_addr_sockaddr(&server->endpoint.addr, 0, &at);
	server->listener = evconnlistener_new_bind(fixture->events, on_accept, server,
		LEV_OPT_CLOSE_ON_FREE, 1024, (struct sockaddr *)&at, size);
	if (server->listener == NULL)
		return false;
	size = sizeof(at);
	getsockname(evconnlistener_get_fd(server->listener), (struct sockaddr *)&at, &size);
	server->endpoint.port = at.ss_family == AF_INET ? ((struct sockaddr_in *)&at)->sin_port
							: ((struct sockaddr_in6 *)&at)->sin6_port;
	return true;
}

static void server_start(struct server *server, struct fixture *fixture)
{
	assert_true(server_listen(server, fixture, "127.0.0.1"));
}

/* No longer listens; connections go on, or end by themselves when the probes go. */
static void server_stop(struct server *server)
{
	if (server->listener != NULL)
		evconnlistener_free(server->listener);
	server->listener = NULL;
	SSL_CTX_free(server->tls);
	server->tls = NULL;
}

static void on_changed(void *context, struct health_target *target)
{
	struct fixture *fixture = context;

	fixture->changes++;
	fixture->last_changed = target;
	fixture->at_change = *health_target_status(target);
	if (fixture->on_change != NULL)
		fixture->on_change(fixture, target);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	fixture->events = event_base_new();
	fixture->health = health_create(fixture->events, -1, on_changed, fixture);
	*state = fixture;
	return 0;
}

static void turn(struct fixture *fixture)
{
	struct timeval most = {.tv_usec = 20000};

	event_base_loopexit(fixture->events, &most);
	event_base_dispatch(fixture->events);
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	health_destroy(fixture->health);
	for (int i = 0; i < 5; i++)
		turn(fixture); // the servers' ends
	event_base_free(fixture->events);
	free(fixture);
	return 0;
}

/* Turn the loop until *count reaches n; fails the test when it doesn't. */
static void await(struct fixture *fixture, const unsigned *count, unsigned n)
{
	uint64_t end_ms = clock_ms() + LIMIT_MS;

	while (*count < n && clock_ms() < end_ms)
		turn(fixture);
	assert_true(*count >= n);
}

static void await_probes(struct fixture *fixture, struct health_target *target, unsigned n)
{
	const struct health_status *status = health_target_status(target);
	uint64_t end_ms = clock_ms() + LIMIT_MS;

	while (status->probes < n && clock_ms() < end_ms)
		turn(fixture);
	assert_true(status->probes >= n);
}

static const struct conf_health tcp = {
	.type = CONF_HEALTH_TCP,
	.interval_ms = 30,
	.timeout_ms = 5000,
	.rise = 2,
	.fall = 3,
};

static struct conf_health http_conf(unsigned timeout_ms)
{
	struct conf_health conf = tcp;

	conf.type = CONF_HEALTH_HTTP;
	conf.timeout_ms = timeout_ms;
	conf.path = "/";
	conf.status_first = 200;
	conf.status_last = 299;
	return conf;
}

static void expect_first(struct fixture *fixture, const struct net_endpoint *endpoint,
	const struct conf_health *conf, enum health_state wanted, const char *reason)
{
	struct health_target *target = health_target_get(fixture->health, endpoint, conf);

	assert_non_null(target);
	assert_int_equal(health_target_status(target)->state, HEALTH_UNKNOWN);
	await(fixture, &fixture->changes, 1);
	assert_ptr_equal(fixture->last_changed, target);
	assert_int_equal(fixture->at_change.probes, 1);
	assert_int_equal(fixture->at_change.state, wanted);
	if (strncmp(fixture->at_change.reason, reason, strlen(reason)) != 0)
		fail_msg("%s, not %s", fixture->at_change.reason, reason);
	health_target_put(target);
}

static void tcp_listener_is_up(void **state)
{
	struct server server = {0};

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &tcp, HEALTH_UP, "connect: ok");
	await(*state, &server.resets, 1); // closed by reset: no TIME_WAIT
	assert_int_equal(server.ends, 0);
	server_stop(&server);
}

static void tcp_listener_on_ipv6_is_up(void **state)
{
	struct server server = {0};

	if (!server_listen(&server, *state, "::1"))
		skip();
	expect_first(*state, &server.endpoint, &tcp, HEALTH_UP, "connect: ok");
	server_stop(&server);
}

/* From its SYN to its end, whatever kind it is and however it ends. */
static void the_port_of_a_probe_is_known_while_it_runs(void **state) // S1
{
	static const struct probe_ports none;
	static struct probe_ports ports;
	struct conf_health confs[] = {tcp, http_conf(5000), http_conf(5000), http_conf(100)};
	static const char *const replies[] = {NULL, "HTTP/1.1 200 OK\r\n\r\n", NULL, NULL};
	struct fixture *fixture = *state;

	health_set_ports(fixture->health, &ports);
	for (unsigned v6 = 0; v6 < 2; v6++)
		for (unsigned i = 0; i < sizeof(confs) / sizeof(confs[0]); i++) {
			struct server server = {.reply = replies[i], .closes = true};
			if (!server_listen(&server, fixture, v6 ? "::1" : "127.0.0.1"))
				continue;
			confs[i].interval_ms = 60000;
			fixture->changes = 0;
			struct health_target *target =
				health_target_get(fixture->health, &server.endpoint, &confs[i]);
			await(fixture, &server.connections, 1);
			if (confs[i].type == CONF_HEALTH_HTTP && replies[i] == NULL)
				assert_int_equal(ports.count[server.from], 1);
			if (i != 2) // that one is dropped while it runs
				await(fixture, &fixture->changes, 1);
			health_target_put(target);
			assert_memory_equal(&ports, &none, sizeof(none));
			server_stop(&server);
		}
}

static void run_for(struct fixture *fixture, unsigned ms)
{
	for (uint64_t end_ms = clock_ms() + ms; clock_ms() < end_ms;)
		turn(fixture);
}

static SSL_CTX *self_signed(void);

static struct net_addr two_sources[2];

static void use_two_sources(struct fixture *fixture)
{
	net_addr_parse(&two_sources[0], "127.0.0.2");
	net_addr_parse(&two_sources[1], "127.0.0.3");
	health_set_sources(fixture->health, &(struct net_sources){.v4 = {two_sources, 2}});
}

/* E8: of all kinds, and none from the address that the kernel would take. */
static void probes_come_from_their_addresses_in_turn(void **state)
{
	struct conf_health confs[] = {tcp, http_conf(5000), http_conf(5000)};
	struct fixture *fixture = *state;

	use_two_sources(fixture);
	confs[2].type = CONF_HEALTH_HTTPS;
	for (unsigned i = 0; i < sizeof(confs) / sizeof(confs[0]); i++) {
		struct server server = {
			.reply = "HTTP/1.1 200 OK\r\n\r\n", .tls = i == 2 ? self_signed() : NULL};
		server_start(&server, fixture);
		struct health_target *target =
			health_target_get(fixture->health, &server.endpoint, &confs[i]);
		fixture->changes = 0;
		await_probes(fixture, target, 6);
		assert_int_equal(fixture->changes, 1);
		assert_int_equal(health_target_status(target)->state, HEALTH_UP);
		health_target_put(target);
		turn(fixture);
		assert_in_range(server.nb_from[2], server.nb_from[3], server.nb_from[3] + 1);
		assert_int_equal(server.nb_from[2] + server.nb_from[3], server.connections);
		server_stop(&server);
	}
}

/* E8: behind a firewall that knows one of two addresses. */
static void one_address_without_an_answer_is_down_and_named(void **state)
{
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n", .silent_to = 3};
	struct conf_health conf = http_conf(200);
	struct fixture *fixture = *state;

	use_two_sources(fixture);
	server_start(&server, fixture);
	struct health_target *target = health_target_get(fixture->health, &server.endpoint, &conf);
	await_probes(fixture, target, 6);
	assert_int_equal(fixture->changes, 1);
	assert_int_equal(fixture->at_change.state, HEALTH_DOWN);
	assert_int_equal(fixture->at_change.probes, 2);
	assert_string_equal(fixture->at_change.reason, "http: timeout from 127.0.0.3");
	assert_true(health_target_status(target)->connects);
	server.silent_to = 0;
	await(fixture, &fixture->changes, 2);
	assert_int_equal(fixture->at_change.state, HEALTH_UP);
	// And when it ceases to know one that it knew.
	server.silent_to = 2;
	await(fixture, &fixture->changes, 3);
	assert_int_equal(fixture->at_change.state, HEALTH_DOWN);
	assert_string_equal(fixture->at_change.reason, "http: timeout from 127.0.0.2");
	health_target_put(target);
	server_stop(&server);
}

/* E8, E2: weir0 doesn't have it yet, or not any more. */
static void an_address_that_is_not_there_is_our_own_trouble(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "::1"};
	struct fixture *fixture = *state;
	struct net_addr addrs[2];

	net_addr_parse(&addrs[0], "198.51.100.77");
	net_addr_parse(&addrs[1], "2001:db8::77");
	health_set_sources(
		fixture->health, &(struct net_sources){.v4 = {&addrs[0], 1}, .v6 = {&addrs[1], 1}});
	for (unsigned v6 = 0; v6 < 2; v6++) {
		struct server server = {0};
		if (!server_listen(&server, fixture, hosts[v6]))
			continue;
		struct health_target *target =
			health_target_get(fixture->health, &server.endpoint, &tcp);
		run_for(fixture, 10 * tcp.interval_ms);
		assert_int_equal(health_target_status(target)->state, HEALTH_UNKNOWN);
		assert_int_equal(health_target_status(target)->probes, 0);
		assert_int_equal(server.connections, 0);
		net_addr_parse(&addrs[v6], hosts[v6]); // now it is
		await_probes(fixture, target, 1);
		assert_int_equal(health_target_status(target)->state, HEALTH_UP);
		health_target_put(target);
		server_stop(&server);
	}
}

static void closed_port_is_down_refused(void **state)
{
	struct server server = {0};

	server_start(&server, *state);
	server_stop(&server);
	expect_first(*state, &server.endpoint, &tcp, HEALTH_DOWN, "connect: refused");
}

/* In a namespace of its own without routes, which is no backend's fault (E2): also shows that the
 * probe's socket is made there. */
static void without_a_route_nothing_is_known(void **state)
{
	struct fixture *fixture = *state;
	int own = open("/proc/self/ns/net", O_RDONLY);
	struct net_endpoint endpoint;

	if (unshare(CLONE_NEWNET) < 0) {
		close(own);
		skip();
	}
	int other = open("/proc/self/ns/net", O_RDONLY);
	assert_int_equal(setns(own, CLONE_NEWNET), 0);
	health_destroy(fixture->health);
	fixture->health = health_create(fixture->events, other, on_changed, fixture);
	net_endpoint_parse(&endpoint, "192.0.2.1:80");
	struct health_target *target = health_target_get(fixture->health, &endpoint, &tcp);
	run_for(fixture, 10 * tcp.interval_ms);
	assert_int_equal(health_target_status(target)->state, HEALTH_UNKNOWN);
	assert_int_equal(health_target_status(target)->probes, 0);
	assert_int_equal(fixture->changes, 0);
	health_target_put(target);
	health_destroy(fixture->health);
	fixture->health = NULL;
	close(own);
	close(other);
}

/* A full backlog drops SYNs: nobody answers. */
static void silent_connect_is_down_by_timeout(void **state)
{
	struct conf_health conf = tcp;
	struct net_endpoint endpoint = {.addr = {.family = AF_INET}};
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0), fillers[4];

	assert_int_equal(bind(listener, (struct sockaddr *)&at, size), 0);
	assert_int_equal(listen(listener, 0), 0);
	getsockname(listener, (struct sockaddr *)&at, &size);
	for (int i = 0; i < 4; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fillers[i], (struct sockaddr *)&at, size);
	}
	endpoint.addr.v4 = at.sin_addr.s_addr;
	endpoint.port = at.sin_port;
	conf.timeout_ms = 200;
	expect_first(*state, &endpoint, &conf, HEALTH_DOWN, "connect: timeout");
	for (int i = 0; i < 4; i++)
		close(fillers[i]);
	close(listener);
}

static void http_status_in_range_is_up(void **state)
{
	struct server server = {.reply = "HTTP/1.1 204 No Content\r\n\r\n"};
	struct conf_health conf = http_conf(5000);
	char text[NET_ENDPOINT_TEXT], wanted[512];

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &conf, HEALTH_UP, "http: status 204");
	snprintf(wanted, sizeof(wanted),
		"GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: weir-health\r\nAccept: */*\r\n"
		"Connection: close\r\n\r\n",
		net_endpoint_format(&server.endpoint, text));
	assert_string_equal(server.request, wanted);
	server_stop(&server);
}

static void http_path_host_and_port_are_as_configured(void **state)
{
	struct server server = {.reply = "HTTP/1.1 301 Moved\r\n\r\n"};
	struct conf_health conf = http_conf(5000);
	struct net_endpoint backend;

	server_start(&server, *state);
	backend = server.endpoint;
	backend.port = htons(1); // the probe's port is another
	conf.port = ntohs(server.endpoint.port);
	conf.path = "/health?full=1";
	conf.host = "www.example.org";
	conf.status_first = conf.status_last = 301;
	expect_first(*state, &backend, &conf, HEALTH_UP, "http: status 301");
	assert_non_null(strstr(server.request, "GET /health?full=1 HTTP/1.1\r\n"));
	assert_non_null(strstr(server.request, "\r\nHost: www.example.org\r\n"));
	server_stop(&server);
}

static void http_other_status_is_down(void **state)
{
	struct server server = {.reply = "HTTP/1.1 503 Service Unavailable\r\n\r\n"};
	struct conf_health conf = http_conf(5000);

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN, "http: status 503");
	server_stop(&server);
}

static void http_silent_is_down_by_timeout(void **state)
{
	struct server server = {0};
	struct conf_health conf = http_conf(200);

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN, "http: timeout");
	server_stop(&server);
}

static void http_close_without_an_answer_is_down(void **state)
{
	struct server server = {.reply = "HTTP/1.1 ", .closes = true};
	struct conf_health conf = http_conf(5000);

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN,
		"http: closed before the status line");
	server_stop(&server);
}

static void case_f10_garbage_is_down_at_once(void **state)
{
	struct server server = {.reply = "220 mail.example.org ESMTP\r\n"};
	struct conf_health conf = http_conf(60000);

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN, "http: not an HTTP response");
	server_stop(&server);
}

static void case_f10_byte_by_byte_is_down_by_timeout(void **state)
{
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n", .drip_ms = 100};
	struct conf_health conf = http_conf(400);

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN, "http: timeout");
	server_stop(&server);
}

static void case_f10_100_mb_body_is_not_read(void **state)
{
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n", .then = "x"};
	struct conf_health conf = http_conf(10000);

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &conf, HEALTH_UP, "http: status 200");
	await(*state, &server.resets, 1);
	assert_true(server.sent < (size_t)50 * MEGABYTE);
	server_stop(&server);
}

static void case_f10_endless_header_is_cut_at_4_kb(void **state)
{
	struct server server = {.reply = "HTTP/1.1 103 Early Hints\r\n", .then = "a: b\r\n"};
	struct conf_health conf = http_conf(60000);

	server_start(&server, *state);
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN, "http: no status in 4096 bytes");
	await(*state, &server.resets, 1);
	assert_true(server.sent < (size_t)50 * MEGABYTE);
	server_stop(&server);
}

static SSL_CTX *self_signed(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	X509_NAME *name = X509_get_subject_name(certificate);

	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_set_pubkey(certificate, key);
	X509_NAME_add_entry_by_txt(
		name, "CN", MBSTRING_ASC, (unsigned char *)"www.example.org", -1, -1, 0);
	X509_set_issuer_name(certificate, name);
	assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(context, certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return context;
}

static char server_name[64];

static int on_server_name(SSL *ssl, int *alert, void *argument)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	snprintf(server_name, sizeof(server_name), "%s", name != NULL ? name : "");
	return SSL_TLSEXT_ERR_OK;
}

static void https_passes_any_certificate_and_sends_the_name(void **state)
{
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n", .tls = self_signed()};
	struct conf_health conf = http_conf(10000);

	SSL_CTX_set_tlsext_servername_callback(server.tls, on_server_name);
	server_start(&server, *state);
	conf.type = CONF_HEALTH_HTTPS;
	conf.host = "www.example.org:8443";
	expect_first(*state, &server.endpoint, &conf, HEALTH_UP, "http: status 200");
	assert_string_equal(server_name, "www.example.org");
	assert_non_null(strstr(server.request, "\r\nHost: www.example.org:8443\r\n"));
	server_stop(&server);
}

static void https_with_verify_refuses_a_self_signed_certificate(void **state)
{
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n", .tls = self_signed()};
	struct conf_health conf = http_conf(10000);

	server_start(&server, *state);
	conf.type = CONF_HEALTH_HTTPS;
	conf.host = "www.example.org";
	conf.verify = true;
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN,
		"tls: certificate: self-signed certificate");
	server_stop(&server);
}

/* The self-signed certificate is in the store, so only the name is wrong. */
static void https_with_verify_checks_the_name(void **state)
{
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n", .tls = self_signed()};
	struct conf_health conf = http_conf(10000);
	char path[] = "/tmp/test_health_XXXXXX";
	FILE *file = fdopen(mkstemp(path), "w");

	PEM_write_X509(file, SSL_CTX_get0_certificate(server.tls));
	fclose(file);
	setenv("SSL_CERT_FILE", path, 1);

	server_start(&server, *state);
	conf.type = CONF_HEALTH_HTTPS;
	conf.verify = true;
	conf.host = "www.example.org";
	expect_first(*state, &server.endpoint, &conf, HEALTH_UP, "http: status 200");
	((struct fixture *)*state)->changes = 0;
	conf.host = "mail.example.org";
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN,
		"tls: certificate: hostname mismatch");
	((struct fixture *)*state)->changes = 0;
	conf.host = NULL; // the address, which the certificate doesn't have either
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN,
		"tls: certificate: IP address mismatch");
	unsetenv("SSL_CERT_FILE");
	unlink(path);
	server_stop(&server);
}

static void https_to_a_plain_server_is_down(void **state)
{
	struct server server = {.reply = "HTTP/1.1 400 Bad Request\r\n\r\n"};
	struct conf_health conf = http_conf(300);

	server_start(&server, *state);
	conf.type = CONF_HEALTH_HTTPS;
	expect_first(*state, &server.endpoint, &conf, HEALTH_DOWN, "tls: ");
	server_stop(&server);
}

static void rise_and_fall_are_counted_in_probes(void **state)
{
	struct fixture *fixture = *state;
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n"};
	struct conf_health conf = http_conf(10000);
	struct health_target *target;
	const struct health_status *status;

	server_start(&server, fixture);
	target = health_target_get(fixture->health, &server.endpoint, &conf);
	status = health_target_status(target);
	await_probes(fixture, target, 5);
	assert_int_equal(fixture->changes, 1);
	assert_int_equal(status->failures, 0);

	server.reply = "HTTP/1.1 500 Oops\r\n\r\n";
	await(fixture, &fixture->changes, 2);
	assert_int_equal(status->state, HEALTH_DOWN);
	assert_string_equal(status->reason, "http: status 500");
	assert_int_equal(fixture->at_change.failures, 3);

	server.reply = "HTTP/1.1 200 OK\r\n\r\n";
	await(fixture, &fixture->changes, 3);
	assert_int_equal(status->state, HEALTH_UP);
	assert_string_equal(status->reason, "http: status 200");
	assert_true(server.requests >= status->probes);
	health_target_put(target);
	server_stop(&server);
}

/* The answer comes after 50 ms, but the loop stands still for more than the timeout. */
static void case_d16_halted_loop_is_no_failure(void **state)
{
	struct fixture *fixture = *state;
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n", .reply_after_ms = 50};
	struct conf_health conf = http_conf(1000);
	struct health_target *target;

	server_start(&server, fixture);
	conf.fall = 1;
	conf.interval_ms = 20;
	target = health_target_get(fixture->health, &server.endpoint, &conf);
	await(fixture, &fixture->changes, 1);
	for (int i = 0; i < 3; i++) {
		await(fixture, &server.requests, server.requests + 1);
		usleep(2500 * 1000); // a probe is under way, or is soon
	}
	await_probes(fixture, target, health_target_status(target)->probes + 3);
	assert_int_equal(fixture->changes, 1);
	assert_int_equal(health_target_status(target)->failures, 0);
	health_target_put(target);
	server_stop(&server);
}

static bool is_served(void *context)
{
	return *(bool *)context;
}

/* No answer, but nothing is served: the probe is repeated, and counts when things work again. */
static void what_is_not_served_is_no_failure(void **state)
{
	struct fixture *fixture = *state;
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n"};
	struct conf_health conf = http_conf(100);
	struct health_target *target;
	bool served = true;

	server_start(&server, fixture);
	conf.fall = 1;
	conf.interval_ms = 20;
	health_set_served(fixture->health, is_served, &served);
	target = health_target_get(fixture->health, &server.endpoint, &conf);
	await(fixture, &fixture->changes, 1);
	server.reply = "";
	served = false;
	// The first that isn't answered may have begun before.
	await(fixture, &server.requests, server.requests + 4);
	assert_int_equal(fixture->changes, 1);
	served = true;
	await(fixture, &fixture->changes, 2);
	assert_int_equal(health_target_status(target)->state, HEALTH_DOWN);
	health_target_put(target);
	server_stop(&server);
}

static bool is_in_trouble(void *context, uint64_t since_ms)
{
	return *(bool *)context;
}

/* In trouble of our own nothing is sent, and what fails counts for nothing (E2). */
static void own_trouble_is_no_failure(void **state)
{
	struct fixture *fixture = *state;
	struct server server = {.reply = "HTTP/1.1 200 OK\r\n\r\n"};
	struct conf_health conf = http_conf(100);
	struct health_target *target;
	bool in_trouble = false;

	server_start(&server, fixture);
	conf.fall = 1;
	conf.interval_ms = 20;
	health_set_trouble(fixture->health, is_in_trouble, &in_trouble);
	target = health_target_get(fixture->health, &server.endpoint, &conf);
	await(fixture, &fixture->changes, 1);
	assert_true(health_target_status(target)->answered_ms != 0);
	assert_int_equal(health_target_status(target)->silent_ms, 0);
	server.reply = "";
	in_trouble = true;
	run_for(fixture, 300); // the one under way fails meanwhile
	unsigned connections = server.connections;
	run_for(fixture, 200);
	assert_int_equal(server.connections, connections);
	assert_int_equal(fixture->changes, 1);
	assert_int_equal(health_target_status(target)->failures, 0);
	in_trouble = false;
	await(fixture, &fixture->changes, 2);
	assert_int_equal(health_target_status(target)->state, HEALTH_DOWN);
	health_target_put(target);
	server_stop(&server);
}

static void local_trouble_is_not_counted(void **state)
{
	struct fixture *fixture = *state;
	struct server server = {0};
	struct conf_health conf = tcp;
	struct rlimit before, none;
	struct health_target *target;

	server_start(&server, fixture);
	conf.fall = 1;
	target = health_target_get(fixture->health, &server.endpoint, &conf);
	await(fixture, &fixture->changes, 1);
	getrlimit(RLIMIT_NOFILE, &before);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
	log_set_level(LOG_LEVEL_ERROR);
	setrlimit(RLIMIT_NOFILE, &none);
	for (int i = 0; i < 20; i++)
		turn(fixture);
	setrlimit(RLIMIT_NOFILE, &before);
	log_set_level(LOG_LEVEL_INFO);
	await_probes(fixture, target, health_target_status(target)->probes + 2);
	assert_int_equal(fixture->changes, 1);
	assert_int_equal(health_target_status(target)->failures, 0);
	health_target_put(target);
	server_stop(&server);
}

static void equal_probes_share_one_target(void **state)
{
	struct fixture *fixture = *state;
	struct health *health = fixture->health;
	struct conf_health conf = tcp, other = tcp;
	struct net_endpoint a, b;

	net_endpoint_parse(&a, "127.0.0.1:1");
	net_endpoint_parse(&b, "127.0.0.1:2");
	struct health_target *target = health_target_get(health, &a, &conf);
	conf.path = "/unused"; // not by a TCP probe
	assert_ptr_equal(health_target_get(health, &a, &conf), target);
	other.port = 1;
	assert_ptr_equal(health_target_get(health, &b, &other), target);
	assert_true(net_endpoint_equal(health_target_endpoint(target), &a));
	struct health_target *second = health_target_get(health, &b, &tcp);
	assert_ptr_not_equal(second, target);
	other = tcp;
	other.fall++;
	struct health_target *third = health_target_get(health, &a, &other);
	assert_ptr_not_equal(third, target);

	struct conf_health http = http_conf(100), http_other = http;
	char path[] = "/", host[] = "x"; // equal, but elsewhere
	http.host = "x";
	http_other.path = path;
	http_other.host = host;
	struct health_target *fourth = health_target_get(health, &a, &http);
	assert_ptr_equal(health_target_get(health, &a, &http_other), fourth);
	host[0] = 'y'; // conf was copied
	assert_ptr_equal(health_target_get(health, &a, &http), fourth);

	health_target_put(target);
	health_target_put(target);
	assert_int_equal(health_target_status(target)->state, HEALTH_UNKNOWN); // one still holds it
	health_target_put(target);
	assert_ptr_equal(health_target_get(health, &b, &tcp), second);
	// The rest goes with the whole.
}

static void type_none_is_up_and_never_probed(void **state)
{
	struct fixture *fixture = *state;
	struct conf_health conf = {.type = CONF_HEALTH_NONE, .port = 7};
	struct net_endpoint endpoint;

	net_endpoint_parse(&endpoint, "127.0.0.1:1");
	struct health_target *target = health_target_get(fixture->health, &endpoint, &conf);
	for (int i = 0; i < 5; i++)
		turn(fixture);
	assert_int_equal(health_target_status(target)->state, HEALTH_UP);
	assert_int_equal(health_target_status(target)->probes, 0);
	assert_int_equal(fixture->changes, 0);
	assert_true(net_endpoint_equal(health_target_endpoint(target), &endpoint));
	health_target_put(target);
}

static void conf_that_would_break_the_request_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct conf_health conf = http_conf(100);
	struct net_endpoint endpoint;

	net_endpoint_parse(&endpoint, "127.0.0.1:1");
	conf.path = "/ HTTP/1.1\r\nx: y";
	assert_null(health_target_get(fixture->health, &endpoint, &conf));
	assert_int_equal(errno, EINVAL);
	conf.path = "/";
	conf.host = "a b";
	assert_null(health_target_get(fixture->health, &endpoint, &conf));
	conf = tcp;
	conf.interval_ms = 0;
	assert_null(health_target_get(fixture->health, &endpoint, &conf));
	assert_int_equal(errno, EINVAL);
}

static void first_results_of_many_targets_come_at_once(void **state)
{
	struct fixture *fixture = *state;
	struct server server = {0};
	struct health_target *targets[300];

	server_start(&server, fixture);
	for (unsigned i = 0; i < 300; i++) {
		struct conf_health conf = tcp;

		conf.interval_ms = 3600000 + i; // so that none is shared, nor probed twice
		targets[i] = health_target_get(fixture->health, &server.endpoint, &conf);
	}
	await(fixture, &fixture->changes, 300);
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(health_target_status(targets[i])->state, HEALTH_UP);
		assert_int_equal(health_target_status(targets[i])->probes, 1);
		health_target_put(targets[i]);
	}
	server_stop(&server);
}

static struct health_target *held[3];
static struct server *changing_server;

static void put_all_and_get_anew(struct fixture *fixture, struct health_target *target)
{
	struct conf_health conf = tcp;

	if (fixture->changes > 1)
		return;
	for (int i = 0; i < 3; i++)
		health_target_put(held[i]); // `target` among them
	conf.rise = 9;
	held[0] = health_target_get(fixture->health, &changing_server->endpoint, &conf);
}

static void callback_may_put_and_get(void **state)
{
	struct fixture *fixture = *state;
	static struct server server;

	server_start(&server, fixture);
	changing_server = &server;
	fixture->on_change = put_all_and_get_anew;
	for (unsigned i = 0; i < 3; i++) {
		struct conf_health conf = i == 0 ? tcp : http_conf(5000 + i);

		server.reply = "HTTP/1.1 200 OK\r\n\r\n";
		held[i] = health_target_get(fixture->health, &server.endpoint, &conf);
	}
	await(fixture, &fixture->changes, 2);
	assert_ptr_equal(fixture->last_changed, held[0]);
	server_stop(&server);
}

static void callback_may_put_from_an_http_result(void **state)
{
	struct fixture *fixture = *state;
	static struct server server;
	static struct conf_health conf;

	server = (struct server){.reply = "HTTP/1.1 200 OK\r\n\r\n", .tls = self_signed()};
	conf = http_conf(10000);
	conf.type = CONF_HEALTH_HTTPS;
	server_start(&server, fixture);
	changing_server = &server;
	fixture->on_change = put_all_and_get_anew;
	for (unsigned i = 0; i < 3; i++) {
		conf.fall = 1 + i;
		held[i] = health_target_get(fixture->health, &server.endpoint, &conf);
	}
	await(fixture, &fixture->changes, 2);
	server_stop(&server);
}

static unsigned count_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	unsigned count = 0;

	while (readdir(directory) != NULL)
		count++;
	closedir(directory);
	return count;
}

/* Under a sanitizer this also shows that no memory is left. */
static void destroy_while_probes_are_under_way_leaves_nothing(void **state)
{
	unsigned before = count_descriptors();
	struct fixture fixture = {.events = event_base_new()};
	struct server silent = {0}, silent_tls = {0}, handshaken = {.tls = self_signed()};

	fixture.health = health_create(fixture.events, -1, on_changed, &fixture);
	server_start(&silent, &fixture);
	server_start(&silent_tls, &fixture);
	server_start(&handshaken, &fixture);
	for (unsigned i = 0; i < 20; i++) {
		struct conf_health conf = http_conf(60000);

		conf.rise = 1 + i;
		health_target_get(fixture.health, &silent.endpoint, &conf);
		conf.type = CONF_HEALTH_HTTPS;
		health_target_get(fixture.health, &silent_tls.endpoint, &conf);
		health_target_get(fixture.health, &handshaken.endpoint, &conf);
	}
	await(&fixture, &silent.requests, 20);
	await(&fixture, &silent_tls.connections, 20);
	await(&fixture, &handshaken.requests, 20);
	struct conf_health late = http_conf(50000); // one that is only queued
	health_target_get(fixture.health, &silent.endpoint, &late);
	health_destroy(fixture.health);
	await(&fixture, &silent.resets, 20);
	for (int i = 0; i < 5; i++)
		turn(&fixture);
	server_stop(&silent);
	server_stop(&silent_tls);
	server_stop(&handshaken);
	event_base_free(fixture.events);
	assert_int_equal(fixture.changes, 0);
	assert_int_equal(count_descriptors(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tcp_listener_is_up),
		TEST(tcp_listener_on_ipv6_is_up),
		TEST(the_port_of_a_probe_is_known_while_it_runs),
		TEST(probes_come_from_their_addresses_in_turn),
		TEST(one_address_without_an_answer_is_down_and_named),
		TEST(an_address_that_is_not_there_is_our_own_trouble),
		TEST(closed_port_is_down_refused),
		TEST(without_a_route_nothing_is_known),
		TEST(silent_connect_is_down_by_timeout),
		TEST(http_status_in_range_is_up),
		TEST(http_path_host_and_port_are_as_configured),
		TEST(http_other_status_is_down),
		TEST(http_silent_is_down_by_timeout),
		TEST(http_close_without_an_answer_is_down),
		TEST(case_f10_garbage_is_down_at_once),
		TEST(case_f10_byte_by_byte_is_down_by_timeout),
		TEST(case_f10_100_mb_body_is_not_read),
		TEST(case_f10_endless_header_is_cut_at_4_kb),
		TEST(https_passes_any_certificate_and_sends_the_name),
		TEST(https_with_verify_refuses_a_self_signed_certificate),
		TEST(https_with_verify_checks_the_name),
		TEST(https_to_a_plain_server_is_down),
		TEST(rise_and_fall_are_counted_in_probes),
		TEST(case_d16_halted_loop_is_no_failure),
		TEST(what_is_not_served_is_no_failure),
		TEST(own_trouble_is_no_failure),
		TEST(local_trouble_is_not_counted),
		TEST(equal_probes_share_one_target),
		TEST(type_none_is_up_and_never_probed),
		TEST(conf_that_would_break_the_request_is_refused),
		TEST(first_results_of_many_targets_come_at_once),
		TEST(callback_may_put_and_get),
		TEST(callback_may_put_from_an_http_result),
		cmocka_unit_test(destroy_while_probes_are_under_way_leaves_nothing),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
