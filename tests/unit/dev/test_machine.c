/* SPDX-License-Identifier: BSD-3-Clause */
/* What the machine lacks is said in words that tell what to do. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "dev.h"
#include "dev_lock.h"
#include "dev_machine.h"
#include "dev_pool.h"
#include "dpdk_compat.h"

/* Cases D15 and E26: bits 12, 13, 14 and 21; and 1 of who isn't root. */
static void missing_capabilities_are_named(void **state)
{
	char message[DEV_MESSAGE];
	const uint64_t four = 1 << 12 | 1 << 13 | 1 << 14 | 1 << 21;

	assert_int_equal(dev_machine_judge_capabilities(four, true, message), 0);
	assert_int_equal(dev_machine_judge_capabilities(four | 1 << 1, false, message), 0);
	assert_int_equal(dev_machine_judge_capabilities(0, false, message), -EPERM);
	assert_string_equal(message,
		"no permission: run as root, or grant CAP_NET_ADMIN "
		"CAP_NET_RAW CAP_IPC_LOCK CAP_SYS_ADMIN CAP_DAC_OVERRIDE");
	assert_int_equal(dev_machine_judge_capabilities(0, true, message), -EPERM);
	assert_string_equal(message,
		"no permission: run as root, or grant CAP_NET_ADMIN "
		"CAP_NET_RAW CAP_IPC_LOCK CAP_SYS_ADMIN");
	assert_int_equal(
		dev_machine_judge_capabilities(1 << 12 | 1 << 13 | 1 << 14, true, message), -EPERM);
	assert_string_equal(message, "no permission: run as root, or grant CAP_SYS_ADMIN");
}

/* Case D15. */
static void too_few_hugepages_are_refused_with_what_to_do(void **state)
{
	char message[DEV_MESSAGE];
	assert_int_equal(dev_machine_check_hugepages((size_t)1 << 50, message), -ENOMEM);
	assert_non_null(strstr(message, "echo 536870913 > /proc/sys/vm/nr_hugepages"));
	assert_non_null(strstr(message, "or port.hugepages = false"));
}

static void pool_has_room_for_all_that_hold_buffers(void **state)
{
	struct dev_device pci = {.kind = DEV_KIND_PCI};
	struct dev_device xdp = {.kind = DEV_KIND_INTERFACE, .af_xdp = true};
	struct dev_pool_plan plan;
	dev_pool_plan(&plan, &pci, 1, 1024, 1024, 1500);
	assert_int_equal(plan.count, 8191);
	assert_int_equal(plan.data_room, 2048 + 128);
	dev_pool_plan(&plan, &pci, 8, 1024, 1024, 9000);
	assert_in_range(plan.count, 8 * (1024 + 1024 + 384 + 1024) + 4096, 65535);
	assert_in_range(plan.data_room, 9000 + 26 + 128, 9000 + 26 + 128 + 63);
	// AF_XDP's buffers must stay within a page together with what precedes the data.
	dev_pool_plan(&plan, &xdp, 1, 1024, 1024, 1500);
	assert_int_equal(plan.data_room, 2048 + 128);
	assert_in_range(plan.count, 1024 + 4096 + 1024 + 2048 + 384 + 1024 + 4096, 16383);
}

static void unknown_prefix_has_no_owner(void **state)
{
	assert_int_equal(dev_lock_prefix_owner("weir-test-of-nobody"), 0);
}

static void telemetry_takes_numbers_and_texts(void **state)
{
	struct rte_tel_data *data = rte_tel_data_alloc();
	assert_int_equal(rte_tel_data_start_dict(data), 0);
	assert_int_equal(tel_dict_uint(data, "packets", UINT64_MAX), 0);
	assert_int_equal(tel_dict_int(data, "worker", -1), 0);
	assert_int_equal(tel_dict_string(data, "name", "con1"), 0);
	rte_tel_data_free(data);
	data = rte_tel_data_alloc();
	assert_int_equal(rte_tel_data_start_array(data, TEL_UINT_VAL), 0);
	assert_int_equal(tel_array_uint(data, UINT64_MAX), 0);
	rte_tel_data_free(data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(missing_capabilities_are_named),
		cmocka_unit_test(too_few_hugepages_are_refused_with_what_to_do),
		cmocka_unit_test(pool_has_room_for_all_that_hold_buffers),
		cmocka_unit_test(unknown_prefix_has_no_owner),
		cmocka_unit_test(telemetry_takes_numbers_and_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
