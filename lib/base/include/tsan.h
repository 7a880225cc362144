/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What ThreadSanitizer can't see by itself: DPDK's library isn't instrumented, so the order that
 * rte_rcu_qsbr makes between threads is told here. A reader releases the variable before it reports
 * a quiescent state or goes offline; whoever has found a token passed acquires it before he frees.
 * Nothing in other builds.
 */
#ifndef WEIR_TSAN_H
#define WEIR_TSAN_H

#ifdef __SANITIZE_THREAD__
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define tsan_acquire(address) __tsan_acquire(address)
#define tsan_release(address) __tsan_release(address)
#else
#define tsan_acquire(address) ((void)(address))
#define tsan_release(address) ((void)(address))
#endif

#endif
