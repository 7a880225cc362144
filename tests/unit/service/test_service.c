/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "packets.h"
#include "service.h"

/* The value of the key, looked up as the packet path does. */
static uint32_t find(const struct service_table *table, enum service_key_kind kind,
	const char *addr, uint16_t port)
{
	struct net_addr key = packets_addr(addr);

	return service_find(table, kind, key.family, key.v6, htons(port));
}

static void key(struct service_key *key, enum service_key_kind kind, const char *addr,
	uint16_t port, uint32_t value)
{
	struct net_addr parsed = packets_addr(addr);

	service_key_set(key, kind, &parsed, htons(port), value);
}

static void every_kind_of_key_is_found_and_no_other(void **state)
{
	struct service_key keys[10];
	struct service_table_source source = {.keys = keys, .nb_keys = 10};

	key(&keys[0], SERVICE_KEY_VIP, "192.0.2.1", 80, 0);
	key(&keys[1], SERVICE_KEY_VIP, "192.0.2.1", 443, 1);
	key(&keys[2], SERVICE_KEY_VIP, "2001:db8::1", 80, 2);
	key(&keys[3], SERVICE_KEY_ENDPOINT, "10.0.0.1", 8080, 7);
	key(&keys[4], SERVICE_KEY_ENDPOINT, "fd00::1", 8080, 8);
	key(&keys[5], SERVICE_KEY_HOST, "10.0.0.1", 0, 9);
	key(&keys[6], SERVICE_KEY_HOST, "fd00::1", 0, 10);
	key(&keys[7], SERVICE_KEY_SNAT, "192.0.2.1", 0, 0);
	key(&keys[8], SERVICE_KEY_SNAT, "2001:db8::1", 0, 1);
	key(&keys[9], SERVICE_KEY_VIP, "192.0.2.1", 80, 99); // twice: the first counts
	struct service_table *table = service_table_create(&source);
	assert_non_null(table);

	assert_int_equal(find(table, SERVICE_KEY_VIP, "192.0.2.1", 80), 0);
	assert_int_equal(find(table, SERVICE_KEY_VIP, "192.0.2.1", 443), 1);
	assert_int_equal(find(table, SERVICE_KEY_VIP, "2001:db8::1", 80), 2);
	assert_int_equal(find(table, SERVICE_KEY_ENDPOINT, "10.0.0.1", 8080), 7);
	assert_int_equal(find(table, SERVICE_KEY_ENDPOINT, "fd00::1", 8080), 8);
	assert_int_equal(find(table, SERVICE_KEY_HOST, "10.0.0.1", 0), 9);
	assert_int_equal(find(table, SERVICE_KEY_HOST, "fd00::1", 0), 10);
	assert_int_equal(find(table, SERVICE_KEY_SNAT, "192.0.2.1", 0), 0);
	assert_int_equal(find(table, SERVICE_KEY_SNAT, "2001:db8::1", 0), 1);

	assert_int_equal(find(table, SERVICE_KEY_VIP, "192.0.2.1", 81), SERVICE_NONE);
	assert_int_equal(find(table, SERVICE_KEY_VIP, "192.0.2.2", 80), SERVICE_NONE);
	assert_int_equal(find(table, SERVICE_KEY_VIP, "10.0.0.1", 8080), SERVICE_NONE);
	assert_int_equal(find(table, SERVICE_KEY_ENDPOINT, "192.0.2.1", 80), SERVICE_NONE);
	assert_int_equal(find(table, SERVICE_KEY_HOST, "192.0.2.1", 0), SERVICE_NONE);
	assert_int_equal(find(table, SERVICE_KEY_SNAT, "10.0.0.1", 0), SERVICE_NONE);
	// The first four bytes of an IPv6 address are no IPv4 address.
	struct net_addr v6 = packets_addr("c000:0201::"); // 192.0.2.1 and zeros
	assert_int_equal(
		service_find(table, SERVICE_KEY_VIP, AF_INET6, v6.v6, htons(80)), SERVICE_NONE);
	assert_int_equal(service_find(table, SERVICE_KEY_VIP, AF_INET, v6.v6, htons(80)), 0);
	service_table_destroy(table);
}

static void an_empty_table_finds_nothing(void **state)
{
	struct service_table_source source = {0};
	struct service_table *table = service_table_create(&source);

	assert_non_null(table);
	for (unsigned kind = SERVICE_KEY_VIP; kind <= SERVICE_KEY_SNAT; kind++) {
		assert_int_equal(find(table, kind, "0.0.0.0", 0), SERVICE_NONE);
		assert_int_equal(find(table, kind, "::", 0), SERVICE_NONE);
	}
	service_table_destroy(table);
	service_table_destroy(NULL);
}

