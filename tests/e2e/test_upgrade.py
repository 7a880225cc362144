# SPDX-License-Identifier: BSD-3-Clause
"""weirctl upgrade with another file, and beside other commands (E12, E32): whatever differs,
and whatever comes between, connections live, a weir runs, and what was answered holds."""

import itertools
import os
import random
import re
import signal
import time

import pytest

import traffic
import weir as weir_module
from lab import VIP
from netns import PATIENCE
from test_everyday import ALL, Command, all_live, idle_connections, listing, running_pid
from test_reload import TIMEOUTS, usual, write
from weir import DRIVERS, ROOT, merged

CPUS = sorted(os.sched_getaffinity(0))
SECOND = "192.0.2.11/24"

BOTH = {"port": {"address": (f"{VIP}/24", SECOND)}}

# What no reload takes, and an upgrade does: laid over the lab's usual file, and what before that
# file again, as no address goes that backends see.
TAKEN = {
    "flows.size": {"flows": {"size": 131072}},
    "flows": {"flows": 1024},
    "port.address": BOTH,
    "port.address first": ({"port": {"address": (SECOND, f"{VIP}/24")}}, BOTH),
    "port.gateway": {"port": {"gateway": "192.0.2.1"}},
    "port.hugepages": {"port": {"hugepages": not weir_module.hugepages_available()}},
    "port.eal": {"port": {"eal": ("--log-level=lib.eal:info",)}},
    "port.punt": {"port": {"punt": {"arp": 500, "nd": 500, "probe": 10000, "backend": 10000,
                                    "rest": 500}}},
    "cores.control": {"cores": {"control": CPUS[-1]}},
    "cores.workers": {"cores": {"workers": (CPUS[0],)}},
    "cores.idle_sleep_us": {"cores": {"idle_sleep_us": 1000}},
    "snat.addresses": ({**BOTH, "snat": {"addresses": (SECOND.split("/")[0],)}}, BOTH),
    "snat.ports": {"snat": {"ports": ("20000-29999",)}},
}
# What would cost the connections, or can't be had: refused beforehand, by a line that names it.
REFUSED = {
    "instance": lambda lab: {"instance": f"{lab.name}second"},
    "flows.persist": lambda lab: {"flows": {"size": 65536, "persist": False}},
    "port.netns": lambda lab: {"port": {"netns": f"weir-{lab.name}second"}},
    "port.mtu": lambda lab: {"port": {"mtu": 1400}},
    "port.device": lambda lab: {"port": {"device": "net_null0", "driver": None}},
    "port.driver": lambda lab: {"port": {"driver": "af_packet"}},
    "port.address": lambda lab: {"port": {"address": (SECOND,)}},
    "cores.workers": lambda lab: {"cores": {"workers": (1000,)}},
    "cores.control": lambda lab: {"cores": {"control": 1000}},
}
ONE_WAY = ("port.device", "port.driver", "port.address", "cores.workers", "cores.control")


def file_of(lab, driver, changes=None):
    return merged(weir_module.config(lab, driver, timeouts=TIMEOUTS), changes or {})


def try_upgrade(weir):
    """Whether weirctl says that a new process runs, and what it says; it is so."""
    before = weir.process.pid
    upgrade = Command(weir, "upgrade")
    upgrade.join()
    if upgrade.code == 0:
        weir.follow(int(re.search(r"pid (\d+)", upgrade.said).group(1)))
        assert weir.process.pid != before
    weir.wait(lambda: running_pid(weir) == weir.process.pid, what="it answers")
    return upgrade


def all_is_well(lab, weir, connections):
    weir.wait_all_up()
    assert all(traffic.ask(connection) == name for connection, name in connections.items())
    assert traffic.errors(traffic.requests(lab.client, 8)) == []


def test_every_key_that_no_reload_takes_is_tried():
    """The groups of weir.conf(5) that need a restart, key by key."""
    with open(f"{ROOT}/conf/weir.conf.5.md") as file:
        keys = re.findall(r"^\*\*((?:instance|flows|port|cores|snat)\b.*?)\*\* =", file.read(),
                          re.M)
    tried = [name.split()[0] for name in (*TAKEN, *REFUSED)]
    assert [key for key in keys if key not in ("port", "cores", "snat")
            and not any(key == one or key.startswith(one + ".") for one in tried)] == []


