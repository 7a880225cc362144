/* SPDX-License-Identifier: BSD-3-Clause */
#include "command.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <jansson.h>
#include <rte_common.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "actions.h"
#include "backends.h"
#include "conf.h"
#include "control.h"
#include "daemon.h"
#include "dev.h"
#include "hand.h"
#include "log.h"
#include "own_file.h"
#include "reload.h"
#include "upgrade.h"

#define VERSION 1
#define LINE_BYTES 4096
#define CLIENTS_MAX 16
#define BACKLOG 128      // of those that wait for a place
#define ANSWER_MS 20     // for the last answer to leave
#define IDLE_S 60        // for the next line, and for an answer to be taken
#define IDLE_CROWDED_S 1 // the same, while all places are taken

#define SOCKET_PATH sizeof(((struct sockaddr_un *)0)->sun_path)

struct client {
	struct command *command;
	struct bufferevent *stream;
	struct hand hand; // whose it is
	struct reload_waiter reload;
	struct control_waiter published;
	bool is_upgrading;
	bool has_ended;   // it says no more
	bool is_skipping; // the rest of a line that is too long
	json_t *answer;   // to be given when it is published
	LIST_ENTRY(client) entry;
};

struct command {
	struct daemon *daemon;
	struct evconnlistener *listener;
	LIST_HEAD(, client) clients;
	unsigned nb_clients;
	bool forget; // at the end that was asked for
	char path[SOCKET_PATH];
};

/* --- answers --- */

