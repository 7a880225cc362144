# SPDX-License-Identifier: BSD-3-Clause
"""The IPv4 tests' twins: IPv6 clients, address and backends, next to an IPv4 service on one
port."""

import hashlib
import os
import statistics
import time

import pytest

import traffic
import weir as weir_module
from capture import Capture
from lab import BIG_BYTES, CLIENT6, VIP, VIP6
from netns import PATIENCE

pytestmark = pytest.mark.sanitized

NAMES = {"con1", "con2", "con3", "con4"}


def backends6(lab):
    return [{"address": backend.endpoint6, "name": backend.name}
            for backend in lab.backends]


@pytest.fixture(scope="module")
def weir(lab):
    config = weir_module.config(lab, port={"address": (f"{VIP}/24", f"{VIP6}/64")})
    config["services"]["web6"] = {**config["services"]["web"], "backends": backends6(lab)}
    running = weir_module.Weir(lab, config).start()
    yield running
    assert running.stop() == 0


def test_four_names_in_both_families(lab, weir):
    for address in (VIP6, VIP):
        results = traffic.requests(lab.client, 60, address=address)
        assert not traffic.errors(results)
        assert set(traffic.bodies(results)) == NAMES


def test_closed_connections(lab, weir):
    results = traffic.requests(lab.client, 4000, address=VIP6)
    assert traffic.errors(results) == []
    for name, count in traffic.bodies(results).items():
        assert 0.21 <= count / 4000 <= 0.29, traffic.bodies(results)


def test_keep_alive(lab, weir):
    requests, errors = traffic.wrk(lab.client, connections=64, seconds=3, address=VIP6)
    assert requests > 1000 and errors == ""


def test_download_and_upload(lab, weir):
    with open(lab.big_file(), "rb") as file:
        expected = hashlib.sha256(file.read()).hexdigest()
    got = lab.client.run(
        "sh", "-c", f"curl -sS --max-time 100 'http://[{VIP6}]/big' | sha256sum").stdout
    assert got.split()[0] == expected

    arrived = f"{lab.files}/upload/big"
    lab.client.run("curl", "-sS", "--fail", "--max-time", "100", "-T", lab.big_file(),
                   f"http://[{VIP6}]/upload/big", timeout=110)
    try:
        assert os.path.getsize(arrived) == BIG_BYTES
        assert lab.client.run("cmp", lab.big_file(), arrived, check=False).returncode == 0
    finally:
        os.unlink(arrived)


def test_addresses_on_both_sides(lab, weir):
    """Backends see SNAT addresses only, clients the virtual address only."""
    with Capture(lab.client, expression="ip6 and tcp") as client:
        results = traffic.requests(lab.client, 100, path="/ip", address=VIP6)
    assert not traffic.errors(results)
    for body in traffic.bodies(results):
        address, _, port = body.rpartition(":")
        assert address.strip("[]") == VIP6
        assert 1024 <= int(port) <= 32767 or 61000 <= int(port)
    assert len(client.packets) > 500
    assert {packet.source for packet in client.packets} == {CLIENT6, VIP6}


def test_death_and_return(lab, weir):
    with traffic.Stream(lab.client, threads=32, rate=100, timeout=2, address=VIP6) as stream:
        time.sleep(0.3)
        lab.backend("con1").kill()
        detected = weir.wait_health("con1", "down", service="web6")
        stream.more(30)
        started = time.monotonic()
        lab.backend("con1").start()
        back = weir.wait_health("con1", "up", service="web6")
        stream.more(30)
    down = [result for result in stream.results if detected < result.start < started]
    after = [result for result in stream.results if result.start > back]
    assert len(down) > 20 and traffic.errors(down) == []
    assert set(traffic.bodies(down)) == NAMES - {"con1"}
    assert traffic.errors(after) == []


def test_the_kernel_answers_what_is_its_own(lab, weir):
    """Neighbour discovery, ping and another port of the address, through the port, both ways."""
    lab.client.run("ip", "-6", "neigh", "flush", "dev", "eth0")
    lab.client.run("ping", "-6", "-c", "3", "-i", "0.2", "-W", "10", VIP6)
    lab.client.run("ping", "-6", "-c", "2", "-i", "0.2", "-W", "10", "-s", "3000", VIP6)
    weir.netns.run("ping", "-6", "-c", "2", "-i", "0.2", "-W", "10", CLIENT6)
    server = weir.netns.popen("/usr/bin/python3", "-m", "http.server", "--bind", VIP6, "8099",
                              "--directory",
                              "/var/empty" if os.path.isdir("/var/empty") else "/tmp")
    try:
        deadline = time.monotonic() + 10 * PATIENCE
        while True:
            said = lab.client.run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}",
                                  "--max-time", "3", f"http://[{VIP6}]:8099/", check=False)
            if said.returncode == 0 or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        assert said.stdout == "200"
    finally:
        server.kill()
        server.wait()


def test_no_backend_is_refused_at_once(lab, weir):
    for backend in lab.backends:
        backend.kill()
    for backend in lab.backends:
        weir.wait_health(backend.name, "down", service="web6")
    results = traffic.requests(lab.client, 9, threads=1, address=VIP6)
    assert all("ConnectionRefused" in result.error for result in results)
    # Before a client repeats its SYN.
    assert statistics.median(result.end - result.start for result in results) < 0.9 * PATIENCE
