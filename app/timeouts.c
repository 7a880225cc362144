/* SPDX-License-Identifier: BSD-3-Clause */
#include "timeouts.h"

#include <rte_common.h>

#include "conf.h"
#include "worker.h"

// As long as a flow's 16-bit clock still tells its age when the first sweep comes.
#define LEFT_TO_SWEEP_S (UINT16_MAX - 256)
_Static_assert(LEFT_TO_SWEEP_S < UINT16_MAX - FLOW_CLOCK_SLACK_S, "or it would never expire");
_Static_assert(LEFT_TO_SWEEP_S > CONF_TIMEOUT_MAX_S, "or it would expire too early");

static enum conf_tcp_timeout timeout_of(enum tcp_state state)
{
	if (tcp_state_half_open(state))
		return CONF_TIMEOUT_HALF_OPEN;
	switch (state) {
	case TCP_ESTABLISHED:
		return CONF_TIMEOUT_ESTABLISHED;
	case TCP_TIME_WAIT:
		return CONF_TIMEOUT_TIME_WAIT;
	case TCP_CLOSE:
		return CONF_TIMEOUT_CLOSE;
	default:
		return CONF_TIMEOUT_CLOSING;
	}
}

void timeouts_of_service(const struct conf_service *service, uint16_t timeout_s[TCP_STATES])
{
	timeout_s[TCP_NONE] = 0;
	for (enum tcp_state state = TCP_SYN_SENT; state < TCP_STATES; state++)
		timeout_s[state] = service->timeout_s[timeout_of(state)];
}

void timeouts_at_start(
	const struct conf *conf, const struct conf_service *service, uint16_t timeout_s[TCP_STATES])
{
	timeout_s[TCP_NONE] = 0;
	for (enum tcp_state state = TCP_SYN_SENT; state < TCP_STATES; state++) {
		enum conf_tcp_timeout which = timeout_of(state);
		bool has_own = service != NULL && service->timeout_s[which] != 0;
		timeout_s[state] = has_own ? service->timeout_s[which] : conf->timeout_s[which];
	}
	if (service != NULL && service->on_idle == CONF_IDLE_RESET)
		timeout_s[TCP_ESTABLISHED] = LEFT_TO_SWEEP_S;
}

void timeouts_set(struct worker *workers, unsigned nb_workers, const struct conf *conf,
	const unsigned least_s[CONF_TIMEOUTS], enum timeouts_step step)
{
	for (enum tcp_state state = TCP_SYN_SENT; state < TCP_STATES; state++) {
		uint16_t all_s = conf->timeout_s[timeout_of(state)];
		uint16_t state_least_s = least_s[timeout_of(state)];
		for (unsigned w = 0; w < nb_workers; w++) {
			// Nobody else writes them. A sweep may see some old and some new.
			uint16_t *own_all_s = &workers[w].pipeline.timeout_s[state];
			uint16_t *own_least_s = &workers[w].pipeline.least_timeout_s[state];
			if (step == TIMEOUTS_RAISE) {
				all_s = RTE_MAX(all_s, *own_all_s);
				state_least_s = RTE_MIN(state_least_s, *own_least_s);
			}
			__atomic_store_n(own_all_s, all_s, __ATOMIC_RELAXED);
			__atomic_store_n(own_least_s, state_least_s, __ATOMIC_RELAXED);
		}
	}
}
