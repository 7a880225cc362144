#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Boot emulated machines one after the other and run tests/e2e/test_nic.py in each. For a boot
NAME, NAME.xml (pytest's results) and NAME.status (its exit code) come into the folder of results,
as scripts/count-tests.py wants them."""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time

from kernel import Kernel
from machine import PORT, UPLINK, Machine, MachineFailed

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("WEIR_BUILD", f"{ROOT}/build"))
PATIENCE = 6                            # factor of the tests' time limits
BOOT_SECONDS, TESTS_SECONDS = 300, 1500     # at most; some 40 and 120 on an idle machine

# Name: the card's model, its queues (= workers), the CPU, only with --full.
BOOTS = {
    "e1000e": ("e1000e", 1, "max", False),
    "virtio": ("virtio-net-pci", 2, "max", False),
    "vmxnet3": ("vmxnet3", 1, "max", True),
    "no-aes": ("e1000e", 1, "Nehalem", True),       # the oldest CPU that DPDK runs on
}


def boot(name, kernel, folder, expression):
    """Returns pytest's exit code."""
    card, queues, cpu, _ = BOOTS[name]
    share = f"{folder}/{name}"
    pytest = ["/usr/bin/python3", "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider",
              "--durations=5", f"--nic={PORT}", f"--nic-queues={queues}",
              "--junitxml=/run/share/results.xml", *expression, f"{ROOT}/tests/e2e/test_nic.py"]
    orders = f"""
cd {shlex.quote(ROOT)}
export WEIR_BUILD={shlex.quote(BUILD)} WEIR_TEST_PATIENCE={PATIENCE} WEIR_HUGEPAGES=1
export PYTHONDONTWRITEBYTECODE=1
exec {shlex.join([f"{HERE}/guest", kernel.root, PORT, UPLINK, *pytest])} >/run/share/output 2>&1
"""
    # A CPU for each worker and one for all else.
    machine = Machine(kernel, share, card, queues, cpu, queues + 1)
    try:
        code = machine.run(orders, BOOT_SECONDS + TESTS_SECONDS)
    finally:
        if os.path.exists(f"{share}/output"):
            with open(f"{share}/output", errors="replace") as file:
                print(file.read(), flush=True)
    shutil.copy(f"{share}/results.xml", f"{folder}/{name}.xml")
    return code


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", help="folder for the results")
    parser.add_argument("--full", action="store_true", help="all boots")
    parser.add_argument("--boot", choices=BOOTS, action="append", help="only this one")
    parser.add_argument("-k", metavar="EXPRESSION", help="only the tests that match")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # by way of `finally`

    folder = os.path.abspath(options.results)
    expression = ["-k", options.k] if options.k else []
    kernel = Kernel(f"{BUILD}/nic").make()
    failed = False
    for name, (card, queues, cpu, only_full) in BOOTS.items():
        if name not in options.boot if options.boot else only_full and not options.full:
            continue
        print(f"--- {name}: {card}, {queues} queue{'s' * (queues > 1)}, CPU {cpu}, "
              f"Linux {kernel.version}", flush=True)
        started = time.monotonic()
        code = 1
        try:
            code = boot(name, kernel, folder, expression)
        except (MachineFailed, OSError) as failure:
            print(failure, flush=True)
        finally:
            with open(f"{folder}/{name}.status", "w") as file:
                file.write(f"{code} {time.monotonic() - started:.0f}\n")
        print(f"--- {name}: {time.monotonic() - started:.0f} s", flush=True)
        failed |= code not in (0, 5)
    sys.exit(failed)


if __name__ == "__main__":
    main()
