# SPDX-License-Identifier: BSD-3-Clause
"""The unit file under a real systemd: a manager of its own, as for a user, with conf/weir.service
and nothing else (E13). Whatever weir dies of, it is there again, and no connection is lost."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

import traffic
import weir as weir_module
from lab import VIP
from netns import PATIENCE

SYSTEMD = "/lib/systemd/systemd"
WATCHDOG_MS = 1500
# It takes itself for one of a machine that systemd has booted, which only it is to see.
BOOT = """
mount --make-private "$(findmnt -n -o TARGET -T /run)" &&
mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd && mkdir -p /run/systemd/system &&
exec {systemd} --user --unit=basic.target --default-standard-output=inherit
"""


class Unit(weir_module.Weir):
    """A weir that systemd starts."""

    def __init__(self, lab, config):
        super().__init__(lab, config)
        self._log_from = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        self.directory = f"{lab.directory}/systemd"
        units = f"{self.directory}/units"
        os.makedirs(units)
        for target in ("basic.target", "shutdown.target"):
            with open(f"{units}/{target}", "w") as file:
                file.write("[Unit]\nDefaultDependencies=no\n")
        with open(f"{weir_module.ROOT}/conf/weir.service") as file:
            text = file.read()
        # What systemctl would install, but for the paths and a shorter watchdog.
        text, changed = re.subn("/usr/sbin/weir$", f"{weir_module.BINARY} -c {self.path}", text,
                                flags=re.M)
        assert changed == 1 and "WatchdogSec=5s" in text
        text, changed = re.subn("/usr/sbin/weirctl", f"{weir_module.ROOT}/scripts/weirctl", text)
        assert changed == 1
        with open(f"{units}/weir.service", "w") as file:
            file.write(text.replace("WatchdogSec=5s", f"WatchdogSec={WATCHDOG_MS}ms"))
        self.environment = {**self.environment, "XDG_RUNTIME_DIR": self.directory,
                            "SYSTEMD_UNIT_PATH": units, "SYSTEMD_LOG_TARGET": "console"}
        with open(self.log_path, "a") as log:
            self.manager = lab.lb.popen("unshare", "--mount", "--propagation", "unchanged", "sh",
                                        "-c",
                                        BOOT.format(systemd=SYSTEMD), stdout=log, stderr=log,
                                        env=self.environment)

    def systemctl(self, *words, check=True):
        done = subprocess.run(["systemctl", "--user", *words], env=self.environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60 * PATIENCE)
        assert not check or done.returncode == 0, f"{words}: {done.stdout}\n{self.log()[-3000:]}"
        return done

    def shows(self, name):
        return self.systemctl("show", "--value", "-p", name, "weir.service").stdout.strip()

    def start(self, wait_up=True):
        deadline = time.monotonic() + 10 * PATIENCE
        while self.systemctl("is-active", "basic.target", check=False).returncode != 0:
            assert time.monotonic() < deadline and self.manager.poll() is None, self.log()
            time.sleep(0.05)
        self.systemctl("start", "weir.service")
        self.lab.weirs.append(self)
        # Type=notify: it is ready when the command is back.
        assert self.follow_unit() == self.info()["pid"]
        if wait_up:
            self.wait_all_up()
        return self

    def log(self):
        """What was said since this unit is there."""
        return super().log()[self._log_from:]

    def follow_unit(self):
        """The main process that systemd knows, which is weir from now on."""
        self.process = weir_module.Adopted(int(self.shows("MainPID")))
        return self.process.pid

    def wait_restart(self, count):
        """The process has ended, and systemd has started the next one, the `count`th by itself."""
        self.process.wait(20 * PATIENCE)
        deadline = time.monotonic() + 20 * PATIENCE
        while self.shows("ActiveState") != "active" or self.shows("NRestarts") != str(count):
            assert time.monotonic() < deadline, self.log()[-3000:]
            time.sleep(0.05)
        assert self.follow_unit() == self.info()["pid"]

    def end(self):
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.systemctl("kill", "-s", "KILL", "weir.service", check=False)
            self.systemctl("stop", "weir.service", check=False)
        self.manager.kill()
        self.manager.wait()
        if self in self.lab.weirs:
            self.lab.weirs.remove(self)
        self.forget()


def weirctl(unit, *words):
    done = subprocess.run([f"{weir_module.ROOT}/scripts/weirctl", "-i", unit.instance, *words],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60 * PATIENCE)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def unit(lab):
    if not os.path.exists(SYSTEMD):
        pytest.skip("systemd isn't installed")
    shutil.rmtree(f"{lab.directory}/systemd", ignore_errors=True)
    unit = Unit(lab, weir_module.config(lab))
    try:
        yield unit.start()
    finally:
        unit.end()


def threads(pid):
    """The ids of a process's threads by name."""
    names = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        # One that only helps at the start may end meanwhile.
        with (contextlib.suppress(FileNotFoundError, ProcessLookupError),
              open(f"/proc/{pid}/task/{thread}/comm") as file):
            names[file.read().strip()] = int(thread)
    return names