/* Names and messages may quote bytes of a file that are no UTF-8. */
static json_t *text_of(const char *text)
{
	json_t *string = json_string(text);
	char *copy;

	if (string != NULL || (copy = strdup(text)) == NULL)
		return string;
	for (char *p = copy; *p != '\0'; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	string = json_string(copy);
	free(copy);
	return string;
}

/* When it is out the client is heard again. */
static void send_answer(struct client *client, json_t *answer)
{
	char *text = answer == NULL ? NULL : json_dumps(answer, JSON_COMPACT);

	json_decref(answer);
	if (text == NULL)
		text = strdup("{\"version\":1,\"ok\":false,\"error\":\"out of memory\"}");
	if (text != NULL) {
		bufferevent_write(client->stream, text, strlen(text));
		bufferevent_write(client->stream, "\n", 1);
	}
	free(text);
}

static void answer_error(struct client *client, const char *error)
{
	send_answer(client,
		json_pack("{s:i, s:b, s:o}", "version", VERSION, "ok", 0, "error", text_of(error)));
}

static json_t *answer_changes(char *const *lines, unsigned nb_lines)
{
	json_t *changes = json_array();

	for (unsigned i = 0; i < nb_lines; i++)
		json_array_append_new(changes, text_of(lines[i]));
	return json_pack("{s:i, s:b, s:o}", "version", VERSION, "ok", 1, "changes", changes);
}

/* --- commands --- */

static void reloaded(void *context, const struct reload_result *result)
{
	struct client *client = context;

	if (result->error != NULL)
		answer_error(client, result->error);
	else
		send_answer(client, answer_changes(result->lines, result->nb_lines));
}

static void published(void *context)
{
	struct client *client = context;
	json_t *answer = client->answer;

	client->answer = NULL;
	send_answer(client, answer);
}

static void tell_by_hand(const struct client *client, const char *what)
{
	char text[HAND_TEXT];

	log_info("by hand: %s, by %s", what, hand_text(&client->hand, text));
}

static void do_reload(struct client *client, const json_t *request)
{
	tell_by_hand(client, "reload");
	client->reload.told = reloaded;
	client->reload.context = client;
	reload_request(client->command->daemon->reload, &client->reload);
}

/* What the three actions on a backend have in common. */
static void do_action(struct client *client, const json_t *request,
	int (*act)(struct control *control, const struct hand *hand, const char *service,
		const char *backend, const json_t *request, char *words))
{
	struct control *control = client->command->daemon->control;
	const char *service = json_string_value(json_object_get(request, "service"));
	const char *backend = json_string_value(json_object_get(request, "backend"));
	char words[ACTION_TEXT], *line = words;

	if (service == NULL || backend == NULL) {
		answer_error(client, "\"service\" and \"backend\" are needed, each a string");
		return;
	}
	if (act(control, &client->hand, service, backend, request, words) < 0) {
		answer_error(client, words);
		return;
	}
	client->answer = answer_changes(&line, 1);
	control_wait(control, &client->published, published, client);
}

static int drain(struct control *control, const struct hand *hand, const char *service,
	const char *backend, const json_t *request, char *words)
{
	return action_drain(control, hand, service, backend, words);
}

static int activate(struct control *control, const struct hand *hand, const char *service,
	const char *backend, const json_t *request, char *words)
{
	return action_activate(control, hand, service, backend, words);
}

static int weight(struct control *control, const struct hand *hand, const char *service,
	const char *backend, const json_t *request, char *words)
{
	const json_t *value = json_object_get(request, "weight");

	if (!json_is_integer(value)) {
		snprintf(words, ACTION_TEXT, "\"weight\" is needed, an integer from 0 to %u",
			CONF_WEIGHT_MAX);
		return -EINVAL;
	}
	return action_weight(control, hand, service, backend, json_integer_value(value), words);
}

static void do_drain(struct client *client, const json_t *request)
{
	do_action(client, request, drain);
}

static void do_activate(struct client *client, const json_t *request)
{
	do_action(client, request, activate);
}

static void do_weight(struct client *client, const json_t *request)
{
	do_action(client, request, weight);
}

static void ending(evutil_socket_t fd, short what, void *context)
{
	struct command *command = context;

	upgrade_give_up(command->daemon);
	daemon_end(command->daemon, command->forget);
}

/* Answers first: the connection goes with the process. */
static void do_stop(struct client *client, const json_t *request)
{
	struct command *command = client->command;
	const json_t *forget = json_object_get(request, "forget");
	char text[HAND_TEXT];

	if (forget != NULL && !json_is_boolean(forget)) {
		answer_error(client, "\"forget\" is true or false");
		return;
	}
	upgrade_give_up(command->daemon);
	command->forget = json_is_true(forget) || !command->daemon->conf->flows_persist;
	log_info("ending, by hand%s, by %s", command->forget ? ": nothing is kept" : "",
		hand_text(&client->hand, text));
	send_answer(client,
		json_pack("{s:i, s:b, s:[], s:i}", "version", VERSION, "ok", 1, "changes", "pid",
			(int)getpid()));
	event_base_once(command->daemon->events, -1, EV_TIMEOUT, ending, command,
		&(struct timeval){.tv_usec = ANSWER_MS * 1000});
}

static void upgraded(void *context, const char *error)
{
	struct client *client = context;

	client->is_upgrading = false;
	if (error != NULL) {
		answer_error(client, error);
		return;
	}
	send_answer(client,
		json_pack("{s:i, s:b, s:[], s:i}", "version", VERSION, "ok", 1, "changes", "pid",
			(int)getpid()));
}

/* Connections open, of the family that has more. */
static uint32_t most_open(const struct daemon *daemon)
{
	const struct backends *backends = control_backends(daemon->control);
	uint64_t nb_open[2] = {0};

	for (uint32_t s = 0; s < backends->nb_services; s++)
		for (uint32_t b = 0; b < backends->services[s]->nb_backends; b++) {
			const struct control_backend *backend = backends->services[s]->backends[b];
			struct stats_backend sum;
			control_backend_count(backends, backend, &sum);
			nb_open[stats_family(backend->conf.endpoint.addr.family)] +=
				sum.opened - sum.ended;
		}
	return RTE_MAX(nb_open[0], nb_open[1]);
}

/* Whether a successor could take over with the file as it is; what a device takes shows only when
 * one has it. */
static bool can_take_over(const struct daemon *daemon, struct conf_error *error)
{
	struct conf *conf = conf_load_successor(daemon->options.config,
		&(struct conf_succeeded){daemon->conf, most_open(daemon)}, error);
	bool can = conf != NULL;

	conf_free(conf);
	return can;
}

/* Answered when the new process is prepared; what it is then is asked of its own socket. */
static void do_upgrade(struct client *client, const json_t *request)
{
	struct daemon *daemon = client->command->daemon;
	int err = -EINVAL;

	if (!daemon->conf->flows_persist) {
		answer_error(client,
			"with flows.persist = false an upgrade would lose every "
			"connection: restart weir");
		return;
	}
	struct conf_error error;
	if (!can_take_over(daemon, &error)) {
		answer_error(client, error.text);
		return;
	}
	tell_by_hand(client, "upgrade");
	client->is_upgrading = true;
	err = upgrade_start(daemon, upgraded, client);
	if (err == 0)
		return;
	client->is_upgrading = false;
	if (err == -EALREADY)
		snprintf(error.text, sizeof(error.text), "an upgrade is under way");
	else
		snprintf(error.text, sizeof(error.text), "%s: %s; this process goes on",
			upgrade_binary(daemon), strerror(-err));
	answer_error(client, error.text);
}

/* Who answers here. */
static void do_pid(struct client *client, const json_t *request)
{
	send_answer(client,
		json_pack("{s:i, s:b, s:[], s:i}", "version", VERSION, "ok", 1, "changes", "pid",
			(int)getpid()));
}

static const struct {
	const char *name;
	void (*perform)(struct client *client, const json_t *request); // answers, now or later
} commands[] = {
	{"reload", do_reload},
	{"drain", do_drain},
	{"activate", do_activate},
	{"weight", do_weight},
	{"stop", do_stop},
	{"upgrade", do_upgrade},
	{"pid", do_pid},
};

static void perform(struct client *client, const char *line, size_t size)
{
	json_error_t error;
	json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
	const char *name = json_string_value(json_object_get(request, "command"));
	size_t i = 0;

	while (name != NULL && i < sizeof(commands) / sizeof(commands[0]) &&
		strcmp(commands[i].name, name) != 0)
		i++;
	if (!json_is_object(request))
		answer_error(client, request == NULL ? error.text : "expected an object");
	else if (json_integer_value(json_object_get(request, "version")) != VERSION)
		answer_error(client, "\"version\" must be 1: this weir speaks no other");
	else if (name == NULL || i == sizeof(commands) / sizeof(commands[0]))
		answer_error(client,
			"unknown command; known: reload, drain, activate, weight, stop, upgrade, "
			"pid");
	else
		commands[i].perform(client, request);
	json_decref(request);
}

/* --- clients --- */

static void set_patience(struct client *client, unsigned idle_s)
{
	const struct timeval idle = {.tv_sec = idle_s};

	bufferevent_set_timeouts(client->stream, &idle, &idle);
}

/* Whoever comes while all places are taken waits to be accepted, and who holds one without use
 * makes room. */
static void set_crowded(struct command *command, bool is_crowded)
{
	struct client *client;

	if (is_crowded)
		evconnlistener_disable(command->listener);
	else
		evconnlistener_enable(command->listener);
	LIST_FOREACH(client, &command->clients, entry)
		set_patience(client, is_crowded ? IDLE_CROWDED_S : IDLE_S);
}

static void client_destroy(struct client *client)
{
	struct command *command = client->command;
	struct daemon *daemon = command->daemon;

	reload_cancel_wait(daemon->reload, &client->reload);
	control_cancel_wait(daemon->control, &client->published);
	if (client->is_upgrading)
		upgrade_cancel_wait(daemon);
	json_decref(client->answer);
	LIST_REMOVE(client, entry);
	if (command->nb_clients-- == CLIENTS_MAX)
		set_crowded(command, false);
	bufferevent_free(client->stream);
	free(client);
}

/* Whether what it asked for is done, and the answer taken. */
static bool is_answered(const struct client *client)
{
	return !client->reload.is_waiting && !client->published.is_waiting &&
		!client->is_upgrading &&
		evbuffer_get_length(bufferevent_get_output(client->stream)) == 0;
}

/* The next line, the caller's; the last one may lack its newline. NULL: none is whole. */
static char *take_line(struct client *client, size_t *size)
{
	struct evbuffer *input = bufferevent_get_input(client->stream);
	char *line;

	while ((line = evbuffer_readln(input, size, EVBUFFER_EOL_LF)) != NULL &&
		client->is_skipping) {
		client->is_skipping = false;
		free(line);
	}
	if (line != NULL || !client->has_ended || client->is_skipping)
		return line;
	*size = evbuffer_get_length(input);
	line = *size == 0 ? NULL : malloc(*size);
	if (line != NULL)
		evbuffer_remove(input, line, *size);
	return line;
}

/* Drop what there is of a line that is too long, which is said once. */
static void skip(struct client *client)
{
	struct evbuffer *input = bufferevent_get_input(client->stream);

	evbuffer_drain(input, evbuffer_get_length(input));
	if (client->is_skipping)
		bufferevent_enable(client->stream, EV_READ);
	else
		answer_error(client, "the line is too long");
	client->is_skipping = true;
}

/* One line at a time: what has come in behind it is looked at when its answer is taken. So no more
 * is held for a client than one answer, and what is read ahead. */
static void hear(struct client *client)
{
	struct bufferevent *stream = client->stream;
	size_t size;

	if (!is_answered(client))
		return;
	bufferevent_disable(stream, EV_READ);
	char *line = take_line(client, &size);
	if (line != NULL && size > LINE_BYTES)
		answer_error(client, "the line is too long");
	else if (line != NULL)
		perform(client, line, size);
	else if (client->has_ended)
		client_destroy(client);
	else if (client->is_skipping ||
		evbuffer_get_length(bufferevent_get_input(stream)) > LINE_BYTES)
		skip(client);
	else
		bufferevent_enable(stream, EV_READ);
	free(line);
}

static void on_read(struct bufferevent *stream, void *context)
{
	hear(context);
}

static void on_written(struct bufferevent *stream, void *context)
{
	hear(context);
}

static void on_event(struct bufferevent *stream, short what, void *context)
{
	struct client *client = context;

	// One that has said all may still wait for the answer.
	if ((what & BEV_EVENT_EOF) && (what & BEV_EVENT_READING)) {
		client->has_ended = true;
		hear(client);
	} else {
		client_destroy(client);
	}
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
	int size, void *context)
{
	struct command *command = context;
	struct client *client = calloc(1, sizeof(*client));

	if (client != NULL)
		client->stream =
			bufferevent_socket_new(command->daemon->events, fd, BEV_OPT_CLOSE_ON_FREE);
	if (client == NULL || client->stream == NULL) {
		free(client);
		close(fd);
		return;
	}
	client->command = command;
	hand_of_peer(fd, &client->hand);
	LIST_INSERT_HEAD(&command->clients, client, entry);
	bufferevent_setcb(client->stream, on_read, on_written, on_event, client);
	set_patience(client, IDLE_S);
	// No more than this is read ahead.
	bufferevent_setwatermark(client->stream, EV_READ, 0, LINE_BYTES * 2);
	bufferevent_enable(client->stream, EV_READ | EV_WRITE);
	if (++command->nb_clients == CLIENTS_MAX)
		set_crowded(command, true);
}

/* --- the socket --- */

static void make_path(const struct conf *conf, char path[SOCKET_PATH])
{
	snprintf(path, SOCKET_PATH, OWN_RUN_DIRECTORY "%s%s/control.sock",
		conf->instance[0] != '\0' ? "/" : "", conf->instance);
}

/* The instance's, or all instances'. */
static int make_directory(const char *path)
{
	char directory[SOCKET_PATH];
	int err = own_directory_make(OWN_RUN_DIRECTORY, 0755);

	strcpy(directory, path);
	*strrchr(directory, '/') = '\0';
	return err < 0 ? err : own_directory_make(directory, 0755);
}

/* The socket, and the directory: which fails as long as something else is in it. */
static void remove_path(char *path)
{
	struct stat status;

	if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode))
		unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
}

