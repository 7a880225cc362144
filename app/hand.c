/* SPDX-License-Identifier: BSD-3-Clause */
#include "hand.h"

#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* As the kernel remembers it of each process, for audits. */
static uint32_t login_of(uint32_t pid)
{
	char path[40];
	uint32_t login = HAND_NO_LOGIN;

	snprintf(path, sizeof(path), "/proc/%u/loginuid", pid);
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return HAND_NO_LOGIN;
	if (fscanf(file, "%u", &login) != 1)
		login = HAND_NO_LOGIN;
	fclose(file);
	return login;
}

void hand_of_peer(int fd, struct hand *hand)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	memset(hand, 0, sizeof(*hand));
	hand->login = HAND_NO_LOGIN;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
		return;
	hand->pid = peer.pid;
	hand->uid = peer.uid;
	hand->login = login_of(peer.pid);
}

/* Not by getpwuid(), which may ask a server and wait for it. */
static const char *user_text(uint32_t uid, char text[36])
{
	FILE *file = fopen("/etc/passwd", "re");
	const struct passwd *user = NULL;

	while (file != NULL && (user = fgetpwent(file)) != NULL && user->pw_uid != uid)
		;
	if (user != NULL)
		snprintf(text, 36, "%.32s", user->pw_name);
	else
		snprintf(text, 36, "uid %u", uid);
	if (file != NULL)
		fclose(file);
	return text;
}

const char *hand_text(const struct hand *hand, char text[HAND_TEXT])
{
	char user[36], login[36] = "";

	if (hand->pid == 0)
		return strcpy(text, "somebody");
	if (hand->login != HAND_NO_LOGIN && hand->login != hand->uid)
		user_text(hand->login, login);
	snprintf(text, HAND_TEXT, "%s%s%s, pid %u", login, login[0] != '\0' ? " as " : "",
		user_text(hand->uid, user), hand->pid);
	return text;
}
