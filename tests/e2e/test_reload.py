# SPDX-License-Identifier: BSD-3-Clause
"""The file is the truth, and changing it is safe at any moment."""

import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

import traffic
import weir as weir_module
from lab import BIG_BYTES
from netns import PATIENCE
from weir import WeirFailed, dump, merged


# So that what is removed is gone soon after its last connection.
TIMEOUTS = {"time_wait_s": 1, "close_s": 1}


def usual(lab, **changes):
    return weir_module.config(lab, **merged({"timeouts": TIMEOUTS}, changes))


def backends_of(lab, *names, **changes):
    """The list of the named backends for a file; `changes`, by name, are laid over them."""
    return [merged({"address": lab.backend(name).endpoint, "name": name}, changes.get(name, {}))
            for name in names]


def with_backends(lab, *names, **changes):
    return usual(lab, services={"web": {"backends": backends_of(lab, *names, **changes)}})


def write(weir, config):
    """As an editor does: a new file in the place of the old."""
    text = config if isinstance(config, bytes) else \
        (config if isinstance(config, str) else dump(config)).encode()
    with open(weir.path + ".new", "wb") as file:
        file.write(text)
    os.rename(weir.path + ".new", weir.path)


def reload(weir, config=None, timeout=10):
    """Write the file, send SIGHUP and wait for the attempt's end; its error, "" when it
    succeeded."""
    if config is not None:
        write(weir, config)
    before = weir.log().count("reload: ")
    weir.process.send_signal(signal.SIGHUP)
    weir.wait(lambda: weir.log().count("reload: ") > before, timeout, "the reload's answer")
    with pytest.raises(WeirFailed):     # who answers this has written the last line of several
        weir.command("nothing")
    return weir.info()["reload_error"]


@pytest.fixture
def own(lab, start_weir):
    """A weir of the test's own, whose file may be changed."""
    return start_weir(timeouts=TIMEOUTS)


@pytest.mark.sanitized
def test_add_and_remove(lab, own):
    assert reload(own, with_backends(lab, "con1", "con2", "con3")) == ""
    assert "service web: - con4" in own.log()
    assert set(traffic.bodies(traffic.requests(lab.client, 200))) == {"con1", "con2", "con3"}
    own.wait(lambda: "con4" not in own.backends(), what="con4 gone")
    assert reload(own, with_backends(lab, "con1", "con2", "con3", "con4", con4={"weight": 2})) == ""
    assert "service web: + con4" in own.log() and "weight 2" in own.log()
    own.wait_all_up()
    assert set(traffic.bodies(traffic.requests(lab.client, 200))) == \
        {"con1", "con2", "con3", "con4"}


def test_unchanged(lab, own):
    assert reload(own) == ""
    assert "reload: nothing changed" in own.log()
    assert own.info()["reloads"] == 1 and own.info()["reloads_failed"] == 0


def test_what_stays_is_carried_over(lab, own):
    """Health, counters and flows of a backend that is renamed and weighted anew."""
    traffic.requests(lab.client, 100)
    lab.backend("con2").kill()
    own.wait_health("con2", "down")
    with lab.client.entered():
        connection = traffic.connect()
    name = traffic.ask(connection)
    before = own.backends()
    config = with_backends(lab, "con1", "con2", "con3", "con4",
                           **{one: {"name": one + "x", "weight": 3}
                              for one in ("con1", "con2", "con3", "con4")})
    assert reload(own, config) == ""
    after = own.backends()
    assert after["con2x"]["health"] == "down" and after["con1x"]["health"] == "up"
    for one in before:
        assert after[one + "x"]["connections"] == before[one]["connections"]
        assert after[one + "x"]["weight"] == 3
    assert traffic.ask(connection) == name
    connection.close()


