#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""usage: bounded.py SECONDS COMMAND...

Run a command of the tests within a time limit. At the limit it gets SIGTERM, on which meson and
pytest (tests/e2e/conftest.py) fail the test that runs, by name, clean up and write their results.
Whatever it started and is there after its end, or GRACE_SECONDS after the limit, is killed: what
outlives its parent becomes a child of this process and is found. The exit code is the command's,
and 124 at the limit."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

GRACE_SECONDS = 30 * float(os.environ.get("WEIR_TEST_PATIENCE", 1))
LIMIT_MET = 124                         # as with timeout(1)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


class Ended(BaseException):
    """It is time for the command to end."""


def on_signal(number, _frame):
    raise Ended(number)


def descendants():
    """What runs or waits to be reaped below this process: names and states by process ids."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as file:
            name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            state, parent = rest.split()[:2]
            found[int(entry)] = (int(parent), name, state)

    def below(pid):
        while pid in found:
            pid = found[pid][0]
            if pid == os.getpid():
                return True
        return False

    return {pid: about[1:] for pid, about in found.items() if below(pid)}


def kill_all():
    """Kill all that runs below. Returns the names."""
    killed = []
    deadline = time.monotonic() + GRACE_SECONDS
    while (running := descendants()) and time.monotonic() < deadline:
        for pid, (name, state) in running.items():
            if state not in "ZX":
                killed.append(name)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)
    return sorted(set(killed))


def wait(child):
    """Until the child ends; reaps what others left. Returns the exit code as a shell has it."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def run(seconds, command):
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    child = None
    try:
        signal.alarm(seconds)
        child = subprocess.Popen(command).pid
        code = wait(child)
        signal.alarm(0)
    except Ended as ended:
        code = LIMIT_MET
        if ended.args[0] == signal.SIGALRM:
            print(f"\nThe time limit of the run is met: ended after {seconds} s.", file=sys.stderr,
                  flush=True)
        else:
            code = 128 + ended.args[0]
        try:
            signal.alarm(max(int(GRACE_SECONDS), 1))
            if child:
                os.kill(child, signal.SIGTERM)
                wait(child)
        except (Ended, ProcessLookupError, ChildProcessError):
            pass
    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if killed := kill_all():
        print(f"Left running, now ended: {', '.join(killed)}.", file=sys.stderr)
    return code


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
