# SPDX-License-Identifier: BSD-3-Clause
"""Everyday events beside the trodden path (cases E1 to E41): what one feature changes while another
is at work."""

import contextlib
import os
import re
import signal
import subprocess
import threading
import time

import pytest

import traffic
from test_dns import dns, named        # noqa: F401
from lab import VIP, Lab
from netns import PATIENCE
from test_on_down import connections_of, wait_reset
from test_reload import TIMEOUTS, backends_of, reload, usual, write
import weir as weir_module
from weir import ROOT, merged

ALL = ("con1", "con2", "con3", "con4")
NO_PROBES = {"type": "none", "path": None}


def listing(lab, *names, service="web", listen=":80", **changes):
    """The lab's file with one service over the named backends."""
    config = usual(lab)
    web = config["services"].pop("web")
    config["services"][service] = merged(web, {"listen": listen,
                                               "backends": backends_of(lab, *names), **changes})
    return config


def restart(weir):
    weir.kill()
    weir.start()


LIVES = {"fresh": lambda weir: None, "restarted": restart,
         "upgraded": lambda weir: weir.upgrade()}


@contextlib.contextmanager
def open_connection(lab, weir, name):
    """A connection that the backend serves, so that it does not go when it leaves the file."""
    connection = connections_of(lab, weir, name)[0]
    try:
        yield connection
    finally:
        connection.close()


def served_by(lab, weir, *names, service="web", port=80):
    """Until the workers give new connections to these alone, and clients see that."""
    weir.wait_in_use(names, service=service)
    found = set(traffic.bodies(traffic.requests(lab.client, 60, port=port)))
    assert found == set(names)


@pytest.mark.parametrize("life", LIVES)
def test_e1_a_backend_that_comes_back_is_used(lab, start_weir, life):
    """It left the file with a connection open and is listed again: its health is known already."""
    weir = start_weir(timeouts=TIMEOUTS)
    LIVES[life](weir)
    with open_connection(lab, weir, "con2") as connection:
        assert reload(weir, listing(lab, "con1", "con3", "con4")) == ""
        served_by(lab, weir, "con1", "con3", "con4")
        assert reload(weir, listing(lab, *ALL)) == ""
        served_by(lab, weir, *ALL)
        assert traffic.ask(connection) == "con2"


@pytest.mark.parametrize("health", ["shared", "none"])
def test_e1_health_that_is_known_at_once(lab, start_weir, health):
    """Another service probes the same backend; or nobody does."""
    changes = {} if health == "shared" else {"health": NO_PROBES}

    def config(*names):
        made = listing(lab, *names, **changes)
        made["services"]["other"] = {**made["services"]["web"], "listen": ":81",
                                     "backends": backends_of(lab, *ALL)}
        return made

    weir = start_weir(timeouts=TIMEOUTS)
    assert reload(weir, config(*ALL)) == ""
    with open_connection(lab, weir, "con2"):
        assert reload(weir, config("con1")) == ""
        served_by(lab, weir, "con1")
        assert reload(weir, config(*ALL)) == ""
        served_by(lab, weir, *ALL)


def test_e1_blue_green_blue(lab, start_weir):
    """The only backend is exchanged and comes back."""
    weir = start_weir(timeouts=TIMEOUTS)
    assert reload(weir, listing(lab, "con1", health=NO_PROBES)) == ""
    with open_connection(lab, weir, "con1"):
        for name in ("con3", "con1", "con3"):
            assert reload(weir, listing(lab, name, health=NO_PROBES)) == ""
            served_by(lab, weir, name)


def test_e1_disabled_and_active_again(lab, start_weir):
    """Its target lives on, since another service probes it."""
    def config(state):
        made = listing(lab, *ALL)
        made["services"]["other"] = {**made["services"]["web"], "listen": ":81"}
        made["services"]["web"] = {**made["services"]["web"],
                                   "backends": backends_of(lab, *ALL, con2={"state": state})}
        return made

    weir = start_weir(**config("active"))
    for _ in range(2):
        assert reload(weir, config("disabled")) == ""
        served_by(lab, weir, "con1", "con3", "con4")
        assert reload(weir, config("active")) == ""
        served_by(lab, weir, *ALL)


