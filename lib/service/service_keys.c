/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The places of keys: open addressing with linear probing. A key may be given by several owners (a
 * host of many backends) and is there until the last of them has taken it back, so each counts.
 */
#include "service.h"

#include <errno.h>
#include <stdlib.h>

#define PLACES_MIN 16

void service_key_set(struct service_key *key, enum service_key_kind kind,
	const struct net_addr *addr, uint16_t port, uint32_t value)
{
	memset(key, 0, sizeof(*key));
	service_key_words(key->addr, addr->family, addr->v6);
	key->port = port;
	key->kind = kind;
	key->family = addr->family;
	key->value = value;
	key->count = 1;
}

static uint32_t home_of(const struct service_keys *keys, const struct service_key *key)
{
	return service_key_hash(key->addr, key->port, key->kind) & keys->mask;
}

/* Where the key is, or the empty place where it belongs. */
static uint32_t place_of(const struct service_keys *keys, const struct service_key *key)
{
	uint32_t at = home_of(keys, key);

	for (; keys->places[at].kind != 0; at = (at + 1) & keys->mask) {
		const struct service_key *other = &keys->places[at];
		if (other->addr[0] == key->addr[0] && other->addr[1] == key->addr[1] &&
			other->port == key->port && other->kind == key->kind &&
			other->family == key->family)
			break;
	}
	return at;
}

static void insert(struct service_keys *keys, const struct service_key *key)
{
	struct service_key *place = &keys->places[place_of(keys, key)];

	if (place->kind != 0) {
		place->count += key->count;
		return;
	}
	*place = *key;
	keys->nb_keys++;
}

/* What stands behind it moves up, so that no look-up ends too early (Knuth 6.4, algorithm R). */
static void empty(struct service_keys *keys, uint32_t hole)
{
	for (uint32_t at = (hole + 1) & keys->mask; keys->places[at].kind != 0;
		at = (at + 1) & keys->mask) {
		uint32_t home = home_of(keys, &keys->places[at]);
		// It may move to the hole unless its home lies between the two.
		if (((at - home) & keys->mask) < ((at - hole) & keys->mask))
			continue;
		keys->places[hole] = keys->places[at];
		hole = at;
	}
	memset(&keys->places[hole], 0, sizeof(keys->places[hole]));
	keys->nb_keys--;
}

static void take_back(struct service_keys *keys, const struct service_key *key)
{
	uint32_t at = place_of(keys, key);

	if (keys->places[at].kind != 0 && --keys->places[at].count == 0)
		empty(keys, at);
}

/* At most half full. */
static uint32_t places_for(uint32_t nb_keys)
{
	uint32_t places = PLACES_MIN;

	while (places < nb_keys * 2)
		places *= 2;
	return places;
}

static struct service_keys *create(uint32_t places)
{
	struct service_keys *keys;

	if (posix_memalign((void **)&keys, 64,
		    sizeof(*keys) + (size_t)places * sizeof(keys->places[0])) != 0) {
		errno = ENOMEM;
		return NULL;
	}
	keys->references = 1;
	keys->nb_keys = 0;
	keys->mask = places - 1;
	return keys;
}

static void clear_places(struct service_keys *keys)
{
	memset(keys->places, 0, ((size_t)keys->mask + 1) * sizeof(keys->places[0]));
}

struct service_keys *service_keys_create(const struct service_key *keys, uint32_t nb_keys)
{
	struct service_keys *made = create(places_for(nb_keys));

	if (made == NULL)
		return NULL;
	clear_places(made);
	for (uint32_t i = 0; i < nb_keys; i++)
		insert(made, &keys[i]);
	return made;
}

struct service_keys *service_keys_change(
	const struct service_keys *from, const struct service_key *changes, uint32_t nb_changes)
{
	uint32_t places = places_for(from->nb_keys + nb_changes);
	struct service_keys *made;

	// A table that has become too large by a little stays as it is: the copy is cheaper.
	if (places < from->mask + 1 && places > (from->mask + 1) / 8)
		places = from->mask + 1;
	made = create(places);
	if (made == NULL)
		return NULL;
	if (places == from->mask + 1) {
		memcpy(made->places, from->places, places * sizeof(made->places[0]));
		made->nb_keys = from->nb_keys;
	} else {
		clear_places(made);
		for (uint32_t at = 0; at <= from->mask; at++)
			if (from->places[at].kind != 0)
				insert(made, &from->places[at]);
	}
	for (uint32_t i = 0; i < nb_changes; i++) {
		if (changes[i].count > 0)
			insert(made, &changes[i]);
		else
			take_back(made, &changes[i]);
	}
	return made;
}

void service_keys_put(struct service_keys *keys)
{
	if (keys != NULL && --keys->references == 0)
		free(keys);
}
