/* SPDX-License-Identifier: BSD-3-Clause */
/* A spin lock of one word, for a few instructions that workers seldom meet in. */
#ifndef WEIR_FLOW_LOCK_H
#define WEIR_FLOW_LOCK_H

#include <rte_pause.h>
#include <stdint.h>

static inline void flow_lock_take(uint32_t *lock)
{
	while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) != 0)
		while (__atomic_load_n(lock, __ATOMIC_RELAXED) != 0)
			rte_pause();
}

static inline void flow_lock_release(uint32_t *lock)
{
	__atomic_store_n(lock, 0, __ATOMIC_RELEASE);
}

#endif
