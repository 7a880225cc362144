# SPDX-License-Identifier: BSD-3-Clause
"""Every kind of port with one worker and two; the round robin, exact with one worker."""

import hashlib

import pytest

import traffic
from capture import Capture
from lab import CLIENT, VIP
from weir import DRIVERS

NAMES = {"con1", "con2", "con3", "con4"}


@pytest.mark.sanitized
@pytest.mark.parametrize("driver, workers", (
    ("af_xdp", 1), ("af_xdp", 2), ("af_packet", 1), ("tap", 1),
    pytest.param("af_packet", 2, marks=pytest.mark.ci),
    pytest.param("tap", 2, marks=pytest.mark.ci)))
def test_port(clean_lab, start_weir, driver, workers):
    lab = clean_lab
    resets = "tcp[tcpflags] & tcp-rst != 0"
    with Capture(lab.client, expression=resets) as client, \
            Capture(lab.hosts[0], expression=resets) as host1, \
            Capture(lab.hosts[1], expression=resets) as host2:
        weir = start_weir(in_lab=lab, driver=driver, workers=workers)
        info = weir.info()
        assert info["workers"] == workers
        assert info["driver"] == {"tap": "net_tap"}.get(driver, f"net_{driver}")

        results = traffic.requests(lab.client, 2000)
        assert traffic.errors(results) == []
        assert set(traffic.bodies(results)) == NAMES

    # Nobody on the way resets a balanced connection, the kernel least of all. The ends themselves
    # may, when one packet overtakes another at the end of a connection (two workers, or the
    # queues of a busy kernel): so each RST that comes out on one side must have gone in on the
    # other.
    hosts = host1.packets + host2.packets
    assert {packet.seq for packet in client.resets(VIP)} \
        <= {packet.seq for packet in hosts if packet.source != VIP}
    assert {packet.seq for packet in hosts if packet.source == VIP
            and not 32768 <= packet.sport < 61000} \
        <= {packet.seq for packet in client.resets(CLIENT)}

    requests, errors = traffic.wrk(lab.client, connections=64, seconds=2)
    assert requests > 500 and errors == ""
    lab.client.run("ping", "-c", "3", "-i", "0.2", "-W", "10", VIP)
    if workers == 2:
        by_worker = [worker["packets"] for worker in weir.workers()]
        assert len(by_worker) == 2
        if driver != "tap":             # which spreads by a hash of its own, on its own queue
            assert min(by_worker) > 100, by_worker


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.full
def test_download(lab, start_weir, driver):
    start_weir(driver=driver, workers=2)
    with open(lab.big_file(), "rb") as file:
        expected = hashlib.sha256(file.read()).hexdigest()
    got = lab.client.run("sh", "-c", f"curl -sS --max-time 100 http://{VIP}/big | sha256sum").stdout
    assert got.split()[0] == expected


def test_fairness_round_robin(clean_lab, start_weir):
    lab = clean_lab
    weir = start_weir(in_lab=lab, services={"web": {"scheduler": "round_robin"}})
    before = {name: backend["connections"] for name, backend in weir.backends().items()}
    results = traffic.requests(lab.client, 4000)
    assert not traffic.errors(results)
    assert dict(traffic.bodies(results)) == dict.fromkeys(NAMES, 1000)
    after = weir.backends()
    assert {name: after[name]["connections"] - before[name] for name in NAMES} \
        == dict.fromkeys(NAMES, 1000)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("driver", ["af_xdp", "af_packet"])
def test_a_hundred_thousand_connections(clean_lab, start_weir, driver):
    """In a row, so that source ports and SNAT ports come round more than once. In a lab that is
    gone then: for a minute its servers hold all ports in TIME_WAIT, of which the next weir knows
    nothing."""
    lab = clean_lab
    weir = start_weir(in_lab=lab, driver=driver, workers=2)
    results = traffic.requests(lab.client, 100000)
    assert traffic.errors(results) == []
    assert sum(backend["connections"] for backend in weir.backends().values()) == 100000
    weir.identity()
