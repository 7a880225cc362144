# SPDX-License-Identifier: BSD-3-Clause
"""Starts, ends and restarts; what can't start says why in one line."""

import os
import re
import signal
import subprocess
import time

import pytest

import lab as lab_module
import netns
import traffic
import weir as weir_module
from lab import Lab
from netns import PATIENCE
from test_config import GOOD
from weir import Telemetry, Weir, WeirFailed

NAMES = {"con1", "con2", "con3", "con4"}


def traces(lab, instance):
    """What a weir may have left on the machine."""
    prefix = f"weir-{instance}" if instance else "weir"
    found = []
    if prefix in netns.names():
        found.append(f"namespace {prefix}")
    for namespace in (lab.lb,):
        if "weir0" in namespace.run("ip", "link").stdout:
            found.append("weir0")
        if namespace.run("nft", "list", "ruleset").stdout:
            found.append("an nft table")
        if "xdp" in namespace.run("ip", "link", "show", lab_module.PORT).stdout:
            found.append("an XDP program")
    for folder, pattern in (("/dev/hugepages", rf"{prefix}(map_\d+|-.*|\..*)?"),
                            ("/dev/shm", rf"{prefix}\..*"), ("/dev/shm/weir", rf"{prefix}\..*"),
                            ("/run/weir", rf".*{instance}.*")):
        if os.path.isdir(folder):
            found += [f"{folder}/{entry}" for entry in os.listdir(folder)
                      if re.fullmatch(pattern, entry)]
    socket_path = f"/var/run/dpdk/{prefix}/dpdk_telemetry.v2"
    if os.path.exists(socket_path):
        found.append(socket_path)
    return found


def command_to_give_back(weir):
    """What the log says at the end of a weir that leaves its interface mute."""
    said = re.search(rf"{lab_module.PORT} stays mute for the next start; to give it back: (.*)",
                     weir.log()[weir.log().rindex("started in"):])
    return said and said.group(1)


