/* SPDX-License-Identifier: BSD-3-Clause */
/* Which worker sends a frame of the kernel's: a hash of its flow, so that a flow stays in order. */
#ifndef WEIR_EXCEPTION_SPREAD_H
#define WEIR_EXCEPTION_SPREAD_H

#include <stdint.h>

/*
 * Hash of a frame's flow: of TCP and UDP addresses and ports, of other IP packets and fragments the
 * addresses, of the rest the destination's MAC. Reads no byte beyond `length`. Not keyed: the
 * frames are the machine's own. Any thread.
 */
uint32_t exception_spread_hash(const uint8_t *frame, unsigned length);

#endif
