# SPDX-License-Identifier: BSD-3-Clause
"""Who leaves isn't gone (E34): a backend that left the file or its name, or whose service left the
file, keeps what its service said of timeouts, moves and judgement for the connections that it has,
until they are gone."""

import contextlib
import select
import socket

import pytest

import traffic
from lab import VIP
from netns import PATIENCE
from test_dns import dns, named         # noqa: F401
from test_everyday import ALL, LIVES, NO_PROBES, listing, served_by
from test_on_down import connections_of, wait_reset
from test_reload import reload
from weir import dump, merged

NEVER_S = 7440


def with_other(lab, config, **timeouts):
    """The file with one more service, on port 81, whose idle connections are reset."""
    config["services"]["other"] = merged(listing(lab, "con1")["services"]["web"],
                                         {"listen": ":81", "on_idle": "reset"})
    return merged(config, {"timeouts": timeouts})


@contextlib.contextmanager
def leaves_by_reload(lab, start_weir, **service):
    """One backend leaves the file."""
    weir = start_weir(**with_other(lab, listing(lab, *ALL, **service)))
    yield weir, lambda: reload(weir, with_other(lab, listing(lab, "con1", "con4", **service)))


@contextlib.contextmanager
def leaves_with_its_service(lab, start_weir, **service):
    def config(*names):
        made = with_other(lab, listing(lab, *ALL, **service))
        return {**made, "services": {name: made["services"][name] for name in names}}

    weir = start_weir(**config("web", "other"))
    yield weir, lambda: reload(weir, config("other"))


LEAVING = {"reload": leaves_by_reload, "service": leaves_with_its_service}


def hold(weir, names):
    """Until its backends that left are known to be so."""
    weir.wait(lambda: all(weir.backends()[name]["state"] == "removed" for name in names),
              what="they have left")


def judged(lab, weir, dead, living):
    """con2 dies, whose connection is `dead`: it alone is reset."""
    lab.backend("con2").cut()
    wait_reset(dead, 30 * PATIENCE)
    assert traffic.ask(living) == "con3"
    assert weir.flows()[0]["reset"] == 1
    living.close()


@pytest.mark.parametrize("how", LEAVING)
def test_e34_who_left_is_still_judged(lab, start_weir, how):
    """It dies behind that: its connections are reset as if it were listed."""
    with LEAVING[how](lab, start_weir, on_down_reset_ms=1000) as (weir, leave):
        dead, = connections_of(lab, weir, "con2")
        living, = connections_of(lab, weir, "con3")
        assert leave() == ""
        hold(weir, ("con2", "con3"))
        judged(lab, weir, dead, living)


@pytest.mark.parametrize("life", [
    pytest.param("restarted", marks=pytest.mark.ci), "upgraded"])
def test_e34_who_left_is_judged_by_the_next_process(lab, start_weir, life):
    weir = start_weir(**listing(lab, *ALL, on_down_reset_ms=1000))
    dead, = connections_of(lab, weir, "con2")
    living, = connections_of(lab, weir, "con3")
    assert reload(weir, listing(lab, "con1", "con4", on_down_reset_ms=1000)) == ""
    LIVES[life](weir)
    served_by(lab, weir, "con1", "con4")
    assert weir.backends()["192.0.2.21:8081"]["state"] == "removed"
    judged(lab, weir, dead, living)


@pytest.mark.parametrize("life", [
    pytest.param("restarted", marks=pytest.mark.full),
    pytest.param("upgraded", marks=pytest.mark.ci)])
def test_e34_who_left_and_was_down_then(lab, start_weir, life):
    """The next process knows it for down from the start."""
    weir = start_weir(**listing(lab, *ALL, on_down_reset_ms=6000))
    dead, = connections_of(lab, weir, "con2")
    assert reload(weir, listing(lab, "con1", "con4", on_down_reset_ms=6000)) == ""
    lab.backend("con2").cut()
    weir.wait_health("con2", "down")
    LIVES[life](weir)
    assert weir.flows()[0]["reset"] == 0
    wait_reset(dead, 40 * PATIENCE)
    assert weir.flows()[0]["reset"] == 1


@pytest.mark.ci
@pytest.mark.parametrize("how", LEAVING)
def test_e34_who_left_is_idle_for_no_longer_than_before(lab, start_weir, how):
    with LEAVING[how](lab, start_weir, on_idle="reset",
                      timeouts={"established_s": 4}) as (weir, leave):
        idle, = connections_of(lab, weir, "con3")
        assert leave() == ""
        wait_reset(idle, 60 * PATIENCE)
        assert weir.flows()[0]["expired_reset"] == 1


