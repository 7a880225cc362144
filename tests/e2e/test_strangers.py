# SPDX-License-Identifier: BSD-3-Clause
"""What weir keeps beside its process: other users of the machine neither own nor block it (E18), a
user with the capabilities that are asked for has it (E26), and it goes when it is told to (E27)."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess

import pytest

import lab as lab_module
import netns
import traffic
import weir as weir_module
from netns import PATIENCE
from test_everyday import all_live, idle_connections
from weir import ROOT, Weir, WeirFailed

NOBODY = 65534
RUN, MEMORY, TELEMETRY = "/run/weir", "/dev/shm", "/var/run/dpdk"


# E18

def move_table(weir, path):
    """Where an earlier weir had it; of a weir that has ended."""
    own = f"{MEMORY}/weir"
    found = [f"{place}/{weir.prefix}.flows4" for place in ("/dev/hugepages", RUN, MEMORY, own)]
    found = [table for table in found if os.path.exists(table)]
    assert len(found) == 1, found
    if found[0] != path:
        shutil.move(found[0], path)
    with contextlib.suppress(OSError):
        os.rmdir(own)                   # fails as long as another weir's is in it


@contextlib.contextmanager
def removed(*paths):
    try:
        yield
    finally:
        for path in paths:
            if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
                os.unlink(path)


def test_e18_what_strangers_made_is_no_table(lab, start_weir):
    """Before the first start: a file that everybody writes to, and holds; a FIFO that is waited
    for. Each is named and left alone."""
    paths = [f"{MEMORY}/weir-{lab.name}.flows{family}" for family in "46"]
    with removed(*paths), open(paths[0], "w") as file:
        os.mkfifo(paths[1])
        for path in paths:
            os.chmod(path, 0o666)
            os.chown(path, NOBODY, NOBODY)
        fcntl.flock(file, fcntl.LOCK_EX)
        weir = start_weir(port={"hugepages": False})
        table = weir.flows()[0]["file"]
        assert table not in paths and os.stat(paths[0]).st_size == 0
        owner = os.stat(table)
        assert (owner.st_uid, owner.st_mode & 0o7777) == (0, 0o600)
        connections = idle_connections(lab, 20)
        weir.kill()
        weir.start()
        assert (weir.flows()[0]["file"], weir.info()["adopted"]) == (table, 20)
        all_live(connections)
        weir.kill()
        weir.forget()
        assert not os.path.exists(table) and all(map(os.path.exists, paths))


@pytest.mark.ci
def test_e18_a_table_in_the_open_is_taken_over_and_moved(lab, start_weir):
    """It lies in a directory of its own from then on, beside what a stranger gave that name; and
    there it is found, whether or not the stranger's is there still."""
    weir = start_weir(port={"hugepages": False})
    former = f"{MEMORY}/{weir.prefix}.flows4"
    usual = f"{MEMORY}/weir"
    connections = idle_connections(lab, 20)
    with removed(former, usual):
        begin = len(weir.log())
        weir.kill()
        move_table(weir, former)
        if os.path.exists(usual):
            pytest.skip(f"another weir has its table in {usual}")
        os.symlink("/tmp", usual)
        weir.start()
        weir.wait(lambda: not os.path.exists(former), what="it has moved")
        table = weir.flows()[0]["file"]
        assert re.fullmatch(rf"{usual}\.\w{{6}}/{weir.prefix}.flows4", table), table
        assert f"{usual} isn't this weir's" in weir.log()[begin:]
        for path, mode in ((table, 0o600), (os.path.dirname(table), 0o700)):
            assert os.stat(path).st_mode & 0o7777 == mode
        os.unlink(usual)
        weir.kill()
        weir.start()
        assert (weir.flows()[0]["file"], weir.info()["adopted"]) == (table, 20)
        all_live(connections)
        assert weir.stop() == 0
        assert not os.path.exists(os.path.dirname(table))


def test_e18_a_run_directory_of_others_is_refused(lab):
    """What lies there would be believed."""
    weir = Weir(lab, weir_module.config(lab))
    os.makedirs(RUN, exist_ok=True)
    mode = os.stat(RUN).st_mode & 0o7777
    os.chmod(RUN, 0o777)
    try:
        with pytest.raises(WeirFailed) as failure:
            weir.start(wait_up=False)
        forget = lab.lb.run(weir_module.BINARY, "--forget", "-c", weir.path, check=False)
    finally:
        os.chmod(RUN, mode)
    assert f"{RUN} isn't root's alone" in str(failure.value)
    assert forget.returncode != 0 and f"{RUN} isn't root's alone" in forget.stderr


# E26

@pytest.fixture
def public(lab):
    """A directory that every user may read, with the daemon."""
    path = f"/tmp/weir-e2e-{os.getpid()}"
    os.makedirs(path)
    os.chmod(path, 0o755)
    shutil.copy(weir_module.BINARY, f"{path}/weir")
    yield path
    shutil.rmtree(path)


def as_user(public, user, capabilities):
    """The daemon as a program of that user, with these capabilities and no others."""
    few = ",".join(["-all", *("+" + name.removeprefix("CAP_").lower() for name in capabilities)])
    path = f"{public}/weir-{user}"
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\nexec setpriv --reuid={user} --regid={user} --clear-groups "
                   f"--bounding-set={few} --inh-caps={few} "
                   + (f"--ambient-caps={few} " if user else "") + f'{public}/weir "$@"\n')
    os.chmod(path, 0o755)
    return path


def asked_for(lab, public, user, config):
    """What a start without any says that it needs."""
    path = f"{public}/weir.conf"
    with open(path, "w") as file:
        file.write(weir_module.dump(config))
    done = lab.lb.run(as_user(public, user, []), "-c", path, check=False)
    return re.search("grant (.*)", done.stderr).group(1).split()


