/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "packets.h"
#include "snat.h"

static const uint64_t key[2] = {0x243f6a8885a308d3, 0x13198a2e03707344};
static const struct snat_range usual[] = {{1024, 32767}, {61000, 65535}};

static void every_port_once_for_odd_sizes_and_several_ranges(void **state)
{
	static const struct {
		unsigned nb_ranges;
		struct snat_range ranges[SNAT_RANGES_MAX];
	} cases[] = {
		{1, {{1, 1}}},
		{1, {{65535, 65535}}},
		{1, {{1, 65535}}},
		{1, {{1000, 1001}}},
		{1, {{2000, 2002}}},
		{1, {{1024, 1024 + 16}}},
		{1, {{1024, 1024 + 62}}},
		{2, {{1024, 32767}, {61000, 65535}}},
		{2, {{5, 5}, {7, 7}}},
		{4, {{10, 19}, {1, 3}, {60000, 60999}, {100, 100}}},
	};

	for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct snat *snat = snat_create(cases[c].ranges, cases[c].nb_ranges, key, NULL);
		struct snat_pool *pool = snat_pool_create(snat, 0);
		bool seen[65536] = {false};
		uint32_t size = 0;
		for (unsigned i = 0; i < cases[c].nb_ranges; i++)
			size += cases[c].ranges[i].last - cases[c].ranges[i].first + 1;
		assert_int_equal(snat_size(snat), size);
		assert_int_equal(snat_classes(snat), 1);
		for (uint32_t i = 0; i < size; i++) {
			uint16_t port = snat_pool_get(pool, 0);
			bool inside = false;
			for (unsigned r = 0; r < cases[c].nb_ranges; r++)
				inside |= port >= cases[c].ranges[r].first &&
					port <= cases[c].ranges[r].last;
			assert_true(inside && !seen[port] && snat_contains(snat, port));
			seen[port] = true;
			assert_int_equal(snat_pool_used(pool), i + 1);
		}
		assert_int_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
		for (unsigned port = 0; port < 65536; port++)
			assert_int_equal(snat_contains(snat, port), seen[port]);
		snat_pool_destroy(pool);
		snat_destroy(snat);
	}
}

static void ports_taken_at_first_are_lent_to_nobody_else(void **state)
{
	static const struct snat_range range = {30000, 30063};
	struct snat *snat = snat_create(&range, 1, key, NULL);
	struct snat_pool *pool = snat_pool_create(snat, 0);
	bool seen[64] = {false};

	for (unsigned i = 0; i < 64; i += 3) {
		assert_true(snat_pool_take(pool, 30000 + i));
		assert_false(snat_pool_take(pool, 30000 + i));
		seen[i] = true;
	}
	assert_false(snat_pool_take(pool, 29999));
	assert_int_equal(snat_pool_used(pool), 22);
	for (uint16_t port; (port = snat_pool_get(pool, 0)) != SNAT_NO_PORT;
		seen[port - 30000] = true)
		assert_false(seen[port - 30000]);
	assert_int_equal(snat_pool_used(pool), 64);
	snat_pool_put(pool, 30003);
	assert_int_equal(snat_pool_get(pool, 0), 30003);
	assert_int_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
	snat_pool_destroy(pool);
	snat_destroy(snat);
}

