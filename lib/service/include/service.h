/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Services and backends as the workers see them: an immutable table, published by swapping one
 * pointer. A worker loads the pointer once a burst and reports a quiescent state afterwards; the
 * old table is freed when all have.
 *
 * Only services that changed are built anew, the others are shared between tables by a count; so
 * are the keys, which only a change of the configuration touches.
 *
 * Thread rule: look-ups by any reader; build, get and put by one thread, the builder.
 */
#ifndef WEIR_SERVICE_H
#define WEIR_SERVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "addr.h"
#include "scheduler.h"

struct service_access;
struct snat;
struct snat_pool;

#define SERVICE_NONE UINT32_MAX
#define SERVICE_NO_TAG UINT32_MAX // no id is that high
#define SERVICE_ID_BITS 20
#define SERVICE_NAME_MAX 63
#define SERVICE_STATES 10 // of a flow: enum tcp_state of the flow table's module

/* One backend of one service, by its id: what the packet path needs, on one line. */
struct service_backend {
	uint32_t tag; // generation << SERVICE_ID_BITS | id as in a flow, SERVICE_NO_TAG when not
		      // resolved; filled in by service_table_create()
	uint32_t generation;     // of the id; 12 bits
	uint32_t service;        // index in struct service_table; SERVICE_NONE = that left the file
	struct net_mac next_hop; // valid when resolved
	uint16_t port;           // network byte order
	uint8_t addr[16];        // 4 or 16 bytes
	sa_family_t family;
	bool resolved;  // the next hop's MAC is known
	bool down;      // it takes no connection, as far as is known
	bool reset;     // its flows are to be ended, with a RST to both sides
	uint16_t epoch; // changes when it takes connections again; SYNs of before count for
			// nothing
	struct snat_pool *const *pools; // by SNAT address of the family, as in service_snat
	uint32_t sibling; // id of the next one with these pools, in other services, and round to
			  // itself; filled in by service_table_create()
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct service_backend) == 64, "one cache line");

/* What a connection that its backend doesn't take may cost. */
struct service_connect {
	uint32_t timeout_ms;    // silence for so long is a failure; 0 = it never is
	uint32_t retry_percent; // of the connects: those that are moved for silence
	uint8_t tries;          // backends a connection; 0 and 1 = the first one only
};

/* Backends that one schedule chooses from; immutable. */
struct service_set {
	void *schedule;   // of the service's scheduler; NULL when there is nobody
	uint32_t *limits; // connections at a time, by the scheduler's index; 0 = any number;
			  // NULL = nobody has a limit
	uint32_t *ids;    // by the scheduler's index
	uint32_t count;
};

/* A worker's own places in the schedules of one service; zeroed at first. */
struct service_cursors {
	struct scheduler_cursor candidates, backups;
};

/* One service: immutable. */
struct service {
	uint32_t references; // builder only
	char name[SERVICE_NAME_MAX + 1];
	sa_family_t family;
	bool drop_when_down; // no backend up: silence in place of RST
	struct service_connect connect;
	bool reset_when_idle; // an established flow that was idle for too long: RST to both ends
	uint16_t timeout_s[SERVICE_STATES]; // idle seconds by state; 0 = as for all services
	const struct scheduler_ops *scheduler;
	struct service_set candidates; // who gets the connections,
	struct service_access *access; // of whom; NULL = everybody's
	struct service_set backups;    // who gets what no candidate takes or has room for
};

/* Addresses that Weir uses towards backends, one list a family. */
struct service_snat {
	struct net_addr *addrs;
	uint32_t count;
};

enum service_key_kind {
	SERVICE_KEY_VIP = 1,  // address and port of a service; value: its index
	SERVICE_KEY_ENDPOINT, // address and port of a backend
	SERVICE_KEY_HOST,     // address of a backend or gateway
	SERVICE_KEY_SNAT,     // SNAT address; value: index in service_snat
};

struct service_key {
	uint64_t addr[2];
	uint32_t port; // network byte order; 0 for addresses
	uint16_t kind; // 0 = empty place
	uint16_t family;
	uint32_t value;
	int32_t count; // in a table: of those who gave it; in a list of changes: 1 = given, -1 =
		       // taken back
};

/* The places of all keys: open addressing. */
struct service_keys {
	uint32_t references; // builder only
	uint32_t nb_keys;
	uint32_t mask; // places - 1
	struct service_key places[] __attribute__((aligned(64)));
};

