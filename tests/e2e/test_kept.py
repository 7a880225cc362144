# SPDX-License-Identifier: BSD-3-Clause
"""What is known and counted outlives the process: no total goes back (E36), and what telemetry told
of a backend it tells again (E14, E29, E36)."""

import os
import re
import time

import pytest

import traffic
import weir as weir_module
from lab import CLIENT
from netns import PATIENCE
from test_blame import PASSIVE_ALONE
from test_by_hand import by_hand
from test_dns import lives_again
from test_own_death import change
from test_reload import TIMEOUTS, backends_of, reload, usual, with_backends, write

ALL_LIVES = ("killed", "upgraded", "stopped")
LIVES = [life if life == "killed" else pytest.param(life, marks=pytest.mark.ci)
         for life in ALL_LIVES]
# Nobody is judged: each connect that con1 refuses moves away, and is counted.
UNPROBED = {"health": {"type": "none"}, "passive": {"fails": 0}}
NO_JUDGE = {"health": {"type": "none", "path": None}, "passive": {"fails": 0}}
# What goes up and down, or says something else; all other numbers count up.
GAUGES = {
    "/weir/services": {"listens", "backends", "backends_up", "on_backups", "active"},
    "/weir/backends": {"weight", "weight_percent", "in_use", "backup", "max_conns", "set_s",
                       "since_s", "resets_held", "active", "answer_p50_us", "answer_p99_us"},
    "/weir/snat": {"used", "size", "percent", "high"},
    "/weir/workers": {"worker", "lcore", "busy_percent"},
    "/weir/drops": set(),
    "/weir/flows": {"size", "limit", "used", "bytes", "hugepages"},
}
PAGED = ("/weir/services", "/weir/backends", "/weir/snat")
COUNTED = [("/weir/services", "connections"), ("/weir/services", "denied"),
           ("/weir/backends", "connections"), ("/weir/backends", "attempts"),
           ("/weir/backends", "refused"), ("/weir/backends", "moved_away"),
           ("/weir/backends", "answers"), ("/weir/backends", "packets_in"),
           ("/weir/backends", "packets_out"), ("/weir/backends", "bytes_in"),
           ("/weir/backends", "bytes_out"), ("/weir/workers", "packets"),
           ("/weir/workers", "loops"), ("/weir/drops", "received"), ("/weir/drops", "denied"),
           ("/weir/flows", "created"), ("/weir/flows", "moved")]


def scrape(weir):
    """{(question, object, counter): value}, the last question's answers a moment old."""
    found = {}
    for question, gauges in GAUGES.items():
        answer = weir.telemetry.pages(question) if question in PAGED \
            else weir.telemetry.query(question)
        for one in answer if isinstance(answer, list) else [answer]:
            name = tuple(str(one[key]) for key in
                         ("service", "name", "backend", "snat", "worker", "family") if key in one)
            found.update({(question, name, key): value for key, value in one.items()
                          if isinstance(value, int) and key not in gauges | {"total", "next"}})
    return found


def lower(before, after):
    """What went back, or is gone."""
    return {key: (value, after.get(key)) for key, value in before.items()
            if after.get(key, -1) < value}


def summed(weir, key, service="web"):
    return sum(backend[key] for backend in weir.backends(service).values())


def web_of(weir):
    return next(service for service in weir.services() if service["name"] == "web")


def of_one_piece(weir, past=0):
    """The service's total is that of its backends, and of those that are gone."""
    sums = summed(weir, "connections"), web_of(weir)["connections"]
    assert sums[0] + past == sums[1], sums


@pytest.mark.parametrize("life", LIVES)
def test_e36_no_total_goes_back(lab, start_weir, life):
    """Each counter of each endpoint, told a moment before the death, under load; three times."""
    lab.backend("con1").kill()
    try:
        weir = start_weir(timeouts=TIMEOUTS, wait_up=False, services={
            "web": NO_JUDGE,
            "no": {**UNPROBED, "listen": ":81", "deny": (f"{CLIENT}/32",),
                   "backends": backends_of(lab, "con2")}})
        weir.wait_in_use(["con1", "con2", "con3", "con4"])
        told = scrape(weir)
        with traffic.Stream(lab.client, threads=16, rate=400, timeout=20) as stream, \
                traffic.Stream(lab.client, threads=2, rate=20, timeout=0.1, port=81):
            for _ in range(3):
                stream.more(100)
                now = scrape(weir)
                assert lower(told, now) == {}
                told = now
                lives_again(weir, life)
                now = scrape(weir)
                assert lower(told, now) == {}
                told = now
        for question, key in COUNTED:
            assert sum(value for (asked, _, name), value in told.items()
                       if (asked, name) == (question, key)) > 0, (question, key)
        weir.identity()
    finally:
        lab.backend("con1").start()


