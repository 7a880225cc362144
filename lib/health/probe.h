/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One probe: a TCP connection to the target, and on it what the kind of probe does. Internal to the
 * module; runs on the event loop.
 *
 * A new kind is a struct probe_kind in a file of its own and a row in the table of probe.c. The
 * time bound isn't here but with the schedule, which cancels what takes too long.
 */
#ifndef WEIR_PROBE_H
#define WEIR_PROBE_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "addr.h"
#include "conf.h"

struct bufferevent;
struct probe;
struct probe_ports;
struct ssl_ctx_st;

enum probe_outcome {
	PROBE_PASSED,
	PROBE_FAILED,
	PROBE_SKIPPED, // trouble of our own, that says nothing about the backend
};

struct probe_result {
	enum probe_outcome outcome;
	uint64_t answered_ms; // when something came back, be it a refusal; 0 = nothing did
	char reason[64];
};

/* What all probes of one target have in common; borrowed by them while they run. */
struct probe_task {
	struct event_base *events;
	int netns_fd;
	struct probe_ports *ports; // of probes under way; NULL = nobody asks
	struct net_endpoint endpoint;
	const struct net_addr *source; // of the next probe; NULL = the kernel's choice
	const struct conf_health *conf;
	struct ssl_ctx_st *tls; // HTTPS; borrowed
	char *request;          // HTTP; owned
	char *tls_name;         // HTTPS: the server's name or address; owned
	bool tls_name_is_addr;
	// The probe has ended, and isn't touched after this call: its memory may go.
	void (*done)(struct probe *probe, const struct probe_result *result);
};

struct probe {
	const struct probe_task *task;
	const char *stage;    // "connect", "tls", "http": what a timeout's reason starts with
	int fd;               // while connecting; -1 later
	uint16_t port;        // local, in the task's `ports`, network byte order; 0 = none
	uint64_t answered_ms; // as in its result
	struct event connecting;
	struct bufferevent *stream; // owns the connection after that; NULL = none
};

struct probe_kind {
	// Make what the target's probes share. 0 or -errno.
	int (*setup)(struct probe_task *task);
	// The connection stands. Ends in probe_end(), now or later.
	void (*connected)(struct probe *probe);
};

extern const struct probe_kind probe_tcp;
extern const struct probe_kind probe_http; // and HTTPS, when the task has a TLS context

/* Fill in the rest of a task whose events, netns_fd, endpoint, conf, tls and done the caller has
 * set. 0 or -errno. */
int probe_task_init(struct probe_task *task);
void probe_task_fini(struct probe_task *task);

/* Start a probe. True: it runs, and done() follows from the event loop. False: it ended at once;
 * `result` is filled in and done() isn't called. */
bool probe_start(struct probe *probe, const struct probe_task *task, struct probe_result *result);

/* Drop a probe without a result; fine for one that has ended, too. */
void probe_cancel(struct probe *probe);

/* End the probe and report its outcome. For the kinds of probes. */
void probe_end(struct probe *probe, enum probe_outcome outcome, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Return what a socket's error means for the backend, in a few words. */
const char *probe_errno_text(int err);

#endif
