# SPDX-License-Identifier: BSD-3-Clause
"""What happens if the balancer itself is stopped (D10): nothing, connections go on."""

import contextlib
import hashlib
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time

import pytest

import traffic
import weir as weir_module
from lab import CLIENT, VIP
from weir import Weir, WeirFailed

REQUEST = b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n"
RATE = 200                              # new connections a second
PACKETS = 1000                          # in the second before a death, at least
TURN = 20                               # half-open or closing flows at that moment, at least


class Sizes:
    def __init__(self, full):
        self.trials = 20 if full else 3
        self.idle = 500 if full else 100
        self.transfer_mb = 500 if full else 100
        self.between = 2.0 if full else 0.7


@pytest.fixture(scope="module")
def sizes(request):
    return Sizes(request.config.getoption("full"))


class Prober(threading.Thread):
    """SYNs from a port of their own every 2 ms, by hand: when are they answered? The client's kernel
    resets what comes back, so these are the half-open and closing flows, too."""

    STEP = 0.002

    def __init__(self, namespace):
        super().__init__(daemon=True)
        self._namespace = namespace
        self.answers = []
        self._stopping = False

    def run(self):
        self._namespace.enter_thread()
        out = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        back = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        back.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        back.setblocking(False)
        port = 20000
        while not self._stopping:
            port = 20000 + (port - 19999) % 10000
            packet = traffic.tcp_packet(CLIENT, VIP, port, 80, 0x02, seq=random.getrandbits(32))
            with contextlib.suppress(OSError):
                out.sendto(packet, (VIP, 0))
            with contextlib.suppress(BlockingIOError):
                while True:
                    data = back.recv(2048)
                    to, flags = struct.unpack("!H", data[22:24])[0], data[33]
                    if flags & 0x12 == 0x12 and 20000 <= to < 30000:
                        self.answers.append(time.monotonic())
            time.sleep(self.STEP)

    def stop(self):
        self._stopping = True
        self.join()

    def gap(self, since, until):
        """The longest time without an answer."""
        times = [since, *(one for one in self.answers if since <= one <= until)]
        return max((b - a for a, b in zip(times, times[1:])), default=until - since)


class Pinger(threading.Thread):
    """One request after the other over one connection; when each was answered."""

    def __init__(self, namespace):
        super().__init__(daemon=True)
        self._namespace = namespace
        self.answers, self.error = [], None
        self._stopping = False

    def run(self):
        self._namespace.enter_thread()
        try:
            with traffic.connect(timeout=20) as connection:
                while not self._stopping:
                    traffic.ask(connection)
                    self.answers.append(time.monotonic())
                    time.sleep(0.005)
        except OSError as failure:
            self.error = failure

    def stop(self):
        self._stopping = True
        self.join()

    gap = Prober.gap


class Load:
    """The whole load; the block ends when everything that was under way has ended well."""

    def __init__(self, lab, sizes):
        self.lab, self.sizes = lab, sizes
        self.client = lab.client
        self.upload = f"{lab.directory}/upload.source"
        self.lost = 0

    def __enter__(self):
        size = self.sizes.transfer_mb * 1000000
        path = self.lab.big_file()
        if not os.path.exists(self.upload):
            with open(path, "rb") as big, open(self.upload, "wb") as file:
                file.write(big.read(min(size, lab_bytes(path))))
        for name in os.listdir(f"{self.lab.files}/upload"):
            os.unlink(f"{self.lab.files}/upload/{name}")
        with self.client.entered():
            self.idle = [traffic.connect(timeout=20) for _ in range(self.sizes.idle)]
        self._each_asks()
        self.wrk = self.client.popen("wrk", "-t1", "-c64", "-d300s", "--timeout", "20s",
                                     f"http://{VIP}/", stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)
        self.down = self.client.popen("curl", "-sS", "--limit-rate", "15M", "-o",
                                      f"{self.lab.directory}/download", f"http://{VIP}/big",
                                      stderr=subprocess.PIPE, text=True)
        self.up = self.client.popen("curl", "-sS", "--limit-rate", "10M", "-T", self.upload,
                                    f"http://{VIP}/upload/file", stderr=subprocess.PIPE, text=True)
        self.stream = traffic.Stream(self.client, threads=24, rate=RATE, timeout=20)
        self.prober, self.pinger = Prober(self.client), Pinger(self.client)
        self.prober.start()
        self.pinger.start()
        time.sleep(1.2)
        return self

    def _each_asks(self):
        for connection in self.idle:
            connection.sendall(REQUEST)
        for connection in self.idle:
            traffic.read_response(connection)

    def __exit__(self, kind, *_):
        try:
            self.prober.stop()
            self.pinger.stop()
            results = self.stream.stop()
            self.wrk.send_signal(signal.SIGINT)     # it then says how it went
            said = self.wrk.communicate(timeout=30)[0]
            if kind is not None:
                return
            assert self.pinger.error is None, f"the pinged connection: {self.pinger.error}"
            assert traffic.errors(results) == [], traffic.errors(results)[:5]
            assert len(results) > RATE / 2
            assert "Socket errors" not in said and "Non-2xx" not in said, said
            self._each_asks()                       # raises when one is lost
            for curl, what in ((self.down, "download"), (self.up, "upload")):
                assert curl.wait(90) == 0, f"{what}: {curl.stderr.read()}"
            assert digest(f"{self.lab.directory}/download") == digest(self.lab.big_file())
            assert digest(f"{self.lab.files}/upload/file") == digest(self.upload)
        finally:
            for process in (self.wrk, self.down, self.up):
                if process.poll() is None:
                    process.kill()
                    process.wait()
            for connection in self.idle:
                connection.close()

    def established(self):
        """Connections that must live: wrk's, the idle ones, the pinged one."""
        return 64 + len(self.idle) + 1