@pytest.mark.parametrize("life", ["restarted", "upgraded"])
def test_e1_names_with_flows(lab, dns, start_weir, life):    # noqa: F811
    """Flows of before bring the backends of a name back before its first answer comes."""
    config = named(lab)
    weir = start_weir(**config, wait_up=False)
    weir.wait_in_use(["app/192.0.2.21"])        # before an answer there is none that could be up
    with open_connection(lab, weir, "con1") as connection:
        LIVES[life](weir)
        weir.wait_in_use(["app/192.0.2.21"])
        assert set(traffic.bodies(traffic.requests(lab.client, 40))) == {"con1"}
        assert traffic.ask(connection) == "con1"


@pytest.mark.parametrize("life", LIVES)
def test_e39_a_service_renamed_and_back(lab, start_weir, life):
    """While its old name has flows."""
    weir = start_weir(timeouts=TIMEOUTS)
    LIVES[life](weir)
    with open_connection(lab, weir, "con2") as connection:
        assert reload(weir, listing(lab, *ALL, service="site")) == ""
        served_by(lab, weir, *ALL, service="site")
        assert reload(weir, listing(lab, *ALL)) == ""
        served_by(lab, weir, *ALL)
        assert traffic.ask(connection) == "con2"


@pytest.mark.parametrize("life", ["fresh", "restarted"])
def test_e39_a_backend_moved_to_another_service_and_back(lab, start_weir, life):
    def config(web, other):
        made = listing(lab, *web)
        made["services"]["other"] = {**made["services"]["web"], "listen": ":81",
                                     "backends": backends_of(lab, *other)}
        return made

    home, away = config(("con1", "con2"), ("con3", "con4")), config(("con1",), ALL[1:])
    weir = start_weir(**home)
    LIVES[life](weir)
    with open_connection(lab, weir, "con2") as connection:
        assert reload(weir, away) == ""
        served_by(lab, weir, *ALL[1:], service="other", port=81)
        LIVES[life](weir)
        assert reload(weir, home) == ""
        served_by(lab, weir, "con1", "con2")
        assert traffic.ask(connection) == "con2"


def test_e33_another_health_block_is_no_verdict(lab, start_weir):
    """A frozen backend, which accepts connections and answers none, keeps those that it has when
    the way of probing changes: the new one has no result for as long as its probe waits."""
    ill = {"type": "http", "path": "/health", "timeout_ms": 400}
    weir = start_weir(**listing(lab, *ALL, health=ill, on_down_reset_ms=500))
    connections = connections_of(lab, weir, "con2", 10)
    lab.backend("con2").freeze()
    weir.wait_health("con2", "down")
    weir.wait(lambda: weir.backends()["con2"]["since_s"] >= 1, what="long enough down")
    for interval in (600, 700, 800):
        changed = {**ill, "interval_ms": interval}
        assert reload(weir, listing(lab, *ALL, health=changed, on_down_reset_ms=500)) == ""
        time.sleep(1)
    assert weir.backends()["con2"]["health"] == "down"
    lab.backend("con2").thaw()
    assert [traffic.ask(connection) for connection in connections] == ["con2"] * 10
    assert weir.flows()[0]["reset"] == 0
    for connection in connections:
        connection.close()


class Command(threading.Thread):
    """A weirctl command beside others: `said` and its exit code."""

    def __init__(self, weir, *words):
        super().__init__()
        self.words = [f"{ROOT}/scripts/weirctl", "-i", weir.instance, *words]
        self.start()

    def run(self):
        done = subprocess.run(self.words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=60 * PATIENCE)
        self.said, self.code = done.stdout, done.returncode


