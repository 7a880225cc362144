# SPDX-License-Identifier: BSD-3-Clause
"""What clients get: four backends behind one address, with real nginx and wrk."""

import hashlib
import os

import traffic
from capture import Capture
from lab import BIG_BYTES, CLIENT, VIP

NAMES = {"con1", "con2", "con3", "con4"}


def test_four_names(lab, weir):
    results = traffic.requests(lab.client, 60)
    assert not traffic.errors(results)
    assert set(traffic.bodies(results)) == NAMES


def test_curl(lab, weir):
    said = {lab.client.run("curl", "-sS", "--max-time", "5", f"http://{VIP}/").stdout
            for _ in range(30)}
    assert said == {name + "\n" for name in NAMES}


def test_fairness_maglev(lab, weir):
    results = traffic.requests(lab.client, 4000)
    assert not traffic.errors(results)
    for name, count in traffic.bodies(results).items():
        assert 0.21 <= count / 4000 <= 0.29, traffic.bodies(results)


def test_ten_thousand_closed_connections(lab, weir):
    results = traffic.requests(lab.client, 10000)
    assert traffic.errors(results) == []
    assert sum(traffic.bodies(results).values()) == 10000


def test_wrk_closed_connections(lab, weir):
    requests, errors = traffic.wrk(lab.client, connections=64, seconds=3, close=True)
    # wrk takes the server's FIN after a whole response for a read error now and then: our own
    # client above is the judge of those; nothing else may go wrong.
    assert requests > 1000
    assert "connect 0" in errors or not errors, errors
    assert "timeout 0" in errors or not errors, errors


def test_keep_alive(lab, weir):
    requests, errors = traffic.wrk(lab.client, connections=64, seconds=4)
    assert requests > 1000 and errors == ""


def test_download(lab, weir):
    with open(lab.big_file(), "rb") as file:
        expected = hashlib.sha256(file.read()).hexdigest()
    got = lab.client.run("sh", "-c", f"curl -sS --max-time 100 http://{VIP}/big | sha256sum").stdout
    assert got.split()[0] == expected


def test_upload(lab, weir):
    source, arrived = lab.big_file(), f"{lab.files}/upload/big"
    lab.client.run("curl", "-sS", "--fail", "--max-time", "100", "-T", source,
                   f"http://{VIP}/upload/big", timeout=110)
    try:
        assert os.path.getsize(arrived) == BIG_BYTES
        assert lab.client.run("cmp", source, arrived, check=False).returncode == 0
    finally:
        os.unlink(arrived)


def test_addresses_on_both_sides(lab, weir):
    """Backends see SNAT addresses only, clients the virtual address only."""
    with Capture(lab.client, expression="tcp") as client, \
            Capture(lab.hosts[0], expression="tcp") as host1, \
            Capture(lab.hosts[1], expression="tcp") as host2:
        results = traffic.requests(lab.client, 200, path="/ip")
    assert not traffic.errors(results)
    for body in traffic.bodies(results):
        address, port = body.split(":")
        assert address == VIP
        # What ip_local_port_range leaves free: no clash with the kernel's own connections.
        assert 1024 <= int(port) <= 32767 or 61000 <= int(port)
    assert len(client.packets) > 1000 and len(host1.packets) + len(host2.packets) > 1000
    assert {packet.source for packet in client.packets} == {CLIENT, VIP}
    assert {packet.destination for packet in client.packets} == {CLIENT, VIP}
    for index, host in enumerate((host1, host2)):
        both = {VIP, lab.host_address(index)}
        assert {packet.source for packet in host.packets} == both
        assert {packet.destination for packet in host.packets} == both


def test_backend_counters(lab, weir):
    before = weir.backends()
    results = traffic.requests(lab.client, 100)
    after = weir.backends()
    for name, count in traffic.bodies(results).items():
        assert after[name]["connections"] - before[name]["connections"] == count
        assert after[name]["packets_in"] - before[name]["packets_in"] >= 4 * count
        assert after[name]["bytes_in"] > before[name]["bytes_in"]
        assert after[name]["packets_out"] - before[name]["packets_out"] >= 3 * count
        assert after[name]["bytes_out"] > before[name]["bytes_out"]


def test_active_connections(lab, weir):
    with lab.client.entered():
        held = [traffic.connect() for _ in range(20)]
    try:
        for connection in held:
            traffic.ask(connection)
        assert sum(backend["active"] for backend in weir.backends().values()) >= 20
    finally:
        for connection in held:
            connection.close()