@pytest.mark.ci
@pytest.mark.parametrize("life", ALL_LIVES)
def test_e36_what_moved_away_is_no_connection(lab, start_weir, life):
    """All that a dead backend was asked for another one has: it has no connection, before and
    after."""
    lab.backend("con1").kill()
    try:
        weir = start_weir(timeouts=TIMEOUTS, wait_up=False, services={"web": NO_JUDGE})
        weir.wait_in_use(["con1", "con2", "con3", "con4"])
        assert traffic.errors(traffic.requests(lab.client, 200)) == []
        before = weir.backends()
        assert before["con1"]["connections"] == 0 and before["con1"]["attempts"] > 20
        lives_again(weir, life)
        after = weir.backends()
        for key in ("connections", "attempts", "refused", "moved_away", "answers",
                    "answer_p50_us", "answer_p99_us", "packets_in", "bytes_out"):
            assert {name: one[key] for name, one in after.items()} \
                == {name: one[key] for name, one in before.items()}, key
        of_one_piece(weir)
    finally:
        lab.backend("con1").start()


@pytest.mark.ci
def test_e36_who_is_gone_stays_in_the_services_total(lab, start_weir):
    """By a reload, by a file that was edited while nobody ran, and who comes back."""
    weir = start_weir(timeouts=TIMEOUTS)
    assert traffic.errors(traffic.requests(lab.client, 80)) == []
    assert web_of(weir)["connections"] == 80
    lost = weir.backends()["con4"]["connections"]
    assert reload(weir, with_backends(lab, "con1", "con2", "con3")) == ""
    weir.wait(lambda: "con4" not in weir.backends(), what="con4 to be gone")
    of_one_piece(weir, lost)
    for life in ALL_LIVES:
        lives_again(weir, life)
        assert web_of(weir)["connections"] == 80
        of_one_piece(weir, lost)
    weir.kill()
    write(weir, with_backends(lab, "con1"))
    weir.start(wait_up=False)
    assert web_of(weir)["connections"] == 80
    lost = 80 - summed(weir, "connections")
    assert reload(weir, with_backends(lab, "con1", "con2", "con3", "con4")) == ""
    assert web_of(weir)["connections"] == 80
    of_one_piece(weir, lost)


@pytest.mark.ci
def test_e36_forgotten_is_forgotten(lab, start_weir):
    """weirctl stop --forget, and weir --forget: the next start counts from 0."""
    weir = start_weir()
    for forget in (lambda: weir.stop(), lambda: (weir.kill(), weir.forget())):
        assert traffic.errors(traffic.requests(lab.client, 40)) == []
        assert web_of(weir)["connections"] == 40 and weir.flows()[0]["created"] == 40
        forget()
        weir.start()
        assert web_of(weir)["connections"] == weir.flows()[0]["created"] == 0
        assert summed(weir, "packets_in") == 0


@pytest.mark.ci
def test_e36_fewer_workers(lab, start_weir):
    """What the second one counted the first one has; the sums go on."""
    weir = start_weir(driver="af_packet", workers=2, timeouts=TIMEOUTS)
    assert traffic.errors(traffic.requests(lab.client, 100)) == []
    told = {key: value for key, value in scrape(weir).items() if key[0] != "/weir/workers"}
    weir.kill()
    change(weir, cores={"workers": weir_module.worker_cpus(1)})
    weir.start()
    assert len(weir.workers()) == 1
    assert lower(told, scrape(weir)) == {}
    weir.identity()