def lab_bytes(path):
    return os.path.getsize(path)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(file.read()).hexdigest()


def busy(weir):
    """The conditions of a trial: the flows that there are, once enough is going on."""
    before = weir.drops()["forwarded"]
    time.sleep(0.3)
    packets = (weir.drops()["forwarded"] - before) / 0.3
    flows = weir.flows()[0]
    open_flows = sum(backend["active"] for backend in weir.backends().values())
    assert packets >= PACKETS, f"only {packets:.0f} packets a second"
    assert flows["used"] - open_flows >= TURN, f"{open_flows} of {flows['used']} flows are open"
    return flows["used"]


def adoption(weir, used, load):
    """All flows of before are there, but for those that had no answer yet."""
    info = weir.info()
    dropped = {key[12:]: value for key, value in info.items() if key.startswith("not_adopted_")}
    found = info["adopted"] + sum(dropped.values())
    assert {key for key, value in dropped.items() if value} <= {"connecting", "expired"}, dropped
    # Connections came and went between the look at the table and the death.
    assert abs(found - used) <= 150, (info["adopted"], dropped, used)
    assert info["adopted"] >= load.established()
    assert set(weir.health().values()) == {"up"}, "a backend is probed anew"
    return info["adopted"], dropped


def death(weir, how, load, say):
    """One trial: the load goes on, and what it saw is told."""
    used = busy(weir)
    time.sleep(random.random() * 0.2)
    died = time.monotonic()
    how()
    ready = time.monotonic()
    adopted, dropped = adoption(weir, used, load)
    # Every connection has repeated what was lost: at most the time again that nobody was there.
    time.sleep(max(load.sizes.between, ready - died))
    now = time.monotonic()
    gap, stall = load.prober.gap(died - 0.05, now), load.pinger.gap(died - 0.05, now)
    say.append((gap, stall))
    print(f"  adopted {adopted} of {used}, not {dropped}; no new connection for {gap * 1000:.0f} ms, "
          f"the pinged one stalled {stall * 1000:.0f} ms")


def summary(what, say):
    for name, values in (("gap", [one[0] for one in say]), ("stall", [one[1] for one in say])):
        print(f"{what}: {name} median {statistics.median(values) * 1000:.0f} ms, "
              f"max {max(values) * 1000:.0f} ms, of {len(values)}")


def change(weir, **changes):
    """Another file for the next start."""
    text = weir_module.dump(weir_module.merged(weir.config, changes))
    with open(weir.path, "w") as file:
        file.write(text)


def kill(weir):
    weir.kill()
    weir.start(wait_up=False)


def terminate(weir):
    assert weir.stop(keep=True) == 0
    weir.start(wait_up=False)


class Alternating:
    """Every second start is with the file changed."""

    def __init__(self, **changes):
        self.changes, self.count = changes, 0

    def __call__(self, weir):
        self.count += 1
        weir.kill()
        change(weir, **(self.changes if self.count % 2 else {}))
        weir.start(wait_up=False)


def backends(lab, *names):
    return {"services": {"web": {"backends": [{"address": lab.backend(name).endpoint, "name": name}
                                              for name in names]}}}


@pytest.mark.slow
@pytest.mark.parametrize("event", ("killed", "terminated"))
def test_no_connection_is_lost(lab, start_weir, sizes, event):
    """kill -9, or SIGTERM, and a start."""
    weir = start_weir()
    say = []
    with Load(lab, sizes) as load:
        for _ in range(sizes.trials):
            death(weir, lambda: {"killed": kill, "terminated": terminate}[event](weir), load, say)
    summary(event, say)
