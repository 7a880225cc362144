/* SPDX-License-Identifier: BSD-3-Clause */
/* Whose hand sets something: the process at the other end of the control socket.
 *
 * Any thread. */
#ifndef WEIR_HAND_H
#define WEIR_HAND_H

#include <stdint.h>

#define HAND_NO_LOGIN UINT32_MAX
#define HAND_TEXT 96

struct hand {
	uint64_t set_ms; // clock_ms() of what it did; 0 = nobody did anything
	uint32_t pid;
	uint32_t uid;
	uint32_t login; // uid that logged in, whoever it is since (sudo); HAND_NO_LOGIN
};

/* Find out whose the other end of a Unix socket is. */
void hand_of_peer(int fd, struct hand *hand);

/* Write "root, pid 4711", or "alice as root, pid 4711"; a user who isn't in /etc/passwd is "uid
 * 1000". "somebody" when it isn't known. Returns `text`. */
const char *hand_text(const struct hand *hand, char text[HAND_TEXT]);

#endif
