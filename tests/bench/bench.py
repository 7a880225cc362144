# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark; scripts/bench installs and builds what it needs and starts it."""

import argparse
import json
import os
import sys
import time

import chart
import daemon
import end_to_end
import failover
import machine
import pipeline
import reload
import wire

KEYS = ("macswap_cycles", "packet_path", "syn_cycles", "connection_cycles", "refused_syn_cycles",
        "bytes_per_flow", "end_to_end", "failover", "own_death", "reload", "wire")
PARTS = {
    "packet_path": pipeline.packet_path,
    "expiry": pipeline.expiry,
    "maglev": pipeline.maglev,
    "workers": pipeline.workers,
    "daemon": daemon.daemon,
    "end_to_end": end_to_end.end_to_end,
    "failover": failover.failover,
    "own_death": failover.own_death,
    "reload": reload.reload,
    "wire": wire.wire,
}
# They measure what clients see, or changes, not the speed of packets; five minutes.
ON_DEMAND = ("failover", "own_death", "reload", "wire")


def parse():
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measure Weir's packet path, against testpmd's macswap "
        "in the same run, and the whole of it end to end against its peers. Prints one table and "
        "writes a chart. About three minutes.")
    parser.add_argument("--only", metavar="PART", action="append", choices=PARTS,
                        help=f"a part (may be given again): {', '.join(PARTS)}")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    parser.add_argument("--chart", metavar="FILE", default=f"{pipeline.BUILD}/bench.svg",
                        help="where to write the chart (build/bench.svg)")
    parser.add_argument("--long", action="store_true", help="end_to_end: closed connections for "
                        "30 s a round, which shows what happens when SNAT ports run into "
                        "TIME_WAIT; "
                        "takes twelve minutes")
    parser.add_argument("--peer", metavar="NAME", action="append", default=[],
                        help="end_to_end, failover, own_death: only that balancer (may be given "
                        "again)")
    return parser.parse_args()


def measure(part, cpus, result, options):
    if part == "end_to_end":
        return end_to_end.end_to_end(cpus, result, options.long, options.peer)
    if part in ("failover", "own_death"):
        return PARTS[part](cpus, result, options.peer)
    return PARTS[part](cpus, result)


def main():
    options = parse()
    about, result, cpus, failed = machine.describe(), {}, machine.split_cpus(), False
    print(f"{about}\nMedians, and in brackets the range of the rounds. CPU {cpus[1]} measures; "
          f"client and servers are on CPU {cpus[0]}.\n", flush=True)
    for part in options.only or [part for part in PARTS if part not in ON_DEMAND]:
        started = time.monotonic()
        try:
            for table in measure(part, cpus, result, options):
                print(table.text(), flush=True)
        except (RuntimeError, OSError, LookupError) as failure:
            failed = True
            print(f"{part}: failed: {failure}\n", flush=True)
        print(f"  [{part}: {time.monotonic() - started:.0f} s]\n", flush=True)
    if chart.write(options.chart, result, about):
        print(f"Chart: {os.path.relpath(options.chart)}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({key: result.get(key) for key in KEYS}, file, indent=2)
            file.write("\n")
        print(f"Figures: {options.json}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