def taken(lab, start_weir, driver, names):
    weir = start_weir(driver=driver, timeouts=TIMEOUTS)
    connections = idle_connections(lab, 20)
    for name in names:
        steps = TAKEN[name] if isinstance(TAKEN[name], tuple) else (TAKEN[name],)
        for changes in (*steps, {}):
            write(weir, file_of(lab, driver, changes))
            upgrade = try_upgrade(weir)
            assert upgrade.code == 0, f"{name}: {upgrade.said}"
            all_is_well(lab, weir, connections)
    all_live(connections)


def test_e12_an_upgrade_takes_another_file(lab, start_weir):
    taken(lab, start_weir, "af_xdp", ("port.hugepages", "port.address first"))


def by_driver(driver):
    """A case of one driver: --ci has AF_XDP's, --full the others', too."""
    return pytest.mark.ci if driver == "af_xdp" else pytest.mark.full


@pytest.mark.slow
@pytest.mark.parametrize("driver", [
    pytest.param(driver, marks=by_driver(driver)) for driver in DRIVERS])
def test_e12_an_upgrade_takes_each_other_key(lab, start_weir, driver):
    """There and back."""
    taken(lab, start_weir, driver, TAKEN)


def refused(lab, weir, name, config):
    """By a line that names file, line and key; and nothing has happened."""
    connections, pid = idle_connections(lab, 20), weir.process.pid
    write(weir, config)
    upgrade = try_upgrade(weir)
    assert upgrade.code != 0 and name in upgrade.said, upgrade.said
    assert weir.process.pid == pid
    all_is_well(lab, weir, connections)
    all_live(connections)
    return upgrade.said


@pytest.mark.parametrize("driver, name", [
    pytest.param(driver, name, marks=() if (driver, name) == ("af_xdp", "port.device")
                 else by_driver(driver))
    for driver in DRIVERS for name in REFUSED if (driver, name) != ("tap", "port.driver")])
def test_e12_an_upgrade_refuses_what_costs_the_connections(lab, start_weir, driver, name):
    """There; and back, where weir can have it at all."""
    changes = REFUSED[name](lab)
    if name == "port.driver" and driver == "af_packet":
        changes = {"port": {"driver": "af_xdp"}}
    weir = start_weir(driver=driver, timeouts=TIMEOUTS)
    said = refused(lab, weir, name, file_of(lab, driver, changes))
    if not name.startswith("cores"):
        assert re.search(rf"\.conf:\d+: {re.escape(name)}: ", said), said
    if name in ONE_WAY:
        return
    assert weir.stop() == 0
    weir = start_weir(driver=driver, **merged({"timeouts": TIMEOUTS}, changes))
    refused(lab, weir, name, file_of(lab, driver))


@pytest.mark.ci
def test_e12_a_smaller_table_than_there_are_connections(lab, start_weir):
    weir = start_weir(timeouts=TIMEOUTS)
    with lab.client.entered():
        connections = [traffic.connect(timeout=20) for _ in range(1100)]
    names = {connection: traffic.ask(connection) for connection in connections}
    write(weir, usual(lab, flows=1024))
    upgrade = try_upgrade(weir)
    assert upgrade.code != 0 and re.search(r":\d+: flows.size: is 1024, and 1\d\d\d connections",
                                           upgrade.said), upgrade.said
    all_live(names)


# E32: whatever a process takes over with, or fails with

def with_workers(lab, driver, count):
    return file_of(lab, driver, {"cores": {"workers": weir_module.worker_cpus(count),
                                           "idle_sleep_us": 1000}})


@pytest.mark.ci
@pytest.mark.parametrize("driver", ["af_packet", "tap"])
def test_e32_another_number_of_workers(lab, start_weir, driver):
    """1, 2, 1, 2; and killed with two."""
    weir = start_weir(driver=driver, timeouts=TIMEOUTS)
    connections = idle_connections(lab, 20)
    for count in (2, 1, 2):
        write(weir, with_workers(lab, driver, count))
        weir.upgrade()
        assert len(weir.workers()) == count
        all_is_well(lab, weir, connections)
    weir.kill()
    weir.start()
    assert len(weir.workers()) == 2
    all_is_well(lab, weir, connections)
    all_live(connections)


