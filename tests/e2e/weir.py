# SPDX-License-Identifier: BSD-3-Clause
"""The daemon under test: its configuration, life and telemetry."""

import contextlib
import copy
import json
import os
import re
import select
import signal
import socket
import subprocess
import time

import lab as lab_module
from netns import PATIENCE, Namespace

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.path.join(os.environ.get("WEIR_BUILD", os.path.join(ROOT, "build")), "app/weir")
DRIVERS = ("af_xdp", "af_packet", "tap")
HEALTH = {"type": "http", "path": "/health"}
EMULATED_HEALTH = {"interval_ms": 2000, "timeout_ms": 1500}      # it is many times slower
HUGEPAGE_BYTES = 512 << 20              # what one weir of the lab needs at most


class WeirFailed(Exception):
    """The daemon ended, or did not get ready; the text is the end of its log."""

    def __init__(self, text, returncode=None):
        super().__init__(text)
        self.returncode = returncode


def hugepages_available():
    """Whether enough hugepages are free and a hugetlbfs is mounted; WEIR_HUGEPAGES overrides."""
    if "WEIR_HUGEPAGES" in os.environ:
        return os.environ["WEIR_HUGEPAGES"] == "1"
    with open("/proc/mounts") as mounts:
        if not any(line.split()[2] == "hugetlbfs" for line in mounts):
            return False
    with open("/proc/meminfo") as file:
        info = dict(line.split(":", 1) for line in file)
    free = int(info["HugePages_Free"]) * int(info["Hugepagesize"].split()[0]) << 10
    return free >= HUGEPAGE_BYTES


def worker_cpus(workers):
    """CPUs of the workers, the control core's last of all."""
    cpus = sorted(os.sched_getaffinity(0), reverse=True)
    return tuple(cpus[index % len(cpus)] for index in range(workers))


# libconfig's syntax: dict = group, list = list, tuple = array

def dump_value(value, indent=""):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, dict):
        inner = indent + "  "
        return "{\n" + "".join(f"{inner}{key} = {dump_value(item, inner)};\n"
                               for key, item in value.items()) + indent + "}"
    opening, closing = ("[", "]") if isinstance(value, tuple) else ("(", ")")
    inner = indent + "  "
    return (opening + "\n" + ",\n".join(inner + dump_value(item, inner) for item in value)
            + "\n" + indent + closing)


def dump(config):
    return "".join(f"{key} = {dump_value(value)};\n" for key, value in config.items())


def merged(base, changes):
    """`base` with `changes` laid over it, group by group; None removes a key."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result


def config(lab, driver="af_xdp", workers=1, **changes):
    """The lab's usual file as a dict: one service "web" on port 80 over the lab's backends."""
    if lab.nic:
        port = {"device": lab.nic}
    elif driver == "tap":
        port = {"device": f"net_tap0,iface=tap0,mac={lab_module.PORT_MAC}"}
    else:
        port = {"device": lab_module.PORT, "driver": driver}
    port["address"] = f"{lab_module.VIP}/24"
    port["hugepages"] = hugepages_available()
    if lab.routed:
        port["gateway"] = lab_module.GATEWAYS[0]
    cores = {"control": min(os.sched_getaffinity(0)), "workers": worker_cpus(workers)}
    if lab.nic:                         # polling is dear there, and so is a timer
        cores["idle_sleep_us"] = 1000
    base = {
        "instance": lab.name,
        "flows": 65536,
        "port": port,
        "cores": cores,
        "services": {
            "web": {
                "listen": ":80",
                "health": merged(HEALTH, EMULATED_HEALTH) if lab.nic else HEALTH,
                "backends": [{"address": backend.endpoint, "name": backend.name}
                             for backend in lab.backends],
            },
        },
    }
    return merged(base, changes)


class Telemetry:
    """Client of DPDK's telemetry socket; one connection a query, so it survives restarts."""

    def __init__(self, prefix):
        self.path = f"/var/run/dpdk/{prefix}/dpdk_telemetry.v2"

    def query(self, command):
        """The reply to "/weir/backends,web" without its outer key."""
        deadline = time.monotonic() + 5 * PATIENCE
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
                connection.settimeout(5 * PATIENCE)
                try:
                    connection.connect(self.path)
                    greeting = connection.recv(1024)
                except BlockingIOError:             # its backlog is one connection
                    greeting = b""
                if greeting:                        # empty: ten clients are there already
                    connection.send(command.encode())
                    reply = json.loads(connection.recv(json.loads(greeting)["max_output_len"]))
                    return reply[command.split(",")[0]]
            if time.monotonic() > deadline:
                raise TimeoutError(f"telemetry is busy: {self.path}")
            time.sleep(0.01)

    def alive(self):
        """Whether anybody answers there."""
        with contextlib.suppress(OSError, TimeoutError):
            return bool(self.query("/"))
        return False

    def pages(self, command):
        """All objects of a paged list: each says how many there are and where the page after its
        own begins, 0 after the last. When the list has changed between two pages, from the
        start."""
        deadline = time.monotonic() + 20 * PATIENCE
        while True:
            objects = self._pages(command)
            if objects is not None:
                return objects
            assert time.monotonic() < deadline, f"{command}: the list changes all the time"

    def _pages(self, command):
        """None: the list has changed meanwhile."""
        objects = []
        while True:
            page = self.query(f"{command},{len(objects)}" if objects else command)
            if objects and (not page or page[0]["list"] != objects[0]["list"]):
                return None
            objects += page
            if not page or not page[-1]["next"]:
                break
            assert page[-1]["next"] == len(objects), f"{command}: a gap at {len(objects)}"
        assert not objects or len(objects) == objects[0]["total"], \
            f"{command}: {len(objects)} of {objects[0]['total']}"
        return objects


