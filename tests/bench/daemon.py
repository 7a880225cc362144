# SPDX-License-Identifier: BSD-3-Clause
"""The whole daemon: worker loop, port, pipeline, counters. Its port is a net_pcap one that replays
a capture from memory without end and drops what is sent; testpmd's has the same.

The flows are made by a first weir that sees SYNs only, and is killed. In its table, which outlives
it, they are set to established; the table also tells their SNAT ports, so that the capture that a
second weir and testpmd see has packets of both directions, in random order."""

import contextlib
import mmap
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

import testpmd
from figures import Figure, Table
from machine import thread_cpu_ns
from pipeline import BUILD

ROUNDS, SECONDS = 5, 0.6
INSTANCE = "bench"
PORT_MAC = bytes.fromhex("027063617000")    # of the first net_pcap port
CLIENT_MAC = bytes.fromhex("020000000002")
SERVICES, BACKENDS = 4, 4                   # and backends of each
FLOWS, PACKETS = 256, 4             # and packets of each direction: fewer than a port's buffers
SYN, ACK = 2, 16
# lib/flow/include/flow_file.h and flow.h
HEADER, RECORD = 4096, struct.Struct("=16s8s38xBB")
SYN_SENT, ESTABLISHED = 1, 3


def backend_address(number):
    return f"192.0.2.{100 + number}"


def service_address(number):
    return f"192.0.2.{10 + number}"


