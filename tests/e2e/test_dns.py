# SPDX-License-Identifier: BSD-3-Clause
"""Backends by DNS name: followed off the packet path, the last good addresses kept."""

import contextlib
import ipaddress
import os
import re
import socket
import ssl
import threading
import time

import pytest

import traffic
from lab import VIP, VIP6
from name_server import NXDOMAIN, REFUSED, NameServer
from netns import PATIENCE
from test_reload import TIMEOUTS, backends_of, reload, usual
from weir import merged

pytestmark = pytest.mark.sanitized

SERVER, SECOND = ("127.0.0.1", 5353), ("127.0.0.1", 5354)
NAME = "app.example.org"


@pytest.fixture
def dns(lab):
    lab.lb.ip("link set lo up")
    server = NameServer(lab.lb, ["192.0.2.21"], endpoint=SERVER)
    yield server
    server.close()


@pytest.fixture
def second(lab, dns):
    server = NameServer(lab.lb, ["192.0.2.22"], endpoint=SECOND)
    yield server
    server.close()


def named(lab, **entry):
    return usual(lab, resolvers=(f"{SERVER[0]}:{SERVER[1]}",), services={"web": {"backends": [
        {"address": f"{NAME}:8080", "name": "app", **entry}]}})


def named6(lab):
    config = named(lab, resolve_ms=200)
    config["port"]["address"] = (f"{VIP}/24", f"{VIP6}/64")
    config["services"]["web"]["listen"] = f"[{VIP6}]:80"
    return config


def names(lab):
    return set(traffic.bodies(traffic.requests(lab.client, 40)))


def test_followed_by_ttl_and_kept(lab, dns, start_weir):
    weir = start_weir(resolvers=(f"{SERVER[0]}:{SERVER[1]}",), timeouts=TIMEOUTS, wait_up=False,
                      services={"web": {"backends": [{"address": f"{NAME}:8080", "name": "app"}]}})
    weir.wait(lambda: set(weir.backends()) == {"app/192.0.2.21"}, what="the first answer")
    weir.wait_all_up()
    assert names(lab) == {"con1"}
    with lab.client.entered():
        connection = traffic.connect()
    assert traffic.ask(connection) == "con1"

    dns.addresses = ["192.0.2.22", "192.0.2.21"]    # one more, in another order
    weir.wait(lambda: len(weir.backends()) == 2, what="the second address")
    weir.wait_all_up()
    assert names(lab) == {"con1", "con3"}

    dns.addresses = ["192.0.2.22", "127.0.0.1", "192.0.2.10"]   # what can't be a backend is none
    weir.wait(lambda: weir.backends()["app/192.0.2.21"]["state"] == "removed", what="the change")
    weir.wait_in_use(["app/192.0.2.22"])
    assert names(lab) == {"con3"}
    assert traffic.ask(connection) == "con1"        # drained
    connection.close()

    dns.addresses = None
    asked = dns.questions
    weir.wait(lambda: dns.questions > asked + 1, timeout=20, what="questions")
    assert names(lab) == {"con3"}
    dns.addresses = ["192.0.2.21"]
    # The removed one goes when its flow has, maybe between two looks.
    weir.wait(lambda: weir.backends().get("app/192.0.2.21", {}).get("state") == "active",
              timeout=20, what="the next good answer")


def test_by_reload_and_by_hand(lab, dns, start_weir):
    """A name comes and goes with the file; resolve_ms overrides a long TTL."""
    dns.ttl = 3600
    weir = start_weir(timeouts=TIMEOUTS)
    assert reload(weir, named(lab, resolve_ms=200, weight=2)) == ""
    assert f"+ app {NAME}:8080 weight 2" in weir.log()
    weir.wait(lambda: weir.backends().get("app/192.0.2.21", {}).get("health") == "up", what="up")
    assert names(lab) == {"con1"}
    dns.addresses = ["192.0.2.22"]
    weir.wait(lambda: weir.backends().get("app/192.0.2.22", {}).get("health") == "up", what="up")
    assert names(lab) == {"con3"}
    assert reload(weir, usual(lab)) == ""
    weir.wait_all_up()
    asked = dns.questions
    time.sleep(1)
    assert dns.questions <= asked + 1
    assert names(lab) == {"con1", "con2", "con3", "con4"}