@pytest.mark.ci
@pytest.mark.parametrize("how", LEAVING)
def test_e34_who_left_is_idle_for_as_long_as_before(lab, start_weir, how):
    """One of a service that has no time of its own tells when it is over."""
    with LEAVING[how](lab, start_weir, timeouts={"established_s": NEVER_S}) as (weir, leave):
        idle, = connections_of(lab, weir, "con3")
        assert leave() == ""
        config = weir_file(weir)
        assert reload(weir, config + "timeouts = { established_s = 4; };\n") == ""
        with lab.client.entered():
            other = traffic.connect(port=81)
        assert traffic.ask(other) == "con1"
        wait_reset(other, 60 * PATIENCE)
        assert traffic.ask(idle) == "con3"
        idle.close()


def weir_file(weir):
    """The file's text without the timeouts."""
    with open(weir.path) as file:
        text = file.read()
    begin = text.index("\ntimeouts = {")
    return text[:begin + 1] + text[text.index("};\n", begin) + 3:]


@pytest.mark.ci
def test_e34_an_address_that_left_its_name(lab, dns, start_weir):     # noqa: F811
    """Judged, and idle for as long as its service says."""
    config = merged(named(lab), {"services": {"web": {
        "on_down_reset_ms": 1000, "on_idle": "reset", "timeouts": {"established_s": 8}}}})
    dns.addresses = ["192.0.2.21", "192.0.2.22"]
    weir = start_weir(**config, wait_up=False)
    weir.wait_in_use(["app/192.0.2.21", "app/192.0.2.22"])
    dead, = connections_of(lab, weir, "con1")
    idle, = connections_of(lab, weir, "con3")
    dns.addresses = ["192.0.2.22"]
    hold(weir, ["app/192.0.2.21"])
    lab.backend("con1").cut()
    wait_reset(dead, 30 * PATIENCE)
    assert weir.flows()[0]["reset"] == 1
    lab.backend("con1").mend()
    dns.addresses = ["192.0.2.21"]
    hold(weir, ["app/192.0.2.22"])
    wait_reset(idle, 60 * PATIENCE)
    assert weir.flows()[0]["expired_reset"] == 1


def connecting(lab, weir, name, count):
    """SYNs under way, `count` of them to the backend, which is cut off."""
    sockets = []
    with lab.client.entered():
        while weir.backends()[name]["attempts"] < count:
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect((VIP, 80))
            sockets.append(one)
            select.select([], [one], [], 0.1)
    return sockets


def all_are_served(sockets, names):
    for one in sockets:
        one.setblocking(True)
        one.settimeout(30 * PATIENCE)   # for its SYN, too
        one.connect_ex((VIP, 80))
        assert traffic.ask(one) in names
        one.close()


UNDER_WAY = {"connect_timeout_ms": 2000, "passive": {"fails": 0}}


def test_e34_syns_under_way_to_one_that_leaves_the_file(lab, start_weir):
    """11 of 11 go on to another backend."""
    weir = start_weir(text=dump(listing(lab, *ALL, health=NO_PROBES, **UNDER_WAY)))
    lab.backend("con2").cut()
    sockets = connecting(lab, weir, "con2", 11)
    assert reload(weir, listing(lab, "con1", "con3", "con4", health=NO_PROBES, **UNDER_WAY)) == ""
    all_are_served(sockets, ("con1", "con3", "con4"))
    assert weir.flows()[0]["moved"] >= 11


@pytest.mark.ci
def test_e34_syns_under_way_to_one_that_leaves_its_name(lab, dns, start_weir):    # noqa: F811
    dns.addresses = ["192.0.2.21", "192.0.2.22"]
    weir = start_weir(text=dump(merged(named(lab), {"services": {"web": {
        **UNDER_WAY, "connect_timeout_ms": 5000, "health": NO_PROBES}}})), wait_up=False)
    weir.wait_in_use(["app/192.0.2.21", "app/192.0.2.22"])
    lab.backend("con1").cut()
    sockets = connecting(lab, weir, "app/192.0.2.21", 11)
    dns.addresses = ["192.0.2.22"]
    hold(weir, ["app/192.0.2.21"])
    all_are_served(sockets, ("con3",))
    assert weir.flows()[0]["moved"] >= 11
