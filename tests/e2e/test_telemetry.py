# SPDX-License-Identifier: BSD-3-Clause
"""The answers on DPDK's telemetry socket, as weir(8) documents them."""

import os
import subprocess
import time

import pytest

import traffic
from netns import PATIENCE

pytestmark = pytest.mark.sanitized

INFO = {"version", "instance", "pid", "uptime_s", "port", "driver", "interface", "mac", "mtu",
        "link", "netns", "workers", "services", "backends", "config", "hugepages"}
SERVICE = {"name", "listen", "scheduler", "backends", "backends_up", "connections", "active"}
BACKEND = {"name", "address", "weight", "health", "reason", "since_s", "neighbour", "mac", "active",
           "connections", "packets_in", "packets_out", "bytes_in", "bytes_out"}
WORKER = {"worker", "lcore", "packets", "forwarded", "answered", "punted", "tagged", "dropped",
          "generated", "from_kernel", "busy_percent"}
FLOWS = {"family", "size", "used", "created", "expired"}


def test_info(lab, weir):
    info = weir.info()
    assert INFO <= set(info)
    assert info["instance"] == weir.prefix and info["config"] == weir.path
    assert info["link"] == "up" and info["services"] == 1 and info["backends"] == 4


def test_services(lab, weir):
    traffic.requests(lab.client, 10)
    services = weir.services()
    assert len(services) == 1 and SERVICE <= set(services[0])
    assert services[0]["name"] == "web" and services[0]["listen"] == ":80"
    assert services[0]["backends"] == services[0]["backends_up"] == 4
    assert services[0]["connections"] >= 10


def test_backends(lab, weir):
    backends = weir.backends()
    assert set(backends) == {"con1", "con2", "con3", "con4"}
    for backend in backends.values():
        assert BACKEND <= set(backend)
        assert backend["health"] == "up" and backend["neighbour"] == "resolved"
    everything = weir.telemetry.pages("/weir/backends")
    assert {(backend["service"], backend["name"]) for backend in everything} \
        == {("web", name) for name in backends}


def test_workers(lab, weir):
    before = weir.workers()[0]
    assert WORKER <= set(before)
    traffic.requests(lab.client, 100)
    after = weir.workers()[0]
    assert after["packets"] - before["packets"] >= 800
    assert 0 <= after["busy_percent"] <= 100
    counts = weir.drops(0)
    assert counts["received"] >= after["packets"]


def test_flows(lab, weir):
    before = weir.flows()[0]
    assert FLOWS <= set(before) and before["size"] >= 65536
    traffic.requests(lab.client, 50)
    assert weir.flows()[0]["created"] - before["created"] == 50


def test_unknown_arguments(lab, weir):
    """D14, the polite part: nonsense is answered, and hurts nobody."""
    for command in ("/weir/backends,nosuch", "/weir/backends,web,99999", "/weir/backends,web,-1",
                    "/weir/backends,web,x", "/weir/drops,99", "/weir/drops,x", "/weir/services,77",
                    "/weir/backends," + "x" * 200, "/weir/info,,,"):
        weir.telemetry.query(command)
    assert weir.running()
    assert weir.info()["pid"] == weir.process.pid


def test_closed_to_others(lab, weir):
    path = weir.telemetry.path
    assert os.path.exists(path)
    program = ("import socket,sys\n"
               "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
               "try: s.connect(sys.argv[1])\n"
               "except PermissionError: sys.exit(7)")
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
                           "/usr/bin/python3", "-c", program, path],
                          timeout=20 * PATIENCE)
    assert done.returncode == 7


def test_accounting_under_load(lab, weir):
    """I1 holds at any moment, not only at rest."""
    with traffic.Stream(lab.client, threads=4) as stream:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            weir.identity()
    assert traffic.errors(stream.results) == []