def _sum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def _frame(mac, addresses, ports, flags):
    """64 bytes with the checksum that Ethernet adds; `addresses` and `ports`: the source's, the
    destination's, as they stand in the packet."""
    tcp = ports + struct.pack("!IIBBHHH", 1000, 2000, 5 << 4, flags, 512, 0, 0)
    checksum = _sum(addresses + struct.pack("!HH", 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", checksum) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0)
    ip = ip[:10] + struct.pack("!H", _sum(ip + addresses)) + addresses
    return (PORT_MAC + mac + b"\x08\x00" + ip + tcp).ljust(60, b"\0")


def _write_capture(path, frames):
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for frame in frames:
            file.write(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame)


def _syns():
    for flow in range(FLOWS):
        addresses = socket.inet_aton(f"198.18.0.{1 + flow // 16}") + \
            socket.inet_aton(service_address(flow % SERVICES))
        yield _frame(CLIENT_MAC, addresses, struct.pack("!HH", 1024 + flow, 80), SYN)


def _establish(path):
    """Set the flows of a table that is nobody's to established; the packets of both directions."""
    frames = []
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        records = RECORD.iter_unpack(memory[HEADER:])
        for number, (addresses, ports, state, _) in enumerate(records):
            if state != SYN_SENT:
                continue
            at = HEADER + number * RECORD.size + RECORD.size - 2
            memory[at:at + 2] = bytes((ESTABLISHED, 0))
            # Of the record: client, VIP, backend, SNAT.
            backend_mac = b"\x02\0\0\0\x01" + addresses[11:12]
            frames += [_frame(CLIENT_MAC, addresses[:8], ports[:4], ACK),
                       _frame(backend_mac, addresses[8:], ports[4:], ACK)] * PACKETS
    if len(frames) != FLOWS * 2 * PACKETS:
        raise RuntimeError(f"{len(frames)} packets, not {FLOWS * 2 * PACKETS}")
    random.Random(1).shuffle(frames)
    return frames


def _config(device, cpus):
    services = ""
    for service in range(SERVICES):
        backends = ", ".join(f'"{backend_address(service * BACKENDS + index)}:8080"'
                             for index in range(BACKENDS))
        services += f"""
    service{service} = {{
        listen = "{service_address(service)}:80";
        health = {{ type = "none"; }};
        connect_tries = 1;
        passive = {{ fails = 0; }};
        backends = ( {backends} );
    }};"""
    addresses = ", ".join(f'"{service_address(service)}/24"' for service in range(SERVICES))
    return f"""
instance = "{INSTANCE}";
port = {{
    device = "{device}";
    address = [ {addresses} ];
    gateway = "192.0.2.1";
}};
cores = {{ control = {cpus[0]}; workers = [ {cpus[1]} ]; }};
services = {{{services}
}};
"""


class Daemon:
    """A context manager."""

    def __init__(self, device, cpus, directory):
        self.cpu, self.log = cpus[1], f"{directory}/log"
        self.path = f"{directory}/weir.conf"
        with open(self.path, "w") as file:
            file.write(_config(device, cpus))

    def __enter__(self):
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([f"{BUILD}/app/weir", "-c", self.path],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            self.telemetry = testpmd.Telemetry(f"weir-{INSTANCE}")
            self._resolve()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self, condition, what, seconds=15):
        deadline = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log) as log:
                    raise RuntimeError(f"weir: no {what}:\n{log.read()[-2000:]}")
            time.sleep(0.05)

    def _resolve(self):
        """Nobody on this port answers ARP: tell the kernel where the backends are."""
        def known():
            return subprocess.run(["ip", "-n", f"weir-{INSTANCE}", "link", "show", "weir0"],
                                  stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL).returncode == 0

        self._wait(lambda: self.telemetry.query("/weir/info") and known(), "weir0")
        lines = [f"neighbour replace {backend_address(number)} lladdr 02:00:00:00:01:{number:02x} "
                 "nud permanent dev weir0" for number in range(SERVICES * BACKENDS)]
        lines.append("neighbour replace 192.0.2.1 lladdr 02:00:00:00:00:02 nud permanent dev weir0")
        subprocess.run(["ip", "-n", f"weir-{INSTANCE}", "-batch", "-"], input="\n".join(lines),
                       text=True, check=True)
        self._wait(self._forwards, "forwarded packets")

    def _drops(self):
        return self.telemetry.query("/weir/drops")

    def _forwards(self):
        """Whether all that comes is forwarded."""
        before = self._drops()
        time.sleep(0.1)
        received, forwarded = self._since(before)
        return received > 0 and forwarded > 0.999 * received

    def _since(self, before):
        after = self._drops()
        return after["received"] - before["received"], after["forwarded"] - before["forwarded"]

    def _cpu_ns(self):
        for name in (f"rte-worker-{self.cpu}", f"lcore-worker-{self.cpu}"):
            with contextlib.suppress(LookupError):
                return thread_cpu_ns(self.process.pid, name)
        raise LookupError("no worker thread")

    def packet_ns(self, seconds):
        """CPU time of the worker a packet that it forwards."""
        before, cpu_ns = self._drops(), self._cpu_ns()
        time.sleep(seconds)
        received, forwarded = self._since(before)
        cpu_ns = self._cpu_ns() - cpu_ns
        if forwarded < 0.999 * received:
            raise RuntimeError(f"weir forwards only {forwarded} of {received} packets")
        return cpu_ns / forwarded

    def flows(self):
        return self.telemetry.query("/weir/flows")[0]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __exit__(self, *_):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _forget(directory):
    """What a weir left for its next start."""
    subprocess.run([f"{BUILD}/app/weir", "--forget", "-c", f"{directory}/weir.conf"],
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _make_flows(capture, device, cpus, directory):
    """A table full of them is left, and the capture of their packets."""
    _write_capture(capture, _syns())
    first = Daemon(device, cpus, directory)
    _forget(directory)      # what a benchmark that was killed has left
    with first as running:
        while running.flows()["used"] < FLOWS:
            time.sleep(0.01)
        path = running.flows()["file"]
        running.kill()
    _write_capture(capture, _establish(path))


def daemon(cpus, result):
    weir, macswap = Figure(), Figure()
    directory = tempfile.mkdtemp(prefix="weir-bench-")
    capture = f"{directory}/packets.pcap"
    device = f"net_pcap0,rx_pcap={capture},infinite_rx=1"
    try:
        _make_flows(capture, device, cpus, directory)
        command = testpmd.Testpmd(*cpus, (device,), "macswap").command
        for _ in range(ROUNDS):
            with testpmd.Testpmd(*cpus, (device,), "macswap") as running:
                macswap.add(1e3 / running.packet_ns(SECONDS))
            with Daemon(device, cpus, directory) as running:
                weir.add(1e3 / running.packet_ns(SECONDS))
    finally:
        _forget(directory)
        shutil.rmtree(directory)
    ratio = Figure(one / by for one, by in zip(weir.values, macswap.values))
    table = Table(f"The daemon on a net_pcap port, against: {command}")
    table.add("testpmd macswap, Mpps of CPU time", macswap.text(".2f"))
    table.add("weir, Mpps of CPU time", weir.text(".2f"))
    table.add("ratio", ratio.text(".2f"))
    return [table]
