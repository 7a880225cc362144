# SPDX-License-Identifier: BSD-3-Clause
"""B19: path MTU discovery through weir, with a link of 1,280 bytes on the way to the client or to the
backends. A router can't send on what is too big and says so by an ICMP error; the one that comes by
weir must reach the sender, or the path is a black hole."""

import os
import re
import time

import pytest

import weir as weir_module
from capture import Capture
from lab import NARROW_MTU, VIP, VIP6, Lab

BYTES = 10 * 1000 * 1000
SECONDS = 15                            # a black hole takes minutes
TOO_BIG = "(icmp[0] == 3 and icmp[1] == 4) or (icmp6 and ip6[40] == 2)"


@pytest.fixture(scope="module", params=("client", "hosts"))
def narrow(requirements, request):
    """A lab, a weir in it with a service of each family, and 10 MB that every backend has."""
    with Lab(narrow=request.param) as lab:
        with open(f"{lab.files}/some", "wb") as file:
            file.write(os.urandom(BYTES))
        for backend in lab.backends:
            os.symlink(f"{lab.files}/some", f"{backend.directory}/some")
        config = weir_module.config(lab, port={"address": (f"{VIP}/24", f"{VIP6}/64"),
                                               "gateway": ("192.0.2.1", "2001:db8::1")})
        config["services"]["web"]["scheduler"] = "round_robin"     # every host has its turn
        config["services"]["web6"] = {**config["services"]["web"], "backends": [
            {"address": backend.endpoint6, "name": backend.name} for backend in lab.backends]}
        running = weir_module.Weir(lab, config).start()
        yield running
        assert running.stop() == 0


def route_mtu(namespace, address):
    """What the namespace's kernel has learnt of the path; None when nothing."""
    said = namespace.run("ip", "route", "get", address).stdout
    found = re.search(r" mtu (\d+)", said)
    return int(found.group(1)) if found else None


def curl(lab, *words):
    started = time.monotonic()
    lab.client.run("curl", "-sS", "--fail", "--max-time", SECONDS, *words, timeout=SECONDS + 10)
    return time.monotonic() - started


def upload(lab, url):
    arrived = f"{lab.files}/upload/some"
    seconds = curl(lab, "-T", f"{lab.files}/some", f"{url}/upload/some")
    lab.client.run("cmp", f"{lab.files}/some", arrived)
    os.unlink(arrived)
    return seconds


def download(lab, url):
    seconds = curl(lab, "-o", f"{lab.directory}/got", f"{url}/some")
    lab.client.run("cmp", f"{lab.files}/some", f"{lab.directory}/got")
    return seconds


@pytest.mark.parametrize("address", (VIP, VIP6))
def test_ten_megabytes_each_way(narrow, address):
    lab = narrow.lab
    url = f"http://[{address}]" if ":" in address else f"http://{address}"
    # The senders on weir's own side of the narrow link learn of it by errors that pass weir. Theirs
    # is the first turn: once the other end has learnt it, it asks for smaller segments.
    if lab.narrow == "hosts":
        senders, transfers = [lab.client], (upload, download)
    else:
        senders, transfers = lab.hosts, (download, upload)
    assert {route_mtu(sender, address) for sender in senders} == {None}
    before = narrow.drops()
    with Capture(senders[0], expression=TOO_BIG) as errors:
        for transfer in transfers:
            seconds = [transfer(lab, url) for _ in range(4)]
            print(f"{address}, narrow to the {lab.narrow}, {transfer.__name__}: "
                  f"{min(seconds):.2f} to {max(seconds):.2f} s")
    after = narrow.drops()
    assert {route_mtu(sender, address) for sender in senders} == {NARROW_MTU}
    # Nobody saw the router.
    assert {packet.source for packet in errors.packets} == {address}
    for reason in ("bad_icmp", "icmp_no_flow"):
        assert after[reason] == before[reason]


def test_the_kernels_own_connections(narrow):
    """Errors about what weir0's kernel has sent are its own, as ever."""
    lab = narrow.lab
    if lab.narrow == "client":
        pytest.skip("its connections are to the hosts")
    backend = lab.backend("con1")
    assert route_mtu(narrow.netns, backend.address) is None
    narrow.netns.run("curl", "-sS", "--fail", "--max-time", SECONDS, "-T", f"{lab.files}/some",
                     f"http://{backend.endpoint}/upload/kernel", timeout=SECONDS + 10)
    lab.client.run("cmp", f"{lab.files}/some", f"{lab.files}/upload/kernel")
    assert route_mtu(narrow.netns, backend.address) == NARROW_MTU