@pytest.mark.ci
@pytest.mark.parametrize("driver", DRIVERS)
def test_e32_a_successor_that_dies_with_the_port(lab, start_weir, driver):
    """The former process goes on, with the file that it ran with."""
    weir = start_weir(driver=driver, timeouts=TIMEOUTS)
    connections, pid = idle_connections(lab, 20), weir.process.pid
    for _ in range(2):
        begin = len(weir.log())
        write(weir, file_of(lab, driver, {"services": {"web": {"listen": ":81"}}}))
        upgrade = Command(weir, "upgrade")
        while "handing over" not in weir.log()[begin:]:
            time.sleep(0.001)
        os.kill(int(re.search(r"successor \(pid (\d+)\)", weir.log()[begin:]).group(1)),
                signal.SIGKILL)
        weir.wait(lambda: "started in" in weir.log()[begin:], 30, "the former process again")
        if weir.tap:
            weir.join_tap()
        upgrade.join()
        assert upgrade.code != 0 and "the former one goes on" in upgrade.said, upgrade.said
        weir.wait(lambda: running_pid(weir) == pid, what="it answers")
        all_is_well(lab, weir, connections)
    all_live(connections)


# Two commands at once

COMMANDS = ("reload", "upgrade", "stop", "drain")


def wait_processes(lab, count):
    """Until so many weirs run in the lab, soon; their pids."""
    deadline = time.monotonic() + 10 * PATIENCE
    while len(pids := lab.lb.pids()) != count:
        assert time.monotonic() < deadline, f"{pids} run, not {count}"
        time.sleep(0.02)
    return pids


def answered_truly(lab, weir, names, commands):
    """What each of the two said is so; `names` are the backends of the file that a reload took."""
    said = [(command.words[3], command.code, command.said) for command in commands]
    taken_over = [int(pid) for pid in re.findall(r"pid (\d+) has taken over", str(said))]
    if any(word == "stop" and code == 0 for word, code, _ in said):
        wait_processes(lab, 0)
        return
    pid, = wait_processes(lab, 1)
    assert pid in (taken_over or [weir.process.pid]), said
    if taken_over:
        weir.follow(pid)
    if any(word == "drain" and code == 0 for word, code, _ in said):
        is_taken_back = any(word == "reload" and "con1" in text for word, _, text in said)
        assert weir.backends()["con1"]["state"] == ("active" if is_taken_back else "drain"), said
    for word, code, text in said:
        if word == "reload" and code == 0:
            weir.wait(lambda: {name for name, one in weir.backends().items()
                               if one["state"] != "removed"} == set(names), what=str(said))
        assert code == 0 or "under way" in text or "without an answer" in text \
            or "no weir runs" in text or "by hand" in text, said


def how_often(pair):
    if pair == ("upgrade", "drain"):
        return ()
    return pytest.mark.ci if pair[0] == "upgrade" else pytest.mark.full


@pytest.mark.parametrize("first, second", [
    pytest.param(*pair, marks=how_often(pair))
    for pair in itertools.product(COMMANDS, repeat=2)])
def test_e12_two_commands_at_once(lab, start_weir, first, second):
    """At random moments, always the same ones."""
    moments = random.Random(f"{first} {second}")
    weir = start_weir(timeouts=TIMEOUTS)
    for round in range(3):
        names = ALL[:3 + round % 2]
        words = {"drain": ("drain", "web", "con1")}
        begun = []
        for number, word in enumerate((first, second)):
            if number == 1:
                time.sleep(moments.uniform(0, 0.5))
            if word == "reload":
                write(weir, listing(lab, *names))
            begun.append(Command(weir, *words.get(word, (word,))))
        for command in begun:
            command.join()
        answered_truly(lab, weir, names, begun)
        if not lab.lb.pids():
            assert weir.process.wait(20 * PATIENCE) == 0
            if weir in lab.weirs:
                lab.weirs.remove(weir)
            weir.start(wait_up=False)   # what is drained stays so
        weir.command("activate", service="web", backend="con1")
        weir.wait_all_up()
        assert traffic.errors(traffic.requests(lab.client, 8)) == []
