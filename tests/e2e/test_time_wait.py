# SPDX-License-Identifier: BSD-3-Clause
"""SNAT ports and client ports that are used again while the backend holds the connection before in
TIME_WAIT (case A12)."""

import contextlib
import socket
import time

import pytest

import traffic
import weir as weir_module
from lab import VIP, VIP6, Lab
from netns import PATIENCE

PORTS = 16                              # so each is used again after so many connections
# SYNs that a client may repeat since its machine stood still for a second: without what is tested
# here nearly half of all are.
REPEATED_MAX = 2
# Clients with clocks of their own: random offsets by connection, one clock for all, none.
TIMESTAMPS = (1, 2, 0)


@pytest.fixture(scope="module")
def lab(requirements):
    """One of its own: no port's first use meets the TIME_WAIT of an earlier test's connection."""
    with Lab() as made:
        yield made


@pytest.fixture(scope="module")
def clients(lab):
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(lab.further_client(index)) for index in range(len(TIMESTAMPS))]
        for client, timestamps in zip(made, TIMESTAMPS):
            client.sysctl(ipv4__tcp_timestamps=timestamps, ipv4__tcp_tw_reuse=1,
                          ipv4__tcp_tw_reuse_delay=1)
        yield made


@pytest.fixture(scope="module")
def weir(lab):
    config = weir_module.config(lab, port={"address": (f"{VIP}/24", f"{VIP6}/64")},
                                snat={"ports": (f"20000-{20000 + PORTS - 1}",)})
    backend = lab.backend("con1")
    web = config["services"]["web"]
    config["services"] = {
        "web": {**web, "backends": [{"address": backend.endpoint, "name": "con1"}]},
        "web6": {**web, "backends": [{"address": backend.endpoint6, "name": "con1"}]},
    }
    running = weir_module.Weir(lab, config).start()
    yield running
    assert running.stop() == 0


def extended(namespace, name):
    """One of the kernel's counters in /proc/net/netstat."""
    lines = namespace.run("cat", "/proc/net/netstat").stdout.splitlines()
    for names, values in zip(lines[::2], lines[1::2]):
        if name in names.split():
            return int(values.split()[names.split().index(name)])
    raise KeyError(name)


def repeated_syns(clients):
    return sum(extended(client, "TCPSynRetrans") for client in clients)


def waiting(lab, backend):
    """How many connections the backend's host holds in TIME_WAIT."""
    return len(backend.namespace.run("ss", "-Htn", "state", "time-wait",
                                     f"( sport = :{backend.port} )").stdout.splitlines())


def renumbered(weir):
    return sum(table["renumbered"] for table in weir.flows())


def challenged(weir):
    return sum(weir.backends(service)["con1"]["challenged"] for service in ("web", "web6"))


def in_turn(clients, address, count):
    """So many connections one after the other, by each client in turn; the results."""
    results = []
    for index in range(count):
        with clients[index % len(clients)].entered():
            results.append(traffic.timed_get(address=address))
    return results


def forget_all(weir, clients, address):
    """Leave each port in TIME_WAIT at the server, and start anew without a trace of that."""
    assert traffic.errors(in_turn(clients, address, 2 * PORTS)) == []
    assert weir.stop() == 0             # and forgets
    weir.start()


def reconnect(lab, weir, clients, address, count):
    """So many connections one after the other, closed by the server first, and what they met."""
    repeated = repeated_syns(clients)
    before = renumbered(weir)
    assert traffic.bodies(in_turn(clients, address, count)) == {"con1": count}
    # The last one may still be closing.
    weir.wait(lambda: waiting(lab, lab.backend("con1")) >= PORTS, what="each port in TIME_WAIT")
    # Four of nine meet a TIME_WAIT that wouldn't take them, or a few more.
    assert renumbered(weir) - before > count // 4
    assert repeated_syns(clients) - repeated <= REPEATED_MAX


@pytest.mark.parametrize("address", (VIP, VIP6))
def test_each_port_is_lent_again_at_once(lab, weir, clients, address):
    reconnect(lab, weir, clients, address, 200)


@pytest.mark.full
@pytest.mark.parametrize("address", (VIP, VIP6))
def test_a_thousand_reconnects(lab, weir, clients, address):
    """1,000 of 1,000 without a SYN sent twice."""
    reconnect(lab, weir, clients, address, 1000)


