# SPDX-License-Identifier: BSD-3-Clause
"""A host that a router says is unreachable, or that may not be reached: the SYN is answered by an
ICMP error. The client gets the next backend and knows nothing of it."""

import time

import pytest

import traffic
import weir as weir_module
from lab import VIP, VIP6, Lab
from netns import PATIENCE
from test_failover import NO_JUDGE, RATE


@pytest.fixture(scope="module")
def weir(requirements):
    """Behind a gateway, a service of each family; nobody judges, to see what the data path does."""
    with Lab(routed=True) as lab:
        config = weir_module.config(lab, port={"address": (f"{VIP}/24", f"{VIP6}/64"),
                                               "gateway": ("192.0.2.1", "2001:db8::1")},
                                    services={"web": NO_JUDGE})
        config["services"]["web6"] = {**config["services"]["web"], "backends": [
            {"address": backend.endpoint6, "name": backend.name} for backend in lab.backends]}
        lab.routers[0].sysctl(ipv4__icmp_ratelimit=0, ipv6__icmp__ratelimit=0)
        running = weir_module.Weir(lab, config).start()
        yield running
        assert running.stop() == 0


def refused(weir, service):
    backends = weir.backends(service)
    assert all(backend["health"] == "up" for backend in backends.values())
    return {name for name, backend in backends.items() if backend["refused"] > 0}


@pytest.mark.parametrize("service, address, kind", (("web", VIP, "unreachable"),
                                                    ("web6", VIP6, "prohibit")))
def test_rejected_connect_costs_the_client_nothing(weir, service, address, kind):
    lab = weir.lab
    router, host = lab.routers[0], lab.host_address6(0) if ":" in address else lab.host_address(0)
    assert set(traffic.bodies(traffic.requests(lab.client, 200, address=address))) \
        == {"con1", "con2", "con3", "con4"}
    assert refused(weir, service) == set()
    router.ip(f"route add {kind} {host}")
    try:
        results = traffic.Stream(lab.client, threads=16, rate=RATE, count=200,
                                 address=address).join()
        assert traffic.errors(results) == []
        assert set(traffic.bodies(results)) == {"con3", "con4"}
        assert refused(weir, service) == {"con1", "con2"}
    finally:
        router.ip(f"route delete {kind} {host}")
    # What is over is over.
    deadline = time.monotonic() + 20 * PATIENCE
    while len(traffic.bodies(traffic.requests(lab.client, 40, address=address))) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.5)
