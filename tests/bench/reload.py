# SPDX-License-Identifier: BSD-3-Clause
"""A configuration of 1,000 services with 100 backends each: how long weir takes to load it, and to
read it again after changes of several sizes; how long the workers' longest loop was meanwhile, and
how late the probes.

The backends are 100 addresses on a host of the lab, each with a port of its own for each service: a
hundred thousand. What is probed is one port of each address, so that 200 probes a second go out,
and when each should is known."""

import contextlib
import json
import os
import socket
import statistics
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

import rigs                         # noqa: E402
import wrk                          # noqa: E402
import weir as weir_module          # noqa: E402
from capture import Capture         # noqa: E402
from figures import Figure, Table   # noqa: E402
from lab import Lab, VIP            # noqa: E402

SERVICES, BACKENDS = 1000, 100
PROBED_PORT, INTERVAL_MS = 9000, 500
LOAD_LIMIT_S, ONE_LIMIT_MS, LOOP_LIMIT_US = 5, 100, 1000
LATE_LIMIT_MS = 50                  # what a backend's death may be found later by
ROUNDS = {"nothing": 3, "one": 6, "all": 2}
QUIET_SECONDS = 2
LOAD_SECONDS, LOAD_ROUNDS, P99_LIMIT = 4, 3, 2     # case D7


def addresses():
    return [f"198.18.1.{number + 1}" for number in range(BACKENDS)]


class Files:
    """The variants of the configuration, written beforehand: writing takes longer than
    reloading."""

    def __init__(self, lab, cpus):
        self.base = weir_module.config(lab, "af_xdp", 1,
                                       cores={"control": cpus[0], "workers": (cpus[1],)})
        self.base["port"]["address"] = (self.base["port"]["address"], "198.18.0.1/16")
        del self.base["services"]
        self.directory = lab.directory

    def text(self, weight=1, other=None):
        """`other`: {(service, backend): its line, or None to leave it out}."""
        parts = [weir_module.dump(self.base), "services = {\n"]
        for service in range(SERVICES):
            def line(address):
                return f'{{ address = "{address}:{10000 + service}"; weight = {weight}; }}'

            lines = [(other or {}).get((service, number), line(address))
                     for number, address in enumerate(addresses())]
            parts.append(f'service{service} = {{ listen = ":{1000 + service}";\n'
                         f'  health = {{ port = {PROBED_PORT}; interval_ms = {INTERVAL_MS}; }};\n'
                         '  backends = (\n    ' + ",\n    ".join(filter(None, lines)) + " );\n};\n")
        return "".join(parts) + "};\n"

    def write(self, name, text):
        path = f"{self.directory}/{name}.conf"
        with open(path, "w") as file:
            file.write(text)
        return path


class Listener:
    """Accepts the probes, in a thread within the host's namespace."""

    def __init__(self, namespace):
        self.socket, self.stop = None, False
        self.thread = threading.Thread(target=self._run, args=(namespace,), daemon=True)
        self.ready = threading.Event()

    def __enter__(self):
        self.thread.start()
        self.ready.wait(5)
        return self

    def _run(self, namespace):
        namespace.enter_thread()
        with socket.create_server(("0.0.0.0", PROBED_PORT), backlog=1024) as self.socket:
            self.ready.set()
            while not self.stop:
                with contextlib.suppress(OSError):
                    self.socket.accept()[0].close()

    def __exit__(self, *_):
        self.stop = True
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)


