# SPDX-License-Identifier: BSD-3-Clause
"""Times that a client sees: how soon it is refused when no SNAT port is left (case C4), and how
long 10 MB take each way over a path with a link of 1,280 bytes, discovered on the way (case
B19)."""

import os
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "e2e"))

import rigs         # noqa: E402
import traffic      # noqa: E402
import weir as weir_module          # noqa: E402
from figures import Figure, Table   # noqa: E402
from lab import VIP, VIP6, Lab      # noqa: E402
from narrow import download, narrow_weir, upload    # noqa: E402

PORTS, REFUSED, REFUSED_LIMIT_MS = 64, 100, 10
TRANSFERS, TRANSFER_LIMIT_S = 5, 2


def _refused_ms(lab):
    """All ports of the one backend are taken: how long each further client waits for its RST."""
    config = weir_module.config(lab, snat={"ports": (f"20000-{20000 + PORTS - 1}",)})
    backend = lab.backend("con1")
    config["services"]["web"]["backends"] = [{"address": backend.endpoint, "name": "con1"}]
    weir, waited, taken = weir_module.Weir(lab, config).start(), Figure(), []
    try:
        with lab.client.entered():
            taken += [traffic.connect() for _ in range(PORTS)]
            for _ in range(REFUSED):
                with socket.socket() as one:
                    one.settimeout(5)
                    started = time.monotonic()
                    if one.connect_ex((VIP, 80)) == 0:
                        raise RuntimeError("a client wasn't refused")
                    waited.add((time.monotonic() - started) * 1000)
    finally:
        for one in taken:
            one.close()
        weir.stop()
    return waited


def wire(cpus, result):
    figures = result["wire"] = {}
    with rigs.on_cpus(*cpus):
        with Lab() as lab:
            refused = _refused_ms(lab)
        figures["refused_ms"] = refused.median
        tables = [Table("What a client waits for"),
                  Table("10 MB over a path with a link of 1,280 bytes")]
        tables[0].add(f"RST when all {PORTS} SNAT ports are taken, ms", refused.text(".2f"),
                      f"to reach: {REFUSED_LIMIT_MS}", refused.median <= REFUSED_LIMIT_MS)
        for side in ("client", "hosts"):
            with narrow_weir(side) as weir:
                for address in (VIP, VIP6):
                    for transfer in (upload, download):
                        seconds = Figure(transfer(weir.lab, address) for _ in range(TRANSFERS))
                        family = 6 if address == VIP6 else 4
                        figures[f"{transfer.__name__}{family}_narrow_{side}_s"] = seconds.median
                        tables[1].add(f"IPv{family}, {transfer.__name__}, narrow to the {side}, s",
                                      seconds.text(".2f"), f"to reach: {TRANSFER_LIMIT_S}",
                                      seconds.median <= TRANSFER_LIMIT_S)
    return tables