@pytest.mark.sanitized
def test_services_come_and_go(lab, own):
    config = usual(lab)
    config["services"]["api"] = merged(config["services"]["web"], {"listen": ":81"})
    assert reload(own, config) == ""
    own.wait_all_up()
    with lab.client.entered():
        assert traffic.get(port=81) in own.backends("api")
        connection = traffic.connect(port=81)
    traffic.ask(connection)
    assert reload(own, usual(lab)) == ""
    with lab.client.entered(), pytest.raises(ConnectionRefusedError):
        # The port is the kernel's again, where nobody listens.
        traffic.connect(port=81)
    assert [service["name"] for service in own.services()] == ["web"]
    assert traffic.ask(connection)      # its flow lives on
    connection.close()
    own.wait(lambda: all(backend["service"] == "web"
                         for backend in own.telemetry.pages("/weir/backends")), what="api gone")


@pytest.mark.ci
def test_drain_lets_a_download_finish(lab, own):
    """Removed from the file, or drained in it: old connections live to their end, none is added."""
    lab.big_file()
    for change in ("state", "remove"):
        with lab.client.entered():
            connection = traffic.connect(timeout=60)
        connection.sendall(b"GET /big HTTP/1.1\r\nHost: weir\r\n\r\n")
        head = connection.recv(1000)
        assert head.startswith(b"HTTP/1.1 200")
        name = max(own.backends().values(), key=lambda backend: backend["active"])["name"]
        others = {"con1", "con2", "con3", "con4"} - {name}
        if change == "state":
            config = with_backends(lab, "con1", "con2", "con3", "con4",
                                   **{name: {"state": "drain"}})
        else:
            config = with_backends(lab, *sorted(others))
        assert reload(own, config) == ""
        opened = own.backends()[name]["connections"]
        assert own.backends()[name]["state"] == ("drain" if change == "state" else "removed")
        assert set(traffic.bodies(traffic.requests(lab.client, 100))) == others
        digest = hashlib.sha256()
        header, body = head.split(b"\r\n\r\n", 1)
        digest.update(body)
        left = BIG_BYTES - len(body)
        while left > 0:
            data = connection.recv(1 << 20)
            assert data, "the download was cut"
            digest.update(data)
            left -= len(data)
        with open(lab.big_file(), "rb") as file:
            assert digest.hexdigest() == hashlib.sha256(file.read()).hexdigest()
        assert own.backends()[name]["connections"] == opened
        connection.close()
        if change == "remove":
            own.wait(lambda: name not in own.backends(), what="gone when its flows are")
        assert reload(own, usual(lab)) == ""
        own.wait_all_up()


RESTART = {
    "flows": {"flows": 32768},
    "cores": {"cores": {"idle_sleep_us": 51}},
    "port": {"port": {"mtu": 1400}},
    "address": {"port": {"address": ("192.0.2.10/24", "192.0.2.11/32")}},
    "snat": {"snat": {"ports": ("2000-3000",)}},
    "instance": {"instance": "other"},
}


@pytest.mark.parametrize("kind", RESTART)
def test_what_needs_a_restart_is_refused(lab, own, kind):
    """And with it the whole reload."""
    config = usual(lab, **RESTART[kind])
    config["services"]["web"]["backends"] = config["services"]["web"]["backends"][:1]
    before = own.backends().keys()
    assert reload(own, config) != ""
    assert "systemctl restart weir" in own.log().splitlines()[-1]
    assert own.backends().keys() == before
    assert reload(own, usual(lab)) == ""


