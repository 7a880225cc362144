/* SPDX-License-Identifier: BSD-3-Clause */
/* Which CPUs the control core and the workers get. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "dev.h"
#include "dev_cores.h"

/* CPUs by bits. */
static cpu_set_t cpus(unsigned long bits)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	for (unsigned cpu = 0; cpu < 64; cpu++) {
		if (bits >> cpu & 1)
			CPU_SET(cpu, &set);
	}
	return set;
}

/* Picks by default, but for the workers named in `conf`. */
static struct dev_cores pick(
	struct conf_cores conf, unsigned long allowed_bits, unsigned long near_bits)
{
	cpu_set_t allowed = cpus(allowed_bits), near = cpus(near_bits);
	struct dev_cores cores;
	char message[DEV_MESSAGE];
	assert_int_equal(
		dev_cores_pick(&cores, &conf, &allowed, near_bits ? &near : NULL, message), 0);
	return cores;
}

static const struct conf_cores none = {.control = -1};

static void defaults_are_the_first_allowed_and_another(void **state)
{
	struct dev_cores cores = pick(none, 0xf0, 0);
	assert_int_equal(cores.control, 4);
	assert_int_equal(cores.nb_workers, 1);
	assert_int_equal(cores.workers[0], 5);
}

static void default_worker_is_on_the_ports_node(void **state)
{
	assert_int_equal(pick(none, 0xff, 0xf0).workers[0], 4);
	// Control's own CPU on the node is taken for no worker while there is any other.
	assert_int_equal(pick(none, 0xf1, 0x01).workers[0], 4);
}

static void one_cpu_serves_both(void **state)
{
	struct dev_cores cores = pick(none, 0x4, 0);
	assert_int_equal(cores.control, 2);
	assert_int_equal(cores.workers[0], 2);
}

static void default_control_avoids_named_workers(void **state)
{
	struct conf_cores conf = {.control = -1, .workers = {0}, .nb_workers = 1};
	assert_int_equal(pick(conf, 0x3, 0).control, 1);
	assert_int_equal(pick(conf, 0x1, 0).control, 0);
}

static void named_cpus_may_repeat(void **state)
{
	struct conf_cores conf = {.control = 1, .workers = {1, 1, 0}, .nb_workers = 3};
	struct dev_cores cores = pick(conf, 0x3, 0);
	assert_int_equal(cores.control, 1);
	assert_int_equal(cores.nb_workers, 3);
	assert_int_equal(cores.workers[1], 1);
	assert_int_equal(cores.workers[2], 0);
}

/* Case D15. */
static void cpu_that_is_not_allowed_is_refused_with_those_that_are(void **state)
{
	cpu_set_t allowed = cpus(0x10b);
	struct dev_cores cores;
	char message[DEV_MESSAGE];
	struct conf_cores conf = {.control = -1, .workers = {1, 7}, .nb_workers = 2};
	assert_int_equal(dev_cores_pick(&cores, &conf, &allowed, NULL, message), -EINVAL);
	assert_string_equal(message,
		"cores.workers names CPU 7, but this process may run on CPU "
		"0-1,3,8 only");
	conf = (struct conf_cores){.control = 4000};
	assert_int_equal(dev_cores_pick(&cores, &conf, &allowed, NULL, message), -EINVAL);
	assert_non_null(strstr(message, "cores.control names CPU 4000"));
	conf = (struct conf_cores){.control = -1, .workers = {4000}, .nb_workers = 1};
	assert_int_equal(dev_cores_pick(&cores, &conf, &allowed, NULL, message), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_the_first_allowed_and_another),
		cmocka_unit_test(default_worker_is_on_the_ports_node),
		cmocka_unit_test(one_cpu_serves_both),
		cmocka_unit_test(default_control_avoids_named_workers),
		cmocka_unit_test(named_cpus_may_repeat),
		cmocka_unit_test(cpu_that_is_not_allowed_is_refused_with_those_that_are),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
