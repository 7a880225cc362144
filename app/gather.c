/* SPDX-License-Identifier: BSD-3-Clause */
#include "gather.h"

#include <errno.h>
#include <stdlib.h>

#include "backends.h"
#include "candidates.h"
#include "clock.h"
#include "id_pool.h"
#include "passive.h"
#include "publish.h"

void gather_again(struct backends *backends, const struct publish_job *job)
{
	for (uint32_t i = 0; i < job->nb_changed; i++) {
		struct control_service *service = backends->by_index[job->changed[i].index];
		if (service != NULL)
			service->changed = true;
	}
	for (uint32_t i = 0; i < job->nb_rows; i++)
		backends_row_again(backends, job->ids[i]);
	backends->all_keys |= job->keys != NULL;
}

void gather_cancel(struct gather *gather, struct backends *backends)
{
	if (gather->job != NULL)
		gather_again(backends, gather->job);
	publish_job_destroy(gather->job);
	gather->job = NULL;
}

void gather_published(struct backends *backends, const struct publish_job *job)
{
	for (uint32_t i = 0; i < job->nb_changed; i++) {
		uint32_t index = job->changed[i].index;
		const struct control_service *service = backends->by_index[index];
		backends->index_published[index] = !job->changed[i].gone;
		for (uint32_t b = 0; service != NULL && b < service->nb_backends; b++)
			service->backends[b]->in_use = service->backends[b]->gathered;
	}
}

/* What the workers have of a backend's connects is of before, once it has connections again. */
static void update_rows(struct backends *backends, const struct control_service *service)
{
	for (uint32_t b = 0; b < service->nb_listed; b++) {
		struct control_backend *backend = service->backends[b];
		if (backend->gathered && !backend->in_use)
			backend->epoch++;
		backends_row_update(backends, backend);
	}
}

static int gather_service(
	struct gather *gather, struct backends *backends, struct control_service *service)
{
	struct publish_service *publish = publish_job_add_service(gather->job);

	if (publish == NULL)
		return -ENOMEM;
	passive_spare(backends->passive, service, clock_ms());
	// Whether it has a backend at all decides what becomes of those that are down.
	if (control_service_look(service))
		for (uint32_t b = 0; b < service->nb_backends; b++)
			backends_row_update(backends, service->backends[b]);
	publish->index = service->index;
	if (candidates_collect(service, publish) < 0)
		return -ENOMEM;
	update_rows(backends, service);
	service->changed = false;
	return 0;
}

/* The index has no service any more. */
static int gather_gone(struct gather *gather, uint32_t index)
{
	struct publish_service *publish = publish_job_add_service(gather->job);

	if (publish == NULL)
		return -ENOMEM;
	publish->index = index;
	publish->gone = true;
	return 0;
}

/* Services until the time is over: 1, 0 when none is left, or -ENOMEM. */
static int gather_services(struct gather *gather, struct backends *backends, uint64_t until_ns)
{
	for (; gather->next < gather->job->nb_services; gather->next++) {
		struct control_service *service = backends->by_index[gather->next];
		int err = 0;
		if (service != NULL && service->changed)
			err = gather_service(gather, backends, service);
		else if (service == NULL && backends->index_published[gather->next] &&
			!gather->again)
			err = gather_gone(gather, gather->next);
		else
			continue;
		if (err < 0)
			return err;
		if (clock_ns() >= until_ns)
			return 1; // this one is looked at once more, and has not changed
	}
	return 0;
}

static bool is_any_changed(const struct gather *gather, const struct backends *backends)
{
	for (uint32_t i = 0; i < gather->job->nb_services; i++)
		if (backends->by_index[i] != NULL && backends->by_index[i]->changed)
			return true;
	return false;
}

static int gather_keys(struct publish_job *job, struct backends *backends, const struct conf *conf)
{
	job->all_keys = backends->all_keys;
	if (backends->all_keys) {
		job->keys = backends_keys(backends, conf, &job->nb_keys);
		if (job->keys == NULL)
			return -ENOMEM;
	} else if (backends->nb_key_changes != 0) {
		job->keys = backends->key_changes;
		job->nb_keys = backends->nb_key_changes;
		backends->key_changes = NULL;
		backends->key_changes_room = 0;
	}
	backends->nb_key_changes = 0;
	backends->all_keys = false;
	return 0;
}

static void gather_rows(struct publish_job *job, struct backends *backends)
{
	for (uint32_t i = 0; i < job->nb_rows; i++) {
		uint32_t id = backends->changed_rows[i];
		job->ids[i] = id;
		job->rows[i] = backends->rows[id];
		backends->row_changed[id] = false;
	}
	backends->nb_changed_rows = 0;
}

static int begin(struct gather *gather, const struct backends *backends)
{
	gather->job = publish_job_create();
	if (gather->job == NULL)
		return -ENOMEM;
	gather->job->nb_services = id_pool_end(backends->indices);
	gather->next = 0;
	gather->again = false;
	return 0;
}

/* What is left takes no time, so that nothing can change any more. */
static int finish(struct gather *gather, struct backends *backends, const struct conf *conf)
{
	struct publish_job *job = gather->job;

	job->nb_backends = id_pool_end(backends->ids);
	job->reset_round = backends->reset_round;
	if (publish_job_set_rows(job, backends->nb_changed_rows) < 0 ||
		gather_keys(job, backends, conf) < 0)
		return -ENOMEM;
	gather_rows(job, backends);
	return 0;
}

int gather_step(struct gather *gather, struct backends *backends, const struct conf *conf,
	uint64_t until_ns)
{
	int err = gather->job == NULL ? begin(gather, backends) : 0;

	while (err == 0) {
		err = gather_services(gather, backends, until_ns);
		if (err != 0)
			break;
		if (!is_any_changed(gather, backends)) {
			err = finish(gather, backends, conf);
			break;
		}
		gather->next = 0;
		gather->again = true;
	}
	if (err < 0)
		gather_cancel(gather, backends);
	return err;
}
