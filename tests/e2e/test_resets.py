# SPDX-License-Identifier: BSD-3-Clause
"""Resets that Weir sends for somebody else, against the real TCP stack: it takes them (RFC 5961),
and there is no exchange of challenge ACKs and resets after them."""

import collections
import contextlib
import socket
import threading
import time

import pytest

import traffic
import weir as weir_module
from capture import RST, Capture
from lab import CLIENT, VIP
from netns import PATIENCE
from test_on_down import wait_reset

pytestmark = pytest.mark.sanitized

PORTS = 4
IDLE = {"on_idle": "reset", "timeouts": {"established_s": 3}}


class Server:
    """A server in place of con1's nginx that keeps its end of each connection at hand."""

    def __init__(self, backend):
        self.backend = backend
        self.backend.kill()
        self.listener = self._listen()
        self.listener.settimeout(10 * PATIENCE)
        self.namespace = backend.namespace

    def _listen(self):
        address = (self.backend.address, self.backend.port)
        with self.backend.namespace.entered():
            return socket.create_server(address, backlog=100)

    def accept(self):
        """The end of the next connection that is no probe's."""
        while True:
            connection, (_, port) = self.listener.accept()
            if not 32768 <= port < 61000:
                connection.settimeout(10 * PATIENCE)
                return connection
            connection.close()

    def pair(self, **options):
        """A client's connection and its other end."""
        with self.client.entered():
            client = traffic.connect(**options)
        return client, self.accept()


@pytest.fixture
def start(lab, start_weir):
    """A weir with one backend, whose ends are ours."""
    servers = []

    def start(ports=None, **service):
        backend = lab.backend("con1")
        servers.append(Server(backend))
        servers[-1].client = lab.client
        changes = {"snat": {"ports": (ports,)}} if ports else {}
        return start_weir(services={"web": {
            "backends": [{"address": backend.endpoint, "name": "con1"}],
            "health": {"type": "none", "path": None}, **service}}, **changes), servers[-1]

    yield start
    for server in servers:
        server.listener.close()


def assert_is_reset(*connections):
    """Each gets ECONNRESET."""
    for connection in connections:
        wait_reset(connection)


@contextlib.contextmanager
def short_exchange(lab, server, resets):
    """At the end both hosts have seen at most so many resets for each connection, and nothing
    behind them: no challenge was sent."""
    port = server.backend.port
    with Capture(lab.client, expression="tcp port 80") as at_client, \
            Capture(server.namespace, expression=f"tcp port {port}") as at_server:
        yield
        time.sleep(0.5)
    for packets, host in ((at_client.packets, CLIENT), (at_server.packets, server.backend.address)):
        by_connection = collections.defaultdict(list)
        for packet in packets:
            ours, other = (packet.sport, packet.dport) if packet.source == host \
                else (packet.dport, packet.sport)
            if host == CLIENT or not 32768 <= other < 61000:
                by_connection[ours, other].append(packet)
        assert by_connection
        for exchange in by_connection.values():
            received = [at for at, packet in enumerate(exchange)
                        if packet.flags & RST and packet.source != host]
            assert 1 <= len(received) <= resets, exchange
            behind = [packet for packet in exchange[received[0]:] if packet.source == host]
            assert behind == [], f"{host} answers a reset: {behind}"


def test_idle_connections_are_reset(lab, start):
    """on_idle = "reset": both ends get ECONNRESET, after data and without."""
    weir, server = start(**IDLE)
    pairs = [server.pair() for _ in range(3)]
    for client, end in pairs[1:]:
        client.sendall(b"ask")
        assert end.recv(10) == b"ask"
        end.sendall(b"answer")
        assert client.recv(10) == b"answer"
    with short_exchange(lab, server, 1):
        for client, end in pairs:
            assert_is_reset(client, end)
    weir.wait(lambda: weir.flows()[0]["expired_reset"] == 3, what="three counted")


def test_a_backend_that_is_down(lab, start):
    """on_down = "reset": both ends get ECONNRESET, idle, after an exchange, and while the client
    waits for an answer. The server's kernel lives, and would challenge what isn't exact."""
    weir, server = start(on_down="reset", on_down_reset_ms=0, health={
        "type": "tcp", "path": None, "interval_ms": 300, "timeout_ms": 250, "fall": 6})
    _, asked, waiting = pairs = [server.pair() for _ in range(3)]
    for client, end in asked, waiting:
        client.sendall(b"ask")
        assert end.recv(10) == b"ask"
    asked[1].sendall(b"answer")
    assert asked[0].recv(10) == b"answer"
    with short_exchange(lab, server, 1):
        server.listener.close()         # probes are refused, and the connections stay
        for client, end in pairs:
            assert_is_reset(client, end)
    weir.wait(lambda: weir.flows()[0]["reset"] == 3, what="three counted")


def test_idle_connections_are_forgotten(lab, start):
    """on_idle = "drop": nobody is told, and whoever speaks then gets ECONNRESET: a client, a
    server."""
    weir, server = start(timeouts={"established_s": 1})
    pairs = [server.pair() for _ in range(2)]
    weir.wait(lambda: weir.flows()[0]["expired"] == 2, what="both forgotten")
    pairs[0][0].sendall(b"too late")
    assert_is_reset(pairs[0][0])
    pairs[1][1].sendall(b"too late")
    assert_is_reset(pairs[1][1])
    assert weir.flows()[0]["expired_reset"] == 0