static void a_port_outside_the_ranges_is_not_lent_when_it_is_put(void **state)
{
	static const struct snat_range range = {30000, 30003};
	struct snat *snat = snat_create(&range, 1, key, NULL);
	struct snat_pool *pool = snat_pool_create(snat, 0);

	snat_pool_put(pool, 999);
	assert_int_equal(snat_pool_used(pool), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_not_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
	assert_int_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
	snat_pool_destroy(pool);
	snat_destroy(snat);
}

static void exhaustion_is_exact(void **state) // C4
{
	static const struct snat_range range = {30000, 30063};
	struct snat *snat = snat_create(&range, 1, key, NULL);
	struct snat_pool *pool = snat_pool_create(snat, 0);
	uint16_t ports[64];

	for (unsigned i = 0; i < 64; i++)
		assert_int_not_equal(ports[i] = snat_pool_get(pool, 0), SNAT_NO_PORT);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
	assert_int_equal(snat_pool_size(pool), 64);
	snat_pool_put(pool, ports[17]);
	assert_int_equal(snat_pool_get(pool, 0), ports[17]);
	assert_int_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
	assert_int_equal(snat_pool_used(pool), 64);
	for (unsigned i = 0; i < 64; i++)
		snat_pool_put(pool, ports[i]);
	assert_int_equal(snat_pool_used(pool), 0);
	// Opened and closed a million times, 1 to 64 at once.
	uint64_t seed = 4;
	for (unsigned cycles = 0; cycles < 1000000;) {
		unsigned n = 1 + packets_random(&seed) % 64;
		for (unsigned i = 0; i < n; i++, cycles++)
			assert_int_not_equal(ports[i] = snat_pool_get(pool, 0), SNAT_NO_PORT);
		for (unsigned i = 0; i < n; i++)
			snat_pool_put(pool, ports[i]);
	}
	assert_int_equal(snat_pool_used(pool), 0);
	for (unsigned i = 0; i < 64; i++)
		assert_int_not_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
	assert_int_equal(snat_pool_get(pool, 0), SNAT_NO_PORT);
	snat_pool_destroy(pool);
	snat_destroy(snat);
}

static void the_one_free_longest_comes_first(void **state)
{
	struct snat *snat = snat_create(usual, 2, key, NULL);
	struct snat_pool *pool = snat_pool_create(snat, 0);
	uint32_t size = snat_size(snat);
	uint16_t *order = calloc(size, sizeof(*order));
	uint64_t seed = 6;

	for (uint32_t i = 0; i < size; i++)
		order[i] = snat_pool_get(pool, 0);
	for (uint32_t i = size - 1; i > 0; i--) {
		uint32_t k = packets_random(&seed) % (i + 1);
		uint16_t port = order[i];
		order[i] = order[k];
		order[k] = port;
	}
	for (unsigned round = 0; round < 3; round++) {
		for (uint32_t i = 0; i < size; i++)
			snat_pool_put(pool, order[i]);
		for (uint32_t i = 0; i < size; i++)
			assert_int_equal(snat_pool_get(pool, 0), order[i]);
	}
	// A port given back comes after all that were never used.
	snat_pool_destroy(pool);
	pool = snat_pool_create(snat, 0);
	uint16_t first = snat_pool_get(pool, 0);
	snat_pool_put(pool, first);
	for (uint32_t i = 1; i < size; i++)
		assert_int_not_equal(snat_pool_get(pool, 0), first);
	assert_int_equal(snat_pool_get(pool, 0), first);
	free(order);
	snat_pool_destroy(pool);
	snat_destroy(snat);
}

static void no_port_twice_in_a_million(void **state) // RFC 5382 REQ-7
{
	struct snat *snat = snat_create(usual, 2, key, NULL);
	struct snat_pool *pool = snat_pool_create(snat, 0);
	bool lent[65536] = {false};
	uint16_t *held = calloc(65536, sizeof(*held));
	uint32_t nb_held = 0;
	uint64_t seed = 2;

	for (unsigned i = 0; i < 1000000; i++) {
		if (nb_held > 0 && packets_random(&seed) % 100 < 48) {
			uint32_t k = packets_random(&seed) % nb_held;
			lent[held[k]] = false;
			snat_pool_put(pool, held[k]);
			held[k] = held[--nb_held];
		}
		uint16_t port = snat_pool_get(pool, 0);
		if (port == SNAT_NO_PORT) {
			assert_int_equal(nb_held, snat_size(snat));
			continue;
		}
		assert_false(lent[port]);
		lent[port] = true;
		held[nb_held++] = port;
		assert_int_equal(snat_pool_used(pool), nb_held);
	}
	free(held);
	snat_pool_destroy(pool);
	snat_destroy(snat);
}

/* P(chi-square with k degrees of freedom > x), by Wilson and Hilferty's approximation. */
static double chi_square_p(double x, double k)
{
	double z = (cbrt(x / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k));

	return erfc(z / sqrt(2)) / 2;
}

static void first_ports_are_spread_evenly(void **state) // F2, RFC 6056
{
	enum { POOLS = 65536, BINS = 256, PORTS = 4 };
	struct snat_range range = {1024, 1024 + 28671};
	struct snat *snat = snat_create(&range, 1, key, NULL);
	static unsigned bins[PORTS][BINS], steps[BINS];

	memset(bins, 0, sizeof(bins));
	for (unsigned i = 0; i < POOLS; i++) {
		struct snat_pool *pool = snat_pool_create(snat, 0);
		uint16_t before = 0;
		for (unsigned n = 0; n < PORTS; n++) {
			uint16_t port = snat_pool_get(pool, 0) - range.first;
			bins[n][(uint32_t)port * BINS / snat_size(snat)]++;
			if (n == 1) // and how far the second is from the first
				steps[(uint32_t)((port + snat_size(snat) - before) %
					      snat_size(snat)) *
					BINS / snat_size(snat)]++;
			before = port;
		}
		snat_pool_destroy(pool);
	}
	for (unsigned n = 0; n <= PORTS; n++) {
		double x = 0, expected = (double)POOLS / BINS;
		for (unsigned b = 0; b < BINS; b++) {
			double d = (n < PORTS ? bins[n][b] : steps[b]) - expected;
			x += d * d / expected;
		}
		double p = chi_square_p(x, BINS - 1);
		print_message("%s %u: chi-square %.1f, p = %.3f\n", n < PORTS ? "port" : "step",
			n % PORTS, x, p);
		assert_true(p > 0.01);
	}
	snat_destroy(snat);
}

/* --- classes --- */

enum { QUEUES = 3, RETA = 128 };

static uint16_t port_share[65536];
static uint8_t reta[RETA];
static const struct snat_rss rss = {port_share, reta, RETA - 1, QUEUES};

static void random_rss(uint64_t seed)
{
	uint16_t bits[16];

	for (unsigned i = 0; i < 16; i++)
		bits[i] = packets_random(&seed) >> 40;
	for (unsigned port = 0; port < 65536; port++) {
		port_share[port] = 0; // linear, as Toeplitz is
		for (unsigned i = 0; i < 16; i++)
			port_share[port] ^= port >> i & 1 ? bits[i] : 0;
	}
	for (unsigned i = 0; i < RETA; i++)
		reta[i] = packets_random(&seed) % QUEUES;
}

static unsigned queue_of(uint16_t port, uint16_t constant)
{
	return reta[(port_share[port] ^ constant) % RETA];
}

static void own_class_first_then_any(void **state)
{
	for (unsigned seed = 1; seed <= 20; seed++) {
		random_rss(seed);
		uint16_t constant = seed * 7919;
		struct snat *snat = snat_create(usual, 2, key, &rss);
		struct snat_pool *pool = snat_pool_create(snat, constant);
		uint32_t in_class[QUEUES] = {0}, total = snat_size(snat);
		static bool lent[65536];
		memset(lent, 0, sizeof(lent));
		assert_int_equal(snat_classes(snat), QUEUES);
		for (unsigned port = 0; port < 65536; port++)
			if (snat_contains(snat, port))
				in_class[queue_of(port, constant)]++;
		for (uint32_t i = 0; i < total; i++) {
			uint16_t port = snat_pool_get(pool, 1);
			assert_true(port != SNAT_NO_PORT && !lent[port]);
			assert_true((queue_of(port, constant) == 1) == (i < in_class[1]));
			lent[port] = true;
		}
		for (unsigned class = 0; class < QUEUES + 2; class ++)
			assert_int_equal(snat_pool_get(pool, class), SNAT_NO_PORT);
		assert_int_equal(snat_pool_used(pool), total);
		// One of another class is free: it is lent to whoever asks, and used stays right.
		for (unsigned port = 0; port < 65536; port += 997) {
			if (!lent[port])
				continue;
			snat_pool_put(pool, port);
			assert_int_equal(snat_pool_used(pool), total - 1);
			assert_int_equal(snat_pool_get(pool, port % QUEUES), port);
		}
		for (unsigned port = 0; port < 65536; port++)
			if (lent[port])
				snat_pool_put(pool, port);
		assert_int_equal(snat_pool_used(pool), 0);
		snat_pool_destroy(pool);
		snat_destroy(snat);
	}
}

struct borrower {
	struct snat_pool *pool;
	uint8_t *lent; // by port; shared
	unsigned class;
	unsigned nb_twice;
	unsigned nb_got;
};

static void *borrow(void *argument)
{
	struct borrower *borrower = argument;
	uint16_t held[400];
	unsigned nb_held = 0;
	uint64_t seed = 77 + borrower->class;

	for (unsigned i = 0; i < 1000000; i++) {
		if (nb_held == 400 || (nb_held > 0 && packets_random(&seed) % 2)) {
			unsigned k = packets_random(&seed) % nb_held;
			uint16_t port = held[k];
			held[k] = held[--nb_held];
			__atomic_store_n(&borrower->lent[port], 0, __ATOMIC_RELAXED);
			snat_pool_put(borrower->pool, port);
			continue;
		}
		uint16_t port = snat_pool_get(borrower->pool, borrower->class);
		if (port == SNAT_NO_PORT)
			continue;
		borrower->nb_twice +=
			__atomic_exchange_n(&borrower->lent[port], 1, __ATOMIC_RELAXED);
		borrower->nb_got++;
		held[nb_held++] = port;
	}
	while (nb_held > 0) {
		__atomic_store_n(&borrower->lent[held[--nb_held]], 0, __ATOMIC_RELAXED);
		snat_pool_put(borrower->pool, held[nb_held]);
	}
	return NULL;
}

static void two_workers_never_share_a_port(void **state)
{
	static const struct snat_range range = {2000, 2600};

	for (unsigned classes = 0; classes < 2; classes++) {
		random_rss(99);
		struct snat *snat = snat_create(&range, 1, key, classes ? &rss : NULL);
		struct snat_pool *pool = snat_pool_create(snat, 5);
		uint8_t *lent = calloc(65536, 1);
		struct borrower borrowers[] = {{pool, lent, 0}, {pool, lent, 1}};
		pthread_t threads[2];
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(
				pthread_create(&threads[i], NULL, borrow, &borrowers[i]), 0);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(threads[i], NULL);
		assert_int_equal(borrowers[0].nb_twice + borrowers[1].nb_twice, 0);
		assert_true(borrowers[0].nb_got > 400000 && borrowers[1].nb_got > 400000);
		assert_int_equal(snat_pool_used(pool), 0);
		free(lent);
		snat_pool_destroy(pool);
		snat_destroy(snat);
	}
}

static void pools_come_and_go(void **state)
{
	struct snat *snat = snat_create(usual, 2, key, NULL);
	struct snat_pool *pools[1000];
	uint16_t first[1000];
	unsigned nb_same = 0;

	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 1000; i++) {
			assert_non_null(pools[i] = snat_pool_create(snat, 0));
			first[i] = snat_pool_get(pools[i], 0);
			nb_same += i > 0 && first[i] == first[i - 1];
		}
		for (unsigned i = 0; i < 1000; i++)
			snat_pool_destroy(pools[i]);
	}
	assert_in_range(nb_same, 0, 10); // each pool has an order of its own
	snat_pool_destroy(NULL);
	snat_destroy(snat);
	snat_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_port_once_for_odd_sizes_and_several_ranges),
		cmocka_unit_test(ports_taken_at_first_are_lent_to_nobody_else),
		cmocka_unit_test(a_port_outside_the_ranges_is_not_lent_when_it_is_put),
		cmocka_unit_test(exhaustion_is_exact),
		cmocka_unit_test(the_one_free_longest_comes_first),
		cmocka_unit_test(no_port_twice_in_a_million),
		cmocka_unit_test(first_ports_are_spread_evenly),
		cmocka_unit_test(own_class_first_then_any),
		cmocka_unit_test(two_workers_never_share_a_port),
		cmocka_unit_test(pools_come_and_go),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