@pytest.mark.ci
@pytest.mark.parametrize("life", ALL_LIVES)
def test_e36_a_verdict_by_connects_holds(lab, start_weir, life):
    """Who was taken out by its clients' connects gets none from the next process either, for the
    rest of its time."""
    weir = start_weir(timeouts=TIMEOUTS, services={"web": {
        **PASSIVE_ALONE, "passive": {"fails": 3, "retry_ms": int(12000 * PATIENCE)}}})
    assert traffic.errors(traffic.requests(lab.client, 40)) == []
    lab.backend("con2").kill()
    with traffic.Stream(lab.client, threads=8, rate=100):
        weir.wait_health("con2", "down")
    lab.backend("con2").start()
    before = weir.backends()["con2"]
    assert before["reason"].startswith("passive: ")
    lives_again(weir, life)
    after = weir.backends()["con2"]
    for key in ("health", "reason", "attempts", "refused", "in_use"):
        assert after[key] == before[key], key
    assert after["since_s"] >= before["since_s"]
    assert set(traffic.bodies(traffic.requests(lab.client, 40))) == {"con1", "con3", "con4"}
    weir.wait_health("con2", "up", 20)
    assert "passive: another try" in weir.log().rpartition("started in")[2]
    assert "con2" in traffic.bodies(traffic.requests(lab.client, 40))


@pytest.mark.ci
@pytest.mark.parametrize("life", ALL_LIVES)
def test_e36_when_and_why(lab, start_weir, life):
    """Each backend's last change, of every kind: down, up, never probed, disabled."""
    weir = start_weir(timeouts=TIMEOUTS, wait_up=False, services={"web": {
        "backends": backends_of(lab, "con1", "con2", "con3", con3={"state": "disabled"})},
        "free": {**UNPROBED, "listen": ":81", "backends": backends_of(lab, "con4")}})
    weir.wait_in_use(["con1", "con2"])
    lab.backend("con1").kill()
    try:
        weir.wait_health("con1", "down")
        weir.command("drain", service="web", backend="con2")
        time.sleep(1.2)
        before = {**weir.backends(), **weir.backends("free")}
        assert all(one["since_s"] > 0 for one in before.values())
        lives_again(weir, life)
        after = {**weir.backends(), **weir.backends("free")}
        for name, one in before.items():
            assert after[name]["since_s"] >= one["since_s"], name
            for key in ("health", "reason", "state"):
                assert after[name][key] == one[key], (name, key)
    finally:
        lab.backend("con1").start()


@pytest.mark.parametrize("life", LIVES)
def test_e14_who_set_it(lab, start_weir, life):
    """Before and after; and nobody did once a reload has taken it back."""
    weir = start_weir(timeouts=TIMEOUTS)
    earlier = len(weir.log())
    weir.command("drain", service="web", backend="con2")
    weir.command("weight", service="web", backend="con3", weight=7)
    weir.command("drain", service="web", backend="con4")
    weir.command("activate", service="web", backend="con4")
    time.sleep(1.1)
    before = weir.backends()
    lives_again(weir, life)
    after = weir.backends()
    assert by_hand(weir)["con2"] == ("drain", 1, "state")
    for name in ("con2", "con3"):
        assert re.fullmatch(fr"(\S+ as )?root, pid {os.getpid()}", before[name]["set_by"])
        assert after[name]["set_by"] == before[name]["set_by"]
        assert after[name]["set_s"] >= before[name]["set_s"] > 0
        assert f"by {before[name]['set_by']}" in \
            next(line for line in weir.log()[earlier:].split("\n")
                 if "as set by hand before this start" in line and name in line)
    for name in ("con1", "con4"):
        assert (after[name]["set_by"], after[name]["set_s"]) == ("", 0)
    assert reload(weir, usual(lab)) == ""
    assert {(one["set_by"], one["set_s"]) for one in weir.backends().values()} == {("", 0)}


def test_e29_by_hand_says_by_whom(lab, start_weir):
    """Each command that changes something."""
    weir = start_weir(timeouts=TIMEOUTS)
    earlier = len(weir.log())
    weir.command("drain", service="web", backend="con2")
    weir.command("reload")
    weir.upgrade()
    weir.command("stop")
    weir.process.wait(15 * PATIENCE)
    said = weir.log()[earlier:]
    whom = r"by (\S+ as )?root, pid \d+\n"
    assert re.search(r"by hand: service web: con2: active -> drain .*" + whom, said)
    assert f"pid {os.getpid()}\n" in said
    for words in ("by hand: reload, ", "by hand: upgrade, ", "ending, by hand, "):
        assert re.search(words + whom, said), words
    weir.kill()
    weir.start()
