# SPDX-License-Identifier: BSD-3-Clause
"""A backend that dies costs no client a connection. Active probes and passive health are off, so
that it is the data path alone that does it, real kernels at both ends."""

import contextlib
import os
import signal
import socket
import statistics
import time

import pytest

import traffic
from delay import DelayLine
from lab import VIP
from netns import PATIENCE

RATE = 200                              # new connections a second
QUICK, WHOLE = 200, 1000
NO_JUDGE = {"health": {"type": "none", "path": None}, "passive": {"fails": 0}}
BACKLOG = 8


@pytest.fixture
def data_path(lab, start_weir):
    """A weir whose control core takes no backend out, and that knows how far they are."""
    def start(**service):
        weir = start_weir(services={"web": {**NO_JUDGE, **service}})
        assert traffic.errors(traffic.requests(lab.client, 40)) == []
        return weir
    return start


@contextlib.contextmanager
def full_backlog(backend):
    """Stopped, and with a listen queue that is full: its kernel drops SYNs in silence."""
    backend.kill()
    backend.namespace.sysctl(core__somaxconn=BACKLOG)
    backend.start()
    backend.freeze()
    waiting = []
    with backend.namespace.entered():
        for _ in range(2 * BACKLOG):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect((backend.address, backend.port))
            waiting.append(one)
    try:
        yield
    finally:
        for one in waiting:
            one.close()
        backend.namespace.sysctl(core__somaxconn=4096)
        backend.thaw()
        backend.kill()
        backend.start()


@contextlib.contextmanager
def killed(lab):
    lab.backend("con2").kill()
    yield {"con2"}
    lab.backend("con2").start()


@contextlib.contextmanager
def silent(lab):
    lab.backend("con2").cut()
    yield {"con2"}
    lab.backend("con2").mend()


@contextlib.contextmanager
def frozen(lab):
    with full_backlog(lab.backend("con2")):
        yield {"con2"}


@contextlib.contextmanager
def unplugged(lab):
    lab.unplug_host(0)
    yield {"con1", "con2"}
    lab.plug_host(0)


def summed(weir, key):
    return sum(backend[key] for backend in weir.backends().values())


def errors_since(died, stream):
    return traffic.errors(result for result in stream.results if result.start > died)


def dies_and_none_fails(lab, weir, death, count):
    with death(lab) as victims:
        # As many clients as there may be waiting for a second try.
        results = traffic.Stream(lab.client, threads=64, rate=RATE, count=count).join()
        backends = weir.backends()
    assert traffic.errors(results) == []
    assert len(results) == count
    assert set(traffic.bodies(results)) == set(backends) - victims
    moved = sum(backends[name]["moved_away"] for name in victims)
    assert moved > count // 20
    failed = sum(backends[name]["refused"] + backends[name]["timed_out"] for name in victims)
    assert failed >= moved // 2
    assert weir.flows()[0]["moved"] >= moved
    assert weir.flows()[0]["given_up"] == 0
    assert all(backends[name]["health"] == "up" for name in backends)


@pytest.mark.parametrize("death", [killed, silent, frozen, unplugged])
def test_none_of_the_clients_notices(lab, data_path, death):
    dies_and_none_fails(lab, data_path(), death, QUICK)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("death", [killed, silent, frozen, unplugged])
def test_none_of_a_thousand_clients_notices(lab, data_path, death):
    dies_and_none_fails(lab, data_path(), death, WHOLE)


@pytest.mark.parametrize("death", [killed, silent, frozen, unplugged])
def test_nor_does_any_after_a_fresh_start(lab, start_weir, death):
    """The servers hold all ports in TIME_WAIT, of connections that this weir knows nothing of, and
    half of the SYNs don't suit them (A4)."""
    changes = {"services": {"web": NO_JUDGE}, "snat": {"ports": (f"20000-{20000 + QUICK - 1}",)}}
    weir = start_weir(**changes)
    assert traffic.errors(traffic.requests(lab.client, 6 * QUICK)) == []
    assert weir.stop() == 0             # and forgets
    lab.client.sysctl(ipv4__tcp_timestamps=0)
    try:
        weir = start_weir(**changes)
        assert traffic.errors(traffic.requests(lab.client, 40)) == []
        dies_and_none_fails(lab, weir, death, QUICK)
        assert summed(weir, "challenged") > QUICK // 4
    finally:
        lab.client.sysctl(ipv4__tcp_timestamps=1)


def test_a_death_in_the_midst_of_connects(lab, data_path):
    """What was under way when it died has its answer from another one, too."""
    weir = data_path()
    with traffic.Stream(lab.client, threads=16, rate=RATE) as stream:
        time.sleep(0.5)
        lab.backend("con3").cut()
        died = time.monotonic()
        time.sleep(1.5)
    # Those that it had taken already are lost with it.
    assert errors_since(died, stream) == []
    assert weir.backends()["con3"]["moved_away"] > 10
    lab.backend("con3").mend()


def test_all_refuse_and_the_client_is_told_at_once(clean_lab, start_weir):
    """A server in TIME_WAIT answers with an ACK in place of a RST, though nobody listens any
    more."""
    lab = clean_lab
    weir = start_weir(in_lab=lab, services={"web": NO_JUDGE})
    for backend in lab.backends:
        backend.kill()
    results = traffic.requests(lab.client, 20)
    assert ["ConnectionRefusedError" in error
            for error in traffic.errors(results)] == [True] * 20, \
        traffic.errors(results)
    # Before a client repeats its SYN.
    assert statistics.median(result.end - result.start for result in results) < 0.9 * PATIENCE
    assert summed(weir, "attempts") - summed(weir, "connections") == 2 * 20


