# SPDX-License-Identifier: BSD-3-Clause
"""C3, W5, W6: what SYNs hold that nobody completes goes to who comes next, beside real servers; and
real clients don't put each other out."""

import random
import select
import socket
import time

import pytest

import traffic
from capture import SYN
from delay import DelayLine
from lab import VIP, VIP6

IDLE, CLIENTS_A_SECOND = 50, 20


class SynFlood(traffic.Paced):
    """SYNs from random sources, of 198.18.0.0/15 or 2001:2::/48, which nobody has; the client's
    kernel drops what is for them."""

    def __init__(self, lab, vip, rate):
        self._family = socket.AF_INET6 if ":" in vip else socket.AF_INET
        with lab.client.entered():
            raw = socket.socket(self._family, socket.SOCK_RAW, socket.IPPROTO_RAW)
        super().__init__(raw, rate)
        self._vip, self._rng = vip, random.Random(18)

    def send(self):
        number = self._rng.getrandbits(17)
        source = f"198.{18 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        if self._family == socket.AF_INET6:
            source = f"2001:2::{number >> 16}:{number & 0xffff:x}"
        self.raw.sendto(traffic.tcp_packet(
            source, self._vip, self._rng.randrange(1024, 65536), 80, SYN,
            self._rng.getrandbits(32)), (self._vip, 0))


def half_open(lab):
    """Connections that the servers' kernels wait for, but for those of weir's probes."""
    return sum(len(host.run("ss", "-Htn", "state", "syn-recv").stdout.splitlines())
               for host in lab.hosts)


def services(lab, vip, backends=None, **changes):
    """The lab's service on all backends, or some, in the family of the virtual address."""
    return {"web": {"backends": [
        {"address": one.endpoint6 if vip == VIP6 else one.endpoint, "name": one.name, **changes}
        for one in backends or lab.backends]}}


def new_clients_under(lab, weir, vip, rate, seconds, held, what, measured):
    """The flood for so long, with new clients meanwhile and after it; `held`: what half-open ones
    can hold in all."""
    # Who has connected says how long clients take: a hundred of each worker at least.
    assert traffic.errors(traffic.requests(lab.client, 300, address=vip)) == []
    with lab.client.entered():
        idle = [traffic.connect(vip) for _ in range(IDLE)]
    try:
        for connection in idle:         # nginx waits for a first request for a minute only
            traffic.ask(connection)
        with SynFlood(lab, vip, rate) as flood, \
                traffic.Stream(lab.client, rate=CLIENTS_A_SECOND, address=vip) as during:
            time.sleep(seconds)
            waiting = half_open(lab)
        after = traffic.requests(lab.client, 100, address=vip)
        results = during.results + after
        failed = traffic.errors(results)
        gave_way = sum(table[what] for table in weir.flows())
        measured.append(f"{flood.sent} SYNs in {seconds} s: {len(failed)} of {len(results)} "
                        f"clients failed, {gave_way} half-open flows gave way, {waiting} left")
        # The servers have let go of the others: their kernels took the resets.
        assert waiting <= held + rate < flood.sent
        assert len(failed) <= len(results) // 100, failed[:5]
        assert gave_way > 0
        for connection in idle:
            traffic.ask(connection)
    finally:
        for connection in idle:
            connection.close()


ADDRESSES = {"address": (f"{VIP}/24", f"{VIP6}/64")}


def flood_for_ports(lab, start_weir, vip, ports, rate, seconds, measured, **options):
    weir = start_weir(lab, snat={"ports": (f"20000-{20000 + ports - 1}",)}, port=ADDRESSES,
                      services=services(lab, vip), **options)
    new_clients_under(lab, weir, vip, rate, seconds, 4 * ports, "gave_way_for_port", measured)


def flood_for_places(lab, start_weir, vip, places, rate, seconds, measured, **options):
    weir = start_weir(lab, port=ADDRESSES, services=services(lab, vip, max_conns=places), **options)
    new_clients_under(lab, weir, vip, rate, seconds, 4 * places - IDLE, "gave_way_for_place",
                      measured)


