/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of app share: a registry that nobody probes, and configurations for it. */
#ifndef WEIR_APP_TEST_H
#define WEIR_APP_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends.h"
#include "conf.h"
#include "conf_diff.h"
#include "id_pool.h"
#include "plan.h"
#include "snat.h"

#define PORT                                                                                       \
	"port = { device = \"eth1\"; address = [ \"192.0.2.10/24\", \"2001:db8::10/64\" ]; };\n"
#define SERVICE(name, listen, backends)                                                            \
	name " = { listen = \"" listen "\"; backends = ( " backends " ); };\n"
#define FILE_OF(services) PORT "services = {\n" services "};\n"

struct registry {
	struct backends backends;
	struct snat_ports ports[2];
	struct conf *conf; // that it is in line with
	uint64_t publication;
};

static inline struct conf *read_conf(const char *text)
{
	char path[] = "/tmp/weir-app-XXXXXX";
	int fd = mkstemp(path);
	struct conf_error error;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	struct conf *conf = conf_load(path, &error);
	unlink(path);
	if (conf == NULL)
		fail_msg("%s", error.text);
	return conf;
}

static inline void commit(struct registry *registry, struct plan *plan, struct conf *conf)
{
	plan_commit(plan, ++registry->publication);
	while (plan_finish(plan, 0) > 0)
		;
	plan_destroy(plan);
	conf_free(registry->conf);
	registry->conf = conf;
}

/* As a reload does it. */
static inline void apply(struct registry *registry, const char *text)
{
	struct conf *conf = read_conf(text);
	struct conf_error error;
	struct conf_diff *diff = conf_diff_create(registry->conf, conf, "", &error);
	struct plan *plan = plan_create(&registry->backends, conf, diff->changed);

	assert_non_null(plan);
	assert_int_equal(plan_step(plan, UINT64_MAX), 0);
	commit(registry, plan, conf);
	conf_diff_destroy(diff);
}

static inline void registry_start(struct registry *registry, const char *text)
{
	static const struct snat_range range = {1024, 2047};
	static const uint64_t key[2] = {1, 2};

	memset(registry, 0, sizeof(*registry));
	for (int f = 0; f < 2; f++)
		registry->ports[f].snat = snat_create(&range, 1, key, NULL);
	struct conf *conf = read_conf(text);
	assert_int_equal(backends_init(&registry->backends, conf, registry->ports), 0);
	struct plan *plan = plan_create(&registry->backends, conf, NULL);
	assert_int_equal(plan_step(plan, UINT64_MAX), 0);
	commit(registry, plan, conf);
}

static inline void registry_end(struct registry *registry)
{
	backends_fini(&registry->backends);
	for (int f = 0; f < 2; f++)
		snat_destroy(registry->ports[f].snat);
	conf_free(registry->conf);
}

/* A backend that must be there. */
static inline struct control_backend *find(
	struct registry *registry, const char *service, const char *name)
{
	struct control_service *found = backends_find_service(&registry->backends, service);

	assert_non_null(found);
	for (uint32_t b = 0; b < found->nb_backends; b++)
		if (strcmp(found->backends[b]->conf.name, name) == 0)
			return found->backends[b];
	fail_msg("no backend %s in service %s", name, service);
	return NULL;
}

/* As probes and the kernel's routes would have it. */
static inline void bring_up(struct registry *registry, struct control_backend *backend)
{
	backend->health.state = HEALTH_UP;
	backend->hop.state = ROUTE_RESOLVED;
	backends_row_update(&registry->backends, backend);
}

#endif
