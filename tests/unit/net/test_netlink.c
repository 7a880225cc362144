/* SPDX-License-Identifier: BSD-3-Clause */
/* netlink_talk() and the namespace helpers against the real kernel, in namespaces of its own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "netlink.h"
#include "netns.h"

#define REQUEST_SIZE 256
#define ADDRESSES 3000 // so many that a dump takes several messages

static int other_ns = -1; // a second namespace; the process itself runs in a first

static struct nlmsghdr *request_put(
	char *buffer, uint16_t type, uint16_t flags, void **header, size_t size)
{
	struct nlmsghdr *request = mnl_nlmsg_put_header(buffer);

	request->nlmsg_type = type;
	request->nlmsg_flags = NLM_F_REQUEST | flags;
	*header = mnl_nlmsg_put_extra_header(request, size);
	return request;
}

/* Add or delete an address of loopback. */
static int change_address(struct mnl_socket *socket, uint16_t type, unsigned number)
{
	char buffer[REQUEST_SIZE];
	struct ifaddrmsg *address;
	struct nlmsghdr *request =
		request_put(buffer, type, type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_EXCL : 0,
			(void **)&address, sizeof(*address));

	address->ifa_family = AF_INET;
	address->ifa_prefixlen = 32;
	address->ifa_index = 1;
	mnl_attr_put_u32(request, IFA_LOCAL, htonl(0x0a000000 + number));
	return netlink_talk(socket, request, NULL, NULL);
}

static int dump_addresses(struct mnl_socket *socket, mnl_cb_t received, void *context)
{
	char buffer[REQUEST_SIZE];
	struct ifaddrmsg *address;
	struct nlmsghdr *request =
		request_put(buffer, RTM_GETADDR, NLM_F_DUMP, (void **)&address, sizeof(*address));

	address->ifa_family = AF_INET;
	return netlink_talk(socket, request, received, context);
}

static int count_one(const struct nlmsghdr *message, void *context)
{
	++*(unsigned *)context;
	return MNL_CB_OK;
}

static int stop_at_once(const struct nlmsghdr *message, void *context)
{
	++*(unsigned *)context;
	return MNL_CB_STOP;
}

static int fail_at_once(const struct nlmsghdr *message, void *context)
{
	errno = EDOM;
	return MNL_CB_ERROR;
}

static void kernel_errors_are_returned(void **state)
{
	struct mnl_socket *socket = netlink_open(-1, 0);

	assert_non_null(socket);
	assert_int_equal(change_address(socket, RTM_NEWADDR, 1), -EEXIST);
	assert_int_equal(change_address(socket, RTM_DELADDR, 0xffff), -EADDRNOTAVAIL);
	mnl_socket_close(socket);
}

static void a_dump_is_whole(void **state)
{
	struct mnl_socket *socket = netlink_open(-1, 0);
	unsigned count = 0;

	assert_int_equal(dump_addresses(socket, count_one, &count), 0);
	assert_in_range(count, ADDRESSES, ADDRESSES + 1);
	mnl_socket_close(socket);
}

