/* SPDX-License-Identifier: BSD-3-Clause */
/* E7: whose flows go where when the kernel says that neighbours have other MACs, and how often the
 * tables are walked, on a virtual clock. The test is kernel and worker. */
#include "app_test.h"

#include <event2/event.h>

#include "flow_moves.h"
#include "macs.h"

#define FLOWS 200
#define PERIOD_MS 100

struct world {
	struct event_base *events;
	struct conf conf;
	struct macs *macs;
	struct flow_moves *moves;
	uint64_t now_ms;
	bool is_stuck; // the worker doesn't walk
	struct flow4 flows[FLOWS];
	unsigned nb_flows;
};

static void start(struct world *world, bool persists)
{
	static char instance[32];

	snprintf(instance, sizeof(instance), "m%d", getpid());
	world->conf.instance = instance;
	world->conf.flows_persist = persists;
	world->events = event_base_new();
	world->macs = macs_create(world->events, 1, &world->conf);
	assert_non_null(world->macs);
	world->moves = macs_moves(world->macs);
}

static struct world *create(void)
{
	struct world *world = aligned_alloc(64, sizeof(*world));

	memset(world, 0, sizeof(*world));
	world->now_ms = 1000000;
	start(world, false);
	return world;
}

static void stop(struct world *world, bool remove)
{
	macs_destroy(world->macs, remove);
	event_base_free(world->events);
}

static void destroy(struct world *world)
{
	stop(world, true);
	free(world);
}

static struct net_addr addr_of(const char *text)
{
	struct net_addr addr;

	assert_int_equal(net_addr_parse(&addr, text), 0);
	return addr;
}

/* MACs are letters here. */
static struct net_mac mac_of(uint8_t letter)
{
	return (struct net_mac){{2, 0, 0, 0, 0, letter}};
}

static void hear(struct world *world, const char *text, uint8_t letter)
{
	struct net_addr addr = addr_of(text);
	struct net_mac mac = mac_of(letter);

	macs_heard(world->macs, &addr, &mac);
}

static void gateway(struct world *world, const char *text, char letter)
{
	struct net_addr addr = addr_of(text);

	macs_gateway(world->macs, &addr);
	hear(world, text, letter);
}

/* A flow of the client, which sent from that MAC last. */
static unsigned flow(struct world *world, const char *client, char letter)
{
	struct flow4 *record = &world->flows[world->nb_flows];

	record->addr[FLOW_CLIENT] = addr_of(client).v4;
	record->flow.client_mac = mac_of(letter);
	record->flow.worker = 5;
	return world->nb_flows++;
}

static uint8_t letter_of(const struct world *world, unsigned flow)
{
	assert_int_equal(world->flows[flow].flow.worker, 5);
	return world->flows[flow].flow.client_mac.bytes[5];
}

/* What a worker does in a tick. */
static void walk(struct world *world)
{
	uint64_t round = flow_moves_due(world->moves, 0);

	if (round == 0 || world->is_stuck)
		return;
	for (unsigned i = 0; i < world->nb_flows; i++)
		flow_moves_apply(world->moves, &world->flows[i].flow, AF_INET);
	flow_moves_walked(world->moves, 0, round);
}

/* Time goes by, millisecond by millisecond. */
static void turn(struct world *world, unsigned ms)
{
	for (unsigned i = 0; i < ms; i++) {
		macs_work(world->macs, world->now_ms);
		walk(world);
		world->now_ms++;
	}
}

static void a_neighbours_flows_follow_it(void **state)
{
	struct world *world = create();

	hear(world, "192.0.2.7", 'A');
	turn(world, 1);
	assert_int_equal(world->moves->round, 0); // it is no change
	unsigned own = flow(world, "192.0.2.7", 'A');
	unsigned other = flow(world, "192.0.2.8", 'C');
	unsigned by_itself = flow(world, "192.0.2.7", 'D'); // it sends from another one, always
	hear(world, "192.0.2.7", 'A');
	turn(world, 1);
	assert_int_equal(world->moves->round, 0);
	hear(world, "192.0.2.7", 'B');
	turn(world, 1);
	assert_int_equal(letter_of(world, own), 'B');
	assert_int_equal(letter_of(world, other), 'C');
	assert_int_equal(letter_of(world, by_itself), 'D');
	turn(world, 1000);
	assert_int_equal(world->moves->round, 1);
	destroy(world);
}

