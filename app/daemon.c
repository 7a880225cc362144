/* SPDX-License-Identifier: BSD-3-Clause */
#include "daemon.h"

#include <event2/event.h>

#include "conf.h"
#include "log.h"

void daemon_tell_exposed(const struct conf *conf)
{
	if (conf->exposed != NULL)
		log_warning("%s may be written by others than root, who then may do whatever weir "
			    "may: chown root %s; chmod go-w %s",
			conf->exposed, conf->exposed, conf->exposed);
}

void daemon_end(struct daemon *daemon, bool forget)
{
	daemon->forget = forget;
	event_base_loopbreak(daemon->events);
}
