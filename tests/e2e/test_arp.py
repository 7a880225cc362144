# SPDX-License-Identifier: BSD-3-Clause
"""ARP that lies. The kernel is its judge, weir only carries it."""

import os
import random
import time

import pytest

import traffic
import weir as weir_module
from lab import PORT_MAC, VIP
from wiretap import Wire

pytestmark = pytest.mark.sanitized

NEIGHBOURS_MAX = 1024                   # the kernel's gc_thresh3


@pytest.fixture(scope="module")
def weir(lab):
    """One for all of these tests."""
    running = weir_module.Weir(lab, weir_module.config(lab, "tap")).start()
    yield running
    assert running.stop() == 0


def test_pinned_neighbour_is_not_overwritten(lab, weir):
    """B20: an ARP that claims a backend's address changes nothing that the operator has pinned."""
    backend = lab.backend("con1")
    mac = weir.backends()["con1"]["mac"]
    weir.netns.ip(f"neighbour replace {backend.address} lladdr {mac} dev weir0 nud permanent")
    try:
        with Wire(lab) as wire:
            for _ in range(50):
                wire.arp(2, backend.address, wire.own, backend.address)
                wire.arp(1, backend.address, wire.own, VIP)
                wire.arp(2, backend.address, wire.own, VIP, PORT_MAC)
                time.sleep(0.01)
        time.sleep(0.3)
        assert weir.backends()["con1"]["mac"] == mac
        assert traffic.errors(traffic.requests(lab.client, 100)) == []
    finally:
        weir.netns.ip(f"neighbour delete {backend.address} dev weir0")


def test_arp_flood_and_nonsense(lab, weir):
    """B20: 20,000 ARP packets, from all over and of any length; nobody minds."""
    rng = random.Random(20)
    macs = {name: backend["mac"] for name, backend in weir.backends().items()}
    with traffic.Stream(lab.client, threads=2, rate=40) as stream, Wire(lab) as wire:
        for i in range(20000):
            sender = f"{rng.choice((192, 10))}.0.2.{rng.randrange(120, 255)}"
            wire.arp(rng.choice((1, 1, 2, 0, 9)), sender, os.urandom(6), VIP,
                     lengths=b"\x06\x04" if i % 4 else os.urandom(2))
            if i % 100 == 0:
                wire.send(b"\x08\x06" + os.urandom(rng.randrange(40)), "ff:ff:ff:ff:ff:ff")
        time.sleep(0.5)
    assert traffic.errors(stream.results) == [] and len(stream.results) > 5
    known = weir.netns.run("ip", "neighbour", "show", "dev", "weir0").stdout.splitlines()
    assert len(known) <= NEIGHBOURS_MAX
    assert {name: backend["mac"] for name, backend in weir.backends().items()} == macs
    assert set(weir.health().values()) == {"up"}
