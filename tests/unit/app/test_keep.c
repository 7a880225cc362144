/* SPDX-License-Identifier: BSD-3-Clause */
/* What a process leaves of its backends, and what the next one finds. In /run/weir, so root's. */
#include "app_test.h"

#include <fcntl.h>

#include "clock.h"
#include "dev.h"
#include "keep.h"
#include "worker.h"

#define BACKENDS 300
#define ROWS_AT 4096
#define BLOCK 131072 // of workers' rows, which come first
#define ROW_SIZE 512 // each twice
#define SLICE 128    // rows that a tick writes

struct world {
	struct registry registry;
	struct keep *keep;
	uint64_t opened; // connections of each backend, beside its id
	uint64_t denied;
	struct stats_connect connects; // of each backend
	struct worker *workers;        // 2
};

static void count(void *context, uint32_t id, struct stats_backend *sum)
{
	const struct world *world = context;

	*sum = (struct stats_backend){.opened = world->opened + id};
}

static void count_connects(void *context, uint32_t id, struct stats_connect *sum)
{
	*sum = ((struct world *)context)->connects;
}

static void count_service(void *context, uint32_t index, struct stats_service *sum)
{
	sum->denied = ((struct world *)context)->denied;
}

static void world_init(struct world *world)
{
	char text[16384];
	size_t length = snprintf(text, sizeof(text),
		"instance = \"k%d\";\n" PORT
		"services = {\nweb = { listen = \":80\"; backends = ( ",
		getpid());

	for (unsigned b = 0; b < BACKENDS; b++)
		length += snprintf(text + length, sizeof(text) - length, "%s\"10.0.%u.%u:80\"",
			b ? ", " : "", b / 100, b % 100 + 1);
	snprintf(text + length, sizeof(text) - length, " ); };\n};\n");
	memset(world, 0, sizeof(*world));
	registry_start(&world->registry, text);
	world->registry.backends.count = count;
	world->registry.backends.count_connects = count_connects;
	world->registry.backends.count_service = count_service;
	world->workers = aligned_alloc(64, 2 * sizeof(*world->workers));
	memset(world->workers, 0, 2 * sizeof(*world->workers));
	world->registry.backends.context = world;
	for (uint32_t id = 0; id < BACKENDS; id++) {
		struct control_backend *backend = world->registry.backends.by_id[id];
		backend->health.state = id % 3 ? HEALTH_UP : HEALTH_DOWN;
		backend->health.since_ms = clock_ms();
		snprintf(backend->health.reason, sizeof(backend->health.reason), "reason %u", id);
	}
	world->opened = 1000;
	world->keep = keep_create(world->registry.conf, true);
	keep_begin(world->keep, &world->registry.backends, world->workers, 2);
}

static void world_fini(struct world *world)
{
	keep_destroy(world->keep, true);
	registry_end(&world->registry);
	free(world->workers);
}

static const struct control_backend *backend(const struct world *world, uint32_t id)
{
	return world->registry.backends.by_id[id];
}

/* The connections that the next process finds for the backend; 0 = it knows nothing of it. */
static uint64_t opened(const struct world *world, uint32_t id)
{
	struct keep *next = keep_create(world->registry.conf, true);
	struct keep_totals totals;

	keep_totals(next, backend(world, id), &totals);
	keep_destroy(next, false);
	return totals.packets.opened;
}

static int open_file(const struct world *world)
{
	char name[80], path[128];

	snprintf(path, sizeof(path), "/run/weir/%s.backends",
		dev_instance_name(world->registry.conf, name));
	return open(path, O_RDWR);
}

static void the_next_process_finds_health_and_totals(void **state)
{
	struct world world;
	world_init(&world);
	struct keep *next = keep_create(world.registry.conf, true);
	for (uint32_t id = 0; id < BACKENDS; id++) {
		struct keep_totals totals;
		struct health_status health;
		assert_true(keep_totals(next, backend(&world, id), &totals));
		assert_true(keep_health(next, backend(&world, id), &health));
		assert_int_equal(totals.packets.opened, 1000 + id);
		assert_int_equal(totals.connections, 1000 + id);
		assert_int_equal(health.state, backend(&world, id)->health.state);
		assert_string_equal(health.reason, backend(&world, id)->health.reason);
	}
	keep_destroy(next, false);
	world_fini(&world);
}

static void the_next_process_finds_what_was_set_by_hand(void **state)
{
	struct world world;
	struct hand hand;
	int set, weight;
	world_init(&world);
	struct control_backend *drained = world.registry.backends.by_id[3];
	struct control_backend *weighted = world.registry.backends.by_id[4];
	drained->temporary_state = CONF_STATE_DRAIN;
	drained->hand = (struct hand){clock_ms(), 4711, 0, 1000};
	weighted->temporary_state = CONF_STATE_ACTIVE;
	weighted->temporary_weight = CONF_WEIGHT_MAX;
	keep_write(world.keep, &world.registry.backends, drained);
	keep_write(world.keep, &world.registry.backends, weighted);
	struct keep *next = keep_create(world.registry.conf, true);
	keep_by_hand(next, drained, &set, &weight, &hand);
	assert_int_equal(set, CONF_STATE_DRAIN);
	assert_int_equal(weight, -1);
	assert_memory_equal(&hand, &drained->hand, sizeof(hand));
	keep_by_hand(next, weighted, &set, &weight, &hand);
	assert_int_equal(set, CONF_STATE_ACTIVE);
	assert_int_equal(weight, CONF_WEIGHT_MAX);
	keep_by_hand(next, backend(&world, 5), &set, &weight, &hand);
	assert_int_equal(set, -1);
	assert_int_equal(weight, -1);
	keep_destroy(next, false);
	world_fini(&world);
}