def running_pid(weir):
    """Of the process that answers now; 0 = none does."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError, TimeoutError):
        return weir.info()["pid"]
    return 0


def test_e12_a_reload_beside_an_upgrade_holds_or_is_refused(lab, start_weir):
    weir = start_weir(timeouts=TIMEOUTS)
    for round, names in enumerate((ALL[:3], ALL) * 2):
        begun = weir.log().count("starts as pid")
        upgrade = Command(weir, "upgrade")
        weir.wait(lambda: weir.log().count("starts as pid") > begun, what="a successor")
        time.sleep(0.05 * round)
        write(weir, listing(lab, *names))
        reload = Command(weir, "reload")
        upgrade.join()
        reload.join()
        assert upgrade.code == 0, upgrade.said
        weir.follow(int(re.search(r"pid (\d+)", upgrade.said).group(1)))
        if reload.code == 0:
            served_by(lab, weir, *names)
        else:
            assert "an upgrade is under way" in reload.said or "control.sock" in reload.said
            again = Command(weir, "reload")
            again.join()
            assert again.code == 0, again.said
            served_by(lab, weir, *names)


@pytest.mark.parametrize("wait_s", [0, 0.15])
@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_e12_a_stop_beside_an_upgrade_ends_both(lab, start_weir, how, wait_s):
    weir = start_weir(timeouts=TIMEOUTS)
    begun = len(weir.log())             # the file has former starts, too
    upgrade = Command(weir, "upgrade")
    weir.wait(lambda: "starts as pid" in weir.log()[begun:], what="a successor")
    successor = int(re.search(r"starts as pid (\d+)", weir.log()[begun:]).group(1))
    time.sleep(wait_s)
    os.kill(successor, signal.SIGSTOP)  # so that the stop isn't the later one
    if how == "stop":
        Command(weir, "stop").join()
    else:
        weir.process.send_signal(signal.SIGTERM)
    assert weir.process.wait(20 * PATIENCE) == 0
    upgrade.join()
    assert upgrade.code != 0, upgrade.said
    deadline = time.monotonic() + 10 * PATIENCE
    while os.path.exists(f"/proc/{successor}/fd/0") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{successor}/fd/0"), "the successor runs on"
    assert running_pid(weir) == 0
    lab.weirs.remove(weir)
    weir.start()                        # and the connections' table is free for the next one
    assert traffic.errors(traffic.requests(lab.client, 20)) == []


@pytest.mark.parametrize("change", [{"instance": "other"}, {"port": {"netns": "other"}},
                                    {"flows": {"persist": False}}],
                         ids=["instance", "netns", "persist"])
def test_e12_an_upgrade_takes_no_file_that_costs_the_connections(lab, start_weir, change):
    weir = start_weir(timeouts=TIMEOUTS)
    with open_connection(lab, weir, "con2") as connection:
        write(weir, usual(lab, **change))
        refused = Command(weir, "upgrade")
        refused.join()
        assert refused.code != 0 and next(iter(change)) in refused.said
        assert traffic.ask(connection) == "con2"
        assert running_pid(weir) == weir.process.pid


# E2: while our own side is in trouble nobody is to blame

QUICK = {"on_down_reset_ms": 1000}
TROUBLE_S = 3.5                         # a verdict and on_down_reset_ms are over by then


def idle_connections(lab, count):
    """Connections of one backend each, and which."""
    with lab.client.entered():
        connections = [traffic.connect(timeout=10 * PATIENCE) for _ in range(count)]
    return {connection: traffic.ask(connection) for connection in connections}


def all_live(connections):
    assert all(traffic.ask(connection) == name for connection, name in connections.items())
    for connection in connections:
        connection.close()


@contextlib.contextmanager
def cable_out(lab, weir):
    lab.switch.ip("link set lbport down")
    yield
    lab.switch.ip("link set lbport up")


def again_and_again(weir, command):
    """It is mended within a moment."""
    deadline = time.monotonic() + TROUBLE_S
    while time.monotonic() < deadline:
        weir.netns.ip(command)
        time.sleep(0.1)


@contextlib.contextmanager
def weir0_down(lab, weir):
    again_and_again(weir, "link set weir0 down")
    yield
    weir.netns.ip("link set weir0 up")


@contextlib.contextmanager
def no_address(lab, weir):
    again_and_again(weir, "address flush dev weir0")
    yield
    weir.netns.ip(f"address replace {VIP}/24 dev weir0")


@contextlib.contextmanager
def probes_dropped(lab, weir):
    weir.netns.run("nft", "add table inet mistake; add chain inet mistake out "
                   "{ type filter hook output priority 0; }; "
                   "add rule inet mistake out tcp dport 8080-8081 drop")
    yield
    weir.netns.run("nft", "delete table inet mistake")


@pytest.mark.parametrize("trouble", [
    cable_out, probes_dropped, pytest.param(weir0_down, marks=pytest.mark.ci),
    pytest.param(no_address, marks=pytest.mark.ci)], ids=lambda trouble: trouble.__name__)
def test_e2_own_trouble_is_nobodys_fault(lab, start_weir, trouble):
    """Though it lasts for longer than a verdict and on_down_reset_ms together."""
    weir = start_weir(services={"web": QUICK}, timeouts=TIMEOUTS)
    connections, begin = idle_connections(lab, 20), len(weir.log())
    with trouble(lab, weir):
        if trouble is cable_out:
            weir.wait(lambda: weir.info().get("trouble") == "port: no link", what="it is named")
        if trouble is probes_dropped:
            weir.wait(lambda: {backend.get("resets_held") for backend in weir.backends().values()}
                      == {1}, what="resets held back")
        if trouble in (cable_out, probes_dropped):
            time.sleep(TROUBLE_S)       # the others have lasted for as long
    weir.wait_all_up()
    assert weir.flows()[0]["reset"] == 0
    all_live(connections)
    weir.wait(lambda: weir.info()["trouble"] == "", what="no trouble")
    assert {cable_out: "port: no link", weir0_down: "weir0 had lost its being up",
            no_address: f"weir0 had lost its address {VIP}/24",
            probes_dropped: "hold_resets_s"}[trouble] in weir.log()[begin:]


def cut(*names):
    def strike(lab):
        for name in names:
            lab.backend(name).cut()
    return strike


DEATHS = {"one_of_one": (("con1",), ("con1",), cut("con1")),
          "one_of_two": (("con1", "con3"), ("con1",), cut("con1")),
          "two_of_four": (ALL, ("con1", "con3"), cut("con1", "con3")),
          "a_rack": (ALL, ("con1", "con2"), lambda lab: lab.unplug_host(0))}


@pytest.mark.ci
@pytest.mark.parametrize("death", DEATHS)
def test_e2_who_is_dead_for_good_is_reset(lab, start_weir, death):
    names, dead, strike = DEATHS[death]
    weir = start_weir(**listing(lab, *names, on_down_reset_ms=1000, hold_resets_s=600))
    connections = idle_connections(lab, 12)
    strike(lab)
    for connection, name in connections.items():
        if name in dead:
            wait_reset(connection, 30 * PATIENCE)
    all_live({connection: name for connection, name in connections.items() if name not in dead})
    assert weir.flows()[0]["reset"] == sum(name in dead for name in connections.values())


@pytest.mark.ci
@pytest.mark.parametrize("returns", [True, False])
def test_e2_a_gateway_dies(start_weir, returns):
    """Its backends' connections wait for it, but not for ever."""
    with Lab(routed=True) as routed:
        weir = start_weir(in_lab=routed, services={"web": {
            **QUICK, "hold_resets_s": 600 if returns else 3}}, timeouts=TIMEOUTS)
        connections = idle_connections(routed, 12)
        routed.switch.ip("link set router1 down")
        weir.wait(lambda: "hold_resets_s" in weir.log(), 30, "resets held back")
        if returns:
            time.sleep(TROUBLE_S)
            routed.switch.ip("link set router1 up")
            weir.wait_all_up()
            all_live(connections)
            assert weir.flows()[0]["reset"] == 0
        else:
            for connection in connections:
                wait_reset(connection, 30 * PATIENCE)
            assert weir.flows()[0]["reset"] == 12
            routed.switch.ip("link set router1 up")
            weir.wait_all_up()


