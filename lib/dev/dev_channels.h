/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WEIR_DEV_CHANNELS_H
#define WEIR_DEV_CHANNELS_H

#include <stdbool.h>

/* Make an interface with separate rx and tx channels (veth) look to this process as if it had
 * combined ones, or stop that. Set around the probing of net_af_xdp, before other threads start. */
void dev_channels_combine(bool combine);

#endif