def own_log(weir):
    """What it said since it runs: the file has the lines of former ones, too."""
    return weir.log().rpartition("started in")[2]


# E10: what evdns couldn't

UNPROBED = {"type": "none", "path": None}


def followed(start_weir, *servers, port=8080, **service):
    """A weir with a service of the name, which is asked for again and again."""
    endpoints = tuple(f"{address}:{port}" for address, port in servers or (SERVER,))
    return start_weir(resolvers=endpoints, timeouts=TIMEOUTS, wait_up=False,
                      services={"web": {**service, "backends": [
                          {"address": f"{NAME}:{port}", "name": "app", "resolve_ms": 200}]}})


def wait_addresses(weir, *addresses):
    weir.wait(lambda: set(weir.backends()) == {f"app/{one}" for one in addresses}, timeout=15,
              what=f"{len(addresses)} addresses")


@pytest.mark.parametrize("how", ["edns", "tcp", pytest.param("no edns", marks=pytest.mark.ci)])
def test_e10_an_answer_longer_than_a_datagram(lab, dns, start_weir, how):
    """40 records: by one datagram where the server sends such, else by TCP."""
    dns.addresses = [f"192.0.2.{last}" for last in (21, *range(150, 189))]
    dns.edns = how != "no edns"
    dns.limit = 512 if how == "tcp" else 65535
    weir = followed(start_weir)
    wait_addresses(weir, *dns.addresses)
    assert (dns.by_tcp == 0) == (how == "edns")
    weir.wait_in_use(["app/192.0.2.21"])
    assert names(lab) == {"con1"}


@pytest.mark.ci
def test_e10_long_answers_of_ipv6(lab, dns, start_weir):
    dns.addresses = [f"2001:db8::{last:x}" for last in (0x21, *range(0x150, 0x18b))]
    weir = start_weir(**named6(lab), wait_up=False)
    wait_addresses(weir, *dns.addresses)
    assert dns.by_tcp > 0
    weir.wait_in_use(["app/2001:db8::21"])
    assert set(traffic.bodies(traffic.requests(lab.client, 20, address=VIP6))) == {"con1"}


@pytest.mark.parametrize("count", [pytest.param(200, marks=pytest.mark.ci), 300])
def test_e10_many_addresses_in_rotation(dns, start_weir, count):
    """All that a name may have, the same ones whatever comes first; of more it is said."""
    dns.addresses = [f"192.0.2.{last}" for last in range(130, 180)] \
        + [f"10.9.{number // 100}.{number % 100 + 1}" for number in range(count - 50)]
    dns.rotates = True
    taken = sorted(dns.addresses, key=ipaddress.ip_address)[:256]
    weir = followed(start_weir, health=UNPROBED)
    wait_addresses(weir, *taken)
    asked = dns.questions
    weir.wait(lambda: dns.questions > asked + 6, what="further answers")
    wait_addresses(weir, *taken)
    log = own_log(weir)
    assert log.count(f"name {NAME}: ") == (1 if count <= 256 else 2)
    assert (f"{NAME}: it has {count} addresses, of which the lowest 256 are taken" in log) == \
        (count > 256)


