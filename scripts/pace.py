#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Print how many times slower this machine is, just now, than the quiet one with two cores that
the tests' time limits are made for: a known piece of work on two cores at once, timed. Never below
1."""

import os
import time

ROUNDS, SECONDS = 30_000_000, 2.1       # and what they take there


def work():
    value = 1
    for index in range(ROUNDS):
        value = (value * 1103515245 + index) & 0xffffffff


started = time.monotonic()
child = os.fork()
work()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print(f"{max((time.monotonic() - started) / SECONDS, 1):.1f}")
