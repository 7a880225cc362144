/* SPDX-License-Identifier: BSD-3-Clause */
#include "keep.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends.h"
#include "clock.h"
#include "dev.h"
#include "id_pool.h"
#include "kept_rows.h"
#include "log.h"
#include "own_file.h"
#include "worker.h"

#define ROUND_MS 1000
#define SLICE_MS 20

_Static_assert(KEPT_REASON + KEPT_REASON_REST >= HEALTH_REASON_TEXT - 1, "a reason fits");

/* What the former process left of a backend, and of a service. */
struct former_backend {
	struct kept_backend row;
	bool is_taken; // its totals go on
};

struct former_service {
	struct kept_service row;
};

struct keep {
	char path[128];
	int fd;                    // -1 = nothing is written
	bool failed;               // said so
	void *backends, *services; // tsearch(3) of what the former process left
	struct stats_counters workers[STATS_WORKERS_MAX]; // likewise
	bool has_past; // of services: what of their backends nobody took is added
	uint32_t next; // block of the next tick
	// Under `lock`: what follows, and that no older row is written over a newer one.
	pthread_mutex_t lock;
	const struct worker *running;
	unsigned nb_running;
	uint64_t *connections;              // by backend id: what its row says
	struct kept_cell cells[KEPT_BLOCK]; // being written
	struct kept_worker_cell worker;
};

static void make_path(const struct conf *conf, char path[128])
{
	char name[80];

	snprintf(path, 128, OWN_RUN_DIRECTORY "/%s.backends", dev_instance_name(conf, name));
}

static int compare_backends(const void *a, const void *b)
{
	const struct former_backend *first = a, *second = b;
	int order = strcmp(first->row.service, second->row.service);

	return order != 0 ? order
			  : net_endpoint_compare(&first->row.endpoint, &second->row.endpoint);
}

static int compare_services(const void *a, const void *b)
{
	const struct former_service *first = a, *second = b;

	return strcmp(first->row.name, second->row.name);
}

/* --- what was left --- */

static void take_backend(void *context, const struct kept_backend *row)
{
	struct keep *keep = context;
	struct former_backend *copy;

	if (row->health > HEALTH_DOWN || row->since_ms > clock_ms() ||
		(copy = aligned_alloc(_Alignof(struct former_backend), sizeof(*copy))) == NULL)
		return;
	copy->row = *row;
	copy->is_taken = false;
	void *found = tsearch(copy, &keep->backends, compare_backends);
	if (found == NULL || *(struct former_backend **)found != copy)
		free(copy);
}

static struct former_service *add_service(struct keep *keep, const struct kept_service *row)
{
	struct former_service *copy = malloc(sizeof(*copy));

	if (copy == NULL)
		return NULL;
	copy->row = *row;
	struct former_service **found = tsearch(copy, &keep->services, compare_services);
	if (found == NULL || *found != copy)
		free(copy);
	return found == NULL ? NULL : *found;
}

static void take_service(void *context, const struct kept_service *row)
{
	add_service(context, row);
}

static void take_worker(void *context, unsigned worker, const struct stats_counters *counters)
{
	struct keep *keep = context;

	keep->workers[worker] = *counters;
}

static void read_rows(struct keep *keep, int fd)
{
	int err = kept_rows_read(fd,
		&(struct kept_reader){
			.backend = take_backend,
			.service = take_service,
			.worker = take_worker,
			.context = keep,
		});

	if (err == -EINVAL)
		log_warning("%s isn't taken: it is of another version or boot; backends are probed "
			    "anew",
			keep->path);
	else if (err < 0)
		log_warning("%s: %s; backends are probed anew", keep->path, strerror(-err));
}

struct keep *keep_create(const struct conf *conf, bool persist)
{
	struct keep *keep = aligned_alloc(_Alignof(struct keep), sizeof(*keep));