# E4, E5: what the kernel gave can be taken away

def no_link(lab, weir):
    lab.switch.ip("link set lbport down")
    yield "port: no link"
    lab.switch.ip("link set lbport up")


def weir0_set_down(lab, weir):
    weir.netns.ip("link set weir0 down")
    yield "weir0 had lost its being up"


def addresses_flushed(lab, weir):
    weir.netns.ip("address flush dev weir0")
    yield f"weir0 had lost its address {VIP}/24"


def rules_flushed(lab, weir):
    lab.lb.run("nft", "flush", "ruleset")
    yield "port wasn't mute any more: mute again"
    assert "weir_port" in lab.lb.run("nft", "list", "tables").stdout


def weir0_deleted(lab, weir):
    weir.netns.ip("link delete weir0")
    yield "weir0 was deleted: starting again"


def namespace_deleted(lab, weir):
    lab.lb.run("ip", "netns", "delete", weir.netns.name)
    yield "the network namespace of weir0 was deleted: starting again"


def port_deleted(lab, weir):
    lab.lb.ip("link delete port")
    lab.port_queues = 0
    yield "port is gone"
    assert weir.info()["trouble"] == "port is gone"
    begin = len(weir.log())
    lab.plug_port(1)
    weir.wait(lambda: "made anew: starting again" in weir.log()[begin:], what="it is seen")


