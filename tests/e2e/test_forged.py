# SPDX-License-Identifier: BSD-3-Clause
"""A6, B18: who sees nothing of a connection can't end it, however much it sends in the client's
name."""

import random
import threading
import time

import pytest

import traffic
from capture import ACK, RST, SYN
from lab import CLIENT, VIP

CONNECTIONS, FORGED, MILLION = 100, 30000, 10 ** 6


def forged(port, rng):
    """A RST, a SYN, data, or an error about a packet that the client was never sent."""
    number = rng.getrandbits(32)
    if (what := rng.randrange(4)) < 3:
        return traffic.tcp_packet(CLIENT, VIP, port, 80, (RST, SYN, RST | ACK)[what], number,
                                  rng.getrandbits(32))
    quote = traffic.tcp_packet(VIP, CLIENT, 80, port, ACK, number)[:28 + rng.choice((0, 8, 12))]
    kind, code = rng.choice(((3, 1), (3, 2), (3, 3), (3, 4), (4, 0), (11, 0), (12, 0)))
    mtu = rng.choice((0, 68, 552)) if (kind, code) == (3, 4) else 0
    return traffic.icmp_error(CLIENT, VIP, kind, code, mtu, quote)


def flood_over_live_connections(lab, weir, count):
    rng = random.Random(6)
    with lab.client.entered():
        held = [traffic.connect() for _ in range(CONNECTIONS)]
    try:
        for connection in held:
            traffic.ask(connection)
        ports = [connection.getsockname()[1] for connection in held]
        packets = (forged(ports[i % CONNECTIONS], rng) for i in range(count))
        created = sum(table["created"] for table in weir.flows())
        before = weir.drops()
        flood = threading.Thread(target=traffic.send_raw, args=(lab.client, packets))
        flood.start()
        rounds = 0
        while flood.is_alive():         # the connections are in use all the time
            for connection in held:
                traffic.ask(connection)
            rounds += 1
        flood.join()
        time.sleep(0.5)
        after = weir.drops()
        for connection in held:         # 100 of 100
            traffic.ask(connection)
        print(f"{after['forwarded'] - before['forwarded']} forwarded, {rounds} rounds meanwhile")
        assert after["forwarded"] - before["forwarded"] > count / 2
        assert after["bad_icmp"] == before["bad_icmp"]
        assert after["no_flow"] == before["no_flow"]
        assert sum(table["created"] for table in weir.flows()) == created
        # The kernels of the backends have learnt nothing from forged "too big" either.
        for host in lab.hosts:
            assert " mtu " not in host.run("ip", "route", "get", VIP).stdout
    finally:
        for connection in held:
            connection.close()


def test_forged_packets_end_nothing(lab, weir):
    flood_over_live_connections(lab, weir, FORGED)


@pytest.mark.full
@pytest.mark.slow
def test_a_million_forged_packets_end_nothing(lab, weir):
    flood_over_live_connections(lab, weir, MILLION)