	if (keep == NULL)
		return NULL;
	memset(keep, 0, sizeof(*keep));
	keep->fd = -1;
	pthread_mutex_init(&keep->lock, NULL);
	keep->connections = calloc(BACKENDS_IDS_MAX, sizeof(*keep->connections));
	if (keep->connections == NULL) {
		keep_destroy(keep, false);
		return NULL;
	}
	make_path(conf, keep->path);
	if (!persist) {
		own_file_remove(keep->path);
		keep->path[0] = '\0';
		return keep;
	}
	int fd = own_file_open(keep->path, O_RDONLY, false);
	if (fd >= 0) {
		read_rows(keep, fd);
		close(fd);
	}
	return keep;
}

void keep_destroy(struct keep *keep, bool remove)
{
	if (keep == NULL)
		return;
	if (keep->fd >= 0) {
		close(keep->fd);
		if (remove)
			own_file_remove(keep->path);
	}
	tdestroy(keep->backends, free);
	tdestroy(keep->services, free);
	free(keep->connections);
	pthread_mutex_destroy(&keep->lock);
	free(keep);
}

void keep_remove(const struct conf *conf)
{
	char path[128];

	make_path(conf, path);
	own_file_remove(path);
}

static struct former_backend *find(const struct keep *keep, const struct control_backend *backend)
{
	struct former_backend key = {.row.endpoint = backend->conf.endpoint};

	if (keep == NULL)
		return NULL;
	strcpy(key.row.service, backend->service->name);
	struct former_backend **found = tfind(&key, &keep->backends, compare_backends);
	return found == NULL ? NULL : *found;
}

static struct former_service *find_service(const struct keep *keep, const char *name)
{
	struct former_service key;

	memset(&key, 0, sizeof(key));
	snprintf(key.row.name, sizeof(key.row.name), "%s", name);
	struct former_service **found = tfind(&key, &keep->services, compare_services);
	return found == NULL ? NULL : *found;
}

/* Whether its connections are among its service's already: it was about to be erased. */
static bool is_erased(const struct keep *keep, const struct former_backend *former)
{
	const struct former_service *service = find_service(keep, former->row.service);

	return service != NULL && service->row.erased != 0 &&
		service->row.erased == former->row.whole;
}

bool keep_health(const struct keep *keep, const struct control_backend *backend,
	struct health_status *status)
{
	const struct former_backend *former = find(keep, backend);

	if (former == NULL)
		return false;
	*status = (struct health_status){.state = former->row.health,
		.since_ms = former->row.since_ms,
		.connects = former->row.connects};
	snprintf(status->reason, sizeof(status->reason), "%s%.*s", former->row.reason,
		KEPT_REASON_REST, former->row.reason_rest);
	return true;
}

bool keep_passive(const struct keep *keep, const struct control_backend *backend,
	struct passive_verdict *verdict)
{
	const struct former_backend *former = find(keep, backend);

	if (former == NULL || former->row.passive_since_ms == 0)
		return false;
	const struct kept_backend *row = &former->row;
	*verdict = (struct passive_verdict){
		.since_ms = row->passive_since_ms,
		.retry_at_ms = row->passive_since_ms + row->passive_retry_ms,
		.probe_at_ms = row->passive_since_ms + row->passive_probe_ms,
		.times = row->passive_times,
		.fails = row->passive_fails,
		.refused = row->passive_how & KEPT_REFUSED,
		.timed_out = row->passive_how & KEPT_TIMED_OUT,
	};
	return true;
}

void keep_by_hand(const struct keep *keep, const struct control_backend *backend, int *state,
	int *weight, struct hand *hand)
{
	const struct former_backend *former = find(keep, backend);

	*state = *weight = -1;
	memset(hand, 0, sizeof(*hand));
	if (former == NULL)
		return;
	const struct kept_backend *row = &former->row;
	if (row->hand_state <= CONF_STATE_DISABLED + 1)
		*state = row->hand_state - 1;
	if (row->hand_weight <= CONF_WEIGHT_MAX + 1)
		*weight = row->hand_weight - 1;
	*hand = (struct hand){row->set_ms, row->set_pid, row->set_uid, row->set_login};
}

bool keep_totals(
	struct keep *keep, const struct control_backend *backend, struct keep_totals *totals)
{
	struct former_backend *former = find(keep, backend);

