# SPDX-License-Identifier: BSD-3-Clause
"""A backup is the next backend of a connection that no other takes or has room for (E35), and gets
no connection otherwise."""

import collections
import contextlib
import statistics
import time

import pytest

import traffic
from lab import VIP, VIP6
from netns import PATIENCE
from test_failover import NO_JUDGE, RATE, errors_since
from test_reload import reload
from weir import HEALTH, config, merged

PRIMARY, BACKUP = "con1", "con3"
BOTH_FAMILIES = {"address": (f"{VIP}/24", f"{VIP6}/64")}
# On a busy machine a probe may fail; six in a row don't. And an answer may take its time.
PATIENT = {"health": {"type": "http", "path": "/health", "interval_ms": 300, "fall": 6},
           "connect_timeout_ms": 5000}
UNJUDGED = {**NO_JUDGE, "connect_timeout_ms": 5000}


def listed(lab, family=4, **keys):
    """The backends of a file: a primary and a backup, with more keys by name."""
    backends = []
    for name in sorted({PRIMARY, BACKUP, *keys}):
        one = lab.backend(name)
        backends.append({"address": one.endpoint if family == 4 else one.endpoint6, "name": name,
                         "backup": name != PRIMARY, **keys.get(name, {})})
    return backends


def services(lab, service, keys):
    """A service of each family."""
    return {"web": {**service, "backends": listed(lab, 4, **keys)},
            "web6": merged({"listen": ":80", "health": HEALTH},
                           {**service, "backends": listed(lab, 6, **keys)})}


@pytest.fixture
def start(lab, start_weir):
    """start(con1={"max_conns": 3}, service={...}) adds keys to backends and to the service; "web6"
    is its twin."""
    def start(service=None, workers=1, **keys):
        return start_weir(workers=workers, port=BOTH_FAMILIES,
                          services=services(lab, service or PATIENT, keys))
    return start


def is_refused(hold, address):
    try:
        hold(address)
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.ci)])
def test_e35_none_is_refused_when_the_only_primary_is_killed(lab, start, workers):
    """While clients come: the backup serves from the first moment on."""
    weir = start(workers=workers)
    with contextlib.ExitStack() as cleanup:
        streams = [cleanup.enter_context(traffic.Stream(lab.client, threads=16, rate=RATE,
                                                        address=address))
                   for address in (VIP, VIP6)]
        for stream in streams:
            stream.more(20)
        dying = time.monotonic()
        lab.backend(PRIMARY).kill()
        died = time.monotonic()
        for stream in streams:
            stream.more(100)
        weir.wait(lambda: all(service["on_backups"] for service in weir.services()),
                  what="on backups")
    for stream in streams:
        # Those that it had taken already are lost with it.
        assert errors_since(died, stream) == []
        assert set(traffic.bodies(one for one in stream.results if one.start > died)) == {BACKUP}
        assert set(traffic.bodies(one for one in stream.results if one.end < dying)) == {PRIMARY}
    for service in ("web", "web6"):
        assert weir.backends(service)[PRIMARY]["moved_away"] > 0


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_e35_refused_goes_to_the_backup_though_nobody_judges(lab, start, address):
    """Without probes and passive health a dead primary is asked each time, and the backup next."""
    weir = start(service=UNJUDGED)
    lab.backend(PRIMARY).kill()
    results = traffic.requests(lab.client, 300, address=address)
    assert traffic.errors(results) == []
    assert traffic.bodies(results) == {BACKUP: 300}
    assert [service["on_backups"] for service in weir.services()] == [0, 0]
    lab.backend(PRIMARY).start()
    results = traffic.requests(lab.client, 100, address=address)
    assert traffic.bodies(results) == {PRIMARY: 100}


@pytest.mark.parametrize("address", [VIP, pytest.param(VIP6, marks=pytest.mark.ci)])
def test_e35_silence_moves_to_the_backup_in_the_usual_time(lab, start, address):
    """Within the retry budget, before the client asks again."""
    weir = start(service=NO_JUDGE)
    assert traffic.errors(traffic.requests(lab.client, 40, address=address)) == []
    lab.backend(PRIMARY).cut()
    results = traffic.requests(lab.client, 16, threads=2, address=address)
    assert traffic.errors(results) == []
    assert traffic.bodies(results) == {BACKUP: 16}
    backends = weir.backends("web6" if address == VIP6 else "web")
    assert backends[PRIMARY]["moved_away"] == 16
    assert sum(flows["given_up"] for flows in weir.flows()) == 0
    assert statistics.median(one.end - one.start for one in results) < 0.9 * PATIENCE