/* --- sharing --- */

static unsigned nb_schedules;

static void *counting_build(const struct scheduler_backend *backends, uint32_t count)
{
	nb_schedules++;
	return malloc(1);
}

static uint32_t counting_pick(const void *state, uint64_t hash, struct scheduler_cursor *cursor)
{
	return 0;
}

static void counting_destroy(void *state)
{
	nb_schedules -= state != NULL;
	free(state);
}

static const struct scheduler_ops counting = {.name = "counting",
	.build = counting_build,
	.pick = counting_pick,
	.destroy = counting_destroy};

static struct service *service_of(const char *name, uint32_t nb_candidates)
{
	static uint32_t ids[] = {3, 5, 8};
	static struct scheduler_backend weights[] = {{1, 1}, {2, 1}, {3, 1}};
	struct service_source source = {.name = name,
		.family = AF_INET,
		.scheduler = &counting,
		.candidates = {ids, weights, NULL, nb_candidates}};

	return service_create(&source);
}

static void tables_share_services_by_references(void **state)
{
	struct service *services[] = {service_of("a", 3), service_of("b", 2), service_of("c", 0)};
	struct service_table_source source = {.services = services, .nb_services = 3};

	assert_int_equal(nb_schedules, 2);
	assert_null(services[2]->candidates.schedule);
	struct service_table *first = service_table_create(&source);
	struct service *old = services[1];
	services[1] = service_of("b", 3); // one changed
	struct service_table *second = service_table_create(&source);
	assert_int_equal(nb_schedules, 3);
	service_put(services[0]);
	service_put(services[1]);
	service_put(services[2]);
	service_put(old);
	assert_int_equal(nb_schedules, 3);
	assert_ptr_equal(first->services[0], second->services[0]);
	assert_ptr_not_equal(first->services[1], second->services[1]);
	service_table_destroy(first);
	assert_int_equal(nb_schedules, 2);
	assert_int_equal(second->services[1]->candidates.count, 3);
	assert_int_equal(second->services[1]->candidates.ids[2], 8);
	assert_string_equal(second->services[0]->name, "a");
	service_table_destroy(second);
	assert_int_equal(nb_schedules, 0);
	service_put(NULL);
}

static void a_table_without_a_service_at_an_index(void **state)
{
	struct service *services[] = {NULL, service_of("a", 1), NULL};
	struct service_table_source source = {.services = services, .nb_services = 3};
	struct service_table *table = service_table_create(&source);

	assert_non_null(table);
	service_put(services[1]);
	assert_null(table->services[0]);
	assert_non_null(table->services[1]);
	service_table_destroy(table);
	assert_int_equal(nb_schedules, 0);
}

static void tables_share_keys(void **state)
{
	struct service_key keys[1];
	key(&keys[0], SERVICE_KEY_VIP, "192.0.2.1", 80, 4);
	struct service_keys *shared = service_keys_create(keys, 1);
	struct service_table_source source = {.shared_keys = shared};
	struct service_table *first = service_table_create(&source),
			     *second = service_table_create(&source);

	service_keys_put(shared);
	service_table_destroy(first);
	assert_int_equal(find(second, SERVICE_KEY_VIP, "192.0.2.1", 80), 4);
	service_table_destroy(second);
	service_keys_put(NULL);
}

static void keys_are_there_until_all_have_taken_them_back(void **state)
{
	struct service_key given[3], changes[2];
	key(&given[0], SERVICE_KEY_HOST, "10.0.0.1", 0, 0);
	key(&given[1], SERVICE_KEY_HOST, "10.0.0.1", 0, 0);
	key(&given[2], SERVICE_KEY_VIP, "192.0.2.1", 80, 4);
	struct service_keys *all[4] = {service_keys_create(given, 3)};
	struct service_table *tables[4];

	changes[0] = given[0];
	changes[0].count = -1;
	all[1] = service_keys_change(all[0], changes, 1);
	all[2] = service_keys_change(all[1], changes, 1);
	// An address that goes from one service to another: the order counts.
	changes[0] = changes[1] = given[2];
	changes[0].count = -1;
	changes[1].value = 5;
	all[3] = service_keys_change(all[2], changes, 2);
	for (int i = 0; i < 4; i++) {
		tables[i] =
			service_table_create(&(struct service_table_source){.shared_keys = all[i]});
		service_keys_put(all[i]);
	}
	assert_int_equal(find(tables[0], SERVICE_KEY_HOST, "10.0.0.1", 0), 0);
	assert_int_equal(find(tables[1], SERVICE_KEY_HOST, "10.0.0.1", 0), 0);
	assert_int_equal(find(tables[2], SERVICE_KEY_HOST, "10.0.0.1", 0), SERVICE_NONE);
	assert_int_equal(find(tables[2], SERVICE_KEY_VIP, "192.0.2.1", 80), 4);
	assert_int_equal(find(tables[3], SERVICE_KEY_VIP, "192.0.2.1", 80), 5);
	for (int i = 0; i < 4; i++)
		service_table_destroy(tables[i]);
}

