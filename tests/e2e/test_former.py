# SPDX-License-Identifier: BSD-3-Clause
"""From the version before the table's file had features to this one, and back: no connection is
lost on the way here, and none is translated wrongly on the way back."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

import traffic
import weir as weir_module
from test_everyday import Command, all_live, idle_connections, running_pid
from test_own_death import Event, Load, Sizes, death, start, summary
from test_strangers import move_table
from weir import BINARY, ROOT

FORMER = "fd9978b"                      # the last one that writes version 1 of the file
SHARED = "75f9437"                      # the last one that has it where everybody may write

pytestmark = [pytest.mark.ci, pytest.mark.slow]


def build(directory, commit):
    """That version, out of the repository's history."""
    run = dict(cwd=directory, check=True, stdout=subprocess.DEVNULL)
    archive = subprocess.Popen(["git", "-C", ROOT, "archive", commit], stdout=subprocess.PIPE)
    subprocess.run(["tar", "x"], stdin=archive.stdout, **run)
    assert archive.wait() == 0
    compiler = "ccache gcc" if shutil.which("ccache") else "gcc"
    subprocess.run(["meson", "setup", "build"], env={**os.environ, "CC": compiler}, **run)
    subprocess.run(["ninja", "-C", "build", "app/weir"], **run)
    return f"{directory}/build/app/weir"


@pytest.fixture(scope="module")
def former(tmp_path_factory, request):
    """Its daemon; WEIR_FORMER names one that is there already."""
    commit = getattr(request, "param", FORMER)
    if commit == FORMER and "WEIR_FORMER" in os.environ:
        return os.environ["WEIR_FORMER"]
    known = subprocess.run(["git", "-C", ROOT, "cat-file", "-e", f"{commit}^{{commit}}"],
                           check=False, stderr=subprocess.DEVNULL)
    if known.returncode != 0:
        pytest.skip(f"the repository's history doesn't reach back to {commit}")
    return build(tmp_path_factory.mktemp("former"), commit)


@pytest.fixture
def start_former(lab, former):
    """A weir of that version, in a file of its own."""
    started = []

    def begin(**changes):
        binary = f"{lab.directory}/weir"
        shutil.copy(former, binary)
        started.append(weir_module.Weir(lab, weir_module.config(lab, **changes), binary=binary))
        return started[-1].start()

    yield begin
    for running in started:
        if running.running():
            assert running.stop() == 0


def replace(weir, binary=BINARY):
    """Another version in the place of the daemon's, as a package does it: the running one stays."""
    shutil.copy(binary, f"{weir.binary}.new")
    os.rename(f"{weir.binary}.new", weir.binary)


def kill(weir):
    weir.kill()
    replace(weir)


def upgrade(weir):
    replace(weir)
    weir.upgrade()


EVENTS = {"killed": Event(kill, start),
          "upgraded": Event(lambda weir: None, upgrade, together=True)}


@pytest.mark.parametrize("event", EVENTS)
def test_nothing_is_lost_when_it_comes_to_this_one(lab, start_former, measured, event):
    """Under load; killed and started, and by its own upgrade. Then once more from this to this."""
    weir = start_former()
    earlier = len(weir.log())           # of other tests' weirs
    say = []
    with Load(lab, Sizes(full=False)) as load:
        for _ in range(2):
            death(weir, EVENTS[event], load, say)
    summary(f"from {FORMER}, {event}", say, measured)
    assert "refused" not in weir.log()[earlier:]


def test_back_again_the_file_is_refused(lab, start_former, former):
    """The former version reads none of what this one has written: its clients are reset."""
    weir = start_former()
    kill(weir)
    weir.start()
    with lab.client.entered():
        connection = traffic.connect()
    with connection:
        traffic.ask(connection)
        path = weir.flows()[0]["file"]
        weir.kill()
        replace(weir, former)
        weir.start()
        assert "it has version 2 of the layout, this weir 1" in weir.log()
        assert os.path.exists(f"{path}.refused")
        assert weir.info()["adopted"] == 0
        with pytest.raises(ConnectionResetError):
            traffic.ask(connection)


def test_e36_totals_and_health_go_on_from_there_and_back(lab, start_former, former):
    """The rows of backends, which both versions read."""
    weir = start_former()
    assert traffic.errors(traffic.requests(lab.client, 100)) == []
    lab.backend("con1").kill()
    try:
        weir.wait_health("con1", "down")
        time.sleep(1.5)                 # that version writes totals down once a second
        for life in (kill, upgrade, lambda weir: (weir.kill(), replace(weir, former))):
            before = weir.backends()
            life(weir)
            if not weir.running():
                weir.start(wait_up=False)
            after = weir.backends()
            for name, one in before.items():
                assert after[name]["health"] == one["health"]
                for key in ("connections", "packets_in", "packets_out", "bytes_in", "bytes_out"):
                    assert after[name][key] >= one[key] > 0, (name, key)
    finally:
        lab.backend("con1").start()


@pytest.fixture
def in_the_open(lab, start_former):
    """A weir of that version whose table lies where everybody may write, and connections."""
    weir = start_former(port={"hugepages": False})
    table = f"/dev/shm/{weir.prefix}.flows4"
    weir.kill()
    move_table(weir, table)
    weir.start()
    assert weir.flows()[0]["file"] == table
    return weir, table, idle_connections(lab, 20)


BOTH = pytest.mark.parametrize("former", [FORMER, pytest.param(SHARED, marks=pytest.mark.full)],
                               indirect=True)


@BOTH
@pytest.mark.parametrize("event", EVENTS)
def test_e18_a_table_in_the_open_is_taken_over(in_the_open, event):
    """From there into a directory of its own, where the next one finds it."""
    weir, former_table, connections = in_the_open
    if event == "killed":
        kill(weir)
        weir.start()
    else:
        upgrade(weir)
    weir.wait(lambda: not os.path.exists(former_table), what="it has moved")
    table = weir.flows()[0]["file"]
    assert table == f"/dev/shm/weir/{os.path.basename(former_table)}"
    assert (os.stat(os.path.dirname(table)).st_mode & 0o7777) == 0o700
    assert weir.info()["adopted"] == 20
    weir.kill()
    weir.start()
    assert (weir.info()["adopted"], weir.flows()[0]["file"]) == (20, table)
    weir.upgrade()
    assert (weir.info()["adopted"], weir.flows()[0]["file"]) == (20, table)
    all_live(connections)


@pytest.mark.full
@pytest.mark.parametrize("former", [SHARED], indirect=True)
def test_e18_the_earlier_weir_finds_its_table_when_the_new_one_fails(in_the_open):
    """It goes on where it was."""
    weir, table, connections = in_the_open
    pid, begin = weir.process.pid, len(weir.log())
    replace(weir)
    command = Command(weir, "upgrade")
    while "handing over" not in weir.log()[begin:]:
        time.sleep(0.001)
    os.kill(int(re.search(r"successor \(pid (\d+)\)", weir.log()[begin:]).group(1)),
            signal.SIGKILL)
    weir.wait(lambda: "started in" in weir.log()[begin:], 30, "the former process again")
    command.join()
    assert "the former one goes on" in command.said, command.said
    weir.wait(lambda: running_pid(weir) == pid, what="it answers")
    assert (weir.info()["adopted"], weir.flows()[0]["file"]) == (20, table)
    all_live(connections)
