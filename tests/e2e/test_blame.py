# SPDX-License-Identifier: BSD-3-Clause
"""What takes a backend out by its clients' connects, and what doesn't: W2, W7."""

import re
import socket
import struct
import time

import pytest

import traffic
from capture import SYN
from lab import CLIENT, VIP

# A machine that stops for a while is no backend's fault.
PASSIVE_ALONE = {"health": {"type": "none", "path": None}, "connect_timeout_ms": 500}
ODD_RATE, ODD_SECONDS = 50, 4
MD5 = bytes((19, 18)) + bytes(16) + b"\1\1"
SOURCE_ROUTE = bytes((131, 7, 4)) + socket.inet_aton("192.0.2.77") + b"\0"
AUTHENTICATION = struct.pack("!BBHII", 6, 1, 0, 1, 1)


def summed(weir, key):
    return sum(backend[key] for backend in weir.backends().values())


def downs(weir):
    """The backends that were taken out since the start; the file has former starts, too."""
    return re.findall(r"backend (\S+) \S+: down \(passive: ",
                      weir.log().rpartition("started in")[2])


def test_lost_syns_take_nobody_out(lab, start_weir):
    """W2: one of 200 is lost, of as many as the machine makes."""
    weir = start_weir(services={"web": PASSIVE_ALONE})
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
    for host in lab.hosts:
        host.run("nft", "add table inet lossy;"
                 " add chain inet lossy in { type filter hook input priority 0; };"
                 " add rule inet lossy in tcp flags & (syn | ack) == syn"
                 " numgen random mod 200 < 1 drop")
    try:
        traffic.wrk(lab.client, seconds=6, close=True)
    finally:
        for host in lab.hosts:
            host.run("nft", "delete table inet lossy")
    lost, made = summed(weir, "timed_out"), summed(weir, "attempts")
    print(f"{lost} of {made} connects lost")
    assert lost > made / 1000
    assert downs(weir) == []
    assert set(weir.health().values()) == {"up"}


@pytest.mark.parametrize("way", ("refuses", "ignores"))
def test_one_that_answers_nothing_goes_and_comes_back(lab, start_weir, way):
    """W2: with a share of its connects, too."""
    weir = start_weir(services={"web": {**PASSIVE_ALONE, "connect_timeout_ms": 250,
                                        "passive": {"retry_ms": 1000}}})
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
    with traffic.Stream(lab.client, threads=32, rate=100) as stream:
        time.sleep(1)                   # the window has answers
        victim = lab.backend("con2")
        victim.kill() if way == "refuses" else victim.cut()
        died = time.monotonic()
        weir.wait_health("con2", "down")
        reason = weir.backends()["con2"]["reason"]
        victim.start() if way == "refuses" else victim.mend()
        weir.wait_health("con2", "up")
    assert re.fullmatch(r"passive: \d+ connects (refused|unanswered)", reason), reason
    assert reason.endswith("refused" if way == "refuses" else "unanswered")
    assert traffic.errors(result for result in stream.results if result.start > died) == []
    assert "con2" in downs(weir)


def odd(kind, number):
    """A SYN that the kernel of a backend drops in silence; None: it makes no such one."""
    packet = traffic.tcp_packet(CLIENT, VIP, 20000 + number, 80, SYN, seq=number)
    header, segment = packet[:20], packet[20:]
    options, protocol = b"", 6
    if kind == "sum":
        segment = segment[:16] + bytes((segment[16] ^ 1,)) + segment[17:]
    elif kind == "md5":
        segment = segment[:12] + bytes((10 << 4,)) + segment[13:16] + b"\0\0" + segment[18:] + MD5
        pseudo = header[12:20] + struct.pack("!BBH", 0, 6, len(segment))
        total = struct.pack("!H", traffic.checksum(pseudo + segment))
        segment = segment[:16] + total + segment[18:]
    elif kind == "source route":
        options = SOURCE_ROUTE
    elif kind == "AH":
        segment, protocol = AUTHENTICATION + segment, 51
    size = 20 + len(options)
    header = bytes((0x40 | size // 4,)) + header[1:2] + struct.pack("!H", size + len(segment)) \
        + header[4:9] + bytes((protocol, 0, 0)) + header[12:] + options
    return header[:10] + struct.pack("!H", traffic.checksum(header)) + header[12:] + segment


def test_syns_that_every_kernel_ignores_blame_nobody(lab, start_weir):
    """W7: nobody is out, and the weights grow as after any start."""
    weir = start_weir(services={"web": {**PASSIVE_ALONE, "connect_timeout_ms": 250, "backends": [
        {"name": backend.name, "address": backend.endpoint, "slow_start_ms": ODD_SECONDS * 1000}
        for backend in lab.backends]}})
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
    with lab.client.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("eth0", 0))
        link = bytes.fromhex("02576569720a") + raw.getsockname()[4] + b"\x08\x00"
    frames = [link + odd(kind, number) for number in range(ODD_RATE * ODD_SECONDS)
              for kind in ("sum", "md5", "source route", "AH")]
    before, dropped = summed(weir, "attempts"), weir.drops()
    with traffic.Flood(lab.client, frames, 4 * ODD_RATE):
        time.sleep(ODD_SECONDS)
    weir.wait(lambda: {backend["weight_percent"] for backend in weir.backends().values()} == {100},
              what="the weights to grow")
    assert downs(weir) == []
    assert summed(weir, "timed_out") < ODD_RATE
    assert summed(weir, "attempts") - before > 2 * ODD_RATE     # they were sent on
    assert weir.drops()["bad_sum"] - dropped["bad_sum"] > ODD_RATE
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
