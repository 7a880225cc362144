# SPDX-License-Identifier: BSD-3-Clause
"""Frames that aren't IP: tags, and ARP that lies. The kernel is their judge, weir only carries them."""

import os
import random
import socket
import struct
import time

import pytest

import traffic
import weir as weir_module
from capture import Capture
from lab import CLIENT, PORT_MAC, VIP

pytestmark = pytest.mark.sanitized

NEIGHBOURS_MAX = 1024                   # the kernel's gc_thresh3


@pytest.fixture(scope="module")
def weir(lab):
    """By net_tap, which leaves frames as they are; af_packet and af_xdp on a veth don't."""
    running = weir_module.Weir(lab, weir_module.config(lab, "tap")).start()
    yield running
    assert running.stop() == 0


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


class Wire:
    """Sends frames out of the client's interface."""

    def __init__(self, lab):
        with lab.client.entered():
            self.raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.raw.bind(("eth0", 0))
        self.own = self.raw.getsockname()[4]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()

    def send(self, rest, to=PORT_MAC):
        self.raw.send(mac_bytes(to) + self.own + rest)

    def arp(self, operation, sender, sender_mac, target, to="ff:ff:ff:ff:ff:ff", lengths=b"\x06\x04"):
        self.send(b"\x08\x06" + b"\0\x01\x08\0" + lengths + struct.pack("!H", operation)
                  + sender_mac + socket.inet_aton(sender) + bytes(6) + socket.inet_aton(target), to)


def test_tags_are_not_lost(lab, weir):
    """B14: what has a tag is never taken for IP, and comes to weir0 with its tags."""
    ip = traffic.tcp_packet(CLIENT, VIP, 23456, 80, 2)
    heads = [bytes.fromhex(head) for head in (
        "8100 0005", "8100 e000", "8100 0005 8100 0006", "88a8 0005 8100 0006", "8847 0001 01ff",
        "22f0")]
    created = sum(table["created"] for table in weir.flows())
    with Capture(weir.netns, "weir0") as capture, Wire(lab) as wire:
        for head in heads:
            wire.send(head + (b"" if head[:2] in (b"\x88\x47", b"\x22\xf0") else b"\x08\0") + ip)
        time.sleep(0.5)
    assert sum(table["created"] for table in weir.flows()) == created
    seen = [frame[12:] for frame in capture.frames if frame[6:12] == wire.own]
    for head in heads:
        assert any(frame.startswith(head) for frame in seen), head.hex()


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
