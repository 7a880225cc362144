# SPDX-License-Identifier: BSD-3-Clause
"""The kernel's side of the port: weir0 in its namespace, what is handed to it, and a host that
notices nothing."""

import os
import socket
import subprocess
import time

import pytest

import lab as lab_module
import netns
import traffic
import weir as weir_module
from capture import ACK, RST, SYN, Capture
from lab import CLIENT, VIP
from netns import PATIENCE
from weir import Weir


def host_state(lab):
    """Rules, main routes and addresses of the balancer's namespace and of the machine's own."""
    shown = []
    for prefix in ([], lab.lb.command()):
        for command in ("ip -4 rule", "ip -6 rule", "ip -4 route show table main",
                        "ip -6 route show table main", "ip -brief address"):
            shown.append(netns.run(*prefix, *command.split()).stdout)
    return shown


def balanced(packets):
    """Those that aren't of the kernel's own connections, its probes for one."""
    return [packet for packet in packets if not 32768 <= packet.sport < 61000
            or packet.source != VIP]


def test_ping_and_arp(lab, weir):
    lab.client.ip("neighbour flush dev eth0")
    said = lab.client.run("ping", "-c", "10", "-i", "0.05", "-W", "10", VIP).stdout
    assert " 0% packet loss" in said
    neighbour = lab.client.run("ip", "neighbour", "show", VIP).stdout
    assert weir.info()["mac"] in neighbour
    assert weir.info()["mac"] == lab_module.PORT_MAC


def test_ping_of_the_mtu(lab, weir):
    assert weir.info()["mtu"] == 1500
    said = lab.client.run("ping", "-c", "3", "-i", "0.05", "-W", "10", "-M", "do", "-s", "1472",
                          VIP).stdout
    assert " 0% packet loss" in said


def test_weir0_is_a_namespace_apart(lab, weir):
    assert weir.info()["netns"] == weir.netns.name
    shown = weir.netns.run("ip", "-brief", "address", "show", "weir0").stdout
    assert f"{VIP}/24" in shown
    assert "weir0" not in netns.run("ip", "link").stdout
    assert "weir0" not in lab.lb.run("ip", "link").stdout