def broken_files(lab):
    """D8: what a file can suffer from; each as bytes, or a function that puts it in place."""
    good = dump(usual(lab)).encode()
    web = usual(lab)["services"]["web"]
    twice = usual(lab)
    twice["services"]["web2"] = web

    def service(**changes):
        return dump(usual(lab, services={"web": changes})).encode()

    def backends(*entries):
        return service(backends=list(entries))

    first = web["backends"][0]
    yield from (good[:len(good) * part // 20] for part in range(1, 20))     # half-written
    yield b""
    yield good + b"\0"
    yield good.replace(b"web", b"w\0b")
    yield good + b"{{{{"
    yield good + b"services = {};"
    yield b"(" * 10000
    yield good + b'@include "' + lab.directory.encode() + b'/none.inc"\n'
    yield service(listen=":4294967376")
    yield good.replace(b'":80"', b'":0"')
    yield good.replace(b'":80"', b"80")
    yield good.replace(b"65536", b"4294967376")
    yield good + b"unknown = 1;"
    yield service(schedular="maglev")
    yield service(scheduler="fastest")
    yield service(scheduler=3)
    yield service(on_all_down="maybe")
    yield service(health={"type": "icmp"})
    yield service(health={"interval_ms": 0})
    yield service(health={"timeout_ms": 1000, "interval_ms": 500})
    yield dump(twice).encode()
    yield backends()
    yield backends(merged(first, {"weight": 0}))
    yield backends(merged(first, {"weight": 257}))
    yield backends(merged(first, {"weight": -1}))
    yield backends(merged(first, {"state": "gone"}))
    yield backends(first, first)
    yield backends(first, merged(first, {"address": "192.0.2.21:99"}))
    yield backends("192.0.2.10:8080")
    yield backends("192.0.2.21")
    yield backends("192.0.2.300:80")
    yield backends("[2001:db8::21]:80", first)


def put_fifo(path):
    os.mkfifo(path)


def put_directory(path):
    os.mkdir(path)


def put_huge(path):
    with open(path, "wb") as file:
        file.truncate(100 << 20)


def put_nothing(path):
    pass


def remove(path):
    if os.path.isdir(path):
        os.rmdir(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def test_broken_files(lab, own):
    """D8: 50 broken files, 50 refusals, nothing changed, no request lost."""
    broken = list(broken_files(lab)) + [put_fifo, put_directory, put_huge, put_nothing]
    assert len(broken) >= 50
    before = {name: {key: backend[key] for key in ("address", "weight", "state", "health")}
              for name, backend in own.backends().items()}
    with traffic.Stream(lab.client, threads=4, rate=200) as stream:
        for number, text in enumerate(broken):
            if callable(text):
                remove(own.path)
                text(own.path)
                error = reload(own)
                remove(own.path)
            else:
                error = reload(own, text)
            assert error != "", f"broken file {number} was taken: {text[-300:]}"
            assert own.path.encode()[:20] in error.encode() or "weir" in error
    assert own.info()["reloads_failed"] == len(broken)
    assert traffic.errors(stream.results) == [] and len(stream.results) > 100
    after = {name: {key: backend[key] for key in ("address", "weight", "state", "health")}
             for name, backend in own.backends().items()}
    assert after == before
    assert reload(own, usual(lab)) == ""
    assert own.info()["reload_error"] == ""


def reloads_under_wrk(lab, weir, seconds, close):
    """D7: a reload a second, adding and removing con4 by turns, with broken files in between; no
    request fails but those that con4's removal may touch, which is none either."""
    result = {}

    def work():
        result["wrk"] = traffic.wrk(lab.client, connections=32, seconds=seconds + 1, close=close)

    # Cut within the services: what is cut behind them leaves a good file.
    whole = dump(with_backends(lab, "con1"))
    before = weir.drops()
    thread = threading.Thread(target=work)
    thread.start()
    end, refused, done = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        started = time.monotonic()
        names = ("con1", "con2", "con3") if done % 2 == 0 else ("con1", "con2", "con3", "con4")
        assert reload(weir, with_backends(lab, *names)) == ""
        done += 1
        refused += reload(weir, whole[:whole.index("timeouts = ") - 5 - done]) != ""
        time.sleep(max(0, 1 - (time.monotonic() - started)))
    thread.join()
    requests, failures = result["wrk"]
    # As in test_balance.py, wrk takes the FIN after a whole response for a read error now and then.
    assert not failures or close and "connect 0" in failures and "timeout 0" in failures, failures
    assert requests > 1000
    assert refused == done
    after = weir.drops()
    lost = {key: after[key] - before[key] for key in after
            if key in ("no_neighbour", "no_buffer", "tx_full", "no_backend", "stray_backend")}
    assert not any(lost.values()), lost
    weir.identity()


@pytest.mark.sanitized
@pytest.mark.parametrize("close", [False, True], ids=["keep-alive", "closed"])
def test_reloads_under_load(lab, own, close):
    reloads_under_wrk(lab, own, 6, close)


@pytest.mark.full
@pytest.mark.parametrize("close", [False, True], ids=["keep-alive", "closed"])
def test_reload_every_second_for_a_minute(lab, own, close):
    reloads_under_wrk(lab, own, 60, close)


# the control socket

WEIRCTL = os.path.join(weir_module.ROOT, "scripts/weirctl")


def weirctl(weir, *arguments):
    """The exit code and what it said."""
    done = subprocess.run([WEIRCTL, "--instance", weir.instance, *arguments], text=True,
                          capture_output=True, timeout=30 * PATIENCE)
    return done.returncode, done.stdout + done.stderr


def test_drain_and_activate_by_hand(lab, own):
    code, said = weirctl(own, "drain", "web", "con2")
    assert code == 0 and "con2: active -> drain (until the next reload)" in said
    con2 = own.backends()["con2"]
    assert (con2["state"], con2["temporary"]) == ("drain", "state")
    assert set(traffic.bodies(traffic.requests(lab.client, 200))) == {"con1", "con3", "con4"}
    code, said = weirctl(own, "activate", "web", "con2")
    assert code == 0 and "drain -> active (as in the file)" in said
    assert own.backends()["con2"]["temporary"] == ""
    assert "con2" in traffic.bodies(traffic.requests(lab.client, 200))


def test_weight_by_hand_until_the_next_reload(lab, own):
    """A reload restores what the file says, and says so line by line."""
    for name in ("con1", "con3"):
        code, said = weirctl(own, "weight", "web", name, "0")
        assert code == 0 and "weight 1 -> 0 (until the next reload)" in said
    con1 = own.backends()["con1"]
    assert (con1["weight"], con1["temporary"]) == (0, "weight")
    assert set(traffic.bodies(traffic.requests(lab.client, 200))) == {"con2", "con4"}
    with open(own.path) as file:
        assert file.read() == dump(usual(lab))  # never written
    assert weirctl(own, "drain", "web", "con3")[0] == 0
    taken_back = ["service web: con1: weight 0 -> 1 (as in the file)",
                  "service web: con3: drain -> active, weight 0 -> 1 (as in the file)"]
    assert weirctl(own, "reload") == (0, "\n".join(taken_back) + "\n")
    assert all(f"reload: {line}" in own.log() for line in taken_back)
    assert weirctl(own, "reload") == (0, "nothing changed\n")
    assert all((backend["weight"], backend["temporary"]) == (1, "")
               for backend in own.backends().values())
    assert len(traffic.bodies(traffic.requests(lab.client, 200))) == 4


def test_nobody_at_the_socket(own):
    """Another instance, or none: it says which there are."""
    own.instance, instance = f"{own.instance}-other", own.instance
    for arguments in (["reload"], ["stop", "--forget"]):
        code, said = weirctl(own, *arguments)
        assert code == 2 and f"no weir runs at /run/weir/{own.instance}/control.sock" in said
        assert f"weirctl -i {instance}" in said and "Errno" not in said
        assert ("weir --forget" in said) == ("--forget" in arguments)
    own.instance = instance
    assert own.stop() == 0
    code, said = weirctl(own, "reload")
    assert code == 2 and f"-i {instance}" not in said


def test_a_name_that_is_not_there(own):
    code, said = weirctl(own, "drain", "web", "con5")
    assert code == 1 and 'no backend "con5"; it has con1, con2, con3, con4' in said


def test_disabled_is_not_probed(lab, own):
    assert reload(own, with_backends(lab, "con1", "con2", "con3", "con4",
                                     con1={"state": "disabled"})) == ""
    con1 = own.backends()["con1"]
    assert (con1["state"], con1["health"], con1["reason"]) == ("disabled", "unknown", "disabled")
    assert set(traffic.bodies(traffic.requests(lab.client, 200))) == {"con2", "con3", "con4"}
    assert weirctl(own, "activate", "web", "con1")[0] == 0
    own.wait_health("con1", "up")
    assert "con1" in traffic.bodies(traffic.requests(lab.client, 200))
    assert weirctl(own, "reload")[0] == 0
    assert own.backends()["con1"]["health"] == "unknown"


def test_reload_by_weirctl_says_what_changed(lab, own):
    write(own, with_backends(lab, "con1", "con2", "con3", con1={"weight": 2}))
    code, said = weirctl(own, "reload")
    assert code == 0 and said == f"service web: con1: weight 1 -> 2; - con4 " \
        f"{lab.backend('con4').endpoint}\n"
    write(own, "services = 5;")
    code, said = weirctl(own, "reload")
    assert code == 1 and f"{own.path}:1: services" in said


@pytest.mark.sanitized
@pytest.mark.parametrize("request_line, answer", [
    (b"{", "near end of file"),
    (b"[]", "expected an object"),
    (b"5", ""),
    (b"{}", "version"),
    (b'{"version": 2, "command": "reload"}', "version"),
    (b'{"version": 1, "command": "explode"}', "unknown command"),
    (b'{"version": 1, "command": "drain"}', "needed"),
    (b'{"version": 1, "command": "drain", "service": "web", "backend": 5}', "needed"),
    (b'{"version": 1, "command": "drain", "service": "no", "backend": "con1"}', "no service"),
    (b'{"version": 1, "command": "drain", "service": "web", "backend": "no"}', "no backend"),
    (b'{"version": 1, "command": "weight", "service": "web", "backend": "con1"}', "weight"),
    (b'{"version": 1, "command": "weight", "service": "web", "backend": "con1", "weight": 257}',
     "0 to 256"),
    (b'{"version": 1, "command": "weight", "service": "web", "backend": "con1", "weight": -1}',
     "0 to 256"),
    (b"x" * 5000, "too long"),
    (b"\xff\xfe\0", ""),
])
def test_wrong_requests(lab, weir, request_line, answer):
    path = f"/run/weir/{weir.instance}/control.sock"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10 * PATIENCE)
        connection.connect(path)
        connection.sendall(request_line + b"\n")
        said = json.loads(connection.makefile().readline())
    assert said["version"] == 1 and said["ok"] is False and answer in said["error"]


@pytest.mark.sanitized
def test_control_socket_is_bounded(lab, weir):
    """Root's only; a line without end, 40 idle clients and a queue of requests harm nobody."""
    path = f"/run/weir/{weir.instance}/control.sock"
    assert os.stat(path).st_mode & 0o777 == 0o600
    idle = []
    for _ in range(40):
        idle.append(socket.socket(socket.AF_UNIX))
        idle[-1].connect(path)
    for connection in idle:
        connection.close()
    with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
        connection.connect(path)
        connection.sendall(b"x" * 1000000)
        assert b"too long" in connection.recv(100)
    weir.wait(lambda: weirctl(weir, "reload")[0] == 0, what="room for a client")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10 * PATIENCE)
        connection.connect(path)
        line = (b'{"version": 1, "command": "weight", "service": "web", "backend": "con1", '
                b'"weight": 1}\n')
        connection.sendall(line * 50)
        answers = connection.makefile()
        for _ in range(50):
            assert json.loads(answers.readline())["ok"]