/* Keys of few addresses, so that they come and go often, against an array of counts. */
static void changed_keys_are_those_of_a_model(void **state)
{
	enum { ADDRESSES = 600, ROUNDS = 300, CHANGES = 40 };
	int counts[ADDRESSES] = {0};
	struct service_keys *keys = service_keys_create(NULL, 0);

	srand(1);
	for (int round = 0; round < ROUNDS; round++) {
		struct service_key changes[CHANGES];
		// It grows for a while, then shrinks to nothing, so that both copies are made.
		bool shrinks = round % 100 >= 60;
		uint32_t nb = 0, nb_keys = 0;
		for (int i = 0; i < CHANGES; i++) {
			int n = rand() % ADDRESSES,
			    add = shrinks ? rand() % 8 == 0 : rand() % 4 != 0;
			struct net_addr addr = {.family = AF_INET, .v4 = htonl(0x0a000000 + n)};
			if (!add && counts[n] == 0)
				continue;
			service_key_set(&changes[nb], SERVICE_KEY_ENDPOINT, &addr, htons(80), n);
			changes[nb++].count = add ? 1 : -1;
			counts[n] += add ? 1 : -1;
		}
		struct service_keys *changed = service_keys_change(keys, changes, nb);
		struct service_table *table = service_table_create(
			&(struct service_table_source){.shared_keys = changed});
		for (int n = 0; n < ADDRESSES; n++) {
			uint32_t addr = htonl(0x0a000000 + n);
			nb_keys += counts[n] > 0;
			assert_int_equal(service_find(table, SERVICE_KEY_ENDPOINT, AF_INET, &addr,
						 htons(80)),
				counts[n] > 0 ? (uint32_t)n : SERVICE_NONE);
		}
		assert_int_equal(changed->nb_keys, nb_keys);
		assert_true(changed->mask + 1 >= 2 * nb_keys);
		service_keys_put(keys);
		service_table_destroy(table);
		keys = changed;
	}
	service_keys_put(keys);
}

static void backups_have_a_schedule_of_their_own_where_there_are_some(void **state) // E35
{
	uint32_t ids[] = {3, 5, 8};
	uint32_t limits[] = {0, 7, 0};
	struct scheduler_backend weights[] = {{1, 1}, {2, 1}, {3, 1}};
	struct service_source source = {.name = "a",
		.family = AF_INET,
		.scheduler = &counting,
		.candidates = {ids, weights, NULL, 1},
		.backups = {ids + 1, weights + 1, limits + 1, 2}};

	assert_int_equal(nb_schedules, 0);
	struct service *service = service_create(&source);
	assert_int_equal(nb_schedules, 2);
	assert_null(service->candidates.limits);
	assert_int_equal(service->backups.count, 2);
	assert_int_equal(service->backups.ids[1], 8);
	assert_int_equal(service->backups.limits[0], 7);
	service_put(service);
	assert_int_equal(nb_schedules, 0);
	source.backups = (struct service_choices){0};
	service = service_create(&source);
	assert_int_equal(nb_schedules, 1);
	assert_null(service->backups.schedule);
	service_put(service);
	// One that can't be built leaves nothing of the other.
	weights[2] = weights[1];
	source.backups = (struct service_choices){ids + 1, weights + 1, limits + 1, 2};
	source.scheduler = &scheduler_round_robin;
	assert_null(service_create(&source));
	assert_int_equal(errno, EEXIST);
}

static void a_scheduler_that_refuses(void **state)
{
	struct scheduler_backend weights[] = {{1, 1}, {1, 1}}; // one identity twice
	uint32_t ids[] = {0, 1};
	struct service_source source = {.name = "x",
		.family = AF_INET,
		.scheduler = &scheduler_maglev,
		.candidates = {ids, weights, NULL, 2}};

	assert_null(service_create(&source));
	assert_int_equal(errno, EEXIST);
}

