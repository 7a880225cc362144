# SPDX-License-Identifier: BSD-3-Clause
"""What happens if the balancer itself is stopped (D10): nothing, connections go on."""

import contextlib
import hashlib
import mmap
import os
import random
import re
import shutil
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
from lab import CLIENT, VIP, VIP6
from netns import PATIENCE
from weir import WeirFailed

REQUEST = b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n"
RATE = 200                              # new connections a second
PACKETS = 1000                          # in the second before a death, at least
TURN = 20                               # half-open or closing flows when it dies, at least
STRANGER = "192.0.2.200"                # an address of the client's network that nobody has
GAP = 0.2                               # seconds without an answer at an upgrade, the median of 20
MB = 1000000


class Sizes:
    def __init__(self, full):
        self.trials = 20 if full else 3
        self.idle = 500 if full else 100
        self.transfer = (500 if full else 100) * MB
        self.rate = "5M" if full else "10M"     # it lasts about as long as the trials
        self.between = 2.0 if full else 0.7


@pytest.fixture(scope="module")
def sizes(request):
    return Sizes(request.config.getoption("full"))


class Prober(threading.Thread):
    """SYNs from a port of their own every 2 ms, by hand: when are they answered? The client's
    kernel resets what comes back, so these are the half-open and closing flows, too."""

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


