/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What health.c (which targets there are) and target.c (their probes in time) share. Internal to
 * the module.
 */
#ifndef WEIR_TARGET_H
#define WEIR_TARGET_H

#include <sys/queue.h>

#include "health.h"
#include "probe.h"
#include "probe_schedule.h"
#include "verdict.h"

enum target_phase {
	TARGET_WAITING, // for its slot
	TARGET_QUEUED,
	TARGET_RUNNING,
};

struct health_target {
	struct health *health;
	unsigned references;
	struct conf_health conf; // a copy, its strings included; the port is in the endpoint
	struct health_status status;
	struct verdict verdict;
	struct schedule schedule;
	struct probe_task task;
	struct probe probe;
	const struct net_addr_list *sources; // of its probes, in turn
	unsigned source;                     // of the running probe, or of the next one
	uint64_t connected;                  // a bit for each source: its latest probe was
	enum target_phase phase;
	bool is_skipped;    // the latest probe was, which was said
	struct event timer; // the slot, or the deadline while running
	uint64_t due_ms;    // what the timer is for
	uint64_t queued_ms; // since when it is in the queue
	TAILQ_ENTRY(health_target) queued;
};

TAILQ_HEAD(target_queue, health_target);

struct health {
	struct event_base *events;
	int netns_fd;
	health_changed_fn changed;
	void *context;
	health_served_fn served; // NULL = always
	void *served_context;
	struct probe_ports *ports; // of probes under way; NULL = nobody asks
	struct net_sources sources;
	health_trouble_fn trouble; // NULL = never
	void *trouble_context;
	void *targets;             // tsearch(3) tree by target_compare()
	struct target_queue queue; // due, oldest first
	struct event starter;      // works off the queue
	struct pace pace;
	struct event beat; // runs while probes are under way
	struct loop_watch watch;
	unsigned inflight;
	unsigned inflight_max;
	bool is_behind;            // said in the log
	uint32_t created;          // targets ever: their ordinals
	struct ssl_ctx_st *tls[2]; // made when first needed; [1] verifies
};

/* Make the queue, the beat and the bound of what is under way. */
void target_starter_init(struct health *health);
void target_starter_fini(struct health *health);

/* Make a target's timers, before target_start() or target_stop(). */
void target_init(struct health_target *target);

/* Start to probe the target, once: the first probe goes out as soon as the queue allows. */
void target_start(struct health_target *target);

/* Stop to probe the target; fine for one that was never started. */
void target_stop(struct health_target *target);

#endif