@pytest.mark.ci
def test_another_service_keeps_its_times(lab, start_weir):
    """And a reload changes them in place."""
    web = weir_module.config(lab)["services"]["web"]
    services = {"web": {**web, **IDLE}, "other": {**web, "listen": ":81"}}
    weir = start_weir(services=services)
    with lab.client.entered():
        short, long = traffic.connect(), traffic.connect(port=81)
    wait_reset(short)
    time.sleep(1)
    assert traffic.ask(long)
    with lab.client.entered():
        lasting = traffic.connect()
    changed = weir_module.config(lab)
    changed["services"] = {"web": web, "other": {**web, "listen": ":81", **IDLE}}
    with open(weir.path, "w") as file:
        file.write(weir_module.dump(changed))
    before = weir.info()["reloads"]
    weir.process.send_signal(1)
    weir.wait(lambda: weir.info()["reloads"] == before + 1, what="the reload")
    assert weir.info()["reload_error"] == ""
    wait_reset(long)
    assert traffic.ask(lasting)
    lasting.close()


def test_moved_numbers(lab, start):
    """A connection whose numbers the backend sees moved: both ends take the reset."""
    weir, server = start(ports=f"20000-{20000 + PORTS - 1}", **IDLE)
    moved = 0
    for _ in range(40):                 # half of them need it: timestamps are random
        before = weir.flows()[0]["renumbered"]
        pairs = [server.pair() for _ in range(PORTS - 1)]
        moved = weir.flows()[0]["renumbered"] - before
        if moved >= 2:
            break
        for client, end in pairs:
            end.close()                 # first, so that its host holds TIME_WAIT
            assert client.recv(1) == b""
            client.close()
    assert moved >= 2
    for client, end in pairs:
        client.sendall(b"ask")
        assert end.recv(10) == b"ask"
    with short_exchange(lab, server, 1):
        for client, end in pairs:
            assert_is_reset(client, end)


def flow_of_data(connection, stop):
    """Send all the time, until reset."""
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while not stop.is_set():
            connection.sendall(bytes(100000))


@pytest.mark.parametrize("sender", ("client", "server"))
def test_data_under_way(lab, start, sender):
    """The backend leaves the file while data flows one way: both ends get ECONNRESET at once,
    though nobody knows how far it has come. Neither is left to its retransmission timer."""
    weir, server = start(on_remove="reset")
    client, end = server.pair()
    source, sink = (client, end) if sender == "client" else (end, client)
    stop = threading.Event()
    thread = threading.Thread(target=flow_of_data, args=(source, stop), daemon=True)
    thread.start()
    for _ in range(50):
        assert sink.recv(100000)
    changed = weir_module.config(lab, services={"web": {
        "backends": [{"address": lab.backend("con2").endpoint, "name": "con2"}],
        "health": {"type": "none", "path": None}, "on_remove": "reset"}})
    with open(weir.path, "w") as file:
        file.write(weir_module.dump(changed))
    started = time.monotonic()
    weir.process.send_signal(1)
    with pytest.raises(ConnectionResetError):
        while sink.recv(100000):
            pass
    thread.join(10 * PATIENCE)
    assert not thread.is_alive()
    assert time.monotonic() - started < 10 * PATIENCE
    stop.set()
    weir.wait(lambda: weir.flows()[0]["reset"] == 1, what="one counted")


def test_ports_run_out_exactly(lab, start):
    """C4: 64 ports, 74 clients: 64 get one, 10 are refused at once and counted where they were; the
    log says so, and that it was near. When one closes one more comes; at the end none is lost."""
    weir, server = start(ports="20000-20063")

    def use():
        rows = weir.telemetry.pages("/weir/snat")
        assert [(row["backend"], row["snat"], row["size"]) for row in rows] == [("con1", VIP, 64)]
        return rows[0]

    pairs = [server.pair() for _ in range(51)]
    assert (use()["used"], use()["percent"], use()["high"]) == (51, 79, 0)
    assert weir.telemetry.pages("/weir/snat,web") == [use()]
    pairs.append(server.pair())
    assert (use()["used"], use()["percent"], use()["high"], use()["refused"]) == (52, 81, 1, 0)
    weir.wait(lambda: f"81 % of the SNAT ports of {VIP} are in use (52 of 64)" in weir.log(),
              what="the line in the log")
    pairs += [server.pair() for _ in range(12)]
    with lab.client.entered():
        for _ in range(10):
            with pytest.raises(ConnectionRefusedError):
                traffic.connect(timeout=5)
    assert (use()["used"], use()["percent"], use()["refused"]) == (64, 100, 10)
    weir.wait(lambda: weir.flows()[0]["refused_snat_full"] == 10, what="ten counted")
    weir.wait(lambda: "no SNAT port was left, 10 times" in weir.log(),
              what="the line in the log")
    for client, end in pairs:
        client.sendall(b"still here")
        assert end.recv(20) == b"still here"

    def close(client, end):
        client.close()
        assert end.recv(1) == b""
        end.close()

    close(*pairs.pop())
    weir.wait(lambda: use()["used"] == 63, what="a port given back")
    pairs.append(server.pair())
    with lab.client.entered(), pytest.raises(ConnectionRefusedError):
        traffic.connect(timeout=5)
    assert (use()["used"], use()["refused"]) == (64, 11)
    while pairs:
        close(*pairs.pop())
    weir.wait(lambda: use()["used"] == 0, what="all ports given back")
    weir.wait(lambda: f"% of the SNAT ports of {VIP} are in use again" in weir.log(),
              what="the line in the log")
    assert use()["high"] == 0