static void the_next_process_finds_the_whole_reason(void **state)
{
	struct world world;
	struct health_status health;
	world_init(&world);
	for (size_t length = 0; length < HEALTH_REASON_TEXT; length += 37) {
		struct control_backend *one = world.registry.backends.by_id[9];
		memset(one->health.reason, 0, sizeof(one->health.reason));
		memset(one->health.reason, 'x', length);
		keep_write(world.keep, &world.registry.backends, one);
		struct keep *next = keep_create(world.registry.conf, true);
		assert_true(keep_health(next, one, &health));
		assert_string_equal(health.reason, one->health.reason);
		keep_destroy(next, false);
	}
	world_fini(&world);
}

static void the_next_process_finds_the_verdict_by_connects(void **state)
{
	struct world world;
	struct passive_verdict verdict;
	world_init(&world);
	struct control_backend *out = world.registry.backends.by_id[4];
	out->passive.is_out = true;
	out->passive.verdict = (struct passive_verdict){
		100000, 100000 + (3600000u << 5), 102000, 7, 9, true, false};
	keep_write(world.keep, &world.registry.backends, out);
	struct keep *next = keep_create(world.registry.conf, true);
	assert_true(keep_passive(next, out, &verdict));
	assert_int_equal(verdict.since_ms, 100000);
	assert_int_equal(verdict.retry_at_ms, 100000 + (3600000u << 5));
	assert_int_equal(verdict.probe_at_ms, 102000);
	assert_int_equal(verdict.times, 7);
	assert_int_equal(verdict.fails, 9);
	assert_true(verdict.refused);
	assert_false(verdict.timed_out);
	assert_false(keep_passive(next, backend(&world, 5), &verdict));
	keep_destroy(next, false);
	out->passive.is_out = false; // it is in no list
	world_fini(&world);
}

/* E36: written when it is told, whenever its turn comes. */
static void what_is_told_is_kept_at_once(void **state)
{
	struct world world;
	struct keep_totals totals;
	struct stats_service service;
	struct stats_counters counters = {0};
	uint64_t past;
	world_init(&world);
	struct control_service *web = backends_find_service(&world.registry.backends, "web");
	world.opened = 5000;
	world.connects = (struct stats_connect){.refused = 1,
		.timed_out = 2,
		.moved_away = 3,
		.syn_not_kept = 4,
		.challenged = 5,
		.times = {6, [31] = 7}};
	world.denied = 8;
	web->past_connections = 9;
	world.workers[1].stats.live.received = 10;
	stats_publish(&world.workers[1].stats);
	keep_write(world.keep, &world.registry.backends, backend(&world, 299));
	keep_write_workers(world.keep);
	struct keep *next = keep_create(world.registry.conf, true);
	keep_totals(next, backend(&world, 299), &totals);
	assert_int_equal(totals.packets.opened, 5299);
	assert_int_equal(totals.connections, 5296);
	assert_memory_equal(&totals.connects, &world.connects, sizeof(world.connects));
	keep_worker_totals(next, 0, 2, &counters);
	assert_int_equal(counters.received, 0);
	keep_worker_totals(next, 0, 1, &counters); // the second one is no more
	assert_int_equal(counters.received, 10);
	keep_destroy(next, false);
	// With its service, all of its backends.
	keep_write_service(world.keep, &world.registry.backends, web);
	next = keep_create(world.registry.conf, true);
	for (uint32_t id = 0; id < BACKENDS; id++) {
		assert_true(keep_totals(next, backend(&world, id), &totals));
		assert_int_equal(totals.connections, 5000 + id - 3);
	}
	keep_service_totals(next, "web", &service, &past);
	assert_int_equal(service.denied, 8);
	assert_int_equal(past, 9);
	keep_destroy(next, false);
	world_fini(&world);
}

/* E36: the total of the service as the next process tells it, which finds all of its backends but
 * one: or that one, too. */
static uint64_t connections(const struct world *world, uint32_t missing)
{
	struct keep *next = keep_create(world->registry.conf, true);
	struct keep_totals totals;
	struct stats_service service;
	uint64_t past, sum = 0;

	for (uint32_t id = 0; id < BACKENDS; id++)
		if (id != missing && keep_totals(next, backend(world, id), &totals))
			sum += totals.connections;
	keep_service_totals(next, "web", &service, &past);
	keep_destroy(next, false);
	return past + sum;
}

