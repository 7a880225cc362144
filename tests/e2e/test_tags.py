# SPDX-License-Identifier: BSD-3-Clause
"""Frames with a tag, and others that aren't IP."""

import time

import pytest

import traffic
from capture import Capture
from lab import CLIENT, VIP
from weir import DRIVERS
from wiretap import Wire

SYN, SYNACK = 0x02, 0x12


def syn(sport):
    return b"\x08\x00" + traffic.tcp_packet(CLIENT, VIP, sport, 80, SYN)


@pytest.mark.sanitized
@pytest.mark.parametrize("driver", DRIVERS)
def test_tags(lab, start_weir, driver):
    """B14, E17: what has a VLAN's tag is never balanced, and comes to weir0 with its tags; by a
    priority tag (VLAN 0) nothing changes."""
    weir = start_weir(driver=driver)
    heads = [bytes.fromhex(head) for head in (
        "8100 0005", "8100 e007", "8100 0005 8100 0006", "88a8 0005 8100 0006", "88a8 0007",
        "8847 0001 01ff", "22f0")]
    created = sum(table["created"] for table in weir.flows())
    with Capture(weir.netns, "weir0") as capture, Wire(lab) as wire:
        for head in heads:
            wire.send(head + syn(23456))
        time.sleep(0.5)
    assert sum(table["created"] for table in weir.flows()) == created
    seen = [frame[12:] for frame in capture.frames if frame[6:12] == wire.own]
    for head in heads:
        if driver == "af_packet":       # which takes the outer tag off, and puts it back as 8100
            head = head.replace(b"\x88\xa8", b"\x81\x00")
        assert any(frame.startswith(head) for frame in seen), head.hex()
    assert sum(worker["tagged"] for worker in weir.workers()) == 5

    with Capture(lab.client, expression="tcp port 80") as answers, Wire(lab) as wire:
        for sport, head in enumerate(("8100 0000", "8100 e000", "88a8 0000"), 23457):
            wire.send(bytes.fromhex(head) + syn(sport))
        time.sleep(0.5)
    assert sorted(packet.dport for packet in answers.packets if packet.flags == SYNACK) \
        == [23457, 23458, 23459]
    assert answers.resets(VIP) == []
