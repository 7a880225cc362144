# SPDX-License-Identifier: BSD-3-Clause
"""Backends by DNS name: followed off the packet path, the last good addresses kept."""

import socket
import struct
import threading
import time

import pytest

import traffic
from test_reload import TIMEOUTS, reload, usual

pytestmark = pytest.mark.sanitized

SERVER = ("127.0.0.1", 5353)
NAME = "app.example.org"


class DnsServer:
    """Answers each question for an A record with `addresses`; None = SERVFAIL."""

    def __init__(self, namespace, addresses, ttl=1):
        self.addresses, self.ttl, self.questions = addresses, ttl, 0
        with namespace.entered():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(SERVER)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            question, client = self._socket.recvfrom(2000)
            if not question:            # close()
                return
            self.questions += 1
            end = question.index(b"\0", 12) + 5
            addresses = self.addresses
            head = struct.pack("!HHHHH", 0x8182 if addresses is None else 0x8180, 1,
                               len(addresses or ()), 0, 0)
            answers = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, self.ttl, 4)
                               + socket.inet_aton(address) for address in addresses or ())
            self._socket.sendto(question[:2] + head + question[12:end] + answers, client)

    def close(self):
        self._socket.sendto(b"", SERVER)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def dns(lab):
    lab.lb.ip("link set lo up")
    server = DnsServer(lab.lb, ["192.0.2.21"])
    yield server
    server.close()


def named(lab, **entry):
    return usual(lab, resolvers=(f"{SERVER[0]}:{SERVER[1]}",), services={"web": {"backends": [
        {"address": f"{NAME}:8080", "name": "app", **entry}]}})


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
