# SPDX-License-Identifier: BSD-3-Clause
"""What the figures were measured on."""

import contextlib
import os
import platform
import re
import subprocess


def _said(*command):
    with contextlib.suppress(OSError):
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True).stdout.strip()
    return ""


def describe():
    """A few lines of text."""
    fields = dict(re.findall(r"^\s*([^:\n]+):\s*(.*)$", _said("lscpu"), re.MULTILINE))
    with open("/proc/meminfo") as file:
        memory = int(re.search(r"MemTotal:\s*(\d+)", file.read()).group(1)) >> 20
    cache = ", ".join(f"{name[:-6]} {fields[name]}" for name in ("L2 cache", "L3 cache")
                      if name in fields)
    return "\n".join((
        f"{fields.get('Model name', platform.machine())}, {os.cpu_count()} CPUs"
        + (f" ({fields['Hypervisor vendor']} guest)" if "Hypervisor vendor" in fields else "")
        + f", {cache}, {memory} GiB",
        f"Linux {platform.release()}, DPDK {_said('pkg-config', '--modversion', 'libdpdk')}, "
        f"load before the run {os.getloadavg()[0]:.1f}",
    ))


def split_cpus():
    """Two CPUs to divide the work between: (clients and servers, balancer)."""
    cpus = sorted(os.sched_getaffinity(0))
    return cpus[0], cpus[-1]


def thread_cpu_ns(pid, name):
    """CPU time of the process's thread of that name (a prefix): what it got, not what passed."""
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm") as file:
            if not file.read().startswith(name):
                continue
        with open(f"/proc/{pid}/task/{tid}/schedstat") as file:
            return int(file.read().split()[0])
    raise LookupError(f"process {pid} has no thread {name}*")
