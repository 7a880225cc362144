# SPDX-License-Identifier: BSD-3-Clause
"""Backends die in every way, and come back."""

import statistics
import time

import pytest

import traffic
from netns import PATIENCE

# D1: interval x fall + timeout + 50 ms with the defaults; unit tests hold it exactly.
DETECTION_SECONDS = 1.85
# D2: rise x interval, and a neighbour to resolve again.
RETURN_SECONDS = 1.05 + 1
BUSY_SECONDS = 3 * PATIENCE             # and what polling and a busy machine add

DEATHS = {
    # kind: (act, undo, the names that go)
    "kill": (lambda lab: lab.backend("con1").kill(), lambda lab: lab.backend("con1").start(),
             {"con1"}),
    "freeze": (lambda lab: lab.backend("con2").freeze(), lambda lab: lab.backend("con2").thaw(),
               {"con2"}),
    "cut": (lambda lab: lab.backend("con4").cut(), lambda lab: lab.backend("con4").mend(),
            {"con4"}),
    "unplug": (lambda lab: lab.unplug_host(1), lambda lab: lab.plug_host(1), {"con3", "con4"}),
    "sick": (lambda lab: lab.backend("con3").set_healthy(False),
             lambda lab: lab.backend("con3").set_healthy(True), {"con3"}),
}


def die_and_return(lab, weir, kind):
    act, undo, victims = DEATHS[kind]
    everybody = set(weir.backends())
    # Many threads: a quarter of the requests hangs until the death is known.
    with traffic.Stream(lab.client, threads=64, rate=150, timeout=2) as stream:
        time.sleep(0.5)
        died = time.monotonic()
        act(lab)
        for name in victims:
            detected = weir.wait_health(name, "down")
        assert detected - died < DETECTION_SECONDS + BUSY_SECONDS
        health = weir.health()
        assert {name for name in everybody if health[name] == "down"} == victims
        assert all(weir.backends()[name]["reason"] for name in victims)
        stream.more(60)

        returned = time.monotonic()
        undo(lab)
        undone = time.monotonic()       # an nginx takes its time to start
        for name in victims:
            back = weir.wait_health(name, "up")
        assert back - undone < RETURN_SECONDS + BUSY_SECONDS
        stream.more(60)
    before = [result for result in stream.results if result.end < died]
    down = [result for result in stream.results if detected < result.start < returned]
    after = [result for result in stream.results if result.start > back]
    assert traffic.errors(before) == [] and set(traffic.bodies(before)) == everybody
    # No request fails once the death is known, and none when the backend is back.
    assert len(down) > 50 and traffic.errors(down) == []
    assert set(traffic.bodies(down)) == everybody - victims
    assert traffic.errors(after) == [] and set(traffic.bodies(after)) == everybody


@pytest.mark.parametrize("kind", DEATHS)
def test_http_probe(lab, weir, kind):
    """D1, D2 with the HTTP probe, which sees them all."""
    die_and_return(lab, weir, kind)


def test_all_down(lab, weir):
    """D6: a SYN is refused at once, not met by silence; the first to return serves."""
    for backend in lab.backends:
        backend.kill()
    for name in weir.backends():
        weir.wait_health(name, "down")
    with lab.client.entered():
        times = []
        for _ in range(20):
            start = time.monotonic()
            with pytest.raises(ConnectionRefusedError):
                traffic.connect(timeout=3)
            times.append(time.monotonic() - start)
        assert statistics.median(times) < 0.2 * PATIENCE    # before a client repeats its SYN
        lab.backend("con3").start()
        weir.wait_health("con3", "up")
        assert traffic.get() == "con3"


@pytest.mark.full
@pytest.mark.slow
def test_a_hundred_deaths(lab, weir):
    """D1: found in time in each of 100 trials."""
    times = []
    for trial in range(100):
        backend = lab.backends[trial % 4]
        act = (backend.kill, backend.freeze, backend.cut)[trial % 3]
        time.sleep(0.013 * (trial % 40))    # anywhere between two probes
        died = time.monotonic()
        act()
        times.append(weir.wait_health(backend.name, "down") - died)
        backend.restore()
        weir.wait_health(backend.name, "up")
    assert statistics.median(times) < DETECTION_SECONDS
    assert max(times) < DETECTION_SECONDS + BUSY_SECONDS, sorted(times)[-5:]