def test_e35_cut_off_while_clients_come(lab, start):
    """It is out after some connects: nobody waits for probes."""
    weir = start(service={**PATIENT, "connect_timeout_ms": 250})
    with traffic.Stream(lab.client, threads=16, rate=RATE / 4) as stream:
        stream.more(20)
        lab.backend(PRIMARY).cut()
        died = time.monotonic()
        stream.more(50)
    assert errors_since(died, stream) == []
    assert sum(flows["given_up"] for flows in weir.flows()) == 0
    assert weir.backends()[PRIMARY]["moved_away"] > 0


def test_e35_more_primaries_die_than_are_tried(lab, start_weir):
    """Those that failed lately come behind a backup that is well: of the first connections alone
    each may meet no others."""
    dead = ("con1", "con2", "con4")
    backends = [{"address": one.endpoint, "name": one.name, "backup": one.name == BACKUP}
                for one in lab.backends]
    start_weir(services={"web": {**UNJUDGED, "connect_tries": 2, "backends": backends}})
    for name in dead:
        lab.backend(name).kill()
    traffic.requests(lab.client, 40)
    results = traffic.requests(lab.client, 200)
    assert traffic.errors(results) == []
    assert traffic.bodies(results) == {BACKUP: 200}


@pytest.mark.parametrize("address", [VIP, VIP6])
def test_e35_backup_gets_what_the_full_primary_has_no_room_for(lab, start, hold, address):
    """Exactly above max_conns, and a backup has one of its own; what ends makes room at once."""
    weir = start(con1={"max_conns": 3}, con3={"max_conns": 2})
    service = "web6" if address == VIP6 else "web"
    held = [hold(address) for _ in range(5)]
    assert [name for name, _ in held] == [PRIMARY] * 3 + [BACKUP] * 2
    assert is_refused(hold, address)
    found = next(one for one in weir.services() if one["name"] == service)
    assert (found["refused_max_conns"], found["on_backups"]) == (1, 0)
    held[0][1].close()
    weir.wait(lambda: weir.backends(service)[PRIMARY]["active"] == 2, what="room at the primary")
    assert hold(address)[0] == PRIMARY
    assert is_refused(hold, address)
    held[3][1].close()
    weir.wait(lambda: weir.backends(service)[BACKUP]["active"] == 1, what="room at the backup")
    assert hold(address)[0] == BACKUP


@pytest.mark.ci
def test_e35_two_workers_fill_the_primary_first(lab, start, hold):
    """Together they may exceed a limit by one."""
    weir = start(workers=2, con1={"max_conns": 10})
    names = collections.Counter(hold()[0] for _ in range(30))
    assert names[PRIMARY] in (10, 11) and names[PRIMARY] + names[BACKUP] == 30
    assert weir.backends()[BACKUP]["active"] == names[BACKUP]


def test_e35_connections_live_while_primary_and_backup_change_places(lab, start, hold):
    """By a reload, there and back; and one that moved on stays when the primary is there again."""
    def changed(**keys):
        return config(lab, port=BOTH_FAMILIES, services=services(lab, UNJUDGED, keys))

    weir = start(service=UNJUDGED, con1={"max_conns": 4})
    held = [hold(address) for address in (VIP, VIP6) for _ in range(6)]
    assert [name for name, _ in held] == ([PRIMARY] * 4 + [BACKUP] * 2) * 2
    swapped = {"con1": {"backup": True}, "con3": {"backup": False}}
    for keys, first in ((swapped, BACKUP), ({}, PRIMARY)):
        assert reload(weir, changed(**keys)) == ""
        weir.wait(lambda: weir.backends()[PRIMARY]["backup"] == (first == BACKUP), what="swapped")
        assert {hold(address)[0] for address in (VIP, VIP6) for _ in range(5)} == {first}
    lab.backend(BACKUP).kill()
    assert traffic.bodies(traffic.requests(lab.client, 20)) == {PRIMARY: 20}
    for name, connection in held:
        if name == PRIMARY:
            assert traffic.ask(connection) == name
    lab.backend(BACKUP).start()
    lab.backend(PRIMARY).kill()
    name, connection = hold()
    assert name == BACKUP
    lab.backend(PRIMARY).start()
    assert hold()[0] == PRIMARY
    assert traffic.ask(connection) == BACKUP


def test_e35_a_drained_backup_is_none(lab, start):
    """Nor is one that is disabled or without weight."""
    weir = start(service=UNJUDGED, con2={}, con4={})
    weir.command("weight", service="web", backend="con4", weight=0)
    lab.backend(PRIMARY).kill()
    assert traffic.bodies(traffic.requests(lab.client, 40)).keys() == {"con2", BACKUP}
    weir.command("drain", service="web", backend="con2")
    assert traffic.bodies(traffic.requests(lab.client, 40)) == {BACKUP: 40}
    weir.command("drain", service="web", backend=BACKUP)
    errors = traffic.errors(traffic.requests(lab.client, 20))
    assert ["ConnectionRefusedError" in error for error in errors] == [True] * 20
