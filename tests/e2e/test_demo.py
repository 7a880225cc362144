# SPDX-License-Identifier: BSD-3-Clause
"""scripts/demo shows what it promises, each time, and what --keep offers to type works."""

import contextlib
import importlib.util
import os
import re
import subprocess
import time

import pytest

from lab import STATE
from netns import PATIENCE
from netns import names as namespace_names
from traffic import Request
from weir import ROOT, Telemetry

DEMO = f"{ROOT}/scripts/demo"
SECONDS = 100                           # of a run that takes 12


def run(*command, text="", seconds=SECONDS):
    """As typed in the repository; the output, which a command in the background may keep open."""
    with open(f"{STATE}/demo-test-output", "w+") as output:
        done = subprocess.run(command, cwd=ROOT, input=text, text=True, stdout=output,
                              stderr=subprocess.STDOUT, timeout=seconds * PATIENCE)
        output.seek(0)
        return done.returncode, output.read()


@pytest.fixture
def no_demo():
    if os.path.exists(f"{STATE}/demo"):
        pytest.skip("a demo that somebody kept is there: scripts/demo --stop")
    os.makedirs(STATE, exist_ok=True)


@pytest.mark.ci
@pytest.mark.parametrize("time", range(1, 21))
def test_twenty_in_a_row(no_demo, time):
    code, said = run(DEMO)
    assert code == 0, said
    assert "Everything is stopped and removed" in said and not os.path.exists(f"{STATE}/demo")


@pytest.fixture
def kept(no_demo):
    try:
        code, said = run(DEMO, "--keep")
        assert code == 0, said
        yield said
    finally:
        run(DEMO, "--stop")


class Watch:
    """The kept weir, as its telemetry shows it."""

    def __init__(self):
        self.telemetry = Telemetry("weir-demo")
        self.pid = self.info("pid")

    def info(self, field):
        return self.telemetry.query("/weir/info")[field]

    def backends(self, field):
        return {one["name"]: one[field] for one in self.telemetry.query("/weir/backends,web")}

    def wait(self, condition, what):
        deadline = time.monotonic() + 20 * PATIENCE
        while not condition():
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    def down(self, *servers):
        self.wait(lambda: {name for name, health in self.backends("health").items()
                           if health == "down"} == set(servers), f"{servers} down")

    def replaced(self):
        """Whether another process answers; null is what one says that isn't ready."""
        with contextlib.suppress(OSError, TypeError, ValueError, KeyError):
            return self.info("pid") != self.pid
        return False


@pytest.mark.ci
def test_what_it_offers(kept):
    """Every command that --keep prints, typed in the order in which they stand there."""
    watch = Watch()
    names = ("con1", "con2", "con3", "con4")
    checks = (
        ("curl http", lambda said: said.split()[-1] in names),
        ("while sleep", lambda said: set(said.split()) <= set(names) and len(said.split()) > 3),
        ("tail -f", lambda said: "backend con1 192.0.2.21:8080: up" in said),
        ("dpdk-telemetry.py", lambda said: '"con1"' in said),
        ("kill $(", lambda _: watch.down("con1") is None),
        (" nginx -p ", lambda _: watch.down() is None),
        ("kill -STOP", lambda _: watch.down("con1") is None),
        ("kill -CONT", lambda _: watch.down() is None),
        ("set host2 down", lambda _: watch.down("con3", "con4") is None),
        ("set host2 up", lambda _: watch.down() is None),
        ("drain web con2", lambda _: watch.backends("state")["con2"] == "drain"),
        ("activate web con2", lambda _: watch.backends("state")["con2"] == "active"),
        ("sed -i", lambda _: watch.backends("weight")["con3"] == 1),
        ("reload", lambda said: "con3: weight 1 -> 5" in said
         and watch.backends("weight")["con3"] == 5),
        ("upgrade", lambda said: "has taken over" in said
         and watch.wait(watch.replaced, "the new one answers") is None),
        ("stop", lambda said: said == "ended\n"
         and watch.wait(lambda: not watch.telemetry.alive(), "it ends") is None),
        ("nsenter", lambda _: watch.wait(watch.replaced, "it starts again") is None
         and watch.info("adopted") > 0),
        ("--stop", lambda _: not any(name.startswith("weir-demo") for name in namespace_names())),
    )
    offered = re.findall(r"^ {4}(\S.*)", kept[kept.index("Play with it"):], re.M)
    assert len(offered) == len(checks)
    for command, (part, check) in zip(offered, checks):
        assert part in command
        endless = part in ("while sleep", "tail -f")
        limit = ("timeout", "4") if endless else ()
        code, said = run(*limit, "bash", "-c", command, text="/weir/backends,web\nquit\n")
        assert code == (124 if endless else 0) and check(said), f"{command}: {code}: {said}"


def story():
    spec = importlib.util.spec_from_file_location("demo_story", f"{ROOT}/scripts/demo-story.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_failure_is_shown(capsys):
    """When which request failed, and how; also a server that answered nothing."""
    told = story()
    results = [Request(10.5, 10.6, 40001, name, None) for name in told.SERVER_NAMES]
    told.expect_answers(results, told.SERVER_NAMES, 10, "the death")
    assert capsys.readouterr().out == ""
    lost = [Request(10.0008, 10.002, 40002, None, "ConnectionResetError: reset"),
            Request(11, 16, None, None, "TimeoutError: timed out")]
    with pytest.raises(told.StoryFailed, match="2 of 6 requests failed after the death"):
        told.expect_answers(results + lost, told.SERVER_NAMES, 10, "the death")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "    begun 0.0008 s after the death, from 192.0.2.100:40002, failed 0.0012 s later: "
        "ConnectionResetError: reset",
        "    begun 1.0000 s after the death, without a connection, failed 5.0000 s later: "
        "TimeoutError: timed out"]
    with pytest.raises(told.StoryFailed, match="con2, con3, con4 answered, and not con1, con2"):
        told.expect_answers(results[1:], told.SERVER_NAMES, 10, "the death")