static void clients_behind_a_gateway_follow_it(void **state)
{
	struct world *world = create();

	// As keepalived does: the router's own address and the gateway's are at one MAC.
	gateway(world, "192.0.2.1", 'A');
	hear(world, "192.0.2.2", 'A');
	hear(world, "192.0.2.3", 'B');
	unsigned behind = flow(world, "198.51.100.9", 'A');
	unsigned router = flow(world, "192.0.2.2", 'A');
	unsigned unheard = flow(world, "192.0.2.50", 'A'); // by proxy ARP
	hear(world, "192.0.2.1", 'B');
	turn(world, 1);
	assert_int_equal(letter_of(world, behind), 'B');
	assert_int_equal(letter_of(world, unheard), 'B');
	assert_int_equal(letter_of(world, router), 'A'); // decides for itself
	hear(world, "192.0.2.1", 'A');                   // and back
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, behind), 'A');
	// It isn't the gateway's address that moves now.
	hear(world, "192.0.2.2", 'C');
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, router), 'C');
	assert_int_equal(letter_of(world, behind), 'A');
	destroy(world);
}

static void of_two_gateways_at_one_mac_the_last_is_followed(void **state)
{
	struct world *world = create();

	gateway(world, "192.0.2.1", 'A');
	gateway(world, "192.0.2.2", 'A');
	unsigned behind = flow(world, "198.51.100.9", 'A');
	hear(world, "192.0.2.1", 'B');
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, behind), 'A'); // the other one still forwards
	hear(world, "192.0.2.2", 'B');
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, behind), 'B');
	destroy(world);
}

static void a_router_that_nobody_named_is_followed_if_it_is_alone(void **state)
{
	struct world *world = create();

	hear(world, "192.0.2.1", 'A');
	hear(world, "192.0.2.11", 'E'); // one host with two addresses
	hear(world, "192.0.2.12", 'E');
	unsigned behind = flow(world, "198.51.100.9", 'A');
	unsigned unknown = flow(world, "198.51.100.9", 'E');
	unsigned moved = flow(world, "192.0.2.11", 'E'), stays = flow(world, "192.0.2.12", 'E');
	hear(world, "192.0.2.1", 'B');
	hear(world, "192.0.2.11", 'F');
	turn(world, 1);
	assert_int_equal(letter_of(world, behind), 'B');
	assert_int_equal(letter_of(world, moved), 'F');
	assert_int_equal(letter_of(world, stays), 'E');
	assert_int_equal(letter_of(world, unknown), 'E');
	destroy(world);
}

/* A router whose IPv4 address moves away, and who keeps the IPv6 one. */
static void each_family_has_its_routers(void **state)
{
	struct world *world = create();

	gateway(world, "192.0.2.1", 'A');
	gateway(world, "2001:db8::1", 'A');
	unsigned behind = flow(world, "198.51.100.1", 'A');
	hear(world, "2001:db8::1", 'B');
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, behind), 'A');
	hear(world, "192.0.2.1", 'C');
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, behind), 'C');
	// Where no IPv4 neighbour is known it is the IPv6 one's (RFC 8950).
	unsigned other = flow(world, "198.51.100.1", 'B');
	hear(world, "2001:db8::1", 'D');
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, other), 'D');
	destroy(world);
}

static void a_swap_is_no_chain(void **state)
{
	struct world *world = create();

	hear(world, "192.0.2.7", 'A');
	hear(world, "192.0.2.8", 'B');
	gateway(world, "192.0.2.1", 'G');
	gateway(world, "192.0.2.2", 'H');
	unsigned first = flow(world, "192.0.2.7", 'A'), second = flow(world, "192.0.2.8", 'B');
	unsigned behind1 = flow(world, "198.51.100.1", 'G');
	unsigned behind2 = flow(world, "198.51.100.2", 'H');
	hear(world, "192.0.2.7", 'B');
	hear(world, "192.0.2.8", 'A');
	hear(world, "192.0.2.1", 'H');
	hear(world, "192.0.2.2", 'G');
	turn(world, 1);
	assert_int_equal(world->moves->round, 1);
	assert_int_equal(letter_of(world, first), 'B');
	assert_int_equal(letter_of(world, second), 'A');
	assert_int_equal(letter_of(world, behind1), 'H');
	assert_int_equal(letter_of(world, behind2), 'G');
	destroy(world);
}

