# SPDX-License-Identifier: BSD-3-Clause
"""Who gets a new connection: schedulers, backups, limits, slow start, and who may connect at
all."""

import collections
import contextlib
import time

import pytest

import traffic
from lab import CLIENT
from test_reload import reload
from weir import config, merged

# On a busy machine a probe may fail; six in a row don't.
HEALTH = {"type": "http", "path": "/health", "interval_ms": 300, "fall": 6}


@pytest.fixture
def start(lab, start_weir):
    """start({"con3": {"backup": True}}, scheduler=...) adds keys to backends and to the service."""
    def start(backends=None, workers=1, timeouts=None, **keys):
        return start_weir(workers=workers, timeouts=timeouts or {}, services={"web": {
            "health": HEALTH, **keys,
            "backends": [{"address": backend.endpoint, "name": backend.name,
                          **(backends or {}).get(backend.name, {})} for backend in lab.backends],
        }})
    return start


def shares(lab, count):
    results = traffic.requests(lab.client, count)
    assert traffic.errors(results) == []
    return traffic.bodies(results)


def wait_active(weir, expected, timeout=10):
    weir.wait(lambda: {name: backend["active"] for name, backend in weir.backends().items()}
              == expected, timeout, what=f"active connections {expected}")


def test_least_conn(lab, start, hold):
    weir = start(scheduler="least_conn", backends={"con4": {"weight": 2}})
    assert weir.services()[0]["scheduler"] == "least_conn"
    held = collections.defaultdict(list)
    for _ in range(50):
        name, connection = hold()
        held[name].append(connection)
    assert {name: len(held[name]) for name in held} == \
        {"con1": 10, "con2": 10, "con3": 10, "con4": 20}
    for connection in held["con2"]:
        connection.close()
    wait_active(weir, {"con1": 10, "con2": 0, "con3": 10, "con4": 20})
    assert [hold()[0] for _ in range(10)] == ["con2"] * 10


def test_least_conn_counts_what_other_workers_have(lab, start, hold):
    weir = start(scheduler="least_conn", workers=2)
    names = collections.Counter()
    for count in range(1, 41):
        names[hold()[0]] += 1
        weir.wait(lambda: sum(backend["active"] for backend in weir.backends().values()) == count,
                  what="the connection counted")
        time.sleep(0.003)               # a worker hears of the others' once a millisecond
    # Ten each, but for a worker that had no CPU between two of them.
    assert len(names) == 4 and max(names.values()) - min(names.values()) <= 2, names


def test_source(lab, start, hold):
    start(scheduler="source")
    sources = [CLIENT] + [f"192.0.2.{last}" for last in range(150, 174)]
    with contextlib.ExitStack() as cleanup:
        for source in sources[1:]:
            lab.client.run("ip", "address", "add", f"{source}/24", "dev", "eth0")
            cleanup.callback(lab.client.run, "ip", "address", "del", f"{source}/24", "dev", "eth0")
        before = {source: hold(source=source)[0] for source in sources}
        for source in sources[:5]:
            assert {hold(source=source)[0] for _ in range(5)} == {before[source]}
        assert len(set(before.values())) >= 3
        # A removed backend moves its own clients.
        weir = lab.weirs[0]
        gone = before[CLIENT]
        lab.backend(gone).kill()
        weir.wait_health(gone, "down")
        time.sleep(0.1)
        after = {source: hold(source=source)[0] for source in sources}
    for source in sources:
        if before[source] != gone:
            assert after[source] == before[source]
        else:
            assert after[source] != gone


def test_backup_takes_over_and_gives_back(lab, start, hold):
    weir = start({"con3": {"backup": True}, "con4": {"backup": True}})
    assert weir.backends()["con3"]["backup"] == 1
    assert set(shares(lab, 60)) == {"con1", "con2"}
    lab.backend("con1").kill()
    weir.wait_health("con1", "down")
    time.sleep(0.1)
    assert set(shares(lab, 30)) == {"con2"}
    lab.backend("con2").kill()
    weir.wait_health("con2", "down")
    weir.wait(lambda: weir.services()[0]["on_backups"], what="backups in use")
    time.sleep(0.1)
    assert set(shares(lab, 60)) == {"con3", "con4"}
    name, connection = hold()
    assert name in ("con3", "con4")

    lab.backend("con1").start()
    weir.wait_health("con1", "up")
    weir.wait(lambda: not weir.services()[0]["on_backups"], what="backups not in use")
    time.sleep(0.1)
    assert set(shares(lab, 60)) == {"con1"}
    assert traffic.ask(connection) == name          # old ones stay
    assert "the backups take over" in weir.log()


def test_max_conns(lab, start, hold):
    weir = start({name: {"max_conns": limit} for name, limit in
                  (("con1", 1), ("con2", 2), ("con3", 3), ("con4", 4))})
    held = [hold() for _ in range(10)]
    assert collections.Counter(name for name, _ in held) == \
        {"con1": 1, "con2": 2, "con3": 3, "con4": 4}
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            hold()
    weir.wait(lambda: weir.flows()[0]["refused_max_conns"] == 5, what="five refused")
    assert weir.services()[0]["refused_max_conns"] == 5
    # What is closed doesn't count any more, though its flow is there for another minute.
    name, connection = held[0]
    connection.close()
    wait_active(weir, {"con1": 1, "con2": 2, "con3": 3, "con4": 4,
                       name: int(name[3]) - 1})
    assert hold()[0] == name
    with pytest.raises(ConnectionRefusedError):
        hold()
    assert weir.backends()[name]["max_conns"] == int(name[3])