void command_forget(const struct conf *conf)
{
	char path[SOCKET_PATH];

	make_path(conf, path);
	remove_path(path);
}

static int open_socket(struct command *command)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	// A dead one's; whether another weir runs under this name was found out before.
	command_forget(command->daemon->conf);
	make_path(command->daemon->conf, command->path);
	int err = make_directory(command->path);
	if (err < 0)
		return err;
	strcpy(address.sun_path, command->path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	mode_t mask = umask(0177); // 0600 from the first moment on
	err = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(mask);
	if (err == 0) {
		command->listener = evconnlistener_new(command->daemon->events, on_accept, command,
			LEV_OPT_CLOSE_ON_FREE, BACKLOG, fd);
		if (command->listener != NULL)
			return 0;
		err = -errno;
	}
	close(fd);
	return err;
}

struct command *command_create(struct daemon *daemon, char *message)
{
	struct command *command = calloc(1, sizeof(*command));

	if (command == NULL)
		return NULL;
	command->daemon = daemon;
	LIST_INIT(&command->clients);
	int err = open_socket(command);
	if (err == 0)
		return command;
	snprintf(message, DEV_MESSAGE, "%s: %s", command->path, strerror(-err));
	free(command);
	errno = -err;
	return NULL;
}

void command_destroy(struct command *command)
{
	if (command == NULL)
		return;
	while (!LIST_EMPTY(&command->clients))
		// NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it leaves the list
		client_destroy(LIST_FIRST(&command->clients));
	evconnlistener_free(command->listener);
	remove_path(command->path);
	free(command);
}