def test_moved_numbers_carry_a_download(lab, weir, clients):
    """Megabytes over connections whose numbers are moved, with losses: SACK blocks are moved,
    too."""
    backend = lab.backend("con1")
    with open(lab.big_file(), "rb") as file:
        expected = file.read(4000000)
    backend.namespace.run(
        "nft", "add table inet loss; "
        "add chain inet loss in { type filter hook input priority 0; }; "
        f"add rule inet loss in tcp dport {backend.port} numgen inc mod 50 == 7 "
        "meta length > 500 drop")
    clients[0].run("nft", "add table inet loss; "
                   "add chain inet loss in { type filter hook input priority 0; }; "
                   "add rule inet loss in tcp sport 80 numgen inc mod 100 == 3 "
                   "meta length > 500 drop")
    try:
        moved = 0
        for _ in range(100):
            before = renumbered(weir)
            with clients[0].entered(), traffic.connect(timeout=60) as connection:
                time.sleep(0.02)        # until the worker has published its counters
                if renumbered(weir) == before:
                    traffic.ask(connection, close=True)     # the server first, as before
                    continue
                moved += 1
                connection.sendall(b"PUT /upload/moved HTTP/1.1\r\nHost: weir\r\n"
                                   b"Content-Length: 2000000\r\n\r\n" + expected[:2000000])
                assert b" 201 " in connection.recv(1000) or moved > 1
                connection.sendall(b"GET /big HTTP/1.1\r\nHost: weir\r\n"
                                   b"Range: bytes=0-3999999\r\nConnection: close\r\n\r\n")
                data = b""
                while more := connection.recv(1 << 20):
                    data += more
                assert data.endswith(expected)
            with open(f"{lab.files}/upload/moved", "rb") as file:
                assert file.read() == expected[:2000000]
            if moved == 3:
                break
        assert moved == 3
    finally:
        backend.namespace.run("nft", "delete table inet loss")
        clients[0].run("nft", "delete table inet loss")


@pytest.mark.parametrize("address", (VIP, VIP6))
def test_a_fresh_weir_meets_them_all(lab, weir, clients, address):
    """A4: weir knows of no connection before, as after a reboot. The server's challenges end at
    weir, which sends the SYN again itself."""
    forget_all(weir, clients, address)
    repeated = repeated_syns(clients)
    assert traffic.errors(in_turn(clients, address, PORTS)) == []
    assert challenged(weir) > 0
    assert repeated_syns(clients) - repeated <= REPEATED_MAX


@pytest.mark.parametrize("address", (VIP, VIP6))
def test_a_dead_server_in_time_wait_refuses_at_once(lab, weir, clients, address):
    """Its host challenges the SYN though nobody listens any more; what it answers the next one by
    is the client's."""
    forget_all(weir, clients, address)
    backend = lab.backend("con1")
    repeated = repeated_syns(clients)
    backend.kill()
    try:
        results = in_turn(clients, address, PORTS)
    finally:
        backend.start()
    assert ["ConnectionRefusedError" in error
            for error in traffic.errors(results)] == [True] * PORTS, \
        traffic.errors(results)
    assert challenged(weir) > 0
    assert repeated_syns(clients) - repeated <= REPEATED_MAX
    weir.wait_all_up()


@pytest.mark.parametrize("first", ("server", "client"))
@pytest.mark.parametrize("address", (VIP, VIP6))
def test_same_four_numbers_again(lab, weir, clients, address, first):
    """A client that comes again from the same port at once, whoever closed first."""
    repeated = repeated_syns(clients)
    done = 0
    for index in range(60):
        # A client in TIME_WAIT itself needs timestamps to come again (RFC 6191).
        client = clients[index % (3 if first == "server" else 2)]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with client.entered():
            connection = socket.socket(family, socket.SOCK_STREAM)
        with connection:
            connection.settimeout(10 * PATIENCE)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind(("", 33333))
            try:
                connection.connect((address, 80))
            except OSError as error:    # its own kernel's clock hasn't moved on
                if first == "client" and error.errno in (98, 99):
                    continue
                raise
            assert traffic.ask(connection, close=first == "server") == "con1"
            done += 1
    assert done == 60 if first == "server" else done >= 20
    assert repeated_syns(clients) - repeated <= REPEATED_MAX