def test_all_silent_keeps_to_the_budget(lab, data_path):
    weir = data_path()
    for backend in lab.backends:
        backend.cut()
    time.sleep(1.1)                     # what was asked before is over
    before, sockets, start = summed(weir, "attempts"), [], time.monotonic()
    with lab.client.entered():
        for number in range(3 * 100):
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect((VIP, 80))
            sockets.append(one)
            time.sleep(max(0, start + (number + 1) / 100 - time.monotonic()))
    attempts = summed(weir, "attempts") - before
    for one in sockets:
        one.close()
    # 1.2 a connect, and what the window of a second lets through at its ends.
    assert attempts <= len(sockets) * 1.2 + 20
    assert attempts > len(sockets)
    assert weir.flows()[0]["over_budget"] > 0


@pytest.mark.ci
def test_backends_far_away_are_not_dead(lab, start_weir):
    """300 ms away, with the default of 250: nothing is moved, from the first connection on; but for
    those under way while a busy machine holds frames back for longer than twice that, once or
    twice."""
    weir, threads = start_weir(services={"web": NO_JUDGE}), 8
    with DelayLine(lab, 0, 0.3), DelayLine(lab, 1, 0.3):
        results = traffic.requests(lab.client, 60, threads=threads)
        backends = weir.backends()
        time.sleep(0.4)                 # the last frames
    assert traffic.errors(results) == []
    assert min(result.end - result.start for result in results) > 0.5
    assert weir.flows()[0]["moved"] <= 2 * threads
    assert sum(backend["timed_out"] for backend in backends.values()) <= 2 * threads
    for backend in backends.values():
        assert backend["answers"] > 0
        assert 250000 < backend["answer_p50_us"] < 600000 * PATIENCE
        assert backend["answer_p50_us"] <= backend["answer_p99_us"] < 5000000 * PATIENCE


def test_silence_takes_a_backend_out(lab, start_weir):
    """Passive health by itself: out with a reason of its own, back after a while."""
    weir = start_weir(services={"web": {"health": {"type": "none", "path": None},
                                        "passive": {"fails": 3, "window_ms": 5000,
                                                    "retry_ms": 1500}}})
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
    with traffic.Stream(lab.client, threads=32, rate=100) as stream:
        lab.backend("con2").kill()
        died = time.monotonic()
        weir.wait_health("con2", "down")
        reason = weir.backends()["con2"]["reason"]
        assert reason.startswith("passive: ") and reason.endswith("connects refused"), reason
        attempts = weir.backends()["con2"]["attempts"]
        time.sleep(0.3)
        assert weir.backends()["con2"]["attempts"] <= attempts + 2
        lab.backend("con2").start()
        weir.wait_health("con2", "up")
        time.sleep(0.3)
    assert errors_since(died, stream) == []
    assert weir.backends()["con2"]["connections"] > 0
    assert "passive: another try" in weir.log()


def test_a_probe_knows_better(lab, start_weir):
    """A firewall lets the probes through and no client: the verdict of the next probe counts."""
    weir = start_weir(services={"web": {"passive": {"fails": 3, "retry_ms": 60000}}})
    earlier = len(weir.log())           # of other tests' weirs
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
    # Probes come from the range of the kernel, clients from the ports of weir.
    host = lab.backend("con2").namespace
    host.run("nft", "add table inet some; "
             "add chain inet some in { type filter hook input priority 0; };"
             " add rule inet some in tcp dport 8081 tcp sport != 32768-60999 drop")
    try:
        results = traffic.requests(lab.client, 150, threads=32)
        assert traffic.errors(results) == []
        weir.wait(lambda: "passive: a probe passed" in weir.log()[earlier:], what="a verdict")
    finally:
        host.run("nft", "delete table inet some")
    assert "connects unanswered" in weir.log()[earlier:]
    # Clients behind that verdict may have taken it out again: then the next one counts later.
    weir.wait_health("con2", "up", timeout=30)


def test_never_the_last_one(lab, start_weir):
    weir = start_weir(services={"web": {"health": {"type": "none", "path": None},
                                        "passive": {"fails": 1, "retry_ms": 60000}}})
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
    for backend in lab.backends:
        backend.kill()
    for _ in range(8):
        traffic.requests(lab.client, 10)
        time.sleep(0.15)
    assert list(weir.health().values()).count("up") == 1
    lab.restore()
    results = traffic.requests(lab.client, 20)
    assert traffic.errors(results) == [] and len(traffic.bodies(results)) == 1


def test_a_reload_changes_what_a_connect_may_cost(lab, start_weir):
    own = start_weir(services={"web": NO_JUDGE})
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
    lab.backend("con1").kill()
    assert traffic.errors(traffic.requests(lab.client, 60)) == []
    with open(own.path) as file:
        text = file.read()
    with open(own.path, "w") as file:
        file.write(text.replace('listen = ":80";', 'listen = ":80"; connect_tries = 1;'))
    os.kill(own.process.pid, signal.SIGHUP)
    own.wait(lambda: "connect_tries 3 -> 1" in own.log(), 10, "the reload's answer")
    results = traffic.requests(lab.client, 60)
    assert len(traffic.errors(results)) > 0