	memset(totals, 0, sizeof(*totals));
	if (former == NULL || is_erased(keep, former))
		return false;
	const struct kept_backend *row = &former->row;
	former->is_taken = true;
	totals->packets = row->totals;
	totals->connections = row->connections;
	totals->connects.refused = row->refused;
	totals->connects.timed_out = row->timed_out;
	totals->connects.moved_away = row->moved_away;
	totals->connects.syn_not_kept = row->syn_not_kept;
	totals->connects.challenged = row->challenged;
	memcpy(totals->connects.times, row->times, sizeof(row->times));
	return true;
}

/* What its service has of a backend that is no more. A version before this one has no rows of
 * services. */
static void add_past(const void *node, VISIT visit, void *context)
{
	struct keep *keep = context;
	struct former_backend *former = *(struct former_backend *const *)node;
	struct former_service *service;
	struct kept_service none;

	if ((visit != postorder && visit != leaf) || former->is_taken || is_erased(keep, former))
		return;
	former->is_taken = true;
	service = find_service(keep, former->row.service);
	if (service == NULL) {
		memset(&none, 0, sizeof(none));
		strcpy(none.name, former->row.service);
		service = add_service(keep, &none);
	}
	if (service != NULL)
		service->row.past_connections += former->row.connections;
}

void keep_service_totals(struct keep *keep, const char *service, struct stats_service *totals,
	uint64_t *past_connections)
{
	memset(totals, 0, sizeof(*totals));
	*past_connections = 0;
	if (keep == NULL)
		return;
	if (!keep->has_past)
		twalk_r(keep->backends, add_past, keep);
	keep->has_past = true;
	const struct former_service *former = find_service(keep, service);
	if (former == NULL)
		return;
	*totals = former->row.totals;
	*past_connections = former->row.past_connections;
}

void keep_worker_totals(const struct keep *keep, unsigned worker, unsigned nb_workers,
	struct stats_counters *counters)
{
	if (keep == NULL)
		return;
	stats_add(counters, &keep->workers[worker]);
	for (unsigned w = nb_workers; worker == 0 && w < STATS_WORKERS_MAX; w++)
		stats_add(counters, &keep->workers[w]);
}

/* --- what runs now --- */

static void note(struct keep *keep, int err)
{
	if (err == 0 || keep->failed)
		return;
	keep->failed = true;
	log_warning(
		"%s: %s; what the probes know won't survive a restart", keep->path, strerror(-err));
}

static void fill_connects(struct kept_backend *row, const struct backends *backends,
	const struct control_backend *backend)
{
	struct stats_connect connects;

	control_backend_count_connects(backends, backend, &connects);
	row->refused = connects.refused;
	row->timed_out = connects.timed_out;
	row->moved_away = connects.moved_away;
	row->syn_not_kept = connects.syn_not_kept;
	row->challenged = connects.challenged;
	memcpy(row->times, connects.times, sizeof(row->times));
}

static void fill_passive(struct kept_backend *row, const struct control_backend *backend)
{
	const struct passive_verdict *verdict = &backend->passive.verdict;

	if (!backend->passive.is_out)
		return;
	row->passive_since_ms = verdict->since_ms;
	row->passive_retry_ms = verdict->retry_at_ms - verdict->since_ms;
	row->passive_probe_ms = verdict->probe_at_ms - verdict->since_ms;
	row->passive_times = verdict->times < UINT8_MAX ? verdict->times : UINT8_MAX;
	row->passive_fails = verdict->fails < UINT16_MAX ? verdict->fails : UINT16_MAX;
	row->passive_how =
		(verdict->refused ? KEPT_REFUSED : 0) | (verdict->timed_out ? KEPT_TIMED_OUT : 0);
}

static void fill_hand(struct kept_backend *row, const struct control_backend *backend)
{
	row->hand_state = backend->temporary_state + 1;
	row->hand_weight = backend->temporary_weight + 1;
	row->set_ms = backend->hand.set_ms;
	row->set_pid = backend->hand.pid;
	row->set_uid = backend->hand.uid;
	row->set_login = backend->hand.login;
}