class Adopted:
    """A process that somebody else started, with what is used of subprocess.Popen. How it ends
    isn't to be learnt: 0 stands for that it did."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None
        self._fd = os.pidfd_open(pid)

    def poll(self):
        if self.returncode is None and select.select([self._fd], [], [], 0)[0]:
            self.returncode = 0
            os.close(self._fd)
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is None and not select.select([self._fd], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return self.poll()

    def send_signal(self, number):
        if self.poll() is None:
            signal.pidfd_send_signal(self._fd, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Weir:
    """One daemon of a lab. `config` is a dict as made by config(), or the text of a file."""

    def __init__(self, lab, config, arguments=(), environment=None, binary=None):
        self.lab, self.binary = lab, binary or BINARY
        text = config if isinstance(config, str) else dump(config)
        self.config = config
        named = re.search(r'^instance = "(.*)";$', text, re.M)
        self.instance = named.group(1) if named else ""
        self.prefix = f"weir-{self.instance}" if self.instance else "weir"
        self.arguments = list(arguments)
        self.environment = {**os.environ, **(environment or {})}
        self.path = f"{lab.directory}/{self.prefix}.conf"
        self.log_path = f"{lab.directory}/{self.prefix}.log"
        with open(self.path, "w") as file:
            file.write(text)
        self.tap = "net_tap" in text
        if not self.tap and isinstance(config, dict):
            lab.plug_port(len(config["cores"]["workers"]))
        elif not self.tap:
            lab.plug_port(1)
        self.netns = Namespace(self.prefix)
        self.telemetry = Telemetry(self.prefix)
        self.process = None

    # life

    def start(self, wait_up=True):
        """Start, and wait until telemetry answers and (wait_up) every backend is up."""
        if self.tap:                    # the tap's kernel end takes the port's MAC at first
            self.lab.plug_port(1, mac="02:57:65:69:72:0b")
        with open(self.log_path, "a") as log:
            self.process = self.lab.lb.popen(self.binary, "-c", self.path, *self.arguments,
                                             stdout=log, stderr=log, env=self.environment)
        self.lab.weirs.append(self)
        try:
            self._wait_ready()
            if self.tap:
                self._bridge_tap()
            if wait_up:
                self.wait_all_up()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait_ready(self, timeout=30):
        deadline = time.monotonic() + timeout * PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise WeirFailed(f"weir ended with exit code {self.process.returncode}:\n"
                                 + self.log()[-2000:], self.process.returncode)
            # DPDK opens the socket before weir has registered its commands: null until then.
            with contextlib.suppress(OSError, KeyError, ValueError, TypeError):
                if self.info()["pid"] == self.process.pid:
                    return
            time.sleep(0.02)
        raise WeirFailed(f"weir is not ready after {timeout} s:\n{self.log()[-2000:]}")

    def _bridge_tap(self):
        """Join the tap with the veth. A bridge keeps what is for the MAC of one of its ports, and
        DPDK gives the tap's kernel end the MAC of its own: so change that one."""
        self.lab.lb.sysctl(ipv6__conf__default__disable_ipv6=1)
        self.lab.lb.ip("link add tapbridge type bridge forward_delay 0 stp_state 0 "
                       "mcast_snooping 0",
                       f"link set {lab_module.PORT} master tapbridge", "link set tapbridge up")
        self.join_tap()

    def join_tap(self):
        """The tap, which each process makes anew."""
        self.lab.lb.ip("link set tap0 address 02:57:65:69:72:0c master tapbridge up")

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, keep=False):
        """End it and return the exit code; the packet accounting is checked before. What it would
        leave for its next start goes, too, unless `keep`: that is what SIGTERM does."""
        try:
            if self.running():
                self.identity()
                if not keep:
                    self.command("stop", forget=True)
        finally:
            code = self._end(signal.SIGTERM if keep else 0, 15)
        return code

    def command(self, command, **arguments):
        """A command to the control socket; the answer's lines. What fails raises."""
        path = f"/run/weir/{self.instance + '/' if self.instance else ''}control.sock"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(30 * PATIENCE)
            connection.connect(path)
            request = {"version": 1, "command": command, **arguments}
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile().readline())
        if not answer["ok"]:
            raise WeirFailed(f"{command}: {answer['error']}")
        return answer["changes"]

    def forget(self):
        """Remove what an ended one left for its next start."""
        self.lab.lb.run(BINARY, "--forget", "-c", self.path)

    def kill(self):
        """kill -9. Fine if it has ended already."""
        if self.process:
            self._end(signal.SIGKILL, 15)

    def _end(self, number, timeout):
        if self in self.lab.weirs:
            self.lab.weirs.remove(self)
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise WeirFailed(f"weir does not end within {timeout} s:\n{self.log()[-2000:]}")
        if self.tap:
            self.lab.lb.run("ip", "link", "delete", "tapbridge", check=False)
        return code

    def log(self):
        with open(self.log_path) as file:
            return file.read()

    def upgrade(self):
        """weirctl upgrade; from then on this is the successor, which is nobody's child here."""
        pid = self.process.pid
        done = subprocess.run([f"{ROOT}/scripts/weirctl", "-i", self.instance, "upgrade"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60 * PATIENCE)
        if done.returncode != 0:
            raise WeirFailed(done.stdout)
        self.follow(int(re.search(r"pid (\d+)", done.stdout).group(1)))
        assert self.process.pid != pid

    def follow(self, pid):
        """From now on this is the successor with that pid; the process before it ends."""
        before, self.process = self.process, Adopted(pid)
        assert before.wait(10 * PATIENCE) == 0
        if self.tap:
            self.join_tap()
        self._wait_ready()

    # telemetry

    def info(self):
        return self.telemetry.query("/weir/info")

    def services(self):
        return self.telemetry.pages("/weir/services")

    def backends(self, service="web"):
        """All backends of a service by name."""
        found = self.telemetry.pages(f"/weir/backends,{service}")
        by_name = {backend["name"]: backend for backend in found}
        assert len(by_name) == len(found), "a backend appears twice"
        return by_name

    def workers(self):
        return self.telemetry.query("/weir/workers")

    def drops(self, worker=None):
        suffix = "" if worker is None else f",{worker}"
        return self.telemetry.query("/weir/drops" + suffix)

    def flows(self):
        return self.telemetry.query("/weir/flows")

    def health(self, service="web"):
        return {name: backend["health"] for name, backend in self.backends(service).items()}

    def wait(self, condition, timeout=10, what="condition"):
        """Poll until condition() is true and the workers know what the control core does; returns
        the monotonic time of then."""
        deadline = time.monotonic() + timeout * PATIENCE
        while not condition():
            if not self.running():
                raise WeirFailed(f"weir died while waiting for {what}:\n{self.log()[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {timeout} s; {self.health()}\n"
                                   + self.log()[-1500:])
            time.sleep(0.02)
        self.wait_published()
        return time.monotonic()

    def wait_published(self):
        """Until the workers have all that changed before. Where something changes on and on, or
        weir is about to end, that is never: so it fails for nobody."""
        deadline = time.monotonic() + 2 * PATIENCE
        with contextlib.suppress(OSError, KeyError, ValueError, TypeError):
            while self.info()["published"] == 0 and time.monotonic() < deadline:
                time.sleep(0.002)

    def wait_all_up(self, timeout=15):
        self.wait(lambda: all(service["backends_up"] == service["backends"]
                              for service in self.services()), timeout, "all backends up")

    def wait_health(self, name, health, timeout=10, service="web"):
        """Returns the monotonic time from which on the workers know it too."""
        return self.wait(lambda: self.backends(service)[name]["health"] == health, timeout,
                         f"{name} {health}")

    def wait_in_use(self, names, timeout=10, service="web"):
        """Until the workers give new connections to these, and to no others."""
        self.wait(lambda: {name for name, backend in self.backends(service).items()
                           if backend["in_use"]} == set(names), timeout, f"{names} in use alone")

    def identity(self):
        """Every received packet is accounted for, per worker and in the sum."""
        for worker in [None, *range(len(self.workers()))]:
            counts = self.drops(worker)
            reasons = sum(value for key, value in counts.items() if key not in
                          ("received", "forwarded", "answered", "punted", "dropped", "generated",
                           "from_kernel", "worker"))
            outcomes = counts["forwarded"] + counts["answered"] + counts["punted"] + reasons
            assert counts["received"] == outcomes, f"packets are lost from the books: {counts}"
            assert counts["dropped"] == reasons, f"drop reasons do not add up: {counts}"
