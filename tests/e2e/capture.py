# SPDX-License-Identifier: BSD-3-Clause
"""What passed an interface: tcpdump, read back as plain records."""

import collections
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile

from netns import PATIENCE

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

# Addresses as text; ports and flags are None when it isn't a whole TCP header.
Packet = collections.namedtuple("Packet", "time source_mac destination_mac ethertype source "
                                "destination protocol sport dport flags seq ack")


def parse(time, frame):
    macs = [":".join(f"{byte:02x}" for byte in frame[at:at + 6]) for at in (6, 0)]
    ethertype = struct.unpack("!H", frame[12:14])[0]
    source = destination = protocol = sport = dport = flags = seq = ack = None
    rest = frame[14:]
    if ethertype == 0x0800:
        source, destination = socket.inet_ntoa(rest[12:16]), socket.inet_ntoa(rest[16:20])
        protocol = rest[9]
        first_fragment = not struct.unpack("!H", rest[6:8])[0] & 0x1fff
        rest = rest[(rest[0] & 15) * 4:] if first_fragment else b""
    elif ethertype == 0x86dd:
        source, destination = (socket.inet_ntop(socket.AF_INET6, rest[at:at + 16])
                               for at in (8, 24))
        protocol, rest = rest[6], rest[40:]
    if protocol == socket.IPPROTO_TCP and len(rest) >= 14:
        sport, dport, seq, ack, _, flags = struct.unpack("!HHIIBB", rest[:14])
    return Packet(time, *macs, ethertype, source, destination, protocol, sport, dport, flags, seq,
                  ack)


class Capture:
    """Capture while the block runs; `packets`, and `frames` as bytes, are filled at its end."""

    def __init__(self, namespace, interface="eth0", expression=""):
        self.namespace, self.interface, self.expression = namespace, interface, expression
        self.packets, self.frames = [], []

    def __enter__(self):
        fd, self.path = tempfile.mkstemp(suffix=".pcap")
        os.close(fd)
        # -U with --immediate-mode: nothing is left in a buffer at the end.
        self.process = self.namespace.popen(
            "tcpdump", "-Z", "root", "-i", self.interface, "-U", "--immediate-mode", "-n", "-s",
            "96",
            "-B", "32768", "-w", self.path, *self.expression.split(), stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE)
        said = b""
        while b"listening on" not in said:
            ready, _, _ = select.select([self.process.stderr], [], [], 10 * PATIENCE)
            more = os.read(self.process.stderr.fileno(), 4096) if ready else b""
            if not more:
                self._end()
                raise RuntimeError(f"tcpdump does not start: {said.decode()}")
            said += more
        return self

    def __exit__(self, *_):
        self._end()

    def _end(self):
        # A packet sent just now is in the socket: the next one that tcpdump reads follows it.
        select.select([], [], [], 0.2)
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=10 * PATIENCE)
        with open(self.path, "rb") as file:
            data = file.read()
        os.unlink(self.path)
        at = 24
        while at + 16 <= len(data):
            seconds, micros, length, _ = struct.unpack("<IIII", data[at:at + 16])
            self.frames.append(data[at + 16:at + 16 + length])
            self.packets.append(parse(seconds + micros / 1e6, self.frames[-1]))
            at += 16 + length

    def resets(self, source=None):
        return [packet for packet in self.packets if packet.flags is not None
                and packet.flags & RST and source in (None, packet.source)]
