# SPDX-License-Identifier: BSD-3-Clause
"""Where probes come from, and which way they go: as the connections do (cases E8 and E9)."""

import contextlib
import http.server
import socket
import threading
import time

import pytest

import traffic
import weir as weir_module
from capture import Capture
from lab import GATEWAYS, VIP, VIP6, Lab
from test_reload import write
from weir import merged

SECOND, SECOND6 = "192.0.2.11", "2001:db8::11"
ADDRESSES = {"ip": (VIP, SECOND), "ip6": (VIP6, SECOND6)}


QUICK = {"interval_ms": 300, "timeout_ms": 250}


# E8: the address that probes come from

@contextlib.contextmanager
def firewall(host, family, address):
    """The host's servers can be reached from that address alone."""
    host.run("nft", "add table inet knows; add chain inet knows in "
             "{ type filter hook input priority 0; }; add rule inet knows in "
             f"tcp dport 8080-8081 {family} saddr != {address} drop")
    try:
        yield
    finally:
        host.run("nft", "delete table inet knows")


def with_sources(lab, family, *sources):
    """The lab's file with one service of the family, whose connections come from `sources`."""
    config = weir_module.config(lab, snat={"addresses": sources}, port={
        "address": tuple(f"{VIP}/24 {SECOND}/24 {VIP6}/64 {SECOND6}/64".split())})
    backends = [{"address": backend.endpoint if family == "ip" else backend.endpoint6,
                 "name": backend.name} for backend in lab.backends]
    config["services"]["web"] = merged(config["services"]["web"], {
        "listen": f"{VIP}:80" if family == "ip" else f"[{VIP6}]:80", "backends": backends})
    return config


def none_fails(lab, family, *names):
    results = traffic.requests(lab.client, 40, address=ADDRESSES[family][0])
    assert traffic.errors(results) == [] and set(traffic.bodies(results)) == set(names)


@pytest.mark.parametrize("family", ["ip", pytest.param("ip6", marks=pytest.mark.ci)])
def test_e8_a_firewall_that_knows_one_address(lab, start_weir, family):
    """Host 1's knows the port's first address, which the kernel would take for the probes: its
    backends are up if connections come from there alone, by whatever start."""
    first, second = ADDRESSES[family]
    with firewall(lab.hosts[0], family, first), firewall(lab.hosts[1], family, second):
        weir = start_weir(text=with_sources(lab, family, second), wait_up=False)
        weir.wait_in_use({"con3", "con4"})
        none_fails(lab, family, "con3", "con4")
        write(weir, with_sources(lab, family, first))
        weir.upgrade()
        weir.wait_in_use({"con1", "con2"})
        none_fails(lab, family, "con1", "con2")
        write(weir, with_sources(lab, family, second))
        restart_without_all(weir)
        weir.wait_in_use({"con3", "con4"})
        none_fails(lab, family, "con3", "con4")


def restart_without_all(weir):
    weir.kill()
    weir.start(wait_up=False)


@pytest.mark.parametrize("family", ["ip", pytest.param("ip6", marks=pytest.mark.ci)])
@pytest.mark.parametrize("health", [{}, pytest.param({"type": "tcp", "path": None},
                                                     marks=pytest.mark.ci)], ids=["http", "tcp"])
def test_e8_a_firewall_that_knows_one_of_two_addresses(lab, start_weir, family, health):
    """Half of the connections would fail: the backend is down, doesn't flap, and the reason names
    the address. With both known it comes back."""
    first, second = ADDRESSES[family]
    config = merged(with_sources(lab, family, first, second),
                    {"services": {"web": {"health": {**QUICK, **health}}}})
    weir = start_weir(text=config)
    none_fails(lab, family, "con1", "con2", "con3", "con4")
    begin = len(weir.log())
    with firewall(lab.hosts[0], family, first):
        weir.wait_in_use({"con3", "con4"})
        for name in ("con1", "con2"):
            assert weir.backends()[name]["reason"] == f"connect: timeout from {second}"
        restart_without_all(weir)
        time.sleep(2)                   # three turns of each address
        weir.wait_in_use({"con3", "con4"})
        none_fails(lab, family, "con3", "con4")
        for name in ("con1", "con2"):
            assert weir.log()[begin:].count(f"backend {name} {address_of(weir, name)}: down") == 1
    weir.wait_all_up()
    none_fails(lab, family, "con1", "con2", "con3", "con4")


def address_of(weir, name):
    return weir.backends()[name]["address"]


# E9: the way that probes go

NB_BACKENDS = 16                        # all by one router of two: once in 32,768 labs
PORT = 9000
PREFIXES = {"ip": "10.0.0", "ip6": "2001:db8:1:"}
GATEWAYS6 = ("2001:db8::1", "2001:db8::2")


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"web")

    def log_message(self, *_):
        pass


class Server6(http.server.ThreadingHTTPServer):
    """Listens to both families."""

    address_family = socket.AF_INET6
    request_queue_size = 100
    daemon_threads = True

    def handle_error(self, *_):
        pass                            # a probe resets when it has seen the status


