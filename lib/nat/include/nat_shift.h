/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part of the rewrite that few flows need: sequence numbers and timestamps moved by offsets, of
 * either side. The sender's own numbers (sequence number, TSval) go forward by its offset; what it
 * repeats of the other side's (acknowledgement, SACK blocks, TSecr) goes back by that one's.
 *
 * Runs on the worker that has the packet.
 */
#ifndef WEIR_NAT_SHIFT_H
#define WEIR_NAT_SHIFT_H

#include "flow_offsets.h"

struct packet;

/* Move the numbers of a PACKET_TCP from that side, checksum and all. Independent of the rest of the
 * rewrite: before or after it. */
void nat_shift(const struct packet *packet, enum flow_direction direction,
	const struct flow_offsets *offsets);

#endif
