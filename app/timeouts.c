/* SPDX-License-Identifier: BSD-3-Clause */
#include "timeouts.h"

#include "conf.h"
#include "worker.h"

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

void timeouts_set(struct worker *workers, unsigned nb_workers, const struct conf *conf)
{
	for (unsigned w = 0; w < nb_workers; w++)
		for (enum tcp_state state = TCP_SYN_SENT; state < TCP_STATES; state++)
			// Each is right by itself; a sweep may see some old and some new.
			__atomic_store_n(&workers[w].pipeline.timeout_s[state],
				conf->timeout_s[timeout_of(state)], __ATOMIC_RELAXED);
}
