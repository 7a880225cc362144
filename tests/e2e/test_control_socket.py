# SPDX-License-Identifier: BSD-3-Clause
"""The control socket as other programs use it: whoever asks is answered, and bounded (E19)."""

import contextlib
import json
import socket
import threading

import pytest

from netns import PATIENCE

PLACES = 16                             # clients that are served at a time
MOST_TAKEN = 4 << 20                    # bytes of requests; the kernel's buffers hold a tenth


@contextlib.contextmanager
def client_of(weir):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20 * PATIENCE)
        connection.connect(f"/run/weir/{weir.instance}/control.sock")
        yield connection


def request(command, **arguments):
    return json.dumps({"version": 1, "command": command, **arguments}).encode()


def said_by(weir, data):
    """What is answered to one that says all that and then closes its side, as `socat -` does."""
    with client_of(weir) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return [json.loads(line) for line in connection.makefile()]


WEIGHT = request("weight", service="web", backend="con1", weight=1)


@pytest.mark.parametrize("data, oks", [
    (request("pid") + b"\n", [True]),
    (request("pid"), [True]),                           # no newline at its end
    (WEIGHT + b"\n", [True]),                           # answered when it is published
    (request("reload"), [True]),                        # and when the file is read
    (request("pid") + b"\n" + request("reload") + b"\n" + WEIGHT, [True, True, True]),
    (request("pid")[:-1], [False]),                     # a request that broke off does nothing
    (b"x" * 1000000 + b"\n" + request("pid"), [False, True]),
    (b"x" * 1000000, [False]),                          # a line without end
    (b"", []),
], ids=["line", "no newline", "published", "reload", "several", "broken off", "too long", "endless",
        "nothing"])
def test_e19_a_client_that_closes_its_side(lab, weir, data, oks):
    """All that it asked for is answered, in order, and then its connection ends."""
    assert [answer["ok"] for answer in said_by(weir, data)] == oks


def test_e19_more_clients_than_places(lab, weir):
    """Some hold their places without use: those that come get theirs, and an answer."""
    with contextlib.ExitStack() as held:
        for _ in range(PLACES + 4):
            held.enter_context(client_of(weir))
        assert [answer["ok"] for answer in said_by(weir, request("reload"))] == [True]
    answers = []
    askers = [threading.Thread(target=lambda: answers.extend(said_by(weir, request("reload"))))
              for _ in range(3 * PLACES)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert [answer["ok"] for answer in answers] == [True] * len(askers)


def test_e19_one_that_asks_and_never_reads(lab, weir):
    """Nothing more is read of it until it takes its answers; then it has them all, and others are
    served meanwhile."""
    lines = (request("pid") + b"\n") * 1000
    taken = 0
    with client_of(weir) as connection:
        connection.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while taken < MOST_TAKEN:
                taken += connection.send(lines[taken % len(lines):])
        assert taken < MOST_TAKEN
        assert [answer["ok"] for answer in said_by(weir, request("pid"))] == [True]
        connection.settimeout(20 * PATIENCE)
        answers = connection.makefile()
        for _ in range(taken // (len(lines) // 1000)):
            assert json.loads(answers.readline())["pid"] == weir.process.pid