TAKEN = (no_link, weir0_set_down, addresses_flushed, rules_flushed, weir0_deleted,
         namespace_deleted, port_deleted)


@pytest.mark.parametrize("driver", ["af_xdp", pytest.param("af_packet", marks=pytest.mark.ci)])
def test_e5_what_the_kernel_gave_is_taken_away(lab, start_weir, driver):
    """E4 and E5, one after the other, while the same connections live: said in one line, and
    mended by whoever can, or by another start of the same process."""
    weir = start_weir(driver=driver, timeouts=TIMEOUTS)
    connections = idle_connections(lab, 50)
    pid = weir.info()["pid"]
    for take in TAKEN:
        begin = len(weir.log())         # it is of all weirs of the lab
        done = take(lab, weir)
        line = next(done)
        weir.wait(lambda: line in weir.log()[begin:], what=line)
        next(done, None)
        if "starting again" in weir.log()[begin:]:
            weir.wait(lambda: "started in" in weir.log()[begin:], what="another start")
        weir.wait(lambda: running_pid(weir) == pid, what="it answers")
        weir.wait(lambda: weir.info()["trouble"] == "", what="no trouble")
        weir.wait_all_up()
        assert all(traffic.ask(connection) == name for connection, name in connections.items())
    assert traffic.errors(traffic.requests(lab.client, 20)) == []
    all_live(connections)


@pytest.mark.ci
def test_e5_a_default_route_is_put_back(start_weir):
    with Lab(routed=True) as routed:
        weir = start_weir(in_lab=routed, timeouts=TIMEOUTS)
        weir.netns.ip("route delete default")
        weir.wait(lambda: "weir0 had lost the default route by 192.0.2.1" in weir.log(),
                  what="it is put back")
        weir.wait_all_up()
        assert traffic.errors(traffic.requests(routed.client, 20)) == []


def workers(lab, count):
    config = weir_module.config(lab, workers=count, timeouts=TIMEOUTS)
    return {**config, "cores": {**config["cores"], "idle_sleep_us": 1000}}


def test_e32_another_number_of_workers(lab, start_weir):
    """Over AF_XDP it is another number of queues. What fails when the port is let go of already, as
    here with a peer that has too many queues, makes the former process go on as it was."""
    weir = start_weir(text=None, workers=2, timeouts=TIMEOUTS)
    connections = idle_connections(lab, 20)
    pid, begin = weir.process.pid, len(weir.log())
    write(weir, workers(lab, 1))
    Command(weir, "upgrade").join()
    weir.wait(lambda: "started in" in weir.log()[begin:], 30, "the former process again")
    weir.wait(lambda: running_pid(weir) == pid and len(weir.workers()) == 2, what="as it was")
    assert "going on with the configuration that ran before" in weir.log()[begin:]
    assert all(traffic.ask(connection) == name for connection, name in connections.items())

    write(weir, workers(lab, 3))
    refused = Command(weir, "upgrade")
    refused.join()
    assert refused.code != 0 and "offers 2 rx queues" in refused.said
    assert running_pid(weir) == pid

    lab.switch.run("ethtool", "-L", "lbport", "tx", "1")
    for count in (2, 1, 2):
        write(weir, workers(lab, count))
        weir.upgrade()
        assert len(weir.workers()) == count
        assert all(traffic.ask(connection) == name for connection, name in connections.items())
    restart(weir)
    all_live(connections)
    lab.port_mac = None                 # its queues are others now: made anew for the next test