@pytest.mark.parametrize("user", (pytest.param(0, marks=pytest.mark.ci), NOBODY),
                         ids=("root", "nobody"))
def test_e26_the_capabilities_that_are_asked_for_are_enough(lab, public, user):
    """And telemetry is where root's dpdk-telemetry.py looks."""
    config = weir_module.config(lab)
    names = asked_for(lab, public, user, config)
    os.makedirs(RUN, exist_ok=True)     # root's, for the tests to come
    weir = Weir(lab, config, binary=as_user(public, user, names))
    os.chmod(weir.path, 0o644)
    weir.start()
    try:
        with open(f"/proc/{weir.process.pid}/status") as file:
            status = file.read()
        assert re.search(r"^Uid:\s+(\d+)", status, re.M).group(1) == str(user)
        assert int(re.search(r"^CapBnd:\s+(\w+)", status, re.M).group(1), 16).bit_count() \
            == len(names)
        said = subprocess.run(["dpdk-telemetry.py", "-f", weir.prefix],
                              input="/weir/info\nquit\n", stdout=subprocess.PIPE, text=True,
                              timeout=20 * PATIENCE)
        assert f'"instance": "{weir.prefix}"' in said.stdout, said.stdout
        connections = idle_connections(lab, 20)
        weir.kill()
        weir.start()
        assert weir.info()["adopted"] == 20
        weir.upgrade()
        all_live(connections)
    finally:
        weir.stop()
    with contextlib.suppress(OSError):
        os.rmdir(RUN)                   # where /run is sticky, another user can't
    assert left_of(lab, weir.instance) == {}


def test_e26_the_documentation_names_them():
    for name in ("README.md", "app/weir.8.md"):
        with open(f"{ROOT}/{name}") as file:
            words = " ".join(file.read().split())
        assert "CAP_NET_ADMIN, CAP_NET_RAW, CAP_IPC_LOCK and CAP_SYS_ADMIN; " \
            "another user than root needs CAP_DAC_OVERRIDE, too" in words, name


# E27

def left_of(lab, instance):
    """All that a weir may leave on the machine, by where. Directories that several share count when
    nothing is in them."""
    prefix = f"weir-{instance}"
    number = os.stat(lab.lb.path).st_ino
    own = re.compile(rf"{instance}|{prefix}([.]?\d?|map_.*|\..*)|.*-net{number}(\.lock)?"
                     rf"|failed-.*{prefix}\.conf")
    found = {}
    for folder in ("/dev/hugepages", MEMORY, f"{MEMORY}/weir", RUN, TELEMETRY, netns.DIRECTORY):
        with contextlib.suppress(FileNotFoundError):
            entries = os.listdir(folder)
            found[folder] = [name for name in entries if own.fullmatch(name)]
            if not entries and folder in (RUN, f"{MEMORY}/weir"):
                found[folder] = ["."]
    link = lab.lb.run("ip", "link", "show", lab_module.PORT).stdout
    found["the interface"] = [word for word in ("xdp", "ALLMULTI", "PROMISC") if word in link]
    found["nftables"] = lab.lb.run("nft", "list", "tables").stdout.split("\n")[:-1]
    return {where: sorted(names) for where, names in found.items() if names}


@pytest.fixture
def fresh_port(lab):
    """As no weir has set it."""
    lab.plug_port(2)
    lab.plug_port(1)


def ipv6_off(lab):
    return lab.lb.run("sysctl", "-n", f"net.ipv6.conf.{lab_module.PORT}.disable_ipv6").stdout


@pytest.mark.parametrize("emptied", (False, True), ids=("", "emptied"))
@pytest.mark.parametrize("driver", ("af_xdp", pytest.param("af_packet", marks=pytest.mark.ci),
                                    pytest.param("tap", marks=pytest.mark.ci)))
def test_e27_nothing_is_left_when_it_is_forgotten(lab, fresh_port, start_weir, driver, emptied):
    """After a death, with and without what it had in /run/weir."""
    before = ipv6_off(lab)
    weir = start_weir(driver=driver, environment={"NOTIFY_SOCKET": f"{lab.directory}/nobody"})
    assert traffic.errors(traffic.requests(lab.client, 8)) == []
    weir.kill()
    left = left_of(lab, weir.instance)
    assert {RUN, TELEMETRY, netns.DIRECTORY} <= set(left), left
    if emptied:
        for entry in left[RUN]:
            path = f"{RUN}/{entry}"
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
    done = lab.lb.run(weir_module.BINARY, "--forget", "-c", weir.path)
    left = left_of(lab, weir.instance)
    if emptied and driver != "tap":     # what it was before, nothing says any more
        assert "says any more how port was set before" in done.stderr
        assert left.pop("the interface") == ["ALLMULTI"]
    assert left == {} and ipv6_off(lab) == before


def test_e27_the_port_of_another_instance_is_left_alone(lab, fresh_port, start_weir):
    """It took the interface after the death of the one that is forgotten."""
    weir = start_weir()
    weir.kill()
    other = start_weir(instance=f"{lab.name}second", port={"netns": f"weir-{lab.name}second"})
    weir.forget()
    assert lab.lb.run("nft", "list", "ruleset").stdout != ""
    assert traffic.errors(traffic.requests(lab.client, 8)) == []
    assert os.path.exists(f"{RUN}/{other.instance}/control.sock")
    assert other.stop() == 0
    assert left_of(lab, weir.instance) == {}


def test_e27_a_namespace_of_somebody_else_stays(lab, start_weir):
    name = f"weir-{lab.name}second"
    netns.Namespace(name).create()
    weir = start_weir(port={"netns": name})
    weir.kill()
    weir.forget()
    assert name in netns.names()
    netns.Namespace(name).delete()
