/* SPDX-License-Identifier: BSD-3-Clause */
#include "conf_carry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf.h"

static int by_name(const void *a, const void *b)
{
	const struct conf_service *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

int conf_carry_init(struct conf_carry *carry, const struct conf *former)
{
	memset(carry, 0, sizeof(*carry));
	if (former == NULL)
		return 0;
	carry->by_name = calloc(former->nb_services + 1, sizeof(*carry->by_name));
	if (carry->by_name == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < former->nb_services; i++)
		if (former->services[i]->text != NULL)
			carry->by_name[carry->nb++] = former->services[i];
	qsort(carry->by_name, carry->nb, sizeof(*carry->by_name), by_name);
	return 0;
}

void conf_carry_fini(struct conf_carry *carry)
{
	free(carry->by_name);
}

/* As strcmp(); `text` isn't terminated. */
static int compare(const char *text, size_t length, const char *name)
{
	int order = strncmp(text, name, length);

	return order != 0 ? order : name[length] == '\0' ? 0 : -1;
}

const struct conf_service *conf_carry_find(
	const struct conf_carry *carry, const char *text, size_t length, const char *end)
{
	unsigned low = 0, high = carry->nb;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct conf_service *service = carry->by_name[middle];
		int order = compare(text, length, service->name);
		if (order == 0)
			return (size_t)(end - text) >= service->text_size &&
					memcmp(text, service->text, service->text_size) == 0
				? service
				: NULL;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
