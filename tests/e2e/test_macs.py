# SPDX-License-Identifier: BSD-3-Clause
"""E7: a client, or the gateway before it, has another MAC all of a sudden and says so. What the
server sends next arrives, though the client itself is silent: of many connections, of both
families, and of resets on behalf of a server."""

import contextlib
import socket

import pytest

import traffic
import weir as weir_module
from lab import CLIENT, CLIENT6, GATEWAYS, VIP, VIP6, Lab
from netns import PATIENCE
from test_on_down import wait_reset
from test_reload import reload
from test_routes import link_mac

GATEWAY6 = "2001:db8::1"
NEW, NEWER = "02:57:65:69:72:77", "02:57:65:69:72:78"
COUNT = 25                              # connections of each family
ci = pytest.mark.ci


def speaks_up(namespace):
    """It tells of a new MAC, as routers and machines that move do."""
    namespace.sysctl(ipv4__conf__eth0__arp_notify=1, ipv6__conf__eth0__ndisc_notify=1)


@pytest.fixture(scope="module")
def behind_lab(requirements):
    """The client is behind the gateway 192.0.2.1."""
    with Lab(narrow="client") as made:
        speaks_up(made.routers[0])
        yield made


@pytest.fixture
def link_lab(lab):
    speaks_up(lab.client)
    return lab


@contextlib.contextmanager
def another_mac(namespace, *macs):
    """Its eth0 has the last of the MACs, one after the other."""
    before = link_mac(namespace)
    for mac in macs:
        namespace.ip(f"link set eth0 address {mac}")
    try:
        yield
    finally:
        namespace.ip(f"link set eth0 address {before}")


class Ends:
    """Connections through weir to a server of ours in place of con1's nginx, of both families, and
    their ends at the server."""

    def __init__(self, lab):
        self.lab, self.backend = lab, lab.backend("con1")
        self.backend.kill()
        self.pairs, self.listeners = [], {}
        with self.backend.namespace.entered():
            for vip, address in (VIP, self.backend.address), (VIP6, self.backend.address6):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                self.listeners[vip] = socket.create_server(
                    (address, self.backend.port), family=family, backlog=100)
                self.listeners[vip].settimeout(10 * PATIENCE)

    def open(self, count):
        self.lab.client.ip("neighbour flush all")       # who asks for weir is known to its kernel
        for vip, listener in self.listeners.items():
            for _ in range(count):
                with self.lab.client.entered():
                    client = traffic.connect(vip, timeout=20)
                self.pairs.append((client, listener.accept()[0]))

    def server_speaks(self, word):
        for _, server in self.pairs:
            server.sendall(word)
        for client, _ in self.pairs:
            assert client.recv(10) == word

    def close(self):
        for ends in self.pairs:
            for end in ends:
                end.close()
        for listener in self.listeners.values():
            listener.close()


@pytest.fixture
def ends_in():
    made = []

    def make(lab):
        made.append(Ends(lab))
        return made[0]

    yield make
    for ends in made:
        ends.close()


def both_families(lab, driver="af_xdp", workers=1, backends=("con1",), **service):
    """A file with one service for each family over these backends, which nobody probes."""
    config = weir_module.config(lab, driver, workers, port={
        "address": (f"{VIP}/24", f"{VIP6}/64"),
        **({"gateway": (GATEWAYS[0], GATEWAY6)} if lab.narrow else {})})
    web = {**config["services"]["web"], "health": {"type": "none"}, **service}
    for name, attribute in ("web", "endpoint"), ("web6", "endpoint6"):
        config["services"][name] = {**web, "backends": [
            {"address": getattr(lab.backend(one), attribute), "name": one} for one in backends]}
    return config


def wait_heard(weir, mac, *addresses):
    """Until the kernel has the neighbours at that MAC."""
    def known(address):
        return mac in weir.netns.run("ip", "neighbour", "show", address).stdout
    weir.wait(lambda: all(map(known, addresses)), 20, f"{addresses} at {mac}")


def wait_told(weir, begin, address, old, new, count):
    """Until the log says so of so many connections, once."""
    line = f"neighbour {address}: MAC changed from {old} to {new}, {count} flows"
    weir.wait(lambda: line in weir.log()[begin:], what=line)
    assert weir.log()[begin:].count(f"neighbour {address}: MAC changed") == 1


