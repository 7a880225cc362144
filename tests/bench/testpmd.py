# SPDX-License-Identifier: BSD-3-Clause
"""dpdk-testpmd as it comes with DPDK, watched by its telemetry socket."""

import contextlib
import glob
import json
import os
import shutil
import socket
import subprocess
import time

import machine

PREFIX = "weir-bench-testpmd"


class Telemetry:
    """Queries to one DPDK process, over one connection."""

    def __init__(self, prefix, seconds=20):
        path = f"/var/run/dpdk/{prefix}/dpdk_telemetry.v2"
        deadline = time.monotonic() + seconds
        while True:
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.socket.settimeout(5)
            try:
                self.socket.connect(path)
                self.size = json.loads(self.socket.recv(1024))["max_output_len"]
                return
            except OSError:
                self.socket.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def query(self, command):
        self.socket.send(command.encode())
        return json.loads(self.socket.recv(self.size))[command.split(",")[0]]


class Testpmd:
    """A context manager; `command` is the line to print. `namespace` as of tests/e2e/netns.py."""

    def __init__(self, main_cpu, cpu, devices, mode, namespace=None):
        self.ports = len(devices)
        self.cpu = cpu
        self.words = ["dpdk-testpmd", "-l", f"{main_cpu},{cpu}", "--no-pci",
                      *(f"--vdev={device}" for device in devices), f"--file-prefix={PREFIX}",
                      "--", f"--forward-mode={mode}"]
        self.command = " ".join(self.words)
        self.namespace = namespace

    def __enter__(self):
        words = self.namespace.command(*self.words) if self.namespace else self.words
        # Standard input stays open: it runs until a line comes.
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            self.telemetry = Telemetry(PREFIX)
            self._wait_forwarding()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_forwarding(self, seconds=15):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(LookupError, FileNotFoundError):
                if all(self.telemetry.query(f"/ethdev/link_status,{port}")["status"] == "UP"
                       for port in range(self.ports)) and self._cpu_ns() > 50_000_000:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"testpmd does not forward: {self.command}")

    def _cpu_ns(self):
        for name in (f"rte-worker-{self.cpu}", f"lcore-worker-{self.cpu}"):
            with contextlib.suppress(LookupError):
                return machine.thread_cpu_ns(self.process.pid, name)
        raise LookupError("no forwarding thread")

    def _packets(self):
        return sum(self.telemetry.query(f"/ethdev/stats,{port}")["opackets"]
                   for port in range(self.ports))

    def packet_ns(self, seconds):
        """CPU time of the forwarding thread a packet: on a machine that is shared, what others
        take from it is left out."""
        packets, cpu_ns = self._packets(), self._cpu_ns()
        time.sleep(seconds)
        return (self._cpu_ns() - cpu_ns) / (self._packets() - packets)

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self.process.communicate(b"\n", timeout=10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(f"/var/run/dpdk/{PREFIX}", ignore_errors=True)
        for path in glob.glob(f"/dev/hugepages/{PREFIX}map_*"):
            os.unlink(path)


def macswap(main_cpu, cpu):
    """The yardstick: two MAC addresses swapped, nothing looked up, ports that cost nothing."""
    return Testpmd(main_cpu, cpu, ("net_null0", "net_null1"), "macswap")