@pytest.mark.parametrize("driver", ("af_xdp", "af_packet"))
@pytest.mark.parametrize("end", ("SIGTERM", "SIGINT", "stop --forget", "ended, then --forget"))
def test_clean_end(lab, start_weir, driver, end):
    """With flows.persist = false every end leaves nothing; with the default, one that forgets."""
    by_signal = end.startswith("SIG")
    weir = start_weir(driver=driver, flows={"size": 65536, "persist": not by_signal})
    assert len(traffic.bodies(traffic.requests(lab.client, 40))) == 4
    weir.identity()
    if by_signal:
        weir.process.send_signal(getattr(signal, end))
        assert weir.process.wait(15 * PATIENCE) == 0
        weir.kill()                     # only takes it off the lab's list
    elif end == "stop --forget":
        weirctl = os.path.join(weir_module.ROOT, "scripts/weirctl")
        done = subprocess.run([weirctl, "-i", weir.instance, "stop", "--forget"],
                              timeout=30 * PATIENCE, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
        assert weir.process.wait(15 * PATIENCE) == 0
        weir.kill()
    else:
        assert weir.stop(keep=True) == 0
        left = traces(lab, weir.instance)
        assert any("flows4" in trace for trace in left) and "an nft table" in left, left
        assert "weir0" in weir.netns.run("ip", "link").stdout
        assert command_to_give_back(weir) == f"weir -c {weir.path} --forget"
        weir.forget()
    assert (command_to_give_back(weir) is None) == (end != "ended, then --forget")
    assert traces(lab, weir.instance) == []
    with open(f"/proc/{os.getpid()}/mounts") as mounts:
        assert weir.netns.name not in mounts.read().split()


def test_end_under_load(lab, start_weir):
    weir = start_weir(workers=2)
    with traffic.Stream(lab.client, threads=4, timeout=1):
        time.sleep(1)
        weir.identity()
        started = time.monotonic()
        weir.process.send_signal(signal.SIGTERM)
        assert weir.process.wait(15 * PATIENCE) == 0
        assert time.monotonic() - started < 5 * PATIENCE
    weir.kill()
    weir.forget()
    assert traces(lab, weir.instance) == []


@pytest.mark.parametrize("driver", ("af_xdp", "af_packet", "tap"))
def test_restart_after_kill(lab, start_weir, driver):
    """D10 as far as new connections go: what a killed process left is no obstacle."""
    weir = start_weir(driver=driver)
    for _ in range(2):
        weir.kill()
        started = time.monotonic()
        weir.start()
        assert time.monotonic() - started < 10 * PATIENCE
        results = traffic.requests(lab.client, 100, timeout=8)
        assert traffic.errors(results) == [] and set(traffic.bodies(results)) == NAMES
    assert weir.stop() == 0
    assert traces(lab, weir.instance) == []


@pytest.mark.full
@pytest.mark.slow
def test_restart_twenty_times(lab, start_weir):
    weir = start_weir()
    for _ in range(20):
        weir.kill()
        weir.start()
        assert traffic.errors(traffic.requests(lab.client, 50, timeout=8)) == []


def refused(lab, config, queues=None):
    """Start what must not start: returns (exit code, log)."""
    weir = Weir(lab, config)
    if queues:
        lab.plug_port(queues)
    if os.path.exists(weir.log_path):
        os.unlink(weir.log_path)
    started = time.monotonic()
    with pytest.raises(WeirFailed) as failure:
        weir.start(wait_up=False)
    assert failure.value.returncode is not None, "it neither starts nor ends"
    assert failure.value.returncode > 0, f"ended by a signal: {failure.value}"
    assert time.monotonic() - started < 10 * PATIENCE
    return failure.value.returncode, weir.log()


def error_lines(log):
    """Weir's own lines; DPDK's begin otherwise ("EAL: ...")."""
    return [line for line in log.split("\n")
            if re.search(r"\berror\b", line) and not re.match(r"[A-Z_]+: |lib", line)]


@pytest.mark.parametrize("what, changes, says", (
    ("core", {"cores": {"workers": (999,)}}, "999"),
    ("device", {"port": {"device": "nosuch0"}}, "nosuch0"),
    ("pci", {"port": {"device": "0000:ff:1f.7", "driver": None}}, "0000:ff:1f.7"),
    ("memory", {"port": {"eal": ("-m", "9000000")}}, ""),
), ids=lambda value: value if isinstance(value, str) else "")
def test_start_failure(lab, what, changes, says):
    """D15: one line that names the cause, a non-zero exit, nothing left."""
    instance = lab.name
    code, log = refused(lab, weir_module.config(lab, **changes))
    lines = error_lines(log)
    assert len(lines) == 1 and says in lines[0], log
    assert traces(lab, instance) == []


def test_fewer_queues_than_workers(lab):
    """The line says what the device offers."""
    _, log = refused(lab, weir_module.config(lab, workers=2), queues=1)
    lines = error_lines(log)
    assert len(lines) == 1 and "1 rx queue" in lines[0] and "cores.workers" in lines[0], log
    assert traces(lab, lab.name) == []


def test_start_without_permission(lab, tmp_path):
    """D15."""
    weir = Weir(lab, weir_module.config(lab))
    path = "/tmp/weir-e2e-%d.conf" % os.getpid()
    with open(path, "w") as file, open(weir.path) as source:
        file.write(source.read())
    try:
        done = lab.lb.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--",
                          weir_module.BINARY, "-c", path, check=False, timeout=20)
    finally:
        os.unlink(path)
    if "setpriv: failed to execute" in done.stderr:
        pytest.skip("the build is not readable for others")
    assert done.returncode > 0
    assert len(error_lines(done.stderr)) == 1, done.stderr
    assert traces(lab, weir.instance) == []


def test_unreadable_file(lab):
    done = lab.lb.run(weir_module.BINARY, "-c", "/nonexistent/weir.conf", check=False)
    assert done.returncode > 0 and "/nonexistent/weir.conf" in done.stderr


def test_bad_file_starts_nothing(lab):
    """D8: never half-started."""
    _, log = refused(lab, weir_module.dump(weir_module.config(lab)).replace("listen", "lisen"))
    assert "lisen" in log
    assert traces(lab, lab.name) == []


