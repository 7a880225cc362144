/* SPDX-License-Identifier: BSD-3-Clause */
/* What differs between DPDK 22.11 and later versions. No other file asks for the version. */
#ifndef WEIR_DPDK_COMPAT_H
#define WEIR_DPDK_COMPAT_H

#include <stdint.h>

#include <rte_telemetry.h>
#include <rte_version.h>

/*
 * Telemetry's unsigned numbers were called _u64 up to 22.11 and are called _uint since 23.03, and
 * RTE_TEL_U64_VAL became RTE_TEL_UINT_VAL.
 */
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
#define TEL_UINT_VAL RTE_TEL_UINT_VAL
#else
#define TEL_UINT_VAL RTE_TEL_U64_VAL
#endif

/* Add an unsigned number. Names are letters, digits, _ and / only; a dictionary takes 256
 * entries. 0 or -errno. */
static inline int tel_dict_uint(struct rte_tel_data *data, const char *name, uint64_t value)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
	return rte_tel_data_add_dict_uint(data, name, value);
#else
	return rte_tel_data_add_dict_u64(data, name, value);
#endif
}

/* Add a signed number: 22.11 takes an int, later versions an int64_t; what fits an int is safe with
 * both. 0 or -errno. */
static inline int tel_dict_int(struct rte_tel_data *data, const char *name, int value)
{
	return rte_tel_data_add_dict_int(data, name, value);
}

static inline int tel_dict_string(struct rte_tel_data *data, const char *name, const char *value)
{
	return rte_tel_data_add_dict_string(data, name, value);
}

/* Add an unsigned number to an array that was started with TEL_UINT_VAL; it takes 512
 * entries. 0 or -errno. */
static inline int tel_array_uint(struct rte_tel_data *data, uint64_t value)
{
#if RTE_VERSION >= RTE_VERSION_NUM(23, 3, 0, 0)
	return rte_tel_data_add_array_uint(data, value);
#else
	return rte_tel_data_add_array_u64(data, value);
#endif
}

/*
 * Add a dictionary to an array that was started with RTE_TEL_CONTAINER, to be filled in by the
 * caller and freed by the library; NULL when there is no room. The library prints arrays of
 * dictionaries but, up to 22.11 at least, takes only arrays into arrays: so it is added as an
 * array, and made a dictionary once it is in.
 */
static inline struct rte_tel_data *tel_array_object(struct rte_tel_data *array)
{
	struct rte_tel_data *object = rte_tel_data_alloc();

	if (object == NULL)
		return NULL;
	if (rte_tel_data_start_array(object, RTE_TEL_STRING_VAL) < 0 ||
		rte_tel_data_add_array_container(array, object, 0) < 0) {
		rte_tel_data_free(object);
		return NULL;
	}
	rte_tel_data_start_dict(object);
	return object;
}

#endif