HOLD = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
if libc.ptrace(16, {thread}, None, None) == 0:      # PTRACE_ATTACH
    os.waitpid({thread}, 0x40000000)                # __WALL: it stands
    print("held", flush=True)
    os.waitpid({thread}, 0x40000000)                # until it is killed: nobody else may reap it
"""


@contextlib.contextmanager
def held(thread):
    """One thread stands still, as under a debugger, which is a process of its own."""
    with subprocess.Popen([sys.executable, "-c", HOLD.format(thread=thread)],
                          stdout=subprocess.PIPE, text=True) as debugger:
        try:
            if debugger.stdout.readline() != "held\n":
                pytest.skip("no ptrace here")
            yield
        finally:
            debugger.kill()


def test_no_connection_is_lost(lab, unit):
    """Killed, a worker or the control loop stuck, restarted, upgraded: systemd has it running
    again, and every connection goes on."""
    with lab.client.entered():
        connections = [traffic.connect(timeout=20) for _ in range(40)]
    names = [traffic.ask(connection) for connection in connections]

    def all_live():
        assert [traffic.ask(connection) for connection in connections] == names
        assert unit.info()["adopted"] >= len(connections)

    with traffic.Stream(lab.client, threads=4, rate=50, timeout=20) as stream:
        os.kill(unit.process.pid, signal.SIGKILL)
        unit.wait_restart(1)
        all_live()
        for restarts, stuck in ((2, "worker"), (3, "control loop")):
            pid = unit.process.pid
            worker = next(thread for name, thread in threads(pid).items() if "worker" in name)
            with held(worker if stuck == "worker" else pid):
                unit.wait_restart(restarts)
            all_live()
        assert unit.log().count("worker 0 stands still") == 1
        # No backend answers over a worker that stands still, and none is to blame.
        assert ": down (" not in unit.log()
        before = unit.process.pid
        unit.upgrade()
        assert unit.process.pid != before
        unit.wait(lambda: unit.shows("MainPID") == str(unit.process.pid),
                  what="the successor's pid")
        assert (unit.shows("ActiveState"), unit.shows("NRestarts")) == ("active", "3")
        all_live()
        before = unit.process.pid
        unit.systemctl("restart", "weir.service")
        assert unit.follow_unit() == unit.info()["pid"] != before
        all_live()
    assert traffic.errors(stream.results) == []
    # Nobody's watchdog barks at the successors.
    time.sleep(2 * WATCHDOG_MS / 1000)
    assert (unit.shows("ActiveState"), unit.shows("NRestarts")) == ("active", "0")
    for connection in connections:
        connection.close()
    unit.identity()
    unit.systemctl("stop", "weir.service")
    assert (unit.shows("ActiveState"), unit.shows("Result")) == ("inactive", "success")


def test_e13_a_reload_fails_when_it_is_refused(unit):
    """`systemctl reload` takes a good file, refuses a bad one and says why, and weir goes on."""
    def put(text):
        with open(unit.path, "w") as file:
            file.write(text)

    changed = weir_module.merged(unit.config, {"services": {"web": {"scheduler": "round_robin"}}})
    put(weir_module.dump(changed))
    unit.systemctl("reload", "weir.service")
    unit.wait(lambda: unit.services()[0]["scheduler"] == "round_robin", what="the new scheduler")
    put("nonsense = 1;\n")
    assert unit.systemctl("reload", "weir.service", check=False).returncode != 0
    assert f"weirctl: {unit.path}:1: nonsense" in unit.log()
    # What only the running weir can refuse: the file is right.
    moved = weir_module.merged(changed, {"port": {"address": (f"{VIP}/24", f"{VIP}9/24")}})
    put(weir_module.dump(moved))
    assert unit.systemctl("reload", "weir.service", check=False).returncode != 0
    assert "restart" in unit.log()[unit.log().rindex("weirctl: "):]
    assert unit.shows("ActiveState") == "active" and unit.info()["reloads_failed"] == 2
    put(weir_module.dump(changed))


@pytest.mark.parametrize("end", [
    "stop", *(pytest.param(end, marks=pytest.mark.ci) for end in ("stop --forget", "SIGTERM"))])
def test_e13_who_is_ended_by_hand_stays_so(unit, end):
    pid = unit.process.pid
    if end == "SIGTERM":
        os.kill(pid, signal.SIGTERM)
    else:
        assert weirctl(unit, *end.split()) == "ended\n"
    unit.process.wait(20 * PATIENCE)
    time.sleep(1)                       # ten times RestartSec
    assert (unit.shows("ActiveState"), unit.shows("Result"), unit.shows("NRestarts")) == (
        "inactive", "success", "0")
    unit.systemctl("start", "weir.service")
    assert unit.follow_unit() == unit.info()["pid"]
    unit.wait_all_up()


def tries(unit, earlier):
    """How long each start waits before it is tried, in ms, as the log says."""
    return [int(ms) for ms in re.findall(r"next one is tried in (\d+) ms", unit.log()[earlier:])]


def test_e13_what_fails_by_the_file_is_tried_less_and_less_often(unit):
    """Each try waits for twice as long, until the file changes: then it starts at once."""
    with open(unit.path) as file:
        right = file.read()
    earlier = len(unit.log())
    with open(unit.path, "w") as file:
        file.write("nonsense = 1;\n")
    # It fails at once, and says why.
    assert unit.systemctl("restart", "weir.service", check=False).returncode != 0
    assert f"{unit.path}:1: nonsense" in unit.log()[earlier:]
    deadline = time.monotonic() + 30 * PATIENCE
    while len(tries(unit, earlier)) < 4:
        assert time.monotonic() < deadline, unit.log()[earlier:]
        time.sleep(0.05)
    waits = tries(unit, earlier)
    assert waits == sorted(waits) and waits[-1] > 4 * waits[0], waits
    with open(unit.path, "w") as file:
        file.write(right)
    deadline = time.monotonic() + 30 * PATIENCE
    while unit.shows("ActiveState") != "active":
        assert time.monotonic() < deadline, unit.log()[earlier:]
        time.sleep(0.05)
    assert unit.follow_unit() == unit.info()["pid"]
    unit.wait_all_up()
    # One that dies when it runs is there again as soon as ever.
    seen = len(tries(unit, earlier))
    restarts = int(unit.shows("NRestarts"))
    os.kill(unit.process.pid, signal.SIGKILL)
    unit.wait_restart(restarts + 1)
    assert len(tries(unit, earlier)) == seen


@pytest.mark.ci
def test_e13_a_restart_by_hand_ends_the_wait(lab, unit):
    """What the machine lacked is there again: nobody waits for the next try."""
    earlier = len(unit.log())
    lab.lb.ip("link set port name away")
    try:
        assert unit.systemctl("restart", "weir.service", check=False).returncode != 0
        deadline = time.monotonic() + 60 * PATIENCE
        while max(tries(unit, earlier), default=0) < 3000:
            assert time.monotonic() < deadline, unit.log()[earlier:]
            time.sleep(0.05)
    finally:
        lab.lb.ip("link set away name port")
    before = len(tries(unit, earlier))
    unit.systemctl("restart", "weir.service")
    assert unit.follow_unit() == unit.info()["pid"]
    assert len(tries(unit, earlier)) == before, unit.log()[earlier:]
    unit.wait_all_up()


def test_e6_without_a_link(lab, unit):
    """Server and switch boot together: weir is ready, says what is missing and waits, for longer
    than its watchdog does."""
    lab.switch.ip("link set lbport down")
    unit.systemctl("restart", "weir.service")
    pid = unit.follow_unit()
    unit.wait(lambda: unit.info()["trouble"] == "port: no link", what="it is seen")
    time.sleep(2 * WATCHDOG_MS / 1000)
    assert unit.info()["pid"] == pid == int(unit.shows("MainPID"))
    assert (unit.shows("ActiveState"), unit.shows("NRestarts")) == ("active", "0")
    assert "port: no link" in unit.log()
    lab.switch.ip("link set lbport up")
    unit.wait_all_up()


@pytest.mark.ci
def test_e5_another_start_is_no_end_of_the_unit(lab, unit):
    """weir0 is deleted: weir starts again by itself, for systemd it is the same process."""
    pid = unit.process.pid
    unit.netns.ip("link delete weir0")
    unit.wait(lambda: unit.log().count("started in") == 2, what="another start")
    unit.wait_all_up()
    time.sleep(2 * WATCHDOG_MS / 1000)
    assert unit.info()["pid"] == pid == int(unit.shows("MainPID"))
    assert (unit.shows("ActiveState"), unit.shows("NRestarts")) == ("active", "0")
