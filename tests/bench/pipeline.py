# SPDX-License-Identifier: BSD-3-Clause
"""The parts that bench_pipeline measures."""

import collections
import json
import os
import subprocess

import testpmd
from figures import Figure, Table

BUILD = os.environ.get("WEIR_BUILD") or os.path.join(
    os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "build")
PROGRAM = os.path.join(BUILD, "tests/bench/bench_pipeline")
ROUNDS = 5

# To reach: pipeline_run's cycles a packet by testpmd macswap's, by family and flows.
RATIOS = {4: {16: 2.0, 65536: 2.5, 1048576: 5, 8388608: 6.5},
          6: {16: 2.5, 65536: 3.5, 1048576: 7, 8388608: 9}}
CONNECTION_CYCLES, REFUSED_CYCLES = 2600, 150
BYTES = {4: 96, 6: 160}
MAX_LOOP_US, MAGLEV_MS, WORKERS = 1000, 20, 1.8


class Program:
    """bench_pipeline in one of its parts, round by round. Rows are dicts, as it prints them."""

    def __init__(self, part, cpus, *options):
        self.process = subprocess.Popen(
            [PROGRAM, "--wait", "--rounds", str(ROUNDS), "--second-cpu", str(cpus[0]), "--cpu",
             str(cpus[1]), *options, part],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rows = []

    def rounds(self):
        """Before each round it waits for the caller to take the next element."""
        for line in self.process.stdout:
            row = json.loads(line)
            if row["row"] != "ready":
                self.rows.append(row)
                continue
            yield row["round"]
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        if self.process.wait() != 0:
            raise RuntimeError("bench_pipeline failed")

    def run(self):
        for _ in self.rounds():
            pass
        return self

    def figures(self, row, value, *keys):
        """{values of keys: Figure of `value`} over the rounds, in the order of printing."""
        found = collections.defaultdict(Figure)
        for one in self.rows:
            if one["row"] == row:
                found[tuple(one[key] for key in keys)].add(one[value])
        return found


def count_text(count):
    """8388608 as "8 M"."""
    for size, unit in ((1 << 20, " M"), (1 << 10, " k")):
        if count >= size:
            return f"{count // size}{unit}"
    return str(count)


def _yardstick(program, cpus):
    """Macswap before each round of the pipeline, so that a machine that changes changes both."""
    nanoseconds = Figure()
    for _ in program.rounds():
        with testpmd.macswap(*cpus) as running:
            nanoseconds.add(running.packet_ns(1))
    clock = next(row for row in program.rows if row["row"] == "clock")
    return (Figure(value * clock["tsc_hz"] / 1e9 for value in nanoseconds.values), clock,
            testpmd.macswap(*cpus).command)


def _ratio(cycles, macswap):
    """The median of the rounds' ratios: the host's speed changes between rounds, for both alike."""
    return Figure(one / by for one, by in zip(cycles.values, macswap.values)).median


def packet_path(cpus, result, options=()):
    program = Program("packet_path", cpus, *options)
    macswap, clock, command = _yardstick(program, cpus)
    result["macswap_cycles"] = macswap.median
    yardstick = Table(f"Yardstick: {command}")
    yardstick.add("testpmd macswap, cycles a packet", macswap.text(".1f"),
                  f"of the TSC, {clock['tsc_hz'] / 1e6:.0f} MHz")

    path = Table("pipeline_run, cycles a packet of established flows, both directions, random "
                 f"order (reading the TSC, contained: {clock['rdtsc_cycles']:.0f} a burst of 32)")
    result["packet_path"] = []
    for (family, flows), cycles in program.figures("established", "cycles", "family",
                                                   "flows").items():
        ratio, limit = _ratio(cycles, macswap), RATIOS[family].get(flows)
        path.add(f"IPv{family}, {count_text(flows)} flows", cycles.text(".1f"),
                 f"{ratio:.2f} x macswap" + (f" (to reach: {limit})" if limit else ""),
                 limit is None or ratio <= limit)
        result["packet_path"].append({"family": family, "flows": flows, "cycles": cycles.median,
                                      "ratio": ratio})

    rest = Table("Connections, IPv4")
    _connections(program, clock, macswap, rest, result)
    _bytes(program, rest, result)
    return [yardstick, path, rest]


def _cycles_note(cycles, limit, macswap):
    """The limits are those of a machine whose macswap takes some 23 cycles."""
    return f"{_ratio(cycles, macswap):.1f} x macswap; to reach: {limit}"


def _connections(program, clock, macswap, table, result):
    whole = program.figures("connection", "cycles", "end")
    syn = program.figures("connection", "syn_cycles", "end")
    refused = program.figures("refused_syn", "cycles")[()]
    result["syn_cycles"] = syn[("expired",)].median
    result["connection_cycles"] = whole[("expired",)].median
    result["refused_syn_cycles"] = refused.median
    table.add("SYN of a new flow, cycles", syn[("expired",)].text(".0f"), "table half full")
    for (end,), note in ((("expired",), "ended by the sweep, table half full"),
                         (("evicted",), "table full: each takes the oldest closed one's place")):
        cycles = whole[(end,)]
        table.add("whole connection, 10 packets, cycles", cycles.text(".0f"),
                  f"{clock['tsc_hz'] / cycles.median:,.0f} connections/s; {note}; "
                  f"{_cycles_note(cycles, CONNECTION_CYCLES, macswap)}",
                  cycles.median <= CONNECTION_CYCLES)
    table.add("SYN refused, table full, cycles", refused.text(".0f"),
              _cycles_note(refused, REFUSED_CYCLES, macswap), refused.median <= REFUSED_CYCLES)


def _bytes(program, table, result):
    for (family,), size in program.figures("bytes", "bytes_per_flow", "family").items():
        table.add(f"bytes a flow, IPv{family}", size.text(".1f"), f"to reach: {BYTES[family]}",
                  size.median <= BYTES[family])
        if family == 4:
            result["bytes_per_flow"] = size.median


def expiry(cpus, result):
    program = Program("expiry", cpus).run()
    table = Table("A million flows that expire together")
    for (family,), loop in program.figures("expiry", "max_loop_us", "family").items():
        table.add(f"IPv{family}, longest loop, us of CPU time", loop.text(".0f"),
                  f"to reach: {MAX_LOOP_US}", loop.median <= MAX_LOOP_US)
        rate = program.figures("expiry", "flows_per_second", "family")[(family,)]
        table.add(f"IPv{family}, flows expired a second of CPU time", rate.text(",.0f"))
    return [table]


def maglev(cpus, result):
    program = Program("maglev", cpus).run()
    table = Table("Maglev, 65,537 slots")
    for (backends,), milliseconds in program.figures("maglev", "ms", "backends").items():
        table.add(f"{backends:,} backends, ms to build", milliseconds.text(".2f"),
                  f"to reach: {MAGLEV_MS}" if backends == 1000 else "",
                  backends != 1000 or milliseconds.median <= MAGLEV_MS)
    return [table]


def workers(cpus, result):
    if cpus[0] == cpus[1]:
        raise RuntimeError("two workers need two CPUs")
    program = Program("workers", cpus).run()
    table = Table("Two workers against one, a million flows, each on its own worker")
    for name, form in (("one_pps", ",.0f"), ("two_pps", ",.0f")):
        table.add(f"{name[:3]}: packets/s", program.figures("workers", name)[()].text(form))
    ratio = program.figures("workers", "ratio")[()]
    table.add("ratio", ratio.text(".2f"), f"to reach: {WORKERS}", ratio.median >= WORKERS)
    return [table]
