/* SPDX-License-Identifier: BSD-3-Clause */
/* What a process leaves of its backends, and what the next one finds. In /run/weir, so root's. */
#include "app_test.h"

#include <fcntl.h>

#include "clock.h"
#include "dev.h"
#include "keep.h"

#define BACKENDS 300
#define ROWS_AT 4096
#define ROW_SIZE 512
#define SLICE 128 // rows that a tick writes

struct world {
	struct registry registry;
	struct keep *keep;
	uint64_t opened; // connections of each backend, beside its id
};

static void count(void *context, uint32_t id, struct stats_backend *sum)
{
	const struct world *world = context;

	*sum = (struct stats_backend){.opened = world->opened + id};
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
	world->registry.backends.context = world;
	for (uint32_t id = 0; id < BACKENDS; id++) {
		struct control_backend *backend = world->registry.backends.by_id[id];
		backend->health.state = id % 3 ? HEALTH_UP : HEALTH_DOWN;
		backend->health.since_ms = clock_ms();
		snprintf(backend->health.reason, sizeof(backend->health.reason), "reason %u", id);
	}
	world->opened = 1000;
	world->keep = keep_create(world->registry.conf, true);
	keep_begin(world->keep, &world->registry.backends);
}

static void world_fini(struct world *world)
{
	keep_destroy(world->keep, true);
	registry_end(&world->registry);
}

static const struct control_backend *backend(const struct world *world, uint32_t id)
{
	return world->registry.backends.by_id[id];
}

/* The connections that the next process finds for the backend; 0 = it knows nothing of it. */
static uint64_t opened(const struct world *world, uint32_t id)
{
	struct keep *next = keep_create(world->registry.conf, true);
	struct stats_backend totals = {0};

	keep_totals(next, backend(world, id), &totals);
	keep_destroy(next, false);
	return totals.opened;
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
		struct stats_backend totals;
		struct health_status health;
		assert_true(keep_totals(next, backend(&world, id), &totals));
		assert_true(keep_health(next, backend(&world, id), &health));
		assert_int_equal(totals.opened, 1000 + id);
		assert_int_equal(health.state, backend(&world, id)->health.state);
		assert_string_equal(health.reason, backend(&world, id)->health.reason);
	}
	keep_destroy(next, false);
	world_fini(&world);
}

static void the_next_process_finds_what_was_set_by_hand(void **state)
{
	struct world world;
	int set, weight;
	world_init(&world);
	struct control_backend *drained = world.registry.backends.by_id[3];
	struct control_backend *weighted = world.registry.backends.by_id[4];
	drained->temporary_state = CONF_STATE_DRAIN;
	weighted->temporary_state = CONF_STATE_ACTIVE;
	weighted->temporary_weight = CONF_WEIGHT_MAX;
	keep_write(world.keep, &world.registry.backends, drained);
	keep_write(world.keep, &world.registry.backends, weighted);
	struct keep *next = keep_create(world.registry.conf, true);
	keep_by_hand(next, drained, &set, &weight);
	assert_int_equal(set, CONF_STATE_DRAIN);
	assert_int_equal(weight, -1);
	keep_by_hand(next, weighted, &set, &weight);
	assert_int_equal(set, CONF_STATE_ACTIVE);
	assert_int_equal(weight, CONF_WEIGHT_MAX);
	keep_by_hand(next, backend(&world, 5), &set, &weight);
	assert_int_equal(set, -1);
	assert_int_equal(weight, -1);
	keep_destroy(next, false);
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
	keep_erase(world.keep, backend(&world, 201));
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
	off_t at = ROWS_AT + 7 * ROW_SIZE + 100;
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 4;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
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
	keep_begin(world.keep, &world.registry.backends);
	keep_tick(world.keep, &world.registry.backends);
	assert_int_equal(open_file(&world), -1);
	world_fini(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_next_process_finds_health_and_totals),
		cmocka_unit_test(the_next_process_finds_what_was_set_by_hand),
		cmocka_unit_test(totals_are_written_in_turn),
		cmocka_unit_test(all_are_written_at_the_end),
		cmocka_unit_test(a_change_is_written_alone),
		cmocka_unit_test(a_damaged_row_is_nobody),
		cmocka_unit_test(a_file_of_another_boot_is_not_taken),
		cmocka_unit_test(nothing_is_kept_unless_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