@pytest.mark.parametrize("instance", ("same", "second"))
def test_second_instance(lab, start_weir, instance):
    """D11: the port is taken; the first goes on as if nothing had been."""
    first = start_weir()
    config = weir_module.config(lab)
    if instance == "second":
        config["instance"] += "second"
    second = Weir(lab, config)
    second.log_path += ".second"
    with traffic.Stream(lab.client, threads=2, rate=100) as stream:
        with open(second.log_path, "w") as log:
            process = lab.lb.popen(weir_module.BINARY, "-c", second.path, stdout=log, stderr=log)
        try:
            code = process.wait(15 * PATIENCE)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        time.sleep(1.5)
    assert code > 0
    assert len(error_lines(second.log())) == 1, second.log()
    assert first.running() and first.info()["pid"] == first.process.pid
    assert set(first.health().values()) == {"up"}
    assert traffic.errors(stream.results) == []
    assert "weir0" in first.netns.run("ip", "link").stdout
    assert first.lab.lb.run("nft", "list", "ruleset").stdout != ""
    if instance == "second":
        assert second.netns.name not in netns.names()


def test_two_instances(lab):
    """Two ports on one machine: each has its own prefix, namespace and telemetry."""
    with Lab() as other:
        pair = [Weir(one, weir_module.config(one)).start() for one in (lab, other)]
        for weir in pair:
            assert len(traffic.bodies(traffic.requests(weir.lab.client, 60))) == 4
            assert weir.info()["instance"] == weir.prefix
            weir.identity()
        for weir in pair:
            assert weir.stop() == 0


def test_the_whole_file_of_the_readme(start_weir):
    """The shortest file serves with all its defaults; only the device is the lab's."""
    if Telemetry("weir").alive() or "weir" in netns.names():
        pytest.skip("a weir without an instance name runs on this machine")
    if not weir_module.hugepages_available():
        pytest.skip("the default wants hugepages")
    with Lab(routed=True) as lab:
        weir = Weir(lab, GOOD.replace("0000:03:00.0", lab_module.PORT)).start()
        try:
            results = traffic.requests(lab.client, 200)
            assert traffic.errors(results) == [] and set(traffic.bodies(results)) == NAMES
            info = weir.info()
            assert (info["netns"], info["workers"], info["driver"]) == ("weir", 1, "net_af_xdp")
            assert weir.services()[0]["scheduler"] == "maglev"
            said = subprocess.run(["dpdk-telemetry.py", "-f", "weir"], input="/weir/info\nquit\n",
                                  stdout=subprocess.PIPE, text=True,
                                  timeout=20 * PATIENCE)
            assert '"instance"' in said.stdout
            assert weir.stop() == 0
        finally:
            weir.kill()
            weir.netns.delete()


def test_log_lines(lab, start_weir):
    """A change of health is one line with name, address and cause."""
    weir = start_weir()
    lab.backend("con1").kill()
    weir.wait_health("con1", "down")
    lab.backend("con1").start()
    weir.wait_health("con1", "up")
    lines = [line for line in weir.log().split("\n") if "con1" in line and "down" in line]
    assert len(lines) == 1 and lab.backend("con1").endpoint in lines[0], lines
    assert "refused" in lines[0]


def thread_seconds(pid, thread):
    """CPU time that a thread has used."""
    with open(f"/proc/{pid}/task/{thread}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_idle_is_cheap(lab, start_weir):
    """Without traffic the control core sleeps between events and the worker between looks."""
    weir = start_weir()
    pid = weir.process.pid
    time.sleep(0.5)
    threads = {int(name): thread_seconds(pid, name) for name in os.listdir(f"/proc/{pid}/task")}
    time.sleep(3)
    used = {thread: thread_seconds(pid, thread) - before for thread, before in threads.items()}
    assert used[pid] < 0.3 * PATIENCE, used     # the main thread is the control core
    assert sum(used.values()) < 1.8 * PATIENCE, used
