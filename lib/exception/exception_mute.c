/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The state before muting is written into the table's comment by the very transaction that mutes,
 * before anything else is changed; so a process may be killed at any point and the next one can
 * still undo it. With the interface's index beside it, since a new interface of an old name (a veth
 * made again) has settings of its own.
 */
#include "exception.h"

#include <ctype.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "addr.h"
#include "exception_sysctl.h"
#include "dev.h"
#include "log.h"
#include "netlink.h"
#include "netns.h"

#define CHAIN "ingress"
#define REQUEST_SIZE 64 // bytes: a dump request
#define COMMENT_FORMAT "made by Weir: ifindex %u disable_ipv6 %u"

/* The interface before it was muted. */
struct mute_state {
	unsigned index;
	unsigned disable_ipv6;
};

/* What stands in the way, as found by the netlink dumps. */
struct mute_check {
	int index;
	bool default_route;
	bool ipv6;           // among the addresses
	char addresses[256]; // as text, with a space before each
};

/* nft takes letters, digits and _ in a name; others become their code, so that names stay apart. */
static void table_name(const char *interface, char name[64])
{
	int length = snprintf(name, 64, "weir_");

	for (const char *c = interface; *c != '\0'; c++)
		length += snprintf(name + length, 64 - length,
			isalnum((unsigned char)*c) || *c == '_' ? "%c" : "_%02x",
			(unsigned char)*c);
}

static bool name_fits(const char *interface)
{
	// It stands in quotes in nft's language, where a * at the end means any.
	return interface[0] != '\0' && strlen(interface) < IFNAMSIZ &&
		strpbrk(interface, "\"\\*/") == NULL;
}

