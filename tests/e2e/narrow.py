# SPDX-License-Identifier: BSD-3-Clause
"""A lab with a link of 1,280 bytes, a weir in it with a service of each family, and 10 MB that go
through both (case B19)."""

import contextlib
import os
import time

import weir
from lab import VIP, VIP6, Lab
from netns import PATIENCE

BYTES = 10 * 1000 * 1000
SECONDS = int(15 * PATIENCE)            # a black hole takes minutes


@contextlib.contextmanager
def narrow_weir(side):
    """`side`: whose link it is, "client" or "hosts"."""
    with Lab(narrow=side) as lab:
        with open(f"{lab.files}/some", "wb") as file:
            file.write(os.urandom(BYTES))
        for backend in lab.backends:
            os.symlink(f"{lab.files}/some", f"{backend.directory}/some")
        config = weir.config(lab, port={"address": (f"{VIP}/24", f"{VIP6}/64"),
                                        "gateway": ("192.0.2.1", "2001:db8::1")})
        config["services"]["web"]["scheduler"] = "round_robin"     # every host has its turn
        config["services"]["web6"] = {**config["services"]["web"], "backends": [
            {"address": backend.endpoint6, "name": backend.name} for backend in lab.backends]}
        running = weir.Weir(lab, config).start()
        yield running
        assert running.stop() == 0


def url(address):
    return f"http://[{address}]" if ":" in address else f"http://{address}"


def _curl(lab, *words):
    started = time.monotonic()
    lab.client.run("curl", "-sS", "--fail", "--max-time", SECONDS, *words, timeout=SECONDS + 10)
    return time.monotonic() - started


def upload(lab, address):
    """Seconds; what arrived is what was sent."""
    arrived = f"{lab.files}/upload/some"
    seconds = _curl(lab, "-T", f"{lab.files}/some", f"{url(address)}/upload/some")
    lab.client.run("cmp", f"{lab.files}/some", arrived)
    os.unlink(arrived)
    return seconds


def download(lab, address):
    seconds = _curl(lab, "-o", f"{lab.directory}/got", f"{url(address)}/some")
    lab.client.run("cmp", f"{lab.files}/some", f"{lab.directory}/got")
    return seconds
