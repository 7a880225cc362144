# SPDX-License-Identifier: BSD-3-Clause
"""A flow changes only by what its receiver takes: beside real connections, whoever sends in an
end's name what that end didn't (W1, W10 to W12), and a long line (W16). tests/unit/datapath has
each rule for itself."""

import contextlib
import os
import random
import socket
import threading
import time

import pytest

import traffic
import weir as weir_module
from capture import ACK, FIN, PSH, RST, SYN, Capture
from delay import DelayLine
from lab import CLIENT, VIP
from netns import PATIENCE
from test_half_close import listen

PORTS = 64                              # SNAT ports in all
FIRST = 20000                           # the first of them
ANSWER = 3000003                        # bytes
AWAY = 0.2                              # seconds, of a backend behind a long line
MIB = 1 << 20


@pytest.fixture(scope="module")
def weir(lab):
    """One backend, few ports, and nobody's probe."""
    web = {**weir_module.config(lab)["services"]["web"], "health": {"type": "none"}}
    web["backends"] = [{"address": lab.backend("con1").endpoint, "name": "con1"}]
    config = weir_module.config(lab, snat={"ports": (f"{FIRST}-{FIRST + PORTS - 1}",)})
    config["services"] = {"web": web}
    running = weir_module.Weir(lab, config).start(wait_up=False)
    yield running
    assert running.stop() == 0


@pytest.fixture
def server(lab):
    """In the place of nginx: pairs of a client's socket and its other end."""
    listener = listen(lab.backend("con1"), lab.backend("con1").address)
    made = []

    def pair():
        with lab.client.entered():
            client = traffic.connect(timeout=20)
        end, _ = listener.accept()
        end.settimeout(20 * PATIENCE)
        made.extend((client, end))
        return client, end

    yield pair
    for one in (*made, listener):
        one.close()


def ports_used(weir):
    return sum(row["used"] for row in weir.telemetry.pages("/weir/snat"))


def active(weir):
    return sum(row["active"] for row in weir.backends().values())


def created(weir):
    return sum(table["created"] for table in weir.flows())


def quiet(weir):
    """Until every connection of before is forgotten but for its last timer."""
    weir.wait(lambda: ports_used(weir) == 0, what="the ports given back")


@contextlib.contextmanager
def buffers(namespace, kind):
    """Large ones from the start for the connections that are made within the block."""
    path = f"/proc/sys/net/ipv4/tcp_{kind}"
    before = namespace.run("cat", path).stdout.split()
    namespace.sysctl(**{f"ipv4__tcp_{kind}": f"4096 {8 * MIB} {16 * MIB}"})
    yield
    namespace.sysctl(**{f"ipv4__tcp_{kind}": " ".join(before)})


def in_name_of(client, flags, seq, ack=0, payload=b"", wrong_sum=False):
    """A packet from that client's port."""
    packet = traffic.tcp_packet(CLIENT, VIP, client.getsockname()[1], 80, flags, seq, ack, payload)
    return packet[:36] + bytes((packet[36] ^ 1,)) + packet[37:] if wrong_sum else packet


def exchange(client, end, count=1):
    """Each hears the other."""
    for _ in range(count):
        client.sendall(b"question")
        assert end.recv(100) == b"question"
        end.sendall(b"answer")
        assert client.recv(100) == b"answer"


def settle(weir):
    """What was sent has come by."""
    seen = None
    while (now := weir.drops()["received"]) != seen:
        seen = now
        time.sleep(0.2)


@pytest.fixture
def half_closed(lab, weir, server):
    """A connection whose client has sent its FIN, and the FIN's number."""
    quiet(weir)
    with Capture(lab.client, expression="tcp dst port 80") as capture:
        client, end = server()
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert end.recv(100) == b"question" and end.recv(1) == b""
    fin, = {(packet.seq, packet.ack) for packet in capture.packets if packet.flags & FIN}
    return client, end, *fin


