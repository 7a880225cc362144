/* SPDX-License-Identifier: BSD-3-Clause */
#include "own_side.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "daemon.h"
#include "exception.h"
#include "log.h"
#include "upgrade.h"

#define LOOK_MS 250
#define FRESH_MS 10 // a look that was made so long ago does for a question

struct own_side {
	struct daemon *daemon;
	struct event *event;
	unsigned index; // of the kernel interface behind the port; 0 = none
	bool starts_again;
	uint64_t looked_ms;
	uint64_t troubled_ms; // when trouble was seen last, or seen to be over; 0 = never
	char trouble[80];     // "" = none
};

static const char *port_name(const struct dev_port *port)
{
	return port->interface[0] != '\0' ? port->interface : port->name;
}

static void find_trouble(const struct own_side *own_side, char *text, size_t size)
{
	const struct daemon *daemon = own_side->daemon;
	const struct dev_port *port = &daemon->port;

	text[0] = '\0';
	if (own_side->index != 0 && dev_port_index(port) == 0)
		snprintf(text, size, "%s is gone", port_name(port));
	else if (!dev_port_link_up(port))
		snprintf(text, size, "%s: no link", port_name(port));
	else if (exception_state(daemon->exception) != EXCEPTION_UP)
		snprintf(text, size, EXCEPTION_INTERFACE " is down");
}

static void look(struct own_side *own_side, uint64_t now_ms)
{
	char found[sizeof(own_side->trouble)];
	bool was_in_trouble = own_side->trouble[0] != '\0';

	own_side->looked_ms = now_ms;
	find_trouble(own_side, found, sizeof(found));
	if (was_in_trouble || found[0] != '\0')
		own_side->troubled_ms = now_ms;
	if (strcmp(own_side->trouble, found) == 0)
		return;
	if (found[0] != '\0')
		log_warning("%s: no backend is probed or judged until that is over", found);
	else
		log_info("over: %s", own_side->trouble);
	pthread_mutex_lock(&own_side->daemon->lock);
	strcpy(own_side->trouble, found);
	pthread_mutex_unlock(&own_side->daemon->lock);
}

/* What can't be put back while this process has it; NULL = nothing. */
static const char *find_loss(const struct own_side *own_side)
{
	const struct daemon *daemon = own_side->daemon;
	unsigned index = dev_port_index(&daemon->port);

	if (index != 0 && index != own_side->index)
		return "the port was deleted and made anew";
	if (exception_state(daemon->exception) == EXCEPTION_GONE)
		return EXCEPTION_INTERFACE " was deleted";
	if (!exception_netns_is_named(daemon->exception))
		return "the network namespace of " EXCEPTION_INTERFACE " was deleted";
	return NULL;
}

static void mend_mute(const struct own_side *own_side)
{
	const char *interface = dev_eal_interface();
	char message[DEV_MESSAGE] = "";

	// Without the interface there is nothing to mute.
	if (interface[0] == '\0' || dev_port_index(&own_side->daemon->port) != own_side->index ||
		exception_is_mute(interface))
		return;
	if (exception_mute(interface, message) < 0)
		log_limited(LOG_LEVEL_ERROR, "%s isn't mute any more: %s", interface, message);
	else
		log_limited(LOG_LEVEL_WARNING,
			"%s wasn't mute any more: mute again; was nftables flushed "
			"(nft flush ruleset, systemctl restart nftables)?",
			interface);
}

static void mend(struct own_side *own_side)
{
	struct daemon *daemon = own_side->daemon;
	const char *loss = find_loss(own_side);

	if (own_side->starts_again || upgrade_is_under_way(daemon))
		return;
	if (loss != NULL) {
		log_warning("%s: starting again", loss);
		own_side->starts_again = true;
		upgrade_start_again(daemon);
		return;
	}
	exception_mend(daemon->exception, &daemon->conf->port, daemon->withdrawn);
	mend_mute(own_side);
}

static void look_due(evutil_socket_t fd, short what, void *context)
{
	look(context, clock_ms());
	mend(context);
}

bool own_side_in_trouble(struct own_side *own_side, uint64_t since_ms)
{
	uint64_t now_ms = clock_ms();

	if (own_side == NULL)
		return false;
	if (now_ms - own_side->looked_ms >= FRESH_MS)
		look(own_side, now_ms);
	return own_side->troubled_ms != 0 && own_side->troubled_ms >= since_ms;
}

const char *own_side_trouble(const struct own_side *own_side)
{
	return own_side->trouble;
}

struct own_side *own_side_create(struct daemon *daemon)
{
	struct own_side *own_side = calloc(1, sizeof(*own_side));

	if (own_side == NULL)
		return NULL;
	own_side->daemon = daemon;
	own_side->index = dev_port_index(&daemon->port);
	own_side->event = event_new(daemon->events, -1, EV_PERSIST, look_due, own_side);
	if (own_side->event == NULL ||
		event_add(own_side->event, &(struct timeval){.tv_usec = LOOK_MS * 1000}) < 0) {
		own_side_destroy(own_side);
		errno = ENOMEM;
		return NULL;
	}
	return own_side;
}

void own_side_destroy(struct own_side *own_side)
{
	if (own_side == NULL)
		return;
	if (own_side->event != NULL)
		event_free(own_side->event);
	free(own_side);
}
