# SPDX-License-Identifier: BSD-3-Clause
"""Connections that one side closes and the other doesn't, or both at once."""

import hashlib
import os
import socket
import threading
import time

import pytest

import traffic
import weir as weir_module
from capture import FIN, Capture
from lab import VIP, VIP6

CLOSING_SECONDS = 1                     # what the half-closed connection has to outlive
TIMEOUTS = {"closing_s": CLOSING_SECONDS, "time_wait_s": 1, "close_s": 1}
PART = 65536


@pytest.fixture
def weir(lab, start_weir):
    """One backend a family, none of which anybody serves yet."""
    backend = lab.backend("con1")
    web = weir_module.config(lab)["services"]["web"]
    web = {**web, "health": {"type": "none"}, "timeouts": TIMEOUTS}
    # The usual service has a probe with a path; what is laid over it takes that away.
    return start_weir(port={"address": (f"{VIP}/24", f"{VIP6}/64")}, services={
        "web": {**web, "health": {"type": "none", "path": None},
                "backends": [{"address": backend.endpoint, "name": "con1"}]},
        "web6": {**web, "backends": [{"address": backend.endpoint6, "name": "con1"}]}})


def listen(backend, address):
    """In place of the backend's nginx, whose workers outlive its master for a moment."""
    backend.kill()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    deadline = time.monotonic() + 5
    while True:
        try:
            with backend.namespace.entered():
                return socket.create_server((address, backend.port), family=family, backlog=100)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@pytest.fixture
def pair(lab, weir):
    """pair(VIP): a client's connection through weir, and its other end."""
    listeners = {}

    def make(vip):
        backend = lab.backend("con1")
        address = backend.address6 if ":" in vip else backend.address
        if address not in listeners:
            listeners[address] = listen(backend, address)
        with lab.client.entered():
            client = traffic.connect(vip)
        end, _ = listeners[address].accept()
        end.settimeout(30)
        client.settimeout(30)
        return client, end

    yield make
    for listener in listeners.values():
        listener.close()


def send_slowly(connection, size, seconds, digest):
    """So many bytes over so many seconds, in parts."""
    started, sent = time.monotonic(), 0
    while sent < size:
        part = os.urandom(PART)
        digest.update(part)
        connection.sendall(part)
        sent += PART
        rest = started + seconds * sent / size - time.monotonic()
        if rest > 0:
            time.sleep(rest)
    connection.close()


def carry(weir, pair, vip, closed_by, size, seconds):
    client, end = pair(vip)
    closing, sending = (client, end) if closed_by == "client" else (end, client)
    closing.sendall(b"all I have to say")
    closing.shutdown(socket.SHUT_WR)
    received = b""
    while more := sending.recv(100):
        received += more
    assert received == b"all I have to say"
    sent, got = hashlib.sha256(), hashlib.sha256()
    thread = threading.Thread(target=send_slowly, args=(sending, size, seconds, sent), daemon=True)
    thread.start()
    while data := closing.recv(1 << 20):
        got.update(data)
    thread.join()
    closing.close()
    assert got.hexdigest() == sent.hexdigest()
    weir.wait(lambda: all(row["used"] == 0 for row in weir.telemetry.pages("/weir/snat")),
              what="the ports given back")


@pytest.mark.parametrize("vip, closed_by", (
    (VIP, "client"), (VIP6, "server"),
    pytest.param(VIP, "server", marks=pytest.mark.ci),
    pytest.param(VIP6, "client", marks=pytest.mark.ci)))
def test_the_other_side_sends_on(weir, pair, vip, closed_by):
    """A11: for several times what a silent half-closed connection lives."""
    carry(weir, pair, vip, closed_by, 8 << 20, 4 * CLOSING_SECONDS + 2)


@pytest.mark.full
@pytest.mark.parametrize("closed_by", ("client", "server"))
@pytest.mark.parametrize("vip", (VIP, VIP6))
def test_a_hundred_megabytes(weir, pair, vip, closed_by):
    """A11, whole."""
    carry(weir, pair, vip, closed_by, 100 << 20, 10)


def closed(packets, reset):
    """Whether both ends' FINs had come by before it. Then it says no more than that a socket is
    gone by the time that a straggler comes for it: on two CPUs an ACK may be overtaken by a FIN."""
    port = reset.dport if reset.sport == 80 else reset.sport
    before = packets[:packets.index(reset)]
    return len({packet.sport for packet in before
                if packet.flags & FIN and port in (packet.sport, packet.dport)}) == 2


@pytest.mark.parametrize("vip", (VIP, VIP6))
def test_both_close_at_once(lab, weir, pair, vip):
    """A10: each end sees the other's FIN and nothing else, and weir forgets the connection."""
    with Capture(lab.client, expression="tcp port 80") as capture:
        for _ in range(30):
            ends = pair(vip)
            barrier = threading.Barrier(2)

            def close(connection):
                barrier.wait()
                connection.shutdown(socket.SHUT_WR)

            threads = [threading.Thread(target=close, args=(end,)) for end in ends]
            for thread in threads:
                thread.start()
            for thread, end in zip(threads, ends):
                thread.join()
                assert end.recv(1) == b""
            for end in ends:
                end.close()
    assert [reset for reset in capture.resets() if not closed(capture.packets, reset)] == []
    weir.wait(lambda: sum(table["used"] for table in weir.flows()) == 0, what="all forgotten")
    assert all(row["used"] == 0 for row in weir.telemetry.pages("/weir/snat"))