def deliver(end, client, between=lambda: None):
    """The answer, in two halves; it must arrive whole."""
    answer = os.urandom(ANSWER)
    received = []

    def read():
        while data := client.recv(1 << 20):
            received.append(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    end.sendall(answer[:ANSWER // 2])
    between()
    end.sendall(answer[ANSWER // 2:])
    end.close()
    reader.join(20 * PATIENCE)
    assert b"".join(received) == answer


def test_a_fin_is_repeated_while_the_answer_is_under_way(lab, weir, server, half_closed):
    """W1: the port of a live connection isn't lent to anybody else, nor is it counted as over."""
    client, end, seq, ack = half_closed
    traffic.send_raw(lab.client, [in_name_of(client, FIN | ACK, seq, ack)] * 3)
    settle(weir)

    def others():
        """More than there are ports."""
        assert ports_used(weir) == active(weir) == 1
        for _ in range(100):
            one, other = server()
            exchange(one, other)
            other.close()
            assert one.recv(1) == b""
            one.close()
        assert active(weir) <= 1 + 1    # the last one's FIN may be under way

    deliver(end, client, others)
    client.close()
    quiet(weir)


def test_no_other_end_of_a_half_closed_connection(lab, weir, half_closed):
    """W11: neither a SYN, whatever its number and its sum, nor a RST that isn't exact."""
    client, end, seq, ack = half_closed
    before, rng = created(weir), random.Random(11)

    def forge():
        traffic.send_raw(lab.client, [in_name_of(
            client, SYN if i % 3 else RST, (seq + 2 + rng.getrandbits(31)) & 0xffffffff,
            wrong_sum=i % 2 == 1) for i in range(1000)])
        settle(weir)
        assert ports_used(weir) == active(weir) == 1

    deliver(end, client, forge)
    client.close()
    assert created(weir) == before
    quiet(weir)


def test_forged_fins_and_a_syn(lab, weir, server):
    """W10: FIN at 4,097 numbers 2^20 apart, of which one is within any window, and then a SYN."""
    quiet(weir)
    client, end = server()
    exchange(client, end)
    before, rng = created(weir), random.Random(10)
    offset = rng.getrandbits(20)
    for _ in range(3):
        traffic.send_raw(lab.client, [in_name_of(
            client, FIN | ACK, (offset + (i << 20)) & 0xffffffff, rng.getrandbits(32))
            for i in range(4097)] + [in_name_of(client, SYN, rng.getrandbits(32))])
        settle(weir)
        assert ports_used(weir) == active(weir) == 1
        exchange(client, end, 10)
    assert created(weir) == before


def test_forged_pairs_of_data_and_a_reset(lab, weir, server):
    """W10: what any ACK moves makes the RST behind it exact."""
    quiet(weir)
    client, end = server()
    exchange(client, end)
    rng, packets = random.Random(101), []
    for i in range(4096):
        seq = rng.getrandbits(32)
        packets.append(in_name_of(client, ACK | PSH, seq, rng.getrandbits(32), b"x" * (i % 8)))
        packets.append(in_name_of(client, RST, (seq + i % 8) & 0xffffffff))
    traffic.send_raw(lab.client, packets)
    settle(weir)
    assert ports_used(weir) == active(weir) == 1
    exchange(client, end, 10)


@pytest.mark.parametrize("host", (0, 1))
def test_forged_in_the_name_of_the_backend(lab, weir, server, host):
    """W12: FIN and RST from its address and port to each SNAT port; from its own host, and from
    another one, by another MAC."""
    quiet(weir)
    client, end = server()
    exchange(client, end)
    backend, rng = lab.backend("con1"), random.Random(12 + host)
    packets = []
    for i in range(40 * PORTS):
        seq = rng.getrandbits(32)
        for flags, number in ((FIN | ACK, seq), (RST, (seq + 1) & 0xffffffff)):
            packets.append(traffic.tcp_packet(backend.address, VIP, backend.port,
                                              FIRST + i % PORTS, flags, number,
                                              rng.getrandbits(32)))
    traffic.send_raw(lab.hosts[host], packets)
    settle(weir)
    assert ports_used(weir) == active(weir) == 1
    exchange(client, end, 10)


def test_a_fin_behind_a_long_flight(lab, weir, server, measured):
    """W16: more than 1 MiB is under way when the client closes; when all has arrived, both ends are
    through, and the port is given back at once."""
    quiet(weir)
    got = [0]

    def read():
        while data := end.recv(1 << 20):
            got[0] += len(data)
        end.close()

    with DelayLine(lab, 0, AWAY), buffers(lab.client, "wmem"), buffers(lab.hosts[0], "rmem"):
        client, end = server()
        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        client.settimeout(60 * PATIENCE)
        data = bytes(16 * MIB)
        with Capture(lab.client, expression="tcp port 80") as capture:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            reader.join(60 * PATIENCE)
        assert got[0] == len(data)
        assert client.recv(1) == b""
        client.close()
        fins = [packet for packet in capture.packets if packet.flags & FIN and packet.dport == 80]
        acked = [packet.ack for packet in capture.packets
                 if packet.sport == 80 and packet.time < fins[0].time]
        flight = (fins[0].seq - acked[-1]) & 0xffffffff
        measured.append(f"a FIN with {flight >> 10} KiB under way")
        assert flight > MIB
        started = time.monotonic()
        weir.wait(lambda: ports_used(weir) == 0 and active(weir) == 0, timeout=20,
                  what="the port given back")
        assert time.monotonic() - started < 20 * PATIENCE