/* backend NULL: a row that says that there is none. */
static void fill(struct keep *keep, struct kept_cell *cell, const struct backends *backends,
	const struct control_backend *backend)
{
	struct kept_backend *row = &cell->copies[0].backend;

	memset(cell, 0, sizeof(*cell)); // what lies between the fields, too
	if (backend == NULL)
		return;
	const char *reason = backend->health.reason;
	size_t length = strnlen(reason, sizeof(backend->health.reason));
	strcpy(row->service, backend->service->name);
	row->endpoint.addr.family = backend->conf.endpoint.addr.family;
	memcpy(row->endpoint.addr.v6, backend->conf.endpoint.addr.v6,
		net_addr_size(row->endpoint.addr.family));
	row->endpoint.port = backend->conf.endpoint.port;
	control_backend_count(backends, backend, &row->totals);
	fill_connects(row, backends, backend);
	row->connections = control_backend_connections(backends, backend);
	row->since_ms = backend->health.since_ms;
	row->health = backend->health.state;
	row->connects = backend->health.connects;
	memcpy(row->reason, reason, length < KEPT_REASON ? length : KEPT_REASON);
	if (length > KEPT_REASON)
		memcpy(row->reason_rest, reason + KEPT_REASON, length - KEPT_REASON);
	fill_hand(row, backend);
	fill_passive(row, backend);
	kept_seal_backend(cell);
	keep->connections[backend->id] = row->connections;
}

static void fill_service(struct kept_cell *cell, const struct backends *backends,
	const struct control_service *service, uint64_t erased)
{
	struct kept_service *row = &cell->copies[0].service;

	memset(cell, 0, sizeof(*cell));
	if (service == NULL)
		return;
	strcpy(row->name, service->name);
	row->past_connections = service->past_connections;
	row->erased = erased;
	control_service_count(backends, service, &row->totals);
	kept_seal_service(cell);
}

static void write_backend(
	struct keep *keep, const struct backends *backends, const struct control_backend *backend)
{
	fill(keep, &keep->cells[0], backends, backend);
	note(keep, kept_rows_write(keep->fd, KEPT_BACKENDS, backend->id, keep->cells, 1));
}

static void write_service(struct keep *keep, const struct backends *backends,
	const struct control_service *service, uint64_t erased)
{
	if (service->index == SERVICE_NONE)
		return;
	fill_service(&keep->cells[0], backends, service, erased);
	note(keep, kept_rows_write(keep->fd, KEPT_SERVICES, service->index, keep->cells, 1));
}

static void write_blank(struct keep *keep, enum kept_kind kind, uint32_t number)
{
	memset(&keep->cells[0], 0, sizeof(keep->cells[0]));
	note(keep, kept_rows_write(keep->fd, kind, number, keep->cells, 1));
}

static void write_workers(struct keep *keep)
{
	for (unsigned w = 0; w < keep->nb_running; w++) {
		memset(&keep->worker, 0, sizeof(keep->worker));
		stats_read(&keep->running[w].stats, &keep->worker.copies[0].counters);
		kept_seal_worker(&keep->worker);
		note(keep, kept_rows_write_worker(keep->fd, w, &keep->worker));
	}
}

/* Take the lock, where something is to be written. */
static bool begin_write(struct keep *keep)
{
	if (keep == NULL || keep->fd < 0)
		return false;
	pthread_mutex_lock(&keep->lock);
	return true;
}

void keep_write(
	struct keep *keep, const struct backends *backends, const struct control_backend *backend)
{
	if (!begin_write(keep))
		return;
	write_backend(keep, backends, backend);
	pthread_mutex_unlock(&keep->lock);
}

void keep_write_service(
	struct keep *keep, const struct backends *backends, const struct control_service *service)
{
	if (!begin_write(keep))
		return;
	for (uint32_t b = 0; b < service->nb_backends; b++) {
		const struct control_backend *backend = service->backends[b];
		if (control_backend_connections(backends, backend) !=
			keep->connections[backend->id])
			write_backend(keep, backends, backend);
	}
	write_service(keep, backends, service, 0);
	pthread_mutex_unlock(&keep->lock);
}

void keep_write_workers(struct keep *keep)
{
	if (!begin_write(keep))
		return;
	write_workers(keep);
	pthread_mutex_unlock(&keep->lock);
}

