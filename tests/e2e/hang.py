# SPDX-License-Identifier: BSD-3-Clause
"""Tests that hang with a weir and its lab up, which test_suite.py has scripts/test run. Each writes
the lab's name into the file HANG_FILE before."""

import os
import signal
import time


def hang(lab):
    with open(os.environ["HANG_FILE"], "w") as file:
        file.write(lab.name)
    while True:
        time.sleep(1)


def test_hangs(lab, start_weir):
    start_weir()
    hang(lab)


def test_is_deaf(lab, start_weir):
    """Like one that is stuck in a library: it can only be killed."""
    start_weir()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})
    hang(lab)
