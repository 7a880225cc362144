# SPDX-License-Identifier: BSD-3-Clause
"""Neighbours and routes: the kernel knows them, weir follows within a second."""

import time

import pytest

import traffic
from capture import Capture
from lab import GATEWAYS, Lab
from netns import PATIENCE

FOLLOWED_SECONDS = 1.2 + 2 * PATIENCE   # a second, polling, and a busy machine


@pytest.fixture(scope="module")
def routed_lab(requirements):
    with Lab(routed=True) as made:
        yield made


@pytest.fixture(scope="module")
def local_lab(requirements):
    with Lab(local=True) as made:
        yield made


def link_mac(namespace, interface="eth0"):
    return namespace.run("ip", "-brief", "link", "show", interface).stdout.split()[2]


def test_behind_a_gateway(routed_lab, start_weir):
    weir = start_weir(in_lab=routed_lab)
    results = traffic.requests(routed_lab.client, 400)
    assert not traffic.errors(results) and len(traffic.bodies(results)) == 4
    assert {backend["mac"] for backend in weir.backends().values()} \
        == {link_mac(routed_lab.routers[0])}
    assert {backend["neighbour"] for backend in weir.backends().values()} == {"resolved"}


def test_changed_route(routed_lab, start_weir):
    """The operator's route in weir0's namespace is followed; connections go on."""
    weir = start_weir(in_lab=routed_lab)
    with traffic.Stream(routed_lab.client, threads=2, rate=60) as stream:
        time.sleep(0.5)
        weir.netns.ip(f"route add 10.0.0.0/24 via {GATEWAYS[1]}")
        changed = time.monotonic()
        second = link_mac(routed_lab.routers[1])
        followed = weir.wait(lambda: {backend["mac"] for backend in weir.backends().values()}
                             == {second}, 5, "the second router")
        assert followed - changed < FOLLOWED_SECONDS
        with Capture(routed_lab.routers[1], "eth0", "tcp dst portrange 8080-8081") as capture:
            stream.more(20)
        assert len(capture.packets) > 10
    assert traffic.errors(stream.results) == []
    assert set(weir.health().values()) == {"up"}


def test_changed_mac(lab, start_weir):
    """A host whose MAC changes (it says so once by gratuitous ARP) is reached on within a
    second."""
    weir = start_weir()
    host, new = lab.hosts[0], "02:57:65:69:72:77"
    assert weir.backends()["con1"]["mac"] == link_mac(host)
    old = link_mac(host)
    time.sleep(1.1)                     # a kernel's entry ignores news in its first second
    try:
        host.ip(f"link set eth0 address {new}")
        changed = time.monotonic()
        followed = weir.wait(lambda: weir.backends()["con1"]["mac"] == new, 5, "the new MAC")
        assert followed - changed < FOLLOWED_SECONDS
        results = traffic.requests(lab.client, 60)
        assert traffic.errors(results) == [] and "con1" in traffic.bodies(results)
        assert set(weir.health().values()) == {"up"}
    finally:
        host.ip(f"link set eth0 address {old}")


def test_unresolved_is_not_chosen(lab, start_weir):
    """Nobody has 192.0.2.99; without probes only the neighbour's state says so."""
    nobody = {"address": "192.0.2.99:8080", "name": "nobody"}
    known = [{"address": backend.endpoint, "name": backend.name} for backend in lab.backends]
    weir = start_weir(wait_up=False, services={"web": {"health": {"type": "none", "path": None},
                                                       "backends": [*known, nobody]}})
    weir.wait(lambda: all(backend["in_use"] for name, backend in weir.backends().items()
                          if name != "nobody"), 5, "neighbours")
    results = traffic.requests(lab.client, 300)
    assert traffic.errors(results) == [] and len(traffic.bodies(results)) == 4
    assert weir.backends()["nobody"]["neighbour"] in ("pending", "unreachable")
    assert weir.backends()["nobody"]["connections"] == 0


def test_backends_on_the_own_machine(local_lab, start_weir):
    """con3 and con4 run on the balancer's machine, on the address of another interface: they are
    reached over the wire like any other."""
    weir = start_weir(in_lab=local_lab)
    results = traffic.requests(local_lab.client, 1000)
    assert traffic.errors(results) == []
    assert set(traffic.bodies(results)) == {"con1", "con2", "con3", "con4"}
    assert weir.backends()["con3"]["mac"] == link_mac(local_lab.lb, "local")
    requests, errors = traffic.wrk(local_lab.client, connections=32, seconds=2)
    assert requests > 500 and errors == ""
