/* SPDX-License-Identifier: BSD-3-Clause */
#include "daemon.h"

#include <event2/event.h>

void daemon_end(struct daemon *daemon, bool forget)
{
	daemon->forget = forget;
	event_base_loopbreak(daemon->events);
}