@contextlib.contextmanager
def many_addresses(lab):
    """One server on host 1, under many addresses of both families."""
    addresses = {family: [f"{prefix}{':' if family == 'ip6' else '.'}{100 + index}"
                          for index in range(NB_BACKENDS)]
                 for family, prefix in PREFIXES.items()}
    lab.hosts[0].ip(*(f"address add {address}/24 dev eth0" for address in addresses["ip"]),
                    *(f"address add {address}/64 nodad dev eth0" for address in addresses["ip6"]))
    with lab.hosts[0].entered():
        server = Server6(("::", PORT), Hello)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield addresses
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def two_routers(requirements):
    with Lab(routed=True) as made, many_addresses(made) as addresses:
        yield made, addresses


def balanced(lab, addresses, family):
    """The backends behind the routers, of one family; connections come from the port's second
    address."""
    config = with_sources(lab, family, ADDRESSES[family][1])
    config["port"]["gateway"] = (GATEWAYS[0], GATEWAYS6[0])
    config["services"]["web"]["health"] = {"type": "http", "path": "/"}
    config["services"]["web"]["backends"] = [
        f"{address}:{PORT}" if family == "ip" else f"[{address}]:{PORT}"
        for address in addresses[family]]
    return config


SYNS = "tcp dst port 9000"


def ways(lab, weir, family):
    """By which routers the probes and the connections of each backend go, by its address."""
    with Capture(lab.routers[0], "eth0", SYNS) as first, \
            Capture(lab.routers[1], "eth0", SYNS) as second:
        until = time.monotonic() + 2.5  # four probes of each
        results = traffic.requests(lab.client, NB_BACKENDS * 10, address=ADDRESSES[family][0])
        assert traffic.errors(results) == []
        time.sleep(max(0, until - time.monotonic()))
    found = {"probes": {}, "connections": {}}
    for router, capture in enumerate((first, second)):
        for packet in capture.packets:
            if packet.flags != 2:
                continue
            assert packet.source == ADDRESSES[family][1]
            kind = "probes" if 32768 <= packet.sport < 61000 else "connections"
            found[kind].setdefault(packet.destination, set()).add(router)
    return found


def routers_in_use(weir):
    return len({backend["mac"] for backend in weir.backends().values()})


def with_two_routers(lab, weir, addresses, family):
    """A route that leaves a choice; by which routers the backends are reached."""
    prefix, gateways = (("10.0.0.0/24", GATEWAYS) if family == "ip"
                        else ("2001:db8:1::/64", GATEWAYS6))
    weir.netns.ip(f"route add {prefix} nexthop via {gateways[0]} nexthop via {gateways[1]}")
    weir.wait(lambda: routers_in_use(weir) == 2, what="both routers")
    weir.wait_all_up()


@pytest.mark.parametrize("family", ["ip", pytest.param("ip6", marks=pytest.mark.ci)])
def test_e9_probes_go_the_way_of_the_connections(two_routers, start_weir, family):
    """Each backend is reached by one of two routers, for probes and connections."""
    lab, addresses = two_routers
    weir = start_weir(in_lab=lab, text=balanced(lab, addresses, family))
    with_two_routers(lab, weir, addresses, family)
    found = ways(lab, weir, family)
    assert found["probes"] == found["connections"]
    assert sorted(found["probes"]) == sorted(addresses[family])
    assert {len(routers) for routers in found["probes"].values()} == {1}
    assert set().union(*found["probes"].values()) == {0, 1}


@pytest.mark.parametrize("family", [
    pytest.param("ip", marks=pytest.mark.ci), pytest.param("ip6", marks=pytest.mark.full)])
def test_e9_a_router_dies(two_routers, start_weir, family):
    """Its backends are reached by the other one."""
    lab, addresses = two_routers
    weir = start_weir(in_lab=lab, text=balanced(lab, addresses, family))
    with_two_routers(lab, weir, addresses, family)
    lab.switch.ip("link set router2 down")
    try:
        weir.wait(lambda: routers_in_use(weir) == 1, 40, "the living router")
        weir.wait_all_up()
        found = ways(lab, weir, family)
        assert found["probes"] == found["connections"]
        assert set().union(*found["probes"].values()) == {0}
    finally:
        lab.switch.ip("link set router2 up")
    if family == "ip":                  # the kernel looks for one of IPv6 once a minute
        weir.wait(lambda: routers_in_use(weir) == 2, 20, "both routers again")
        weir.wait_all_up()


@pytest.mark.ci
@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_e9_a_rule_that_names_the_source(two_routers, start_weir, family):
    lab, addresses = two_routers
    weir = start_weir(in_lab=lab, text=balanced(lab, addresses, family))
    option, gateway = ("-4", GATEWAYS[1]) if family == "ip" else ("-6", GATEWAYS6[1])
    weir.netns.run("ip", option, "route", "add", "default", "via", gateway, "table", "7")
    weir.netns.run("ip", option, "rule", "add", "from", ADDRESSES[family][1], "lookup", "7")
    mac = lab.routers[1].run("ip", "-brief", "link", "show", "eth0").stdout.split()[2]
    weir.wait(lambda: {backend["mac"] for backend in weir.backends().values()} == {mac},
              what="the second router")
    weir.wait_all_up()
    found = ways(lab, weir, family)
    assert found["probes"] == found["connections"]
    assert set().union(*found["probes"].values()) == {1}