static void a_service_keeps_the_connections_of_who_is_gone(void **state)
{
	const uint64_t all = BACKENDS * 1000 + BACKENDS * (BACKENDS - 1) / 2;
	struct world world;
	char before[2 * ROW_SIZE], after[2 * ROW_SIZE];
	world_init(&world);
	struct control_service *web = backends_find_service(&world.registry.backends, "web");
	assert_int_equal(connections(&world, BACKENDS), all);
	assert_int_equal(connections(&world, 20), all); // out of the file meanwhile
	// Or by a reload, and erased: at no moment is it counted twice or not at all.
	int fd = open_file(&world);
	off_t at = ROWS_AT + BLOCK + 20 * sizeof(before);
	assert_int_equal(pread(fd, before, sizeof(before), at), sizeof(before));
	web->past_connections += 1020;
	keep_erase(world.keep, &world.registry.backends, backend(&world, 20));
	assert_int_equal(connections(&world, 20), all);
	assert_int_equal(connections(&world, BACKENDS), all);
	assert_int_equal(pread(fd, after, sizeof(after), at), sizeof(after));
	assert_int_equal(pwrite(fd, before, sizeof(before), at), sizeof(before));
	assert_int_equal(connections(&world, 20), all);
	assert_int_equal(connections(&world, BACKENDS), all);
	assert_int_equal(pwrite(fd, after, sizeof(after), at), sizeof(after));
	close(fd);
	world_fini(&world);
}

static void totals_are_written_in_turn(void **state)
{
	struct world world;
	world_init(&world);
	world.opened = 2000;
	unsigned ms = keep_tick(world.keep, &world.registry.backends);
	assert_int_equal(opened(&world, SLICE - 1), 2000 + SLICE - 1);
	assert_int_equal(opened(&world, SLICE), 1000 + SLICE);
	ms += keep_tick(world.keep, &world.registry.backends);
	ms += keep_tick(world.keep, &world.registry.backends);
	assert_in_range(ms, 990, 1000);
	for (uint32_t id = 0; id < BACKENDS; id += 23)
		assert_int_equal(opened(&world, id), 2000 + id);
	world.opened = 3000;
	keep_tick(world.keep, &world.registry.backends);
	assert_int_equal(opened(&world, 0), 3000);
	world_fini(&world);
}

static void all_are_written_at_the_end(void **state)
{
	struct world world;
	world_init(&world);
	world.opened = 2000;
	keep_all(world.keep, &world.registry.backends);
	for (uint32_t id = 0; id < BACKENDS; id += 23)
		assert_int_equal(opened(&world, id), 2000 + id);
	world_fini(&world);
}

static void a_change_is_written_alone(void **state)
{
	struct world world;
	world_init(&world);
	world.opened = 2000;
	keep_write(world.keep, &world.registry.backends, backend(&world, 200));
	keep_erase(world.keep, &world.registry.backends, backend(&world, 201));
	assert_int_equal(opened(&world, 199), 1199);
	assert_int_equal(opened(&world, 200), 2200);
	assert_int_equal(opened(&world, 201), 0);
	assert_int_equal(opened(&world, 202), 1202);
	world_fini(&world);
}

static void a_damaged_row_is_nobody(void **state)
{
	struct world world;
	world_init(&world);
	int fd = open_file(&world);
	char byte;
	for (unsigned copy = 0; copy < 2; copy++) {
		off_t at = ROWS_AT + BLOCK + (7 * 2 + copy) * ROW_SIZE + 100;
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 4;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	close(fd);
	assert_int_equal(opened(&world, 6), 1006);
	assert_int_equal(opened(&world, 7), 0);
	assert_int_equal(opened(&world, 8), 1008);
	world_fini(&world);
}

static void a_file_of_another_boot_is_not_taken(void **state)
{
	struct world world;
	world_init(&world);
	int fd = open_file(&world);
	assert_int_equal(pwrite(fd, "x", 1, 20), 1); // of the boot id
	close(fd);
	assert_int_equal(opened(&world, 6), 0);
	world_fini(&world);
}

static void nothing_is_kept_unless_asked_for(void **state)
{
	struct world world;
	world_init(&world);
	keep_destroy(world.keep, false);
	world.keep = keep_create(world.registry.conf, false);
	keep_begin(world.keep, &world.registry.backends, world.workers, 2);
	keep_tick(world.keep, &world.registry.backends);
	assert_int_equal(open_file(&world), -1);
	world_fini(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_process_finds_health_and_totals),
		cmocka_unit_test(the_next_process_finds_what_was_set_by_hand),
		cmocka_unit_test(the_next_process_finds_the_whole_reason),
		cmocka_unit_test(the_next_process_finds_the_verdict_by_connects),
		cmocka_unit_test(what_is_told_is_kept_at_once),
		cmocka_unit_test(a_service_keeps_the_connections_of_who_is_gone),
		cmocka_unit_test(totals_are_written_in_turn),
		cmocka_unit_test(all_are_written_at_the_end),
		cmocka_unit_test(a_change_is_written_alone),
		cmocka_unit_test(a_damaged_row_is_nobody),
		cmocka_unit_test(a_file_of_another_boot_is_not_taken),
		cmocka_unit_test(nothing_is_kept_unless_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
