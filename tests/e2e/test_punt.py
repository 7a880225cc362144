# SPDX-License-Identifier: BSD-3-Clause
"""What floods the kernel's side of the port takes nothing from its other classes: W13."""

import contextlib
import socket
import struct
import time

import pytest

import traffic
import weir as weir_module
from lab import CLIENT6, PORT_MAC, VIP, VIP6
from netns import PATIENCE

ASKED, TRIES, PAUSE = 80, 3, 0.02
BUDGET = 1000                           # the default of all classes but one
RATE = 20 * BUDGET
PROBES = {"health": {"interval_ms": 500, "timeout_ms": 500}}
FLOOD_SECONDS = 3                       # time for three probes that fail, one after the other
ARP, IP6 = 0x0806, 0x86dd
SOLICIT, ADVERT, REDIRECT = 135, 136, 137
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23


@pytest.fixture(scope="module")
def weir(lab):
    config = weir_module.config(lab, port={"address": (f"{VIP}/24", f"{VIP6}/64"),
                                           "punt": {"backend": BUDGET}}, services={"web": PROBES})
    running = weir_module.Weir(lab, config).start()
    yield running
    assert running.stop() == 0


def mac_bytes(text):
    return bytes.fromhex(text.replace(":", ""))


def asker(number):
    """An IPv4 address of the lab's network that nobody has."""
    return f"192.0.2.{120 + number}"


def asker6(number):
    return f"2001:db8::a:{number + 1:x}"


def arp_request(own, number):
    return b"\xff" * 6 + own + struct.pack("!HHHBBH", ARP, 1, 0x0800, 6, 4, 1) + own \
        + socket.inet_aton(asker(number)) + bytes(6) + socket.inet_aton(VIP)


def solicitation(own, source, hops=255, kind=SOLICIT, code=0):
    """To the port itself: a neighbour solicitation, or another message of its kind."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, VIP6)
    message = struct.pack("!BBHI", kind, code, 0, 0) + socket.inet_pton(socket.AF_INET6, VIP6) \
        + b"\x01\x01" + own
    total = traffic.checksum(addresses + struct.pack("!II", len(message), 58) + message)
    message = message[:2] + struct.pack("!H", total) + message[4:]
    header = struct.pack("!HIHBB", IP6, 0x60000000, len(message), 58, hops)
    return mac_bytes(PORT_MAC) + own + header + addresses + message


def asked_by(frame):
    """Who is answered by an ARP reply or a neighbour advertisement of the VIP."""
    if frame[12:14] == struct.pack("!H", ARP) and frame[20:22] == b"\x00\x02" \
            and frame[28:32] == socket.inet_aton(VIP):
        return socket.inet_ntoa(frame[38:42])
    if frame[12:14] == struct.pack("!H", IP6) and frame[20] == 58 and frame[54] == ADVERT:
        return socket.inet_ntop(socket.AF_INET6, frame[38:54])
    return None


def answered(lab, protocol, make, names):
    """How many of so many requests, one after the other, are answered. As a host does, it asks
    again where nobody answers: a CPU that is away for a while loses frames of the flood and
    others."""
    with lab.client.entered():
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    with raw:
        raw.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)      # the flood, for one
        raw.bind(("eth0", protocol))
        own = raw.getsockname()[4]
        raw.settimeout(0.001)
        waiting = {names(number): number for number in range(ASKED)}

        def listen(seconds):
            deadline = time.monotonic() + seconds
            while waiting and time.monotonic() < deadline:
                with contextlib.suppress(TimeoutError):
                    waiting.pop(asked_by(raw.recv(2048)), None)

        for _ in range(TRIES):
            for number in list(waiting.values()):
                raw.send(make(own, number))
                listen(PAUSE)
            listen(PATIENCE)
        return ASKED - len(waiting)


def arp_answered(lab):
    return answered(lab, ARP, arp_request, asker)


def nd_answered(lab):
    return answered(lab, IP6, lambda own, number: solicitation(own, asker6(number)), asker6)


def forged(lab, **options):
    with lab.client.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        return solicitation(raw.getsockname()[4], CLIENT6, **options)


@pytest.mark.parametrize("options", ({"hops": 64}, {"hops": 254}, {"hops": 64, "kind": 134},
                                     {"hops": 64, "kind": REDIRECT}, {"code": 1}),
                         ids=("far", "near", "router", "redirect", "code"))
def test_discovery_from_beyond_the_link_takes_nothing(lab, weir, options):
    """W13: it can't have come from there, and is dropped before any budget."""
    before = weir.drops()
    with traffic.Flood(lab.client, [forged(lab, **options)], RATE) as flood:
        assert arp_answered(lab) == ASKED
        assert nd_answered(lab) == ASKED
    after = weir.drops()
    assert flood.sent > 2 * BUDGET * flood.seconds, "the machine is too slow for a flood"
    assert 0 < after["bad_nd"] - before["bad_nd"] <= flood.sent
    assert after["punt_nd_full"] == before["punt_nd_full"]
    assert after["punt_arp_full"] == before["punt_arp_full"]


def test_discovery_on_the_link_takes_no_arp(lab, weir):
    """W13: a budget each."""
    before = weir.drops()
    with traffic.Flood(lab.client, [forged(lab)], RATE) as flood:
        assert arp_answered(lab) == ASKED
    after = weir.drops()
    assert flood.sent > 2 * BUDGET * flood.seconds, "the machine is too slow for a flood"
    assert after["punt_nd_full"] > before["punt_nd_full"]
    assert after["bad_nd"] == before["bad_nd"]
    assert after["punt_arp_full"] == before["punt_arp_full"]


def udp_of(lab, source):
    """To a port of weir0 that nobody has, in another host's name."""
    with lab.client.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        own = raw.getsockname()[4]
    addresses = socket.inet_aton(source) + socket.inet_aton(VIP)
    start = struct.pack("!BBHHHBBH", 0x45, 0, 28 + 18, 1, 0, 64, socket.IPPROTO_UDP, 0)
    start = start[:10] + struct.pack("!H", traffic.checksum(start + addresses)) + addresses
    return mac_bytes(PORT_MAC) + own + b"\x08\x00" + start \
        + struct.pack("!HHHH", 9, 9, 8 + 18, 0) + bytes(18)


def test_whoever_takes_a_backends_name_takes_no_probe(lab, weir):
    """S1: what the answers to probes share a budget with isn't chosen by an address that anyone can
    write."""
    before, said = weir.drops(), len(weir.log())
    with traffic.Flood(lab.client, [udp_of(lab, backend.address) for backend in lab.backends],
                       RATE) as flood:
        assert arp_answered(lab) == ASKED
        time.sleep(FLOOD_SECONDS)
    after = weir.drops()
    assert flood.sent > 2 * BUDGET * flood.seconds, "the machine is too slow for a flood"
    assert after["punt_backend_full"] > before["punt_backend_full"]
    assert after["punt_arp_full"] == before["punt_arp_full"]
    assert ": down (" not in weir.log()[said:]