/* Flows may have any of the MACs that it had since the last walk, by their client's packets. */
static void there_and_on_and_back_between_two_walks(void **state)
{
	struct world *world = create();

	gateway(world, "192.0.2.1", 'A');
	unsigned in_a = flow(world, "198.51.100.1", 'A'), in_b = flow(world, "198.51.100.2", 'B');
	hear(world, "192.0.2.1", 'B');
	hear(world, "192.0.2.1", 'C');
	turn(world, 1);
	assert_int_equal(letter_of(world, in_a), 'C');
	assert_int_equal(letter_of(world, in_b), 'C');
	in_b = flow(world, "198.51.100.3", 'B');
	hear(world, "192.0.2.1", 'B');
	unsigned in_d = flow(world, "198.51.100.4", 'D');
	hear(world, "192.0.2.1", 'D');
	hear(world, "192.0.2.1", 'C');
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, in_a), 'C');
	assert_int_equal(letter_of(world, in_b), 'C');
	assert_int_equal(letter_of(world, in_d), 'C');
	destroy(world);
}

static void a_flood_costs_a_walk_in_100_ms(void **state)
{
	struct world *world = create();
	char text[NET_ADDR_TEXT];
	uint64_t began_ms = 0, rounds = 0;

	for (unsigned i = 0; i < FLOWS; i++) {
		snprintf(text, sizeof(text), "192.0.2.%u", i + 1);
		hear(world, text, 1);
		flow(world, text, 1);
	}
	for (unsigned ms = 0; ms < 1000; ms++) {
		// 50,000 changes a second.
		for (unsigned i = 0; i < 50; i++) {
			snprintf(text, sizeof(text), "192.0.2.%u", (ms * 50 + i) % FLOWS + 1);
			hear(world, text, ms * 50 / FLOWS % 250 + 2);
		}
		turn(world, 1);
		if (world->moves->round == rounds)
			continue;
		assert_true(began_ms == 0 || world->now_ms >= began_ms + PERIOD_MS);
		began_ms = world->now_ms;
		rounds = world->moves->round;
	}
	assert_int_equal(rounds, 10);
	turn(world, PERIOD_MS + 1);
	assert_int_equal(world->moves->round, 11);
	for (unsigned i = 0; i < FLOWS; i++)
		assert_int_equal(letter_of(world, i), 249 % 250 + 2);
	turn(world, 1000);
	assert_int_equal(world->moves->round, 11);
	destroy(world);
}

/* A worker takes its time, and no change is lost. */
static void a_walk_begins_when_the_last_one_is_over(void **state)
{
	struct world *world = create();

	hear(world, "192.0.2.7", 'A');
	unsigned own = flow(world, "192.0.2.7", 'A');
	world->is_stuck = true;
	hear(world, "192.0.2.7", 'B');
	turn(world, 1000);
	hear(world, "192.0.2.7", 'C');
	turn(world, 1000);
	assert_int_equal(world->moves->round, 1);
	assert_int_equal(letter_of(world, own), 'A');
	world->is_stuck = false;
	turn(world, 1); // the worker's turn came last
	assert_int_equal(letter_of(world, own), 'B');
	turn(world, 1);
	assert_int_equal(world->moves->round, 2);
	assert_int_equal(letter_of(world, own), 'C');
	destroy(world);
}