@pytest.mark.parametrize("driver, workers", [
    ("af_xdp", 2), pytest.param("af_xdp", 1, marks=ci), pytest.param("af_packet", 1, marks=ci),
    pytest.param("tap", 1, marks=ci)])
def test_e7_a_gateway_with_another_mac(behind_lab, start_weir, ends_in, driver, workers):
    lab, router = behind_lab, behind_lab.routers[0]
    weir = start_weir(in_lab=lab, text=both_families(lab, driver, workers))
    ends = ends_in(lab)
    ends.open(COUNT)
    old, begin = link_mac(router), len(weir.log())
    with another_mac(router, NEW):
        wait_heard(weir, NEW, GATEWAYS[0], GATEWAY6)
        ends.server_speaks(b"news")
        wait_told(weir, begin, GATEWAYS[0], old, NEW, COUNT)
        wait_told(weir, begin, GATEWAY6, old, NEW, COUNT)
        ends.server_speaks(b"more")


@pytest.mark.parametrize("driver, workers", [
    ("af_xdp", 1), pytest.param("af_xdp", 2, marks=ci), pytest.param("af_packet", 2, marks=ci),
    pytest.param("tap", 1, marks=ci)])
def test_e7_a_client_on_the_link_with_another_mac(link_lab, start_weir, ends_in, driver, workers):
    lab = link_lab
    weir = start_weir(in_lab=lab, text=both_families(lab, driver, workers))
    ends = ends_in(lab)
    ends.open(COUNT)
    old, begin = link_mac(lab.client), len(weir.log())
    with another_mac(lab.client, NEW):
        wait_heard(weir, NEW, CLIENT, CLIENT6)
        ends.server_speaks(b"news")
        wait_told(weir, begin, CLIENT, old, NEW, COUNT)
        wait_told(weir, begin, CLIENT6, old, NEW, COUNT)


def test_e7_a_reset_goes_to_the_new_mac(behind_lab, start_weir, ends_in):
    """On behalf of a server that left the file."""
    lab = behind_lab
    weir = start_weir(in_lab=lab, text=both_families(lab, on_remove="reset"))
    ends = ends_in(lab)
    ends.open(2)
    with another_mac(lab.routers[0], NEW):
        wait_heard(weir, NEW, GATEWAYS[0], GATEWAY6)
        assert reload(weir, both_families(lab, backends=("con3",), on_remove="reset")) == ""
        for client, _ in ends.pairs:
            wait_reset(client)


def kept(weir):
    with contextlib.suppress(FileNotFoundError):
        with open(f"/run/weir/{weir.prefix}.neighbours") as file:
            return file.read()
    return ""


@ci
@pytest.mark.parametrize("life", ["killed", "stopped"])
def test_e7_a_gateway_that_changes_while_no_weir_runs(behind_lab, start_weir, ends_in, life):
    """And the kernel has forgotten it by the next start."""
    lab, router = behind_lab, behind_lab.routers[0]
    weir = start_weir(in_lab=lab, text=both_families(lab))
    ends = ends_in(lab)
    ends.open(COUNT)
    if life == "killed":
        weir.wait(lambda: GATEWAY6 in kept(weir), what="it is kept")
        weir.kill()
    else:
        weir.stop(keep=True)
    with another_mac(router, NEW):
        weir.netns.ip("neighbour flush dev weir0")
        weir.start()
        wait_heard(weir, NEW, GATEWAYS[0], GATEWAY6)
        ends.server_speaks(b"news")


@ci
def test_e7_an_upgrade_follows_as_well(behind_lab, start_weir, ends_in):
    """Before it and behind it."""
    lab, router = behind_lab, behind_lab.routers[0]
    weir = start_weir(in_lab=lab, text=both_families(lab))
    ends = ends_in(lab)
    ends.open(COUNT)
    with another_mac(router, NEW):
        wait_heard(weir, NEW, GATEWAYS[0], GATEWAY6)
        weir.upgrade()
        ends.server_speaks(b"news")
        with another_mac(router, NEWER):
            wait_heard(weir, NEWER, GATEWAYS[0], GATEWAY6)
            ends.server_speaks(b"more")
