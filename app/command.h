/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket, for incident hands: /run/weir/control.sock, or
 * /run/weir/INSTANCE/control.sock; mode 0600. One JSON object a line, one answer a line:
 *
 *     {"version": 1, "command": "reload"}
 *     {"version": 1, "command": "drain", "service": "web", "backend": "con2"}
 *     {"version": 1, "command": "activate", "service": "web", "backend": "con2"}
 *     {"version": 1, "command": "weight", "service": "web", "backend": "con2", "weight": 5}
 *
 *     {"version": 1, "ok": true, "changes": ["service web: con2: active -> drain (until ...)"]}
 *     {"version": 1, "ok": false, "error": "..."}
 *
 * The answer comes when the workers have it. A client takes it before it is heard again, and may
 * have closed its own side before; lines, clients and their time are bounded.
 *
 * Thread rule: on the control core's event loop.
 */
#ifndef WEIR_COMMAND_H
#define WEIR_COMMAND_H

struct command;
struct conf;
struct daemon;

/* Open the socket. NULL with `message` (DEV_MESSAGE bytes) and errno on failure. */
struct command *command_create(struct daemon *daemon, char *message);
/* Close the socket and remove it. command_destroy(NULL) is fine. */
void command_destroy(struct command *command);
/* Remove the socket of an instance that doesn't run, and its directory. */
void command_forget(const struct conf *conf);

#endif
