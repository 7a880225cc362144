# SPDX-License-Identifier: BSD-3-Clause
"""wrk, and what it says."""

import re

CONNECTIONS, THREADS = 64, 4
UNITS_US = {"us": 1, "ms": 1000, "s": 1000000, "m": 60000000}


class Result:
    """`errors` is wrk's own text, empty when there were none."""

    def __init__(self, said):
        self.requests = int(re.search(r"(\d+) requests in", said).group(1))
        self.rps = float(re.search(r"Requests/sec:\s*([\d.]+)", said).group(1))
        self.p50_us, self.p99_us = (self._percentile(said, percent) for percent in (50, 99))
        self.errors = "; ".join(re.findall(r"(?:Socket errors|Non-2xx)[^\n]*", said))

    @staticmethod
    def _percentile(said, percent):
        value, unit = re.search(rf"\s{percent}%\s+([\d.]+)(us|ms|s|m)", said).groups()
        return float(value) * UNITS_US[unit]


def run(namespace, cpu, url, seconds, close=False, script=None):
    words = ["taskset", "-c", cpu, "wrk", f"-t{THREADS}", f"-c{CONNECTIONS}", f"-d{seconds}s",
             "--latency"]
    words += ["-H", "Connection: close"] if close else []
    words += ["-s", script] if script else []
    return Result(namespace.run(*words, url, timeout=seconds + 30).stdout)