class Transfer:
    """A download, or an upload, of the big file; what arrives is compared with it."""

    def __init__(self, lab, sizes, up):
        self._lab, self._up = lab, up
        self._source = lab.big_file(sizes.transfer)
        curl = f"curl -sS --limit-rate {sizes.rate}"
        self.process = lab.client.popen(
            "bash", "-o", "pipefail", "-c",
            f"{curl} -T {self._source} http://{VIP}/upload/file" if up else
            f"{curl} http://{VIP}/big | sha256sum",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def check(self):
        """Wait for its end, which has to be a good one."""
        said = self.process.communicate(timeout=300 * PATIENCE)[0]
        assert self.process.returncode == 0, f"{'upload' if self._up else 'download'}: {said}"
        arrived = f"{self._lab.files}/upload/file"
        assert (digest(arrived) if self._up else said.split()[0]) == digest(self._source)
        if self._up:
            os.unlink(arrived)


class Load:
    """The whole load; the block ends when everything that was under way has ended well."""

    def __init__(self, lab, sizes):
        self.lab, self.sizes = lab, sizes
        self.client = lab.client
        self.closing = []

    def __enter__(self):
        for name in os.listdir(f"{self.lab.files}/upload"):
            os.unlink(f"{self.lab.files}/upload/{name}")
        with self.client.entered():
            self.idle = [traffic.connect(timeout=20) for _ in range(self.sizes.idle)]
        self._each_asks()
        self.wrk = self.client.popen("wrk", "-t1", "-c64", "-d900s", "--timeout", "20s",
                                     f"http://{VIP}/", stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True)
        self.transfers = {up: Transfer(self.lab, self.sizes, up) for up in (False, True)}
        self.stream = traffic.Stream(self.client, threads=24, rate=RATE, timeout=20)
        self.prober, self.pinger = Prober(self.client), Pinger(self.client)
        self.prober.start()
        self.pinger.start()
        time.sleep(1.2)
        return self

    def prepare(self):
        """For the next death: a download and an upload are under way, some connections are half
        open, as their client is never heard again, and some are closing, as only the server has
        closed."""
        for up, transfer in self.transfers.items():
            if transfer.process.poll() is not None:
                transfer.check()
                self.transfers[up] = Transfer(self.lab, self.sizes, up)
        traffic.send_raw(self.client, [
            traffic.tcp_packet(STRANGER, VIP, random.randrange(20000, 60000), 80, 0x02,
                               seq=random.getrandbits(32)) for _ in range(TURN // 2)])
        self._end_closing()
        with self.client.entered():
            self.closing = [traffic.connect(timeout=20) for _ in range(TURN)]
        for connection in self.closing:
            traffic.ask(connection, close=True)

    def _end_closing(self):
        for connection in self.closing:
            connection.close()

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
            said = self.wrk.communicate(timeout=30 * PATIENCE)[0]
            if kind is not None:
                return
            assert self.pinger.error is None, f"the pinged connection: {self.pinger.error}"
            assert traffic.errors(results) == [], traffic.errors(results)[:5]
            assert len(results) > RATE / 2
            assert "Socket errors" not in said and "Non-2xx" not in said, said
            self._each_asks()                       # raises when one is lost
            for transfer in self.transfers.values():
                transfer.check()
        finally:
            for process in (self.wrk, *(one.process for one in self.transfers.values())):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            self._end_closing()
            for connection in self.idle:
                connection.close()

    def established(self):
        """Connections that must live: wrk's, the idle ones, the pinged one."""
        return 64 + len(self.idle) + 1


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(file.read()).hexdigest()


HALF_OPEN, CLOSING = (1, 2, 9), (4, 5, 6)   # as in lib/flow/include/tcp_state.h
SYN_SENT, ESTABLISHED = 1, 3
TIMEOUTS = {**dict.fromkeys((*HALF_OPEN, *CLOSING), 240), ESTABLISHED: 7440, 7: 60, 8: 60}


class Table:
    """The flows in a table's file, as lib/flow/include/flow_file.h and flow.h lay them out: exact
    as long as nobody has it."""

    def __init__(self, path):
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            self._alive_s, = struct.unpack_from("=Q", memory, 4032)
            records = memory[4096:]
        # (state, seconds without a packet when the owner was last known to live)
        # The status is the state and, above it, what is known of the FINs.
        self.flows = [(status & 15, (self._alive_s - seen) & 0xffff)
                      for seen, status in struct.iter_unpack("=60xHBx", records) if status & 15]

    def count(self, *states):
        return sum(state in states for state, _ in self.flows)

    def expired(self, now):
        """How many were idle for too long at that time. The latest packet may be of after the
        owner's last sign of life."""
        gap = int(now) - self._alive_s
        return sum(state != SYN_SENT
                   and gap + (idle if idle <= 0xffff - 64 else 0) >= TIMEOUTS[state]
                   for state, idle in self.flows)


def busy(weir, load):
    """The conditions of a trial, of which this is the last second."""
    load.prepare()
    time.sleep(random.random() * 0.2)
    for _ in range(10):                 # a busy machine has seconds without a packet
        before, since = weir.drops()["forwarded"], time.monotonic()
        time.sleep(1)
        packets, seconds = weir.drops()["forwarded"] - before, time.monotonic() - since
        if packets >= PACKETS * seconds:
            return
    raise AssertionError(f"only {packets} packets in {seconds:.2f} s")


def adoption(weir, table, exact, died):
    """All flows of before are there, but for those that had no answer yet and the expired ones."""
    info, ready = weir.info(), time.monotonic()
    dropped = {key[12:]: value for key, value in info.items() if key.startswith("not_adopted_")}
    assert {key for key, value in dropped.items() if value} <= {"connecting", "expired"}, dropped
    found = info["adopted"] + dropped["connecting"] + dropped["expired"]
    if exact:
        assert found == len(table.flows), (info["adopted"], dropped, len(table.flows))
        assert dropped["connecting"] == table.count(SYN_SENT)
        assert table.expired(died) <= dropped["expired"] <= table.expired(ready)
    else:
        # Connections came and went between the look at the table and the hand-over: the prober's
        # 500 and the stream's 200 a second, and as many that made way for the next one of a tuple.
        assert abs(found - len(table.flows)) <= 150 + 900 * (ready - died), \
            (info["adopted"], dropped, len(table.flows))
    return info["adopted"], dropped


class Event:
    """What ends a weir, and what begins the next one. `together`: it is one command, so there is no
    moment at which the table's file is nobody's."""

    def __init__(self, end, begin, together=False):
        self.end, self.begin, self.together = end, begin, together


def death(weir, event, load, say, same=True):
    """One trial: the load goes on, and what it saw is told."""
    path = weir.flows()[0]["file"]
    busy(weir, load)
    died = time.monotonic()
    event.end(weir)
    table = Table(path)
    event.begin(weir)
    ready = time.monotonic()
    turning = table.count(*HALF_OPEN) + table.count(*CLOSING)
    assert turning >= TURN, f"only {turning} flows were half open or closing"
    assert table.count(ESTABLISHED) >= load.established()
    adopted, dropped = adoption(weir, table, not event.together, died)
    assert not same or set(weir.health().values()) == {"up"}, "a backend is probed anew"
    # Every connection has repeated what was lost: at most the time again that nobody was there.
    time.sleep(max(load.sizes.between, ready - died))
    now = time.monotonic()
    gap, stall = load.prober.gap(died - 0.05, now), load.pinger.gap(died - 0.05, now)
    say.append((gap, stall))
    print(f"  adopted {adopted} of {len(table.flows)}, {dropped['connecting']} were connecting, "
          f"{dropped['expired']} expired, {turning} half open or closing; no new connection for "
          f"{gap * 1000:.0f} ms, the pinged one stalled {stall * 1000:.0f} ms")


def summary(what, say, measured):
    for name, values in (("no new connection", [one[0] for one in say]),
                         ("an established one stalled", [one[1] for one in say])):
        measured.append(f"{what}: {name} for {statistics.median(values) * 1000:.0f} ms (median of "
                        f"{len(values)}; max {max(values) * 1000:.0f} ms)")


def change(weir, **changes):
    """Another file for the next start."""
    text = weir_module.dump(weir_module.merged(weir.config, changes))
    with open(weir.path, "w") as file:
        file.write(text)


def start(weir):
    weir.start(wait_up=False)


def terminate(weir):
    assert weir.stop(keep=True) == 0


EVENTS = {
    "killed": Event(lambda weir: weir.kill(), start),
    "terminated": Event(terminate, start),
    "upgraded": Event(lambda weir: None, lambda weir: weir.upgrade(), together=True),
}


class Alternating(Event):
    """kill -9, and every second start is with the file changed."""

    def __init__(self, **changes):
        super().__init__(lambda weir: weir.kill(), self._start)
        self._changes, self._count = changes, 0

    def _start(self, weir):
        self._count += 1
        change(weir, **(self._changes if self._count % 2 else {}))
        start(weir)


def backends(lab, *names):
    return {"services": {"web": {"backends": [{"address": lab.backend(name).endpoint, "name": name}
                                              for name in names]}}}


@pytest.mark.sanitized
@pytest.mark.slow
@pytest.mark.parametrize("event", EVENTS)
def test_no_connection_is_lost(lab, start_weir, sizes, measured, event):
    """kill -9, or SIGTERM, and a start; weirctl upgrade."""
    weir = start_weir()
    say = []
    with Load(lab, sizes) as load:
        for _ in range(sizes.trials):
            death(weir, EVENTS[event], load, say)
    summary(event, say, measured)
    if event == "upgraded":
        log = weir.log()
        for step in (r"successor \(pid \d+\) was prepared in \d+ ms",
                     r"let go of the port after \d+ ms",
                     r"started in \d+ ms: .*port \d+ ms"):
            assert len(re.findall(step, log)) >= sizes.trials, log
        if sizes.trials >= 20:
            assert statistics.median(gap for gap, _ in say) <= GAP * PATIENCE


@pytest.mark.ci
@pytest.mark.slow
def test_another_number_of_workers(lab, start_weir, sizes, measured):
    """kill -9, and a start with two workers in place of one, or the other way about."""
    weir = start_weir(driver="af_packet")
    restart = Alternating(cores={"workers": weir_module.worker_cpus(2)})
    say = []
    with Load(lab, sizes) as load:
        for trial in range(sizes.trials):
            death(weir, restart, load, say)
            assert weir.info()["workers"] == 2 - trial % 2
    summary("other workers", say, measured)


@pytest.mark.ci
@pytest.mark.slow
def test_a_backend_added_and_one_removed(lab, start_weir, sizes, measured):
    """kill -9, and a start with another file: who left it keeps its connections."""
    weir = start_weir(**backends(lab, "con1", "con2", "con3"))
    restart = Alternating(**backends(lab, "con2", "con3", "con4"))
    say = []
    with Load(lab, sizes) as load:
        for trial in range(sizes.trials):
            death(weir, restart, load, say, same=False)
            gone = lab.backend("con4" if trial % 2 else "con1").endpoint
            removed = [one for one in weir.backends().values() if one["state"] == "removed"]
            assert [one["address"] for one in removed] == [gone]
            assert trial % 2 or removed[0]["active"] > 0
    summary("other backends", say, measured)


def test_removed_backends_are_reset_if_configured(lab, start_weir):
    weir = start_weir(services={"web": {"on_remove": "reset"}},)
    with lab.client.entered():
        connections = [traffic.connect() for _ in range(40)]
    names = [traffic.ask(connection) for connection in connections]
    assert "con1" in names
    weir.kill()
    change(weir, **backends(lab, "con2", "con3", "con4"))
    weir.start()
    for connection, name in zip(connections, names):
        with connection:
            if name == "con1":
                with pytest.raises(OSError):
                    traffic.ask(connection)
            else:
                assert traffic.ask(connection) == name


def test_a_smaller_and_a_larger_table(lab, start_weir):
    """Established connections first; what has no room is counted."""
    weir = start_weir()
    traffic.requests(lab.client, 1500)      # in TIME_WAIT now
    with lab.client.entered():
        connections = [traffic.connect() for _ in range(100)]
    names = [traffic.ask(connection) for connection in connections]
    for size in (1024, 65536):
        weir.kill()
        change(weir, flows=size)
        weir.start()
        assert weir.flows()[0]["size"] == size
        info = weir.info()
        assert info["adopted"] <= size - size // 10
        assert (info["not_adopted_no_room"] > 0) == (size == 1024), info
        assert [traffic.ask(connection) for connection in connections] == names
    for connection in connections:
        connection.close()


def test_without_hugepages(lab, start_weir):
    """The table lies in a tmpfs then."""
    weir = start_weir(driver="af_packet", port={"hugepages": False})
    path = weir.flows()[0]["file"]
    assert os.path.dirname(path) in ("/run/weir", "/dev/shm/weir")
    with lab.client.entered():
        connections = [traffic.connect(timeout=20) for _ in range(40)]
    names = [traffic.ask(connection) for connection in connections]
    weir.kill()
    assert Table(path).count(ESTABLISHED) == len(connections)
    weir.start(wait_up=False)
    assert weir.info()["adopted"] == len(connections)
    assert [traffic.ask(connection) for connection in connections] == names
    for connection in connections:
        connection.close()


def test_ipv6(lab, start_weir):
    """Its table is a file of its own."""
    web = weir_module.config(lab)["services"]["web"]
    weir = start_weir(port={"address": (f"{VIP}/24", f"{VIP6}/64")}, services={
        "web6": {**web, "backends": [{"address": backend.endpoint6, "name": backend.name}
                                     for backend in lab.backends]}})
    with lab.client.entered():
        connections = [traffic.connect(address, timeout=20) for address in (VIP, VIP6) * 20]
    names = [traffic.ask(connection) for connection in connections]
    assert len({flows["file"] for flows in weir.flows()}) == 2
    for event in EVENTS.values():
        event.end(weir)
        event.begin(weir)
        assert weir.info()["adopted"] >= len(connections)
        assert [traffic.ask(connection) for connection in connections] == names
    for connection in connections:
        connection.close()


def test_a_service_that_is_gone(lab, start_weir):
    """Its connections live on; nobody gets new ones."""
    web = weir_module.config(lab)["services"]["web"]
    weir = start_weir(services={"second": {**web, "listen": ":81"}})
    with lab.client.entered():
        connections = [traffic.connect(port=81) for _ in range(20)]
    names = [traffic.ask(connection) for connection in connections]
    weir.kill()
    change(weir, services={"second": None})
    weir.start()
    assert [traffic.ask(connection) for connection in connections] == names
    with lab.client.entered(), pytest.raises(OSError):
        traffic.connect(port=81)
    for connection in connections:
        connection.close()


def fill(path, count):
    """So many flows more in a table's file, like the first that there is, but for clients and SNAT
    addresses."""
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        model = next(at for at in range(4096, len(memory), 64) if memory[at + 62] == ESTABLISHED)
        middle, end = memory[model + 4:model + 12], memory[model + 16:model + 64]
        free = next(at for at in range(4096, len(memory), 64)
                    if not any(memory[at + 62:at + 64 * count:64]))
        memory[free:free + 64 * count] = b"".join(
            b"".join(((0x0b000000 + i).to_bytes(4, "big"), middle,
                      (0x0c000000 + i).to_bytes(4, "big"), end)) for i in range(count))


def test_a_million_flows(lab, start_weir, measured):
    """They are taken over before the port is started, and take no notable time."""
    weir = start_weir(flows=1200000)
    with lab.client.entered():
        connection = traffic.connect(timeout=20)
    name, path = traffic.ask(connection), weir.flows()[0]["file"]
    for count in (0, 1000000):
        weir.kill()
        before = len(Table(path).flows)
        fill(path, count)
        started = time.monotonic()
        weir.start(wait_up=False)
        assert traffic.ask(connection) == name
        answered = time.monotonic() - started
        info = weir.info()
        assert info["adopted"] == before + count
        measured.append(f"{info['adopted']:,} flows adopted in {info['adopted_ms']} ms, the first "
                        f"answer {answered * 1000:.0f} ms after the start")
        assert info["adopted_ms"] < 5000 * PATIENCE     # 250 on an idle machine
    connection.close()


def test_idle_times_are_those_of_the_service(lab, start_weir):
    """The time without a process counts, by the service's clock; and with on_idle = "reset" the
    client is told as soon as there is one again."""
    web = weir_module.config(lab)["services"]["web"]
    brief = {**web, "timeouts": {"established_s": 2}}
    weir = start_weir(services={"brief": {**brief, "listen": ":81"},
                                "told": {**brief, "listen": ":82", "on_idle": "reset"}})
    with lab.client.entered():
        connections = {port: [traffic.connect(port=port) for _ in range(10)]
                       for port in (80, 81, 82)}
    for one in (*connections[80], *connections[81], *connections[82]):
        traffic.ask(one)
    weir.kill()
    time.sleep(3.5)
    weir.start(wait_up=False)
    info = weir.info()
    assert info["not_adopted_expired"] == 10, info
    for connection in connections[80]:
        traffic.ask(connection)
    for port in (81, 82):
        for connection in connections[port]:
            with pytest.raises(ConnectionResetError):
                if port == 81:
                    connection.sendall(REQUEST)
                connection.recv(1)
    for one in (*connections[80], *connections[81], *connections[82]):
        one.close()


def test_other_snat_ports(lab, start_weir):
    """A connection keeps its port, though nobody would get it today."""
    weir = start_weir(snat={"ports": ("2000-2999",)})
    with lab.client.entered():
        connections = [traffic.connect() for _ in range(20)]
    names = [traffic.ask(connection) for connection in connections]
    weir.kill()
    change(weir, snat={"ports": ("4000-4999",)})
    weir.start()
    assert [traffic.ask(connection) for connection in connections] == names
    for connection in connections:
        connection.close()
    assert traffic.errors(traffic.requests(lab.client, 50)) == []


def test_verdicts_and_totals_carry_over(lab, start_weir):
    """No backend is unknown, a dead one stays down, and totals go on."""
    weir = start_weir(services={"web": {"health": {"rise": 10, "fall": 10}}})
    traffic.requests(lab.client, 200)
    lab.backend("con1").kill()
    weir.wait_health("con1", "down", 20)
    before = weir.backends()
    time.sleep(1.2)                         # totals are written once a second
    weir.kill()
    weir.start(wait_up=False)
    after = weir.backends()
    assert {name: one["health"] for name, one in after.items()} == \
        {"con1": "down", "con2": "up", "con3": "up", "con4": "up"}
    assert after["con1"]["reason"] == before["con1"]["reason"]
    for name, backend in before.items():
        for key in ("connections", "packets_in", "bytes_out"):
            assert after[name][key] >= backend[key] > 0
    assert traffic.errors(traffic.requests(lab.client, 100)) == []


@pytest.mark.sanitized
@pytest.mark.parametrize("damage", ("foreign", "cut", "header"))
def test_a_damaged_table_is_kept_aside(lab, start_weir, damage):
    weir = start_weir()
    path = weir.flows()[0]["file"]
    traffic.requests(lab.client, 20)
    weir.kill()
    if damage == "cut":
        os.truncate(path, 2 << 20)
    else:
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), 1 << 21) as memory:
            if damage == "foreign":
                memory[0:4096] = b"no table" * 512
            else:
                memory[64] ^= 1
                memory[2048 + 64] ^= 1
    weir.start()
    info = weir.info()
    assert info["adopted"] == 0 and info["adopt_refused"], info
    assert os.path.exists(path + ".refused") and "isn't taken" in weir.log()
    assert traffic.errors(traffic.requests(lab.client, 50)) == []
    assert weir.stop() == 0
    assert not os.path.exists(path) and not os.path.exists(path + ".refused")


@pytest.mark.ci
@pytest.mark.parametrize("driver", ("af_xdp", "af_packet"))
def test_telemetry_stays_where_it_is(lab, start_weir, driver):
    """After each upgrade the socket is found under the name of the instance, and the old process
    has left nothing."""
    weir = start_weir(driver=driver)
    before = len(weir.log())
    for _ in range(3):
        weir.upgrade()
        weir.wait(lambda: os.path.islink(f"/var/run/dpdk/{weir.prefix}"), what="the link")
        said = subprocess.run(["dpdk-telemetry.py", "-f", weir.prefix], input="/weir/info\nquit\n",
                              stdout=subprocess.PIPE, text=True, timeout=20 * PATIENCE)
        assert f'"pid": {weir.process.pid}' in said.stdout, said.stdout
        names = [name for name in os.listdir("/var/run/dpdk") if name.startswith(weir.prefix)]
        assert len(names) == 2, names
    assert "stays mute" not in weir.log()[before:]      # nobody has to give it back
    weir.kill()
    weir.start()                            # a link of the dead is no obstacle
    assert not os.path.islink(f"/var/run/dpdk/{weir.prefix}")


BIRD = """
router id {own};
protocol device {{ scan time 1; }}
protocol bgp peer {{
    local {own} as 65001;
    neighbor {other} as 65002;
    check link no;
    connect retry time 1; connect delay time 1;
    ipv4 {{ import all; export none; }};
}}
"""


def established(namespace, path):
    said = namespace.run("birdc", "-s", f"{path}.ctl", "show", "protocols", "all", "peer",
                         check=False)
    since = re.search(r"^peer\s.*\s(\d+):(\d+):([\d.]+)\s+Established", said.stdout, re.M)
    return since and sum(float(part) * 60 ** (2 - i) for i, part in enumerate(since.groups()))


@pytest.mark.skipif(shutil.which("bird") is None, reason="bird2 isn't installed")
def test_weir0_and_a_bird_session_stay(lab, start_weir):
    """The device with its addresses and neighbours, and BGP over it, with the default hold time and
    without BFD."""
    def device():
        link = weir.netns.run("ip", "-o", "link", "show", "dev", "weir0").stdout
        addresses = weir.netns.run("ip", "-o", "address", "show", "dev", "weir0").stdout
        neighbours = weir.netns.run("ip", "-4", "neighbour", "show", "dev", "weir0").stdout
        return link.split(":")[0], addresses, sorted(
            line.split("lladdr")[0] + line.split("lladdr")[1].split()[0]
            for line in neighbours.splitlines() if "lladdr" in line)

    weir = start_weir()
    daemons = []
    try:
        for namespace, own, other in ((weir.netns, VIP, CLIENT), (lab.client, CLIENT, VIP)):
            path = f"{lab.directory}/bird-{own}"
            with open(path, "w") as file:
                file.write(BIRD.format(own=own, other=other).replace(
                    "65001", "65001" if own == VIP else "65002x").replace(
                    "65002;", "65002;" if own == VIP else "65001;").replace("65002x", "65002"))
            daemons.append((namespace, path, namespace.popen(
                "bird", "-f", "-c", path, "-s", f"{path}.ctl", "-P", f"{path}.pid")))
        weir.wait(lambda: all(established(namespace, path) for namespace, path, _ in daemons), 40,
                  "a BGP session")
        before = [established(namespace, path) for namespace, path, _ in daemons]
        was = device()
        assert VIP in was[1] and all(any(address in one for one in was[2]) for address in
                                     (CLIENT, lab.host_address(0), lab.host_address(1))), was
        for how, event in EVENTS.items():
            event.end(weir)
            event.begin(weir)
            assert device() == was, how
            time.sleep(2)
            now = [established(namespace, path) for namespace, path, _ in daemons]
            # BIRD reckons the time of day anew each time: it may be a millisecond off.
            assert now == pytest.approx(before, abs=0.1), how
            assert device() == was, how
    finally:
        for _, _, process in daemons:
            process.kill()
            process.wait()


def fed(notified, seconds):
    """Whether the watchdog is fed in time; what was said before doesn't count."""
    notified.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            notified.recv(4096)
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        notified.settimeout(left)
        with contextlib.suppress(TimeoutError):
            if b"WATCHDOG=1" in notified.recv(4096):
                return True
    return False


def test_the_watchdog_is_fed_after_an_upgrade_that_fails(lab, monkeypatch):
    """By a process that was a successor itself and had to start again: systemd named another
    one."""
    binary = f"{lab.directory}/weir"
    shutil.copy(weir_module.BINARY, binary)
    monkeypatch.setattr(weir_module, "BINARY", binary)
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(f"{lab.directory}/notify")
    weir = weir_module.Weir(lab, weir_module.config(lab), environment={
        "NOTIFY_SOCKET": f"{lab.directory}/notify", "WATCHDOG_USEC": "1500000",
        "WATCHDOG_PID": "1"}).start()
    try:
        assert not fed(notified, 1)     # it is meant for another process
        weir.upgrade()
        assert fed(notified, 5 * PATIENCE)
        put_broken(binary)
        with pytest.raises(WeirFailed, match="goes on"):
            weir.upgrade()
        assert fed(notified, 5 * PATIENCE)
        assert weir.stop() == 0
    finally:
        notified.close()
        monkeypatch.undo()
        weir.kill()
        weir.forget()


BROKEN = """#!/usr/bin/python3
import os, socket
pair = socket.socket(fileno=3)
pair.send(b"prepared")
pair.recv(100)
os._exit(1)
"""


def put_broken(binary):
    """A program that fails when the port is its own, in the place of weir's."""
    os.unlink(binary)
    with open(binary, "w") as file:
        file.write(BROKEN)
    os.chmod(binary, 0o755)


@pytest.mark.sanitized
def test_an_upgrade_that_fails_changes_nothing(lab, start_weir, monkeypatch):
    """The file is wrong when the new process reads it; or the new program fails when the port is
    its own: then the former one starts again, and has all connections."""
    binary = f"{lab.directory}/weir"
    shutil.copy(weir_module.BINARY, binary)
    monkeypatch.setattr(weir_module, "BINARY", binary)
    weir = start_weir()
    with lab.client.entered():
        connections = [traffic.connect(timeout=20) for _ in range(40)]
    names = [traffic.ask(connection) for connection in connections]
    with traffic.Stream(lab.client, threads=4, rate=100, timeout=20) as stream:
        with open(weir.path, "a") as file:
            file.write("nonsense = 1;\n")
        with pytest.raises(WeirFailed, match="nonsense"):
            weir.upgrade()
        change(weir, port={"mtu": 2000})
        with pytest.raises(WeirFailed, match="port.mtu"):
            weir.upgrade()
        change(weir)
        put_broken(binary)
        with pytest.raises(WeirFailed, match="goes on"):
            weir.upgrade()
        assert weir.info()["pid"] == weir.process.pid
        assert weir.info()["adopted"] >= len(connections)
        time.sleep(0.5)
    assert traffic.errors(stream.results) == []
    assert [traffic.ask(connection) for connection in connections] == names
    for connection in connections:
        connection.close()