/* --- size --- */

static void a_thousand_services_of_a_hundred_backends(void **state)
{
	enum { SERVICES = 1000, BACKENDS = 100 };
	struct service **services = calloc(SERVICES, sizeof(*services));
	struct service_backend *backends = calloc(SERVICES * BACKENDS, sizeof(*backends));
	struct service_key *keys = calloc(SERVICES + 2 * SERVICES * BACKENDS, sizeof(*keys));
	struct scheduler_backend weights[BACKENDS];
	uint32_t candidates[BACKENDS], nb_keys = 0;

	for (uint32_t s = 0; s < SERVICES; s++) {
		char name[16];
		struct net_addr vip = {.family = AF_INET, .v4 = htonl(0xc0000200 + s / 250)};
		service_key_set(&keys[nb_keys++], SERVICE_KEY_VIP, &vip, htons(1000 + s), s);
		for (uint32_t b = 0; b < BACKENDS; b++) {
			uint32_t id = s * BACKENDS + b;
			struct net_addr addr = {.family = AF_INET, .v4 = htonl(0x0a000000 + id)};
			candidates[b] = id;
			weights[b] = (struct scheduler_backend){id + 1, 1};
			backends[id].service = s;
			backends[id].generation = id % 4096;
			backends[id].resolved = id % 3 != 0;
			service_key_set(
				&keys[nb_keys++], SERVICE_KEY_ENDPOINT, &addr, htons(8080), id);
			service_key_set(&keys[nb_keys++], SERVICE_KEY_HOST, &addr, 0, id);
		}
		snprintf(name, sizeof(name), "s%u", s);
		struct service_source source = {.name = name,
			.family = AF_INET,
			.scheduler = &scheduler_round_robin,
			.candidates = {candidates, weights, NULL, BACKENDS}};
		assert_non_null(services[s] = service_create(&source));
	}
	struct service_table_source source = {.services = services,
		.nb_services = SERVICES,
		.backends = backends,
		.nb_backends = SERVICES * BACKENDS,
		.keys = keys,
		.nb_keys = nb_keys};
	struct service_table *table = service_table_create(&source);
	assert_non_null(table);
	for (uint32_t s = 0; s < SERVICES; s++) {
		uint32_t vip = htonl(0xc0000200 + s / 250);
		assert_int_equal(
			service_find(table, SERVICE_KEY_VIP, AF_INET, &vip, htons(1000 + s)), s);
		assert_int_equal(
			service_find(table, SERVICE_KEY_VIP, AF_INET, &vip, htons(2001 + s)),
			SERVICE_NONE);
	}
	for (uint32_t id = 0; id < SERVICES * BACKENDS; id++) {
		uint32_t addr = htonl(0x0a000000 + id);
		assert_int_equal(
			service_find(table, SERVICE_KEY_ENDPOINT, AF_INET, &addr, htons(8080)), id);
		assert_int_equal(service_find(table, SERVICE_KEY_HOST, AF_INET, &addr, 0), id);
		assert_int_equal(table->backends[id].tag,
			id % 3 == 0 ? SERVICE_NO_TAG : (id % 4096) << SERVICE_ID_BITS | id);
	}
	// No look-up walks far.
	uint32_t longest = 0, run = 0;
	for (uint32_t at = 0; at <= table->key_mask; at++) {
		run = table->keys[at].kind != 0 ? run + 1 : 0;
		longest = run > longest ? run : longest;
	}
	print_message(
		"%u keys in %u places, longest run %u\n", nb_keys, table->key_mask + 1, longest);
	assert_in_range(longest, 1, 100);
	for (uint32_t s = 0; s < SERVICES; s++)
		service_put(services[s]);
	service_table_destroy(table);
	free(services);
	free(backends);
	free(keys);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_of_key_is_found_and_no_other),
		cmocka_unit_test(an_empty_table_finds_nothing),
		cmocka_unit_test(tables_share_services_by_references),
		cmocka_unit_test(a_table_without_a_service_at_an_index),
		cmocka_unit_test(tables_share_keys),
		cmocka_unit_test(keys_are_there_until_all_have_taken_them_back),
		cmocka_unit_test(changed_keys_are_those_of_a_model),
		cmocka_unit_test(backups_have_a_schedule_of_their_own_where_there_are_some),
		cmocka_unit_test(a_scheduler_that_refuses),
		cmocka_unit_test(a_thousand_services_of_a_hundred_backends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