@pytest.mark.parametrize("scheduler", ["round_robin", "least_conn", "source"])
def test_max_conns_by_other_schedulers(lab, start, hold, scheduler):
    start({"con1": {"max_conns": 1}, "con2": {"max_conns": 2}, "con3": {"max_conns": 3},
           "con4": {"max_conns": 4}}, scheduler=scheduler)
    assert collections.Counter(hold()[0] for _ in range(10)) == \
        {"con1": 1, "con2": 2, "con3": 3, "con4": 4}
    with pytest.raises(ConnectionRefusedError):
        hold()


def test_max_conns_under_load(lab, start):
    """Connections that come and go by the thousand leave the count exact. On two queues a last
    segment may overtake another one; such a connection ends by the timeout of closing ones. One
    whose SYN was lost when wrk ended nobody asks for again: that ends by the one of half-open
    ones."""
    weir = start({name: {"max_conns": 1000} for name in ("con1", "con2", "con3", "con4")},
                 scheduler="least_conn", workers=2, timeouts={"closing_s": 5, "half_open_s": 5})
    shares(lab, 3000)
    traffic.wrk(lab.client, connections=64, seconds=2, close=True)
    wait_active(weir, {"con1": 0, "con2": 0, "con3": 0, "con4": 0}, timeout=30)


@pytest.mark.ci
def test_slow_start(lab, start):
    weir = start(slow_start_ms=6000)
    weir.wait(lambda: all(backend["weight_percent"] == 100
                          for backend in weir.backends().values()), what="whole weights")
    lab.backend("con1").kill()
    weir.wait_health("con1", "down")
    lab.backend("con1").start()
    came_up = weir.wait_health("con1", "up")
    counts = shares(lab, 500)
    if time.monotonic() - came_up < 2:              # at most 4 tenths: 4 / 34 of all
        assert 0 < counts["con1"] < 90, counts
    middle = weir.backends()["con1"]["weight_percent"]
    assert 10 <= middle <= 100
    assert middle < 100 or time.monotonic() - came_up > 4
    assert weir.backends()["con2"]["weight_percent"] == 100
    weir.wait(lambda: weir.backends()["con1"]["weight_percent"] == 100, what="the whole weight")
    assert time.monotonic() - came_up > 4
    time.sleep(0.1)
    assert shares(lab, 2000)["con1"] > 400


def test_reload(lab, start, hold):
    """What is open counts for a limit and a scheduler that come later; lists of clients change."""
    def changed(backend_keys=None, **keys):
        return merged(config(lab), {"services": {"web": {**keys, "health": HEALTH, "backends": [
            {"address": backend.endpoint, "name": backend.name, **(backend_keys or {})}
            for backend in lab.backends]}}})

    weir = start(scheduler="round_robin")
    held = [hold() for _ in range(8)]
    assert reload(weir, changed({"max_conns": 2}, scheduler="least_conn")) == ""
    assert "scheduler round_robin -> least_conn" in weir.log()
    weir.wait(lambda: weir.backends()["con4"]["max_conns"] == 2, what="limits")
    time.sleep(0.1)
    with pytest.raises(ConnectionRefusedError):
        hold()
    assert reload(weir, changed(scheduler="least_conn", deny=(f"{CLIENT}/32",))) == ""
    time.sleep(0.1)
    with pytest.raises(TimeoutError), lab.client.entered():
        traffic.connect(timeout=1.5)
    for name, connection in held:                   # they aren't asked
        assert traffic.ask(connection) == name
    assert reload(weir, changed(scheduler="least_conn", allow=("192.0.2.0/24",))) == ""
    time.sleep(0.1)
    assert {hold()[0] for _ in range(4)} == {"con1", "con2", "con3", "con4"}


def test_denied_clients_get_no_answer(lab, start_weir):
    backends = [{"address": backend.endpoint, "name": backend.name} for backend in lab.backends]
    web = {"health": HEALTH, "backends": backends}
    weir = start_weir(services={
        "web": {**web, "deny": (f"{CLIENT}/32",)},
        "allowed": {**web, "listen": ":81", "deny": ("192.0.2.0/24",), "allow": (CLIENT,)},
        "others": {**web, "listen": ":82", "allow": ("203.0.113.0/24",)},
        "rest": {**web, "listen": ":83", "deny": ("192.0.2.0/26", "192.0.2.101/32")},
    })
    with lab.client.entered():
        for port, name in ((80, "web"), (82, "others")):
            denied = weir.drops()["denied"]
            with pytest.raises(TimeoutError):
                traffic.connect(port=port, timeout=1.5)
            weir.wait(lambda: weir.drops()["denied"] >= denied + 2, what="two SYNs denied")
            assert {service["name"]: service["denied"] for service in weir.services()}[name] >= 2
        for port in (81, 83):
            assert traffic.get(port=port) in {"con1", "con2", "con3", "con4"}
    assert sum(service["connections"] for service in weir.services()) == 2
