# SPDX-License-Identifier: BSD-3-Clause
"""The port is a network card under vfio-pci. Run by tests/nic in an emulated machine: one card a
boot, given by --nic, whose link and speed are a real card's; only the time is not."""

import hashlib
import os
import re
import subprocess

import pytest

import lab as lab_module
import traffic
import weir as weir_module
from lab import VIP, VIP6
from netns import PATIENCE

pytestmark = pytest.mark.nic

NAMES = {"con1", "con2", "con3", "con4"}


@pytest.fixture(scope="module")
def queues(request):
    return request.config.getoption("nic_queues")


@pytest.fixture(scope="module")
def weir(lab, queues):
    config = weir_module.config(lab, workers=queues,
                                port={"address": (f"{VIP}/24", f"{VIP6}/64")})
    running = weir_module.Weir(lab, config).start()
    yield running
    assert running.stop() == 0


def test_no_probe_fails_at_the_start(lab, weir):
    """A card's link comes up seconds after its queues: what was sent before is no verdict."""
    assert not re.search(r"backend \S+ \S+: down", weir.log()), weir.log()


def test_port(lab, weir, queues):
    info = weir.info()
    assert info["port"] == lab.nic and info["mac"] == lab_module.PORT_MAC
    assert info["link"] == "up" and info["mtu"] == 1500 and info["interface"] == ""
    assert info["hugepages"] == 1 and info["workers"] == queues


def test_four_names(lab, weir):
    said = lab.client.run("curl", "-sS", "--max-time", 5 * PATIENCE, "-H", "Connection: close",
                          *[f"http://{VIP}/"] * 40).stdout
    assert len(said.split()) == 40 and set(said.split()) == NAMES


def test_connections(lab, weir):
    before = weir.backends()
    results = traffic.requests(lab.client, 300)
    assert traffic.errors(results) == []
    assert set(traffic.bodies(results)) == NAMES
    after = weir.backends()
    for name, count in traffic.bodies(results).items():
        assert after[name]["connections"] - before[name]["connections"] == count


def test_rss(lab, weir, queues):
    """By now the card has shown by which queue packets come."""
    assert weir.info()["rss"] == ("verified" if queues > 1 else "off"), weir.log()


def test_ping(lab, weir):
    """Through weir0: the kernel answers ARP and the echo requests."""
    lab.client.ip("neighbour flush dev eth0")
    for size in (56, 1472):
        said = lab.client.run("ping", "-c", 10, "-i", 0.2, "-W", int(2 * PATIENCE), "-M", "do",
                              "-s", size, VIP).stdout
        assert " 0% packet loss" in said
    assert lab_module.PORT_MAC in lab.client.run("ip", "neighbour", "show", VIP).stdout


def test_neighbour_discovery(lab, weir):
    """Multicast passes the card's filter."""
    said = lab.client.run("ping", "-6", "-c", 3, "-W", int(2 * PATIENCE), VIP6).stdout
    assert " 0% packet loss" in said


def test_kernel_server(lab, weir):
    content = os.urandom(300000)
    with open(f"{lab.files}/served", "wb") as file:
        file.write(content)
    server = weir.netns.popen("/usr/bin/python3", "-m", "http.server", "8888", "--directory",
                              lab.files, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        weir.wait(lambda: ":8888" in weir.netns.run("ss", "-ltn").stdout, 10, "the server")
        got = subprocess.run(lab.client.command("curl", "-sS", "--max-time", str(20 * PATIENCE),
                                                f"http://{VIP}:8888/served"),
                             stdout=subprocess.PIPE, check=True).stdout
        assert got == content
    finally:
        server.kill()
        server.wait()


def test_download(lab, weir):
    content = os.urandom(5000000)
    with open(f"{lab.files}/big", "wb") as file:
        file.write(content)
    got = lab.client.run("sh", "-c", f"curl -sS --max-time {20 * PATIENCE} http://{VIP}/big | "
                                     "sha256sum").stdout
    assert got.split()[0] == hashlib.sha256(content).hexdigest()


def test_death_and_return(lab, weir):
    lab.backend("con1").kill()
    weir.wait_health("con1", "down")
    results = traffic.requests(lab.client, 40)
    assert traffic.errors(results) == [] and set(traffic.bodies(results)) == NAMES - {"con1"}
    lab.backend("con1").start()
    weir.wait_health("con1", "up")
    assert set(traffic.bodies(traffic.requests(lab.client, 60))) == NAMES


def test_each_worker_works(lab, weir, queues):
    """The card spreads connections over its queues, wherever their replies arrive."""
    traffic.requests(lab.client, 100)
    for worker in weir.workers():
        assert worker["packets"] > 0 and worker["forwarded"] > 0, weir.workers()
    assert weir.flows()[0]["used"] <= sum(service["connections"] for service in weir.services())


def test_more_workers_than_queues(lab, weir):
    weir.stop()
    config = weir_module.config(lab, workers=9, instance=f"{lab.name}second")
    other = weir_module.Weir(lab, config)
    try:
        with pytest.raises(weir_module.WeirFailed) as failure:
            other.start(wait_up=False)
        assert failure.value.returncode == 1
        assert re.search(r"offers [1-8] [rt]x queues?, cores.workers names 9", other.log())
    finally:
        other.kill()
        weir.start()


def test_restart(lab, weir):
    """The card comes back after a clean end, and after kill -9."""
    assert weir.stop() == 0
    assert weir.netns.exists() is False
    assert [name for name in os.listdir("/dev/hugepages") if name.startswith(weir.prefix)] == []
    weir.start()
    assert set(traffic.bodies(traffic.requests(lab.client, 60))) == NAMES
    weir.kill()
    weir.start()
    assert set(traffic.bodies(traffic.requests(lab.client, 60))) == NAMES
