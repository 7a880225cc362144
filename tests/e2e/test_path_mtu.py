# SPDX-License-Identifier: BSD-3-Clause
"""B19: path MTU discovery through weir, with a link of 1,280 bytes on the way to the client or to
the backends. A router can't send on what is too big and says so by an ICMP error; the one that
comes by weir must reach the sender, or the path is a black hole."""

import re

import pytest

from capture import Capture
from lab import NARROW_MTU, VIP, VIP6
from narrow import SECONDS, download, narrow_weir, upload

TOO_BIG = "(icmp[0] == 3 and icmp[1] == 4) or (icmp6 and ip6[40] == 2)"


@pytest.fixture(scope="module", params=("client", "hosts"))
def narrow(requirements, request):
    with narrow_weir(request.param) as running:
        yield running


def route_mtu(namespace, address):
    """What the namespace's kernel has learnt of the path; None when nothing."""
    said = namespace.run("ip", "route", "get", address).stdout
    found = re.search(r" mtu (\d+)", said)
    return int(found.group(1)) if found else None


@pytest.mark.parametrize("address", (VIP, VIP6))
def test_ten_megabytes_each_way(narrow, address):
    lab = narrow.lab
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
            seconds = [transfer(lab, address) for _ in range(4)]
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