def test_e10_the_hosts_file(lab, dns, start_weir):
    """It goes before DNS, and what changes in it is taken."""
    path = f"{lab.directory}/hosts"

    def write_hosts(text):
        with open(path + ".new", "w") as file:
            file.write(text)
        os.rename(path + ".new", path)

    write_hosts(f"192.0.2.22 other {NAME}   # the second host\n")
    dns.ttl = 3600
    weir = start_weir(resolvers=(f"{SERVER[0]}:{SERVER[1]}",), timeouts=TIMEOUTS, wait_up=False,
                      environment={"CARES_HOSTS": path}, services={"web": {"backends": [
                          {"address": f"{NAME}:8080", "name": "app"}]}})
    weir.wait_in_use(["app/192.0.2.22"])
    assert dns.questions == 0
    write_hosts("")
    weir.wait_in_use(["app/192.0.2.21"])
    write_hosts(f"192.0.2.22 {NAME}\n")        # though DNS said that its answer holds for an hour
    weir.wait_in_use(["app/192.0.2.22"])


@pytest.mark.ci
def test_e10_a_server_that_knows_lower_case_alone(lab, dns, start_weir):
    dns.lower_only = True
    weir = followed(start_weir)
    weir.wait_in_use(["app/192.0.2.21"])
    asked = dns.questions
    weir.wait(lambda: dns.questions > asked + 5, what="further answers")
    assert "its last addresses stay" not in own_log(weir)


@pytest.mark.parametrize("death", ["silent", pytest.param("gone", marks=pytest.mark.ci)])
def test_e10_servers_are_asked_in_their_order(lab, dns, second, start_weir, death):
    """The second one only when the first doesn't answer, and no longer than that."""
    weir = followed(start_weir, SERVER, SECOND)
    weir.wait_in_use(["app/192.0.2.21"])
    assert second.questions == 0
    if death == "silent":
        dns.silent = True
    else:
        dns.close()
    weir.wait_in_use(["app/192.0.2.22"], timeout=15)
    if death == "silent":
        dns.silent = False
    else:
        dns.open()
    weir.wait_in_use(["app/192.0.2.21"], timeout=15)
    asked = second.questions
    first_asked = dns.questions
    weir.wait(lambda: dns.questions > first_asked + 5, what="further answers")
    assert second.questions <= asked + 1


@pytest.mark.ci
@pytest.mark.parametrize("fault", ["nxdomain", "silent", "empty", "lies"])
def test_e10_the_last_addresses_stay(lab, dns, start_weir, fault):
    weir = followed(start_weir)
    weir.wait_in_use(["app/192.0.2.21"])
    before = len(weir.log())
    if fault == "nxdomain":
        dns.error, dns.addresses = NXDOMAIN, None
    elif fault == "silent":
        dns.silent = True
    else:
        dns.addresses = [] if fault == "empty" else ["127.0.0.1", "0.0.0.0", VIP, "224.0.0.1"]
    weir.wait(lambda: "its last addresses stay" in weir.log()[before:], timeout=20, what="a line")
    assert names(lab) == {"con1"}
    dns.silent, dns.addresses = False, ["192.0.2.22"]
    weir.wait_in_use(["app/192.0.2.22"], timeout=15)


# E21: who probes a name asks for it

