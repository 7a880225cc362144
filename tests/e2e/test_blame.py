# SPDX-License-Identifier: BSD-3-Clause
"""What takes a backend out by its clients' connects, and what doesn't: W2."""

import re
import time

import pytest

import traffic

# A machine that stops for a while is no backend's fault.
PASSIVE_ALONE = {"health": {"type": "none", "path": None}, "connect_timeout_ms": 500}


def summed(weir, key):
    return sum(backend[key] for backend in weir.backends().values())


def downs(weir):
    """The backends that were taken out since the start; the file has former starts, too."""
    return re.findall(r"backend (\S+) \S+: down \(passive: ", weir.log().rpartition("started in")[2])


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
