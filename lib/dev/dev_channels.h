/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WEIR_DEV_CHANNELS_H
#define WEIR_DEV_CHANNELS_H

#include <stdbool.h>

/*
 * While true, an interface with separate rx and tx channels (veth) looks to this process as if it
 * had combined ones. Set around the probing of net_af_xdp, before other threads start.
 */
void dev_channels_combine(bool combine);

#endif
