# SPDX-License-Identifier: BSD-3-Clause
"""The kinds of probes and their schedule. The TCP probe sees what refuses or is silent; frozen
processes it can't see, by nature."""

import statistics
import time

import pytest

import traffic
from capture import Capture
from test_death import die_and_return

TCP = {"health": {"type": "tcp", "path": None}}


@pytest.mark.parametrize("kind", ("kill", "cut", "unplug"))
def test_tcp_probe(lab, start_weir, kind):
    die_and_return(lab, start_weir(services={"web": TCP}), kind)


def test_silence_when_asked_for(lab, start_weir):
    """D6: on_all_down = "drop"."""
    weir = start_weir(services={"web": {**TCP, "on_all_down": "drop"}})
    for backend in lab.backends:
        backend.kill()
    for name in weir.backends():
        weir.wait_health(name, "down")
    with lab.client.entered(), pytest.raises(TimeoutError):
        traffic.connect(timeout=1.5)


def test_probe_of_another_port(lab, start_weir):
    """con1 and con2 are probed on con2's port: both go when that one does."""
    weir = start_weir(services={"web": {
        "health": {"type": "tcp", "path": None, "port": 8081},
        "backends": [{"address": lab.backend(name).endpoint, "name": name}
                     for name in ("con1", "con2", "con3")]}})
    lab.backend("con2").kill()
    weir.wait_health("con1", "down")
    weir.wait_health("con2", "down")
    assert weir.health()["con3"] == "up"
    assert set(traffic.bodies(traffic.requests(lab.client, 50))) == {"con3"}


def test_no_probe(lab, start_weir):
    weir = start_weir(services={"web": {"health": {"type": "none", "path": None}}})
    lab.backend("con1").kill()
    with pytest.raises(TimeoutError):
        weir.wait_health("con1", "down", timeout=3)


def test_expected_status(lab, start_weir):
    """The status that counts as well is the file's."""
    weir = start_weir(services={"web": {"health": {"type": "http", "path": "/health",
                                                   "status": 503}}}, wait_up=False)
    lab.backend("con4").set_healthy(False)
    weir.wait_health("con4", "up")
    weir.wait_health("con1", "down")
    assert "200" in weir.backends()["con1"]["reason"]
    assert set(traffic.bodies(traffic.requests(lab.client, 30))) == {"con4"}


def test_shared_backends(lab, start_weir):
    """Two services over the same backends: one probe each, and both know of a death."""
    weir = start_weir(services={"second": {
        "listen": ":8000", "health": {"type": "http", "path": "/health"},
        "backends": [{"address": backend.endpoint, "name": backend.name}
                     for backend in lab.backends]}})
    assert len(traffic.bodies(traffic.requests(lab.client, 40, port=8000))) == 4
    lab.backend("con1").kill()
    weir.wait_health("con1", "down")
    weir.wait_health("con1", "down", service="second", timeout=1)
    for port in (80, 8000):
        results = traffic.requests(lab.client, 60, port=port)
        assert not traffic.errors(results) and "con1" not in traffic.bodies(results)


def gaps(times):
    return [after - before for before, after in zip(times, times[1:])]


PROBES = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"


def probe_times(lab, seconds):
    """When the kernel in weir0's namespace opened connections, by server."""
    with Capture(lab.hosts[0], expression=PROBES) as host1, \
            Capture(lab.hosts[1], expression=PROBES) as host2:
        time.sleep(seconds)
    times = {}
    for packet in host1.packets + host2.packets:
        assert 32768 <= packet.sport < 61000, "a port that is for balanced connections"
        times.setdefault((packet.destination, packet.dport), []).append(packet.time)
    return times


def test_schedule(lab, start_weir):
    """One probe for one server every 500 ms, whatever the number of services, spread in time."""
    start_weir(services={"second": {
        "listen": ":8000", "health": {"type": "http", "path": "/health"},
        "backends": [backend.endpoint for backend in lab.backends]}})
    times = probe_times(lab, 5)
    assert len(times) == 4
    for server, sent in times.items():
        assert 0.4 < statistics.median(gaps(sent)) < 0.6, (server, sent)
        assert len(sent) <= (sent[-1] - sent[0]) / 0.5 + 2, (server, sent)
    phases = sorted(statistics.median(at % 0.5 for at in sent) for sent in times.values())
    assert phases[-1] - phases[0] > 0.02, f"all probes go out at once: {phases}"


def test_settings(lab, start_weir):
    """interval_ms, fall and rise are the file's; that they are kept exactly is a unit test."""
    weir = start_weir(services={"web": {"health": {"interval_ms": 200, "timeout_ms": 150, "fall": 6,
                                                   "rise": 4}}})
    backend = lab.backend("con1")
    for act, health, count in ((backend.kill, "down", 6), (backend.start, "up", 4)):
        with Capture(lab.hosts[0], expression=f"{PROBES} and tcp dst port 8080") as capture:
            changed = time.monotonic()
            act()
            assert weir.wait_health("con1", health) - changed > (count - 1) * 0.2 - 0.1
        sent = [packet.time for packet in capture.packets]
        assert len(sent) >= count and 0.15 < statistics.median(gaps(sent)) < 0.25, sent


@pytest.mark.ci
def test_one_lost_probe(lab, start_weir):
    """D3: one failure does not take a backend down, and a success forgets it."""
    weir = start_weir(services={"web": {"health": {"interval_ms": 300, "timeout_ms": 250,
                                                   "fall": 6}}})
    frozen, failed, before = lab.backend("con1"), 0, len(weir.log())
    for _ in range(4):
        with Capture(lab.hosts[0], expression=f"{PROBES} and tcp dst port 8080") as capture:
            frozen.freeze()
            time.sleep(0.7)             # two probes or three, never six
            frozen.thaw()
        failed += len(capture.packets)
        time.sleep(0.7)
    assert failed > 6
    assert " down (" not in weir.log()[before:]
    assert weir.health()["con1"] == "up"


@pytest.mark.parametrize("verify, health", ((False, "up"), (True, "down")))
def test_https_probe(lab, start_weir, verify, health):
    """The lab's certificate is signed by itself: good enough unless verify = true."""
    weir = start_weir(wait_up=False, services={"web": {
        "health": {"type": "https", "port": 8443, "timeout_ms": 400, "verify": verify},
        "backends": [{"address": lab.backend(name).endpoint, "name": name}
                     for name in ("con1", "con3")]}})
    weir.wait(lambda: set(weir.health().values()) == {health}, 5, f"all {health}")
    if not verify:
        lab.backend("con1").set_healthy(False)
        weir.wait_health("con1", "down")
