/* SPDX-License-Identifier: BSD-3-Clause */
/* What dev_eal_init() found and holds, for the port. Control core only. */
#ifndef WEIR_DEV_EAL_H
#define WEIR_DEV_EAL_H

#include "dev_cores.h"
#include "dev_device.h"
#include "dev_link.h"

const struct dev_device *dev_eal_device(void);
const struct dev_cores *dev_eal_cores(void);
struct dev_link *dev_eal_link(void); // NULL = no kernel interface

#endif
