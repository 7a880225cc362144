# SPDX-License-Identifier: BSD-3-Clause
"""What becomes of connections when their backend is down or leaves the file, and of a service when
all are."""

import contextlib
import time

import pytest

import traffic
import weir as weir_module
from netns import PATIENCE
from test_reload import TIMEOUTS, reload, usual

VIP2 = "192.0.2.11"
# A busy machine makes no probe of a living backend late.
PATIENT = {"interval_ms": 1500, "timeout_ms": 1400}
SIX_IN_A_ROW = {"interval_ms": 300, "fall": 6}


def connections_of(lab, weir, name, count=1):
    """`count` keep-alive connections that the backend serves."""
    found = []
    with lab.client.entered():
        while len(found) < count:
            connection = traffic.connect(timeout=10)
            if traffic.ask(connection) == name:
                found.append(connection)
            else:
                connection.close()
    return found


def server_connections(lab, backend):
    """How many the backend's host has open towards it, its own probes apart: these come from the
    kernel's ports. A frozen backend has one of them open most of the time."""
    said = backend.namespace.run("ss", "-Htn", "state", "established",
                                 f"( sport = :{backend.port} and "
                                 "( dport < :32768 or dport > :60999 ) )").stdout
    return len(said.splitlines())


def wait_reset(connection, seconds=10):
    """Until the connection is reset."""
    connection.settimeout(seconds * PATIENCE)
    with pytest.raises(ConnectionResetError):
        connection.recv(100)


@pytest.mark.ci
def test_five_seconds_frozen_lose_nothing(lab, start_weir):
    """With the defaults, though the backend is down for the probes."""
    weir = start_weir(timeouts=TIMEOUTS)
    with lab.client.entered():
        connections = [traffic.connect(timeout=20) for _ in range(500)]
    names = [traffic.ask(connection) for connection in connections]
    frozen = lab.backend("con2")
    frozen.freeze()
    asked = [connection for connection, name in zip(connections, names) if name == "con2"]
    for connection in asked:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n")
    weir.wait_health("con2", "down")
    time.sleep(5)
    frozen.thaw()
    assert len(asked) > 50
    assert all(traffic.read_response(connection).decode().strip() == "con2" for connection in asked)
    assert [traffic.ask(connection) for connection in connections] == names
    assert weir.flows()[0]["reset"] == 0
    for connection in connections:
        connection.close()