def ask_reload(weir):
    """Milliseconds until the answer, and the changes that it names."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(f"/run/weir/{weir.instance}/control.sock")
        start = time.monotonic()
        connection.sendall(b'{"version": 1, "command": "reload"}\n')
        answer = b""
        while not answer.endswith(b"\n"):
            more = connection.recv(65536)
            if not more:
                raise RuntimeError("the control socket was closed")
            answer += more
    took_ms = (time.monotonic() - start) * 1000
    answer = json.loads(answer)
    if not answer["ok"]:
        raise RuntimeError(f"the reload was refused: {answer}")
    return took_ms, answer["changes"]


class Phase:
    """What one kind of reload took, and when."""

    def __init__(self):
        self.took_ms, self.loop_us, self.windows = Figure(), 0, []

    @contextlib.contextmanager
    def measured(self, weir):
        weir.workers()                  # the longest loop counts from here
        start = time.time()
        yield
        self.windows.append((start, time.time()))
        self.loop_us = max([self.loop_us] + [worker["longest_loop_ns"] / 1000
                                             for worker in weir.workers()])


def late_ms(packets, windows, quiet):
    """How late the probes in the windows were, by the beat that each target had in the quiet
    time."""
    interval, beats, late = INTERVAL_MS / 1000, {}, []
    for packet in packets:
        beats.setdefault(packet.destination, []).append(packet.time)
    for times in beats.values():
        still = [moment for moment in times if quiet[0] <= moment < quiet[1]]
        if not still:
            continue
        offsets = [(moment - still[0] + interval / 2) % interval - interval / 2 for moment in still]
        beat = still[0] + statistics.median(offsets)
        for moment in times:
            if any(start <= moment < end + interval for start, end in windows):
                off = (moment - beat + interval / 4) % interval - interval / 4
                late.append(off * 1000)
    late.sort()
    return (late[len(late) * 99 // 100], late[-1]) if late else (0, 0)


def _measure(lab, cpus, phases):
    files = Files(lab, cpus)
    plain = files.text()
    last = (SERVICES - 1, BACKENDS - 1)
    variants = {name: files.write(name, text) for name, text in (
        ("plain", plain), ("weight", files.text(other={last: '{ address = "198.18.1.100:10999"; '
                                                             'weight = 7; }'})),
        ("less", files.text(other={last: None})), ("all", files.text(weight=2)))}
    weir = weir_module.Weir(lab, plain, environment={"WEIR_TEST_LOOPS": "1"})
    weir.instance, weir.prefix = lab.name, f"weir-{lab.name}"
    weir.netns, weir.telemetry = (weir_module.Namespace(weir.prefix),
                                  weir_module.Telemetry(weir.prefix))

    def reload(kind, variant):
        os.replace(files.write("next", open(variants[variant]).read()), weir.path)
        time.sleep(0.2)
        with phases[kind].measured(weir):
            took_ms, changes = ask_reload(weir)
        phases[kind].took_ms.add(took_ms)
        time.sleep(INTERVAL_MS / 1000)
        return changes

    expression = f"tcp dst port {PROBED_PORT} and tcp[tcpflags] == tcp-syn"
    with Capture(lab.hosts[0], expression=expression) as capture, Listener(lab.hosts[0]):
        start = time.monotonic()
        with rigs.on_cpus(*cpus):
            weir.start(wait_up=False)
        loaded_s = time.monotonic() - start
        try:
            weir.wait(lambda: all(service["backends_up"] == BACKENDS
                                  for service in weir.services()),
                      30, "backends up")
            up_s = time.monotonic() - start
            time.sleep(2)
            with phases["quiet"].measured(weir):
                time.sleep(QUIET_SECONDS)
            for _ in range(ROUNDS["nothing"]):
                reload("nothing", "plain")
            for round_ in range(ROUNDS["one"]):
                changes = reload("one", ("weight", "plain", "less", "plain")[round_ % 4])
                if len(changes) != 1:
                    raise RuntimeError(f"one change was to be seen, not {changes}")
            for round_ in range(ROUNDS["all"]):
                reload("all", ("all", "plain")[round_ % 2])
        finally:
            weir.stop()
    return loaded_s, up_s, capture.packets


def _under_load(lab, cpus):
    """Requests' p99 in us without reloads and with one a second, con4 in and out by turns."""
    config = weir_module.config(lab, "af_xdp", 1,
                                cores={"control": cpus[1], "workers": (cpus[1],)})
    less = dict(config, services={"web": dict(config["services"]["web"],
                                              backends=config["services"][
        "web"]["backends"][:3])})
    texts = [weir_module.dump(one) for one in (less, config)]
    weir = weir_module.Weir(lab, config)
    with rigs.on_cpus(*cpus):
        weir.start()
    over, done = threading.Event(), []

    def reloads():
        while not over.wait(1):
            with open(weir.path, "w") as file:
                file.write(texts[len(done) % 2])
            done.append(ask_reload(weir))

    def run(figure):
        said = wrk.run(lab.client, cpus[0], f"http://{VIP}/", LOAD_SECONDS)
        if said.errors:
            raise RuntimeError(f"requests failed during reloads: {said.errors}")
        figure.add(said.p99_us)

    still, busy = Figure(), Figure()
    try:
        for _ in range(LOAD_ROUNDS):
            run(still)
            over.clear()
            thread = threading.Thread(target=reloads)
            thread.start()
            try:
                run(busy)
            finally:
                over.set()
                thread.join()
    finally:
        weir.stop()
    return still, busy, len(done)


