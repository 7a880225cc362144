# SPDX-License-Identifier: BSD-3-Clause
"""Real requests through weir and its peers: the balancer on one CPU, client and servers on the
other, all of them in turn, three rounds."""

import operator
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

import rigs         # noqa: E402
import wrk          # noqa: E402
from figures import Figure, Table   # noqa: E402
from lab import Lab                 # noqa: E402

ROUNDS = 3
PEERS = ("nginx proxy_pass", "nginx stream", "haproxy tcp", "nftables")


class Times:
    """Seconds of one run of wrk: short ones, or long enough to see SNAT ports run out."""

    def __init__(self, long):
        self.warm_up = 2 if long else 0
        self.keepalive = 5 if long else 2
        self.close = [10, 10, 10] if long else [2]


class Figures:
    """Of one rig, over the rounds."""

    def __init__(self):
        self.keepalive, self.close, self.p50, self.p99 = Figure(), Figure(), Figure(), Figure()
        self.first, self.last = Figure(), Figure()
        self.errors = set()

    def measure(self, rig, times):
        def run(seconds, close):
            done = wrk.run(rig.lab.client, rig.cpus[0], rig.url, seconds, close, rig.script)
            if done.errors:
                self.errors.add(done.errors)
            return done

        if times.warm_up:
            run(times.warm_up, False)
        done = run(times.keepalive, False)
        self.keepalive.add(done.rps)
        self.p50.add(done.p50_us)
        self.p99.add(done.p99_us)
        closed = [run(seconds, True) for seconds in times.close]
        self.close.add(sum(one.requests for one in closed) / sum(times.close))
        self.first.add(closed[0].rps)
        self.last.add(closed[-1].rps)


def _tables(figures, times):
    keepalive = Table(f"End to end, {wrk.CONNECTIONS} connections kept alive, requests/s")
    close = Table(f"End to end, a connection a request, {sum(times.close)} s, requests/s")
    for name, one in figures.items():
        keepalive.add(name, one.keepalive.text(",.0f"), f"p50 {one.p50.median / 1000:.2f} ms, "
                      f"p99 {one.p99.median / 1000:.2f} ms")
        note = ""
        if len(times.close) > 1:
            note = (f"first {times.close[0]} s {one.first.median:,.0f}, "
                    f"last {times.close[-1]} s {one.last.median:,.0f}")
        close.add(name, one.close.text(",.0f"), "; ".join([note, *sorted(one.errors)]).strip("; "))
    _judge(keepalive, {name: one.keepalive for name, one in figures.items()}, True)
    _judge(close, {name: one.close for name, one in figures.items()}, False)
    return [keepalive, close]


def _judge(table, rate, keepalive):
    """What weir is to reach, by ratios of each round: the host's speed changes between them."""
    def compare(text, other, factor):
        ratio = Figure(map(operator.truediv, rate["weir"].values, rate[other].values))
        table.add(f"weir by {text}", ratio.text(".2f"), f"to reach: {factor}",
                  ratio.median >= factor)

    if "weir" not in rate:
        return
    best = max((name for name in PEERS if name in rate), key=lambda name: rate[name].median,
               default=None)
    if "testpmd io" in rate:
        compare("testpmd io", "testpmd io", 0.9)
    if keepalive and "nginx proxy_pass" in rate:
        compare("nginx proxy_pass", "nginx proxy_pass", 5)
    if best:
        compare(f"the best peer, {best}", best, 1 if keepalive else 1.5)


def end_to_end(cpus, result, long=False, only=()):
    times, chosen = Times(long), [rig for rig in rigs.RIGS if not only or rig.name in only]
    figures = {rig.name: Figures() for rig in chosen}
    with rigs.on_cpus(cpus[0]):
        for _ in range(ROUNDS):
            for kind in chosen:
                # Servers of its own: in TIME_WAIT they would meet the ports of the one before.
                with Lab() as lab, kind(lab, cpus) as rig:
                    # A client that closes first holds its port in TIME_WAIT, and wrk's one address
                    # has few: its kernel would look for a free one ever longer, whatever is
                    # measured.
                    lab.client.sysctl(ipv4__ip_local_port_range="1024 65535",
                                      ipv4__tcp_tw_reuse=1)
                    figures[kind.name].measure(rig, times)
    result["end_to_end"] = [
        {"name": name, "keepalive_rps": one.keepalive.median, "close_rps": one.close.median,
         "p50_us": one.p50.median, "p99_us": one.p99.median} for name, one in figures.items()]
    return _tables(figures, times)