struct service_table {
	uint32_t nb_services;             // one beyond the highest index in use
	uint32_t nb_backends;             // one beyond the highest id
	struct service **services;        // NULL: no service has the index now
	struct service_backend *backends; // by id
	bool has_resets;                  // some backend is marked
	uint64_t reset_round;             // changes when another one is
	struct service_snat snat4;
	struct service_snat snat6;
	const struct snat *snat;        // port ranges; not owned
	const struct service_key *keys; // of key_owner
	uint32_t key_mask;
	struct service_keys *key_owner;
};

/* Hash what a key's addresses are made of; the configuration alone decides what is stored, so
 * nobody can make its collisions, and a cheap hash serves. */
static inline uint32_t service_key_hash(const uint64_t addr[2], uint32_t port, uint32_t kind)
{
	uint64_t h = (addr[0] ^ (uint64_t)port << 32 ^ kind) * 0x9e3779b97f4a7c15;

	h = (h ^ h >> 29 ^ addr[1]) * 0xbf58476d1ce4e5b9;
	return h ^ h >> 32;
}

/* Write an address of 4 or 16 bytes as a key has it: built in registers, since a load of what was
 * stored in parts waits for the stores. */
static inline void service_key_words(uint64_t words[2], sa_family_t family, const void *addr)
{
	if (family == AF_INET6) {
		memcpy(words, addr, 2 * sizeof(words[0]));
	} else {
		uint32_t word;
		memcpy(&word, addr, sizeof(word));
		words[0] = word;
		words[1] = 0;
	}
}

/* Return the key's value, or SERVICE_NONE. `addr`: 4 or 16 bytes. */
static inline uint32_t service_find(const struct service_table *table, enum service_key_kind kind,
	sa_family_t family, const void *addr, uint16_t port)
{
	uint64_t words[2];

	service_key_words(words, family, addr);
	for (uint32_t at = service_key_hash(words, port, kind);; at++) {
		const struct service_key *key = &table->keys[at & table->key_mask];
		if (key->kind == 0)
			return SERVICE_NONE;
		if (key->addr[0] == words[0] && key->addr[1] == words[1] && key->port == port &&
			key->kind == kind && key->family == family)
			return key->value;
	}
}

static inline const struct service_snat *service_snat(
	const struct service_table *table, sa_family_t family)
{
	return family == AF_INET6 ? &table->snat6 : &table->snat4;
}

/* --- building --- */

/* What a schedule is built of: ids of usable backends, and what belongs to each. */
struct service_choices {
	uint32_t *ids;
	struct scheduler_backend *weights;
	uint32_t *limits; // as in struct service_set; NULL = none
	uint32_t count;
};

/* What a service is made of. Arrays are copied, of `access` a reference is taken. */
struct service_source {
	const char *name;
	sa_family_t family;
	bool drop_when_down;
	struct service_connect connect;
	bool reset_when_idle;
	uint16_t timeout_s[SERVICE_STATES];
	const struct scheduler_ops *scheduler;
	struct service_choices candidates;
	struct service_choices backups; // only where there are candidates
	struct service_access *access;  // NULL = everybody may connect
};

/* Create a service with one reference, the caller's. NULL and errno on failure. */
struct service *service_create(const struct service_source *source);
/* Take one more reference. By one thread at a time, as service_put(). */
struct service *service_get(struct service *service);
/* Give a reference back; the last one frees the service. service_put(NULL) is fine. */
void service_put(struct service *service);

/* What a table is made of. Arrays are copied, of services and shared keys a reference is taken. */
struct service_table_source {
	struct service *const *services; // may hold NULL
	uint32_t nb_services;
	const struct service_backend *backends;
	uint32_t nb_backends;
	uint64_t reset_round;
	struct service_snat snat4, snat6;
	const struct snat *snat;
	struct service_keys *shared_keys; // NULL: made of `keys`
	// As by service_key_set(); of a key given twice the first value counts.
	const struct service_key *keys;
	uint32_t nb_keys;
};

/* Create a set of keys with one reference, the caller's. NULL and errno on failure. */
struct service_keys *service_keys_create(const struct service_key *keys, uint32_t nb_keys);
void service_keys_put(struct service_keys *keys);

/* Copy a set of keys with the changes, in their order: each key is there as long as it was given
 * more often than taken back. One reference, the caller's. NULL and errno on failure. */
struct service_keys *service_keys_change(
	const struct service_keys *from, const struct service_key *changes, uint32_t nb_changes);

/* Fill in a key that is given. `addr` has the family; `port` in network byte order. */
void service_key_set(struct service_key *key, enum service_key_kind kind,
	const struct net_addr *addr, uint16_t port, uint32_t value);

/* Create a table. NULL and errno on failure. */
struct service_table *service_table_create(const struct service_table_source *source);
/* Free a table that no reader can have any more. service_table_destroy(NULL) is fine. */
void service_table_destroy(struct service_table *table);

#endif