/* A dump that its reader leaves must not make the kernel refuse the next one with EBUSY. */
static void the_socket_serves_on_after_a_reader_left(void **state)
{
	struct mnl_socket *socket = netlink_open(-1, 0);
	unsigned count = 0;

	assert_int_equal(dump_addresses(socket, stop_at_once, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(dump_addresses(socket, fail_at_once, NULL), -EDOM);
	count = 0;
	assert_int_equal(dump_addresses(socket, count_one, &count), 0);
	assert_in_range(count, ADDRESSES, ADDRESSES + 1);
	mnl_socket_close(socket);
}

/* An answer that nobody waited for comes before the next request's own. */
static void an_answer_left_behind_is_skipped(void **state)
{
	struct mnl_socket *socket = netlink_open(-1, 0);
	char buffer[REQUEST_SIZE];
	struct ifaddrmsg *address;
	struct nlmsghdr *request =
		request_put(buffer, RTM_NEWADDR, NLM_F_ACK, (void **)&address, sizeof(*address));
	unsigned count = 0;

	request->nlmsg_seq = 0x7fffffff;
	assert_true(mnl_socket_sendto(socket, request, request->nlmsg_len) > 0);
	assert_int_equal(dump_addresses(socket, count_one, &count), 0);
	assert_in_range(count, ADDRESSES, ADDRESSES + 1);
	mnl_socket_close(socket);
}

/* In the midst of the dump another socket changes the table. */
static int change_while_dumped(const struct nlmsghdr *message, void *context)
{
	struct mnl_socket *other = *(struct mnl_socket **)context;

	if (other != NULL) {
		*(struct mnl_socket **)context = NULL;
		assert_int_equal(change_address(other, RTM_DELADDR, 1), 0);
		assert_int_equal(change_address(other, RTM_NEWADDR, 1), 0);
	}
	return MNL_CB_OK;
}

static void an_interrupted_dump_is_told(void **state)
{
	struct mnl_socket *socket = netlink_open(-1, 0), *other = netlink_open(-1, 0);
	struct mnl_socket *context = other;
	unsigned count = 0;

	assert_int_equal(dump_addresses(socket, change_while_dumped, &context), -EINTR);
	assert_int_equal(dump_addresses(socket, count_one, &count), 0);
	assert_in_range(count, ADDRESSES, ADDRESSES + 1);
	mnl_socket_close(other);
	mnl_socket_close(socket);
}

/* REPLACE and EXCL together have the bits of a dump; the answer to a
 * change is an acknowledgement. */
static void a_change_is_never_taken_for_a_dump(void **state)
{
	struct mnl_socket *socket = netlink_open(-1, 0);
	char buffer[REQUEST_SIZE];
	struct ifaddrmsg *address;
	struct nlmsghdr *request = request_put(buffer, RTM_NEWADDR,
		NLM_F_CREATE | NLM_F_REPLACE | NLM_F_EXCL, (void **)&address, sizeof(*address));

	address->ifa_family = AF_INET;
	address->ifa_prefixlen = 32;
	address->ifa_index = 1;
	mnl_attr_put_u32(request, IFA_LOCAL, htonl(0x0affffff));
	assert_int_equal(netlink_talk(socket, request, NULL, NULL), 0);
	assert_int_equal(change_address(socket, RTM_DELADDR, 0xffffff), 0);
	mnl_socket_close(socket);
}

static void ignore(int signal)
{
}

static _Atomic bool storm_ended;

/* Signals by the thousand to the thread that talks; a SIGALRM timer is too slow to hit it. */
static void *signal_storm(void *thread)
{
	while (!storm_ended) {
		pthread_kill(*(pthread_t *)thread, SIGUSR1);
		usleep(20);
	}
	return NULL;
}

static void signals_interrupt_no_request(void **state)
{
	struct mnl_socket *socket = netlink_open(-1, 0);
	struct sigaction action = {.sa_handler = ignore}; // no SA_RESTART
	pthread_t self = pthread_self(), thread;

	sigaction(SIGUSR1, &action, NULL);
	storm_ended = false;
	assert_int_equal(pthread_create(&thread, NULL, signal_storm, &self), 0);
	for (unsigned i = 0; i < 200; i++) {
		unsigned count = 0;
		assert_int_equal(dump_addresses(socket, count_one, &count), 0);
		assert_in_range(count, ADDRESSES, ADDRESSES + 1);
	}
	storm_ended = true;
	pthread_join(thread, NULL);
	mnl_socket_close(socket);
}

/* A dump without NLM_F_REQUEST is passed over without a word: it stands for a kernel that hangs. */
static void silence_ends_in_a_timeout(void **state)
{
	struct mnl_socket *socket = netlink_open(-1, 0);
	int fd = mnl_socket_get_fd(socket);
	char buffer[REQUEST_SIZE];
	struct timeval timeout;
	socklen_t size = sizeof(timeout);
	struct ifaddrmsg *address;
	struct nlmsghdr *request =
		request_put(buffer, RTM_GETADDR, NLM_F_DUMP, (void **)&address, sizeof(*address));
	unsigned count = 0;

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &size), 0);
	assert_int_equal(timeout.tv_sec, NETLINK_TIMEOUT_S);
	timeout = (struct timeval){.tv_usec = 100000};
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), 0);
	request->nlmsg_flags &= ~NLM_F_REQUEST;
	assert_int_equal(netlink_talk(socket, request, NULL, NULL), -ETIMEDOUT);
	assert_int_equal(dump_addresses(socket, count_one, &count), 0);
	assert_in_range(count, ADDRESSES, ADDRESSES + 1);
	mnl_socket_close(socket);
}