class NamedServer:
    """An HTTP server on con1's host that notes the name in TLS and in the Host header."""

    PORT = 8090

    def __init__(self, lab, tls):
        self.asked = set()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        self._sni = None
        if tls:
            self._tls.load_cert_chain(f"{lab.files}/certificate", f"{lab.files}/key")
            self._tls.sni_callback = self._note
        with lab.hosts[0].entered():
            self._socket = socket.create_server(("192.0.2.21", self.PORT))

    def _note(self, _connection, name, _context):
        self._sni = name

    def _run(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._sni = None
            with connection, contextlib.suppress(OSError):
                connection.settimeout(2)
                if self._tls:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                host = re.search("Host: (.*)\r\n", connection.recv(4096).decode())
                if host:                # else the probe was given up
                    self.asked.add((self._sni, host.group(1)))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                connection.close()

    def __enter__(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@pytest.mark.parametrize("kind", ["https", pytest.param("http", marks=pytest.mark.ci)])
def test_e21_probes_of_a_name_ask_for_it(lab, dns, start_weir, kind):
    """Unless the file says what else to ask for; that of an address asks for the address."""
    health = {"type": kind, "port": NamedServer.PORT, "interval_ms": 200}
    by_name, by_address, other = NAME, "192.0.2.21:8090", "www.example.org"
    config = named(lab)
    web = config["services"]["web"] = merged(config["services"]["web"], {"health": health})
    plain = {**web, "listen": ":81", "backends": backends_of(lab, "con1")}
    config["services"]["plain"] = plain
    config["services"]["other"] = merged(web, {"listen": ":82", "health": {"host": other}})
    tls = kind == "https"
    with NamedServer(lab, tls) as server:
        start_weir(**config)
        expected = {(by_name if tls else None, by_name), (None, by_address),
                    (other if tls else None, other)}
        deadline = time.monotonic() + 10 * PATIENCE
        while len(server.asked) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.asked == expected


# E3: a start without DNS

def lives_again(weir, life):
    if life == "upgraded":
        weir.upgrade()
        return
    if life == "killed":
        weir.kill()
    else:
        assert weir.stop(keep=True) == 0
    weir.start(wait_up=False)


@pytest.mark.parametrize("life,fault", [
    ("killed", "silent"), ("upgraded", "silent"),
    *(pytest.param(life, fault, marks=pytest.mark.ci) for life, fault in (
        ("stopped", "silent"), ("killed", "refused"), ("killed", "nxdomain"), ("killed", "slow"),
        ("upgraded", "slow"), ("killed", "first dead")))])
def test_e3_a_start_without_dns(lab, dns, second, start_weir, life, fault):
    """The addresses that were known serve at once, and until there is an answer."""
    weir = followed(start_weir, SERVER, SECOND)
    weir.wait_in_use(["app/192.0.2.21"])
    dns.addresses = second.addresses = ["192.0.2.22"]
    weir.wait_in_use(["app/192.0.2.22"])        # the latest ones, and no others
    second.silent = fault != "first dead"
    if fault in ("silent", "first dead"):
        dns.silent = True
    elif fault == "slow":
        dns.delay = 0.7
    else:
        dns.addresses, dns.error = None, NXDOMAIN if fault == "nxdomain" else REFUSED
    lives_again(weir, life)
    weir.wait_in_use(["app/192.0.2.22"])
    results = traffic.requests(lab.client, 40)
    assert set(traffic.bodies(results)) == {"con3"} and not traffic.errors(results)
    dns.silent, dns.delay, dns.addresses = False, 0, ["192.0.2.21"]
    weir.wait_in_use(["app/192.0.2.21"], timeout=20)


@pytest.mark.ci
def test_e3_a_start_without_dns_of_ipv6_and_two_workers(lab, dns, start_weir):
    dns.addresses = ["2001:db8::21", "2001:db8::22"]
    weir = start_weir(**named6(lab), workers=2, wait_up=False)
    weir.wait_in_use(["app/2001:db8::21", "app/2001:db8::22"])
    dns.silent = True
    lives_again(weir, "killed")
    weir.wait_in_use(["app/2001:db8::21", "app/2001:db8::22"])
    results = traffic.requests(lab.client, 40, address=VIP6)
    assert set(traffic.bodies(results)) == {"con1", "con3"} and not traffic.errors(results)


@pytest.mark.ci
def test_e3_what_is_kept_goes_with_the_rest(lab, dns, start_weir):
    """Of a name that left the file, and by a stop that forgets."""
    weir = followed(start_weir)
    path = f"/run/weir/{weir.prefix}.names"
    weir.wait_in_use(["app/192.0.2.21"])
    with open(path) as file:
        assert file.read() == f"{NAME} 192.0.2.21\n"
    assert reload(weir, usual(lab)) == ""
    weir.wait(lambda: not os.path.exists(path), what="no names")
    assert reload(weir, named(lab)) == ""
    weir.wait(lambda: os.path.exists(path), what="names")
    assert weir.stop() == 0
    assert not os.path.exists(path)