@pytest.mark.parametrize("vip, workers", ((VIP, 1), pytest.param(VIP6, 2, marks=pytest.mark.ci)))
def test_half_open_flows_give_up_their_ports(clean_lab, start_weir, vip, workers, measured):
    """W5"""
    flood_for_ports(clean_lab, start_weir, vip, 64, 100, 5, measured, workers=workers)


@pytest.mark.parametrize("vip, workers", (pytest.param(VIP, 2, marks=pytest.mark.ci), (VIP6, 1)))
def test_half_open_flows_give_up_their_places(clean_lab, start_weir, vip, workers, measured):
    """W6"""
    flood_for_places(clean_lab, start_weir, vip, 30, 35, 6, measured, workers=workers)


@pytest.mark.ci
@pytest.mark.slow
def test_a_longer_flood_for_ports(clean_lab, start_weir, measured):
    """W5"""
    flood_for_ports(clean_lab, start_weir, VIP, 1024, 200, 40, measured)


@pytest.mark.ci
@pytest.mark.slow
def test_a_slow_flood_for_places(clean_lab, start_weir, measured):
    """W6"""
    flood_for_places(clean_lab, start_weir, VIP, 100, 5, 120, measured)


@pytest.mark.parametrize("vip", (VIP, VIP6))
def test_the_backend_forgets_who_gave_way(clean_lab, start_weir, vip):
    """W5: with one port its kernel would meet the next SYN in the half-open connection."""
    lab = clean_lab
    backend = lab.backend("con1")
    config = services(lab, vip, [backend])
    config["web"]["health"] = {"type": "none", "path": None}
    weir = start_weir(lab, snat={"ports": ("20000-20000",)}, port=ADDRESSES, services=config)
    flood = SynFlood(lab, vip, 0)
    flood.send()
    weir.wait(lambda: half_open(lab) == 1, what="the half-open connection")
    time.sleep(1.1)                     # nobody has said how long clients take: a second
    with lab.client.entered(), traffic.connect(vip) as client:
        weir.wait(lambda: half_open(lab) == 0, what="none any more")
        assert traffic.ask(client) == "con1"
    assert sum(table["gave_way_for_port"] for table in weir.flows()) == 1
    assert sum(table["gave_way_silent"] for table in weir.flows()) == 0


def at_once(namespace, count):
    """Connect so many clients at once; those that are connected."""
    with namespace.entered():
        clients = [socket.socket() for _ in range(count)]
    poll = select.poll()
    for client in clients:
        client.setblocking(False)
        client.connect_ex((VIP, 80))
        poll.register(client, select.POLLOUT)
    waiting = {client.fileno(): client for client in clients}
    through, deadline = [], time.monotonic() + 30
    while waiting and time.monotonic() < deadline:
        for number, _ in poll.poll(1000):
            client = waiting.pop(number)
            poll.unregister(number)
            if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                through.append(client)
            else:
                client.close()
    assert not waiting, f"{len(waiting)} of {count} clients have no answer"
    return through


@pytest.mark.parametrize("what, limit", (("ports", 64), ("places", 10)))
def test_a_thousand_clients_at_once(clean_lab, start_weir, what, limit):
    """C3, C4: 100 ms away, on one backend: as many get through as there is room for, and each of
    them can go on."""
    lab = clean_lab
    backend = {"address": lab.backend("con1").endpoint, "name": "con1"}
    changes = {}
    if what == "ports":
        changes["snat"] = {"ports": ("20000-20063",)}
    else:
        backend["max_conns"] = limit
    with DelayLine(lab, 0, 0.1):
        start_weir(lab, services={"web": {
            "backends": [backend], "health": {"type": "none", "path": None}}}, **changes)
        through = at_once(lab.client, 1000)
        try:
            assert len(through) == limit
            for client in through:
                client.setblocking(True)
                client.settimeout(10)
                assert traffic.ask(client) == "con1"
        finally:
            for client in through:
                client.close()