/* In this order: at any moment its connections are either its own or of the service's past. */
void keep_erase(
	struct keep *keep, const struct backends *backends, const struct control_backend *backend)
{
	if (!begin_write(keep))
		return;
	write_backend(keep, backends, backend);
	write_service(keep, backends, backend->service, keep->cells[0].copies[0].backend.whole);
	write_blank(keep, KEPT_BACKENDS, backend->id);
	keep->connections[backend->id] = 0;
	pthread_mutex_unlock(&keep->lock);
}

void keep_erase_service(struct keep *keep, const struct control_service *service)
{
	if (service->index == SERVICE_NONE || !begin_write(keep))
		return;
	write_blank(keep, KEPT_SERVICES, service->index);
	pthread_mutex_unlock(&keep->lock);
}

/* How many of a block are in use, of so many in all. */
static uint32_t count_in(uint32_t block, uint32_t end)
{
	uint32_t first = block * KEPT_BLOCK;

	if (end <= first)
		return 0;
	return end - first < KEPT_BLOCK ? end - first : KEPT_BLOCK;
}

static uint32_t nb_blocks(const struct backends *backends)
{
	uint32_t nb_ids = id_pool_end(backends->ids), nb_indices = id_pool_end(backends->indices);

	return ((nb_ids > nb_indices ? nb_ids : nb_indices) + KEPT_BLOCK - 1) / KEPT_BLOCK;
}

static void write_block(struct keep *keep, const struct backends *backends, uint32_t block)
{
	uint32_t first = block * KEPT_BLOCK;
	uint32_t count = count_in(block, id_pool_end(backends->ids));

	for (uint32_t i = 0; i < count; i++)
		fill(keep, &keep->cells[i], backends, backends->by_id[first + i]);
	if (count != 0)
		note(keep, kept_rows_write(keep->fd, KEPT_BACKENDS, first, keep->cells, count));
	count = count_in(block, id_pool_end(backends->indices));
	for (uint32_t i = 0; i < count; i++)
		fill_service(&keep->cells[i], backends, backends->by_index[first + i], 0);
	if (count != 0)
		note(keep, kept_rows_write(keep->fd, KEPT_SERVICES, first, keep->cells, count));
	if (block == 0)
		write_workers(keep);
}

void keep_all(struct keep *keep, const struct backends *backends)
{
	if (!begin_write(keep))
		return;
	for (uint32_t block = 0; block < nb_blocks(backends); block++)
		write_block(keep, backends, block);
	pthread_mutex_unlock(&keep->lock);
}

void keep_begin(struct keep *keep, const struct backends *backends, const struct worker *workers,
	unsigned nb_workers)
{
	if (keep == NULL || keep->path[0] == '\0')
		return;
	keep->running = workers;
	keep->nb_running = nb_workers;
	own_directory_make(OWN_RUN_DIRECTORY, 0755);
	FILE *file = own_file_begin(keep->path);
	int err = file == NULL ? -errno : 0;
	if (file != NULL) {
		// It is written on and on, also when it is in place.
		keep->fd = fcntl(fileno(file), F_DUPFD_CLOEXEC, 0);
		err = keep->fd < 0 ? -errno : kept_rows_begin(keep->fd);
	}
	if (err == 0) {
		keep_all(keep, backends);
		err = own_file_end(file, keep->path);
	} else if (file != NULL) {
		fclose(file);
	}
	if (err == 0)
		return;
	log_warning(
		"%s: %s; what the probes know won't survive a restart", keep->path, strerror(-err));
	if (keep->fd >= 0)
		close(keep->fd);
	keep->fd = -1;
}

unsigned keep_tick(struct keep *keep, const struct backends *backends)
{
	uint32_t end = nb_blocks(backends);

	if (end == 0 || !begin_write(keep))
		return ROUND_MS;
	if (keep->next >= end)
		keep->next = 0;
	write_block(keep, backends, keep->next++);
	pthread_mutex_unlock(&keep->lock);
	return ROUND_MS / end > SLICE_MS ? ROUND_MS / end : SLICE_MS;
}