static ino_t own_namespace(void)
{
	struct stat status;

	assert_int_equal(stat("/proc/thread-self/ns/net", &status), 0);
	return status.st_ino;
}

static void a_socket_belongs_to_the_namespace_named(void **state)
{
	struct ifreq request = {0};
	ino_t before = own_namespace();
	int here = netns_socket(-1, AF_INET, SOCK_DGRAM, 0);
	int there = netns_socket(other_ns, AF_INET, SOCK_DGRAM, 0);

	assert_true(here >= 0 && there >= 0);
	assert_int_equal(own_namespace(), before);
	assert_true(fcntl(there, F_GETFD) & FD_CLOEXEC);
	strcpy(request.ifr_name, "lo"); // up in the process's own, down in the other
	assert_int_equal(ioctl(here, SIOCGIFFLAGS, &request), 0);
	assert_true(request.ifr_flags & IFF_UP);
	assert_int_equal(ioctl(there, SIOCGIFFLAGS, &request), 0);
	assert_false(request.ifr_flags & IFF_UP);
	close(here);
	close(there);
}

static void failures_leave_the_thread_where_it_was(void **state)
{
	ino_t before = own_namespace();
	int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);

	assert_int_equal(netns_socket(file, AF_INET, SOCK_DGRAM, 0), -EINVAL);
	assert_int_equal(netns_socket(99999, AF_INET, SOCK_DGRAM, 0), -EBADF);
	assert_int_equal(netns_socket(other_ns, AF_INET, SOCK_DGRAM, 255), -EPROTONOSUPPORT);
	assert_null(netlink_open(file, 0));
	assert_int_equal(errno, EINVAL);
	assert_int_equal(own_namespace(), before);
	close(file);
}

static int make_namespaces(void **state)
{
	struct mnl_socket *socket;
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	other_ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (unshare(CLONE_NEWNET) < 0)
		return -1;
	fd = netns_socket(-1, AF_INET, SOCK_DGRAM, 0);
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		return -1;
	close(fd);
	socket = netlink_open(-1, 0);
	for (unsigned i = 1; i <= ADDRESSES; i++)
		if (socket == NULL || change_address(socket, RTM_NEWADDR, i) < 0)
			return -1;
	mnl_socket_close(socket);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_errors_are_returned),
		cmocka_unit_test(a_dump_is_whole),
		cmocka_unit_test(the_socket_serves_on_after_a_reader_left),
		cmocka_unit_test(an_answer_left_behind_is_skipped),
		cmocka_unit_test(an_interrupted_dump_is_told),
		cmocka_unit_test(a_change_is_never_taken_for_a_dump),
		cmocka_unit_test(signals_interrupt_no_request),
		cmocka_unit_test(silence_ends_in_a_timeout),
		cmocka_unit_test(a_socket_belongs_to_the_namespace_named),
		cmocka_unit_test(failures_leave_the_thread_where_it_was),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "skipped: namespaces need root\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, make_namespaces, NULL);
}