def test_kernel_server_on_another_port(lab, weir):
    """What isn't a service's port is the kernel's, in both directions and whole in size."""
    content = os.urandom(3000000)
    with open(f"{lab.files}/served", "wb") as file:
        file.write(content)
    server = weir.netns.popen("/usr/bin/python3", "-m", "http.server", "8888", "--directory",
                              lab.files,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        weir.wait(lambda: ":8888" in weir.netns.run("ss", "-ltn").stdout, 5, "the server")
        got = subprocess.run(lab.client.command("curl", "-sS", "--max-time", "20",
                                                f"http://{VIP}:8888/served"),
                             stdout=subprocess.PIPE, check=True,
                             timeout=30 * PATIENCE).stdout
        assert got == content
    finally:
        server.kill()
        server.wait()


def test_connections_out_of_weir0(lab, weir):
    said = weir.netns.run("curl", "-sS", "--max-time", "5",
                          f"http://{lab.backend('con3').endpoint}/ip").stdout
    address, port = said.strip().split(":")
    assert address == VIP and 32768 <= int(port) < 61000


def test_no_flow_is_reset(lab, weir):
    """A17: a segment of no flow to a service gets RST with its own acknowledgement number."""
    before = weir.drops()["answered"]
    with Capture(lab.client, expression="tcp port 80") as capture:
        traffic.send_raw(lab.client, [traffic.tcp_packet(CLIENT, VIP, 23456, 80, ACK, 5000, 7777)])
        weir.wait(lambda: weir.drops()["answered"] > before, what="the answer")
        time.sleep(0.3)
    replies = [packet for packet in capture.packets if packet.source == VIP]
    assert [(packet.dport, packet.seq, packet.flags & RST) for packet in replies] \
        == [(23456, 7777, RST)]
    assert weir.drops()["answered"] == before + 1


def test_only_syn_makes_a_flow(lab, weir):
    """B13, the flags over the wire; the whole table is a unit test."""
    created = sum(table["created"] for table in weir.flows())
    received = weir.drops()["received"]
    others = [flags for flags in range(64) if flags & 0x17 != SYN]
    traffic.send_raw(lab.client, [traffic.tcp_packet(CLIENT, VIP, 20000 + flags, 80, flags)
                                  for flags in others])
    weir.wait(lambda: weir.drops()["received"] >= received + len(others), what="all received")
    assert sum(table["created"] for table in weir.flows()) == created
    assert len(traffic.bodies(traffic.requests(lab.client, 40))) == 4


def test_unknown_port_is_the_kernels(lab, weir):
    with lab.client.entered(), pytest.raises(ConnectionRefusedError):
        traffic.connect(port=81, timeout=2)


def test_other_packets_are_no_harm(lab, weir):
    """UDP, an unknown ethertype, a runt and fragments: each is accounted for and nobody minds."""
    with lab.client.entered():
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with udp, raw:
        raw.bind(("eth0", 0))
        mac = bytes.fromhex(lab_module.PORT_MAC.replace(":", ""))
        own = raw.getsockname()[4]
        for size in (100, 1400, 4000):
            udp.sendto(bytes(size), (VIP, 80))
        for ethertype in (b"\x88\xb5", b"\x08\x00", b"\x08\x06", b"\x86\xdd", b"\x81\x00"):
            for size in (0, 1, 19, 20, 39, 40, 60):
                raw.send(mac + own + ethertype + bytes(size))
    time.sleep(0.3)
    weir.identity()
    assert len(traffic.bodies(traffic.requests(lab.client, 40))) == 4


def test_ping_flood_takes_nobody_down(lab, weir):
    """Ten times the limit of the class that pings are in: backends stay up, ARP goes on."""
    limit = 1000                        # the default of port.punt.rest
    with traffic.Stream(lab.client, threads=2, rate=50) as stream:
        before, started = weir.drops(), time.monotonic()
        sent = traffic.ping_flood(lab.client, 10 * limit, 5)
        after, seconds = weir.drops(), time.monotonic() - started
    assert all(backend["health"] == "up" and backend["since_s"] >= 4
               for backend in weir.backends().values())
    assert traffic.errors(stream.results) == []
    # What may pass in that time, and a second's worth at once; and the other classes' packets.
    assert sent > 2 * limit * seconds, "the machine is too slow for a flood"
    assert after["punted"] - before["punted"] < 2 * limit * (seconds + 1)
    assert after["dropped"] - before["dropped"] > 0


@pytest.mark.parametrize("driver", ("af_xdp", "af_packet"))
def test_host_is_left_alone(second_lab, driver):
    """Rules, routes and addresses before, during and after a run, and after kill -9."""
    lab = second_lab
    weir = Weir(lab, weir_module.config(lab, driver))
    before = host_state(lab)
    weir.start()
    assert host_state(lab) == before
    assert weir.stop() == 0
    assert host_state(lab) == before
    weir.start()
    weir.kill()
    assert host_state(lab) == before
    weir.start()
    assert host_state(lab) == before
    assert weir.stop() == 0
    assert host_state(lab) == before
    assert lab.lb.run("nft", "list", "ruleset").stdout == ""
    assert "xdp" not in lab.lb.run("ip", "link", "show", lab_module.PORT).stdout


@pytest.mark.parametrize("driver", ("af_xdp", "af_packet"))
def test_no_reset_across_a_kill(second_lab, driver):
    """The port is mute while nobody is at home: connections meet silence, never the kernel's RST,
    so that a restart can serve them."""
    lab = second_lab
    weir = Weir(lab, weir_module.config(lab, driver)).start()
    try:
        with lab.client.entered():
            held = [traffic.connect() for _ in range(8)]
        assert len({traffic.ask(connection) for connection in held}) > 1
        reset_only = "tcp[tcpflags] & tcp-rst != 0"
        with Capture(lab.client, expression=reset_only) as client, \
                Capture(lab.hosts[0], expression=reset_only) as host1, \
                Capture(lab.hosts[1], expression=reset_only) as host2:
            killed = time.time()
            weir.kill()
            for connection in held:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n")
            stream = traffic.Stream(lab.client, threads=4, count=4, timeout=20)
            time.sleep(1.5)
        resets = balanced(client.resets() + host1.resets() + host2.resets())
        assert [packet for packet in resets if packet.time > killed] == []
        weir.start()
        # The SYNs of the gap come again and are served.
        assert traffic.errors(stream.join()) == []
        for connection in held:
            connection.close()
        assert len(traffic.bodies(traffic.requests(lab.client, 40))) == 4
        assert weir.stop() == 0
    finally:
        weir.kill()


@pytest.fixture(scope="module")
def second_lab():
    """One of its own: the module's weir holds the port of the shared one."""
    with lab_module.Lab() as made:
        yield made