/* nft in the calling thread's namespace, with output and errors in memory; NULL and errno. */
static struct nft_ctx *open_nft(void)
{
	// libnftables ends the process when the kernel has no nf_tables; ask before it does.
	int fd = netns_socket(-1, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	close(fd);
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (nft == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	if (nft_ctx_buffer_output(nft) != 0 || nft_ctx_buffer_error(nft) != 0) {
		nft_ctx_free(nft);
		errno = ENOMEM;
		return NULL;
	}
	return nft;
}

/* What an earlier mute wrote down; false when there is no such table. */
static bool read_state(struct nft_ctx *nft, const char *table, struct mute_state *state)
{
	char command[128];

	snprintf(command, sizeof(command), "list table netdev %s", table);
	if (nft_run_cmd_from_buffer(nft, command) != 0) {
		nft_ctx_get_error_buffer(nft); // empties it
		return false;
	}
	const char *comment = strstr(nft_ctx_get_output_buffer(nft), "made by Weir:");
	*state = (struct mute_state){0};
	if (comment == NULL ||
		sscanf(comment, COMMENT_FORMAT, &state->index, &state->disable_ipv6) != 2)
		*state = (struct mute_state){0};
	return true;
}

static unsigned get_disable_ipv6(const char *interface)
{
	char value[EXCEPTION_SYSCTL_TEXT];

	return exception_sysctl_get("ipv6", interface, "disable_ipv6", value) < 0 ? 0 : atoi(value);
}

static int set_disable_ipv6(const char *interface, unsigned value)
{
	int err = exception_sysctl_set("ipv6", interface, "disable_ipv6", value != 0 ? "1" : "0");

	return err == -ENOENT ? 0 : err; // no IPv6 on it
}

static int check_address(const struct nlmsghdr *header, void *context)
{
	struct mute_check *check = context;
	const struct ifaddrmsg *message = mnl_nlmsg_get_payload(header);
	struct net_prefix prefix;
	char text[NET_ADDR_TEXT];

	if ((int)message->ifa_index != check->index || message->ifa_scope != RT_SCOPE_UNIVERSE)
		return MNL_CB_OK;
	netlink_address(header, &prefix);
	check->ipv6 |= message->ifa_family == AF_INET6;
	size_t length = strlen(check->addresses);
	snprintf(check->addresses + length, sizeof(check->addresses) - length, " %s",
		net_prefix_format(&prefix, text));
	return MNL_CB_OK;
}

static bool leads_out(const struct nlattr *multipath, int index)
{
	const struct rtnexthop *hop = mnl_attr_get_payload(multipath);
	int left = mnl_attr_get_payload_len(multipath);

	for (; RTNH_OK(hop, left); left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop))
		if (hop->rtnh_ifindex == index)
			return true;
	return false;
}

static int check_route(const struct nlmsghdr *header, void *context)
{
	struct mute_check *check = context;
	const struct rtmsg *message = mnl_nlmsg_get_payload(header);
	const struct nlattr *attr;

	if (message->rtm_dst_len != 0 || message->rtm_table != RT_TABLE_MAIN ||
		message->rtm_type != RTN_UNICAST)
		return MNL_CB_OK;
	mnl_attr_for_each(attr, header, sizeof(*message))
	{
		uint16_t type = mnl_attr_get_type(attr);
		if (type == RTA_OIF && (int)mnl_attr_get_u32(attr) == check->index)
			check->default_route = true;
		if (type == RTA_MULTIPATH && leads_out(attr, check->index))
			check->default_route = true;
	}
	return MNL_CB_OK;
}

static int dump(
	struct mnl_socket *socket, uint16_t type, mnl_cb_t received, struct mute_check *check)
{
	_Alignas(struct nlmsghdr) char buffer[REQUEST_SIZE];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	// All families: both headers begin with the family, and are 12 and 8 bytes.
	mnl_nlmsg_put_extra_header(request, sizeof(struct rtmsg));
	return netlink_talk(socket, request, received, check);
}

/* -EBUSY when muting cuts the machine off; a warning when it makes addresses deaf. */
static int check_interface(const char *interface, int index, char *message)
{
	struct mute_check check = {.index = index};
	struct mnl_socket *socket = netlink_open(-1, 0);

	if (socket == NULL) {
		int err = -errno;
		snprintf(message, DEV_MESSAGE, "netlink: %s", strerror(-err));
		return err;
	}
	int err = dump(socket, RTM_GETROUTE, check_route, &check);
	if (err == 0)
		err = dump(socket, RTM_GETADDR, check_address, &check);
	mnl_socket_close(socket);
	if (err < 0) {
		snprintf(message, DEV_MESSAGE, "routes and addresses of %s can't be read: %s",
			interface, strerror(-err));
		return err;
	}
	if (check.default_route) {
		snprintf(message, DEV_MESSAGE,
			"%s carries this machine's default route: Weir takes the whole port over "
			"and would cut the machine off; use a dedicated port",
			interface);
		return -EBUSY;
	}
	if (check.addresses[0] != '\0')
		log_warning("%s has%s: the kernel doesn't hear on that any more while Weir has the "
			    "port%s; move what is in use to port.address",
			interface, check.addresses,
			check.ipv6 ? ", and forgets the IPv6 addresses" : "");
	return 0;
}

/* The drop, `state` as its comment. One transaction: an older drop is replaced without a gap. */
static int set_drop(struct nft_ctx *nft, const char *table, const char *interface,
	const struct mute_state *state, char *message)
{
	char comment[128], command[512];

	snprintf(comment, sizeof(comment), COMMENT_FORMAT, state->index, state->disable_ipv6);
	snprintf(command, sizeof(command),
		"add table netdev %s\n"
		"delete table netdev %s\n"
		"table netdev %s {\n"
		"	comment \"%s\"\n"
		"	chain " CHAIN " {\n"
		"		type filter hook ingress device \"%s\" priority -500;\n"
		"		policy drop;\n"
		"	}\n"
		"}\n",
		table, table, table, comment, interface);
	if (nft_run_cmd_from_buffer(nft, command) == 0)
		return 0;
	const char *error = nft_ctx_get_error_buffer(nft);
	snprintf(message, DEV_MESSAGE,
		"%s can't be made mute by nftables: %.*s (needs CAP_NET_ADMIN and a kernel with "
		"nf_tables netdev ingress)",
		interface, (int)strcspn(error, "\n"), error);
	return -EIO;
}

int exception_mute(const char *interface, char *message)
{
	struct mute_state state;
	char table[64];
	int err;

	if (!name_fits(interface)) {
		snprintf(message, DEV_MESSAGE, "\"%s\" is no name of an interface", interface);
		return -EINVAL;
	}
	unsigned index = if_nametoindex(interface);
	if (index == 0) {
		snprintf(message, DEV_MESSAGE, "no kernel interface %s (ip link shows them)",
			interface);
		return -ENODEV;
	}
	err = check_interface(interface, index, message);
	if (err < 0)
		return err;
	struct nft_ctx *nft = open_nft();
	if (nft == NULL) {
		err = -errno;
		snprintf(message, DEV_MESSAGE, "nftables: %s; the kernel needs nf_tables",
			strerror(-err));
		return err;
	}
	table_name(interface, table);
	if (!read_state(nft, table, &state) || state.index != index)
		state = (struct mute_state){
			.index = index,
			.disable_ipv6 = get_disable_ipv6(interface),
		};
	err = set_drop(nft, table, interface, &state, message);
	nft_ctx_free(nft);
	if (err < 0)
		return err;

	err = set_disable_ipv6(interface, 1);
	if (err < 0) {
		snprintf(message, DEV_MESSAGE, "IPv6 of %s can't be turned off: %s", interface,
			strerror(-err));
		exception_unmute(interface);
	}
	return err;
}

/* Ask the kernel for the chain: 0, or -ENOENT. */
static int find_chain(struct mnl_socket *socket, const char *table)
{
	_Alignas(struct nlmsghdr) char buffer[256];
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
	request->nlmsg_flags = NLM_F_REQUEST;
	struct nfgenmsg *message = mnl_nlmsg_put_extra_header(request, sizeof(*message));
	message->nfgen_family = NFPROTO_NETDEV;
	message->version = NFNETLINK_V0;
	mnl_attr_put_strz(request, NFTA_CHAIN_TABLE, table);
	mnl_attr_put_strz(request, NFTA_CHAIN_NAME, CHAIN);
	return netlink_talk(socket, request, NULL, NULL);
}

bool exception_is_mute(const char *interface)
{
	char table[64], value[EXCEPTION_SYSCTL_TEXT];
	struct mnl_socket *socket =
		name_fits(interface) ? netlink_open_protocol(-1, NETLINK_NETFILTER) : NULL;

	if (socket == NULL)
		return true; // not known
	table_name(interface, table);
	int err = find_chain(socket, table);
	mnl_socket_close(socket);
	return err != -ENOENT &&
		(exception_sysctl_get("ipv6", interface, "disable_ipv6", value) < 0 ||
			atoi(value) != 0);
}

void exception_unmute(const char *interface)
{
	struct mute_state state;
	char table[64], command[128];

	if (!name_fits(interface))
		return;
	struct nft_ctx *nft = open_nft();
	if (nft == NULL) {
		log_warning("%s stays mute: nftables: %s", interface, strerror(errno));
		return;
	}
	table_name(interface, table);
	if (read_state(nft, table, &state)) {
		// The drop goes last: it holds the old state, which a kill must not lose.
		if (state.index != 0 && state.index == if_nametoindex(interface)) {
			int err = set_disable_ipv6(interface, state.disable_ipv6);
			if (err < 0)
				log_warning("IPv6 of %s can't be turned on again: %s", interface,
					strerror(-err));
		}
		snprintf(command, sizeof(command), "delete table netdev %s", table);
		if (nft_run_cmd_from_buffer(nft, command) != 0)
			log_warning("%s stays mute: %s; to undo: nft %s", interface,
				nft_ctx_get_error_buffer(nft), command);
	}
	nft_ctx_free(nft);
}