/* 5,000 of them: the oldest are forgotten, the gateway never. */
/* A reset is about to be sent, which is to reach the client where it is. */
static void who_is_in_a_hurry_does_not_wait_for_100_ms(void **state)
{
	struct world *world = create();

	macs_hurry(world->macs, world->now_ms); // nothing to walk for
	assert_int_equal(world->moves->round, 0);
	hear(world, "192.0.2.7", 'A');
	hear(world, "192.0.2.8", 'C');
	unsigned first = flow(world, "192.0.2.7", 'A'), second = flow(world, "192.0.2.8", 'C');
	hear(world, "192.0.2.7", 'B');
	turn(world, 10);
	assert_int_equal(letter_of(world, first), 'B');
	hear(world, "192.0.2.8", 'D');
	turn(world, 10);
	assert_int_equal(letter_of(world, second), 'C');
	macs_hurry(world->macs, world->now_ms);
	walk(world);
	assert_int_equal(letter_of(world, second), 'D');
	turn(world, 1000);
	assert_int_equal(world->moves->round, 2);
	// While a walk is under way there is no other one.
	world->is_stuck = true;
	hear(world, "192.0.2.7", 'E');
	turn(world, 10);
	hear(world, "192.0.2.8", 'F');
	macs_hurry(world->macs, world->now_ms);
	assert_int_equal(world->moves->round, 3);
	destroy(world);
}

static void more_neighbours_than_are_remembered(void **state)
{
	struct world *world = create();
	char text[NET_ADDR_TEXT];

	gateway(world, "192.0.2.1", 'A');
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(text, sizeof(text), "10.0.%u.%u", i / 250, i % 250 + 1);
		hear(world, text, 'M');
	}
	unsigned behind = flow(world, "198.51.100.1", 'A');
	unsigned old = flow(world, "10.0.0.1", 'M'), recent = flow(world, "10.0.19.250", 'M');
	hear(world, "192.0.2.1", 'B');
	hear(world, "10.0.0.1", 'N');
	hear(world, "10.0.19.250", 'N');
	turn(world, 2 * PERIOD_MS);
	assert_int_equal(letter_of(world, behind), 'B');
	assert_int_equal(letter_of(world, recent), 'N');
	assert_int_equal(letter_of(world, old), 'M');
	// All of them at once, behind one router that moves.
	for (unsigned i = 1000; i < 5000; i++) {
		snprintf(text, sizeof(text), "10.0.%u.%u", i / 250, i % 250 + 1);
		hear(world, text, 'P');
	}
	turn(world, 3 * PERIOD_MS);
	assert_int_equal(letter_of(world, recent), 'P');
	destroy(world);
}

static void the_next_process_knows_where_a_neighbour_was(void **state)
{
	struct world *world = create();

	stop(world, true);
	start(world, true);
	gateway(world, "192.0.2.1", 'A');
	hear(world, "2001:db8::7", 'A');
	stop(world, false);
	start(world, true);
	unsigned behind = flow(world, "198.51.100.1", 'A');
	gateway(world, "192.0.2.1", 'B');
	turn(world, 1);
	assert_int_equal(letter_of(world, behind), 'B');
	// One that dies before its walk leaves the flows' MAC.
	world->is_stuck = true;
	hear(world, "192.0.2.1", 'C');
	turn(world, 2 * PERIOD_MS);
	hear(world, "192.0.2.1", 'D');
	stop(world, false);
	world->is_stuck = false;
	start(world, true);
	gateway(world, "192.0.2.1", 'D');
	turn(world, 1);
	assert_int_equal(letter_of(world, behind), 'D');
	stop(world, true);
	start(world, true);
	gateway(world, "192.0.2.1", 'E');
	turn(world, 1);
	assert_int_equal(letter_of(world, behind), 'D'); // nothing was left
	destroy(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_neighbours_flows_follow_it),
		cmocka_unit_test(clients_behind_a_gateway_follow_it),
		cmocka_unit_test(of_two_gateways_at_one_mac_the_last_is_followed),
		cmocka_unit_test(a_router_that_nobody_named_is_followed_if_it_is_alone),
		cmocka_unit_test(each_family_has_its_routers),
		cmocka_unit_test(a_swap_is_no_chain),
		cmocka_unit_test(there_and_on_and_back_between_two_walks),
		cmocka_unit_test(a_flood_costs_a_walk_in_100_ms),
		cmocka_unit_test(a_walk_begins_when_the_last_one_is_over),
		cmocka_unit_test(who_is_in_a_hurry_does_not_wait_for_100_ms),
		cmocka_unit_test(more_neighbours_than_are_remembered),
		cmocka_unit_test(the_next_process_knows_where_a_neighbour_was),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