def reload(cpus, result):
    phases = {name: Phase() for name in ("quiet", *ROUNDS)}
    with rigs.on_cpus(cpus[0]), Lab() as lab:
        lab.hosts[0].ip(*(f"address add {address}/16 dev eth0" for address in addresses()))
        loaded_s, up_s, packets = _measure(lab, cpus, phases)
        still, busy, count = _under_load(lab, cpus)
    quiet = phases["quiet"].windows[0]
    figures = result["reload"] = {"load_s": loaded_s, "up_s": up_s}
    tables = [Table(f"{SERVICES:,} services of {BACKENDS} backends, over AF_XDP")]
    tables[0].add("start, until telemetry answers", f"{loaded_s:.1f} s",
                  f"at most {LOAD_LIMIT_S} s",
                  loaded_s < LOAD_LIMIT_S)
    tables[0].add("start, until all backends are up", f"{up_s:.1f} s")
    limits_ms = {"nothing": ONE_LIMIT_MS, "one": ONE_LIMIT_MS, "all": LOAD_LIMIT_S * 1000}
    names = {"quiet": "no reload", "nothing": "reload, nothing changed",
             "one": "reload, one backend changed", "all": "reload, all backends changed"}
    for kind, phase in phases.items():
        p99_ms, late_max_ms = late_ms(packets, phase.windows, quiet)
        figures[kind] = {"ms": phase.took_ms.values, "longest_loop_us": phase.loop_us,
                         "late_p99_ms": p99_ms, "late_max_ms": late_max_ms}
        if phase.took_ms.values:
            tables[0].add(names[kind], phase.took_ms.text(".0f") + " ms",
                          f"at most {limits_ms[kind]} ms",
                          max(phase.took_ms.values) < limits_ms[kind])
        tables[0].add(f"  longest loop of a worker, {names[kind]}", f"{phase.loop_us:.0f} us",
                      f"at most {LOOP_LIMIT_US} us of CPU time", phase.loop_us < LOOP_LIMIT_US)
        tables[0].add(f"  latest probe, {names[kind]}", f"{late_max_ms:.1f} ms",
                      f"at most {LATE_LIMIT_MS} ms; 99 % within {p99_ms:.1f} ms",
                      late_max_ms < LATE_LIMIT_MS)
    ratio = busy.median / still.median
    figures["p99_us"] = {"quiet": still.median, "reloads": busy.median}
    tables.append(Table(f"{wrk.CONNECTIONS} connections kept alive, a reload a second ({count})"))
    tables[1].add("p99 of a request, no reload", still.text(".0f") + " us")
    tables[1].add("p99 of a request, reloads", busy.text(".0f") + " us",
                  f"{ratio:.2f} x; at most {P99_LIMIT} x", ratio <= P99_LIMIT)
    return tables
