/* SPDX-License-Identifier: BSD-3-Clause */
/* How many locks the lending of a SNAT port takes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "flow_lock.h"

static unsigned nb_locks;

static void counted_take(uint32_t *lock)
{
	nb_locks++;
	flow_lock_take(lock);
}

#define flow_lock_take counted_take
// NOLINTNEXTLINE(bugprone-suspicious-include): compiled anew, with its locks counted
#include "../../../lib/flow/snat.c"

enum { CLASSES = 8, PORTS = 256 };

static const uint64_t key[2] = {0x243f6a8885a308d3, 0x13198a2e03707344};

// A port's class is its number modulo eight.
static uint16_t port_share[UINT16_MAX + 1];
static const uint8_t queue[CLASSES] = {0, 1, 2, 3, 4, 5, 6, 7};
static const struct snat_rss rss = {port_share, queue, CLASSES - 1, CLASSES};

static unsigned locks_of_a_get(struct snat_pool *pool, bool is_lent)
{
	nb_locks = 0;
	assert_int_equal(snat_pool_get(pool, 3) != SNAT_NO_PORT, is_lent);
	return nb_locks;
}

static void an_empty_pool_is_refused_without_a_lock(void **state) // S6
{
	static const struct snat_range range = {30000, 30000 + PORTS - 1};

	for (unsigned port = 0; port <= UINT16_MAX; port++)
		port_share[port] = port;
	struct snat *snat = snat_create(&range, 1, key, &rss);
	struct snat_pool *pool = snat_pool_create(snat, 0);
	assert_int_equal(snat_classes(snat), CLASSES);

	for (unsigned i = 0; i < PORTS / CLASSES; i++)
		assert_int_equal(locks_of_a_get(pool, true), 1); // its own class
	while (snat_pool_get(pool, 3) != SNAT_NO_PORT)
		;
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(locks_of_a_get(pool, false), 0);

	snat_pool_put(pool, 30005);
	assert_int_equal(locks_of_a_get(pool, true), 1); // no other class's
	assert_int_equal(locks_of_a_get(pool, false), 0);
	snat_pool_destroy(pool);
	snat_destroy(snat);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_pool_is_refused_without_a_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
