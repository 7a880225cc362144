# SPDX-License-Identifier: BSD-3-Clause
"""Signals, at any moment (E16): none ends weir half-way, or without a line."""

import random
import signal
import time

import pytest

import weir as weir_module
from netns import PATIENCE
from test_life import traces
from weir import Weir

LEAVES_NOTHING = {"size": 65536, "persist": False}


def spawn(weir):
    """Start it, and don't wait for anything."""
    with open(weir.log_path, "a") as log:
        weir.process = weir.lab.lb.popen(weir_module.BINARY, "-c", weir.path, stdout=log,
                                         stderr=log)


def wait_main(weir):
    """Until the program has begun, which until then isn't weir yet but its loader."""
    deadline = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < deadline and weir.process.poll() is None:
        with open(f"/proc/{weir.process.pid}/status") as file:
            blocked = next(line for line in file if line.startswith("SigBlk"))
        if int(blocked.split()[1], 16) & 1 << signal.SIGHUP - 1:
            return
        time.sleep(0.001)


def lines(weir, earlier, text):
    return weir.log()[earlier:].count(text)


def test_e16_what_nobody_needs_is_ignored_with_a_line(start_weir):
    weir = start_weir()
    earlier = len(weir.log())
    for name in ("SIGUSR1", "SIGUSR2", "SIGALRM"):
        weir.process.send_signal(getattr(signal, name))
    weir.wait(lambda: all(lines(weir, earlier, f"{name} is ignored") == 1
                          for name in ("SIGUSR2", "SIGALRM")), what="the lines")
    assert lines(weir, earlier, "SIGUSR1") == 0     # of whoever rotates logs, each night
    weir.identity()


def test_e16_quit_ends_as_term_does(lab, start_weir):
    weir = start_weir(flows=LEAVES_NOTHING)
    earlier = len(weir.log())
    weir.process.send_signal(signal.SIGQUIT)
    assert weir.process.wait(15 * PATIENCE) == 0
    weir.kill()                         # only takes it off the lab's list
    assert lines(weir, earlier, "ending: SIGQUIT") == 1
    assert traces(lab, weir.instance) == []


def test_e16_a_hangup_during_the_start_is_a_reload_after_it(lab):
    weir = Weir(lab, weir_module.config(lab))
    spawn(weir)
    lab.weirs.append(weir)
    wait_main(weir)
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        weir.process.send_signal(number)
    weir._wait_ready()
    weir.wait(lambda: weir.info()["reloads"] == 1, what="the reload")
    weir.wait_all_up()
    assert weir.stop() == 0


def ended_in_the_start(lab, weir, after_s):
    """Start it, and end it by SIGTERM after so long: what it left, and whether it had started."""
    earlier = len(weir.log())
    spawn(weir)
    wait_main(weir)
    time.sleep(after_s)
    weir.process.send_signal(signal.SIGTERM)
    assert weir.process.wait(15 * PATIENCE) == 0, weir.log()[earlier:]
    assert lines(weir, earlier, "ending: SIGTERM") == 1, weir.log()[earlier:]
    return traces(lab, weir.instance), lines(weir, earlier, "started in") == 1


def end_at(lab, moments):
    """The first start of all, ended at each of these parts of its time: nothing is left of it; of
    one that had been done in time all is, for the next one."""
    weir = Weir(lab, weir_module.config(lab))
    open(weir.log_path, "a").close()
    begin = time.monotonic()
    weir.start(wait_up=False)
    whole_s = time.monotonic() - begin
    assert weir.stop() == 0
    half_way = 0
    for moment in moments:
        left, had_started = ended_in_the_start(lab, weir, moment * whole_s)
        half_way += not had_started
        assert bool(left) == had_started, (moment, left)
        if had_started:
            weir.forget()
            assert traces(lab, weir.instance) == []
    return half_way


def test_e16_an_end_during_the_start_leaves_nothing(lab):
    assert end_at(lab, (0, 0.2, 0.4, 0.6, 0.8)) >= 1


@pytest.mark.ci
def test_e16_an_end_at_any_moment_of_the_start(lab):
    moments = [random.uniform(0, 1.1) for _ in range(30)]
    assert end_at(lab, moments) >= 5


@pytest.mark.ci
def test_e16_an_end_during_a_later_start_leaves_what_it_found(lab, start_weir):
    """Connections of the process before it wait for the next one."""
    weir = start_weir()
    weir.kill()
    before = traces(lab, weir.instance)
    found, had_started = ended_in_the_start(lab, weir, 0.1)
    assert had_started or set(found) <= set(before), (found, before)
    assert any("flows4" in trace for trace in found) and "an nft table" in found, found
    weir.start()
