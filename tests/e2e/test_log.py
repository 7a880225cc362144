# SPDX-License-Identifier: BSD-3-Clause
"""What weir finds where its log goes, and what a shell gave it (E15)."""

import fcntl
import glob
import os
import re
import socket
import subprocess

import pytest

import weir as weir_module
from netns import PATIENCE
from test_life import error_lines, traces
from weir import Weir

PIPE_BYTES = 4096


def make_channel(kind):
    """Both ends of what holds a few lines, as stderr may be: a pipe, or journald's socket."""
    if kind == "pipe":
        reading, writing = (os.fdopen(fd, mode, buffering=0)
                            for fd, mode in zip(os.pipe(), ("rb", "wb")))
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    else:
        reading, writing = socket.socketpair()
        writing.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIPE_BYTES)
    os.set_blocking(reading.fileno(), False)
    return reading, writing


def read_all(reading):
    text = b""
    while True:
        try:
            text += os.read(reading.fileno(), 65536)
        except BlockingIOError:
            return text.decode()


@pytest.mark.parametrize("kind", ("pipe", "socket"))
def test_e15_a_log_that_nobody_reads_stops_nothing(lab, kind):
    """Lines are dropped and counted, and whoever reads again is told how many."""
    weir = Weir(lab, weir_module.config(lab))
    reading, writing = make_channel(kind)
    with reading:
        with writing:
            weir.process = lab.lb.popen(weir_module.BINARY, "-c", weir.path, stdout=writing,
                                        stderr=writing)
        lab.weirs.append(weir)
        weir._wait_ready()
        weir.wait_all_up()
        for _ in range(100):
            weir.command("drain", service="web", backend="con1")
            weir.command("activate", service="web", backend="con1")
        lab.backend("con2").kill()
        weir.wait_health("con2", "down")
        dropped = weir.info()["log_dropped"]
        assert dropped > 50
        read_all(reading)
        dropped = weir.info()["log_dropped"]    # another backend may have had something to say
        weir.command("drain", service="web", backend="con1")
        weir.command("activate", service="web", backend="con1")
        said = read_all(reading)
        told = sum(int(count) for count in re.findall(r"(\d+) log lines were dropped", said))
        assert told == dropped == weir.info()["log_dropped"], said
        assert "by hand: service web: con1" in said
        assert weir.stop() == 0


def test_e15_closed_descriptors_are_nobody_elses(lab):
    """Without stdin, stdout and stderr the lock of the port holds its owner's name alone."""
    weir = Weir(lab, weir_module.config(lab))
    weir.process = lab.lb.popen("sh", "-c", f"exec {weir_module.BINARY} -c {weir.path} "
                                            "<&- >&- 2>&-")
    lab.weirs.append(weir)
    weir._wait_ready()
    weir.wait_all_up()
    for number in range(3):
        assert os.readlink(f"/proc/{weir.process.pid}/fd/{number}") == "/dev/null"
    locks = [open(path).read() for path in glob.glob("/run/weir/port-*.lock")]
    assert f"{weir.prefix} (pid {weir.process.pid})\n" in locks, locks
    assert weir.stop() == 0


def test_e15_too_few_descriptors_are_said(lab):
    """D15: one line, with the number that is needed; and so many are enough."""
    weir = Weir(lab, weir_module.config(lab))

    def limited(count):
        return lab.lb.popen("sh", "-c", f"ulimit -n {count}; "
                                        f"exec {weir_module.BINARY} -c {weir.path}",
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    process = limited(20)
    said = process.communicate(timeout=20 * PATIENCE)[0]
    assert process.returncode == 1 and len(error_lines(said)) == 1, said
    needed = re.search(r"no more than 20 files may be open, and (\d+) are needed: ulimit -n", said)
    assert needed, said
    assert traces(lab, weir.instance) == []
    weir.process = limited(needed.group(1))
    lab.weirs.append(weir)
    weir._wait_ready()
    weir.wait_all_up()
    assert weir.stop() == 0