def test_reset_at_once_frees_a_waiting_client(lab, start_weir):
    """And the server's side, too: the RST is one that it takes."""
    weir = start_weir(services={"web": {"on_down": "reset", "on_down_reset_ms": 0,
                                        "health": SIX_IN_A_ROW}}, timeouts=TIMEOUTS)
    backend = lab.backend("con1")
    waiting, idle, other = *connections_of(lab, weir, "con1", 2), \
        connections_of(lab, weir, "con3")[0]
    assert server_connections(lab, backend) >= 2
    backend.freeze()
    waiting.sendall(b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n")
    wait_reset(waiting)
    wait_reset(idle)
    assert traffic.ask(other) == "con3"
    weir.wait(lambda: server_connections(lab, backend) == 0, what="the server's side is free")
    assert weir.flows()[0]["reset"] == 2
    backend.thaw()
    weir.wait_health("con1", "up")
    with contextlib.closing(connections_of(lab, weir, "con1")[0]) as again:
        time.sleep(2.5)                 # new flows of a backend that is back are left alone
        assert traffic.ask(again) == "con1"


@pytest.mark.ci
def test_many_are_reset(lab, start_weir):
    """More than fit into one burst, on two workers."""
    web = {"on_down": "reset", "on_down_reset_ms": 0, "health": PATIENT}
    weir = start_weir(workers=2, services={"web": web}, timeouts=TIMEOUTS)
    with lab.client.entered():
        connections = [traffic.connect(timeout=10) for _ in range(600)]
    names = [traffic.ask(connection) for connection in connections]
    lab.backend("con4").freeze()
    weir.wait_health("con4", "down")
    for connection, name in zip(connections, names):
        if name == "con4":
            wait_reset(connection)
        else:
            assert traffic.ask(connection) == name
    assert weir.flows()[0]["reset"] == names.count("con4") > 100


def test_auto(lab, start_weir):
    """Reset when nobody answers, keep when the answer is only wrong."""
    weir = start_weir(services={"web": {"on_down_reset_ms": 500, "health": PATIENT}},
                      timeouts=TIMEOUTS)
    sick, = connections_of(lab, weir, "con3")
    silent, = connections_of(lab, weir, "con4")
    lab.backend("con3").set_healthy(False)
    lab.backend("con4").cut()
    for name in ("con3", "con4"):
        weir.wait_health(name, "down")
    wait_reset(silent)
    time.sleep(1)
    assert traffic.ask(sick) == "con3"


def test_keep(lab, start_weir):
    weir = start_weir(services={"web": {"on_down": "keep", "on_down_reset_ms": 0}},
                      timeouts=TIMEOUTS)
    connection, = connections_of(lab, weir, "con4")
    lab.backend("con4").cut()
    weir.wait_health("con4", "down")
    time.sleep(1)
    lab.backend("con4").mend()
    assert traffic.ask(connection) == "con4"


def test_on_remove_reset(lab, start_weir):
    weir = start_weir(services={"web": {"on_remove": "reset"}}, timeouts=TIMEOUTS)
    gone, = connections_of(lab, weir, "con2")
    stays, = connections_of(lab, weir, "con1")
    config = usual(lab, services={"web": {"on_remove": "reset"}})
    config["services"]["web"]["backends"] = \
        [backend for backend in config["services"]["web"]["backends"] if backend["name"] != "con2"]
    assert reload(weir, config) == ""
    wait_reset(gone)
    assert traffic.ask(stays) == "con1"
    weir.wait(lambda: "con2" not in weir.backends(), what="con2 gone")


def test_all_down_forward(lab, start_weir):
    weir = start_weir(services={"web": {"on_all_down": "forward"}}, timeouts=TIMEOUTS)
    for backend in lab.backends:
        backend.set_healthy(False)
    for name in weir.backends():
        weir.wait_health(name, "down")
    assert traffic.errors(answers := traffic.requests(lab.client, 100)) == []
    assert len(traffic.bodies(answers)) == 4
    lab.backend("con1").set_healthy(True)
    weir.wait_in_use(["con1"])          # all were until now
    assert set(traffic.bodies(traffic.requests(lab.client, 50))) == {"con1"}


def test_all_down_forward_to_whom_the_link_reaches(lab, start_weir):
    """Who is reached again while all are down gets his share again (E1's kind: a change that
    nobody is told of)."""
    for backend in lab.backends:
        backend.set_healthy(False)
    lab.unplug_host(1)
    try:
        weir = start_weir(wait_up=False, services={"web": {"on_all_down": "forward"}},
                          timeouts=TIMEOUTS)
        for name in weir.backends():
            weir.wait_health(name, "down")
        weir.wait_in_use(["con1", "con2"])
    finally:
        lab.plug_host(1)
    weir.wait_in_use(["con1", "con2", "con3", "con4"])


def test_all_down_withdraw(lab, start_weir):
    """The address leaves weir0 while nobody serves it, and comes back; others stay."""
    def addresses():
        return weir.netns.run("ip", "-4", "-o", "address", "show", "dev", "weir0").stdout

    web = weir_module.config(lab)["services"]["web"]
    weir = start_weir(port={"address": (f"{weir_module.lab_module.VIP}/24", f"{VIP2}/32")},
                      services={"web": {"listen": f"{weir_module.lab_module.VIP}:80"},
                                "own": weir_module.merged(
                                    web, {"listen": f"{VIP2}:80", "on_all_down": "withdraw"})},
                      timeouts=TIMEOUTS)
    weir.wait(lambda: VIP2 in addresses(), what="the address")
    with lab.client.entered():
        assert traffic.get(address=VIP2)
    for backend in lab.backends:
        backend.set_healthy(False)
    weir.wait(lambda: VIP2 not in addresses(), what="the address withdrawn")
    assert weir_module.lab_module.VIP in addresses()
    lab.backend("con2").set_healthy(True)
    weir.wait(lambda: VIP2 in addresses(), what="the address back")
    with lab.client.entered():
        assert traffic.get(address=VIP2) == "con2"
